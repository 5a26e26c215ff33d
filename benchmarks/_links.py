"""Run a command as a group of processes, connected by links whose speed they set.

Each process gets a network namespace, a host name and a TUN device [1]_, which the superuser of
Linux can make.
Packets are handed over after the time that they would take on a link; the kernel's own emulation,
netem, is often missing. Environment variables tell the processes of each other, as torchrun's do.

    python benchmarks/_links.py --size 2 --linked python train.py

References
----------
.. [1] https://docs.kernel.org/networking/tuntap.html
"""

import argparse
import contextlib
import ctypes
import fcntl
import heapq
import itertools
import json
import os
import select
import socket
import struct
import subprocess
import sys
import tempfile
import time
from math import inf
from pathlib import Path

CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PR_SET_TIMERSLACK = 29
DEVICE, MTU = "wire0", 9000
LOOK_AGAIN_AFTER = 0.05  # seconds, whether the processes are done


def from_group(size, command, is_linked):
    """Run a command as so many processes; return the JSON that the first prints.

    They are connected by the loopback device, or by links that they set.
    """
    options = ["--size", str(size), *(["--linked"] if is_linked else [])]
    done = subprocess.run(
        [sys.executable, __file__, *options, *map(str, command)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def set_link(latency, bandwidth):
    """In one of the processes: let all links be like this from now on, in s and bits/s."""
    Path(os.environ["LINK_FILE"]).write_text(json.dumps([latency, bandwidth]))
    time.sleep(3 * LOOK_AGAIN_AFTER)


def reason_without_links():
    """Why links cannot be emulated here; None if they can."""
    words = [sys.executable, __file__, "--size=1", "--linked", "true"]
    done = subprocess.run(words, capture_output=True, text=True)
    return done.stderr.strip().splitlines()[-1] if done.returncode else None


# In the process that starts the others.


def run(command, size, link_file):
    """Exit codes of the processes."""
    known = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    devices, processes = [], []
    if link_file is not None:
        known |= {"MASTER_ADDR": "10.0.0.1", "GLOO_SOCKET_IFNAME": DEVICE}
        known |= {"LINK_FILE": str(link_file)}
    try:
        for rank in range(size):
            if link_file is not None:
                devices.append(new_network(f"10.0.0.{rank + 1}/24"))
            environment = os.environ | known | {"RANK": str(rank)}
            printed = subprocess.DEVNULL if rank else None
            processes.append(subprocess.Popen(command, env=environment, stdout=printed))
        if link_file is not None:
            carry(devices, link_file, processes)
        return [process.wait() for process in processes]
    finally:
        for process in processes:
            process.kill()


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return str(taken.getsockname()[1])


def new_network(address):
    """Move this process to a new network; the file that packets of its device are read from."""
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNET | CLONE_NEWUTS):
        raise OSError(
            ctypes.get_errno(), f"no network namespace: {os.strerror(ctypes.get_errno())}"
        )
    socket.sethostname(address.split("/")[0])  # processes of one name would share memory
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", DEVICE.encode(), IFF_TUN | IFF_NO_PI))
    for words in (
        "link set lo up",
        f"address add {address} dev {DEVICE}",
        f"link set dev {DEVICE} mtu {MTU} txqueuelen 10000 up",
    ):
        subprocess.run(["ip", *words.split()], check=True)
    return device


def carry(devices, link_file, processes):
    """Hand packets over between devices until all processes are done, or one has failed."""
    ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, 1000)  # nanoseconds
    free_at = dict.fromkeys(itertools.product(devices, ("out", "in")), 0.0)
    waiting, numbers, looked_at = [], itertools.count(), 0.0
    latency, bandwidth = 0.0, inf
    while True:
        now = time.perf_counter()
        if now > looked_at + LOOK_AGAIN_AFTER:
            looked_at = now
            codes = [process.poll() for process in processes]
            if None not in codes or any(codes):
                return
            if text := link_file.read_text():
                latency, bandwidth = json.loads(text)
        seconds = min(waiting[0][0] - now, LOOK_AGAIN_AFTER) if waiting else LOOK_AGAIN_AFTER
        for source in select.select(devices, [], [], max(seconds, 0.0))[0]:
            for target, packet in packets(source, devices):
                seconds = 8 * len(packet) / bandwidth
                sent = max(time.perf_counter(), free_at[source, "out"]) + seconds
                # A packet arrives while it is sent, unless another is still arriving.
                taken = max(sent, free_at[target, "in"] + seconds)
                free_at[source, "out"], free_at[target, "in"] = sent, taken
                heapq.heappush(waiting, (taken + latency, next(numbers), target, packet))
        while waiting and waiting[0][0] <= time.perf_counter():
            _, _, target, packet = heapq.heappop(waiting)
            with contextlib.suppress(OSError):  # its queue is full: TCP sends it again
                os.write(target, packet)


def packets(source, devices):
    """Packets that a device sends to another: its file, and bytes."""
    while True:
        try:
            packet = os.read(source, 2**16)
        except BlockingIOError:
            return
        # Of version 4 of the protocol, the last byte of whose address tells the process.
        if packet[0] >> 4 == 4 and 0 < packet[19] <= len(devices):
            yield devices[packet[19] - 1], packet


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=int, required=True)
    parser.add_argument("--linked", action="store_true", help="by links, not by loopback")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    args = parser.parse_args()
    with tempfile.NamedTemporaryFile() as file:
        link_file = Path(file.name) if args.linked else None
        sys.exit(any(run(args.command, args.size, link_file)))


if __name__ == "__main__":
    main()

#!/usr/bin/env bash
# torch 2.13.0, Python 3.11, Linux: a thread that begins with `torch.set_num_threads(1)` may lose it.
#
# Expected: with OpenMP the number is one of each thread, so what a thread sets for itself stays, no
# matter what other threads set for themselves later.
# Seen: it stays only if the thread had called torch before. In a fresh thread the first other call of
# torch sets the number to what any thread set last. Parallel fits, each of which asks for one
# thread, so run on two once one of them has ended and given the number back. Reading the number
# before setting it is enough to keep it. Output seen:
#   set first:        another thread sets 2 -> 2 threads here
#   read, then set:   another thread sets 2 -> 1 threads here
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import threading

import torch


def threads_of_a_worker(reads_first):
    """What a thread that asked for one gets after another thread asked for two."""
    is_set, may_go_on, seen = threading.Event(), threading.Event(), []

    def work():
        if reads_first:
            torch.get_num_threads()
        torch.set_num_threads(1)
        is_set.set()
        may_go_on.wait()
        seen.append(torch.get_num_threads())

    worker = threading.Thread(target=work)
    worker.start()
    is_set.wait()
    torch.set_num_threads(2)
    may_go_on.set()
    worker.join()
    return seen[0]


torch.set_num_threads(2)
lost, kept = threads_of_a_worker(False), threads_of_a_worker(True)
print(f"set first:        another thread sets 2 -> {lost} threads here")
print(f"read, then set:   another thread sets 2 -> {kept} threads here")
assert (lost, kept) == (2, 1), "threads keep what they set now"
PYTHON

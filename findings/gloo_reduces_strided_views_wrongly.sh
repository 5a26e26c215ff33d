#!/usr/bin/env bash
# torch 2.13.0, backend gloo, Python 3.11, Linux: collectives on strided views are wrong, in silence.
#
# Expected: `all_reduce` and `broadcast` treat the elements of the tensor that they are given, whatever its
# strides, as operations on tensors do; or an error, as other calls raise "Tensors must be contiguous".
# Seen: as many bytes as the view has elements are taken in a row from where it begins. Elements of
# the view further on are left out, and elements between those of the view, which are none of it, are
# changed. Nothing is raised or warned of. Output seen (of two processes with equal rows 0 to 11):
#   all_reduce of columns 0 and 1: [[0, 2], [8, 10], [8, 9]] instead of [[0, 2], [8, 10], [16, 18]]
#   columns 2 and 3, not reduced:  [[4, 6], [6, 7], [10, 11]] instead of [[2, 3], [6, 7], [10, 11]]
#   broadcast of columns 0 and 2:  [[0, 2], [3, 0]] instead of [[0, 2], [3, 5]]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/views.py" <<'PYTHON'
import sys

import torch
from torch import distributed, multiprocessing


def work(rank, address):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    table = torch.arange(12.0).reshape(3, 4)
    expected, others = (2 * table[:, :2]).tolist(), table[:, 2:].tolist()
    distributed.all_reduce(table[:, :2])
    sent = torch.arange(6.0).reshape(2, 3)[:, ::2]
    received = sent if rank == 0 else torch.zeros(2, 3)[:, ::2]
    distributed.broadcast(received, 0)
    if rank == 1:
        found = table[:, :2].tolist(), table[:, 2:].tolist(), received.tolist()
        print(f"all_reduce of columns 0 and 1: {found[0]} instead of {expected}")
        print(f"columns 2 and 3, not reduced:  {found[1]} instead of {others}")
        print(f"broadcast of columns 0 and 2:  {found[2]} instead of {sent.tolist()}")
        is_wrong = found[0] != expected and found[1] != others and found[2] != sent.tolist()
        assert is_wrong, "strided views are reduced or refused now"
    distributed.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.spawn(work, (f"file://{sys.argv[1]}/meeting",), nprocs=2)
PYTHON
OMP_NUM_THREADS=1 timeout 120 "$folder/venv/bin/python" "$folder/views.py" "$folder"

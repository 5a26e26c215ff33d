#!/usr/bin/env bash
# torch 2.13.0, backend gloo, Python 3.11, Linux: `all_reduce` with MAX keeps NaN in half of a tensor.
#
# Expected: `all_reduce(x, ReduceOp.MAX)` agrees with `torch.maximum`, which keeps NaN, or drops NaN like
# `torch.fmax`; and all elements and ranks are treated alike. A loss that became NaN on one process
# then stops all of them, or none.
# Seen: of two processes, NaN of rank 0 is kept in the first half of the tensor and dropped in the
# second, and NaN of rank 1 the other way round. So a single NaN of rank 1 vanishes. The same with MIN.
# Nothing is raised or warned of. Output seen:
#   8 elements, all NaN on rank 0: [nan, nan, nan, nan, 1.0, 1.0, 1.0, 1.0]
#   8 elements, all NaN on rank 1: [1.0, 1.0, 1.0, 1.0, nan, nan, nan, nan]
#   1 element, NaN on rank 0: [nan]
#   1 element, NaN on rank 1: [1.0]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torch==2.13.0 numpy==2.4.6
cat > "$folder/maximum.py" <<'PYTHON'
import math
import sys

import torch
from torch import distributed, multiprocessing


def work(rank, address):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)

    def maximum(n, rank_with_nan):
        values = torch.full((n,), math.nan if rank == rank_with_nan else 1.0)
        distributed.all_reduce(values, distributed.ReduceOp.MAX)
        return values.tolist()

    of_first, of_second, single = maximum(8, 0), maximum(8, 1), (maximum(1, 0), maximum(1, 1))
    distributed.destroy_process_group()
    if rank:
        return
    print(f"8 elements, all NaN on rank 0: {of_first}")
    print(f"8 elements, all NaN on rank 1: {of_second}")
    print(f"1 element, NaN on rank 0: {single[0]}")
    print(f"1 element, NaN on rank 1: {single[1]}")
    assert [*map(math.isnan, of_first)] == [True] * 4 + [False] * 4, "NaN is kept everywhere now"
    assert [*map(math.isnan, of_second)] == [False] * 4 + [True] * 4, "NaN is kept everywhere now"


if __name__ == "__main__":
    multiprocessing.spawn(work, (f"file://{sys.argv[1]}/meeting",), nprocs=2)
PYTHON
OMP_NUM_THREADS=1 timeout 120 "$folder/venv/bin/python" "$folder/maximum.py" "$folder"

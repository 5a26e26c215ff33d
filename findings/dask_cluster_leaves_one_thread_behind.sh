#!/usr/bin/env bash
# distributed 2026.8.0, Python 3.11, Linux: a closed LocalCluster leaves one thread to what comes after it.
#
# Expected: LocalCluster sets OMP_NUM_THREADS=1 for its workers, as the documentation says, and nothing else.
# Seen: it is set in the process that starts the cluster, before the workers are, and stays when
# the cluster is closed: libraries that are imported afterwards, subprocesses and other pools of processes
# have one thread. Nothing tells of it. Output seen (on a machine of any number of cores):
#   before None, while the cluster runs 1, after it was closed 1
#   a process that is started then has OMP_NUM_THREADS=1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet distributed==2026.8.0 dask==2026.8.0
cat > "$folder/threads.py" <<'PYTHON'
import os
import subprocess
import sys

from distributed import LocalCluster

NAME = "OMP_NUM_THREADS"

if __name__ == "__main__":
    seen = [os.environ.get(NAME)]
    with LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=None):
        seen.append(os.environ.get(NAME))
    seen.append(os.environ.get(NAME))
    print("before {}, while the cluster runs {}, after it was closed {}".format(*seen))
    code = f"import os; print(os.environ.get({NAME!r}))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip()
    print(f"a process that is started then has {NAME}={started}")
    assert seen == [None, "1", "1"] and started == "1", (seen, started)
PYTHON
env -u OMP_NUM_THREADS "$folder/venv/bin/python" "$folder/threads.py"

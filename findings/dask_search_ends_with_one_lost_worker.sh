#!/usr/bin/env bash
# joblib 1.6.0, scikit-learn 1.9.1, distributed 2026.8.0, Python 3.11, Linux: one lost worker ends a search.
#
# Expected: Dask runs the tasks of a lost worker elsewhere. So does GridSearchCV under
# parallel_config("dask", scatter=[X, y]), which puts X and y on all workers before it starts.
# Seen: the search ends with a FutureCancelledError that names a task "already forgotten". joblib also sends
# the training and test numbers of each fold, to one worker each, and Dask cannot compute again what was
# sent. With these in `scatter` as well (as a list of splits, so that they are the same objects), it is still
# a matter of luck: within about two seconds, Dask's memory manager removes all copies but one of what was
# sent to all workers, unless tasks wait for it. Only with that turned off, the search goes on.
# Output seen:
#   copies of an array sent to both workers: 2 at once, 1 after 6 seconds
#   scatter=[X, y]: FutureCancelledError
#   all arrays scattered, client.amm.stop(): 12 of 12 scores
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet scikit-learn==1.9.1 joblib==1.6.0 numpy==2.4.6 \
    distributed==2026.8.0 dask==2026.8.0
cat > "$folder/search.py" <<'PYTHON'
import os
import signal
import threading
import time
from itertools import chain

import numpy as np
from distributed import Client, LocalCluster
from joblib import parallel_config
from sklearn.datasets import make_classification
from sklearn.dummy import DummyClassifier
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}


def slow(X):
    time.sleep(0.5)
    return X


def outcome(is_safe):
    """Of a search of twelve fits, one of whose two workers is ended on the way."""
    X, y = make_classification(2000, random_state=0)
    splits = list(KFold(6).split(X))
    with LocalCluster(**CLUSTER, silence_logs=50) as cluster, Client(cluster) as client:
        if is_safe:
            client.amm.stop()
        pids = client.run(os.getpid)
        worker = next(iter(pids.values()))
        threading.Timer(2, os.kill, [worker, signal.SIGKILL]).start()
        model = make_pipeline(FunctionTransformer(slow), DummyClassifier())
        grid = {"dummyclassifier__strategy": ["prior", "stratified"]}
        search = GridSearchCV(model, grid, cv=splits if is_safe else KFold(6), refit=False)
        scatter = [X, y, *chain(*splits)] if is_safe else [X, y]
        try:
            with parallel_config("dask", scatter=scatter):
                search.fit(X, y)
        except BaseException as error:
            return type(error).__name__
        scores = [search.cv_results_[f"split{i}_test_score"] for i in range(6)]
        return f"{np.isfinite(scores).sum()} of 12 scores"


if __name__ == "__main__":
    with LocalCluster(**CLUSTER) as cluster, Client(cluster) as client:
        [sent] = client.scatter([np.zeros(1000)], broadcast=True)
        copies = [len(client.who_has([sent])[sent.key])]
        time.sleep(6)
        copies.append(len(client.who_has([sent])[sent.key]))
    print(f"copies of an array sent to both workers: {copies[0]} at once, {copies[1]} after 6 seconds")
    found = [outcome(is_safe=False), outcome(is_safe=True)]
    print(f"scatter=[X, y]: {found[0]}")
    print(f"all arrays scattered, client.amm.stop(): {found[1]}")
    assert copies == [2, 1], copies
    assert found == ["FutureCancelledError", "12 of 12 scores"], found
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/search.py"

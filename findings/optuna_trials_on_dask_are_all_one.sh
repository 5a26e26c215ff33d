#!/usr/bin/env bash
# optuna 5.0.0, optuna-integration 5.0.0, distributed 2026.8.0, Python 3.11, Linux: all trials are one.
#
# Expected: trials that are submitted to a Dask cluster as optuna's documentation of DaskStorage shows,
# client.submit(study.optimize, objective, n_trials=1, pure=False), try different parameters.
# Seen: the study goes to each task with the state of its sampler's generator. With a seed, all tasks draw
# the same numbers; without one, too, as soon as one trial has been run by the process that submits, for
# a test or to resume a study: its generator, made at the first use, is then copied. study.optimize with n_jobs
# calls sampler.reseed_rng() for its threads; a task has to do so itself. There is no warning.
# Output seen:
#   default sampler: 8 trials, 8 points
#   default sampler, after one trial: 8 trials, 1 point
#   TPESampler(seed=0): 8 trials, 1 point
#   default sampler, after one trial, reseed_rng() in each task: 8 trials, 8 points
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet optuna==5.0.0 optuna-integration==5.0.0 \
    distributed==2026.8.0 dask==2026.8.0 numpy==2.4.6
cat > "$folder/trials.py" <<'PYTHON'
import optuna
from distributed import Client, wait
from optuna_integration import DaskStorage

optuna.logging.set_verbosity(optuna.logging.ERROR)


def objective(trial):
    return trial.suggest_float("x", 0, 1)


def reseeded(study):
    study.sampler.reseed_rng()
    study.optimize(objective, n_trials=1)


def n_points(client, name, sampler=None, n_before=0, reseeds=False):
    study = optuna.create_study(storage=DaskStorage(client=client), sampler=sampler)
    for _ in range(n_before):
        study.optimize(objective, n_trials=1)
    call = [reseeded, study] if reseeds else [study.optimize, objective]
    options = {} if reseeds else {"n_trials": 1}
    wait([client.submit(*call, **options, pure=False) for _ in range(8)])
    found = {trial.params["x"] for trial in study.trials[n_before:]}
    n_found, n_trials = len(found), len(study.trials) - n_before
    print(f"{name}: {n_trials} trials, {n_found} point{'s' * (n_found > 1)}")
    return n_found


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        found = [
            n_points(client, "default sampler"),
            n_points(client, "default sampler, after one trial", n_before=1),
            n_points(client, "TPESampler(seed=0)", optuna.samplers.TPESampler(seed=0)),
            n_points(
                client,
                "default sampler, after one trial, reseed_rng() in each task",
                n_before=1,
                reseeds=True,
            ),
        ]
    assert found == [8, 1, 1, 8], found
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/trials.py" 2> >(grep -v -e Warning -e pickle.loads >&2)

"""Bytes that searches on a Dask cluster send, over those of the table.

Two workers of one thread each, on this machine; needs dask, distributed and, for optuna's rows,
optuna and optuna_integration.

    python benchmarks/bench_searches.py --rows 62500
"""

import argparse
import importlib.util
import warnings
from contextlib import contextmanager

import numpy as np
import pandas as pd
from _common import (
    curved_table,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    write_markdown,
)
from distributed import Client, LocalCluster, wait
from distributed.comm.tcp import TCP
from joblib import parallel_config
from sklearn import config_context
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skae import AutoencoderTransformer, DenoisingAutoencoder, latent_size_curve

N_FEATURES, N_FACTORS, N_CANDIDATES, N_FOLDS = 200, 8, 12, 3
FEW = {
    **{"hidden_layer_sizes": 8, "max_epochs": 1, "early_stopping": False},
    **{"batch_size": 4096, "init": "random", "random_state": 0},
}
CLUSTER = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "memory_limit": 0}
NOTES = f"""\
- *sent, over the table*: bytes that the client, the scheduler and both workers write to their
  connections, over those of the table. Ideal: 3, as the table goes to the scheduler, from there to
  a worker, and from this to the other.
- *if sent with each fit*: what this number would be if the rows went along with each fit, or trial.
- `GridSearchCV`, `latent_size_curve`: {N_CANDIDATES} numbers of latents, {N_FOLDS} folds.
- *table of levels and numbers*: of the {N_FEATURES} columns, ten are strings.
- *`X_clean`*: the clean rows that a denoiser learns, given to `fit` and `score` by metadata
  routing, go once for each. The noisy rows are float64, twice the bytes of the table: 12 is ideal.
- *optuna*: {N_CANDIDATES} trials as tasks, with the rows in the objective or in a future."""


@contextmanager
def counted(client):
    """A list that will hold the number of bytes that were sent in the block."""
    n_written, write, n_sent = [], TCP.write, []

    async def counting(comm, *args, **kwargs):
        n_bytes = await write(comm, *args, **kwargs)
        n_written.append(n_bytes)
        return n_bytes

    def between_workers():
        return sum(client.run(bytes_to_others).values())

    TCP.write = counting  # of the client and the scheduler, which are in this process
    before = between_workers()
    yield n_sent
    n_sent.append(sum(n_written) + between_workers() - before)
    TCP.write = write


def bytes_to_others(dask_worker):
    return dask_worker.transfer_outgoing_bytes_total


def grid(estimator, X, parameter="n_components", scatter=None, **given):
    search = GridSearchCV(
        estimator, {parameter: [*range(1, N_CANDIDATES + 1)]}, cv=N_FOLDS, refit=False
    )
    options = {"scatter": [X]} if scatter else {}
    with parallel_config("dask", **options), config_context(enable_metadata_routing=True):
        search.fit(X, **given)


def with_levels(X):
    levels = np.array(["low", "middle", "high"])
    frame = pd.DataFrame(X[:, 10:]).add_prefix("x")
    strings = {f"s{i}": levels[np.digitize(X[:, i], [-0.5, 0.5])] for i in range(10)}
    return frame.assign(**strings)


def trials(client, X, is_future):
    import optuna
    from optuna_integration import DaskStorage

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=DaskStorage(client=client), direction="maximize")
    [rows] = client.scatter([X]) if is_future else [X]
    if is_future:
        tasks = [client.submit(one_trial, study, rows, pure=False) for _ in range(N_CANDIDATES)]
    else:
        tasks = [
            client.submit(study.optimize, lambda trial: objective(trial, X), n_trials=1, pure=False)
            for _ in range(N_CANDIDATES)
        ]
    wait(tasks)
    assert all(task.status == "finished" for task in tasks)


def one_trial(study, X):
    study.sampler.reseed_rng()
    study.optimize(lambda trial: objective(trial, X), n_trials=1)


def objective(trial, X):
    size = trial.suggest_int("n_components", 1, N_CANDIDATES)
    return AutoencoderTransformer(size, **FEW).fit(X[::2]).score(X[1::2])


def cases(client, X):
    """(name, call, bytes of its table, whether it is a search of many folds)."""
    transformer = AutoencoderTransformer(**FEW)
    pipeline = make_pipeline(StandardScaler(), transformer)
    step = "autoencodertransformer__n_components"
    mixed = with_levels(X)
    with config_context(enable_metadata_routing=True):
        denoiser = DenoisingAutoencoder(**FEW)
        denoiser.set_fit_request(X_clean=True).set_score_request(X_clean=True)
    noisy = X + np.random.default_rng(0).normal(size=X.shape)
    n_fits = N_CANDIDATES * N_FOLDS
    yield "`GridSearchCV`, pipeline", lambda: grid(pipeline, X, step), X.nbytes, n_fits
    yield (
        "`GridSearchCV`, pipeline, `scatter=[X]`",
        lambda: grid(pipeline, X, step, scatter=True),
        X.nbytes,
        n_fits,
    )
    yield (
        "`GridSearchCV`, table of levels and numbers",
        lambda: grid(transformer, mixed),
        int(mixed.memory_usage(deep=True).sum()),
        n_fits,
    )
    yield (
        "`GridSearchCV`, denoiser with `X_clean`",
        lambda: grid(denoiser, noisy, X_clean=X),
        X.nbytes,
        2 * n_fits,
    )
    yield (
        "`latent_size_curve(client=...)`",
        lambda: latent_size_curve(
            transformer, X, range(1, N_CANDIDATES + 1), cv=N_FOLDS, client=client
        ),
        X.nbytes,
        n_fits,
    )
    if importlib.util.find_spec("optuna_integration"):
        for name, is_future in [("rows in the objective", False), ("rows in a future", True)]:
            call = lambda is_future=is_future: trials(client, X, is_future)  # noqa: E731
            yield f"optuna, {name}", call, X.nbytes, N_CANDIDATES


def measure(n_rows):
    X = curved_table(n_rows, N_FEATURES, N_FACTORS)
    rows = []
    with LocalCluster(**CLUSTER) as cluster, Client(cluster) as client:
        for name, call, n_bytes, n_times in cases(client, X):
            with counted(client) as n_sent, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of large graphs, and experimental storages
                call()
            row = {
                "search": name,
                "table, MB": round(n_bytes / 1e6, 1),
                "sent, MB": round(n_sent[0] / 1e6, 1),
                "sent, over the table": f"{n_sent[0] / n_bytes:.2f}",
                "if sent with each fit": 2 * n_times,
            }
            report(row)
            rows.append(row)
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=62_500, help="of 800 bytes each")
    args = parse_arguments(parser)
    rows = measure(1000 if args.quick else args.rows)
    title = "# Bytes sent by searches on two workers"
    write_markdown("searches", title, machine_line(), markdown_table(rows), NOTES)


if __name__ == "__main__":
    main()

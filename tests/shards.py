"""Fits by several processes, each of which runs this script; `test_distributed.py` compares."""

import pickle
import sys
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix
from sklearn.pipeline import make_pipeline

import skae.distributed
import skae.io
import skae.relations
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._engine import _shared_sums
from skae._engine._group import ALONE, ProcessGroup
from skae._sklearn import safe_indexing
from skae.estimators._sharded_fit import Shard, fit_shards

N_ROWS = 10_500
SHARES = {2: (0.7, 0.3), 3: (0.7, 0.0, 0.3)}  # of the rows, one shard has none


def table(n_rows=N_ROWS, n_columns=6):
    rng = np.random.RandomState(0)
    z = rng.normal(size=(n_rows, 2))
    X = np.tanh(z @ rng.normal(size=(2, n_columns))) + 0.05 * rng.normal(size=(n_rows, n_columns))
    return (X * np.arange(1, n_columns + 1) + 100).astype(np.float32)


def transformer(**params):
    """From a random start: at PCA many gradients vanish, and steps along them are rounding."""
    quiet = {"input_noise": 0.0, "latent_noise": 0.0, "init": "random"}
    few = {"max_epochs": 2, "batch_size": 500, "random_state": 0}
    return AutoencoderTransformer(2, **{**quiet, **few, **params})


def weights(X):
    weight = np.random.RandomState(1).uniform(size=len(X))
    weight[::30] = 0.0
    return weight


def small_generator(**params):
    few = {"max_epochs": 3, "batch_size": 500, "n_mixture_components": 1, "random_state": 0}
    return VAEGenerator(2, **{**few, **params})


def detector(**params):
    few = {"n_estimators": 2, "max_epochs": 2, "batch_size": 500, "random_state": 0}
    return AutoencoderOutlierDetector(n_components=2, **{**few, **params})


def with_gaps(X):
    return np.where(np.random.RandomState(2).uniform(size=X.shape) < 0.1, np.nan, X)


def with_gaps_at_the_end(X):
    return np.vstack([X[:-1000], with_gaps(X[-1000:])])


def mixed_table(n_rows=300):
    """Whose rarest level, dates between full hours and gaps only come in the last rows."""
    X = pd.DataFrame(table(n_rows), columns=[*"abcdef"])
    X["level"] = np.where(X["a"] > 100, "high", "low")
    X.loc[n_rows - 2 :, "level"] = "rare"
    X["day"] = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(n_rows) % 60, unit="h")
    X.loc[n_rows - 1, "day"] = pd.Timestamp("2020-01-01 00:30")
    X.loc[n_rows - 100 :: 7, "b"] = np.nan
    return X


# (estimator, table, weight or None) by name: fits that must equal those of one process.
EQUAL = {
    "split": lambda: (transformer(scaling="standard"), table(), None),
    "all rows": lambda: (transformer(early_stopping=False), table(), None),
    "weights": lambda: (transformer(tied_weights=True), table(), weights(table())),
    "weights of one": lambda: (transformer(), table(15_000), np.repeat([1, 0], [10_500, 4500])),
    "quantiles": lambda: (transformer(scaling="robust"), table(), None),
    "bounds": lambda: (transformer(scaling="minmax", loss="binary_cross_entropy"), table(), None),
    "sparse": lambda: (transformer(n_iter_no_change=1), csr_matrix(table() - 100), None),
    "frame": lambda: (transformer(), pd.DataFrame(table(), columns=[*"abcdef"]), None),
    "linear": lambda: (transformer(init="pca", hidden_layer_sizes=()), table(), None),
}
EQUAL |= {
    "gaps": lambda: (transformer(), with_gaps_at_the_end(table()), None),
    "mixed": lambda: (transformer(loss="huber"), mixed_table(N_ROWS), weights(table())),
    "detector": lambda: (detector(), with_gaps(table()), None),
    "detector, levels": lambda: (detector(), mixed_table(N_ROWS), None),
    "detector, weights": lambda: (detector(contamination=0.1), table(), weights(table())),
}
# From PCA, and with noise: as good as by one process.
AS_GOOD = {
    "default": lambda: (AutoencoderTransformer(2, max_epochs=3, random_state=0), table(), None),
    "ordered": lambda: (transformer(ordered=True), table(), None),
    "poor": lambda: (
        AutoencoderTransformer(4, max_epochs=10, random_state=0),
        np.random.RandomState(0).normal(size=(N_ROWS, 14)) * np.arange(1, 15),
        None,
    ),
    "denoiser": lambda: (
        DenoisingAutoencoder(2, max_epochs=3, batch_size=500, random_state=0),
        with_gaps(table()),
        None,
    ),
    "cleaner": lambda: (
        DenoisingAutoencoder(2, noise="gaussian", max_epochs=3, batch_size=500, random_state=0),
        table(),
        None,
    ),
    "generator": lambda: (small_generator(refine=False), with_gaps(table()), weights(table())),
    "generated levels": lambda: (small_generator(refine=False), mixed_table(N_ROWS), None),
    "generated frame": lambda: (
        small_generator(refine=False),
        pd.DataFrame(table(), columns=[*"abcdef"]),
        None,
    ),
    "private levels": lambda: (
        small_generator(refine=False, private_values=True),
        mixed_table(N_ROWS).round(dict.fromkeys("abcdef", 1)),
        None,
    ),
    "filled levels": lambda: (
        DenoisingAutoencoder(2, max_epochs=3, batch_size=500, random_state=0),
        mixed_table(N_ROWS),
        None,
    ),
    "pixels": lambda: (
        small_generator(likelihood="bernoulli"),
        (table() > 100).astype(np.uint8),
        None,
    ),
    "rotated": lambda: (
        AutoencoderTransformer(2, max_epochs=1, batch_size=1000, random_state=0),
        table(n_columns=256),
        None,
    ),
}
SMALL = {
    "transformer": lambda: (AutoencoderTransformer(2, max_epochs=2, random_state=0), mixed_table()),
    "denoiser": lambda: (DenoisingAutoencoder(max_epochs=2, random_state=0), table(300)),
    "detector": lambda: (
        AutoencoderOutlierDetector(n_estimators=2, max_epochs=2, random_state=0),
        table(300),
    ),
    "generator": lambda: (
        VAEGenerator(max_epochs=2, refine=False, n_mixture_components=1, random_state=0),
        mixed_table(),
    ),
}


def sorted_table():
    """Rows sorted by level, so that each shard has others; the last ones have a date of their own.

    Two thirds of the numbers of column a are missing in the last rows only.
    """
    X = mixed_table(N_ROWS).sort_values("level", kind="stable", ignore_index=True)
    X["grade"] = pd.Categorical(X["level"], ["rare", "high", "low"], ordered=True)
    X["is_odd"] = X["c"] > 300
    X["count"] = (X["d"] * 10).round().astype(int)
    X.loc[9000::7, "is_odd"] = ~X["is_odd"]
    X.loc[8000::5, "level"] = None
    return X


# Fits to tables on disk, with all rows in a batch: their order does not matter.
ONE_BATCH = {"max_epochs": 3, "batch_size": 20_000, "random_state": 0}
ON_DISK = {
    "transformer": lambda: transformer(early_stopping=False, **ONE_BATCH),
    "validated": lambda: transformer(**ONE_BATCH),
    "denoiser": lambda: DenoisingAutoencoder(2, **ONE_BATCH),
    "generator": lambda: small_generator(refine=False, relations=None, **ONE_BATCH),
    "detector": lambda: detector(batch_size=20_000),
}


def fitted_from_disk(estimator, frame, rank, size, path):
    """The fit by all processes, each of which reads a file."""
    rows = numbers_of_parts(len(frame), size)[rank]
    frame.iloc[rows].to_parquet(path, row_group_size=1000)
    shard = Shard(skae.io.open_table(path), None, {rank: len(rows)}, 0)
    return fit_shards(estimator, lambda: shard, ProcessGroup())


def with_nan(X, rank):
    X = X.copy()
    if rank == 1:
        X[-1, 2] = np.inf
    return X


class SomeError(Exception):
    """Of a kind that can be pickled, but not read back."""

    def __init__(self, first, second):
        super().__init__(f"{first} and {second}")


class Unreadable:
    """A table of 6 columns whose rows cannot be read."""

    def __init__(self, n_rows):
        self.shape = n_rows, 6

    def __array__(self, *args, **kwargs):
        raise SomeError("this", "that")


def with_texts(X, rank):
    """A frame whose column b holds texts in one process."""
    X = pd.DataFrame(X, columns=[*"abcdef"])
    return X.assign(b=X["b"].astype(str)) if rank else X


# From own rows, whose number is 0 or above 1000, and the rank to what makes a fit fail.
WRONG = {
    "infinite": lambda X, rank: (transformer(), with_nan(X, rank), None),
    "columns": lambda X, rank: (transformer(), X[:, : X.shape[1] - (rank > 0)], None),
    "weights": lambda X, rank: (transformer(), X, None if rank else np.ones(len(X))),
    "negative": lambda X, rank: (transformer(), X, np.full(len(X), 1.0 - 2 * (rank == 1))),
    "variational": lambda X, rank: (AutoencoderOutlierDetector(variational=True), X, None),
    "targets": lambda X, rank: (VAEGenerator(conditional=True), X, None),
    "relations": lambda X, rank: (VAEGenerator(relations=[skae.relations.Gap("a", "b")]), X, None),
    "no weight": lambda X, rank: (transformer(), X, np.zeros(len(X))),
    "texts": lambda X, rank: (transformer(), with_texts(X, rank)),
    "texts in few rows": lambda X, rank: (transformer(), with_texts(X[:50], rank)),
    "array of texts": lambda X, rank: (transformer(), X.astype(str) if rank else X),
    "columns of few rows": lambda X, rank: (transformer(), with_texts(X[:50], 0).iloc[:, rank:]),
    "containers": lambda X, rank: (transformer(), X if rank else pd.DataFrame(X)),
    "dimensions": lambda X, rank: (transformer(), X.reshape(-1, 3, 2) if rank else X),
    "unreadable": lambda X, rank: (transformer(), Unreadable(len(X)) if rank else X),
    "pipeline": lambda X, rank: (make_pipeline(transformer()), X),
    "levels": lambda X, rank: (
        VAEGenerator(likelihood="gaussian"),
        pd.DataFrame(X).assign(kind="a"),
        None,
    ),
    "parameter": lambda X, rank: (transformer(loss="none"), X, None),
    "callbacks": lambda X, rank: (transformer(callbacks=[1]), X, None),
    "sparsity": lambda X, rank: (transformer(sparsity=1.0, sparsity_penalty="kl"), X, None),
}


def numbers_of_parts(n_rows, size):
    """Numbers of the rows of each process."""
    ends = np.cumsum([0, *(round(share * n_rows) for share in SHARES[size])])
    return [np.arange(start, end) for start, end in pairwise(ends)]


def fitted_by_one(case, size):
    """The fit of a case by this process, with the batches of several."""
    estimator, X, weight = case()
    sizes = {part: len(rows) for part, rows in enumerate(numbers_of_parts(X.shape[0], size))}
    return fit_shards(estimator, lambda: Shard(X, weight, sizes), ALONE)


def fitted_by_all(case, rank, size, **options):
    """The fit of a case by all processes."""
    estimator, X, *weight = case()
    rows = numbers_of_parts(X.shape[0], size)[rank]
    weight = weight[0][rows] if weight and weight[0] is not None else None
    return skae.distributed.fit(estimator, safe_indexing(X, rows), weight, **options)


def error_of(case, rank, size):
    """The type and text of the error of a fit by all processes, and its notes."""
    X = table()[numbers_of_parts(N_ROWS, size)[rank]]
    estimator, *arguments = case(X, rank)
    try:
        skae.distributed.fit(estimator, *arguments)
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "__notes__", [])


def outcomes(rank, size, folder):
    """Fitted models and errors by name."""
    fits = EQUAL | AS_GOOD | {f"small {name}": case for name, case in SMALL.items()}
    if size == 3:  # once is enough, and as if on two machines
        _shared_sums.name_of_machine = lambda: "first" if rank < 2 else "second"
        fits = {name: fits[name] for name in ("all rows", "weights", "frame", "small generator")}
    models = {name: fitted_by_all(case, rank, size) for name, case in fits.items()}
    if size == 3:
        models["sum of pieces"] = ProcessGroup().add(torch.full((3, 100_000), float(rank)))
        return models, {}
    for name, make in ON_DISK.items() if find_spec("pyarrow") else ():
        path = folder / f"{name}-{rank}.parquet"
        models[f"{name} on disk"] = fitted_from_disk(make(), sorted_table(), rank, size, path)
    models["sync"] = fitted_by_all(AS_GOOD["default"], rank, size, sync_every=4)
    return models, {name: error_of(case, rank, size) for name, case in WRONG.items()}


if __name__ == "__main__":
    rank, size, store, path = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size
    )
    Path(path).write_bytes(pickle.dumps(outcomes(rank, size, Path(path).parent)))
    torch.distributed.destroy_process_group()

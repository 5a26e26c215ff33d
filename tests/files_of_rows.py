"""What tests of tables on disk share; those who import it are skipped without pyarrow."""

import numpy as np
import pytest

pa = pytest.importorskip("pyarrow", reason="skae[parquet] is not installed")
ds = pytest.importorskip("pyarrow.dataset")
pq = pytest.importorskip("pyarrow.parquet")

ROW_METHODS = [
    *("transform", "encode", "reconstruct", "reconstruction_error", "score_samples"),
    *("predict", "decision_function", "pvalues", "explain", "correct"),
]


def each_of(estimators):
    """Parametrize a test by estimators, which are named by their classes."""
    return pytest.mark.parametrize("estimator", estimators, ids=lambda model: type(model).__name__)


def fresh(estimator, **params):
    """An estimator that is not fitted, with other parameters if some are given."""
    return type(estimator)(**estimator.get_params() | params)


def write_files(frame, folder, n_files, row_group_size=None):
    """The folder, with the rows of a frame in so many files."""
    folder.mkdir(exist_ok=True)
    for i, rows in enumerate(np.array_split(np.arange(len(frame)), n_files)):
        path = folder / f"part-{i}.parquet"
        frame.iloc[rows].to_parquet(path, index=False, row_group_size=row_group_size)
    return folder

"""How data come in and go out, and what happens when a door slams."""

from contextlib import contextmanager

import numpy as np

from skae._chunks import SideBySide, check_finite, is_memory_map
from skae._engine._progress import showing
from skae._engine._runtime import one_thread_per_worker
from skae._sklearn import check_sample_weight, convert_to_numpy, get_namespace_and_device


@contextmanager
def fitting(estimator):
    """What every fit is wrapped in: its attributes are put back if the block raises."""
    before = vars(estimator).copy()
    try:
        with one_thread_per_worker(), showing(type(estimator).__name__, int(estimator.verbose)):
            yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise


def as_numpy(X):
    """NumPy version of an array-API array, and a function that leads back."""
    xp, is_array_api, device = get_namespace_and_device(X)
    if not is_array_api or xp.__name__.endswith("numpy"):
        return X, lambda out: out
    return convert_to_numpy(X, xp), lambda out: xp.asarray(out, device=device)


def checked(check, X, *, allow_nan, **kwargs):
    """Validate X by scikit-learn's `check`; integers and memory maps are not copied."""
    on_disk = is_memory_map(X)
    finite = "allow-nan" if allow_nan else True
    # Looking for NaN would bring in the whole file.
    finite = False if on_disk else finite
    X = check(X, dtype="numeric", accept_sparse="csr", ensure_all_finite=finite, **kwargs)
    if on_disk:
        check_finite(X, allow_nan=allow_nan)
    return X


def output_dtype(X):
    """float32 stays float32; everything else comes back as float64."""
    return np.float32 if X.dtype == np.float32 else np.float64


def drop_weightless(X, sample_weight, min_rows=2):
    """Drop rows of weight zero; weights come back with mean one, or None if all equal."""
    if sample_weight is None:
        return X, None
    weight = check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    kept = weight > 0
    if not kept.all():
        X, weight = X.rows(kept) if isinstance(X, SideBySide) else X[kept], weight[kept]
        if X.shape[0] < min_rows:
            raise ValueError(
                f"sample_weight leaves {X.shape[0]} rows with a positive weight; at least "
                f"{min_rows} are needed."
            )
    if (weight == weight[0]).all():
        return X, None
    return X, weight / weight.mean()

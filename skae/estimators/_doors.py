"""How data come in and go out, and what happens when a door slams."""

from contextlib import contextmanager

import numpy as np

from skae._sklearn import convert_to_numpy, get_namespace_and_device


@contextmanager
def unchanged_on_error(estimator):
    """Put an estimator's attributes back if the block raises."""
    before = vars(estimator).copy()
    try:
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


def output_dtype(X):
    """float32 stays float32; everything else comes back as float64."""
    return np.float32 if X.dtype == np.float32 else np.float64

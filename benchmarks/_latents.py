"""What the sections of `bench_latents.py` share."""

from time import perf_counter

import numpy as np
from _common import short_training

from skae import AutoencoderTransformer


def autoencoder(k, **params):
    """The estimator with its defaults, a seed, and short training in a quick run."""
    return AutoencoderTransformer(k, **{"random_state": 0} | short_training() | params)


def chosen(settings, args):
    """All settings, or only the first in a quick run."""
    return settings[:1] if args.quick else settings


def fit_and_measure(model, X_train, X_test):
    """Fit a transformer; return seconds, test errors, and the latents of training and test rows."""
    start = perf_counter()
    model.fit(X_train)
    seconds = perf_counter() - start
    Z_test = model.transform(X_test)
    difference = model.inverse_transform(Z_test) - X_test
    return {
        "seconds": seconds,
        "mse": float(np.mean(difference**2, dtype=np.float64)),
        "mae": float(np.mean(np.abs(difference), dtype=np.float64)),
        "Z_train": model.transform(X_train),
        "Z_test": Z_test,
    }

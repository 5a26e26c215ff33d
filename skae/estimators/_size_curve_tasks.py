"""Numbers of latents that are compared by the workers of a Dask cluster."""

from concurrent.futures import CancelledError
from contextlib import suppress
from itertools import product

import numpy as np
from sklearn.exceptions import FitFailedWarning

from skae.exceptions import warn_user

# Times that workers may be lost, with the rows they hold, before another task is done.
MAX_IN_VAIN = 3


def measured_by_workers(client, measure, X, folds, sizes, together):
    """What ``measure(X, folds, sizes)`` gives, each size measured by tasks of its own.

    Parameters
    ----------
    client : distributed.Client
    measure : callable
        Returns two arrays of shape (n_sizes, n_folds).
    together : bool
        Whether the folds of a size are measured by one task, or each by its own.

    Returns
    -------
    measured : tuple of two ndarrays of shape (n_sizes, n_folds)
        NaN for sizes that could not be measured, of which a warning tells.
    """
    numbers = range(len(folds))
    parts = [(*numbers,)] if together else [(number,) for number in numbers]
    found = _outcomes(client, (measure, X, folds), [*product(dict.fromkeys(sizes), parts)])
    errors = {size: error for (size, _), error in found.items() if isinstance(error, Exception)}
    if set(errors) == set(sizes):
        raise errors[sizes[0]]
    for size, error in errors.items():
        warn_user(
            f"Fits with n_components={size} failed, and its row is NaN: "
            f"{type(error).__name__}: {error}",
            FitFailedWarning,
        )
    nothing = np.full((2, len(folds)), np.nan)
    rows = [
        nothing if size in errors else np.hstack([found[size, part] for part in parts])
        for size in sizes
    ]
    return tuple(np.stack(rows, axis=1))


def _outcomes(client, shared, tasks):
    """Measures, or the error, of each (size, numbers of folds)."""
    found, n_in_vain = {}, 0
    while len(found) < len(tasks) and n_in_vain < MAX_IN_VAIN:
        n_before = len(found)
        # Dask cannot compute again what is scattered: if workers are lost, it is sent anew.
        [rows] = client.scatter([shared], broadcast=True, hash=False)
        futures = {
            task: client.submit(_measure_folds, rows, *task, pure=False)
            for task in tasks
            if task not in found
        }
        try:
            for task, future in futures.items():
                with suppress(CancelledError):
                    found[task] = future.exception() or future.result()
        finally:
            client.cancel([*futures.values()])
        n_in_vain = n_in_vain + 1 if len(found) == n_before else 0
        tasks = tasks[::-1]  # one that ends its workers does not come first again
    lost = RuntimeError("Workers were lost again and again: each needs memory for X twice.")
    return dict.fromkeys(tasks, lost) | found


def _measure_folds(shared, size, numbers):
    """Both measures of one size on some of the folds, of shape (2, n_folds)."""
    measure, X, folds = shared
    return np.concatenate(measure(X, [folds[number] for number in numbers], [size]))

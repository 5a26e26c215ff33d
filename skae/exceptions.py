"""Errors and warnings of skae; each is also a standard type."""

import sys
import warnings

from sklearn.exceptions import ConvergenceWarning

# Packages and modules whose frames may lie between a user's line and a warning of skae.
_SKIPPED = (
    *("skae", "sklearn", "skorch", "joblib", "torch"),
    *("contextlib", "multiprocessing", "threading"),
)


class DivergenceError(ValueError):
    """The training loss became non-finite or exploded; the fit was abandoned."""


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was interrupted from the keyboard; the best network so far was kept."""


class ModelFileError(ValueError):
    """A file of a saved model is damaged, of a newer format or not written by skae."""


def warn_user(message, category=UserWarning):
    """Warn at the line of the user, however deep in skae or scikit-learn this is called.

    From Python 3.12 on, ``skip_file_prefixes`` of ``warnings.warn`` would do the same.
    """
    modules = (sys.modules.get(name) for name in _SKIPPED)
    files = (getattr(module, "__file__", None) for module in modules)
    prefixes = tuple(file.removesuffix("__init__.py") for file in files if file)
    frame = caller = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(prefixes):
        frame = frame.f_back
    frame = frame or caller  # a worker of joblib may have no line of the user
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=frame.f_globals.get("__name__", "<unknown>"),
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )

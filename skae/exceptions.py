"""Errors and warnings of skae; each is also a standard type."""

from sklearn.exceptions import ConvergenceWarning


class DivergenceError(ValueError):
    """The training loss became non-finite or exploded; the fit was abandoned."""


class TrainingInterruptedWarning(ConvergenceWarning):
    """Training was interrupted from the keyboard; the best network so far was kept."""


class ModelFileError(ValueError):
    """A file of a saved model is damaged, of a newer format or not written by skae."""

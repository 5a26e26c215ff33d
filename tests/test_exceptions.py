import inspect

import pytest
from sklearn.exceptions import ConvergenceWarning

from skae import exceptions
from skae.exceptions import DivergenceError, TrainingInterruptedWarning

OURS = [
    cls
    for _, cls in inspect.getmembers(exceptions, inspect.isclass)
    if cls.__module__ == exceptions.__name__
]


@pytest.mark.parametrize("cls", OURS)
def test_each_is_a_standard_type_and_says_what_it_is(cls):
    assert cls.__doc__
    standard = (ValueError, TypeError, RuntimeError, UserWarning)
    assert issubclass(cls, standard)
    assert cls.__name__.endswith("Warning" if issubclass(cls, Warning) else "Error")


def test_families():
    assert issubclass(DivergenceError, ValueError)
    assert issubclass(TrainingInterruptedWarning, ConvergenceWarning)

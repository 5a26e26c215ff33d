import inspect

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback

from skae import AutoencoderTransformer, DenoisingAutoencoder, VAEGenerator, exceptions, save
from skae._engine._net import AutoencoderNet
from skae.exceptions import DivergenceError, TrainingInterruptedWarning

OURS = [
    cls
    for _, cls in inspect.getmembers(exceptions, inspect.isclass)
    if cls.__module__ == exceptions.__name__
]


@pytest.mark.parametrize("cls", OURS)
def test_each_is_a_standard_type_with_a_docstring(cls):
    assert cls.__doc__
    standard = (ValueError, TypeError, RuntimeError, UserWarning)
    assert issubclass(cls, standard)
    assert cls.__name__.endswith("Warning" if issubclass(cls, Warning) else "Error")


def test_families():
    assert issubclass(DivergenceError, ValueError)
    assert issubclass(TrainingInterruptedWarning, ConvergenceWarning)


# Every warning names the user's line, whatever it comes from.

QUICK = {"hidden_layer_sizes": 4, "max_epochs": 1, "random_state": 0}


def interrupted(self, batch):
    raise KeyboardInterrupt


def ctrl_c(monkeypatch, folder, X):
    monkeypatch.setattr(AutoencoderNet, "_step", interrupted)
    model = AutoencoderTransformer(2, **QUICK)
    with pytest.warns(TrainingInterruptedWarning) as warned:
        model.fit(X)
    return warned


def clean_rows_as_y(monkeypatch, folder, X):
    with pytest.warns(UserWarning, match="y is ignored") as warned:
        DenoisingAutoencoder(2, **QUICK).fit_transform(X, X)
    return warned


def names_of_rows(monkeypatch, folder, X):
    frame = pd.DataFrame(X[:, :2], columns=["a", "b"]).assign(name=[f"row {i}" for i in range(120)])
    with pytest.warns(UserWarning, match="holds 120 levels") as warned:
        VAEGenerator(2, **QUICK).fit(frame)
    return warned


def rare_conditions(monkeypatch, folder, X):
    model = VAEGenerator(2, **QUICK).fit(X)
    with pytest.warns(UserWarning, match="are rare") as warned:
        model.sample(100_000, conditions={0: X[:, 0].max()}, random_state=0)
    return warned


def callbacks_in_a_file(monkeypatch, folder, X):
    model = AutoencoderTransformer(2, callbacks=[Callback()], **QUICK).fit(X)
    with pytest.warns(UserWarning, match="not saved") as warned:
        save(model, folder / "model")
    return warned


@pytest.mark.parametrize(
    "warn", [ctrl_c, clean_rows_as_y, names_of_rows, rare_conditions, callbacks_in_a_file]
)
def test_warnings_name_the_users_line(warn, monkeypatch, tmp_path, table):
    warned = warn(monkeypatch, tmp_path, np.array(table))
    assert {w.filename for w in warned} == {__file__}
    assert len(warned) == 1

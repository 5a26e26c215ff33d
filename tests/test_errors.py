"""Rows and latents that cannot be used are named in an error."""

import re

import numpy as np
import pandas as pd
import pytest

import skae

BAD_ROWS = {
    "infinity": (lambda X: np.where(X.max() - 1e-9 < X, np.inf, X), "infinity"),
    "1-D": (lambda X: X[:, 0], "2D array"),
    "3-D": (lambda X: X[None], "3"),
    "complex": (lambda X: X + 1j, "[Cc]omplex"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
}


@pytest.mark.parametrize("bad", BAD_ROWS)
def test_bad_rows(bad, case, table):
    corrupt, message = BAD_ROWS[bad]
    for method in {"fit", "partial_fit", "fit_transform", "fit_predict"} & set(dir(case.make())):
        with pytest.raises(ValueError, match=message):
            getattr(case.make(), method)(corrupt(table))
    model = case.make().fit(table)
    for method in case.row_methods:
        with pytest.raises(ValueError, match=rf"{message}|features"):
            getattr(model, method)(corrupt(table))


def test_number_of_features_must_agree(case, table):
    model = case.make().fit(table)
    for method in (*case.row_methods, "partial_fit"):
        with pytest.raises(ValueError, match=r"9 features.*10 features"):
            getattr(model, method)(table[:, :9])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_latents(value, case, table):
    model = case.make().fit(table)
    Z = np.full_like(model.encode(table), value)
    with pytest.raises(ValueError, match=r"Z contains|contains (NaN|infinity)"):
        model.decode(Z)
    # The denoiser returns to rows only with output="latent", the detector by decode alone.
    if hasattr(model, "inverse_transform"):
        with pytest.raises(ValueError, match=r"Z contains|contains (NaN|infinity)"):
            model.inverse_transform(Z)


TOO_LARGE = r"Column 4 of X holds .*e\+\d+; values up to .* can be squared\. (Change|It is far)"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [1e20, 1e39, -1e155, 1.7e308])
def test_values_are_used_or_too_large_in_one_message(value, case, table):
    far = table.copy()
    far[3, 4] = value

    def outcome(model, method):
        try:
            return getattr(model, method)(far)
        except ValueError as error:
            return error

    def is_right(out):
        if isinstance(out, ValueError):
            return re.match(TOO_LARGE, str(out))
        return isinstance(out, case.estimator) or np.isfinite(out).all()

    model = case.make().fit(table)
    outcomes = {method: outcome(model, method) for method in (*case.row_methods, "partial_fit")}
    outcomes["fit"] = outcome(case.make(), "fit")
    assert not {method: out for method, out in outcomes.items() if not is_right(out)}
    if abs(value) > 1e150:
        for method in ("fit", "partial_fit", *case.row_methods):
            with pytest.raises(ValueError, match=TOO_LARGE):
                getattr(model, method)(far)


def test_columns_too_large_are_named(case, table):
    frame = pd.DataFrame(table, columns=[f"c{j}" for j in range(10)])
    frame.loc[3, "c7"] = 1e200
    with pytest.raises(ValueError, match="Column 'c7' of X holds 1e\\+200"):
        case.make().fit(frame)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("case", ["transformer", "denoiser", "detector"], indirect=True)
def test_largest_values_of_float32(case, table):
    """Rasters mark missing cells so."""
    X = table.astype(np.float32)
    X[3, 4] = np.finfo(np.float32).min
    model = case.make().fit(X)
    for method in case.row_methods:
        assert np.isfinite(getattr(model, method)(X)).all(), method


def test_generators_check_frames_like_arrays():
    X = np.random.default_rng(0).normal(size=(80, 3))
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    model = skae.VAEGenerator(likelihood="gaussian", max_epochs=2, random_state=0).fit(frame)
    frame.iloc[3, 1] = 1e140
    for method in ("score_samples", "transform", "reconstruct", "reconstruction_error"):
        with pytest.raises(ValueError, match="Column 'b' of X holds 1e\\+140"):
            getattr(model, method)(frame)


@pytest.mark.parametrize("value", [1e39, -1e200])
def test_latents_too_large_are_refused(case, table, value):
    model = case.make().fit(table)
    Z = np.zeros((2, model.net_.n_latents))
    Z[1, 0] = value
    with pytest.raises(ValueError, match=r"Column 0 of Z holds .*can be squared"):
        model.decode(Z)


@pytest.mark.parametrize("unit", [1e-20, 1e-170, 1e20])
def test_units_too_extreme_without_scaling_are_refused(unit):
    X = np.random.default_rng(0).normal(size=(80, 3)) * unit
    for cls in (
        skae.AutoencoderTransformer,
        skae.DenoisingAutoencoder,
        skae.AutoencoderOutlierDetector,
    ):
        with pytest.raises(ValueError, match=r"scaling=None does not allow|can be squared"):
            cls(scaling=None, max_epochs=2, random_state=0).fit(X)


def test_the_clean_cell_that_is_too_large_is_named():
    X = np.random.default_rng(0).normal(size=(80, 3))
    clean = X.copy()
    clean[5, 2] = 1e200
    with pytest.raises(ValueError, match=r"Column 2 of X_clean holds 1e\+200"):
        skae.DenoisingAutoencoder(max_epochs=2, random_state=0).fit(X, X_clean=clean)


def test_names_that_occur_twice_are_named(case):
    X = np.random.default_rng(0).normal(size=(80, 3))
    with pytest.raises(ValueError, match="'a'"):
        case.make().fit(pd.DataFrame(X, columns=["a", "b", "a"]))

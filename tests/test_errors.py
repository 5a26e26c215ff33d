"""Rows and latents that cannot be used are named in an error."""

import numpy as np
import pytest

BAD_ROWS = {
    "NaN": (lambda X: np.where(X.max() - 1e-9 < X, np.nan, X), "NaN"),
    "infinity": (lambda X: np.where(X.max() - 1e-9 < X, np.inf, X), "infinity"),
    "1-D": (lambda X: X[:, 0], "2D array"),
    "3-D": (lambda X: X[None], "3"),
    "strings": (lambda X: X.astype(str).astype(object) + "a", "string|convert|numeric"),
    "complex": (lambda X: X + 1j, "[Cc]omplex"),
    "no rows": (lambda X: X[:0], "0 sample"),
    "no columns": (lambda X: X[:, :0], "0 feature"),
}
# Cells may be missing elsewhere, and strings are levels to the generator.
ALLOWED = {
    ("denoiser", "NaN"),
    ("generator", "NaN"),
    ("detector", "NaN"),
    ("generator", "strings"),
}


@pytest.mark.parametrize(
    ("case", "bad"),
    [
        (case, bad)
        for case in ("transformer", "denoiser", "generator", "detector")
        for bad in BAD_ROWS
        if (case, bad) not in ALLOWED
    ],
    indirect=["case"],
)
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


def test_values_too_large_for_float32_never_give_nan(case, table):
    with np.errstate(all="ignore"):  # overflow in the variance
        try:
            model = case.make().fit(table * 1e300)
        except ValueError:
            return
    assert np.isfinite(model.encode(table * 1e300)).all()

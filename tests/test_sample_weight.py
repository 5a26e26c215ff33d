"""A row's weight counts as so many repetitions of it; a row without weight is absent."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from skae import AutoencoderTransformer, VAEGenerator


@pytest.mark.parametrize("weight", [1.0, 0.25, 3.0])
@pytest.mark.parametrize("n_rows", [120, 1100])
def test_equal_weights_are_none(weight, n_rows, case, digits):
    X = digits[:n_rows, 20:30]
    a, b = case.make().fit(X), case.make().fit(X, sample_weight=np.full(n_rows, weight))
    case.assert_equal(a, b, X)
    assert a.loss_curve_ == b.loss_curve_
    assert a.validation_loss_curve_ == b.validation_loss_curve_


@pytest.fixture
def weighted_rows(table):
    """Rows of which those without weight would be seen in any range, median, mean or loss."""
    weight = np.random.default_rng(0).integers(0, 3, size=120).astype(float)
    X = table.copy()
    X[weight == 0] *= 1e3
    return X, weight


SCALINGS = ["global", "standard", "minmax", "robust"]
# The generator reads normal scores and has no scaling.
SCALED = [
    *(("transformer", {"scaling": scaling}) for scaling in SCALINGS),
    *(("denoiser", {"scaling": scaling}) for scaling in SCALINGS),
    *(("detector", {"scaling": scaling}) for scaling in SCALINGS),
    ("generator", {}),
]


@pytest.mark.parametrize(("case", "params"), SCALED, indirect=["case"])
@pytest.mark.parametrize("n_components", [2, 0.8])
def test_zero_weight_is_absence(n_components, params, case, weighted_rows, table):
    X, weight = weighted_rows
    kept = weight > 0
    params = {"n_components": n_components, **params}
    a = case.make(**params).fit(X, sample_weight=weight)
    b = case.make(**params).fit(X[kept], sample_weight=weight[kept])
    case.assert_equal(a, b, table)
    assert_array_equal(a.reconstruct(table), b.reconstruct(table))
    assert a.loss_curve_ == b.loss_curve_
    assert a.validation_loss_curve_ == b.validation_loss_curve_
    assert a.n_samples_seen_ == b.n_samples_seen_ == kept.sum()
    if not isinstance(a, VAEGenerator):  # its normal scores need no mean
        assert_array_equal(a.mean_, b.mean_)


def test_zero_weight_is_absence_in_partial_fit(case, table):
    weight = np.r_[np.zeros(20), np.ones(100)]
    a, b = case.make(), case.make()
    for _ in range(2):
        a.partial_fit(table, sample_weight=weight)
        b.partial_fit(table[20:])
    case.assert_equal(a, b, table)


def test_one_weighted_row_is_enough_to_go_on(case, table):
    model = case.make().partial_fit(table)
    model.partial_fit(table[:2], sample_weight=[1.0, 0.0])
    assert model.n_iter_ == 2


def test_integer_weights_are_repetitions_in_expectation():
    """Averaged over seeds, for a repeated row falls into other batches than a heavy one.

    Two bent curves in different planes share one latent. The one that counts four times as
    much is reconstructed better, by as much as if each of its rows stood there four times.
    """
    rng = np.random.default_rng(0)
    t = rng.uniform(-1, 1, size=100)
    noise = 0.05 * rng.normal(size=(100, 4))
    X = np.column_stack([t, t**2, 0 * t, 0 * t]) + noise
    X[50:] = X[50:, [2, 3, 0, 1]]
    first = np.arange(100) < 50

    def errors(weights, repeated):
        found = []
        for seed in range(6):
            model = AutoencoderTransformer(
                1,
                hidden_layer_sizes=(16,),
                max_epochs=40,
                batch_size=50,
                early_stopping=False,
                learning_rate=5e-3,
                random_state=seed,
            )
            if repeated:
                model.set_params(max_epochs=16)  # as many steps
                model.fit(np.repeat(X, weights, axis=0))
            else:
                model.fit(X, sample_weight=weights)
            each = model.reconstruction_error(X)
            found.append([each[first].mean(), each[~first].mean()])
        return np.array(found)

    weighted = errors(np.where(first, 4, 1), repeated=False)
    repeated = errors(np.where(first, 4, 1), repeated=True)
    plain = errors(np.ones(100, dtype=int), repeated=False)
    spread = np.sqrt((weighted.var(axis=0, ddof=1) + repeated.var(axis=0, ddof=1)) / 6)
    gap = np.abs(weighted.mean(axis=0) - repeated.mean(axis=0))
    assert (gap < 4 * spread + 0.1 * repeated.mean(axis=0)).all(), (weighted, repeated)
    # Without the weights, the same comparison would fail.
    lost = np.abs(plain.mean(axis=0) - repeated.mean(axis=0))
    assert (lost > 2 * (4 * spread + 0.1 * repeated.mean(axis=0))).any(), (plain, repeated)
    assert (weighted[:, 0].mean() < plain[:, 0].mean()) & (
        weighted[:, 1].mean() > plain[:, 1].mean()
    )


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (-np.ones(120), "Negative"),
        (np.ones(119), "shape"),
        (np.full(120, np.nan), "NaN"),
        (np.zeros(120), "zero|positive"),
        (np.eye(120)[0], "positive weight"),
    ],
)
def test_bad_weights(weight, message, case, table):
    with pytest.raises(ValueError, match=message):
        case.make().fit(table, sample_weight=weight)


@pytest.mark.parametrize("as_frame", [True, False])
def test_levels_and_classes_without_weight_are_absent(as_frame, table):
    weight = np.r_[np.zeros(20), np.ones(100)]
    frame = pd.DataFrame(table).rename(columns=str).assign(level="often")
    frame.loc[:19, "level"] = "only without weight"
    y = np.where(weight == 0, 2, np.arange(120) % 2)
    X = frame if as_frame else frame.to_numpy(dtype=object)
    make = partial(VAEGenerator, conditional=True, max_epochs=2, random_state=0)
    model = make().fit(X, y, sample_weight=weight)
    expected = make().fit(X[20:], y[20:])
    drawn, same = (m.sample(50, random_state=0) for m in (model, expected))
    assert_array_equal(np.asarray(drawn), np.asarray(same))
    with pytest.raises(ValueError, match="y holds 2"):
        model.sample(1, y=2)
    with pytest.raises(ValueError, match="only without weight"):
        model.score_samples(X[:20])

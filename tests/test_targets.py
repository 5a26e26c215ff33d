import numpy as np
import pytest

from skae._data._targets import TargetedTransform, Targets


def test_classes_are_indicators():
    targets = Targets().fit(np.array(["b", "a", "b", "b"]))
    assert targets.classes_.tolist() == ["a", "b"]
    assert targets.shares_.tolist() == [0.25, 0.75]
    codes = targets.codes(["b", "a"])
    assert targets.columns(codes).tolist() == [[0, 1], [1, 0]]
    assert targets.groups(codes).tolist() == [1, 0]
    assert targets.columns(np.array([np.nan])).tolist() == [[0, 0]]
    with pytest.raises(ValueError, match=r"'c'.*allowed are \['a', 'b'\]"):
        targets.codes(["c"])


def test_numbers_are_scaled_and_binned():
    y = np.random.default_rng(0).normal(5, 2, size=1000)
    targets = Targets().fit(y)
    assert targets.n_columns == 1
    scaled = targets.columns(targets.codes(y))
    assert scaled.mean() == pytest.approx(0, abs=1e-5)
    assert scaled.std() == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(targets.shares_, 0.1, atol=0.02)
    assert (np.diff(targets.representatives_) > 0).all()
    np.testing.assert_array_equal(targets.groups(targets.representatives_), np.arange(10))
    with pytest.raises(ValueError, match="misses values"):
        targets.codes([np.nan])


def test_numbers_that_mostly_coincide():
    y = np.r_[np.zeros(900), np.linspace(0.1, 0.95, 100)]
    targets = Targets().fit(y)
    assert targets.shares_.sum() == pytest.approx(1)
    assert (targets.shares_ > 0).all()
    assert targets.groups(y).max() == len(targets.representatives_) - 1


def test_weights_move_shares():
    targets = Targets().fit(np.array([0, 1])).weigh(np.array([0, 1]), np.array([1.0, 3.0]))
    assert targets.shares_.tolist() == [0.25, 0.75]


def test_numbers_are_drawn_from_their_distribution():
    y = np.random.default_rng(0).exponential(size=2000)
    drawn = Targets().fit(y).draw(5000, np.random.RandomState(0))
    assert len(np.unique(drawn)) == 5000
    np.testing.assert_allclose(
        np.quantile(drawn, [0.1, 0.5, 0.9]), np.quantile(y, [0.1, 0.5, 0.9]), rtol=0.1
    )


def test_rows_followed_by_their_targets():
    class Doubled:
        def transform(self, X):
            return 2 * X

    targets = Targets().fit(np.array([0, 1, 1]))
    rows = TargetedTransform(Doubled(), targets).transform(np.array([[3.0, 1.0]]))
    assert rows.tolist() == [[6, 0, 1]]

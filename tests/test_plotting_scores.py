"""Displays of outlier scores and contributions; tests read the data of the artists."""

import numpy as np
import pandas as pd
import pytest
from sklearn.covariance import EllipticEnvelope
from sklearn.ensemble import IsolationForest
from sklearn.mixture import GaussianMixture
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector, AutoencoderTransformer
from skae.plotting import ContributionDisplay, OutlierScoreDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def frame(table):
    return pd.DataFrame(table, columns=[f"column {i}" for i in range(10)])


@pytest.fixture(scope="module")
def detector(frame):
    return AutoencoderOutlierDetector(max_epochs=4, n_refits=0, random_state=0).fit(frame)


def heights(bars):
    return np.array([bar.get_height() for bar in bars])


def texts(labels):
    return [label.get_text() for label in labels]


# Outlier scores.


@pytest.mark.parametrize("n_bins", [1, 7, 50])
def test_bars_on_either_side_of_the_threshold_agree_with_predict(detector, frame, n_bins):
    display = OutlierScoreDisplay.from_estimator(detector, frame, bins=n_bins)
    assert display.threshold_line_.get_xdata() == [detector.offset_] * 2
    predicted = detector.predict(frame)
    outliers, inliers = display.bars_
    assert heights(outliers).sum() == (predicted == -1).sum()
    assert heights(inliers).sum() == (predicted == 1).sum()
    ends = [bar.get_x() + bar.get_width() for bar in outliers if bar.get_height()]
    assert max(ends, default=-np.inf) <= detector.offset_ + 1e-9


def test_histogram_counts_and_options():
    scores = np.random.default_rng(0).normal(size=100)
    display = OutlierScoreDisplay.from_predictions(scores, bins=20, color="red")
    np.testing.assert_array_equal(heights(display.bars_[0]), np.histogram(scores, 20)[0])
    edges = [-5.0, 0.0, 5.0]
    display = OutlierScoreDisplay.from_predictions(scores, bins=edges, threshold=0.0)
    below = (scores < 0).sum()
    assert [heights(bars).tolist() for bars in display.bars_] == [[below, 0], [0, 100 - below]]
    display = OutlierScoreDisplay.from_predictions(scores, bins="sqrt")
    assert len(display.bars_[0]) == 10


def test_a_row_at_the_threshold_is_an_inlier():
    display = OutlierScoreDisplay.from_predictions([-2.0, -1.0], threshold=-1.0, bins=4)
    outliers, inliers = display.bars_
    assert (heights(outliers).sum(), heights(inliers).sum()) == (1, 1)
    (bar,) = [bar for bar in inliers if bar.get_height()]
    assert bar.get_x() >= -1.0


@pytest.mark.parametrize("threshold", [None, -3.0, 1e16, 1e16 + 2])
@pytest.mark.parametrize("spread", [0.0, 2.0, 4.0, 1000.0])
def test_large_scores_that_hardly_differ(spread, threshold):
    scores = 1e16 + spread * np.array([0.0, 0.5, 0.5, 1.0])
    display = OutlierScoreDisplay.from_predictions(scores, threshold=threshold)
    assert sum(heights(bars).sum() for bars in display.bars_) == 4


@pytest.mark.parametrize(
    ("y", "names"),
    [
        ([1, -1, 1, 1], ["outliers (1)", "inliers (3)"]),
        (["cat", "dog", "cat", "cat"], ["cat (3)", "dog (1)"]),
        ([0, 1, 2, 2], ["0 (1)", "1 (1)", "2 (2)"]),
    ],
)
def test_classes_are_counted_apart(y, names):
    display = OutlierScoreDisplay.from_predictions([-1.0, -9.0, -1.2, -0.8], y, threshold=-3.0)
    labels = texts(display.ax_.get_legend().get_texts())
    assert sorted(labels) == sorted([*names, "threshold, \N{MINUS SIGN}3"])
    counts = [heights(bars).sum() for bars in display.bars_]
    assert sorted(counts) == sorted(int(name.split("(")[1][:-1]) for name in names)


@pytest.mark.parametrize(
    "other",
    [
        IsolationForest(n_estimators=10, random_state=0),
        EllipticEnvelope(random_state=0),
        OneClassSVM(),
    ],
)
def test_other_detectors_have_their_own_thresholds(other, table):
    other.fit(table)
    display = OutlierScoreDisplay.from_estimator(other, table)
    np.testing.assert_array_equal(display.scores, other.score_samples(table))
    assert display.threshold == np.asarray(other.offset_).item()


def test_densities_have_no_threshold(table):
    display = OutlierScoreDisplay.from_estimator(GaussianMixture(1).fit(table), table)
    assert display.threshold_line_ is None
    assert heights(display.bars_[0]).sum() == len(table)


def test_bad_scores():
    draw = OutlierScoreDisplay.from_predictions
    with pytest.raises(ValueError, match=r"scores holds nan at \(1,\)"):
        draw([0.0, np.nan])
    with pytest.raises(ValueError, match="threshold"):
        draw([0.0], threshold=np.nan)
    with pytest.raises(ValueError, match="bins=0 must be an integer from 1 on"):
        draw([0.0], bins=0)
    with pytest.raises(TypeError, match=r"bins=0\.5 must be an integer from 1 on"):
        draw([0.0], bins=0.5)
    with pytest.raises(ValueError, match="bins='no'"):
        draw([0.0], bins="no")
    with pytest.raises(ValueError, match=r"bins=.* must be edges that rise"):
        draw([0.0], bins=[1.0, 0.0])
    with pytest.raises(ValueError, match="y has shape"):
        draw([0.0], [1, 2])


def test_detectors_need_scores(table):
    transformer = AutoencoderTransformer(2, max_epochs=2, random_state=0).fit(table)
    with pytest.raises(TypeError, match="AutoencoderTransformer has no method 'score_samples'"):
        OutlierScoreDisplay.from_estimator(transformer, table)


# Contributions.


def test_the_title_names_the_row(detector, frame):
    named = frame.rename(index=lambda i: f"patient {i}")
    display = ContributionDisplay.from_estimator(detector, named, row=5)
    assert display.ax_.get_title() == "Row patient 5"
    display = ContributionDisplay.from_estimator(detector, frame.reset_index(drop=True), row=3)
    assert display.ax_.get_title() == "Row 3"


@pytest.mark.parametrize("n_features", [1, 4, 10, 99])
def test_bars_sum_to_the_score(detector, frame, n_features):
    display = ContributionDisplay.from_estimator(detector, frame, row=5, n_features=n_features)
    lengths = [bar.get_width() for bar in display.bars_]
    assert sum(lengths) == pytest.approx(-detector.score_samples(frame[5:6])[0])
    contributions = detector.explain(frame[5:6]).iloc[0]
    largest = contributions.nlargest(min(n_features, 10))
    assert lengths[: len(largest)] == largest.tolist()
    names = texts(display.ax_.get_yticklabels())
    assert names[: len(largest)] == largest.index.tolist()
    n_pooled = 10 - len(largest)
    assert names[len(largest) :] == [f"{n_pooled} other column{'s' * (n_pooled > 1)}"] * (
        n_pooled > 0
    )
    assert display.ax_.yaxis_inverted()  # the first bar is on top


def test_contributions_in_narrow_axes_keep_names_inside(detector, frame):
    figure, axes = plt.subplots(1, 3)
    display = ContributionDisplay.from_estimator(detector, frame, n_features=2, ax=axes[1])
    figure.canvas.draw()
    inside = axes[1].get_window_extent().padded(3)
    for label in display.ax_.get_yticklabels():
        assert inside.x0 <= label.get_window_extent().x0


def test_contributions_as_an_image():
    values = np.arange(12.0)
    display = ContributionDisplay.from_predictions(values, image_shape=(3, 4))
    np.testing.assert_array_equal(display.image_.get_array(), values.reshape(3, 4))
    coloured = ContributionDisplay.from_predictions(values, image_shape=(3, 2, 2))
    np.testing.assert_array_equal(coloured.image_.get_array(), values.reshape(3, 2, 2).sum(axis=0))
    assert coloured.image_.get_array().sum() == values.sum()


def test_names_of_columns():
    names = texts(ContributionDisplay.from_predictions([1.0, 3.0]).ax_.get_yticklabels())
    assert names == ["x1", "x0"]
    for named in (pd.Series([1.0, 3.0], ["a", "b"]), pd.DataFrame({"a": [1.0], "b": [3.0]})):
        display = ContributionDisplay.from_predictions(named)
        assert texts(display.ax_.get_yticklabels()) == ["b", "a"]
    polars = pytest.importorskip("polars")
    display = ContributionDisplay.from_predictions(polars.DataFrame({"a": [1.0], "b": [3.0]}))
    assert texts(display.ax_.get_yticklabels()) == ["b", "a"]


def test_bad_contributions(detector, frame):
    with pytest.raises(ValueError, match="row=120 must be an integer from 0 to 119"):
        ContributionDisplay.from_estimator(detector, frame, row=120)
    with pytest.raises(TypeError, match="row=True"):
        ContributionDisplay.from_estimator(detector, frame, row=True)
    with pytest.raises(ValueError, match="n_features=0 must be an integer from 1 on"):
        ContributionDisplay.from_predictions([1.0], n_features=0)
    with pytest.raises(ValueError, match=r"feature_names has 1 entries.*2 columns"):
        ContributionDisplay.from_predictions([1.0, 2.0], feature_names=["a"])
    with pytest.raises(ValueError, match=r"contributions has shape \(2, 2\)"):
        ContributionDisplay.from_predictions(np.eye(2))
    with pytest.raises(ValueError, match="image_shape"):
        ContributionDisplay.from_estimator(detector, frame, image_shape=(3, 3))

"""Displays of generated rows; tests read the data of the artists."""

import numpy as np
import pandas as pd
import pytest
from sklearn.mixture import GaussianMixture

from skae import VAEGenerator
from skae.plotting import SampleGridDisplay

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture
def mixed():
    """A frame with columns of all sorts."""
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "size": rng.normal(size=200),
            "gap": np.where(np.arange(200) < 50, np.nan, rng.normal(size=200)),
            "rooms": rng.integers(1, 5, 200).astype(float),
            "colour": pd.Categorical(rng.choice(["red", "green"], 200, p=[0.8, 0.2])),
            "code": pd.Series(np.where(np.arange(200) < 150, "a", None), dtype=object),
            "flag": np.arange(200) < 20,
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(200), "D"),
            "town": [f"town {i % 40}" for i in range(200)],
        }
    )


def heights(bars):
    return [bar.get_height() for bar in bars]


def names(pane):
    return [label.get_text() for label in pane.get_xticklabels()]


def test_images_are_the_samples():
    rows = np.random.default_rng(0).random((10, 6))
    display = SampleGridDisplay.from_predictions(rows[:5], rows[5:], image_shape=(2, 3))
    for shown, wanted in ((display.sample_images_, rows[:5]), (display.real_images_, rows[5:])):
        arrays = [image.get_array() for image in shown]
        np.testing.assert_array_equal(arrays, wanted.reshape(-1, 2, 3))
    assert names(display.ax_) == ["generated", "real"]
    rightmost = max(image.get_extent()[1] for image in display.sample_images_)
    assert rightmost < min(image.get_extent()[0] for image in display.real_images_)


def test_images_are_drawn_by_the_generator():
    X = np.random.default_rng(0).random((60, 8))
    generator = VAEGenerator(2, likelihood="bernoulli", max_epochs=2, random_state=0).fit(X)
    draw = SampleGridDisplay.from_estimator
    display = draw(generator, X, image_shape=(2, 4), n_samples=4, random_state=3)
    np.testing.assert_array_equal(display.samples, generator.sample(4, random_state=3))
    assert len(display.sample_images_) == len(display.real_images_) == 4
    assert all((row == X).all(axis=1).any() for row in display.X)
    again = draw(generator, X, image_shape=(2, 4), n_samples=4, random_state=3)
    np.testing.assert_array_equal(again.X, display.X)
    assert len(draw(generator, image_shape=(2, 4), random_state=0).sample_images_) == 25


def test_histograms_are_densities_on_shared_bins(mixed):
    real = mixed[["size", "gap"]]
    display = SampleGridDisplay.from_predictions(real[:100], real)
    for column, (generated, of_real) in enumerate(
        zip(display.sample_artists_, display.real_artists_, strict=True)
    ):
        values, edges, _ = generated.get_data()
        np.testing.assert_array_equal(edges, of_real.get_data().edges)
        drawn = real.iloc[:100, column].dropna()
        np.testing.assert_allclose(values, np.histogram(drawn, edges, density=True)[0])
        assert np.sum(of_real.get_data().values * np.diff(edges)) == pytest.approx(1)


def test_levels_are_bars_of_shares(mixed):
    generated = mixed[["colour", "rooms", "code", "flag"]]
    display = SampleGridDisplay.from_predictions(generated, generated[:50])
    share = float((mixed["colour"] == "red").mean())
    assert names(display.axes_[0]) == ["red", "green"]
    assert heights(display.sample_artists_[0]) == pytest.approx([share, 1 - share])
    assert names(display.axes_[1]) == ["1", "2", "3", "4"]
    assert names(display.axes_[2]) == ["a", "missing"]
    assert heights(display.sample_artists_[2]) == [0.75, 0.25]
    assert heights(display.real_artists_[2]) == [1.0, 0.0]
    assert names(display.axes_[3]) == ["False", "True"]
    assert heights(display.sample_artists_[3]) == pytest.approx([0.9, 0.1])


def test_rare_levels_are_pooled(mixed):
    display = SampleGridDisplay.from_predictions(mixed[["town"]])
    assert len(names(display.axes_[0])) == 10
    assert names(display.axes_[0])[-1] == "other"
    assert sum(heights(display.sample_artists_[0])) == pytest.approx(1)


def test_all_sorts_of_columns_can_be_drawn_together(mixed):
    display = SampleGridDisplay.from_predictions(mixed, mixed[::-1])
    display.figure_.canvas.draw()
    assert [pane.get_title() for pane in display.axes_] == list(mixed.columns)
    boxes = [pane.get_window_extent() for pane in display.axes_]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_small_axes_show_the_columns_they_have_room_for():
    X = np.random.default_rng(0).normal(size=(50, 40))
    whole = SampleGridDisplay.from_predictions(X)
    assert whole.axes_.shape == (36,)
    _, axes = plt.subplots(2, 3, figsize=(12, 7))
    display = SampleGridDisplay.from_predictions(X, ax=axes[0, 1])
    assert 1 <= len(display.axes_) < 36
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels[-1] == f"(first {len(display.axes_)} of 40 columns)"


def test_generated_marginals(mixed):
    generator = VAEGenerator(max_epochs=2, refine=False, random_state=0).fit(mixed)
    display = SampleGridDisplay.from_estimator(generator, mixed, n_samples=30, random_state=0)
    pd.testing.assert_frame_equal(display.samples, generator.sample(30, random_state=0))
    assert display.axes_.shape == (8,)


def test_polars_frames_and_other_generators(mixed):
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1.5, 2.5, 3.5], "b": ["x", "y", "x"]})
    display = SampleGridDisplay.from_predictions(frame, frame)
    assert names(display.axes_[1]) == ["x", "y"]
    mixture = GaussianMixture(2, random_state=0).fit(mixed[["size"]].to_numpy())
    display = SampleGridDisplay.from_estimator(mixture, n_samples=20)
    assert display.samples.shape == (20, 1)


def test_bad_samples(mixed):
    draw = SampleGridDisplay.from_predictions
    with pytest.raises(ValueError, match=r"X has the columns \['gap'\].*\['size'\]"):
        draw(mixed[["size"]], mixed[["gap"]])
    with pytest.raises(ValueError, match="samples must hold numbers only"):
        draw([["a"]])
    with pytest.raises(ValueError, match=r"image_shape=.*which is 4"):
        draw(np.eye(4), image_shape=(3, 3))
    with pytest.raises(ValueError, match="samples holds an infinity in the column 'a'"):
        draw(pd.DataFrame({"a": [1.0, np.inf]}))
    with pytest.raises(ValueError, match=r"samples has shape \(0, 8\)"):
        draw(mixed[:0])
    generator = GaussianMixture(1).fit(np.random.default_rng(0).normal(size=(20, 2)))
    with pytest.raises(ValueError, match="n_samples=0 must be an integer from 1 on"):
        SampleGridDisplay.from_estimator(generator, n_samples=0)

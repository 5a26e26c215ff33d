"""Displays draw what they are given; tests read the data of the artists, not the pixels."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPRegressor

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
    latent_size_curve,
)
from skae.plotting import (
    ContributionDisplay,
    LatentSizeDisplay,
    LatentSpaceDisplay,
    LossCurveDisplay,
    OutlierScoreDisplay,
    ReconstructionDisplay,
    SampleGridDisplay,
)

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(scope="module")
def transformer(table):
    return AutoencoderTransformer(3, max_epochs=4, n_iter_no_change=4, random_state=0).fit(table)


@pytest.fixture(scope="module")
def frame(table):
    return pd.DataFrame(table, columns=[f"column {i}" for i in range(10)])


@pytest.fixture(scope="module")
def detector(frame):
    return AutoencoderOutlierDetector(max_epochs=4, n_refits=0, random_state=0).fit(frame)


@pytest.fixture
def images():
    return np.random.default_rng(0).random((6, 12))


def texts(labels):
    return [label.get_text() for label in labels]


def overlaps(axes):
    """Pairs of axes whose boxes, as drawn, cut into each other."""
    boxes = [ax.get_window_extent() for ax in axes]
    pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
    return [pair for pair in pairs if pair[0].overlaps(pair[1])]


# What all displays share.


DRAWN = {
    "contributions": lambda ax: ContributionDisplay.from_predictions([3.0, 1.0, 2.0], ax=ax),
    "image of contributions": lambda ax: ContributionDisplay.from_predictions(
        np.arange(4.0), image_shape=(2, 2), ax=ax
    ),
    "latent size": lambda ax: LatentSizeDisplay([1, 2], [0.5, 0.7], pca=[0.4, 0.6]).plot(ax=ax),
    "latent space": lambda ax: LatentSpaceDisplay.from_predictions(np.eye(4), [0, 1, 0, 1], ax=ax),
    "loss curve": lambda ax: LossCurveDisplay([2.0, 1.0], [2.0, 1.5, 1.0], 2).plot(ax=ax),
    "outlier scores": lambda ax: OutlierScoreDisplay.from_predictions(
        [-3.0, -1.0, -0.5], threshold=-2.0, ax=ax
    ),
    "curves": lambda ax: ReconstructionDisplay.from_predictions(np.eye(4), np.eye(4) / 2, ax=ax),
    "images": lambda ax: ReconstructionDisplay.from_predictions(
        np.eye(4), np.eye(4) / 2, image_shape=(2, 2), ax=ax
    ),
    "marginals": lambda ax: SampleGridDisplay.from_predictions(np.eye(4), np.eye(4), ax=ax),
    "samples": lambda ax: SampleGridDisplay.from_predictions(np.eye(4), image_shape=(2, 2), ax=ax),
}


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_draws_into_a_figure_of_its_own_or_into_given_axes(draw):
    display = draw(None)
    assert display.figure_ is display.ax_.figure
    display.figure_.canvas.draw()
    n_figures = len(plt.get_fignums())
    figure, axes = plt.subplots(1, 2, figsize=(8, 3))
    given = draw(axes[1])
    assert given.ax_ is axes[1]
    assert given.figure_ is figure
    assert len(plt.get_fignums()) == n_figures + 1
    assert not axes[0].has_data()
    figure.canvas.draw()
    assert given.plot(ax=axes[0]) is given


@pytest.mark.parametrize("draw", DRAWN.values(), ids=DRAWN)
def test_ax_must_be_one_axes(draw):
    _, axes = plt.subplots(1, 2)
    with pytest.raises(TypeError, match=r"ax=.* must be one matplotlib Axes or None"):
        draw(axes)


def test_errors_leave_no_figure_behind():
    with pytest.raises(ValueError, match="image_shape"):
        ReconstructionDisplay.from_predictions(np.eye(4), np.eye(4), image_shape=(3, 2))
    with pytest.raises(ValueError, match="best_epoch"):
        LossCurveDisplay([1.0], best_epoch=7).plot()
    with pytest.raises(ValueError, match="scores"):
        OutlierScoreDisplay.from_predictions([1.0, np.nan])
    with pytest.raises(ValueError, match="columns"):
        SampleGridDisplay.from_predictions(np.eye(4), np.eye(3))
    assert plt.get_fignums() == []


FROM_ESTIMATOR = {
    "contributions": lambda e, X: ContributionDisplay.from_estimator(e, X),
    "latent size": lambda e, X: LatentSizeDisplay.from_estimator(e, X),
    "latent space": lambda e, X: LatentSpaceDisplay.from_estimator(e, X),
    "loss curve": lambda e, X: LossCurveDisplay.from_estimator(e),
    "outlier scores": lambda e, X: OutlierScoreDisplay.from_estimator(e, X),
    "reconstructions": lambda e, X: ReconstructionDisplay.from_estimator(e, X),
    "samples": lambda e, X: SampleGridDisplay.from_estimator(e, X),
}


@pytest.mark.parametrize("name", FROM_ESTIMATOR)
def test_estimators_must_be_fitted(name, table):
    estimator = {"contributions": AutoencoderOutlierDetector, "samples": VAEGenerator}.get(
        name, AutoencoderTransformer
    )()
    if name == "outlier scores":
        estimator = IsolationForest()
    with pytest.raises(NotFittedError):
        FROM_ESTIMATOR[name](estimator, table)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("contributions", "no method 'explain'; it must be an AutoencoderOutlierDetector"),
        ("latent size", "no attribute 'latent_size_curve_'.*ordered=True"),
        ("latent space", "no method 'encode'; it must be an estimator of skae"),
        ("loss curve", "no attribute 'loss_curve_'; it must be an estimator of skae"),
        ("reconstructions", "no method 'reconstruct'; it must be an estimator of skae"),
        ("samples", "no method 'sample'; it must be a VAEGenerator"),
    ],
)
def test_estimators_must_be_of_the_kind(name, message, table):
    with pytest.raises(TypeError, match=f"estimator=PCA has {message}"):
        FROM_ESTIMATOR[name](PCA(2).fit(table), table)
    with pytest.raises(TypeError, match="must be a fitted estimator"):
        FROM_ESTIMATOR[name](AutoencoderTransformer, table)


def test_latents_must_be_ordered_for_their_curve(transformer, table):
    with pytest.raises(TypeError, match="ordered=True, or a share"):
        LatentSizeDisplay.from_estimator(transformer, table)


def test_matplotlib_is_optional():
    code = """
import sys
sys.modules["matplotlib"] = None
import skae.plotting
try:
    skae.plotting.LossCurveDisplay([1.0]).plot()
except ImportError as error:
    print(error)
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert 'pip install "skae[plotting]"' in result.stdout


# Losses.


def test_loss_curves_are_the_estimators(transformer):
    display = LossCurveDisplay.from_estimator(transformer, name="wide", linewidth=3)
    assert display.training_line_.get_xdata().tolist() == [1, 2, 3, 4]
    assert display.training_line_.get_ydata().tolist() == transformer.loss_curve_
    assert display.validation_line_.get_xdata().tolist() == [0, 1, 2, 3, 4]
    assert display.validation_line_.get_ydata().tolist() == transformer.validation_loss_curve_
    best = transformer.best_epoch_
    assert display.best_point_.get_xdata() == [best]
    assert display.best_point_.get_ydata() == [transformer.validation_loss_curve_[best]]
    assert display.validation_line_.get_linewidth() == 3
    labels = texts(display.ax_.get_legend().get_texts())
    assert labels == ["wide, training", "wide, validation", f"wide, best epoch: {best}"]


def test_options_may_be_abbreviated():
    display = LossCurveDisplay([2.0, 1.0], [2.0, 1.5, 1.0], 2).plot(c="red", lw=3, ls=":")
    lines = display.training_line_, display.validation_line_
    looks = {(line.get_color(), line.get_linewidth(), line.get_linestyle()) for line in lines}
    assert looks == {("red", 3, ":")}
    assert display.best_point_.get_color() == "red"
    points = LatentSpaceDisplay.from_predictions(np.eye(3), c=[0.0, 0.5, 1.0]).scatters_[0]
    assert points.get_array().tolist() == [0.0, 0.5, 1.0]


def test_without_validation_no_epoch_was_chosen(detector):
    display = LossCurveDisplay.from_estimator(detector)
    assert display.validation_line_ is None
    assert display.best_point_ is None
    assert display.training_line_.get_ydata().tolist() == detector.loss_curve_


def test_loss_curve_of_another_library(table):
    network = MLPRegressor(hidden_layer_sizes=4, tol=1.0, random_state=0)
    network.fit(table, table[:, 0])
    line = LossCurveDisplay.from_estimator(network).training_line_
    assert line.get_ydata().tolist() == network.loss_curve_


def test_wide_ranges_of_losses_are_logarithmic():
    assert LossCurveDisplay([100.0, 1.0]).plot().ax_.get_yscale() == "log"
    assert LossCurveDisplay([2.0, 1.0]).plot().ax_.get_yscale() == "linear"
    assert LossCurveDisplay([100.0, -1.0]).plot().ax_.get_yscale() == "linear"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, r"loss_curve has shape \(0,\)"),
        (([1.0, np.inf],), ValueError, r"loss_curve holds inf at \(1,\)"),
        ((["high"],), ValueError, "loss_curve must hold numbers only"),
        (([1.0], [1.0]), ValueError, "validation_loss_curve has 1 entries.*each of the 1 epochs"),
        (([1.0], [1.0, 1.0], 2), ValueError, "best_epoch=2 must be an integer from 0 to 1"),
        (([1.0], None, 0), ValueError, "best_epoch=0 must be an integer from 1 to 1"),
        (([1.0], None, 1.5), TypeError, r"best_epoch=1\.5 must be an integer"),
    ],
)
def test_bad_loss_curves(arguments, error, message):
    with pytest.raises(error, match=message):
        LossCurveDisplay(*arguments).plot()


# Reconstructions.


@pytest.mark.parametrize("image_shape", [(3, 4), [3, 4], (3, 4, 1), (1, 3, 4)])
def test_grey_images_are_the_rows(images, image_shape):
    display = ReconstructionDisplay.from_predictions(
        images, images / 2, image_shape=image_shape, n_rows=5, cmap="bone"
    )
    assert len(display.input_images_) == len(display.output_images_) == 5
    for i in range(5):
        shown = display.input_images_[i], display.output_images_[i]
        np.testing.assert_array_equal(shown[0].get_array(), images[i].reshape(3, 4))
        np.testing.assert_array_equal(shown[1].get_array(), images[i].reshape(3, 4) / 2)
        # The output is below its input, on the same grey scale.
        assert shown[0].get_extent()[:2] == shown[1].get_extent()[:2]
        assert shown[0].get_extent()[2] < shown[1].get_extent()[3]
        assert shown[0].get_clim() == shown[1].get_clim() == (images[:5].min(), images[:5].max())
        assert shown[0].get_cmap().name == "bone"


def test_colour_images_have_channels_first_or_last():
    rows = np.linspace(0, 1, 24).reshape(1, 24)
    last = ReconstructionDisplay.from_predictions(rows, rows, image_shape=(2, 4, 3))
    np.testing.assert_allclose(last.input_images_[0].get_array(), rows.reshape(2, 4, 3))
    first = ReconstructionDisplay.from_predictions(rows, rows, image_shape=(3, 2, 4))
    wanted = np.moveaxis(rows.reshape(3, 2, 4), 0, -1)
    np.testing.assert_allclose(first.input_images_[0].get_array(), wanted)


def test_curves_are_the_rows(transformer, frame):
    display = ReconstructionDisplay.from_estimator(transformer, frame.to_numpy(), n_rows=3)
    outputs = transformer.reconstruct(frame.to_numpy()[:3])
    assert display.axes_.shape == (3,)
    for i in range(3):
        np.testing.assert_array_equal(display.input_lines_[i].get_ydata(), frame.iloc[i])
        np.testing.assert_allclose(display.output_lines_[i].get_ydata(), outputs[i], rtol=1e-6)
        assert display.error_areas_[i].axes is display.axes_[i]
    display.figure_.canvas.draw()
    assert not overlaps(display.axes_)


def test_missing_cells_are_gaps():
    X = np.array([[1.0, np.nan, 3.0]])
    display = ReconstructionDisplay.from_predictions(X, np.array([[2.0, 5.0, 3.0]]))
    assert np.isnan(display.input_lines_[0].get_ydata()).tolist() == [False, True, False]
    assert "MSE 0.5" in display.axes_[0].get_title(loc="left")
    empty = np.full((1, 4), np.nan)
    ReconstructionDisplay.from_predictions(empty, np.eye(4)[:1])
    ReconstructionDisplay.from_predictions(empty, np.eye(4)[:1], image_shape=(2, 2))


def test_small_axes_keep_their_places_when_saved_with_tight_edges():
    from io import BytesIO

    display = ReconstructionDisplay.from_predictions(np.eye(4), np.eye(4))
    display.figure_.canvas.draw()
    before = [pane.get_window_extent().size for pane in display.axes_]
    seen = []
    locate = display.axes_[-1].get_axes_locator()

    def note(ax, renderer):
        box = locate(ax, renderer)
        seen.append(ax.figure.transSubfigure.transform_bbox(box).size)
        return box

    display.axes_[-1].set_axes_locator(note)
    display.figure_.savefig(BytesIO(), bbox_inches="tight", dpi=display.figure_.dpi)
    np.testing.assert_allclose(seen[-1], before[-1], rtol=1e-6)


def test_reconstructions_of_frames_and_sparse_rows(frame):
    from scipy.sparse import csr_array

    imputer = DenoisingAutoencoder(max_epochs=2, random_state=0).fit(frame)
    display = ReconstructionDisplay.from_estimator(imputer, frame, n_rows=2)
    np.testing.assert_array_equal(display.X, frame[:2])
    X = np.eye(3)
    sparse = ReconstructionDisplay.from_predictions(csr_array(X), csr_array(X), n_rows=2)
    np.testing.assert_array_equal(sparse.X, X[:2])


@pytest.mark.parametrize("image_shape", [(5, 5), 12, (12,), (3, 4.0), (2, 3, 2), "ab", (-3, -4)])
def test_image_shape_must_fit(images, image_shape):
    with pytest.raises(ValueError, match=r"image_shape=.* must be \(height, width\).*which is 12"):
        ReconstructionDisplay.from_predictions(images, images, image_shape=image_shape)


def test_bad_reconstructions(images):
    with pytest.raises(ValueError, match=r"X_reconstructed has shape \(5, 12\).*\(6, 12\)"):
        ReconstructionDisplay.from_predictions(images, images[:5])
    with pytest.raises(ValueError, match="n_rows=0 must be an integer from 1 on"):
        ReconstructionDisplay.from_predictions(images, images, n_rows=0)
    with pytest.raises(ValueError, match="X must hold numbers only"):
        ReconstructionDisplay.from_predictions(pd.DataFrame({"a": ["b"]}), [[1.0]])


# Latents.


def test_points_are_the_latents(transformer, table):
    display = LatentSpaceDisplay.from_estimator(transformer, table, latents=(2, 0), s=7)
    (points,) = display.scatters_
    wanted = transformer.encode(table)[:, [2, 0]]
    np.testing.assert_allclose(points.get_offsets(), wanted, rtol=1e-6)
    assert points.get_sizes().tolist() == [7]
    assert display.ax_.get_xlabel() == "Latent 2 (3 in all)"
    assert display.ax_.get_ylabel() == "Latent 0"
    assert display.legend_ is display.colorbar_ is None


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (["b", "a", "b", "c"], ["a", "b", "c"]),
        ([3.0, 1.0, 3.0, 1.0], ["1", "3"]),
        ([True, False, True, True], ["False", "True"]),
        (pd.Series(["x", "y", "x", "x"], dtype="category", name="kind"), ["x", "y"]),
        (np.array([1, "a", 1, "a"], dtype=object), ["1", "a"]),
    ],
)
def test_classes_get_a_legend(y, names):
    Z = np.arange(8.0).reshape(4, 2)
    display = LatentSpaceDisplay.from_predictions(Z, y)
    assert texts(display.legend_.get_texts()) == names
    assert display.legend_.get_title().get_text() == (getattr(y, "name", None) or "")
    assert sum(len(points.get_offsets()) for points in display.scatters_) == 4
    colours = {tuple(points.get_facecolor()[0]) for points in display.scatters_}
    assert len(colours) == len(names)


@pytest.mark.parametrize("y", [[0.5, 1.0, 2.0], range(21)])
def test_quantities_get_a_colour_bar(y):
    Z = np.random.default_rng(0).normal(size=(len(y), 2))
    display = LatentSpaceDisplay.from_predictions(Z, pd.Series(y, name="age"))
    np.testing.assert_array_equal(display.scatters_[0].get_array(), y)
    assert display.colorbar_.ax.get_ylabel() == "age"
    assert display.legend_ is None


@pytest.mark.parametrize("y", [[0, 1, 0, 1], [0.5, 1.5, 2.5, 3.0]], ids=["classes", "numbers"])
@pytest.mark.parametrize(
    "colour", [{"c": "red"}, {"color": "red"}, {"c": ["red"] * 4}, {"color": [(1.0, 0, 0)] * 4}]
)
def test_colours_of_the_user_replace_the_defaults(y, colour):
    display = LatentSpaceDisplay.from_predictions(np.eye(4), y, **colour)
    for points in display.scatters_:
        assert {tuple(c[:3]) for c in points.get_facecolor()} == {(1.0, 0.0, 0.0)}
    assert display.colorbar_ is None
    assert (display.legend_ is None) == (y[0] == 0.5)


def test_options_of_each_point_follow_it():
    y, sizes = ["a", "b", "a", "b"], [1.0, 2.0, 3.0, 4.0]
    values = pd.Series([10.0, 20.0, 30.0, 40.0], index=[7, 8, 9, 10])
    display = LatentSpaceDisplay.from_predictions(np.eye(4), y, s=np.array(sizes), c=values)
    assert [p.get_sizes().tolist() for p in display.scatters_] == [[1.0, 3.0], [2.0, 4.0]]
    assert [p.get_array().tolist() for p in display.scatters_] == [[10.0, 30.0], [20.0, 40.0]]
    assert [p.get_clim() for p in display.scatters_] == [(10.0, 40.0)] * 2


def test_three_numbers_are_a_colour():
    display = LatentSpaceDisplay.from_predictions(np.eye(3), list("aba"), color=(0, 0, 1))
    assert {tuple(p.get_facecolor()[0][:3]) for p in display.scatters_} == {(0.0, 0.0, 1.0)}


def test_many_classes_differ_in_colour_or_marker():
    names = [f"class {i}" for i in range(40)]
    display = LatentSpaceDisplay.from_predictions(np.eye(40), names)
    looks = {
        (tuple(points.get_facecolor()[0]), points.get_paths()[0].vertices.tobytes())
        for points in display.scatters_
    }
    assert len(looks) == 40


def test_bad_latents():
    Z = np.eye(3)
    with pytest.raises(ValueError, match=r"latents=\(0, 3\) must be two integers from 0 to 2"):
        LatentSpaceDisplay.from_predictions(Z, latents=(0, 3))
    with pytest.raises(TypeError, match="latents=1 must be two integers"):
        LatentSpaceDisplay.from_predictions(Z, latents=1)
    with pytest.raises(ValueError, match=r"y has shape \(2,\).*3 rows"):
        LatentSpaceDisplay.from_predictions(Z, [0, 1])
    with pytest.raises(ValueError, match="y holds nan at 1; no label may be missing"):
        LatentSpaceDisplay.from_predictions(Z, [0, np.nan, 1])
    with pytest.raises(ValueError, match="Z has shape"):
        LatentSpaceDisplay.from_predictions([1.0, 2.0])


# Numbers of latents.


@pytest.mark.filterwarnings("ignore:n_components=8 is more than the 6 columns")
def test_latent_size_is_compared_with_pca(table):
    X = table[:, :6]
    ordered = AutoencoderTransformer(8, ordered=True, max_epochs=2, random_state=0).fit(X)
    display = LatentSizeDisplay.from_estimator(ordered, X)
    assert display.line_.get_xdata().tolist() == list(range(1, 9))
    np.testing.assert_array_equal(display.line_.get_ydata(), ordered.latent_size_curve_)
    pca = display.pca_line_.get_ydata()
    np.testing.assert_allclose(pca[:6], PCA().fit(X).explained_variance_ratio_.cumsum())
    assert np.isnan(pca[6:]).all()


def test_latent_size_of_a_table(table):
    transformer = AutoencoderTransformer(max_epochs=2, random_state=0)
    curve = latent_size_curve(transformer, table, [4, 2], cv=2)
    display = LatentSizeDisplay.from_curve(curve)
    assert display.line_.get_xdata().tolist() == [2, 4]
    np.testing.assert_array_equal(display.line_.get_ydata(), curve["explained"].loc[[2, 4]])
    np.testing.assert_array_equal(display.pca_line_.get_ydata(), curve["pca"].loc[[2, 4]])
    low, high = display.band_.get_datalim(display.ax_.transData).intervaly
    assert low == pytest.approx((curve["explained"] - curve["explained_std"]).min())
    assert high == pytest.approx((curve["explained"] + curve["explained_std"]).max())
    alone = LatentSizeDisplay.from_curve(curve[["explained"]])
    assert alone.pca_line_ is alone.band_ is None


def test_bad_latent_sizes():
    with pytest.raises(TypeError, match="table=list must be a pandas DataFrame"):
        LatentSizeDisplay.from_curve([1.0])
    with pytest.raises(ValueError, match=r"\['pca'\]; one must be 'explained'"):
        LatentSizeDisplay.from_curve(pd.DataFrame({"pca": [1.0]}))
    with pytest.raises(ValueError, match=r"pca has 1 entries.*2 numbers in n_components"):
        LatentSizeDisplay([1, 2], [0.1, 0.2], pca=[0.1]).plot()

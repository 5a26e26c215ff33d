"""Display of generated rows."""

import math

import numpy as np
from sklearn.utils import check_random_state

from skae.plotting._common import (
    BLUE,
    GREY,
    as_images,
    as_numbers,
    check_integer,
    draw_images,
    fitted,
    frame_images,
    legend_in_head,
    open_axes,
    open_panes,
    pick,
    place_of,
    require_matplotlib,
    shortened,
    size_in_points,
)
from skae.plotting._marginals import Marginal

MAX_PANES = 36
N_IMAGES, N_ROWS = 25, 1000
# In points: between marginals, between their lines, above them for the legend, least sizes.
GAP, LINE_GAP, UPRIGHT_LINE_GAP, HEAD, MIN_WIDTH, MIN_HEIGHT = 18, 34, 48, 34, 60, 20


class SampleGridDisplay:
    """Generated rows: images in a grid, or marginals of the columns with those of real rows.

    Columns of levels (text, flags, few distinct numbers) are bars, all others histograms.
    Use :meth:`from_estimator` or :meth:`from_predictions` to make one. All parameters are
    stored as attributes.

    Parameters
    ----------
    samples : array-like or frame of shape (n_samples, n_features)
        Generated rows.
    X : array-like or frame of shape (n_rows, n_features), default=None
        Real rows to compare with.
    image_shape : tuple of int, default=None
        (height, width), (height, width, channels) or (channels, height, width) of rows that
        are images, with 1 or 3 channels. None draws marginals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images, or in whose place the marginals are.
    axes_ : ndarray of matplotlib Axes of shape (n_drawn,)
        Axes of the marginals; only without `image_shape`.
    figure_ : matplotlib Figure
        Figure with the axes.
    sample_images_, real_images_ : list of matplotlib AxesImage
        Images; as many real ones as there are samples, or all of X.
    sample_artists_, real_artists_ : list
        Of each column's marginal: a BarContainer of the levels' shares, or the Polygon of a
        histogram.

    See Also
    --------
    ReconstructionDisplay : Rows and their reconstructions.

    Notes
    -----
    Histograms are densities and bars shares, so that both kinds of rows compare whatever their
    numbers. A missing cell is a level of its own among levels, and left out of histograms.
    The first columns are drawn, 36 at most, and no more than `ax` has room for.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAEGenerator
    >>> from skae.plotting import SampleGridDisplay
    >>> X = load_wine(as_frame=True).data
    >>> generator = VAEGenerator(max_epochs=5, random_state=0).fit(X)
    >>> display = SampleGridDisplay.from_estimator(generator, X, random_state=0)
    >>> display.axes_.shape
    (13,)
    """

    def __init__(self, samples, X=None, *, image_shape=None):
        self.samples = samples
        self.X = X
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls,
        generator,
        X=None,
        *,
        n_samples=None,
        image_shape=None,
        random_state=None,
        ax=None,
        **kwargs,
    ):
        """Generate rows and draw them.

        Parameters
        ----------
        generator : VAEGenerator
            A fitted generator, or any with a method ``sample``.
        X : array-like or frame of shape (n_rows, n_features), default=None
            Real rows to compare with; of images, as many as are generated, chosen at random.
        n_samples : int, default=None
            Number of rows to generate; None is 25 images, or 1000 rows for marginals.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws marginals.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``bar`` and ``stairs`` for the
            generated marginals.

        Returns
        -------
        display : SampleGridDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the generator is not fitted.
        TypeError
            If it has no method ``sample``.
        ValueError
            If `image_shape` does not fit the columns.
        """
        require_matplotlib(cls)
        sample = fitted(generator, "sample", have_it="a VAEGenerator")
        if n_samples is None:
            n_samples = N_ROWS if image_shape is None else N_IMAGES
        check_integer("n_samples", n_samples, 1)
        seeded = {} if random_state is None else {"random_state": random_state}
        samples = sample(n_samples, **seeded)
        # Mixtures of scikit-learn return a pair of rows and components.
        samples = samples[0] if isinstance(samples, tuple) else samples
        if X is not None and image_shape is not None:
            X = X if hasattr(X, "shape") else np.asarray(X)
            order = check_random_state(random_state).permutation(X.shape[0])
            X = pick(X, order[:n_samples])
        return cls(samples, X, image_shape=image_shape).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, samples, X=None, *, image_shape=None, ax=None, **kwargs):
        """Draw generated rows.

        Parameters
        ----------
        samples : array-like or frame of shape (n_samples, n_features)
            Generated rows.
        X : array-like or frame of shape (n_rows, n_features), default=None
            Real rows to compare with; of images, the first ones.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws marginals.
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``bar`` and ``stairs`` for the
            generated marginals.

        Returns
        -------
        display : SampleGridDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        ValueError
            If X has other columns than the samples, or `image_shape` does not fit them.
        """
        return cls(samples, X, image_shape=image_shape).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, **kwargs):
        """Draw the images or the marginals.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``bar`` and ``stairs`` for the
            generated marginals.

        Returns
        -------
        display : SampleGridDisplay
            The display itself.

        Raises
        ------
        ValueError
            If X has other columns than the samples, or `image_shape` does not fit them.
        """
        if self.image_shape is None:
            self._plot_marginals(ax, kwargs)
        else:
            self._plot_images(ax, kwargs)
        return self

    def _plot_images(self, ax, kwargs):
        rows = [as_numbers("samples", self.samples, 2)]
        if self.X is not None:
            rows.append(as_numbers("X", self.X, 2)[: len(rows[0])])
        images = [as_images(part, self.image_shape) for part in rows]
        shape, n_columns = images[0].shape[1:], math.ceil(math.sqrt(len(rows[0])))
        n_lines = math.ceil(len(rows[0]) / n_columns)
        # Blocks of images stand side by side, with half an image between them.
        starts = [block * (n_columns + 0.5) for block in range(len(images))]
        limits = rows[-1].min(), rows[-1].max()
        side = 3.6 / n_columns
        width = side * (starts[-1] + n_columns)
        height = side * n_lines * shape[0] / shape[1] + 0.3 * (len(images) > 1)
        ax = open_axes(self, ax, (width, height))
        drawn = []
        for part, start in zip(images, starts, strict=True):
            places = [(i // n_columns, start + i % n_columns) for i in range(len(part))]
            drawn.append(draw_images(ax, part, places, limits, **kwargs))
        self.sample_images_, self.real_images_ = (*drawn, [])[:2]
        frame_images(ax, (n_lines, starts[-1] + n_columns), shape)
        if len(images) > 1:
            edges = [
                place_of((0, at), shape)[1] for start in starts for at in (start, start + n_columns)
            ]
            ax.xaxis.tick_top()
            ax.set_xticks([sum(edges[:2]) / 2, sum(edges[2:]) / 2], ["generated", "real"])

    def _plot_marginals(self, ax, kwargs):
        names, samples = _columns("samples", self.samples)
        real = None if self.X is None else _columns("X", self.X)
        if real is not None and (len(real[0]) != len(names) or set(real[0]) != set(names)):
            raise ValueError(
                f"X has the columns {real[0]}; they must be those of samples, {names}."
            )
        marginals = [
            Marginal(samples[name], None if real is None else real[1][name])
            for name in names[:MAX_PANES]
        ]
        width = self._open_panes(ax, marginals)
        self.sample_artists_, self.real_artists_ = [], []
        for pane, name, marginal in zip(self.axes_, names, marginals, strict=False):
            generated, of_real = marginal.draw(pane, width, kwargs)
            self.sample_artists_.append(generated)
            self.real_artists_ += [] if of_real is None else [of_real]
            pane.set_title(shortened(name, width), fontsize="small", pad=3)
        self._explain(len(names))

    def _open_panes(self, ax, marginals):
        """Axes for as many marginals as there is room for; return their width in points."""
        n_panes, n_columns = len(marginals), min(len(marginals), 4 if len(marginals) <= 16 else 6)
        figsize = max(1.75 * n_columns, 3.2), 0.4 + 1.4 * math.ceil(n_panes / n_columns)
        size = 72 * np.array(figsize)
        if ax is not None:
            ax = open_axes(self, ax, figsize)
            size = size_in_points(ax)
            n_columns = min(n_columns, max(int((size[0] + GAP) // (MIN_WIDTH + GAP)), 1))
        width = (size[0] + GAP) / n_columns - GAP
        upright = any(marginal.is_upright(width) for marginal in marginals)
        gap = UPRIGHT_LINE_GAP if upright else LINE_GAP
        if ax is None:
            ax = open_axes(self, None, figsize)
        else:
            n_lines = max(int((size[1] - HEAD + gap) // (MIN_HEIGHT + gap)), 1)
            n_panes = min(n_panes, n_lines * n_columns)
        self.axes_ = open_panes(ax, n_panes, n_columns, gaps=(GAP, gap), head=HEAD)
        return width

    def _explain(self, n_features):
        from matplotlib.patches import Patch

        handles = [Patch(color=BLUE, label="generated")]
        if self.real_artists_:
            handles.append(Patch(color=GREY, alpha=0.4, label="real"))
        if n_features > len(self.axes_):
            label = f"(first {len(self.axes_)} of {n_features} columns)"
            handles.append(Patch(visible=False, label=label))
        legend_in_head(self.ax_, handles)


def _columns(name, rows):
    """Names of the columns, and the rows as a frame with these names."""
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        if hasattr(rows, "to_pandas"):
            # By columns, as `to_pandas` of polars needs pyarrow.
            rows = pd.DataFrame({column: rows[column].to_numpy() for column in rows.columns})
        else:
            rows = pd.DataFrame(as_numbers(name, rows, 2, allow_missing=True))
            rows.columns = [f"x{i}" for i in range(rows.shape[1])]
    if rows.size == 0:
        raise ValueError(f"{name} has shape {rows.shape}; it must hold rows and columns.")
    rows = rows.set_axis([str(column) for column in rows.columns], axis=1)
    if not rows.columns.is_unique:
        raise ValueError(f"{name} has two columns of one name among {list(rows.columns)}.")
    for column, values in rows.select_dtypes("number").items():
        if np.isinf(values.to_numpy(dtype=np.float64, na_value=np.nan)).any():
            raise ValueError(f"{name} holds an infinity in the column {column!r}.")
    return list(rows.columns), rows

"""Generated rows."""

import math

import numpy as np
from sklearn.utils import check_random_state

from skae.plotting._common import (
    BLUE,
    GREY,
    MAX_CLASSES,
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
)

MAX_PANES = 36
N_IMAGES, N_ROWS = 25, 1000


class SampleGridDisplay:
    """Generated rows: images in a grid, or the columns' marginals beside real ones.

    Columns of levels (text, flags, few distinct numbers) are bars, all others histograms.
    Use :meth:`from_estimator` or :meth:`from_predictions` to make one. All parameters are
    stored as attributes.

    Parameters
    ----------
    samples : array-like or frame of shape (n_samples, n_features)
        Generated rows.
    X : array-like or frame of shape (n_rows, n_features), default=None
        Real rows to stand beside them.
    image_shape : tuple of int, default=None
        (height, width), (height, width, channels) or (channels, height, width) of rows that
        are images, with 1 or 3 channels. None draws marginals.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images, or in whose place the marginals are.
    axes_ : ndarray of matplotlib Axes of shape (n_features,)
        Axes of the marginals; only there.
    figure_ : matplotlib Figure
        Figure with the axes.
    sample_images_, real_images_ : list of matplotlib AxesImage
        Images; as many real ones as there are samples, if X has so many.
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
    Of more than 36 columns the first 36 are drawn.

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
        """Draw new rows and make a picture of them.

        Parameters
        ----------
        generator : VAEGenerator
            A fitted generator, or any with a method ``sample``.
        X : array-like or frame of shape (n_rows, n_features), default=None
            Real rows to stand beside them; of images, as many as are generated, at random.
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
        # Mixtures of scikit-learn return their components beside the rows.
        samples = samples[0] if isinstance(samples, tuple) else samples
        if X is not None and image_shape is not None:
            X = X if hasattr(X, "shape") else np.asarray(X)
            order = check_random_state(random_state).permutation(X.shape[0])
            X = pick(X, order[:n_samples])
        return cls(samples, X, image_shape=image_shape).plot(ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, samples, X=None, *, image_shape=None, ax=None, **kwargs):
        """Make a picture of generated rows.

        Parameters
        ----------
        samples : array-like or frame of shape (n_samples, n_features)
            Generated rows.
        X : array-like or frame of shape (n_rows, n_features), default=None
            Real rows to stand beside them; of images, the first ones.
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
        n_panes = min(len(names), MAX_PANES)
        n_columns = min(n_panes, 4 if n_panes <= 16 else 6)
        n_lines = math.ceil(n_panes / n_columns)
        marginals = [
            _Marginal(samples[name], None if real is None else real[1][name])
            for name in names[:n_panes]
        ]
        ax = open_axes(self, ax, (1.75 * n_columns + 0.2, 0.3 + 1.35 * n_lines))
        self.axes_ = open_panes(ax, n_panes, n_columns, gaps=(14, 34), head=34)
        self.sample_artists_, self.real_artists_ = [], []
        for pane, name, marginal in zip(self.axes_, names, marginals, strict=False):
            generated, beside = marginal.draw(pane, kwargs)
            self.sample_artists_.append(generated)
            self.real_artists_ += [] if beside is None else [beside]
            pane.set_title(_shortened(name, 24 if n_columns <= 4 else 18), fontsize="small", pad=3)
        self._explain(ax, len(names))

    def _explain(self, ax, n_features):
        from matplotlib.patches import Patch

        handles = [Patch(color=BLUE, label="generated")]
        if self.real_artists_:
            handles.append(Patch(color=GREY, alpha=0.4, label="real"))
        if n_features > MAX_PANES:
            told = f"(the first {MAX_PANES} of {n_features} columns)"
            handles.append(Patch(visible=False, label=told))
        legend_in_head(ax, handles)


class _Marginal:
    """One column of generated rows and perhaps of real ones."""

    def __init__(self, generated, real):
        import pandas as pd

        self.columns = [generated] if real is None else [generated, real]
        both = pd.concat(self.columns, ignore_index=True)
        is_number = pd.api.types.is_numeric_dtype(both) and not pd.api.types.is_bool_dtype(both)
        self.is_date = pd.api.types.is_datetime64_any_dtype(both)
        few = both.nunique() <= min(MAX_CLASSES, 12) and len(both) > 40
        whole = is_number and bool((both.dropna() % 1 == 0).all())
        self.has_levels = not (is_number or self.is_date) or (whole and few)
        if self.has_levels:
            self.columns = [_level_names(column) for column in self.columns]
            self.levels = _ordered_levels(self.columns[-1], self.columns[0], is_number)

    def draw(self, pane, kwargs):
        """Artists of the generated and of the real column."""
        pane.set_yticks([])
        pane.spines[["left", "top", "right"]].set_visible(False)
        return self._draw_bars(pane, kwargs) if self.has_levels else self._draw_steps(pane, kwargs)

    def _draw_bars(self, pane, kwargs):
        shares = [
            [float((column == level).mean()) for level in self.levels] for column in self.columns
        ]
        places = np.arange(len(self.levels))
        beside = None
        if len(shares) > 1:
            beside = pane.bar(places + 0.2, shares[1], 0.4, color=GREY, alpha=0.4)
        width, shift = (0.7, 0.0) if beside is None else (0.4, 0.2)
        own = pane.bar(places - shift, shares[0], width, **{"color": BLUE} | kwargs)
        room = max(int(24 / len(self.levels)), 2)
        labels = [_shortened(level, room) for level in self.levels]
        pane.set_xticks(places, labels)
        pane.tick_params(axis="x", length=0)
        return own, beside

    def _draw_steps(self, pane, kwargs):
        from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num
        from matplotlib.ticker import MaxNLocator

        columns = [column.dropna() for column in self.columns]
        if self.is_date:
            columns = [date2num(column.to_numpy()) for column in columns]
        columns = [np.asarray(column, dtype=np.float64) for column in columns]
        edges = np.histogram_bin_edges(np.concatenate(columns), 25)
        heights = [np.histogram(column, edges, density=len(column) > 0)[0] for column in columns]
        beside = None
        if len(heights) > 1:
            beside = pane.stairs(heights[1], edges, fill=True, color=GREY, alpha=0.4)
        style = {"fill": beside is None, "color": BLUE, "linewidth": 1.3} | kwargs
        own = pane.stairs(heights[0], edges, **style)
        pane.set_ylim(bottom=0)
        pane.xaxis.set_major_locator(MaxNLocator(3))
        if self.is_date:
            locator = AutoDateLocator(minticks=2, maxticks=3)
            pane.xaxis.set_major_locator(locator)
            pane.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        return own, beside


def _columns(name, rows):
    """Names of the columns, and a frame with these."""
    import pandas as pd

    if not isinstance(rows, pd.DataFrame):
        if hasattr(rows, "to_pandas"):
            rows = rows.to_pandas()
        else:
            rows = pd.DataFrame(as_numbers(name, rows, 2, allow_missing=True))
            rows.columns = [f"x{i}" for i in range(rows.shape[1])]
    if rows.size == 0:
        raise ValueError(f"{name} has shape {rows.shape}; it must hold rows and columns.")
    rows = rows.set_axis([str(column) for column in rows.columns], axis=1)
    return list(rows.columns), rows


def _level_names(column):
    """Levels as text; a missing cell is one of them."""
    names = [
        "missing" if missing else f"{level:g}" if isinstance(level, float) else str(level)
        for level, missing in zip(column.tolist(), column.isna(), strict=True)
    ]
    return np.array(names, dtype=object)


def _ordered_levels(real, generated, is_number):
    """Numbers by size, other levels by how often they are real."""
    levels, counts = np.unique(np.append(real, generated), return_counts=True)
    if is_number:
        return sorted(
            levels, key=lambda level: (level == "missing", float(level.replace("missing", "0")))
        )
    return levels[np.argsort(-counts, kind="stable")].tolist()


def _shortened(text, room):
    return text if len(text) <= room else text[: room - 1].rstrip() + "…"

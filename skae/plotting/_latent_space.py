"""Display of rows in the plane of two latents."""

from numbers import Integral

import numpy as np

from skae.plotting._common import (
    MARKERS,
    PALETTE,
    as_labels,
    as_numbers,
    fitted,
    is_quantity,
    legend_beside,
    open_axes,
    quiet_spines,
    require_matplotlib,
    split_by_class,
)

MAX_LEGEND_ROWS = 15
# Options of `scatter` that may hold a value for each point.
COLOURS = {"color", "edgecolors", "facecolors"}
PER_POINT = COLOURS | {"alpha", "c", "linewidths", "s"}


class LatentSpaceDisplay:
    """Rows as points in the plane of two of their latents.

    Use :meth:`from_estimator` or :meth:`from_predictions` to make one. All parameters are
    stored as attributes.

    Parameters
    ----------
    Z : array-like of shape (n_samples, n_latents)
        Latents, two at least.
    y : array-like of shape (n_samples,), default=None
        Labels that colour the points: classes get a legend; numbers that are not whole, or
        more than 20 of them, a colour bar. Either is labelled by the name of a series.
    latents : tuple of (int, int), default=(0, 1)
        Which latents are drawn, along x and along y.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure with the axes.
    scatters_ : list of matplotlib PathCollection
        Points: one collection for each class, or a single one.
    legend_ : matplotlib Legend or None
        Legend of the classes.
    colorbar_ : matplotlib Colorbar or None
        Colour bar of the numbers.

    See Also
    --------
    LatentSizeDisplay : How much each number of latents explains.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LatentSpaceDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=5, random_state=0).fit(X)
    >>> display = LatentSpaceDisplay.from_estimator(autoencoder, X, y)
    >>> display.ax_.get_xlabel()
    'Latent 0 (8 in all)'
    """

    def __init__(self, Z, y=None, *, latents=(0, 1)):
        self.Z = Z
        self.y = y
        self.latents = latents

    @classmethod
    def from_estimator(cls, estimator, X, y=None, *, latents=(0, 1), ax=None, **kwargs):
        """Encode rows and draw them.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skae, or any with a method ``encode``.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Labels that colour the points, as in :class:`LatentSpaceDisplay`.
        latents : tuple of (int, int), default=(0, 1)
            Which latents are drawn, along x and along y.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.scatter``; `c` or `color` replaces the colours
            of y.

        Returns
        -------
        display : LatentSpaceDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no method ``encode``.
        ValueError
            If there are no such latents, or y does not fit the rows.
        """
        require_matplotlib(cls)
        encode = fitted(estimator, "encode", have_it="an estimator of skae")
        return cls.from_predictions(encode(X), y, latents=latents, ax=ax, **kwargs)

    @classmethod
    def from_predictions(cls, Z, y=None, *, latents=(0, 1), ax=None, **kwargs):
        """Draw latents.

        Parameters
        ----------
        Z : array-like of shape (n_samples, n_latents)
            Latents, two at least; any other coordinates serve as well.
        y : array-like of shape (n_samples,), default=None
            Labels that colour the points, as in :class:`LatentSpaceDisplay`.
        latents : tuple of (int, int), default=(0, 1)
            Which latents are drawn, along x and along y.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.scatter``; `c` or `color` replaces the colours
            of y.

        Returns
        -------
        display : LatentSpaceDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        TypeError, ValueError
            If there are no such latents, or y does not fit the rows.
        """
        return cls(Z, y, latents=latents).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, **kwargs):
        """Draw the points.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.scatter``; `c` or `color` replaces the colours
            of y.

        Returns
        -------
        display : LatentSpaceDisplay
            The display itself.

        Raises
        ------
        TypeError, ValueError
            If there are no such latents, or y does not fit the rows.
        """
        Z = as_numbers("Z", self.Z, 2)
        i, j = self._checked_latents(Z.shape[1])
        y = None if self.y is None else as_labels(self.y, len(Z))
        ax = open_axes(self, ax, (5.6, 4.2))
        size = float(np.clip(15000 / len(Z), 4, 24))
        style = {"s": size, "alpha": 0.8, "linewidths": 0} | kwargs
        is_coloured = "c" in style or "color" in style
        self.legend_ = self.colorbar_ = None
        if y is None or (is_coloured and is_quantity(y)):
            style = style if is_coloured else {"color": PALETTE[0]} | style
            self.scatters_ = [ax.scatter(Z[:, i], Z[:, j], **style)]
        elif is_quantity(y):
            colours = {"c": y.astype(np.float64), "cmap": "viridis"}
            self.scatters_ = [ax.scatter(Z[:, i], Z[:, j], **colours | style)]
            self.colorbar_ = self.figure_.colorbar(self.scatters_[0], ax=ax)
            self.colorbar_.outline.set_visible(False)
            self.colorbar_.solids.set_alpha(1)
            self.colorbar_.set_label(self._label_name())
        else:
            self._draw_classes(ax, Z[:, [i, j]], y, style)
        ax.set(xlabel=f"Latent {i} ({Z.shape[1]} in all)", ylabel=f"Latent {j}")
        quiet_spines(ax)
        return self

    def _draw_classes(self, ax, points, y, style):
        is_coloured = "c" in style or "color" in style
        c = np.asarray(style.get("c", ""))
        if c.shape == y.shape and c.dtype.kind in "biuf" and "norm" not in style:
            style = {"vmin": np.nanmin(c), "vmax": np.nanmax(c)} | style  # one scale for all
        self.scatters_ = []
        for k, (name, mask) in enumerate(split_by_class(y)):
            colour = PALETTE[k % len(PALETTE)]
            marker = MARKERS[k // len(PALETTE) % len(MARKERS)]
            options = {"marker": marker, "label": name}
            options |= {} if is_coloured else {"color": colour}
            self.scatters_.append(ax.scatter(*points[mask].T, **options | _of_rows(style, mask)))
        n_columns = -(-len(self.scatters_) // MAX_LEGEND_ROWS)
        self.legend_ = legend_beside(ax, ncols=n_columns, title=self._label_name())
        for handle in self.legend_.legend_handles:
            handle.set(sizes=[30], alpha=1)

    def _label_name(self):
        """Name of a series of labels, or an empty string."""
        name = getattr(self.y, "name", None)
        return name if isinstance(name, str) else ""

    def _checked_latents(self, n_latents):
        latents = self.latents
        message = f"latents={latents!r} must be two integers from 0 to {n_latents - 1}."
        is_pair = isinstance(latents, tuple | list) and len(latents) == 2
        if not is_pair or not all(isinstance(latent, Integral) for latent in latents):
            raise TypeError(message)
        if min(latents) < 0 or max(latents) >= n_latents:
            raise ValueError(message)
        return latents


def _of_rows(style, mask):
    """Options for the points of a mask, where options hold a value for each point."""
    from matplotlib.colors import is_color_like

    options = dict(style)
    for name in style.keys() & PER_POINT:
        values = style[name]
        # Three numbers may be one colour, as a name of three letters is.
        is_one = isinstance(values, str) or (name in COLOURS and is_color_like(values))
        if not is_one and np.iterable(values) and len(values) == len(mask):
            options[name] = [v for v, is_chosen in zip(values, mask, strict=True) if is_chosen]
    return options

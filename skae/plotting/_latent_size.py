"""Display of the variance explained by each number of latents."""

import numpy as np

from skae.plotting._common import (
    BLUE,
    GREY,
    as_numbers,
    fitted,
    line_style,
    open_axes,
    quiet_spines,
    require_matplotlib,
)


class LatentSizeDisplay:
    """Share of the variance explained by the number of latents, compared with PCA.

    Use :meth:`from_estimator` or :meth:`from_curve` to make one. All parameters are stored
    as attributes.

    Parameters
    ----------
    n_components : array-like of shape (n_sizes,)
        Numbers of latents.
    explained : array-like of shape (n_sizes,)
        Share of the variance that each number of latents explains; 1 is a perfect
        reconstruction.
    explained_std : array-like of shape (n_sizes,), default=None
        Standard deviation of `explained` over the folds.
    pca : array-like of shape (n_sizes,), default=None
        Share that the same number of principal components explains; NaN if there are fewer.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the curves.
    figure_ : matplotlib Figure
        Figure with the axes.
    line_ : matplotlib Line2D
        Curve of `explained`.
    band_ : matplotlib PolyCollection or None
        Band of one standard deviation on either side.
    pca_line_ : matplotlib Line2D or None
        Curve of `pca`.

    See Also
    --------
    skae.latent_size_curve : The table behind :meth:`from_curve`.

    Examples
    --------
    From one fit with ordered latents:

    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import LatentSizeDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> ordered = AutoencoderTransformer(8, ordered=True, max_epochs=5, random_state=0).fit(X)
    >>> display = LatentSizeDisplay.from_estimator(ordered, X)
    >>> display.n_components.tolist()
    [1, 2, 3, 4, 5, 6, 7, 8]

    From a fit for each number of latents:

    >>> from skae import latent_size_curve
    >>> transformer = AutoencoderTransformer(max_epochs=2, random_state=0)
    >>> table = latent_size_curve(transformer, X, [2, 4], cv=2)
    >>> display = LatentSizeDisplay.from_curve(table)
    """

    def __init__(self, n_components, explained, *, explained_std=None, pca=None):
        self.n_components = n_components
        self.explained = explained
        self.explained_std = explained_std
        self.pca = pca

    @classmethod
    def from_estimator(cls, estimator, X, *, ax=None, **kwargs):
        """Draw the curve of an estimator with ordered latents, and that of PCA of X.

        Parameters
        ----------
        estimator : AutoencoderTransformer
            Fitted with ordered latents. Its curve was measured on its held-out rows.
        X : array-like of shape (n_samples, n_features)
            Rows that PCA is fitted to. Its curve is the share explained of these same rows.
            For an estimator of mixed tables, it is left out.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.plot`` for both curves.

        Returns
        -------
        display : LatentSizeDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If its latents are not ordered.
        """
        from sklearn.decomposition import PCA

        require_matplotlib(cls)
        have_it = (
            "an AutoencoderTransformer with ordered latents: ordered=True, or a share of the "
            "variance as n_components"
        )
        explained = fitted(estimator, "latent_size_curve_", "attribute", have_it=have_it)
        # Where it was fitted to a tensor, the attribute is one, and what it holds is NumPy's.
        explained = vars(estimator).get("latent_size_curve_", explained)
        pca = None
        if getattr(estimator, "_columns", None) is None:
            X = as_numbers("X", X, 2)
            pca = np.full(len(explained), np.nan)
            shares = PCA(min(len(pca), *X.shape)).fit(X).explained_variance_ratio_
            pca[: len(shares)] = np.cumsum(shares)
        sizes = np.arange(1, len(explained) + 1)
        return cls(sizes, explained, pca=pca).plot(ax=ax, **kwargs)

    @classmethod
    def from_curve(cls, table, *, ax=None, **kwargs):
        """Draw the table of :func:`skae.latent_size_curve`.

        Parameters
        ----------
        table : pandas.DataFrame
            Indexed by the number of latents, with a column ``explained`` and, if they are
            to be drawn, ``explained_std`` and ``pca``.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.plot`` for both curves.

        Returns
        -------
        display : LatentSizeDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        TypeError, ValueError
            If the table is not such a table.
        """
        if not hasattr(table, "iloc") or not hasattr(table, "columns"):
            raise TypeError(
                f"table={type(table).__name__} must be a pandas DataFrame as "
                "skae.latent_size_curve returns it."
            )
        if "explained" not in table:
            raise ValueError(
                f"table has the columns {list(table.columns)}; one must be 'explained', as in the "
                "table of skae.latent_size_curve."
            )
        others = {name: table.get(name) for name in ("explained_std", "pca")}
        return cls(table.index, table["explained"], **others).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, **kwargs):
        """Draw the curves.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.plot`` for both curves.

        Returns
        -------
        display : LatentSizeDisplay
            The display itself.

        Raises
        ------
        ValueError
            If the curves are not of one length.
        """
        sizes, explained, std, pca = self._checked()
        ax = open_axes(self, ax, (5.6, 3.6))
        from matplotlib.ticker import MaxNLocator, PercentFormatter

        self.pca_line_ = self.band_ = None
        if pca is not None:
            style = {"color": GREY, "linestyle": "--", "marker": "o", "markersize": 4}
            (self.pca_line_,) = ax.plot(sizes, pca, **line_style(style | {"label": "PCA"}, kwargs))
        style = {"color": BLUE, "linewidth": 2, "marker": "o", "markersize": 4}
        style = line_style(style | {"label": "autoencoder"}, kwargs)
        (self.line_,) = ax.plot(sizes, explained, **style)
        if std is not None:
            colour = self.line_.get_color()
            low, high = explained - std, explained + std
            self.band_ = ax.fill_between(sizes, low, high, color=colour, alpha=0.2, linewidth=0)
        ax.set(xlabel="Number of latents", ylabel="Variance explained")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        quiet_spines(ax)
        ax.legend(frameon=False, fontsize="small", loc="lower right")
        return self

    def _checked(self):
        """The curves in order of size."""
        sizes = as_numbers("n_components", self.n_components, 1)
        order = np.argsort(sizes, kind="stable")
        curves = []
        for name in ("explained", "explained_std", "pca"):
            curve = getattr(self, name)
            if curve is not None:
                curve = as_numbers(name, curve, 1, allow_missing=name == "pca")
                if len(curve) != len(sizes):
                    raise ValueError(
                        f"{name} has {len(curve)} entries; it must have one for each of the "
                        f"{len(sizes)} numbers in n_components."
                    )
                curve = curve[order]
            curves.append(curve)
        return sizes[order], *curves

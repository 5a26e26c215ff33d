"""Display of the contributions of columns to the outlier score of a row."""

import numpy as np

from skae.plotting._common import (
    GREY,
    ORANGE,
    as_images,
    as_numbers,
    check_integer,
    draw_images,
    fitted,
    format_number,
    frame_images,
    makes_room,
    open_axes,
    pick,
    quiet_spines,
    require_matplotlib,
)


class ContributionDisplay:
    """What each column contributes to the outlier score of one row.

    Bars, the largest contribution on top and all small ones pooled at the bottom, so that
    they sum to the score; or an image, where rows are images. Use :meth:`from_estimator` or
    :meth:`from_predictions` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    contributions : array-like of shape (n_features,)
        Contributions of the columns; they sum to ``-score_samples``, so that the larger one
        is, the more it makes the row an outlier.
    feature_names : array-like of str of shape (n_features,), default=None
        Names of the columns; None calls them x0, x1, ...
    image_shape : tuple of int, default=None
        (height, width), (height, width, channels) or (channels, height, width) of rows that
        are images; the channels' contributions are added. None draws bars.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the bars or the image.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : matplotlib BarContainer
        Bars, from the largest contribution to the smallest, then the rest together.
    image_ : matplotlib AxesImage
        Image; only with `image_shape`.
    colorbar_ : matplotlib Colorbar
        Colour bar; only with `image_shape`.

    See Also
    --------
    skae.AutoencoderOutlierDetector.explain : Contributions of all rows.
    OutlierScoreDisplay : Scores of all rows.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.plotting import ContributionDisplay
    >>> X = load_wine(as_frame=True).data
    >>> X.loc[3, "ash"] = 9.0  # an error of measurement
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    >>> display = ContributionDisplay.from_estimator(detector, X, row=3, n_features=5)
    >>> display.ax_.get_yticklabels()[0].get_text()
    'ash'
    """

    def __init__(self, contributions, *, feature_names=None, image_shape=None):
        self.contributions = contributions
        self.feature_names = feature_names
        self.image_shape = image_shape

    @classmethod
    def from_estimator(
        cls, detector, X, *, row=0, n_features=10, image_shape=None, ax=None, **kwargs
    ):
        """Explain the score of one row, which the title names.

        Parameters
        ----------
        detector : AutoencoderOutlierDetector
            A fitted detector, or any with a method ``explain``.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        row : int, default=0
            Position in X of the row that is explained.
        n_features : int, default=10
            Number of columns with a bar of their own.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws bars.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.barh`` or ``imshow``.

        Returns
        -------
        display : ContributionDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it has no method ``explain``.
        ValueError
            If there is no such row, or `image_shape` does not fit the columns.
        """
        require_matplotlib(cls)
        explain = fitted(detector, "explain", have_it="an AutoencoderOutlierDetector")
        X = X if hasattr(X, "shape") else np.asarray(X)
        check_integer("row", row, 0, X.shape[0] - 1)
        contributions = explain(pick(X, slice(row, row + 1)))
        options = {"n_features": n_features, "image_shape": image_shape, "ax": ax}
        display = cls.from_predictions(contributions, **options, **kwargs)
        display.ax_.set_title(f"Row {X.index[row] if hasattr(X, 'iloc') else row}")
        return display

    @classmethod
    def from_predictions(
        cls,
        contributions,
        *,
        feature_names=None,
        n_features=10,
        image_shape=None,
        ax=None,
        **kwargs,
    ):
        """Draw the contributions to one row's score.

        Parameters
        ----------
        contributions : array-like of shape (n_features,) or (1, n_features)
            Contributions of the columns to one row's score.
        feature_names : array-like of str of shape (n_features,), default=None
            Names of the columns; None takes them from a pandas or polars container.
        n_features : int, default=10
            Number of columns with a bar of their own.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws bars.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.barh`` or ``imshow``.

        Returns
        -------
        display : ContributionDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        """
        if feature_names is None:
            feature_names = _names_in(contributions)
        if len(np.shape(contributions)) == 2 and len(contributions) == 1:
            contributions = np.asarray(contributions)[0]
        contributions = as_numbers("contributions", contributions, 1)
        display = cls(contributions, feature_names=feature_names, image_shape=image_shape)
        return display.plot(ax=ax, n_features=n_features, **kwargs)

    def plot(self, *, ax=None, n_features=10, **kwargs):
        """Draw the bars or the image.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        n_features : int, default=10
            Number of columns with a bar of their own.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.barh`` or ``imshow``.

        Returns
        -------
        display : ContributionDisplay
            The display itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        """
        contributions = as_numbers("contributions", self.contributions, 1)
        check_integer("n_features", n_features, 1)
        if self.image_shape is None:
            self._plot_bars(contributions, n_features, ax, kwargs)
        else:
            self._plot_image(contributions, ax, kwargs)
        return self

    def _plot_bars(self, contributions, n_features, ax, kwargs):
        names = self._checked_names(len(contributions))
        order = np.argsort(-np.abs(contributions), kind="stable")
        largest, pooled = order[:n_features], order[n_features:]
        lengths, labels = contributions[largest].tolist(), [names[i] for i in largest]
        colours = [ORANGE] * len(largest)
        if len(pooled):
            lengths.append(contributions[pooled].sum())
            labels.append(f"{len(pooled)} other column{'s' * (len(pooled) > 1)}")
            colours.append(GREY)
        ax = open_axes(self, ax, (5.6, 0.9 + 0.26 * len(lengths)))
        style = {"color": colours, "alpha": 1.0 if makes_room(ax) else 0.45} | kwargs
        self.bars_ = ax.barh(range(len(lengths)), lengths, **style)
        ax.tick_params(axis="y", length=0)
        if makes_room(ax):
            ax.set_yticks(range(len(lengths)), labels, fontsize="small")
            ax.bar_label(self.bars_, fmt=format_number, padding=3, fontsize="x-small", color=GREY)
            ax.margins(x=0.12)
        else:
            # Long names would overlap the axes to the left, so they are written on the bars.
            labels = [
                f"{text}  {format_number(length)}"
                for text, length in zip(labels, lengths, strict=True)
            ]
            ax.set_yticks(range(len(lengths)), labels, fontsize="x-small", ha="left")
            ax.tick_params(axis="y", pad=-5)
        ax.invert_yaxis()
        ax.set_xlabel(_axis_label(contributions))
        quiet_spines(ax)

    def _plot_image(self, contributions, ax, kwargs):
        (image,) = as_images(contributions[np.newaxis], self.image_shape)
        image = image.sum(axis=-1) if image.ndim == 3 else image
        height = np.clip(3.4 * image.shape[0] / image.shape[1], 1.5, 5)
        limits = min(image.min(), 0.0), image.max()
        ax = open_axes(self, ax, (4.6, height))
        style = {"cmap": "magma"} | kwargs
        (self.image_,) = draw_images(ax, image[np.newaxis], [(0, 0)], limits, **style)
        frame_images(ax, (1, 1), image.shape)
        self.colorbar_ = self.figure_.colorbar(self.image_, ax=ax)
        self.colorbar_.outline.set_visible(False)
        self.colorbar_.set_label(_axis_label(contributions), fontsize="small")

    def _checked_names(self, n_features):
        if self.feature_names is None:
            return [f"x{i}" for i in range(n_features)]
        names = [str(name) for name in self.feature_names]
        if len(names) != n_features:
            raise ValueError(
                f"feature_names has {len(names)} entries; it must name each of "
                f"{n_features} columns."
            )
        return names


def _axis_label(contributions):
    return (
        f"Contribution to \N{MINUS SIGN}score_samples, {format_number(contributions.sum())} in all"
    )


def _names_in(contributions):
    """Names of the columns of a frame or series, else None."""
    names = getattr(contributions, "columns", None)
    if names is None:
        names = getattr(contributions, "index", None)
    if names is None or callable(names):
        return None
    names = list(names)
    return names if all(isinstance(name, str) for name in names) else None

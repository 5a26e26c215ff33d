"""Display of rows and their reconstructions."""

import numpy as np

from skae.plotting._common import (
    BLUE,
    GREY,
    ORANGE,
    as_images,
    as_numbers,
    check_integer,
    draw_images,
    fitted,
    format_number,
    frame_images,
    legend_in_head,
    line_style,
    open_axes,
    open_panes,
    pick,
    place_of,
    quiet_spines,
    require_matplotlib,
)


class ReconstructionDisplay:
    """Rows beside their reconstructions, as images or as curves.

    Images stand in two lines, the input above the output. Curves are drawn one over the
    other, with the error filled between them. Use :meth:`from_estimator` or
    :meth:`from_predictions` to make one. All parameters are stored as attributes.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features)
        Rows; NaN is a missing cell.
    X_reconstructed : array-like of shape (n_samples, n_features)
        Their reconstructions.
    image_shape : tuple of int, default=None
        (height, width), (height, width, channels) or (channels, height, width) of rows that
        are images, with 1 or 3 channels. None draws curves.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the images, or in whose place the curves are.
    axes_ : ndarray of matplotlib Axes of shape (n_samples,)
        Axes of the curves; only without `image_shape`.
    figure_ : matplotlib Figure
        Figure with the axes.
    input_images_, output_images_ : list of matplotlib AxesImage
        Images.
    input_lines_, output_lines_ : list of matplotlib Line2D
        Curves.
    error_areas_ : list of matplotlib PolyCollection
        Areas between the curves.

    See Also
    --------
    SampleGridDisplay : Generated rows.

    Notes
    -----
    All images share one grey scale, from the smallest to the largest value of X; other values
    are clipped.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> from skae.plotting import ReconstructionDisplay
    >>> X, _ = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=5, random_state=0).fit(X)
    >>> display = ReconstructionDisplay.from_estimator(autoencoder, X, image_shape=(8, 8))
    >>> len(display.output_images_)
    8
    """

    def __init__(self, X, X_reconstructed, *, image_shape=None):
        self.X = X
        self.X_reconstructed = X_reconstructed
        self.image_shape = image_shape

    @classmethod
    def from_estimator(cls, estimator, X, *, image_shape=None, n_rows=8, ax=None, **kwargs):
        """Reconstruct the first rows and draw both.

        Parameters
        ----------
        estimator : object
            A fitted estimator of skae, or any with a method ``reconstruct``.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws curves.
        n_rows : int, default=8
            Number of rows of X to draw.
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``plot`` for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        TypeError
            If it has no method ``reconstruct``.
        ValueError
            If columns are not numbers, or `image_shape` does not fit them.
        """
        require_matplotlib(cls)
        reconstruct = fitted(estimator, "reconstruct", have_it="an estimator of skae")
        check_integer("n_rows", n_rows, 1)
        X = pick(X, slice(n_rows))
        outputs = reconstruct(X)
        options = {"image_shape": image_shape, "n_rows": n_rows, "ax": ax}
        return cls.from_predictions(X, outputs, **options, **kwargs)

    @classmethod
    def from_predictions(cls, X, X_reconstructed, *, image_shape=None, n_rows=8, ax=None, **kwargs):
        """Draw the first rows and their reconstructions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN is a missing cell.
        X_reconstructed : {array-like, sparse matrix} of shape (n_samples, n_features)
            Their reconstructions.
        image_shape : tuple of int, default=None
            Shape of the rows as images; None draws curves.
        n_rows : int, default=8
            Number of rows of X to draw.
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``plot`` for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        TypeError, ValueError
            If columns are not numbers, the arrays do not fit together, or `image_shape` does
            not fit them.
        """
        check_integer("n_rows", n_rows, 1)
        X = as_numbers("X", pick(X, slice(n_rows)), 2, allow_missing=True)
        X_reconstructed = as_numbers("X_reconstructed", pick(X_reconstructed, slice(n_rows)), 2)
        return cls(X, X_reconstructed, image_shape=image_shape).plot(ax=ax, **kwargs)

    def plot(self, *, ax=None, **kwargs):
        """Draw the rows.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, or in whose place to draw; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.imshow``, or to ``plot`` for both curves.

        Returns
        -------
        display : ReconstructionDisplay
            The display itself.

        Raises
        ------
        TypeError, ValueError
            If columns are not numbers, the arrays do not fit together, or `image_shape` does
            not fit them.
        """
        X = as_numbers("X", self.X, 2, allow_missing=True)
        outputs = as_numbers("X_reconstructed", self.X_reconstructed, 2)
        if X.shape != outputs.shape:
            raise ValueError(
                f"X_reconstructed has shape {outputs.shape}; it must have that of X, {X.shape}."
            )
        if self.image_shape is None:
            self._plot_curves(X, outputs, ax, kwargs)
        else:
            self._plot_images(X, outputs, ax, kwargs)
        return self

    def _plot_images(self, X, outputs, ax, kwargs):
        images = as_images(X, self.image_shape), as_images(outputs, self.image_shape)
        scale = X if np.isfinite(X).any() else outputs
        limits = np.nanmin(scale), np.nanmax(scale)
        shape = images[0].shape[1:]
        n_images, side = len(X), 0.9
        height = 2 * side * shape[0] / shape[1]
        ax = open_axes(self, ax, (side * n_images + 0.7, height + 0.1))
        self.input_images_, self.output_images_ = (
            draw_images(ax, part, [(row, i) for i in range(n_images)], limits, **kwargs)
            for row, part in enumerate(images)
        )
        frame_images(ax, (2, n_images), shape)
        middles = [place_of((row, 0), shape)[0] + shape[0] / 2 for row in range(2)]
        ax.set_yticks(middles, ["input", "output"])

    def _plot_curves(self, X, outputs, ax, kwargs):
        n_columns = 1 if len(X) < 4 else 2
        n_lines = -(-len(X) // n_columns)
        ax = open_axes(self, ax, (6.4, 0.4 + 1.2 * n_lines))
        self.axes_ = open_panes(ax, len(X), n_columns, gaps=(36, 30), head=34)
        self.input_lines_, self.output_lines_, self.error_areas_ = [], [], []
        columns = np.arange(X.shape[1])
        for i, pane in enumerate(self.axes_):
            style = {"color": GREY, "alpha": 0.6, "linewidth": 2.2, "label": "input"}
            self.input_lines_ += pane.plot(columns, X[i], **line_style(style, kwargs))
            style = {"color": BLUE, "linewidth": 1.2, "label": "output"}
            self.output_lines_ += pane.plot(columns, outputs[i], **line_style(style, kwargs))
            style = {"color": ORANGE, "alpha": 0.35, "linewidth": 0, "label": "error"}
            self.error_areas_.append(pane.fill_between(columns, X[i], outputs[i], **style))
            observed = ~np.isnan(X[i])
            error = np.square(X[i] - outputs[i])[observed].sum() / max(observed.sum(), 1)
            title = f"row {i}, MSE {format_number(error)}"
            pane.set_title(title, loc="left", fontsize="x-small", color=GREY, pad=3)
            pane.margins(x=0)
            quiet_spines(pane)
            if i >= len(X) - n_columns:
                pane.set_xlabel("Column", fontsize="small", labelpad=2)
        handles = [self.input_lines_[0], self.output_lines_[0], self.error_areas_[0]]
        legend_in_head(ax, handles)

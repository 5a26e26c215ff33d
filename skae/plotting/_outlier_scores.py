"""Display of outlier scores and the threshold."""

from numbers import Integral

import numpy as np

from skae.plotting._common import (
    BLUE,
    ORANGE,
    PALETTE,
    as_labels,
    as_numbers,
    check_integer,
    fitted,
    format_number,
    open_axes,
    quiet_spines,
    require_matplotlib,
    split_by_class,
)


class OutlierScoreDisplay:
    """Histogram of outlier scores with the threshold.

    Scores are scikit-learn's: higher is more normal, and rows below the threshold are
    outliers. Use :meth:`from_estimator` or :meth:`from_predictions` to make one. All
    parameters are stored as attributes.

    Parameters
    ----------
    scores : array-like of shape (n_samples,)
        Scores of a detector's ``score_samples``.
    threshold : float, default=None
        The detector's ``offset_``: rows that score lower are outliers.
    y : array-like of shape (n_samples,), default=None
        1 for inliers and -1 for outliers as in ``predict``, or any other classes. None
        colours rows by the side of the threshold.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes with the histogram.
    figure_ : matplotlib Figure
        Figure with the axes.
    bars_ : list of matplotlib BarContainer
        Bars, one container for each entry of the legend; they are stacked.
    threshold_line_ : matplotlib Line2D or None
        Line at the threshold.

    See Also
    --------
    ContributionDisplay : Which columns a score comes from.

    Notes
    -----
    Where the number of bins is given, a threshold among the scores is the edge between two of
    them, so that a bar holds either outliers or inliers. There are fewer bins where scores are
    large and hardly differ.

    Examples
    --------
    >>> from sklearn.datasets import load_breast_cancer
    >>> from skae import AutoencoderOutlierDetector
    >>> from skae.plotting import OutlierScoreDisplay
    >>> X, y = load_breast_cancer(return_X_y=True)
    >>> detector = AutoencoderOutlierDetector(max_epochs=5, random_state=0).fit(X)
    >>> display = OutlierScoreDisplay.from_estimator(detector, X)
    >>> display.threshold == detector.offset_
    True
    """

    def __init__(self, scores, *, threshold=None, y=None):
        self.scores = scores
        self.threshold = threshold
        self.y = y

    @classmethod
    def from_estimator(cls, detector, X, y=None, *, bins=50, ax=None, **kwargs):
        """Score rows and draw the scores with the detector's threshold.

        Parameters
        ----------
        detector : object
            A fitted AutoencoderOutlierDetector, or any with ``score_samples``. Without an
            ``offset_``, no threshold is drawn.
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows, as in :class:`OutlierScoreDisplay`.
        bins : int, str or array-like of float, default=50
            Number of bins, a rule of :func:`numpy.histogram_bin_edges`, or edges.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.hist``.

        Returns
        -------
        display : OutlierScoreDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        NotFittedError
            If the detector is not fitted.
        TypeError
            If it has no method ``score_samples``.
        ValueError
            If y does not fit the rows.
        """
        require_matplotlib(cls)
        have_it = "an AutoencoderOutlierDetector, or another detector with score_samples"
        scores = fitted(detector, "score_samples", have_it=have_it)(X)
        threshold = getattr(detector, "offset_", None)
        if threshold is not None:
            threshold = np.asarray(threshold).item()
        return cls(scores, threshold=threshold, y=y).plot(ax=ax, bins=bins, **kwargs)

    @classmethod
    def from_predictions(cls, scores, y=None, *, threshold=None, bins=50, ax=None, **kwargs):
        """Draw scores.

        Parameters
        ----------
        scores : array-like of shape (n_samples,)
            Scores; higher is more normal.
        y : array-like of shape (n_samples,), default=None
            Classes of the rows, as in :class:`OutlierScoreDisplay`.
        threshold : float, default=None
            Rows that score lower are outliers. For scores of ``decision_function`` it is 0.
        bins : int, str or array-like of float, default=50
            Number of bins, a rule of :func:`numpy.histogram_bin_edges`, or edges.
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.hist``.

        Returns
        -------
        display : OutlierScoreDisplay
            The display; the figure is its `figure_`.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        """
        return cls(scores, threshold=threshold, y=y).plot(ax=ax, bins=bins, **kwargs)

    def plot(self, *, ax=None, bins=50, **kwargs):
        """Draw the histogram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into; None makes a figure.
        bins : int, str or array-like of float, default=50
            Number of bins, a rule of :func:`numpy.histogram_bin_edges`, or edges.
        **kwargs : dict
            Passed to ``matplotlib.axes.Axes.hist``.

        Returns
        -------
        display : OutlierScoreDisplay
            The display itself.

        Raises
        ------
        TypeError, ValueError
            If a parameter is invalid.
        """
        scores = as_numbers("scores", self.scores, 1)
        y = None if self.y is None else as_labels(self.y, len(scores))
        threshold = self.threshold
        if threshold is not None:
            threshold = float(as_numbers("threshold", threshold, 0))
        edges = _edges(scores, bins, threshold)
        ax = open_axes(self, ax, (5.6, 3.6))
        self.threshold_line_ = None
        names, masks, colours = zip(*_groups(scores, threshold, y), strict=True)
        labels = [f"{name} ({mask.sum()})" for name, mask in zip(names, masks, strict=True)]
        style = {"color": list(colours), "label": labels, "stacked": True} | kwargs
        bars = ax.hist([scores[mask] for mask in masks], edges, **style)[2]
        self.bars_ = [bars] if len(masks) == 1 else list(bars)
        if threshold is not None:
            style = {"color": "black", "linestyle": "--", "linewidth": 1}
            style |= {"label": f"threshold, {format_number(threshold)}"}
            self.threshold_line_ = ax.axvline(threshold, **style)
        ax.set(xlabel="Score (lower: outliers, higher: more normal)", ylabel="Rows")
        quiet_spines(ax)
        if y is not None or threshold is not None:
            ax.legend(frameon=False, fontsize="small")
        return self


def _groups(scores, threshold, y):
    """(label, mask, colour) of each group of bars."""
    if y is None and threshold is None:
        return [("rows", np.ones(len(scores), dtype=bool), BLUE)]
    if y is None:
        below = scores < threshold
        return [("below: outliers", below, ORANGE), ("above: inliers", ~below, BLUE)]
    if set(y.tolist()) <= {-1, 1}:
        return [("outliers", y == -1, ORANGE), ("inliers", y == 1, BLUE)]
    colours = (PALETTE[k % len(PALETTE)] for k in range(len(scores)))
    return [(*group, colour) for group, colour in zip(split_by_class(y), colours, strict=False)]


def _edges(scores, bins, threshold):
    """Edges of bins; where they may be chosen, the threshold is one of them."""
    if isinstance(bins, str):
        try:
            edges = np.histogram_bin_edges(scores, bins)
        except ValueError as error:
            raise ValueError(f"bins={bins!r}: {error}") from None
    elif isinstance(bins, Integral) or np.ndim(bins) == 0:
        check_integer("bins", bins, 1)
        edges = _even_edges(scores, bins)
    else:
        edges = as_numbers("bins", bins, 1)
        if len(edges) < 2 or (np.diff(edges) <= 0).any():
            raise ValueError(f"bins={bins!r} must be edges that rise, two at least.")
        return edges
    if threshold is None or not edges[0] <= threshold <= edges[-1]:
        return edges
    width = edges[1] - edges[0]
    first = np.floor((scores.min() - threshold) / width)
    # A row at the threshold is an inlier, so the bin after it is needed.
    last = np.floor((scores.max() - threshold) / width) + 1
    edges = threshold + width * np.arange(first, last + 1)
    edges[0] = min(edges[0], scores.min())  # rounding may have lost the first row
    return edges


def _even_edges(scores, n_bins):
    """Edges of `n_bins` bins, or of fewer if there are too few floats between the scores."""
    low, high = scores.min(), scores.max()
    step = 4 * max(np.spacing(np.abs(scores).max()), np.finfo(np.float64).tiny)
    margin = max(0.5, step) if low == high else 0.0
    n_bins = int(np.clip((high - low + 2 * margin) / step, 1, n_bins))
    return np.linspace(low - margin, high + margin, n_bins + 1)

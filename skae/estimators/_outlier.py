"""The outlier detector that replaces IsolationForest."""

from functools import partial
from numbers import Integral, Real

from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import asarray_like, empty, namespace, write_pieces
from skae._data._frames import column_mask
from skae._fit._plan import may_change
from skae._sklearn import Interval, StrOptions
from skae.estimators._base import BaseAutoencoder
from skae.estimators._detection import DetectionMixin
from skae.estimators._mixed_tables import TablesMixin, holds_numbers


class AutoencoderOutlierDetector(OutlierMixin, DetectionMixin, TablesMixin, BaseAutoencoder):
    """Outlier detector that replaces IsolationForest and explains its outliers.

    Each row is judged by six views: whether autoencoders can reproduce it, whether its cells
    agree with each other, and how far it is from its nearest neighbours. The score joins how
    rare each view finds it among ordinary rows. ``fit`` takes clean rows or rows that
    hold outliers, without being told which. Columns need no scaling and cells may be missing;
    tables of levels (strings, categories, flags) and dates are read as they are.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the training rows that are to be outliers; equal rows are never separated, and
        a warning says if that changes the share by more than half. ``"auto"`` needs no guess:
        outliers are the gross outliers (see Notes) and whatever scores worse than 95.4 % of the
        other rows would, were they new; 4.6 % of normal rows are flagged. Used with
        ``threshold="contamination"`` only.
    threshold : {"contamination", "std", "mad"}, default="contamination"
        Where the line is drawn. ``"std"`` is the mean plus `n_std` standard deviations of the
        ordinary rows' scores, ``"mad"`` the median plus `n_std` times 1.4826 median absolute
        deviations. Outliers that are not gross widen the first, but hardly the second, which
        flags more.
    n_std : float, default=3.0
        See `threshold`.
    views : "auto" or list of str, default="auto"
        Views that count in the score, out of ``"autoencoder"``, ``"conditional"``,
        ``"neighbors"``, ``"core_neighbors"``, ``"rank_neighbors"`` and ``"core_rank_neighbors"``
        (see Notes); ``"auto"`` is all of them. Autoencoders are trained in any case: ``correct``
        needs them.
    n_estimators : int, default=2
        Number of autoencoders ("members"), trained at once as one batched network. Members
        of a `network` of one's own, if it holds other layers than linear ones and
        activations, are run one after the other.
    core_fraction : float, default=0.7
        Share of the training rows that autoencoders learn from, in (0, 1].
    n_refits : int, default=2
        How often members choose these rows anew, as those they reproduce best; each choice is
        prepared by a third of `max_epochs`. The first ones are the rows nearest to the middle.
    variational : bool, default=False
        Whether members are variational autoencoders. Scores are computed from the mean of
        the posterior and never random.
    loss : {"cauchy", "squared_error", "absolute_error", "huber"}, default="cauchy"
        Autoencoders' loss of a cell, with a residual r in units of the scaled rows. ``"cauchy"``
        is ``log(1 + r**2)``, so that no single wild cell steers the fit.
    scaling : {"robust", "standard", "global", "minmax"} or None, default="robust"
        ``"robust"`` subtracts means and divides by standard deviations of winsorised columns,
        whose extremes are pulled in to the 1 % and 99 % quantiles, and to no more than 20
        median absolute deviations (in units of a standard deviation). ``"standard"`` takes all
        values as they are. With both, scaled values beyond 8 grow by their logarithm only. The
        others are those of :class:`AutoencoderTransformer`. Columns that are constant in
        training do not count. In mixed tables it is about the columns of numbers and dates.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Columns of levels, as in :class:`AutoencoderTransformer`.
    n_components : int, float or "auto", default="auto"
        Number of latents of each member; a float f in (0, 1) is as many as PCA would need for
        the share f of the variance. ``"auto"`` is ``n_features ** 0.4``, rounded, at most 48:
        too few to copy an outlier.
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse. ``"auto"`` is
        one layer as wide as the table, a column for each level, but 16 at least and 64 at most.
    activation : str, default="tanh"
        As in :class:`AutoencoderTransformer`; the default is bounded, so that nothing is
        extrapolated.
    network : object, default=None
        As in :class:`AutoencoderTransformer`; it is built once for each member.
    init : {"random", "pca"}, default="random"
        ``"pca"`` adds a linear path that starts at PCA. On tables it copies outliers better
        than ``"random"``, which is why it is not the default here.
    alpha : float or "auto", default="auto"
        Decoupled L2 weight penalty; ``"auto"`` is 0.
    learning_rate : float or "auto", default="auto"
        Peak of the schedule; ``"auto"`` is 0.003.
    batch_size : int or "auto", default="auto"
        Rows per step and member; ``"auto"`` is 128.
    max_epochs : int or "auto", default="auto"
        Passes over the core in the last fit; ``"auto"`` is what 300 steps take. Rows are
        drawn with replacement, so a pass is as many draws as the core has rows.
    early_stopping : bool, default=False
        Whether the epoch with the lowest loss on held-out rows is kept.
    validation_fraction : float, default=0.1
        Share of the rows that each member leaves out (different rows where there are
        enough, 10000 at most). They tell how much larger its losses are on new rows.
    n_iter_no_change : int or None, default=None
        With early stopping: stop after this many epochs without a new best loss.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the fitted network and its scaling.
    device : str, default="auto"
        Where to compute, such as ``"cpu"``; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        As in :class:`AutoencoderTransformer`.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called as in skorch, of each of the ``n_refits + 1`` trainings.
    random_state : int, RandomState instance or None, default=None
        Seeds weights and all draws of rows; an int gives the same bits again,
        with the same number of threads.
    verbose : int, default=0
        As in :class:`AutoencoderTransformer`.

    Attributes
    ----------
    offset_ : float
        Rows with ``score_samples`` below it are outliers.
    n_components_ : int
        Number of latents of each member.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows without gross outliers; of columns of levels, the code of the
        commonest one.
    n_iter_ : int
        Epochs run in the last fit.
    best_epoch_ : int
        Epoch whose weights were kept.
    loss_curve_ : list of float
        Training loss of each epoch of the last fit, per scaled cell.
    validation_loss_curve_ : list of float or None
        Loss on held-out rows at the start and after each epoch, with early stopping.
    net_ : skorch.NeuralNet
        The trained net of all members; it reads scaled rows.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.
    n_samples_seen_ : int
        Rows of positive weight in the last ``fit`` and in each ``partial_fit`` since.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Cuts instead of views; the same methods.

    Notes
    -----
    *Gross outliers* are rows of which most cells are far from the medians of their columns, and
    which a gap separates from the others. They are looked for first, and if they are 3 to 35 % of
    the rows, nothing is learned from them. All others are the *ordinary rows*; milder outliers
    may be among them.

    Each view gives a row a loss:

    - ``"autoencoder"``: mean loss of the reconstructed cells. Members learn from a core of the
      rows, as trimmed estimators do [1]_, by a redescending loss of robust statistics [2]_; for
      ensembles of autoencoders see [3]_. With the losses L_m of M members and C of the centre of
      the ordinary rows, relative to their means over these rows, the view's loss is
      ``(sum_m L_m / M + w C) / (1 + w)``. The weight w, at most 1, is large where members find
      no structure: it is the square of their mean loss over ``1 - k / d`` times the centre's,
      which k latents would leave of d independent columns.
    - ``"conditional"``: each cell is predicted from the others of its row by a normal
      distribution [4]_ of the 80 % least suspicious rows, with shrunk correlations; the root mean
      square of the residuals in units of their standard deviations. Beyond 8 of these, residuals
      grow by their logarithm only.
    - ``"neighbors"``: root mean squared difference from the nearest [5]_ of at most 2048 training
      rows; the row itself is left out. In ``"core_neighbors"``, neighbours that are suspicious
      themselves count as further away.
    - ``"rank_neighbors"``, ``"core_rank_neighbors"``: the same in normal scores of the columns,
      which heavy tails do not stretch; gaps between values stay gaps.

    The *surprise* of a loss t is ``-log p(t)``, with the share p(t) of ordinary rows whose loss
    is as large: up to the upper quartile u by their quantiles, and beyond it by an exponential
    tail [6]_, ``p(t) = p(u) exp(-(t - u) / m)`` with the mean m of their excesses over u. p is
    learned from losses of rows that the view has not learned from. With the surprises s_v of V
    views, ``score_samples`` is ``-sqrt(sum_v s_v ** 2 / V)``: between the mean and the largest,
    since what surprises one view a lot may be ordinary to most. It has no lower bound.

    Missing cells count in no loss; neighbours are found with their conditional
    means. A row without any cell has nothing that speaks against it and counts as normal.

    In a mixed table, each column counts once, however many levels it has, and a level is judged
    by how probable it is beside the other cells:

    - ``"conditional"``: the probabilities p of a column's levels come from a multinomial logistic
      regression on the other columns; together they are a pairwise graphical model, learned by
      its pseudo-likelihood [7]_. The square of a residual becomes the deviance
      ``2 log(max(p) / p(level))``: both are zero for what is most probable.
    - ``"autoencoder"``: decoders give out probabilities of levels. The loss of a level is their
      squared error, divided by ``(1 / 2 + e) ** 2`` with that of the levels' shares, e: a rare
      level beside its usual cells weighs less than a common one that contradicts them.
    - neighbours: levels that differ count as two numbers whose squares differ by 2, which is the
      mean for two rows of a standardised column [8]_.

    A level that the dtype of a column declares, but no training row had, has the probability
    ``a / (n + a (K + 1))``, with n rows, K levels and ``a = 1 / 2``; those of all others are
    ``(n p + a) / (n + a (K + 1))``. Other new levels are an error. ``partial_fit`` reads levels
    that the first call did not have as missing cells. Levels make no gross outliers.

    ``partial_fit`` looks for gross outliers and learns scaling and all views but the
    autoencoders in its first call. It takes the threshold from the last 10000 rows: the share of
    outliers from their losses after training, the rest from what they were before. So rows
    should not have been in an earlier call; rows that ``fit`` or ``partial_fit`` has seen
    already look better than fresh ones.

    With ``sklearn.config_context(array_api_dispatch=True)``, floating torch tensors are read
    on their own device, and the output is on the same device; only the statistics of ``fit`` are
    computed in NumPy, chunk by chunk. Other tensors and array-API
    arrays are taken to NumPy and back. `mean_` is like the rows of ``fit``; that of copies,
    pickles and loaded files is NumPy's.

    References
    ----------
    .. [1] Rousseeuw & Van Driessen, "A fast algorithm for the minimum covariance
       determinant estimator", Technometrics 41, 1999.
    .. [2] Black & Rangarajan, "On the unification of line processes, outlier rejection, and
       robust statistics", International Journal of Computer Vision 19, 1996.
    .. [3] Chen, Sathe, Aggarwal & Turaga, "Outlier detection with autoencoder ensembles",
       SDM 2017.
    .. [4] Bishop, "Pattern Recognition and Machine Learning", 2006, section 2.3.1.
    .. [5] Ramaswamy, Rastogi & Shim, "Efficient algorithms for mining outliers from large data
       sets", SIGMOD 2000.
    .. [6] Pickands, "Statistical inference using extreme order statistics", Annals of
       Statistics 3, 1975.
    .. [7] Lee & Hastie, "Learning the structure of mixed graphical models", Journal of
       Computational and Graphical Statistics 24, 2015.
    .. [8] Gower, "A general coefficient of similarity and some of its properties",
       Biometrics 27, 1971.

    Examples
    --------
    Instead of IsolationForest:

    >>> from sklearn.datasets import load_wine
    >>> from skae import AutoencoderOutlierDetector
    >>> X = load_wine(as_frame=True).data
    >>> X.loc[3, "ash"] = 9.0  # an error of measurement
    >>> detector = AutoencoderOutlierDetector(contamination=0.05, random_state=0).fit(X)
    >>> int((detector.predict(X) == -1).sum())
    9
    >>> int(detector.score_samples(X).argmin())
    3

    Which column made it an outlier, and what the row should have been:

    >>> detector.explain(X).loc[3].idxmax()
    'ash'
    >>> bool(2 < detector.correct(X).loc[3, "ash"] < 3)  # all others are between 1.36 and 3.23
    True

    Levels that contradict each other, although each of them is common:

    >>> import pandas as pd
    >>> X = pd.DataFrame({"city": ["Rome", "Oslo"] * 100, "land": ["Italy", "Norway"] * 100})
    >>> X.loc[7, "land"] = "Italy"
    >>> detector = AutoencoderOutlierDetector(random_state=0).fit(X)
    >>> int(detector.score_samples(X).argmin())
    7
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": may_change(StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")),
        "threshold": may_change(StrOptions({"contamination", "std", "mad"})),
        "n_std": may_change(Interval(Real, 0, None, closed="left")),
        "views": may_change(StrOptions({"auto"}), tuple, list),
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "core_fraction": may_change(Interval(Real, 0, 1, closed="right")),
        "n_refits": may_change(Interval(Integral, 0, None, closed="left")),
        "variational": ["boolean"],
        "loss": [StrOptions({"absolute_error", "cauchy", "huber", "squared_error"})],
        "scaling": [StrOptions({"global", "standard", "minmax", "robust"}), None],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    }

    def __init__(
        self,
        *,
        contamination="auto",
        threshold="contamination",
        n_std=3.0,
        views="auto",
        n_estimators=2,
        core_fraction=0.7,
        n_refits=2,
        variational=False,
        loss="cauchy",
        scaling="robust",
        categorical_features="from_dtype",
        n_components="auto",
        hidden_layer_sizes="auto",
        activation="tanh",
        network=None,
        init="random",
        alpha="auto",
        learning_rate="auto",
        batch_size="auto",
        max_epochs="auto",
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=None,
        warm_start=False,
        device="auto",
        precision="float32",
        callbacks=None,
        random_state=None,
        verbose=0,
    ):
        self.contamination = contamination
        self.threshold = threshold
        self.n_std = n_std
        self.views = views
        self.n_estimators = n_estimators
        self.core_fraction = core_fraction
        self.n_refits = n_refits
        self.variational = variational
        self.loss = loss
        self.scaling = scaling
        self.categorical_features = categorical_features
        self.n_components = n_components
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.init = init
        self.alpha = alpha
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.device = device
        self.precision = precision
        self.callbacks = callbacks
        self.random_state = random_state
        self.verbose = verbose

    # Public uses.

    def predict(self, X):
        """Tell outliers from inliers.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; NaN is a missing cell.

        Returns
        -------
        labels : ndarray of shape (n_samples,)
            -1 for outliers, +1 for inliers.
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        return to_input_type(namespace(X).where(-self._scores(X) < self.offset_, -1, 1))

    def decision_function(self, X):
        """How far rows are on the inliers' side of the threshold.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        decisions : ndarray of shape (n_samples,)
            ``score_samples(X) - offset_``; negative for outliers.
        """
        # The difference is rounded, not the score: `predict` goes by the same sign.
        return self._one_per_row(lambda X: -self._scores(X) - self.offset_, X)

    def score_samples(self, X):
        """How normal rows are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is more normal: minus the root mean square of the views' surprises. 0 is the
            most ordinary, and ordinary rows have about -1.1 on average. There is no lower bound, so
            even gross outliers are in order.
        """
        return self._one_per_row(lambda X: -self._scores(X), X)

    def pvalues(self, X):
        """Conformal p-values: how often a normal row would score as badly.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        pvalues : ndarray of shape (n_samples,)
            From ``1 / (n + 1)`` to 1, for n ordinary training rows (10000 at most, and fewer
            from 839 columns on). About uniform on fresh rows like these; rather too large if
            outliers are among the n.

        Notes
        -----
        A row is compared with the ordinary training rows, which are scored as if the detector
        had not learned from them (Bates et al., "Testing for outliers with conformal p-values",
        Annals of Statistics 51, 2023).

        Examples
        --------
        Outliers among fresh rows with a false discovery rate of at most 10 % (Benjamini
        and Hochberg):

        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.default_rng(0)
        >>> detector = AutoencoderOutlierDetector(random_state=0)
        >>> detector = detector.fit(rng.normal(size=(1000, 5)))
        >>> fresh = rng.normal(size=(100, 5))
        >>> fresh[:10] += 8
        >>> outliers = false_discovery_control(detector.pvalues(fresh)) < 0.1
        >>> int(outliers[:10].sum())
        10
        """
        return self._one_per_row(partial(self._of_raw_losses, self._pvalues), X)

    def explain(self, X):
        """Contribution of each column to each row's score.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            They sum to ``-score_samples(X)`` in each row: each view's part of the score, which
            is as large as its squared surprise, is split by what each cell adds to the view's
            loss. A missing cell contributes nothing. A DataFrame where the columns' names are
            known.
        """
        check_is_fitted(self)
        rows, to_input_type = self._validate_input(X)
        pieces = self.net_.cell_losses(self._rows(rows))
        contributions = empty(rows.shape, rows)
        write_pieces(
            contributions, ((span, self._contributions(*parts)) for span, *parts in pieces)
        )
        return self._named(self._of_table(contributions), X, to_input_type)

    def correct(self, X, columns=None):
        """Replace the cells that make rows outliers by what they should have been.

        Cells that contribute more than the threshold's even share,
        ``-offset_ / n_features_in_``, are suspect. They are taken away, the largest
        contributions first, until the rest of the row is no outlier any more; these cells
        are then replaced by what the rest of the row predicts: the mean of the autoencoders'
        reconstruction and of the conditional mean, or the level that is most probable in the mean
        of both. Missing cells stay missing.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        columns : int, str or list of these, default=None
            Numbers or names of columns that are known to be wrong (or a mask of all
            columns): their cells are replaced in every row, missing ones too, and no
            others. None leaves it to the contributions; inliers then come back as they are.

        Returns
        -------
        X_corrected : ndarray or DataFrame of shape (n_samples, n_features)
            Rows in the units of X; all other cells are what they were. A DataFrame where
            the columns' names are known; mixed tables have the container and dtypes of ``fit``.

        Raises
        ------
        ValueError
            If a column is unknown.
        """
        check_is_fitted(self)
        rows, to_input_type = self._validate_input(X)
        if columns is None:
            limit = -self.offset_ / self.n_features_in_
            anomalous = self.net_.find_anomalous_cells(self._rows(rows), self._score_cells, limit)
        else:
            names = list(getattr(self, "feature_names_in_", ()))
            mask = asarray_like(self._of_net(column_mask(columns, names, rows.shape[1])), rows)
            anomalous = namespace(rows).tile(mask[None], (rows.shape[0], 1))
        corrected = self._corrected(rows, anomalous)
        if holds_numbers(self):
            return self._named(corrected, X, to_input_type)
        return self._wrap_output(corrected, to_input_type, like=X)

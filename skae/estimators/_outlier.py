"""The autoencoder ensemble that replaces IsolationForest."""

from numbers import Integral, Real

from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import asarray_like, empty, is_tensor, namespace, widest_float, write_pieces
from skae._data._chunks import as_dense
from skae._data._frames import column_mask
from skae._fit._plan import may_change
from skae._sklearn import Interval, StrOptions
from skae.estimators._base import BaseAutoencoder
from skae.estimators._detection import DetectionMixin


class AutoencoderOutlierDetector(OutlierMixin, DetectionMixin, BaseAutoencoder):
    """Autoencoder ensemble that replaces IsolationForest and explains its outliers.

    A few small autoencoders learn to reproduce the rows that most rows are like; what
    they cannot reproduce is an outlier. ``fit`` expects rows that may hold outliers and
    finds them by itself: it trains on the core of the table and chooses this core anew
    as it learns. Columns need no scaling and cells may be missing. For rows that are known
    to be clean (novelty detection), set ``core_fraction=1.0``.

    Parameters
    ----------
    contamination : "auto" or float in (0, 0.5], default="auto"
        Share of the training rows that are to be outliers. ``"auto"`` needs no guess: a row
        is an outlier if it scores worse than 95 % of the held-out rows, which flags a little
        less than 5 % of normal rows. Used with ``threshold="contamination"``
        only.
    threshold : {"contamination", "std", "mad"}, default="contamination"
        Where the line is drawn. ``"std"`` is the mean plus `n_std` standard deviations of the
        held-out rows' scores, ``"mad"`` the median plus `n_std` times 1.4826 median absolute
        deviations: outliers among the held-out rows widen the first, but not the second,
        which flags more. Held-out rows are those that a member did not train on: on
        training rows, errors are too small.
    n_std : float, default=3.0
        See `threshold`.
    n_estimators : int, default=4
        Number of autoencoders ("members"), trained at once as one batched network. Members
        of a `network` of one's own, if it holds other layers than linear ones and
        activations, are run one after the other.
    aggregation : {"mean", "median", "max"}, default="mean"
        How the members' scores become one.
    core_fraction : float, default=0.7
        Share of the training rows that members learn from, in (0, 1].
    n_refits : int, default=2
        How often members choose the core anew, as the rows they reproduce best; each
        choice is prepared by a third of `max_epochs`. The first core are the rows nearest to
        the middle.
    score_method : {"reconstruction", "mahalanobis", "density"}, default="reconstruction"
        ``"reconstruction"`` is the mean loss over the observed cells, relative to its mean
        over the training rows. ``"mahalanobis"`` is the squared distance of latents and
        logarithm of the loss from those of the core, in units of their (shrunk)
        covariance. ``"density"`` needs ``variational=True`` and adds the divergence from the
        prior to the loss.
    variational : bool, default=False
        Whether members are variational autoencoders. Scores are computed from the mean of
        the posterior and never random.
    loss : {"cauchy", "squared_error", "absolute_error", "huber"}, default="cauchy"
        Loss of a cell, with a residual r in units of the scaled rows. ``"cauchy"`` is
        ``log(1 + r**2)``, so that no single wild cell steers the fit or decides the score.
    scaling : {"robust", "standard", "global", "minmax"} or None, default="robust"
        ``"robust"`` subtracts medians, divides by interquartile ranges (half the range where
        quartiles coincide), cuts off at 8 of them, and then centres and scales once more on
        the core. ``"standard"`` is cut off at 8 standard deviations; it suits images, where
        pixels at the border are nearly constant. The others are those of
        :class:`AutoencoderTransformer`. Columns that are constant in training do not count.
    n_components : int, float or "auto", default="auto"
        Number of latents of each member; a float f in (0, 1) is as many as PCA would need for
        the share f of the variance. ``"auto"`` is ``n_features ** 0.4``, rounded, at most 48:
        too few to copy an outlier.
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse. ``"auto"`` is
        one layer as wide as the table, but 16 at least and 64 at most.
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
        enough, 10000 at most): thresholds and p-values come from them.
    n_iter_no_change : int or None, default=None
        With early stopping: stop after this many epochs without a new best loss.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the fitted network and its scaling.
    device : str, default="auto"
        Where to compute: ``"cpu"``, ``"cuda"``, ...; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        As in :class:`AutoencoderTransformer`.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called as in skorch, of each of the ``n_refits + 1`` trainings.
    random_state : int, RandomState instance or None, default=None
        Seeds weights, draws and held-out rows; an int gives the same bits again.
    verbose : int, default=0
        As in :class:`AutoencoderTransformer`.

    Attributes
    ----------
    offset_ : float
        Rows with ``score_samples`` below it are outliers.
    n_components_ : int
        Number of latents of each member.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows.
    n_iter_ : int
        Epochs run in the last fit.
    best_epoch_ : int
        Epoch whose weights were kept.
    loss_curve_ : list of float
        Training loss of each epoch of the last fit.
    validation_loss_curve_ : list of float or None
        Loss on held-out rows at the start and after each epoch, with early stopping.
    net_ : skorch.NeuralNet
        The trained net of all members; it reads scaled rows.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.

    See Also
    --------
    sklearn.ensemble.IsolationForest : Cuts instead of a network; the same methods.

    Notes
    -----
    A member's loss on a row, divided by its mean over the training rows, is the member's
    score. To it comes, with a weight between 0 and 1, the same for the distance from
    the centre of the core: the weight is the square of the members' mean loss over the centre's,
    in units of what k latents would leave of d independent columns, ``1 - k / d``. Where
    members find no structure, distance decides.

    A score is a mean over cells, so one wild cell in a table of many columns need not make
    its row an outlier; it shows in ``explain``. A row without any cell has nothing that
    speaks against it and counts as normal.

    ``partial_fit`` takes the threshold from the last 10000 rows: the share of outliers
    from their losses after training, the rest from what they were before. So rows
    should not have been in an earlier call; rows that ``fit`` or ``partial_fit`` has seen
    already look better than fresh ones. With ``score_method="mahalanobis"``, mean and
    covariance stay those of the first call.

    Training on the core follows trimmed estimators such as the minimum covariance
    determinant [1]_; the Cauchy loss is a redescending one of robust statistics [2]_.
    Ensembles of autoencoders for outliers were proposed in [3]_, conformal p-values for
    outliers are analysed in [4]_.

    With ``sklearn.config_context(array_api_dispatch=True)``, floating torch tensors are read
    on their own device, and the output is on the same device; only the statistics of ``fit`` are
    computed in NumPy, chunk by chunk. Other tensors and array-API
    arrays are taken to NumPy and back.

    References
    ----------
    .. [1] Rousseeuw & Van Driessen, "A fast algorithm for the minimum covariance
       determinant estimator", Technometrics 41, 1999.
    .. [2] Black & Rangarajan, "On the unification of line processes, outlier rejection, and
       robust statistics", International Journal of Computer Vision 19, 1996.
    .. [3] Chen, Sathe, Aggarwal & Turaga, "Outlier detection with autoencoder ensembles",
       SDM 2017.
    .. [4] Bates, Candes, Lei, Romano & Sesia, "Testing for outliers with conformal
       p-values", Annals of Statistics 51, 2023.

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
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "contamination": may_change(StrOptions({"auto"}), Interval(Real, 0, 0.5, closed="right")),
        "threshold": may_change(StrOptions({"contamination", "std", "mad"})),
        "n_std": may_change(Interval(Real, 0, None, closed="left")),
        "n_estimators": [Interval(Integral, 1, None, closed="left")],
        "aggregation": may_change(StrOptions({"mean", "median", "max"})),
        "core_fraction": may_change(Interval(Real, 0, 1, closed="right")),
        "n_refits": may_change(Interval(Integral, 0, None, closed="left")),
        "score_method": [StrOptions({"reconstruction", "mahalanobis", "density"})],
        "variational": ["boolean"],
        "loss": [StrOptions({"absolute_error", "cauchy", "huber", "squared_error"})],
        "scaling": [StrOptions({"global", "standard", "minmax", "robust"}), None],
    }

    def __init__(
        self,
        *,
        contamination="auto",
        threshold="contamination",
        n_std=3.0,
        n_estimators=4,
        aggregation="mean",
        core_fraction=0.7,
        n_refits=2,
        score_method="reconstruction",
        variational=False,
        loss="cauchy",
        scaling="robust",
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
        self.n_estimators = n_estimators
        self.aggregation = aggregation
        self.core_fraction = core_fraction
        self.n_refits = n_refits
        self.score_method = score_method
        self.variational = variational
        self.loss = loss
        self.scaling = scaling
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
        return self.score_samples(X) - self.offset_

    def score_samples(self, X):
        """How normal rows are.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        scores : ndarray of shape (n_samples,)
            Higher is more normal. With ``score_method="reconstruction"``, 0 is a row that
            is reproduced exactly and -1 the mean of the training rows.
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        return to_input_type(-self._scores(X))

    def pvalues(self, X):
        """Conformal p-values: how often a normal row would score as badly.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        pvalues : ndarray of shape (n_samples,)
            From ``1 / (n + 1)`` to 1, for n held-out rows of all members together: as many
            as `n_estimators` times `validation_fraction` of the training rows. Uniform on
            fresh rows like these; with outliers among them, rather too large.

        Notes
        -----
        Each member compares a row with the rows that it did not train on itself; the
        p-value is that of cross-conformal prediction (Vovk, 2015).

        Examples
        --------
        Outliers among fresh rows with a false discovery rate of at most 10 % (Benjamini
        and Hochberg):

        >>> import numpy as np
        >>> from scipy.stats import false_discovery_control
        >>> from skae import AutoencoderOutlierDetector
        >>> rng = np.random.default_rng(0)
        >>> detector = AutoencoderOutlierDetector(core_fraction=1.0, random_state=0)
        >>> detector = detector.fit(rng.normal(size=(1000, 5)))
        >>> fresh = rng.normal(size=(100, 5))
        >>> fresh[:10] += 8
        >>> outliers = false_discovery_control(detector.pvalues(fresh)) < 0.1
        >>> int(outliers[:10].sum())
        10
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        return to_input_type(self._of_raw_losses(self._pvalues, X))

    def explain(self, X):
        """Contribution of each column to each row's score.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        contributions : ndarray or DataFrame of shape (n_samples, n_features)
            They sum to ``-score_samples(X)`` in each row. A missing cell contributes
            nothing, unless there are no others. A DataFrame where the columns' names are known.
        """
        check_is_fitted(self)
        rows, to_input_type = self._validate_input(X)
        pieces = self.net_.cell_losses(self._rows(rows))
        contributions = empty(rows.shape, rows, widest_float(rows))
        write_pieces(
            contributions, ((span, self._contributions(*parts)) for span, *parts in pieces)
        )
        return self._named(contributions, X, to_input_type)

    def correct(self, X, columns=None):
        """Replace the cells that make rows outliers by what they should have been.

        Cells that contribute more than the threshold's even share,
        ``-offset_ / n_features_in_``, are suspect. They are taken away, the largest
        contributions first, until the rest of the row is no outlier any more; these cells
        are then replaced as the members reproduce them from the rest. Missing cells stay
        missing.

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
            the columns' names are known.

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
            mask = asarray_like(column_mask(columns, names, rows.shape[1]), rows)
            anomalous = namespace(rows).tile(mask[None], (rows.shape[0], 1))
        corrected, scaler = empty(rows.shape, rows), self._scaler.on_device_of(rows)
        corrected[:] = as_dense(rows)
        for span, scaled in self.net_.imputed_rows(self._rows(rows), anomalous):
            values = scaler.inverse_transform(scaled, corrected.dtype)
            corrected[span][anomalous[span]] = values[anomalous[span]]
        return self._named(corrected, X, to_input_type)

    def _score_cells(self, raw, cells):
        """Which rows are outliers, and what each cell contributes to the score."""
        return -self._rule.scores(raw) < self.offset_, self._contributions(raw, cells)

    def _scores(self, X):
        return self._of_raw_losses(self._rule.scores, X)

    def _of_raw_losses(self, rule, X):
        """One number per row, by a rule that reads the members' raw losses."""
        raw = self.net_.raw_losses_in_pieces(self._rows(X))
        out = empty(X.shape[0], X, widest_float(X))
        return write_pieces(out, ((span, rule(losses)) for span, losses in raw))

    def _pvalues(self, raw):
        return self._calibration_scores.pvalues(self._rule.member_scores(raw[:-1], raw[-1]))

    def _contributions(self, raw, cells):
        return namespace(raw).einsum("mn,mnd->nd", self._rule.factors(raw), cells)

    def _named(self, cells, X, to_input_type):
        """A DataFrame where the columns' names are known, indexed as X is; else like X."""
        if not hasattr(self, "feature_names_in_") or is_tensor(cells):
            return to_input_type(cells)
        import pandas as pd

        if type(X).__module__.startswith("polars"):
            return type(X)(cells, schema=self.feature_names_in_.tolist())
        index = X.index if isinstance(X, pd.DataFrame) else None
        return pd.DataFrame(cells, columns=self.feature_names_in_, index=index)

"""The autoencoder that cleans rows and fills what is missing."""

from numbers import Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import namespace
from skae._data._chunks import as_dense, row_chunks
from skae._data._validation import as_numpy_table, check_input, checked_weight
from skae._engine._noise import NOISES
from skae._engine._tasks import given_to_fit
from skae._fit._plan import may_change
from skae._sklearn import (
    Interval,
    MissingValues,
    StrOptions,
    check_feature_names_in,
    fit_context,
)
from skae._stats._scoring import share_explained
from skae.estimators._base import BaseAutoencoder
from skae.estimators._imputation import ImputationMixin, warn_of_targets


def _returns_latents(estimator):
    return estimator.output == "latent"


class DenoisingAutoencoder(
    ClassNamePrefixFeaturesOutMixin, ImputationMixin, TransformerMixin, BaseAutoencoder
):
    """Autoencoder that cleans rows and fills missing cells.

    By default it is an imputer and leaves observed cells alone; `noise` names what to remove
    from them. It learns from clean rows, to which noise is added anew for every batch, or from
    pairs of noisy and clean ones. Training starts at the linear solution: for missing
    cells the conditional mean of a normal distribution, otherwise a regression.

    Parameters
    ----------
    n_components : int, float or "auto", default="auto"
        Number of latents. A float f in (0, 1) is as many as PCA needs for the share f of
        the variance. ``"auto"`` is the number of columns, but 512 at most: noise keeps
        the network from copying, so no bottleneck is needed.
    noise : {"auto", "gaussian", "masking", "salt_and_pepper", "swap"} or callable, default="auto"
        What training puts on the rows, which must be without it. ``"gaussian"`` adds
        normal draws of deviation `noise_level`; ``"masking"`` takes cells away as if missing;
        ``"salt_and_pepper"`` sets cells to their column's smallest or largest value;
        ``"swap"`` takes them from another row. A callable gets rows in the units of X and a
        ``numpy.random.Generator`` and returns noisy rows. ``"auto"`` is ``"masking"``,
        but ``"gaussian"`` where `network` is given (images) and X misses no cell. Where
        X misses cells, some are taken away besides any other noise, too. Ignored
        where ``fit`` is given `X_clean`.
    noise_level : float, array-like of shape (n_features,) or "auto", default="auto"
        Of Gaussian noise the standard deviation, in `noise_unit`, for all columns or for each;
        otherwise the share of the cells; for ``"masking"`` the mean share, at most 0.5: each
        row gets its own, from 0 to twice that. Callables do not read it. ``"auto"`` is 0.3
        (masking), 0.1 (salt and pepper) or 0.15 (swap). As it cannot know the Gaussian
        noise to come, it gives each row its own level, from 0 to half a column's standard
        deviation (over the cells unlike its median, where most are one value); half the
        root mean variance of all columns with ``scaling="global"`` or None.
    noise_unit : {"data", "std"}, default="data"
        Unit of the level of Gaussian noise: that of X, or the columns' standard deviations.
    output : {"denoised", "latent", "deep"}, default="denoised"
        What ``transform`` returns: cleaned rows, latents, or all hidden activations side
        by side (encoder's, latents, decoder's), as features for another model.
    keep_observed : bool or "auto", default="auto"
        Whether cells that are not missing come back as they are, bit for bit. ``"auto"``
        is True for ``"masking"``, which is about missing cells, and False for other noise.
    missing_values : int, float, np.nan, None or pandas.NA, default=np.nan
        What marks a missing cell. NaN, None in object arrays and ``NA`` in pandas' nullable
        columns all do, whichever of them is given. With a number X is copied, and NaN is an
        error, as in scikit-learn's imputers.
    add_indicator : bool, default=False
        Whether ``transform`` appends a column of 0 and 1 for each column that missed cells
        in ``fit``.
    keep_empty_features : bool, default=False
        Whether columns empty in ``fit`` are kept, filled with 0, and not left out.
    sample_posterior : bool, default=False
        Whether missing cells are drawn from their distribution, for multiple imputation.
        Each call of ``transform`` draws anew, as in scikit-learn; an int `random_state` gives
        the same sequence of draws after each ``fit``.
    loss : {"squared_error", "absolute_error", "huber"}, default="squared_error"
        What is minimised, per scaled cell.
    scaling : {"global", "standard", "minmax", "robust"} or None, default="standard"
        How columns are scaled inside, as in :class:`AutoencoderTransformer`. Columns of a
        table differ in units, hence the default; for images take ``"global"`` or None.
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse.
        ``"auto"`` is (128,) below 256 columns and (512,) from there on.
    activation : str, default="silu"
        Activation of the hidden layers, as in :class:`AutoencoderTransformer`.
    network : object, default=None
        None is the network described by the two parameters above. Else an object with a
        method ``build(n_features, n_components)`` that returns an encoder and a decoder,
        such as :class:`skae.networks.ConvNetwork`. It reads filled rows; the default
        network also reads which cells were missing.
    init : {"pca", "random"}, default="pca"
        ``"pca"`` begins at the best linear answer (at PCA to remove noise from more than
        1024 columns). ``"random"`` is a plain denoising autoencoder [1]_, which reads the
        mean where a cell is missing.
    alpha : float or "auto", default="auto"
        Decoupled L2 weight penalty. ``"auto"`` is 0.1.
    learning_rate : float or "auto", default="auto"
        Peak of the schedule, which rises over 10 % of the steps and falls to zero over
        the last 40 %. ``"auto"`` is 0.01 for ``"masking"`` below 256 columns, else 0.002.
    batch_size : int or "auto", default="auto"
        Rows per step. ``"auto"`` is 64 below 1000 rows and else 256.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. ``"auto"`` is 12 or what 1000 steps take, whichever is
        more; fewer than 1000 rows count as 1000, as they are passed over several times an
        epoch, and 600 steps are enough.
    early_stopping : bool, default=True
        Whether rows are held out. Where cells are missing they choose `blend_`, the
        network's weight beside the linear answer; and for all noise but ``"masking"``,
        the epoch whose weights are kept, the linear start included. Below 1000 rows both
        are chosen by cross-validation and the kept network is trained on all rows.
    validation_fraction : float, default=0.1
        Share of the rows that is held out.
    n_iter_no_change : int or None, default=None
        Stop after this many epochs without a new best validation loss, and keep the best
        epoch. None as in :class:`AutoencoderTransformer`.
    warm_start : bool, default=False
        As in :class:`AutoencoderTransformer`.
    device : str, default="auto"
        As in :class:`AutoencoderTransformer`.
    precision : {"float32", "bfloat16"}, default="float32"
        As in :class:`AutoencoderTransformer`.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called as in skorch.
    random_state : int, RandomState instance or None, default=None
        Seeds the split, the weights, the batches, the noise and the draws of
        `sample_posterior`; an int gives the same bits again, with the same number of threads.
    verbose : int, default=0
        As in :class:`AutoencoderTransformer`.

    Attributes
    ----------
    n_components_ : int
        Number of latents.
    noise_ : str, callable or None
        The noise of training; None where ``fit`` was given `X_clean`.
    noise_level_ : float, ndarray of shape (n_features,) or None
        Its level: of Gaussian noise the standard deviation in each column, in the units of X
        (the mean one with ``"auto"``), else the share of cells. None where it has no level.
    gaussian_ : object or None
        Normal distribution of the (clean) scaled rows, with a method ``fill`` and, up to
        256 columns, `mean_` and `covariance_` (above: of 32 factors). None with
        ``init="random"``.
    blend_ : float
        Weight of the network in filled cells, from 0 to 1; the rest is the conditional mean
        of `gaussian_`. Found by least squares on cells hidden in held-out rows; 1 where
        nothing is held out or hidden.
    indicator_ : sklearn.impute.MissingIndicator or None
        With `add_indicator`, the fitted indicator of the columns that missed cells.
    observed_blend_ : ndarray of shape (n_features,)
        Weight of the network in observed cells that are cleaned; the rest is the cell as it
        came. Found likewise on noisy held-out rows: about 0 where noise is too little to matter.
    missing_columns_ : ndarray of int
        Columns that missed cells in ``fit`` (in the first, where training goes on).
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows (of `X_clean`, if given).
    n_iter_ : int
        Epochs run.
    best_epoch_ : int
        Epoch whose weights were kept; 0 is the start.
    loss_curve_ : list of float
        Training loss of each epoch, per scaled cell.
    validation_loss_curve_ : list of float or None
        Loss on noisy held-out rows at the start and after each epoch, if there were any.
    net_ : skorch.NeuralNet
        The trained net; it reads scaled rows without missing cells.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.
    n_samples_seen_ : int
        Rows of positive weight in the last ``fit`` and in each ``partial_fit`` since.

    See Also
    --------
    sklearn.impute.IterativeImputer : A regression for each column.

    Notes
    -----
    A missing cell is filled with ``g + blend_ * (n - g)``, where g is the conditional mean
    of a normal distribution, found by expectation-maximisation [2]_, and n is the
    output of the network, which reads the row filled with g and a mask of its gaps. Filled values
    are not confined to the range or the integers of their column.

    With ``sklearn.config_context(array_api_dispatch=True)``, floating torch tensors are read
    on their own device, and the output is on the same device; nothing passes through NumPy
    but ``fit`` and ``score``, piece by piece, and scaled rows that miss cells, to be filled.
    `mean_` and `missing_columns_` are like the rows of ``fit``; those of copies, pickles and loaded
    files are NumPy's.

    References
    ----------
    .. [1] Vincent et al., "Extracting and composing robust features with denoising
       autoencoders", ICML 2008.
    .. [2] Dempster, Laird & Rubin, "Maximum likelihood from incomplete data via the EM
       algorithm", JRSS B 39, 1977.

    Examples
    --------
    Filling a table with holes:

    >>> import numpy as np
    >>> from sklearn.datasets import load_diabetes
    >>> from skae import DenoisingAutoencoder
    >>> X = load_diabetes(scaled=False).data
    >>> holes = np.random.default_rng(0).random(X.shape) < 0.1
    >>> X_holes = np.where(holes, np.nan, X)
    >>> imputer = DenoisingAutoencoder(max_epochs=10, random_state=0)
    >>> X_filled = imputer.fit_transform(X_holes)
    >>> bool((X_filled[~holes] == X[~holes]).all())
    True

    Removing noise from images:

    >>> from sklearn.datasets import load_digits
    >>> X = load_digits().data / 16
    >>> cleaner = DenoisingAutoencoder(
    ...     noise="gaussian", noise_level=0.3, scaling="global", max_epochs=10, random_state=0
    ... )
    >>> noisy = X + 0.3 * np.random.default_rng(0).normal(size=X.shape)
    >>> cleaned = cleaner.fit(X).transform(noisy)
    >>> bool(np.square(cleaned - X).mean() < 0.5 * np.square(noisy - X).mean())
    True
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "noise": [StrOptions({"auto", *NOISES}), callable],
        "noise_level": may_change(
            Interval(Real, 0, None, closed="left"), "array-like", StrOptions({"auto"})
        ),
        "noise_unit": may_change(StrOptions({"data", "std"})),
        "output": may_change(StrOptions({"denoised", "latent", "deep"})),
        "keep_observed": may_change("boolean", StrOptions({"auto"})),
        "missing_values": [MissingValues(numeric_only=True), None],
        "add_indicator": may_change("boolean"),
        "keep_empty_features": may_change("boolean"),
        "sample_posterior": may_change("boolean"),
        "loss": [StrOptions({"squared_error", "absolute_error", "huber"})],
        "scaling": [StrOptions({"global", "standard", "minmax", "robust"}), None],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        noise="auto",
        noise_level="auto",
        noise_unit="data",
        output="denoised",
        keep_observed="auto",
        missing_values=np.nan,
        add_indicator=False,
        keep_empty_features=False,
        sample_posterior=False,
        loss="squared_error",
        scaling="standard",
        hidden_layer_sizes="auto",
        activation="silu",
        network=None,
        init="pca",
        alpha="auto",
        learning_rate="auto",
        batch_size="auto",
        max_epochs="auto",
        early_stopping=True,
        validation_fraction=0.1,
        n_iter_no_change=None,
        warm_start=False,
        device="auto",
        precision="float32",
        callbacks=None,
        random_state=None,
        verbose=0,
    ):
        self.n_components = n_components
        self.noise = noise
        self.noise_level = noise_level
        self.noise_unit = noise_unit
        self.output = output
        self.keep_observed = keep_observed
        self.missing_values = missing_values
        self.add_indicator = add_indicator
        self.keep_empty_features = keep_empty_features
        self.sample_posterior = sample_posterior
        self.loss = loss
        self.scaling = scaling
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

    # The fit family: the shared one, with clean versions of the rows beside.

    @fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, X_clean=None, sample_weight=None):
        """Learn to clean rows like those of X.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows, clean unless there is `X_clean`; memory maps and CSR matrices are
            read batch by batch.
        y : Ignored
            Present for API consistency.
        X_clean : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            What the rows of X should be. It may miss only cells that X misses. In a
            :class:`~sklearn.pipeline.Pipeline` ask for it by ``set_fit_request``.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios count.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X, X_clean or a parameter is not what it must be.
        DivergenceError
            If the training loss explodes; the estimator stays as it was.
        """
        warn_of_targets(X, y)
        given = given_to_fit(X, y, X_clean=X_clean, sample_weight=sample_weight)
        return self._fit_guarded(X, X_clean, sample_weight, given)

    @fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y=None, *, X_clean=None, sample_weight=None):
        """Train one epoch on X, going on from where the network is.

        The first call fixes the scaling, the normal distribution, which columns count as
        missing and the starting weights, so it should be a
        representative sample. There is no
        validation and no schedule: the learning rate is constant, a third of
        `learning_rate`, and `blend_` stays as it was (1 where there was no ``fit``).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows to train on; at least two in the first call.
        y : Ignored
            Present for API consistency.
        X_clean : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            What the rows of X should be; in every call or in none.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row; only ratios within one call count.

        Returns
        -------
        self : object
            The estimator, trained further.
        """
        given = given_to_fit(X, y, X_clean=X_clean, sample_weight=sample_weight)
        return self._partial_fit_guarded(X, X_clean, sample_weight, given)

    # Public uses.

    def transform(self, X):
        """Clean rows and fill missing cells, or return what `output` names.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; any cells may be missing.

        Returns
        -------
        X_out : ndarray of shape (n_samples, n_features_out)
            Rows without gaps, in the units of X (see `keep_empty_features`); or latents; or
            hidden activations. Behind them the indicators of `add_indicator`.
        """
        check_is_fitted(self)
        X, to_input_type = self._validate_input(X)
        if self.output == "denoised":
            draws = self._new_draws() if self.sample_posterior else None
            out = self._denoise(X, draws)[:, self._kept_columns]
        else:
            out = self._encode(X) if self.output == "latent" else self._activations(X)
        if self.add_indicator:
            out = namespace(X).concat([out, self._indicators(X)], axis=1)
        return to_input_type(out)

    @available_if(_returns_latents)
    def inverse_transform(self, X):
        """Map latents back to rows; only with ``output="latent"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Latents; indicators that ``transform`` put behind them are not read.

        Returns
        -------
        X_original : ndarray of shape (n_samples, n_features)
            Rows, in the units of the training data.
        """
        if self.add_indicator:
            X = check_input(check_array, X, marker=None, input_name="X")
            if X.shape[1] == self.n_components_ + len(self._columns_with_gaps):
                X = X[:, : self.n_components_]
        return self.decode(X)

    def score(self, X, y=None, *, X_clean=None, sample_weight=None):
        """Share of the variance of hidden cells that the filled values explain.

        Every observed cell of X is hidden once, a fifth of them at a time, and filled from
        the others. With `X_clean`, it is the share of the clean rows' variance that the
        cleaned rows explain; give it, too, where the noise is not about missing cells (in
        searches by metadata routing, ``set_score_request(X_clean=True)``).

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.
        X_clean : {array-like, sparse matrix} of shape (n_samples, n_features), default=None
            What the rows of X should be.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            1 is perfect, 0 no better than the training mean.
        """
        check_is_fitted(self)
        X = as_numpy_table(self._validate_input(X)[0])
        clean = X if X_clean is None else self._check_clean(X_clean, X)
        sample_weight = checked_weight(sample_weight, X.shape[0])
        sums, draws = np.zeros(2), np.random.RandomState(0)
        for span, rows in row_chunks(X):
            truth = as_dense(clean[span]).astype(np.float64)
            weight = np.ones(len(rows)) if sample_weight is None else sample_weight[span]
            output = self._fill_hidden(rows, draws) if X_clean is None else self._denoise(rows)
            for i, guess in enumerate((output, self._scaler.mean_)):
                # Cells whose truth is unknown do not count.
                errors = np.nan_to_num(truth - guess)[:, ~self._empty] / self._scaler.unit
                sums[i] += weight @ np.square(errors).sum(axis=1)
        return share_explained(*sums)

    def get_feature_names_out(self, input_features=None):
        """Names of the columns that ``transform`` returns.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of the columns of X, where ``fit`` saw none; they must agree with those
            that it saw.

        Returns
        -------
        feature_names_out : ndarray of str
            The columns' own names for cleaned rows; ``denoisingautoencoder0``, ... for
            latents and activations; ``missingindicator_<name>`` for indicators.
        """
        check_is_fitted(self, "n_features_in_")
        names = check_feature_names_in(self, input_features)
        marks = [f"missingindicator_{names[i]}" for i in self._columns_with_gaps]
        if self.output == "denoised":
            out = names[self._kept_columns]
        else:
            out = super().get_feature_names_out(input_features)
        return np.concatenate([out, np.asarray(marks, dtype=object)]) if self.add_indicator else out

    @property
    def _n_features_out(self):
        row = np.zeros((1, self.n_features_in_), dtype=np.float32)
        return self.n_components_ if self.output == "latent" else self._n_hidden(row)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

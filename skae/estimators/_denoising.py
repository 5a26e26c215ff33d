"""The autoencoder that cleans rows and fills what is missing."""

from numbers import Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import namespace
from skae._data._validation import as_numpy_table, check_input, checked_weight
from skae._engine._noise import NOISES
from skae._fit._plan import may_change
from skae._sklearn import (
    Interval,
    MissingValues,
    StrOptions,
    check_feature_names_in,
)
from skae.estimators._base import BaseAutoencoder
from skae.estimators._imputation import ImputationMixin
from skae.estimators._limits import NO_LIMIT
from skae.estimators._mixed_tables import TablesMixin, holds_numbers
from skae.estimators._table_cleaning import restored_table

LIMIT = may_change(
    Interval(Real, None, None, closed="both"), "array-like", StrOptions({"observed"}), None
)


def _returns_latents(estimator):
    return estimator.output == "latent"


class DenoisingAutoencoder(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    TablesMixin,
    ImputationMixin,
    BaseAutoencoder,
):
    """Autoencoder that cleans rows and fills missing cells.

    By default it is an imputer and leaves observed cells alone; `noise` names what to remove
    from them. *Mixed* tables, with levels (strings, categories, booleans) or dates, come back as
    tables (see Notes). It learns from clean rows, to which noise is added anew for every batch, or
    from pairs of noisy and clean ones. Training starts at the linear solution: for missing
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
        ``"swap"`` takes them from another row, as all noise but ``"masking"`` does with levels.
        A callable gets rows in the units of X and a
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
    min_value : float, array-like of shape (n_features,), "observed" or None, default=-np.inf
        Least value of filled cells, which are clipped to it: one for all columns of numbers, or
        one for each column (of dates a date, None or infinite; levels have none).
        ``"observed"`` is the least value of each column in the clean rows of ``fit``.
    max_value : float, array-like of shape (n_features,), "observed" or None, default=np.inf
        Largest value of filled cells, likewise.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Columns of levels, as in :class:`AutoencoderTransformer`.
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
        Rows per step. ``"auto"`` is 64 below 1000 rows, 128 for gaps of mixed tables below 4000,
        and else 256.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. ``"auto"`` is 12 or what 1000 steps take, whichever is
        more; fewer than 1000 rows count as 1000, as they are passed over several times an
        epoch, and 600 steps are enough. For gaps of mixed tables, it is half of these steps.
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
        (the mean one with ``"auto"``) or of ticks of dates, else the share of cells. None where
        it has no level.
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
        Mean of the training rows (of `X_clean`, if given); of dates in ticks, of levels the
        commonest code.
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
    output of the network, which reads the row filled with g and a mask of its gaps. In tables of
    numbers and booleans alone, which come back as arrays of numbers, it need not be whole.

    In mixed tables, the network reads an indicator for each level, and gives out probabilities:
    a level is filled with the most probable one, or drawn by these, one cell after the other. An
    observed level that is cleaned counts as the probability ``1 - observed_blend_``. A level that
    the dtype declares but no row of ``fit`` had is a missing cell. Columns whose cells were whole
    numbers in ``fit`` are filled with whole numbers, dates with multiples of the columns' least
    step, and columns of 0 and 1 with 0 or 1. Losses, `blend_` and ``score`` count each column
    once, as in the ``score`` of :class:`AutoencoderTransformer`.

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

    A mixed table:

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"sex": ["m", "f", None] * 40, "size": [180.0, 165.0, 180.0] * 40})
    >>> filled = DenoisingAutoencoder(max_epochs=5, random_state=0).fit_transform(frame)
    >>> filled["sex"][2]
    'm'

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

    _reads_gaps = True
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
        "min_value": LIMIT,
        "max_value": LIMIT,
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
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
        min_value=NO_LIMIT["min_value"],
        max_value=NO_LIMIT["max_value"],
        categorical_features="from_dtype",
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
        self.min_value = min_value
        self.max_value = max_value
        self.categorical_features = categorical_features
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

    # Public uses.

    def transform(self, X):
        """Clean rows and fill missing cells, or return what `output` names.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows; any cells may be missing.

        Returns
        -------
        X_out : ndarray, or frame as in ``fit``, of shape (n_samples, n_features_out)
            Rows without gaps, in the units of X (see `keep_empty_features`); or latents; or
            hidden activations. Behind them the indicators of `add_indicator`. Rows of mixed tables
            come in the container and of the dtypes of ``fit``.
        """
        check_is_fitted(self)
        table = X
        X, to_input_type = self._validate_input(X)
        if self.output == "denoised":
            draws = self._new_draws() if self.sample_posterior else None
            out = self._denoise(X, draws)
            if not holds_numbers(self):
                marks = self._indicators(X) if self.add_indicator else None
                return restored_table(self, out, table, to_input_type, marks)
            out = out[:, self._kept_columns]
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
        X_original : ndarray, or frame as in ``fit``, of shape (n_samples, n_features)
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
            1 is perfect, 0 no better than the training mean. In mixed tables, errors are those of
            :meth:`AutoencoderTransformer.score`.
        """
        check_is_fitted(self)
        X = as_numpy_table(self._validate_input(X)[0])
        clean = None if X_clean is None else self._check_clean(X_clean, X)
        return self._share_explained(X, clean, checked_weight(sample_weight, X.shape[0]))

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

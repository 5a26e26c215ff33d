"""The variational autoencoder that draws new rows and computes log-densities."""

from numbers import Integral, Real

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import as_precise_as, asarray_like
from skae._data._validation import checked_weight
from skae._fit._plan import may_change
from skae._sklearn import Interval, StrOptions, average
from skae.estimators._base import BaseAutoencoder
from skae.estimators._generation import GenerationMixin


class VAEGenerator(
    ClassNamePrefixFeaturesOutMixin, GenerationMixin, TransformerMixin, BaseAutoencoder
):
    """Variational autoencoder that draws new rows and computes log-densities.

    It stands where :class:`~sklearn.mixture.GaussianMixture` or
    :class:`~sklearn.neighbors.KernelDensity` would. Columns may be numbers, booleans, dates,
    strings or categories, and may miss cells: a frame of the same columns and dtypes comes out.

    Parameters
    ----------
    n_components : int, float or "auto", default="auto"
        Number of latents. A float f in (0, 1) is as many as PCA needs for the share f of
        the variance of what the encoder reads. ``"auto"`` is 16 or, from 256 columns on,
        20, and never more than the directions that rows can vary in.
    likelihood : {"auto", "gaussian", "bernoulli"}, default="auto"
        How cells are distributed given the latents. ``"auto"`` is the interval likelihood of
        normal scores for numbers, and probabilities of levels (see Notes). ``"gaussian"`` is a
        normal distribution per column, and ``"bernoulli"``, for X in [0, 1], one probability per
        cell (cells between 0 and 1 are probabilities themselves: training draws bits from them,
        ``sample`` returns them, and their log-likelihood is an expected one). These two are for
        images, and for tables without missing cells or levels.
    prior : {"mixture", "standard"}, default="mixture"
        Distribution of the latents: a mixture of normal distributions, fitted to draws from the
        posteriors of the training rows after training, or the standard normal distribution.
    n_mixture_components : int or "auto", default="auto"
        Normal distributions in that mixture, with ``conditional=True`` shared out among the classes
        or tenths of y. ``"auto"`` is one for 30 rows, between 3 and 60.
    refine : bool or "auto", default="auto"
        Whether gradient-boosted trees learn to distinguish real rows from drawn ones, and correct
        for what they see [4]_: of 8 candidates, whose cells trees draw up to 64 columns [5]_, one
        is drawn by its odds of being real. ``"auto"`` is True for ``likelihood="auto"`` from 1000
        rows on and below 256 columns.
    beta : float, default=1.0
        Factor of the divergence of posteriors from the prior; only with 1 is the objective a bound.
    kl_warmup : float, default=0.05
        Share of the steps over which that factor rises from zero.
    conditional : bool, default=False
        Whether the rows' distribution given y is learned: ``fit`` then needs y, one class
        (whole numbers are classes) or one number per row, and ``sample`` takes it.
    n_importance_samples : int, default=100
        Draws from each posterior behind ``score_samples`` and ``elbo``.
    relations : "auto", list or None, default="auto"
        Relations of :mod:`skae.relations` that all rows obey, drawn ones too. ``"auto"`` finds
        those that hold in every training row (see Notes). Only for ``likelihood="auto"``.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Columns of levels, as in :class:`AutoencoderTransformer`; flags are numbers of two values.
    private_values : bool, default=False
        Whether ``sample`` keeps out numbers and levels of fewer than 10 training rows (see Notes).
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse.
        ``"auto"`` is (128, 128) below 256 columns and (512, 512) from there on.
    activation : str, default="silu"
        Activation of the hidden layers, as in :class:`AutoencoderTransformer`.
    network : object, default=None
        As in :class:`AutoencoderTransformer`, but its ``build`` is called twice: for an encoder to
        twice the number of latents (means and log-variances), and for a decoder.
    init : {"pca", "random"}, default="pca"
        ``"pca"`` adds linear paths that start at probabilistic PCA [2]_.
    alpha : float or "auto", default="auto"
        Decoupled L2 weight penalty. ``"auto"`` is 0.
    learning_rate : float or "auto", default="auto"
        Peak of the schedule, which rises over 10 % of the steps and falls to zero over
        the last 40 %. ``"auto"`` is 0.01, and 0.003 from 256 columns on or below 1000 rows.
    batch_size : int or "auto", default="auto"
        Rows per step. ``"auto"`` is 256.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. ``"auto"`` is 20, or what 400 steps take if that is more: 700 with
        another `network` or `likelihood` or 256 columns, and 300 below 1000 rows, to memorise none.
    early_stopping : bool, default=False
        Whether rows are held out to choose the epoch whose weights are kept, not the last.
    validation_fraction : float, default=0.1
        Share of the rows that is held out.
    n_iter_no_change : int or None, default=None
        As in :class:`AutoencoderTransformer`.
    warm_start : bool, default=False
        As in :class:`AutoencoderTransformer`.
    device : str, default="auto"
        As in :class:`AutoencoderTransformer`.
    precision : {"float32", "bfloat16"}, default="float32"
        As in :class:`AutoencoderTransformer`.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called as in skorch.
    random_state : int, RandomState instance or None, default=None
        Seeds all of ``fit``; an int gives the same bits again, with the same number of threads.
    verbose : int, default=0
        As in :class:`AutoencoderTransformer`.

    Attributes
    ----------
    n_components_ : int
        Number of latents.
    prior_ : sklearn.mixture.GaussianMixture or None
        Mixture of the latents; None for ``prior="standard"``.
    refiner_ : object or None
        The trees (`trees_`), with a method ``log_ratio`` of numbers and codes.
    relations_ : list
        Relations that were found, or given.
    n_iter_ : int
        Epochs run.
    best_epoch_ : int
        Epoch whose weights were kept.
    loss_curve_ : list of float
        Negative evidence lower bound of each epoch, in nats per row (with `beta`).
    validation_loss_curve_ : list of float or None
        The same on held-out rows at the start and after each epoch, if there were any.
    net_ : skorch.NeuralNet
        The trained net.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.
    n_samples_seen_ : int
        Rows of positive weight in the last ``fit`` and in each ``partial_fit`` since.

    See Also
    --------
    sklearn.mixture.GaussianMixture : A density for few continuous columns.

    Notes
    -----
    A variational autoencoder [1]_ learns a density through latents. Here each number is first
    turned into a normal score by the ranks of its column. A value that many rows share (zero, both
    values of a flag, any integer) owns the interval of scores between the shares of rows below and
    up to it, and its likelihood is the normal probability of that interval; other values have a
    density. Whether a cell is missing is a flag of its own; a missing cell adds nothing else to
    the likelihood. Draws are mapped back by the quantiles of the column and keep its range, its
    integers and its number of decimals. Log-densities are importance-weighted bounds [3]_.

    With `refine`, a tree for each column reads latents, the decoder's outputs and the cells before
    it, and draws from its leaves of at least 10 training rows: values that 10 share, or numbers
    between two. The density stays that of the network and its odds.

    ``private_values=True`` draws numbers that 10 rows share or none has, between the tenth smallest
    and largest; rarer levels are learned as the commonest. It is no differential privacy.

    ``partial_fit`` keeps what its first call learned of the columns (ranks, levels, which of them
    miss cells) and of y, and fits the prior to the rows of its last call.

    A relation is found, in dense tables in memory of up to 255 columns, if it holds in 100 rows or
    more and fails in none, where 30 failures were to be expected of independent columns (12 next to
    bounds). What it makes redundant is not learned, and put back into rows.
    ``reconstruction_error`` counts a level that differs as 1 and dates in steps of their column.

    The fitted model and its pickles hold the distinct values of every column: leave out those that
    name rows. Pickles and copies lack the 5000 training rows at most that ``evaluate`` needs.

    With ``sklearn.config_context(array_api_dispatch=True)``, tensors come back as tensors, which
    pass through NumPy unless a ``likelihood`` is for images, without `refine` and `conditional`.
    ``sample`` always gives NumPy arrays or frames.

    References
    ----------
    .. [1] Kingma & Welling, "Auto-encoding variational Bayes", ICLR 2014.
    .. [2] Tipping & Bishop, "Probabilistic principal component analysis", JRSS B 61, 1999.
    .. [3] Burda, Grosse & Salakhutdinov, "Importance weighted autoencoders", ICLR 2016.
    .. [4] Grover et al., "Bias correction of learned generative models using
       likelihood-free importance weighting", NeurIPS 2019.
    .. [5] Reiter, "Using CART to generate partially synthetic public use microdata", 2005.

    Examples
    --------
    >>> from sklearn.datasets import load_wine
    >>> from skae import VAEGenerator
    >>> X = load_wine(as_frame=True).data
    >>> generator = VAEGenerator(max_epochs=20, random_state=0).fit(X)
    >>> new = generator.sample(3, random_state=0)
    >>> list(new.columns) == list(X.columns)
    True
    >>> generator.sample(2, conditions={"alcohol": 13.0}, random_state=0)["alcohol"].tolist()
    [13.0, 13.0]
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "likelihood": [StrOptions({"auto", "gaussian", "bernoulli"})],
        "prior": may_change(StrOptions({"mixture", "standard"})),
        "n_mixture_components": may_change(
            Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})
        ),
        "refine": may_change("boolean", StrOptions({"auto"})),
        "beta": [Interval(Real, 0, None, closed="left")],
        "kl_warmup": [Interval(Real, 0, 1, closed="both")],
        "conditional": ["boolean"],
        "n_importance_samples": may_change(Interval(Integral, 1, None, closed="left")),
        "relations": [StrOptions({"auto"}), list, None],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
        "private_values": ["boolean"],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        likelihood="auto",
        prior="mixture",
        n_mixture_components="auto",
        refine="auto",
        beta=1.0,
        kl_warmup=0.05,
        conditional=False,
        n_importance_samples=100,
        relations="auto",
        categorical_features="from_dtype",
        private_values=False,
        hidden_layer_sizes="auto",
        activation="silu",
        network=None,
        init="pca",
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
        self.n_components = n_components
        self.likelihood = likelihood
        self.prior = prior
        self.n_mixture_components = n_mixture_components
        self.refine = refine
        self.beta = beta
        self.kl_warmup = kl_warmup
        self.conditional = conditional
        self.n_importance_samples = n_importance_samples
        self.relations = relations
        self.categorical_features = categorical_features
        self.private_values = private_values
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

    # Drawing rows.

    def sample(self, n_samples=1, random_state=None, *, y=None, conditions=None):
        """Draw new rows.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.
        y : scalar or array-like of shape (n_samples,), default=None
            With ``conditional=True``, the class or number that rows are drawn for: one for
            all rows or one for each, in which case `n_samples` is not needed. None draws
            each as often as it occurred in ``fit``.
        conditions : dict or frame, default=None
            What all rows get in some columns (by name, or by number where X had no names): a
            value, a list of values, or a tuple of the ends of a range, both included (None:
            open). None and NaN ask for a missing cell. A frame of several rows is completed
            row by row; `n_samples` is not needed then. Only for ``likelihood="auto"``.

        Returns
        -------
        X : ndarray or frame of shape (n_samples, n_features)
            Rows, in the container and with the dtypes of the training data.

        Raises
        ------
        ValueError
            If there is no such column, it cannot hold such a value, or no row drawn does.

        Warns
        -----
        UserWarning
            If conditions are so rare that many rows come from the same latents.

        Notes
        -----
        Values are met by importance resampling: 20 latents per row drawn (20000 to 200000 for
        each batch of rows) come from the prior, and rows from those picked by weights w: how
        likely they make the values. The effective sample size is ``sum(w) ** 2 / sum(w ** 2)``;
        the warning comes where it is below 10 or half the rows wanted. Ranges and lists are met
        by drawing until rows are in them, a million at most. For a value that relations
        determine, another column is solved for it.

        In a :class:`~sklearn.pipeline.Pipeline`, ask its last step:
        ``pipeline[:-1].inverse_transform(pipeline[-1].sample(10))``.
        """
        check_is_fitted(self)
        rng = check_random_state(random_state)
        return self._sample(n_samples, y, conditions, rng)

    def interpolate(self, a, b, n=10):
        """Rows along the line between the latents of two rows.

        Parameters
        ----------
        a, b : array-like of shape (n_features,), or frame of one row
            Where the line begins and ends.
        n : int, default=10
            Number of rows, both ends included.

        Returns
        -------
        X : ndarray or frame of shape (n, n_features)
            Most likely rows; the first and the last are reconstructions of a and b.
        """
        check_is_fitted(self)
        return self._wrap_output(self._on_line(a, b, n))

    # How likely rows are.

    def score_samples(self, X, y=None):
        """Log-density of each row, in nats.

        It is the importance-weighted bound (Burda et al., 2016), which approaches the
        log-density from below as `n_importance_samples` grows. Draws are the same for every
        call and row.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, what to condition on; None averages over it.

        Returns
        -------
        log_density : ndarray of shape (n_samples,)
            Densities are in the units of X where a column has a density (so rescaling X
            by c adds ``-log(c)``); for values that many rows share, integers mostly,
            levels and missing cells they are probabilities. A number never met among
            such counts as one that one row had, and a missing cell in a column that
            missed none adds nothing. A level that was not in ``fit`` is an error: pool
            rare ones first; one that the dtype declares counts as one that one row had,
            in a row that misses the cell. Columns that relations determine add nothing,
            either, and a row that breaks a relation, which is never drawn, has density
            zero: minus infinity.
        """
        check_is_fitted(self)
        rows, to_input_type = self._validate_input(X, y)
        log_density = self._unless_broken(X, self._log_density(rows, y is not None))
        return to_input_type(as_precise_as(rows, log_density))

    def score(self, X, y=None, sample_weight=None):
        """Mean log-density of the rows, in nats: higher is better.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            With ``conditional=True``, what to condition on; else ignored.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            Weighted mean of ``score_samples``.
        """
        check_is_fitted(self)
        rows, _ = self._validate_input(X, y if self.conditional else None)
        weight = checked_weight(sample_weight, rows.shape[0])
        log_density = self._unless_broken(X, self._log_density(rows, y is not None))
        weights = None if weight is None else asarray_like(weight, log_density)
        return float(average(log_density, weights=weights))

    def elbo(self, X, y=None):
        """Evidence lower bound of each row and its two parts, in nats.

        This is what training maximises (with ``beta=1``): the bound under the standard
        normal prior, so ``score_samples`` is higher.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Rows.
        y : array-like of shape (n_samples,), default=None
            What to condition on; needed with ``conditional=True``.

        Returns
        -------
        bound : sklearn.utils.Bunch
            Arrays of shape (n_samples,): ``elbo``, which is ``reconstruction - kl``;
            ``reconstruction``, the expected log-likelihood; and ``kl``, the divergence of
            the posterior from the standard normal distribution.
        """
        check_is_fitted(self)
        if self.conditional and y is None:
            raise ValueError("y=None: with conditional=True the bound is that of rows given y.")
        rows, to_input_type = self._validate_input(X, y)
        bound, reconstruction, kl = self._bound(rows)
        bound, reconstruction = (self._unless_broken(X, part) for part in (bound, reconstruction))
        parts = {"elbo": bound, "reconstruction": reconstruction, "kl": kl}
        return Bunch(**{name: to_input_type(part) for name, part in parts.items()})

    def evaluate(self, X_held_out, *, X_train=None, random_state=0):
        """Compare as many new rows with held-out rows.

        Parameters
        ----------
        X_held_out : {array-like, frame} of shape (n_samples, n_features)
            Rows that were not trained on; fewer than 100 give unreliable results.
        X_train : {array-like, frame} of shape (n_train, n_features), default=None
            Training rows, for what has to do with them. None takes those kept by ``fit``,
            which are lost in pickles and copies; then these measures are NaN.
        random_state : int, RandomState instance or None, default=0
            Seeds the draws, the classifier and its folds.

        Returns
        -------
        report : sklearn.utils.Bunch
            - ``auroc``: of gradient-boosted trees that classify new against held-out rows, over
              shuffled folds; 0.5 is ideal.
            - ``ks``: mean distance of the columns' distributions (Kolmogorov-Smirnov for
              numbers, total variation for levels), and ``ks_real``, that of training from
              held-out rows.
            - ``correlation_difference``: mean absolute difference of rank correlations
              of columns of numbers.
            - ``zero_share_difference``: mean absolute difference of the columns' shares of
              zeros.
            - ``record_distance_ratio``: median distance of new rows to the closest training
              row, over that of held-out rows; far below 1 means that rows are copied.
            - ``excess_copies``: share of new rows that equal a training row, less that of
              held-out rows.
        """
        check_is_fitted(self)
        return self._fidelity(X_held_out, X_train, check_random_state(random_state))

    # Latents.

    def transform(self, X):
        """Map rows to the means of their posteriors.

        Parameters
        ----------
        X : {array-like, sparse matrix, frame} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Latents.
        """
        return self.encode(X)

    def inverse_transform(self, X):
        """Map latents to the most likely rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Latents.

        Returns
        -------
        X_original : ndarray or frame of shape (n_samples, n_features)
            Rows, in the container and with the dtypes of the training data. Numbers are
            medians, levels the most probable ones; with ``conditional=True``, given
            the most probable y at the latents.
        """
        return self.decode(X)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.categorical &= self.likelihood == "auto"
        tags.input_tags.string &= self.likelihood == "auto"
        tags.target_tags.required = self.conditional
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

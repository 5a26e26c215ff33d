"""The autoencoder that replaces PCA."""

from numbers import Real

from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skae._data._arrays import asarray_like, namespace
from skae._data._fitted_arrays import numpy_array
from skae._data._validation import checked_weight
from skae._engine._losses import CELL_LOSSES
from skae._engine._row_errors import distances_to, row_errors
from skae._sklearn import Interval, StrOptions
from skae._stats._scoring import share_explained
from skae.estimators._base import BaseAutoencoder
from skae.estimators._compression import LATENT_NOISE, CompressionMixin
from skae.estimators._mixed_tables import TablesMixin


class AutoencoderTransformer(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    CompressionMixin,
    TablesMixin,
    BaseAutoencoder,
):
    """Autoencoder that replaces PCA.

    Rows are mapped to a few latents and back by a network that starts as principal
    component analysis and then learns what a linear map cannot represent. What it learned is
    kept if it lowers the loss of held-out rows, or if the rows show before training that it
    will. Otherwise, for example if there are too few rows to improve on PCA, the result is PCA;
    `best_epoch_` is then 0.

    Rows are centred and divided by one common scale, so the default objective is
    PCA's: the total squared error in the units of X. Put a
    :class:`~sklearn.preprocessing.StandardScaler` before it where columns differ in
    units, as you would for PCA. Tables with levels (strings, categories, booleans), dates or
    missing cells are *mixed*: for them, the start is factor analysis of mixed data (FAMD), columns
    are standardised, and reconstructions are tables like X (see Notes).

    Latents come in the units of PCA's scores: centred, uncorrelated, in order of falling
    variance, and a latent's variance is what it explains. So what is tuned to PCA's scores, such
    as the `gamma` of a support vector machine, suits them as well.

    Parameters
    ----------
    n_components : int, float, None or "auto", default="auto"
        Number of latents. An int may exceed the number of columns; then let a penalty
        or noise keep the network from copying (unless one is set, there is a warning). A float f
        in (0, 1) trains ordered latents, as many as PCA would need for the share f of the
        variance (256 at most), and keeps the fewest leading latents that explain f on held-out
        rows, or all if none do. ``"auto"`` is 0.95. None keeps ``min(n_samples, n_features)``,
        as PCA does: the start then copies the rows, and is what is kept, unless `input_noise`
        is set and `early_stopping` is False.
    hidden_layer_sizes : int, array-like of int or "auto", default="auto"
        Widths of the encoder's hidden layers; the decoder has them in reverse.
        ``"auto"`` is (128, 64) below 256 columns and (512, 128) from there on.
    activation : str, default="silu"
        Activation of the hidden layers: ``"elu"``, ``"gelu"``, ``"identity"``,
        ``"leaky_relu"``, ``"logistic"``, ``"relu"``, ``"silu"`` or ``"tanh"``.
    network : object, default=None
        None is the network described by the two parameters above. Anything with a
        method ``build(n_features, n_components)`` that returns an encoder and a decoder
        (``torch.nn.Module``, mapping (n, n_features) to (n, n_components) and back)
        replaces it, such as :class:`skae.networks.ConvNetwork`. See the last example.
    init : {"pca", "random"}, default="pca"
        ``"pca"`` adds a linear path, started at PCA, to encoder and decoder, and starts
        the networks beside it at zero. ``"random"`` is a plain autoencoder.
    loss : str, default="squared_error"
        What is minimised, per cell of the scaled rows: ``"squared_error"``,
        ``"absolute_error"``, ``"huber"`` (quadratic up to 1, linear beyond), or
        ``"binary_cross_entropy"``, which needs X in [0, 1].
    output_activation : {"auto", "identity", "logistic", "relu"}, default="auto"
        Bounds on reconstructions: X itself must lie in [0, 1] for ``"logistic"`` and be
        non-negative for ``"relu"``, unless ``scaling="minmax"`` makes it so. ``"auto"``
        is ``"logistic"`` for binary cross-entropy and else ``"identity"``.
    tied_weights : bool, default=False
        Whether the decoder uses the encoder's weight matrices, transposed.
    l1 : float, default=0.0
        Factor of the sum of absolute weights, added to the loss.
    sparsity : float, default=0.0
        Factor of the penalty that keeps latents near zero. If it is positive, latents are not
        centred and not rotated, so that those that are zero stay so.
    sparsity_penalty : {"l1", "kl"}, default="l1"
        ``"l1"`` is the mean absolute latent. ``"kl"`` is the Kullback-Leibler divergence
        between Bernoulli distributions with means `sparsity_target` and the batch mean
        of ``|tanh c|`` for the encoder's outputs c (see Notes), summed over them.
    sparsity_target : float, default=0.05
        Mean activity that ``"kl"`` aims at.
    input_noise : float or "auto", default="auto"
        Standard deviation of Gaussian noise added to the scaled rows in training.
        ``"auto"`` is half the root mean square error of PCA with as many latents (per
        principal coordinate where training happens in these, see Notes).
    latent_noise : float, default=0.1
        Standard deviation of Gaussian noise added to the encoder's outputs in training, where
        the first latent of PCA has standard deviation 1.
    dropout : float or "auto", default="auto"
        Share of hidden units dropped in training (default network only). ``"auto"`` is 0; with
        fewer than 1000 rows of 256 columns or more, it is 0.3 if that lowers the error on held-out
        rows (see Notes).
    scaling : {"auto", "global", "standard", "minmax", "robust"} or None, default="auto"
        How rows are scaled inside: one scale for all columns, standard deviations,
        ranges, interquartile ranges about the median (half the range where quartiles
        coincide), or not at all. ``"auto"`` is ``"standard"`` where there are levels or
        dates, and else ``"global"``. In mixed tables it is about the columns of numbers and dates.
        Indicators of levels are divided by the roots of their shares, but with ``"minmax"`` and
        None remain 0 and 1.
    ordered : bool, default=False
        Whether latents come ordered by importance, by nested dropout [2]_. Implied by
        a float or "auto" `n_components`.
    whiten : bool, default=False
        Whether ``transform`` divides latents by their standard deviations on the training rows,
        as PCA's does, and ``inverse_transform`` multiplies by them. It removes what the variances
        say of the latents' importance, and can help estimators that expect equal ones. It may
        change before a ``fit`` with `warm_start`, but not before ``partial_fit``.
    categorical_features : {"from_dtype"}, array-like or None, default="from_dtype"
        Columns of levels, by names, by numbers or as a mask. ``"from_dtype"`` takes those of
        categories and, if any column holds strings, categories or dates, all of strings, objects
        and booleans, too. None takes none: dates are read, other cells must be numbers.
    alpha : float or "auto", default="auto"
        Decoupled L2 weight penalty [3]_. ``"auto"`` is 0 below 256 columns and, from
        there on, the smaller of 0.3 and 420 divided by the number of steps.
    learning_rate : float or "auto", default="auto"
        Peak of the schedule, which rises over 3 % of the steps and falls to zero over
        the last 40 %. ``"auto"`` is 0.02 below 256 columns and from there on 0.01, or 0.015 below
        1000 rows. For networks that are not plain (see Notes), it is 0.01 and 0.004, rises over
        10 % and falls over 40 %.
    batch_size : int or "auto", default="auto"
        Rows per step. ``"auto"`` is 96 below 1000 rows, 192 below 10 000, 384 below 50 000 and
        else 512; for networks that are not plain (see Notes) 64 below 1000 rows and else 128.
        Plain ones take as many steps in batches of even size, so that an epoch does not end with
        a step on a few rows.
    max_epochs : int or "auto", default="auto"
        Passes over the rows. ``"auto"`` is what ``500 * (n_samples / 2000) ** (1 / 6)``
        steps take, one pass at least, and below 1000 rows what
        ``min(300, max(50, 5 * n_samples))`` steps take; below 256 columns it is twice that unless
        the rows promise much (see Notes). For networks that are not plain, it is what 1500 steps
        take, but 12 at least, and below 1000 rows what ``min(600, max(100, 10 * n_samples))``
        steps take.
    early_stopping : bool, default=True
        Whether the rows decide if training is worth it, and which epoch is kept: by what they
        show before it, or else by the loss of held-out rows (see Notes). False trains on all
        rows for `max_epochs` and keeps the last epoch.
    validation_fraction : float, default=0.1
        Share of the rows that is held out, where any are. Below 1000 rows there are
        ``1 / validation_fraction`` folds, but two at least and five at most.
    n_iter_no_change : int or None, default=None
        Stop after this many epochs without a new best validation loss, for which rows are
        always held out. None runs the schedule to its end, which is where most fits are best.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the fitted network and its scaling; units and axes of the
        latents are learned anew. Parameters that determine the network must not change.
    device : str, default="auto"
        Where to compute: ``"cpu"``, ``"cuda"``, ...; ``"auto"`` is CUDA where there is one.
    precision : {"float32", "bfloat16"}, default="float32"
        Arithmetic of matrix products; weights are float32 always. ``"bfloat16"`` is worth it
        for wide networks on GPUs and processors with AMX or AVX512-BF16; on others float32 is
        used instead, with a warning.
    callbacks : list of skorch.callbacks.Callback, default=None
        Called as in skorch, in one training with one split of the rows; per-batch hooks make
        it slower, and without any the history counts an epoch as one batch. The learning rate
        follows skae's own schedule: schedulers (``LRScheduler``) among them have no effect. They
        are used as they are, not copied.
    random_state : int, RandomState instance or None, default=None
        Seeds the split, the weights, the batches and the noise; an int makes results
        reproducible, bit for bit, with the same number of threads.
    verbose : int, default=0
        1 shows a progress bar with losses and time left for all stages of a fit together, and
        says if the result is PCA. Among workers, say of a grid search, one line is printed when
        the fit has ended. 2 prints a line an epoch, 0 nothing.

    Attributes
    ----------
    n_components_ : int
        Number of latents.
    explained_variance_ : ndarray of shape (n_components_,)
        Variance of each latent on the training rows (before it is divided by, with `whiten`),
        with ``n_samples - 1`` degrees of freedom. Its unit is that of the latents, squared.
    explained_variance_ratio_ : ndarray of shape (n_components_,)
        `explained_variance_` divided by the total variance of the training rows. The sum is the
        share that reconstructions explain of these rows, ``score`` of them (if it is positive).
        With ordered latents it is instead the share that each latent adds to those before it, on
        held-out rows, or on the training rows if there were none. Without, the total of a mixed
        table is the inertia of FAMD.
    latent_size_curve_ : ndarray of shape (n_trained_latents,)
        Share of the variance explained by the first 1, 2, ... latents, on held-out
        rows. Only with ordered latents.
    mean_ : ndarray of shape (n_features,)
        Mean of the training rows: those of the last ``fit`` and of each ``partial_fit`` since. In
        mixed tables, those of the first fit: of dates in ticks, of levels the commonest code.
    n_iter_ : int
        Epochs run, in the last stage of the fit; 0 if nothing but PCA can be learned.
    best_epoch_ : int
        Epoch whose weights were kept. 0 is the start: this is how to see that the result is
        PCA (unless ``init="random"``).
    loss_curve_ : list of float
        Training loss of each epoch, per scaled cell, noise and penalties included.
    validation_loss_curve_ : list of float or None
        Loss on held-out rows, the mean over folds, at the start and after each epoch, without
        noise and penalties. None where they chose no epoch: without early stopping, after
        ``partial_fit``, and if the rows promise much or nothing or a trial did (see Notes). With
        `n_iter_no_change`, which may be large, or `callbacks`, rows are held out then, too.
    net_ : skorch.NeuralNet
        The trained net; it reads scaled rows.
    n_features_in_ : int
        Number of columns seen in ``fit``.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the columns, where X had string names.
    n_samples_seen_ : int
        Rows of positive weight in the last ``fit`` and in each ``partial_fit`` since.

    See Also
    --------
    sklearn.decomposition.PCA : The linear answer, which this estimator starts from.

    Notes
    -----
    An autoencoder is a network that reproduces its input through a bottleneck [1]_. Here
    the encoder is ``z = W x + b + f(x)`` and the decoder ``x = V z + c + g(z)``, with
    networks f and g whose last layers start at zero and linear maps that start at PCA's,
    divided by one common scale.

    A network is *plain* if `network` is None, `init` is ``"pca"``, the loss is the squared error
    without bounds on reconstructions, weights are not tied, and `l1` and `sparsity` are 0. Its
    weight matrices, but for those of the linear maps, are trained by orthogonalised momentum
    (Muon) [4]_; all else is trained by AdamW [3]_.

    A fit of a plain network, unless that is linear, begins with regressions on random functions
    of PCA's latents. They take milliseconds, and show what training promises. With early
    stopping, and without `n_iter_no_change`, `callbacks` and a warm start, this decides:

    - *Nothing*: PCA leaves no error, or there are more than four columns per row. The
      result is PCA, without training.
    - *Hardly anything*: no principal coordinate tells of another, and there are 12 at least. A
      tenth of the schedule is tried, and the result is PCA if held-out rows are then reproduced
      worse by two standard errors of the mean.
    - *Much*: a nonlinear decoder of PCA's latents would save 20 % of PCA's error or more.
      Training is on all rows, none are held out, and the last epoch is kept. (Rows are still held
      out for ordered latents and where training is in principal coordinates.)
    - *Neither*: a quarter of the schedule is tried on held-out rows, those of folds below 1000
      rows, else up to five tenths, one and then all, until the mean gain is two standard errors
      above or below zero. If it is two above, training is on all rows, and the last epoch
      is kept. If not, the whole schedule is tried on the folds, or on one tenth, and the result is
      PCA if it is worse by two standard errors. (Below 10 000 rows and 256 columns, with layer
      sizes, epochs, rates and penalties left as they are, and without ordered latents.)

    In all other cases held-out rows choose the epoch: those of folds below 1000 rows, else those
    of one split. Below 10 000 rows (1000 with ordered latents or 256 columns), the network is then
    trained on all rows. Its last epoch is kept if the held-out loss was lower there than at the
    start; otherwise, and with ordered latents or 256 columns, the epoch where it was lowest. With
    more rows, `callbacks` or a warm start, there is no training after that on the split, whose best
    epoch is kept. The start, epoch 0, is always among the candidates.

    Below 1000 rows of 256 columns or more, plain networks memorise what PCA leaves out. They are
    trained in the leading principal coordinates, with `dropout` and without if it is "auto", and
    compared with PCA on folds until 100 rows have been held out or the mean difference is beyond
    three standard errors. The best is then trained on all rows. (Not for ordered latents,
    `n_iter_no_change`, `callbacks` and a warm start.)

    Where one training on a split is all, or ``early_stopping=False``, plain networks for 256
    columns or more are trained in the leading principal coordinates, and the rotation is merged
    into their weights afterwards. After such a training on a split, the decoder's last layer of
    plain networks, unless latents are ordered, is refitted by ridge regression if that lowers the
    error on the held-out rows.

    Encoder and decoder are trained on codes of their own scale. After training, codes c become
    latents ``z = a R (B^T B)^(1/2) (c - mean(c))``, where B are the coefficients of the linear
    regression of reconstructions on codes, R rotates to principal axes (with the signs of
    scikit-learn's PCA), and the factor a makes the variances of the latents add up to the variance
    that reconstructions explain. If the network is linear, a is 1 and latents are the scores of a
    PCA of the reconstructions. They are in the units of X with ``scaling="global"`` and None, and
    else in those of the scaled rows. Ordered latents are only scaled, each to the variance that it
    adds to those before it; one that is set to zero is left out. All this is learned from 16384
    training rows at most, in ``partial_fit`` those of its first call. Reconstructions do not
    depend on it.

    A mixed table becomes numbers, ticks of dates and indicators of levels. A level of share p has
    ``(indicator - p) / sqrt(p)``: PCA of such rows is FAMD [5]_, and as long as the start is kept,
    latents are its row coordinates. The decoder gives out numbers, and probabilities by a softmax
    for each column of levels, which are FAMD's reconstruction to first order. Losses of levels are
    those of ``score``. A missing cell is read as the mean and counts in no loss; PCA or FAMD then
    comes from ten rounds of filling by its components [6]_. A level that a dtype of pandas
    declares, but no training row had, is read as a missing cell; other new levels are errors, and
    so are gaps after a fit without any, and gaps in tensors, sparse rows and rows on disk.
    Held-out rows decide on these networks, unless there are more than four inputs per row.

    With ``sklearn.config_context(array_api_dispatch=True)``, floating torch tensors are read
    on their own device, and the output is on the same device; only the statistics of ``fit`` are
    computed in NumPy, chunk by chunk. Other tensors and array-API
    arrays are taken to NumPy and back. `mean_` and the other fitted arrays are like the rows of
    ``fit``; those of copies, pickles and loaded files are NumPy's.

    References
    ----------
    .. [1] Hinton & Salakhutdinov, "Reducing the dimensionality of data with neural
       networks", Science 313, 2006.
    .. [2] Rippel, Gelbart & Adams, "Learning ordered representations with nested
       dropout", ICML 2014.
    .. [3] Loshchilov & Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [4] Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024.
    .. [5] Pages, "Multiple Factor Analysis by Example Using R", Chapman & Hall, 2014.
    .. [6] Josse & Husson, "Handling missing values in exploratory multivariate data analysis
       methods", Journal de la SFdS 153, 2012.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skae import AutoencoderTransformer
    >>> X, y = load_digits(return_X_y=True)
    >>> autoencoder = AutoencoderTransformer(8, max_epochs=10, random_state=0)
    >>> Z = autoencoder.fit_transform(X)
    >>> Z.shape
    (1797, 8)
    >>> autoencoder.score(X) > 0.75  # PCA(8) explains 0.67
    True
    >>> bool(abs(autoencoder.explained_variance_ratio_.sum() - autoencoder.score(X)) < 1e-4)
    True

    Choosing the number of latents from one fit:

    >>> ordered = AutoencoderTransformer(0.8, max_epochs=10, random_state=0).fit(X)
    >>> ordered.latent_size_curve_.shape[0] >= ordered.n_components_
    True

    A mixed table:

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"digit": pd.Categorical(y), "ink": X.sum(axis=1)})
    >>> mixed = AutoencoderTransformer(1, max_epochs=2, random_state=0).fit(frame)
    >>> mixed.reconstruct(frame).dtypes.equals(frame.dtypes)
    True
    """

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "n_components": [*BaseAutoencoder._parameter_constraints["n_components"], None],
        "loss": [StrOptions(set(CELL_LOSSES))],
        "output_activation": [StrOptions({"auto", "identity", "logistic", "relu"})],
        "tied_weights": ["boolean"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "sparsity": [Interval(Real, 0, None, closed="left")],
        "sparsity_penalty": [StrOptions({"l1", "kl"})],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither")],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "latent_noise": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left"), StrOptions({"auto"})],
        "scaling": [StrOptions({"auto", "global", "standard", "minmax", "robust"}), None],
        "ordered": ["boolean"],
        "whiten": ["boolean"],
        "categorical_features": ["array-like", StrOptions({"from_dtype"}), None],
    }

    def __init__(
        self,
        n_components="auto",
        *,
        hidden_layer_sizes="auto",
        activation="silu",
        network=None,
        init="pca",
        loss="squared_error",
        output_activation="auto",
        tied_weights=False,
        l1=0.0,
        sparsity=0.0,
        sparsity_penalty="l1",
        sparsity_target=0.05,
        input_noise="auto",
        latent_noise=LATENT_NOISE,
        dropout="auto",
        scaling="auto",
        ordered=False,
        whiten=False,
        categorical_features="from_dtype",
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
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.network = network
        self.init = init
        self.loss = loss
        self.output_activation = output_activation
        self.tied_weights = tied_weights
        self.l1 = l1
        self.sparsity = sparsity
        self.sparsity_penalty = sparsity_penalty
        self.sparsity_target = sparsity_target
        self.input_noise = input_noise
        self.latent_noise = latent_noise
        self.dropout = dropout
        self.scaling = scaling
        self.ordered = ordered
        self.whiten = whiten
        self.categorical_features = categorical_features
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
        """Map rows to latents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Latents, in the units of X where all columns share one scale.
        """
        return self.encode(X)

    def inverse_transform(self, X):
        """Map latents back to rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_components_)
            Latents.

        Returns
        -------
        X_original : ndarray, or frame as in ``fit``, of shape (n_samples, n_features)
            Rows, in the units of the training data. Mixed tables come in the container and of the
            dtypes of ``fit``, with the most probable levels.
        """
        return self.decode(X)

    def score(self, X, y=None, sample_weight=None):
        """Share of the variance of X about the training mean that reconstructions explain.

        It is comparable to the sum of PCA's ``explained_variance_ratio_``: 1 is a
        perfect reconstruction, 0 is no better than the training mean, `mean_`.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.
        y : Ignored
            Present for API consistency.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            ``1 - sum((X - reconstruct(X)) ** 2) / sum((X - mean_) ** 2)``.

        Notes
        -----
        In mixed tables, both sums are over observed cells, and errors are those of scaled columns.
        That of a number is its squared difference over its squared scale. That of a level is
        ``sum((indicators - p) ** 2) / (1 - sum(shares ** 2))`` with the probabilities p of the
        reconstruction or, in the lower sum, the shares of the training rows: the upper sum over
        the lower one is the Gini impurity that remains. (With ``scaling="minmax"`` and None, the
        divisor is 1.) By default each column counts as much as any other, and the share explained
        of one column is R^2, or Goodman and Kruskal's tau.
        """
        check_is_fitted(self)
        X, _ = self._validate_input(X)
        weight = checked_weight(sample_weight, X.shape[0])
        errors = row_errors(self.net_, self._rows(X), self._scaler, X)
        weight = namespace(X).ones_like(errors) if weight is None else asarray_like(weight, errors)
        distances = distances_to(numpy_array(self, "mean_"), X, self._scaler)
        return share_explained(weight @ errors, weight @ distances)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        tags.input_tags.allow_nan = True
        return tags

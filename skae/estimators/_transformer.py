"""The autoencoder that stands in for PCA."""

from numbers import Integral, Real

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from skae._engine._losses import CELL_LOSSES, Objective
from skae._engine._noise import Corruption
from skae._scaling import as_dense, row_slices, value_range
from skae._sklearn import Interval, StrOptions, check_sample_weight
from skae.estimators._base import BaseAutoencoder


class AutoencoderTransformer(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseAutoencoder
):
    """TODO"""

    _parameter_constraints: dict = {
        **BaseAutoencoder._parameter_constraints,
        "loss": [StrOptions(set(CELL_LOSSES))],
        "output_activation": [StrOptions({"auto", "identity", "logistic", "relu"})],
        "tied_weights": ["boolean"],
        "l1": [Interval(Real, 0, None, closed="left")],
        "sparsity": [Interval(Real, 0, None, closed="left")],
        "sparsity_penalty": [StrOptions({"l1", "kl"})],
        "sparsity_target": [Interval(Real, 0, 1, closed="neither")],
        "input_noise": [Interval(Real, 0, None, closed="left"), StrOptions({"auto"})],
        "latent_noise": [Interval(Real, 0, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "scaling": [StrOptions({"global", "standard", "minmax", "robust"}), None],
        "ordered": ["boolean"],
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
        latent_noise=0.1,
        dropout=0.0,
        scaling="global",
        ordered=False,
        alpha="auto",
        learning_rate=4e-3,
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

    # What this estimator brings to the shared fit.

    def _is_tied(self):
        if self.tied_weights and self.network is not None:
            raise ValueError(
                f"tied_weights=True needs the default network; with network={self.network!r} "
                "set tied_weights=False."
            )
        return self.tied_weights

    def _dropout(self):
        return self.dropout

    def _objective(self):
        return Objective(
            self.loss, self.l1, self.sparsity, self.sparsity_penalty, self.sparsity_target
        )

    def _corruption(self, draws, shape):
        input_noise = 0.0 if self.input_noise == "auto" else self.input_noise
        return Corruption(draws, input_noise, self.latent_noise, ordered=self._is_ordered())

    def _is_ordered(self):
        return self.ordered or not isinstance(self.n_components, Integral)

    def _has_plain_output(self):
        return (
            self.network is None
            and self.init == "pca"
            and self.loss == "squared_error"
            and self._output_activation() == "identity"
            and not self.tied_weights
            and self.l1 == 0
        )

    def _output_activation(self):
        bounded = self.loss == "binary_cross_entropy"
        if self.output_activation == "auto":
            return "logistic" if bounded else "identity"
        if bounded and self.output_activation != "logistic":
            raise ValueError(
                "loss='binary_cross_entropy' needs output_activation='logistic' or 'auto'; got "
                f"output_activation={self.output_activation!r}."
            )
        return self.output_activation

    def _link_parameters(self):
        activation = self._output_activation()
        if self.scaling == "minmax":  # scaled columns fill [0, 1]: bounds speak of them
            ones = np.ones_like(self.mean_)
            return activation, 0 * ones, ones
        return activation, self.scaler_.center_, self.scaler_.scale_

    def _check_target_range(self, X):
        activation = self._output_activation()
        if activation == "identity" or self.scaling == "minmax":
            return
        low, high = value_range(X)
        name = "loss" if self.loss == "binary_cross_entropy" else "output_activation"
        told = f"{name}={getattr(self, name)!r}"
        if activation == "logistic" and (low < 0 or high > 1):
            raise ValueError(
                f"{told} needs X in [0, 1]; X is in [{low:g}, {high:g}]. Rescale X, set "
                "scaling='minmax', or choose another value."
            )
        if activation == "relu" and low < 0:
            raise ValueError(
                f"{told} needs X without negative values; X is in [{low:g}, {high:g}]. "
                "Shift X, set scaling='minmax', or choose another value."
            )

    def _finish_fit(self, X, sample_weight):
        if not self._is_ordered():
            return
        curve = [
            self._share_explained(X, sample_weight, n_latents)
            for n_latents in range(1, self.n_components_ + 1)
        ]
        self.latent_size_curve_ = np.array(curve)
        if not isinstance(self.n_components, Integral):
            enough = np.flatnonzero(self.latent_size_curve_ >= self._wanted_share())
            self.n_components_ = int(enough[0]) + 1 if len(enough) else len(curve)
            self.net_.keep_latents(self.n_components_)
        self.explained_variance_ratio_ = np.diff(curve, prepend=0.0)[: self.n_components_]

    # Public uses.

    def fit_transform(self, X, y=None, **fit_params):
        """Fit to X and return its latents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Training rows.
        y : Ignored
            Present for API consistency.
        **fit_params : dict
            ``sample_weight``, as in :meth:`fit`.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Latents; the same as ``fit(X).transform(X)``.
        """
        return self.fit(X, y, **fit_params).transform(X)

    def transform(self, X):
        """Map rows to latents.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components_)
            Latents.
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
        X_original : ndarray of shape (n_samples, n_features)
            Rows, in the units of the training data.
        """
        return self.decode(X)

    def score(self, X, y=None, sample_weight=None):
        """Share of the variance of X about the training mean that latents explain.

        It compares with the sum of PCA's ``explained_variance_ratio_``: 1 is a
        perfect reconstruction, 0 is no better than the training mean.

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
        """
        check_is_fitted(self)
        X, _ = self._open(X)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X, dtype=np.float64)
        return self._share_explained(X, sample_weight)

    def _share_explained(self, X, sample_weight, n_latents=None):
        weight = np.ones(X.shape[0]) if sample_weight is None else sample_weight
        left = weight @ self._row_errors(X, n_latents)
        total = weight @ self._row_distances_to_mean(X)
        if total == 0:
            return 1.0 if left == 0 else 0.0
        return float(1 - left / total)

    def _row_distances_to_mean(self, X):
        distances = np.empty(X.shape[0])
        for rows in row_slices(*X.shape):
            difference = as_dense(X[rows]) - self.mean_
            distances[rows] = np.einsum("ij,ij->i", difference, difference) / X.shape[1]
        return distances

    @property
    def _n_features_out(self):
        return self.n_components_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

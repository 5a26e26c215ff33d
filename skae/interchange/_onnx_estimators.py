"""Write methods of estimators into a graph.

A writer has a method for each method of its estimator that can be written; it takes the value of
the rows and returns the value of the result.
"""

import numpy as np

from skae._engine._ensemble_net import LEAST_LOSS
from skae.estimators._imputation import keeps_observed, kept_columns
from skae.interchange._graph import concat, where
from skae.interchange._onnx_layers import LayerWriter, numbers, unknown_layer
from skae.interchange._onnx_linear_systems import conditional_means
from skae.networks._autoencoder import LOGIT_SLOPE


class OnnxWriter:
    """Methods that all estimators share: rows are scaled, encoded, decoded and scaled back."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.module = estimator.net_.module_
        self.scaler = estimator._scaler
        self.write_layers = LayerWriter()

    def encode(self, X):
        return self._latents(self._inputs(X)).cast(X.dtype)

    def decode(self, Z):
        return self._unscaled(self._decoded(Z.cast(np.float32)), Z.dtype)

    def reconstruct(self, X):
        return self._reconstructed(X, X.dtype)

    def reconstruction_error(self, X):
        # As the estimators do it: the mean over cells that neither X nor its reconstruction miss.
        difference = self._reconstructed(X, np.float64) - self._marked(X).cast(np.float64)
        missing = difference.is_nan()
        n_compared = (~missing).cast(np.float64).sum(axis=1).op("Max", 1.0)
        return (where(missing, 0.0, difference.square()).sum(axis=1) / n_compared).cast(X.dtype)

    # Steps of these methods. Scaled rows and latents are float32, as the network is.

    def _marked(self, X):
        """Rows with NaN where cells are missing."""
        return X

    def _scaled(self, X):
        """``Scaler.transform``, which works in place, as nodes."""
        scaler = self.scaler
        if scaler.low_ is not None:
            X = X.between(scaler.low_, scaler.high_)
        return ((X - scaler.center_) / scaler.scale_).cast(np.float32)

    def _unscaled(self, scaled, dtype):
        """``Scaler.inverse_transform`` as nodes."""
        scaler = self.scaler
        rows = scaled.cast(dtype) * scaler.scale_ + scaler.center_
        return rows if scaler.low_ is None else rows.between(scaler.low_, scaler.high_)

    def _reconstructed(self, X, dtype):
        return self._unscaled(self._decoded(self._latents(self._inputs(X))), dtype)

    def _inputs(self, X):
        """Inputs of the encoder."""
        return self._scaled(X)

    def _n_inputs(self):
        return self.estimator.n_features_in_

    def _code(self, x):
        return self.write_layers(self.module.encoder, x, self._n_inputs())

    def _latents(self, x):
        return self._code(x).slice(0, self.module.n_kept)

    def _decoded(self, z):
        return self._linked(self._decoded_raw(z))

    def _decoded_raw(self, z):
        n_more = self.module.n_latents - self.module.n_kept
        if n_more:  # discarded latents are zero
            z = z.op("Pad", z.whole([0, n_more]), 0.0, z.whole([-1]))
        return self.write_layers(self.module.decoder, z, self.module.n_latents)

    def _linked(self, output):
        """``OutputLink.forward`` as nodes."""
        link = self.module.link
        if link.activation == "identity":
            return output
        center, scale = numbers(link.center), numbers(link.scale)
        bounded = output * scale + center
        if link.activation == "relu":
            return (bounded.op("Relu") - center) / scale
        return (((bounded - 0.5) * LOGIT_SLOPE).op("Sigmoid") - center) / scale


class TransformerWriter(OnnxWriter):
    def transform(self, X):
        return self.encode(X)

    def inverse_transform(self, Z):
        return self.decode(Z)


class DenoiserWriter(OnnxWriter):
    """Missing cells are filled first; the network may also read which ones were missing."""

    def transform(self, X):
        estimator = self.estimator
        if estimator.output == "denoised" and estimator.sample_posterior:
            raise ValueError("sample_posterior=True draws at random; set it to False")
        verbs = {"denoised": self._denoised, "latent": self.encode, "deep": self._hidden}
        output = verbs[estimator.output](X)
        if not estimator.add_indicator:
            return output
        indicator = self._marked(X).is_nan().take(estimator.missing_columns_, axis=1)
        return concat([output, indicator.cast(output.dtype)])

    def inverse_transform(self, Z):
        if self.estimator.output != "latent":
            raise ValueError(f"output={self.estimator.output!r} has no way back; 'latent' has one")
        return self.decode(Z)

    def _denoised(self, X):
        estimator = self.estimator
        rows = self._marked(X)
        inputs = self._inputs(X)
        scaled = self._decoded(self._latents(inputs))
        missing, fill = rows.is_nan(), inputs.slice(0, estimator.n_features_in_)
        scaled = where(missing, fill + (scaled - fill) * estimator.blend_, scaled)
        denoised = self._unscaled(scaled, rows.dtype)
        least = self.scaler.data_min_
        denoised = where(least == self.scaler.data_max_, least, denoised)
        stays = np.broadcast_to(keeps_observed(estimator) | estimator._empty, least.shape)
        denoised = where(~missing & stays, rows, denoised)
        columns = kept_columns(estimator)
        if len(columns) == estimator.n_features_in_:
            return denoised
        return denoised.take(columns, axis=1)

    def _hidden(self, X):
        for network in (self.module.encoder, self.module.decoder):
            layer = unknown_layer(network)
            if layer is not None:
                raise ValueError(
                    f"output='deep' needs layers known to skae; got a {type(layer).__name__}. "
                    "Set output='denoised' or 'latent'"
                )
        self.write_layers.activations = activations = []
        z = self._latents(self._inputs(X))
        n_of_encoder = len(activations)
        self._decoded_raw(z)
        flat = [hidden.flat_rows() for hidden in activations]
        return concat([*flat[:n_of_encoder], z, *flat[n_of_encoder:]]).cast(X.dtype)

    def _marked(self, X):
        estimator = self.estimator
        if estimator._accepts_missing:
            return X
        return where(X.equals(estimator.missing_values), np.nan, X)

    def _inputs(self, X):
        estimator = self.estimator
        scaled = self._scaled(self._marked(X))
        if estimator._empty.any():
            scaled = where(estimator._empty, np.nan, scaled)
        missing = scaled.is_nan()
        if estimator.gaussian_ is None:
            scaled = where(missing, 0.0, scaled)
        else:
            scaled = conditional_means(estimator.gaussian_, scaled)
        if estimator._bounds is not None:
            scaled = scaled.between(*estimator._bounds)
        return concat([scaled, missing.cast(np.float32)]) if estimator._reads_mask else scaled

    def _n_inputs(self):
        return self.estimator.n_features_in_ * (2 if self.estimator._reads_mask else 1)


# Losses of errors: the same as ERROR_LOSSES of _engine/_losses.py, for values of a graph.
LOSSES = {
    "absolute_error": lambda e: e.op("Abs"),
    "cauchy": lambda e: (e.square() + 1.0).log(),
    "huber": lambda e: e.between(-1.0, 1.0) * (e - 0.5 * e.between(-1.0, 1.0)),
    "squared_error": lambda e: e.square(),
}


class DetectorWriter(OnnxWriter):
    """The first axis is that of the members, the second that of the rows."""

    def predict(self, X):
        is_outlier = -self._scores(X) < self.estimator.offset_
        return where(is_outlier, is_outlier.whole(-1), is_outlier.whole(1))

    def decision_function(self, X):
        return (-self._scores(X) - self.estimator.offset_).cast(X.dtype)

    def score_samples(self, X):
        return (-self._scores(X)).cast(X.dtype)

    def encode(self, X):
        z = self._latents(self._inputs(X))
        members = range(self.estimator.net_.n_members)
        return concat([z.take(i, axis=0) for i in members]).cast(X.dtype)

    def decode(self, Z):
        z, k = Z.cast(np.float32), self.estimator.n_components_
        # Runtimes would fuse a transposition with the matrix product, and crash without any row.
        members = [z.slice(i * k, (i + 1) * k) for i in range(self.estimator.net_.n_members)]
        z = concat([member.expand_dims(0) for member in members], axis=0)
        return self._unscaled(self._decoded(z), Z.dtype)

    def _code(self, x):
        x = where(x.is_nan(), 0.0, x)
        return super()._code(x.op("Expand", x.whole([self.estimator.net_.n_members, 1, 1])))

    def _decoded(self, z):
        return super()._decoded(z).mean(axis=0)

    def _scores(self, X):
        """``ScoreRule.scores`` from raw losses in float64."""
        rule = self.estimator._rule
        members, baseline = self._raw_losses(self._scaled(X))
        scores = rule.member_scores(members.cast(np.float64), baseline.cast(np.float64))
        if rule.aggregation == "mean":
            return scores.mean(axis=0)
        if rule.aggregation == "max":
            return scores.max(axis=0)
        n_members = self.estimator.net_.n_members
        ordered, _ = scores.graph.op(
            "TopK", scores, scores.whole([n_members]), dtype=scores.dtype, n_outputs=2, axis=0
        )
        return ordered.take([(n_members - 1) // 2, n_members // 2], axis=0).mean(axis=0)

    def _raw_losses(self, x):
        """Raw losses of the members, of shape (n_members, n_rows), and of the baseline."""
        net = self.estimator.net_
        missing = x.is_nan()
        n_observed = (~missing).cast(np.float32).sum(axis=1).op("Max", 1.0)

        def row_losses(output):
            cells = LOSSES[net.criterion_.loss](self._linked(output) - x)
            return where(missing, 0.0, cells).sum(axis=-1) / n_observed

        code = self._code(x)
        z = code.slice(0, self.module.n_kept)
        members = row_losses(self._decoded_raw(z))
        baseline = row_losses(x.like(numbers(self.module.baseline)))
        if net.score_method == "density":
            members = members + divergence(code, self.module.n_kept) / self._n_inputs()
        if net.score_method == "mahalanobis":
            members = self._distances(z, members)
        return members, baseline

    def _distances(self, z, losses):
        """``Location.distances`` of latents and logarithms of losses, for all members."""
        locations = self.estimator.net_.locations_
        logs = losses.op("Max", LEAST_LOSS).log()
        z, logs = z.cast(np.float64), logs.cast(np.float64).expand_dims(-1)
        mean = np.stack([location.mean for location in locations])[:, None]
        precision = np.stack([location.precision for location in locations])
        # Losses below the mean count as the mean.
        difference = concat([z - mean[..., :-1], (logs - mean[..., -1:]).op("Max", 0.0)])
        return (difference @ precision * difference).sum(axis=-1)


def divergence(code, n_latents):
    """``kl_to_standard_normal`` of _engine/_losses.py, for values of a graph."""
    mean, log_variance = code.slice(0, n_latents), code.slice(n_latents, 2 * n_latents)
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(axis=-1)

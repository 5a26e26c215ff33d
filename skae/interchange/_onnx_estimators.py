"""Write methods of estimators into a graph.

A writer has a method for each method of its estimator that can be written; it takes the value of
the rows and returns the value of the result.
"""

import numpy as np

from skae._data._fitted_arrays import numpy_array
from skae._data._mixed import MixedScaler
from skae.estimators._limits import limits_of_columns
from skae.interchange._graph import concat, where
from skae.interchange._onnx_layers import LayerWriter, numbers, unknown_layer
from skae.interchange._onnx_linear_systems import conditional_means
from skae.interchange._onnx_views import mean_of_observed, softly_cut, view_losses
from skae.networks._autoencoder import LOGIT_SLOPE


class OnnxWriter:
    """Methods that all estimators share: rows are scaled, encoded, decoded and scaled back."""

    def __init__(self, estimator):
        self.estimator = estimator
        self.module = estimator.net_.module_
        self.scaler = estimator._scaler
        if isinstance(self.scaler, MixedScaler):
            raise ValueError("it was fitted to a table with levels, dates or missing cells")
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
        scaled = (X - scaler.center_) / scaler.scale_
        if scaler.low_ is not None:
            largest = np.finfo(X.dtype).max
            scaled = where(scaled.is_nan() | (scaler.high_ > scaler.low_), scaled, 0.0)
            scaled = softly_cut(scaled.between(-largest, largest), scaler.cut)
        return scaled.cast(np.float32)

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
    """Latents are codes in a basis of their own, if they have one."""

    def encode(self, X):
        code, basis = self._latents(self._inputs(X)), self.module.basis
        if basis is None:
            return code.cast(X.dtype)
        latents = (code - numbers(basis.center)) @ numbers(basis.to_latents).T
        return latents.cast(X.dtype) * self.estimator._latent_unit

    def decode(self, Z):
        basis = self.module.basis
        if basis is None:
            return super().decode(Z)
        scaled = (Z / self.estimator._latent_unit).cast(np.float32)
        code = scaled @ numbers(basis.to_codes).T + numbers(basis.center)
        return self._unscaled(self._decoded(code), Z.dtype)

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
        indicator = self._marked(X).is_nan().take(estimator._columns_with_gaps, axis=1)
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
        if estimator._divisor is not None:
            fill = fill * estimator._divisor
        scaled = where(missing, fill + (scaled - fill) * estimator.blend_, scaled)
        denoised = self._unscaled(scaled, rows.dtype)
        if not estimator._only_fills:
            doubt = (rows - denoised) * (1 - numpy_array(estimator, "observed_blend_"))
            denoised = where(missing, denoised, denoised + doubt)
        least = self.scaler.data_min_
        denoised = where(least == self.scaler.data_max_, least, denoised)
        stays = np.broadcast_to(estimator._keeps_observed | estimator._empty, least.shape)
        denoised = where(~missing & stays, rows, denoised)
        limits = limits_of_columns(estimator)
        if limits is not None:
            denoised = where(missing, denoised.between(*limits), denoised)
        columns = estimator._kept_columns
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
        if estimator._divisor is not None:
            scaled = scaled / estimator._divisor
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
        """``ScoreRule.scores`` of raw losses in float64; views that do not count are left out."""
        rule, x = self.estimator._rule, self._scaled(X)
        counts = rule.counts
        losses = [self._ensemble_losses(x)] if counts[0] else []
        losses += view_losses(self.estimator.net_.views_, counts[1:], x)
        losses = concat([loss.expand_dims(0) for loss in losses], axis=0).expand_dims(-1)
        knots, slopes = rule.surprises.knots[counts, None], rule.surprises.slopes[counts, None]
        surprises = (slopes * (losses - knots).op("Max", 0.0)).sum(axis=2)
        return surprises.square().mean(axis=0).op("Sqrt")

    def _ensemble_losses(self, x):
        """The first of ``ScoreRule.view_losses``."""
        shares = self.estimator._rule.shares()
        members = self._cells(self._decoded_raw(self._latents(x)), x)
        members = mean_of_observed(members, x, axis=2).cast(np.float64)
        baseline = self._cells(x.like(numbers(self.module.baseline)), x)
        baseline = mean_of_observed(baseline, x).cast(np.float64)
        return (shares[:-1, None] * members).sum(axis=0) + shares[-1] * baseline

    def _cells(self, output, x):
        return LOSSES[self.estimator.net_.criterion_.loss](self._linked(output) - x)

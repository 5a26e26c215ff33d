"""Write methods of the generator into a graph."""

import math

import numpy as np

from skae._engine._losses import LEAST_LOG_RATIO, LOG_ROOT_TWO_PI, NARROW
from skae.estimators._generation import DRAWS_FOR_TARGETS, latent_prior
from skae.interchange._graph import Graph, concat, where
from skae.interchange._onnx_estimators import OnnxWriter
from skae.interchange._onnx_layers import numbers
from skae.interchange._onnx_normal_scores import NormalScoresWriter, log_ndtr
from skae.interchange._onnx_trees import log_ratio


class GeneratorWriter(OnnxWriter):
    """For rows of numbers only: a tensor holds neither levels nor dates."""

    def __init__(self, estimator):
        super().__init__(estimator)
        self.kinds = np.array(kinds_of(estimator))
        if estimator.likelihood == "auto":
            self.ranks = NormalScoresWriter(self.scaler)

    def transform(self, X):
        return self.encode(X)

    def decode(self, Z):
        return self._restored(super().decode(Z))

    def inverse_transform(self, Z):
        return self.decode(Z)

    def reconstruct(self, X):
        return self._restored(self._reconstructed(X, X.dtype))

    def score_samples(self, X):
        joint = self._joint(self._scaled(X), self.estimator.n_importance_samples)
        log_density = joint.logsumexp(axis=1)
        if self.estimator.refiner_ is not None:
            log_density = log_density + log_ratio(self.estimator.refiner_, X.cast(np.float64))
        return log_density.cast(X.dtype)

    # Rows.

    def _restored(self, rows):
        """``PlainColumns.restore`` as nodes: integers are rounded, booleans are 0 or 1."""
        whole = np.isin(self.kinds, list("iu"))
        if whole.any():
            rows = where(whole, rows.op("Round"), rows)
        boolean = self.kinds == "b"
        return where(boolean, (rows > 0.5).cast(rows.dtype), rows) if boolean.any() else rows

    def _scaled(self, X):
        if self.estimator.likelihood != "auto":
            return super()._scaled(X)
        return self.ranks.transform(X)

    def _unscaled(self, scaled, dtype):
        if self.estimator.likelihood != "auto":
            return super()._unscaled(scaled, dtype)
        return self.ranks.inverse_transform(scaled).cast(dtype)

    def _inputs(self, X):
        return self._scaled(X).slice(0, self._n_inputs())

    def _n_inputs(self):
        return self.module.n_inputs

    def _reconstructed(self, X, dtype):
        if not self.estimator.conditional:
            return super()._reconstructed(X, dtype)
        rows = self._scaled(X)
        likely = self._joint(rows, DRAWS_FOR_TARGETS).argmax(axis=1)
        z = self._latents(rows.slice(0, self._n_inputs()))
        return self._unscaled(self._linked(self._decoded_for(z, likely)), dtype)

    def _decoded_raw(self, z):
        """Outputs of the decoder for latents, given the most probable target of each."""
        estimator = self.estimator
        if not estimator.conditional:
            return self._decoder(z)
        prior = latent_prior(estimator)
        by_group = [log_prior(prior, z, group) for group in range(len(prior.log_weights))]
        log_priors = concat([log_density.expand_dims(1) for log_density in by_group])
        log_joint = log_priors + np.log(estimator._targets.shares_)
        return self._decoded_for(z, log_joint.argmax(axis=1))

    def _decoded_for(self, z, groups):
        columns = z.like(self._target_columns())
        return self._decoder(concat([z, columns.take(groups, axis=0)]))

    def _decoder(self, z):
        return self.write_layers(self.module.decoder, z, self.module.n_latents)

    def _target_columns(self):
        """Inputs of the decoder for each group of targets."""
        targets = self.estimator._targets
        return targets.columns(targets.representatives_)

    def _linked(self, output):
        return output.op("Sigmoid") if self.module.link.likelihood == "bernoulli" else output

    # Likelihoods of rows.

    def _joint(self, rows, n_draws):
        """Log-densities of rows and each group of targets, of shape (n_rows, n_groups).

        Importance sampling with the encoder's distribution q as proposal: for K draws z_k of it,
        ``log p(x, y) = log (p(y) / K sum_k p(x | z_k, y) p(z_k | y) / q(z_k | x))``. Row by row,
        as all draws for all rows at once would fill the memory.
        """
        estimator = self.estimator
        shares = estimator._targets.shares_ if estimator.conditional else np.ones(1)
        if estimator.conditional and estimator.refiner_ is not None:
            raise ValueError("refiner_ reads the targets, too. Fit with refine=False")
        graph = rows.graph
        noise = estimator.net_._noise(n_draws)[:, 0].cpu().numpy().astype(np.float32)
        prior = latent_prior(estimator)
        code = self._code(rows.slice(0, self._n_inputs()))
        body = Graph(outer=graph)
        code_row, row = body.value(np.float32), body.value(np.float32)
        k = self.module.n_kept
        mean, log_variance = code_row.slice(0, k), code_row.slice(k, 2 * k)
        z = mean + (0.5 * log_variance).exp() * noise
        proposal = (-0.5 * np.square(noise) - LOG_ROOT_TWO_PI).sum(axis=1)
        weight = (0.5 * log_variance).sum(axis=-1) - proposal
        by_group = []
        for group, share in enumerate(shares):
            inputs = z
            if estimator.conditional:
                conditions = np.tile(self._target_columns()[group], (n_draws, 1))
                inputs = concat([z, z.like(conditions)])
            weights = self._log_likelihood(self._decoder(inputs), row) + weight.cast(np.float64)
            weights = weights + log_prior(prior, z, group).cast(np.float64)
            by_group.append(weights.logsumexp(axis=0) + math.log(share / n_draws))
        joint = concat([log_density.expand_dims(0) for log_density in by_group])
        proto = body.proto([(code_row, [2 * k]), (row, [None])], [(joint, [len(shares)])], "row")
        return graph.op("Scan", code, rows, dtype=np.float64, body=proto, num_scan_inputs=2)

    def _log_likelihood(self, output, row):
        """``log_likelihood`` of _engine/_losses.py, of a row for several draws, in float64."""
        link = self.module.link
        output, row = output.cast(np.float64), row.cast(np.float64)
        if link.likelihood == "bernoulli":
            return (row * output - output.op("Softplus")).sum(axis=-1)
        deviation = numbers(link.deviation).astype(np.float64)
        if link.likelihood == "gaussian":
            return normal_log_density(row, output, deviation).sum(axis=-1) + link.log_slope
        n, n_scores = link.n_continuous, link.n_scores
        _, low, high = (row.slice(i * n_scores, (i + 1) * n_scores) for i in range(3))
        # A missing cell of such a column has an interval instead of a point; its likelihood is one.
        is_point = low.slice(0, n).equals(high.slice(0, n))
        points = normal_log_density(low.slice(0, n), output.slice(0, n), deviation[:n])
        ends = low.slice(n, n_scores), high.slice(n, n_scores)
        cells = interval_log_likelihood(output.slice(n, n_scores), deviation[n:], *ends)
        slope = row.slice(3 * n_scores, 3 * n_scores + 1)
        return concat([where(is_point, points, 0.0), cells]).sum(axis=-1) + slope


def log_prior(prior, z, group):
    """Log-density of latents of shape (n, n_latents) under the mixture of a group."""
    weights = numbers(prior.log_weights)[group]
    parts = [numbers(part) for part in (prior.whitening, prior.offsets, prior.constants)]
    components = []
    for weight, whitening, offset, constant in zip(weights, *parts, strict=True):
        if np.isfinite(weight):
            squares = (z @ whitening - offset).square().sum(axis=-1, keepdims=True)
            components.append(squares * -0.5 + (constant + weight))
    return concat(components).logsumexp(axis=-1)


def normal_log_density(x, mean, deviation):
    """The same as in _engine/_losses.py, for values of a graph."""
    return ((x - mean) / deviation).square() * -0.5 - (np.log(deviation) + LOG_ROOT_TWO_PI)


def interval_log_likelihood(mean, deviation, low, high):
    """The same as in _engine/_losses.py, for values of a graph."""
    a, b = (low - mean) / deviation, (high - mean) / deviation
    middle, width = 0.5 * (a + b), high - low
    flip = middle > 0.0
    a, b = where(flip, -b, a), where(flip, -a, b)
    log_b = log_ndtr(b)
    gap = (log_ndtr(a) - log_b).op("Min", -LEAST_LOG_RATIO)
    log_probability = log_b + (1.0 - gap.exp()).log()
    at_point = middle.square() * -0.5 - (LOG_ROOT_TWO_PI + np.log(deviation))
    at_point = at_point + where(width > 0.0, width, 1.0).log()
    return where(width < NARROW * deviation, at_point, log_probability)


def kinds_of(generator):
    """``dtype.kind`` of each column of a generator."""
    columns = generator._columns
    if generator.relations_:
        raise ValueError(
            f"an ONNX model keeps no relations between columns, such as {generator.relations_[0]}. "
            "Fit with relations=None"
        )
    if not columns.is_frame:
        return [np.dtype(columns.dtype).kind] * generator.n_features_in_
    for column in columns.columns:
        if column.levels is not None or column.origin is not None:
            values = "dates" if column.levels is None else "levels"
            raise ValueError(
                f"column {column.name!r} holds {values}, and an ONNX model reads one table of "
                "numbers. Encode it before fit"
            )
    return ["i" if c.is_whole else getattr(c.dtype, "kind", "f") for c in columns.columns]

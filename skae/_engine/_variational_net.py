"""Training on evidence lower bounds, and likelihoods of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._engine._batches import SourceRows
from skae._engine._group import Group
from skae._engine._inference import INFERENCE_BYTES, MIN_INFERENCE_ROWS, Pieces
from skae._engine._losses import (
    LOG_ROOT_TWO_PI,
    EvidenceBound,
    kl_to_standard_normal,
    log_likelihood,
)
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Gradient, draw_posterior, latents_at, sample_posterior
from skae._engine._runtime import generator
from skae.networks._variational import VariationalAutoencoder

# Seed of the draws in validation losses and scores, which depend on the rows alone.
FIXED_SEED = 20131220


class MixturePrior:
    """Log-density of latents under mixtures of the same normal distributions.

    The counterpart of ``skae._stats._mixture``, which fits the mixture in NumPy to posteriors: this
    one evaluates it for points, on the device of the net, with mixture weights per group.

    Parameters
    ----------
    weights : ndarray of shape (n_groups, n_mixture_components)
        Of the mixture of each group of rows.
    means : ndarray of shape (n_mixture_components, n_latents)
    whitening : ndarray of shape (n_mixture_components, n_latents, n_latents)
        Upper triangular roots of the precisions: ``P = W @ W.T``.
    """

    def __init__(
        self,
        weights: NDArray[np.floating],
        means: NDArray[np.floating],
        whitening: NDArray[np.floating],
        device: torch.device | str = "cpu",
    ):
        def tensor(values: NDArray[np.floating]) -> Tensor:
            return torch.from_numpy(np.asarray(values, dtype=np.float32)).to(device)

        with np.errstate(divide="ignore"):
            self.log_weights = tensor(np.log(weights))
        self.whitening = tensor(whitening)
        self.offsets = tensor(np.einsum("ck,ckl->cl", means, whitening))
        log_volumes = np.log(np.diagonal(whitening, axis1=1, axis2=2)).sum(axis=1)
        self.constants = tensor(log_volumes - LOG_ROOT_TWO_PI * means.shape[1])

    def log_density(self, z: Tensor) -> Tensor:
        """Of latents of shape (..., n_latents), for each group: (..., n_groups)."""
        white = torch.einsum("...k,ckl->...cl", z, self.whitening) - self.offsets
        of_each = self.constants - 0.5 * white.square().sum(dim=-1)
        return torch.logsumexp(of_each[..., None, :] + self.log_weights, dim=-1)


class VariationalNet(AutoencoderNet):
    """Trains a ``VariationalAutoencoder`` on the evidence lower bound."""

    module_: VariationalAutoencoder  # type: ignore[assignment]
    criterion_: EvidenceBound  # type: ignore[assignment]
    draws_: torch.Generator
    graph_capturable = False  # the weight of the divergence changes from step to step

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **kwargs: Any) -> Any:
        n_steps = self.max_epochs * len(self.get_iterator(X, training=True))
        self.criterion_.begin(n_steps if self.schedule_ is not None else 0)
        return super().fit_loop(X, y, epochs=epochs, **kwargs)

    def _backpropagate(self, x: Tensor, weight: Tensor | None) -> Tensor:
        return super()._backpropagate(self.module_.link.fresh(x, self.corruption.generator), weight)

    def _latents(self, code: Tensor, x: Tensor) -> tuple[Tensor, Gradient]:
        z, latents_to_code = draw_posterior(code, self.corruption.generator)
        n_kept = self.module_.n_kept
        return self.module_.with_conditions(z, x), lambda g: latents_to_code(g[..., :n_kept])

    def infer(self, x: Any, **fit_params: Any) -> Any:
        code = self.module_.code(x)
        # Validation losses are compared: they all use the same draws.
        z = sample_posterior(code, self.draws_)
        return self.module_.decode_raw(self.module_.with_conditions(z, x)), code

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        output, code = y_pred
        beta = self.criterion_.step() if training else self.criterion_.beta
        losses = self.criterion_.rows(self.module_.link, output.float(), code.float(), X, beta)
        return (losses if y_true is None else losses * y_true).mean()

    def _mean_loss(self, batches: Any, group: Group) -> float:
        self.draws_ = generator(FIXED_SEED, self.device)
        return super()._mean_loss(batches, group)

    # Inference.

    def posterior_rows(self, rows: SourceRows) -> tuple[NDArray[Any], NDArray[Any]]:
        """Means and standard deviations of the latents of all rows."""
        code = np.concatenate([part for _, part in self._map_batches(self.module_.code, rows)])
        mean, log_variance = np.hsplit(code, 2)
        return mean, np.exp(0.5 * log_variance)

    def bound_rows(self, rows: SourceRows, n_draws: int) -> Pieces:
        """Yield slices, and expected log-likelihoods and divergences in two columns."""
        noise = self._noise(n_draws)

        def bound(x: Tensor) -> Tensor:
            code = self.module_.code(x).float()
            expected = self._log_likelihoods(latents_at(code, noise), x).mean(dim=0)
            return torch.stack([expected, kl_to_standard_normal(code)], dim=1)

        return self._in_small_batches(rows, n_draws, bound)

    def evidence_rows(self, rows: SourceRows, prior: MixturePrior, n_draws: int) -> Pieces:
        """Yield slices and importance-weighted log-densities of rows, for each group.

        With K draws ``z_k = mean + s * e_k`` from the posterior q of a row [1]_::

            log p(x)       ~ log(sum_k w_k / K)
            w_k            = p(x | z_k) p(z_k) / q(z_k | x)
            log q(z_k | x) = sum_j (-e_kj**2 / 2 - log(2 pi) / 2 - log s_j)

        In expectation over random draws, it is a lower bound that rises with K.

        References
        ----------
        .. [1] Y. Burda, R. Grosse, R. Salakhutdinov, "Importance weighted autoencoders",
           ICLR 2016.
        """
        noise = self._noise(n_draws)

        def evidence(x: Tensor) -> Tensor:
            code = self.module_.code(x).float()
            z = latents_at(code, noise)
            log_s = 0.5 * code.chunk(2, dim=-1)[1]
            log_q = (-0.5 * noise.square() - LOG_ROOT_TWO_PI).sum(dim=-1) - log_s.sum(dim=-1)
            log_weights = self._log_likelihoods(z, x) - log_q
            log_weights = log_weights[..., None] + prior.log_density(z)
            return torch.logsumexp(log_weights, dim=0) - np.log(n_draws)

        return self._in_small_batches(rows, n_draws, evidence)

    def _in_small_batches(
        self, rows: SourceRows, n_draws: int, function: Callable[[Tensor], Tensor]
    ) -> Pieces:
        step = INFERENCE_BYTES // (4 * self._floats_per_row * n_draws)
        step = max(MIN_INFERENCE_ROWS, step)
        for start in range(0, len(rows), step):
            span = slice(start, min(start + step, len(rows)))
            yield span, rows.to_array_like(self._evaluate(function, rows.read(span)))

    def _noise(self, n_draws: int) -> Tensor:
        """Standard normal draws of shape (n_draws, 1, n_latents), the same for every row.

        A Sobol sequence has a lower variance than random draws.
        """
        sobol = torch.quasirandom.SobolEngine(self.module_.n_kept, scramble=True, seed=FIXED_SEED)
        uniform = sobol.draw(n_draws).clamp(1e-6, 1 - 1e-6)
        return torch.special.ndtri(uniform)[:, None].to(self.device)

    def _log_likelihoods(self, z: Tensor, x: Tensor) -> Tensor:
        """Log-likelihoods of rows `x` for each of several draws of their latents."""
        module = self.module_
        x = x.expand(len(z), *x.shape)
        inputs = module.with_conditions(z, x)
        output = module.decode_raw(inputs.flatten(0, 1)).float()
        return log_likelihood(module.link, output.view(*z.shape[:2], -1), x)

    def draw_rows(self, Z: NDArray[Any], seed: int) -> Pieces:
        """Yield slices and rows drawn for latents (and conditions) `Z`."""
        draws = generator(seed, self.device)

        def draw(z: Tensor) -> Tensor:
            return self.module_.link.draw(self.module_.decode_raw(z).float(), draws)

        return self._map_latents(draw, Z)

    def output_rows(self, Z: NDArray[Any]) -> NDArray[Any]:
        """Outputs of the decoder at latents (and conditions) `Z`."""

        def output(z: Tensor) -> Tensor:
            return self.module_.decode_raw(z).float()

        return np.concatenate([part for _, part in self._map_latents(output, Z)])

    def prior_rows(self, Z: NDArray[Any], prior: MixturePrior) -> NDArray[Any]:
        """Log-densities of latents under the prior, for each group."""
        return np.concatenate([part for _, part in self._map_latents(prior.log_density, Z)])

    def likelihood_rows(self, Z: NDArray[Any], x: NDArray[Any]) -> NDArray[Any]:
        """Log-likelihoods of one row `x`, or of one for each, at latents (and conditions) `Z`."""
        row, n_latents = self._tensor(x), Z.shape[1]

        def likelihood(z: Tensor) -> Tensor:
            z, own = z[:, :n_latents], z[:, n_latents:]
            output = self.module_.decode_raw(z).float()
            rows = row.expand(len(z), -1) if row.ndim == 1 else own
            return log_likelihood(self.module_.link, output, rows)

        Z = Z if row.ndim == 1 else np.hstack([Z, x])
        return np.concatenate([part for _, part in self._map_latents(likelihood, Z)])

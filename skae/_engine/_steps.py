"""Training steps of a net: forward, backward and update."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from skae._engine._backprop import Pass, has_manual_grad
from skae._engine._batches import Batch
from skae._engine._losses import Objective
from skae._engine._noise import Corruption, Gradient
from skae._engine._optimizer import FlatAdamW
from skae._engine._runtime import autocast
from skae.networks._autoencoder import Autoencoder


class StepMixin:
    """Takes the training steps of a net, with manual gradients where it can."""

    module_: Autoencoder
    criterion_: Objective
    optimizer_: FlatAdamW
    corruption: Corruption
    precision: str
    device: Any
    global_seed: int | None
    graph_capturable = True
    watched_: bool
    schedule_: Iterator[float] | None
    passes_: tuple[Pass, Pass] | None
    take_step_: Callable[[Batch], Tensor]
    notify: Callable[..., None]
    _set_training: Any

    def train_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        self._set_training(True)
        return {"loss": self._step(batch), "y_pred": None}

    def _is_graphed(self) -> bool:
        """Whether steps are CUDA graphs: they must run the same kernels and no callbacks."""
        is_builtin = self.global_seed is None  # a user's network may change from step to step
        on_gpu = torch.device(self.device).type == "cuda"
        return on_gpu and is_builtin and self.graph_capturable and not self.watched_

    def _make_passes(self) -> tuple[Pass, Pass] | None:
        """Manual passes of encoder and decoder, or None to use autograd."""
        encoder, decoder = self.module_.encoder, self.module_.decoder
        # Lower precision needs autocast, which knows what to cast.
        is_manual = (
            self.precision == "float32" and has_manual_grad(encoder) and has_manual_grad(decoder)
        )
        if not is_manual:
            return None
        # Layers that encoder and decoder share get gradients from both.
        ids = [{id(p) for p in part.parameters()} for part in (encoder, decoder)]
        adds = not self._is_manual() or bool(ids[0] & ids[1])
        return Pass(encoder, needs_input=False, adds=adds), Pass(decoder, True, adds)

    def _is_manual(self) -> bool:
        """Whether no gradient comes from autograd, where networks have manual passes."""
        return self.criterion_.has_manual_grad(self.module_.link)

    def _step(self, batch: Batch) -> Tensor:
        if self.schedule_ is not None:
            self._set_rate(next(self.schedule_))
        return self.take_step_(batch)

    def _set_rate(self, rate: float) -> None:
        for group in self.optimizer_.param_groups:
            group["lr"] = rate * group["share"]

    def _eager_step(self, batch: Batch) -> Tensor:
        loss = self._compute_gradients(batch)
        self._update()
        return loss

    def _compute_gradients(self, batch: Batch) -> Tensor:
        """Set the gradients of all parameters to those of a batch, and return its loss."""
        passes = self.passes_
        if passes is None or passes[0].adds:
            self.optimizer_.zero_grad()
        loss = self._backpropagate(*batch)
        if self.watched_:
            self.notify(
                "on_grad_computed",
                named_parameters=self.module_.named_parameters(),
                batch=batch,
                training=True,
            )
        return loss

    def _update(self) -> None:
        """Move the parameters along their gradients."""
        if torch.is_grad_enabled():
            self.optimizer_.step()
        else:
            self.optimizer_.update()

    def _backpropagate(self, x: Tensor, weight: Tensor | None) -> Tensor:
        """Add to the gradients of all parameters and return the loss."""
        if self.passes_ is not None:
            with torch.no_grad() if torch.is_grad_enabled() else nullcontext():
                return self._backpropagate_manually(self.passes_, x, weight)
        with autocast(self.precision, x.device):
            code = self.module_.encoder(self._inputs(x))
            latents, _ = self._latents(code, x)
            loss = self.get_loss((self.module_.decoder(latents), code), weight, x, training=True)
        loss.backward()
        return loss.detach()

    def _backpropagate_manually(
        self, passes: tuple[Pass, Pass], x: Tensor, weight: Tensor | None
    ) -> Tensor:
        encoder, decoder = passes
        code = encoder.forward(self._inputs(x))
        latents, latents_to_code = self._latents(code, x)
        output = decoder.forward(latents)
        penalty_gradient = None
        if encoder.adds:
            loss, output_gradient, penalty_gradient = self._recorded_loss(output, code, x, weight)
        else:
            link, target = self.module_.link, self._targets(x)
            loss, output_gradient = self.criterion_.with_gradient(link, output, target, weight)
        code_gradient = latents_to_code(decoder.backward(output_gradient))
        if penalty_gradient is not None:
            code_gradient = code_gradient + penalty_gradient
        encoder.backward(code_gradient)
        return loss

    def _recorded_loss(
        self, output: Tensor, code: Tensor, x: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss by autograd, and its partial derivatives with respect to output and code.

        None instead of the latter means zero.
        """
        output, code = output.detach().requires_grad_(), code.detach().requires_grad_()
        with torch.enable_grad():
            loss = self.get_loss((output, code), weight, X=x, training=True)
        loss.backward()
        gradient: Any = output.grad
        return loss.detach(), gradient, code.grad

    def _inputs(self, x: Tensor) -> Tensor:
        """Encoder inputs in training."""
        return self.module_.inputs(self.corruption.inputs(x))

    def _targets(self, x: Tensor) -> Tensor:
        """Targets of the decoder."""
        return x

    def _latents(self, code: Tensor, x: Tensor) -> tuple[Tensor, Gradient]:
        """Decoder inputs in training, and the function from their gradient to the code's."""
        return self.corruption.latents(code)

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return self.module_(x)

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        output, code = y_pred
        target = self._targets(X)
        loss = self.criterion_.reconstruction(self.module_.link, output.float(), target, y_true)
        return loss + self.criterion_.penalty(self.module_, code.float()) if training else loss

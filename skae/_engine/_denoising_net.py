"""Training on pairs of encoder inputs and targets, concatenated in the columns of a batch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skae._data._arrays import as_array, asarray_like, namespace
from skae._engine._batches import Batch, Rows, SourceRows, TensorRows, shuffled
from skae._engine._inference import Pieces
from skae._engine._net import AutoencoderNet
from skae.networks._layers import ACTIVATIONS
from skae.networks._linear_path import LinearPath

# Rows that get noise at once: enough to amortise the overhead, few enough to stay in cache.
ROWS_AT_ONCE = 4096
# Above this many columns the linear path has a lower learning rate.
COLUMNS_AT_FULL_RATE = 64
# A validation loss is computed on at most this many rows.
MAX_VALIDATION_ROWS = 10_000


class InputTransform:
    """Scales rows, fills missing cells and appends a mask of them.

    Parameters
    ----------
    scaler : Scaler
    fill : callable
        Takes scaled float rows with NaN and returns them without.
    append_mask : bool
        Whether a mask of the missing cells follows the filled rows.
    empty : ndarray of bool of shape (n_features,)
        Columns without any value in ``fit``: all their cells count as missing.
    bounds : pair of ndarray of shape (n_features,), default=None
        Filled values are clipped to these, lower and upper.
    divisor : ndarray of shape (n_features,), default=None
        Filled values are divided by these: noise may be far larger than what a column is
        scaled by.
    marks : ndarray of int, default=None
        The cells that the mask is of: one of each column of a mixed table. None means all.
    """

    def __init__(
        self,
        scaler: Any,
        fill: Callable[[Any], Any],
        append_mask: bool,
        empty: NDArray[np.bool_],
        bounds: tuple[NDArray[Any], NDArray[Any]] | None = None,
        divisor: NDArray[np.float32] | None = None,
        marks: NDArray[np.intp] | None = None,
    ):
        self.scaler = scaler
        self.fill = fill
        self.marks = marks
        self.append_mask = append_mask
        self.empty = empty
        self.bounds = bounds
        self.divisor = divisor

    def on_device_of(self, X: Any) -> InputTransform:
        """A copy whose scaler is on the device of tensors `X`."""
        other = copy.copy(self)
        other.scaler = self.scaler.on_device_of(X)
        return other

    def transform(self, X: Any) -> Any:
        """Encoder inputs of a dense chunk of rows."""
        scaled = self.scaler.transform(X)
        if self.empty.any():
            scaled[:, self.empty] = np.nan
        return self.inputs(scaled)

    def inputs(self, scaled: Any) -> Any:
        """Encoder inputs of rows that are scaled already."""
        xp = namespace(scaled)
        missing = xp.isnan(scaled)
        filled = scaled
        if missing.any():
            filled = asarray_like(self.fill(as_array(scaled)), scaled, xp.float32)
        if self.bounds is not None:
            filled = filled.clip(*(asarray_like(bound, filled) for bound in self.bounds))
        if self.divisor is not None:
            filled = filled / asarray_like(self.divisor, filled)
        if not self.append_mask:
            return filled
        if self.marks is not None:
            missing = missing[:, self.marks]
        return xp.concat([filled, xp.asarray(missing, dtype=xp.float32)], axis=1)

    def filled(self, inputs: Any) -> Any:
        """The scaled, filled rows that encoder inputs were made of."""
        fill = inputs[:, : len(self.empty)]
        return fill if self.divisor is None else fill * asarray_like(self.divisor, fill)


class PairTransform:
    """Transforms noisy rows and clean ones that follow them in the columns of a table."""

    def __init__(self, input_transform: InputTransform):
        self.input_transform = input_transform

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs and targets of a dense chunk of pairs."""
        noisy, clean = np.hsplit(X, 2)
        return np.hstack(
            [self.input_transform.transform(noisy), self.input_transform.scaler.transform(clean)]
        )


class NoisyRows(Rows):
    """Clean rows, read as pairs with fresh noise.

    Parameters
    ----------
    rows : SourceRows or TensorRows
    noise : callable
    input_transform : InputTransform
    n_passes : int, default=1
        Passes over the rows that share a draw of noise if there are `ROWS_AT_ONCE` at most.
    """

    def __init__(
        self,
        rows: Any,
        noise: Any,
        input_transform: InputTransform,
        n_passes: int = 1,
    ):
        self.rows = rows
        self.noise = noise
        self.input_transform = input_transform
        self.n_passes = n_passes
        self.n_passes_left = 0
        self.kept: Batch | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.rows[selection]

    def pairs(self, x: Tensor) -> Tensor:
        """Encoder inputs with fresh noise, followed by their targets."""
        inputs = self.noise(x)
        transform = self.input_transform
        changes = (transform.bounds, transform.divisor)
        changes_all = transform.append_mask or any(part is not None for part in changes)
        if changes_all or inputs.isnan().any():
            filled = transform.inputs(inputs.cpu().numpy())
            inputs = torch.from_numpy(filled).to(x.device)
        return torch.cat([inputs, x], dim=1)

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        all_spans = list(spans)
        n_grouped = max(1, ROWS_AT_ONCE // (all_spans[0].stop - all_spans[0].start))
        groups = [all_spans[i : i + n_grouped] for i in range(0, len(all_spans), n_grouped)]
        noisy = self._noisy_groups(groups, generator)
        for group, (pairs, weight) in zip(groups, noisy, strict=True):
            for span in group:
                batch = slice(span.start - group[0].start, span.stop - group[0].start)
                yield pairs[batch], None if weight is None else weight[batch]

    def _noisy_groups(
        self, groups: list[list[slice]], generator: torch.Generator | None
    ) -> Iterator[Batch]:
        """Pairs and weights of groups of spans; those of a single group are kept for later."""
        if generator is not None and len(groups) == 1 and self.n_passes_left:
            self.n_passes_left -= 1
            yield self._kept_group(generator)
            return
        wide_spans = (slice(group[0].start, group[-1].stop) for group in groups)
        for x, weight in self.rows.batches(wide_spans, generator):
            if generator is not None:  # rows of a memory map come sorted
                order = shuffled(len(x), generator)
                x, weight = x[order], None if weight is None else weight[order]
            pairs = self.pairs(x)
            if generator is not None and len(groups) == 1 and self.n_passes > 1:
                self.kept, self.n_passes_left = (pairs, weight), self.n_passes - 1
            yield pairs, weight

    def _kept_group(self, generator: torch.Generator) -> Batch:
        """The pairs of the last pass in another order."""
        assert self.kept is not None
        pairs, weight = self.kept
        order = shuffled(len(pairs), generator)
        return pairs[order], None if weight is None else weight[order]

    def frozen(self) -> TensorRows:
        """At most ``MAX_VALIDATION_ROWS`` pairs with one fixed draw of noise."""
        n_rows = min(len(self), MAX_VALIDATION_ROWS)
        step = -(-len(self) // n_rows)
        indices = torch.arange(0, len(self), step)
        weight = self.rows.sample_weight
        pairs = self.pairs(self.rows.take(indices))
        return TensorRows(pairs, None if weight is None else weight[indices])


class DenoisingNet(AutoencoderNet):
    """Trains an autoencoder on pairs of encoder inputs and targets."""

    def _parameter_groups(self) -> list[tuple[list[nn.Parameter], float, float]]:
        # The linear path starts at a solution: it is not decayed. On wide rows, where a step
        # moves thousands of its weights at once, its learning rate is lower.
        path = [
            p
            for m in self.module_.modules()
            if isinstance(m, LinearPath)
            for p in m.path.parameters()
        ]
        share = min(1.0, COLUMNS_AT_FULL_RATE / self.n_features)
        groups = super()._parameter_groups()
        others = [([p for p in ps if not any(p is q for q in path)], s, a) for ps, s, a in groups]
        return [*others, (path, share, 0.0)]

    def _inputs(self, x: Tensor) -> Tensor:
        return super()._inputs(self._without_targets(x))

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return super().infer(self._without_targets(x))

    def _without_targets(self, x: Tensor) -> Tensor:
        return x[..., : x.shape[-1] - self.n_features]

    def _targets(self, x: Tensor) -> Tensor:
        return x[..., x.shape[-1] - self.n_features :]

    @property
    def n_features(self) -> int:
        return self.module_.link.n_outputs

    def hidden_rows(self, rows: SourceRows) -> Pieces:
        """Yield slices and the activations of all hidden layers, the latents among them."""
        outputs: list[Tensor] = []
        module = copy.deepcopy(self.module_).eval()  # other threads must not see the hooks
        for layer in module.modules():
            if isinstance(layer, tuple(ACTIVATIONS.values())):
                layer.register_forward_hook(lambda _, x, output: outputs.append(output.flatten(1)))

        def hidden(x: Tensor) -> Tensor:
            outputs.clear()
            z = module.encode(x)
            n_encoder = len(outputs)
            module.decode(z)
            return torch.cat([*outputs[:n_encoder], z, *outputs[n_encoder:]], dim=1)

        return self._map_batches(hidden, rows)

    def denoised_rows(self, rows: SourceRows | TensorRows) -> Iterator[tuple[slice, Any, Any]]:
        """Yield slices, encoder inputs and reconstructions, all scaled."""
        for span, x in self._inference_batches(rows):
            output = self._evaluate(self.module_.reconstruct, x)
            yield span, rows.to_array_like(x), rows.to_array_like(output)

    def denoised(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scaled reconstructions for encoder inputs."""
        rows = TensorRows(torch.from_numpy(inputs).to(self.device))
        return np.concatenate([output for _, _, output in self.denoised_rows(rows)])

"""Training on pairs: what the encoder reads, and beside it what is to come out."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from skae._data._arrays import as_array, constant, namespace
from skae._engine._batches import Batch, Rows, SourceRows, TensorRows, shuffled
from skae._engine._inference import Pieces
from skae._engine._net import AutoencoderNet
from skae.networks._layers import ACTIVATIONS
from skae.networks._linear_path import LinearPath

# Rows made noisy at once: enough to share the cost, few enough to stay in cache.
ROWS_AT_ONCE = 4096
# Above this many columns the linear path is trained at a lower rate.
COLUMNS_AT_FULL_RATE = 64
# Held-out rows that a validation loss is taken from.
MAX_VALIDATION_ROWS = 10_000


class InputTransform:
    """Scales rows, fills what is missing and says where that was.

    Parameters
    ----------
    scaler : Scaler
    fill : callable
        Takes scaled float rows with NaN and returns them without.
    tells_missing : bool
        Whether a mask of the missing cells follows the filled rows.
    empty : ndarray of bool of shape (n_features,)
        Columns that held nothing in ``fit``: what they hold now is not read.
    bounds : pair of ndarray of shape (n_features,), default=None
        Where scaled values are cut off before the encoder reads them.
    """

    def __init__(
        self,
        scaler: Any,
        fill: Callable[[Any], Any],
        tells_missing: bool,
        empty: NDArray[np.bool_],
        bounds: tuple[NDArray[Any], NDArray[Any]] | None = None,
    ):
        self.scaler = scaler
        self.fill = fill
        self.tells_missing = tells_missing
        self.empty = empty
        self.bounds = bounds

    def on_device_of(self, X: Any) -> InputTransform:
        """The same reader, its scaler on the device of the tensors it is to read."""
        other = copy.copy(self)
        other.scaler = self.scaler.on_device_of(X)
        return other

    def transform(self, X: Any) -> Any:
        """What the encoder reads of a dense chunk of rows."""
        scaled = self.scaler.transform(X)
        if self.empty.any():
            scaled[:, self.empty] = np.nan
        return self.inputs(scaled)

    def inputs(self, scaled: Any) -> Any:
        """The same, of rows that are scaled already."""
        xp = namespace(scaled)
        missing = xp.isnan(scaled)
        filled = scaled
        if missing.any():
            filled = constant(self.fill(as_array(scaled)), scaled, xp.float32)
        if self.bounds is not None:
            filled = filled.clip(*(constant(bound, filled) for bound in self.bounds))
        if not self.tells_missing:
            return filled
        return xp.concat([filled, xp.asarray(missing, dtype=xp.float32)], axis=1)


class PairTransform:
    """Reads rows that stand side by side: inputs, then targets."""

    def __init__(self, input_transform: InputTransform):
        self.input_transform = input_transform

    def transform(self, X: NDArray[Any]) -> NDArray[np.float32]:
        """Inputs and targets of a dense chunk of pairs."""
        noisy, clean = np.hsplit(X, 2)
        return np.hstack(
            [self.input_transform.transform(noisy), self.input_transform.scaler.transform(clean)]
        )


class NoisyRows(Rows):
    """Clean rows that get fresh noise whenever they are read."""

    def __init__(self, rows: SourceRows | TensorRows, noise: Any, input_transform: InputTransform):
        self.rows = rows
        self.noise = noise
        self.input_transform = input_transform

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, selection: Any) -> tuple[Tensor, int]:
        return self.rows[selection]

    def pairs(self, x: Tensor) -> Tensor:
        """Inputs with fresh noise beside their targets."""
        inputs = self.noise(x)
        reads_more = self.input_transform.tells_missing or self.input_transform.bounds is not None
        if reads_more or inputs.isnan().any():
            filled = self.input_transform.inputs(inputs.cpu().numpy())
            inputs = torch.from_numpy(filled).to(x.device)
        return torch.cat([inputs, x], dim=1)

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        cuts = list(spans)
        n_together = max(1, ROWS_AT_ONCE // (cuts[0].stop - cuts[0].start))
        groups = [cuts[i : i + n_together] for i in range(0, len(cuts), n_together)]
        wide = (slice(group[0].start, group[-1].stop) for group in groups)
        for group, (x, weight) in zip(groups, self.rows.batches(wide, generator), strict=True):
            if generator is not None:  # rows of a memory map come sorted
                order = shuffled(len(x), generator)
                x, weight = x[order], None if weight is None else weight[order]
            pairs = self.pairs(x)
            for cut in group:
                here = slice(cut.start - group[0].start, cut.stop - group[0].start)
                yield pairs[here], None if weight is None else weight[here]

    def frozen(self) -> TensorRows:
        """Pairs with one draw of noise, at most so many as a validation loss needs."""
        n_rows = min(len(self), MAX_VALIDATION_ROWS)
        step = -(-len(self) // n_rows)
        chosen = torch.arange(0, len(self), step)
        weight = self.rows.sample_weight
        pairs = self.pairs(self.rows.take(chosen))
        return TensorRows(pairs, None if weight is None else weight[chosen])


class DenoisingNet(AutoencoderNet):
    """An autoencoder trained on pairs of inputs and targets, side by side in a batch."""

    def _parameter_groups(self) -> list[tuple[list[nn.Parameter], float, float]]:
        # The linear answer is good already: it is not decayed, and wide rows, where each
        # step moves thousands of its weights at once, adjust it in smaller steps.
        path = [
            p
            for m in self.module_.modules()
            if isinstance(m, LinearPath)
            for p in m.path.parameters()
        ]
        share = min(1.0, COLUMNS_AT_FULL_RATE / self.n_features)
        groups = super()._parameter_groups()
        left = [([p for p in ps if not any(p is q for q in path)], s, a) for ps, s, a in groups]
        return [*left, (path, share, 0.0)]

    def _inputs(self, x: Tensor) -> Tensor:
        return super()._inputs(self._read(x))

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return super().infer(self._read(x))

    def _read(self, x: Tensor) -> Tensor:
        return x[..., : x.shape[-1] - self.n_features]

    def _targets(self, x: Tensor) -> Tensor:
        return x[..., x.shape[-1] - self.n_features :]

    @property
    def n_features(self) -> int:
        return len(self.module_.link.center)

    def hidden_rows(self, rows: SourceRows) -> Pieces:
        """Yield slices and all hidden activations side by side, the latents among them."""
        seen: list[Tensor] = []
        module = copy.deepcopy(self.module_).eval()  # other threads must not see the hooks
        for layer in module.modules():
            if isinstance(layer, tuple(ACTIVATIONS.values())):
                layer.register_forward_hook(lambda _, x, output: seen.append(output.flatten(1)))

        def hidden(x: Tensor) -> Tensor:
            seen.clear()
            z = module.encode(x)
            n_before = len(seen)
            module.decode(z)
            return torch.cat([*seen[:n_before], z, *seen[n_before:]], dim=1)

        return self._map_batches(hidden, rows)

    def denoised_rows(self, rows: SourceRows | TensorRows) -> Iterator[tuple[slice, Any, Any]]:
        """Yield slices, what the encoder reads and what the decoder says, all scaled."""
        for span, x in self._inference_batches(rows):
            told = self._evaluate(self.module_.reconstruct, x)
            yield span, rows.to_array_like(x), rows.to_array_like(told)

    def denoised(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        """What the decoder says where the encoder reads `inputs`."""
        rows = TensorRows(torch.from_numpy(inputs).to(self.device))
        return np.concatenate([told for _, _, told in self.denoised_rows(rows)])

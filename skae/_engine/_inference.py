"""What a net is asked after training: rows in, arrays out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from skae._engine._batches import SourceRows, TensorRows
from skae._engine._runtime import autocast
from skae.networks._autoencoder import Autoencoder

# Rows of an inference batch: large enough for full speed, small enough to stay in cache.
INFERENCE_BYTES = 4 * 2**20
# Shorter batches are filled up: matrix products of few rows round otherwise, and a row
# alone is to be that row of a batch.
MIN_INFERENCE_ROWS = 16


class RowsToArrays:
    """The half of a net that reads rows batch by batch, in eval mode and without gradients."""

    module_: Autoencoder
    device: Any
    precision: str
    _set_training: Any

    def keep_latents(self, n_kept: int) -> None:
        """Keep the first latents only; the decoder reads zero for the others."""
        self.module_.n_kept = n_kept

    def encode_rows(self, rows: SourceRows) -> NDArray[np.float32]:
        """Latents of all rows, of shape (n_samples, n_kept)."""
        latents = np.empty((len(rows), self.module_.n_kept), dtype=np.float32)
        for span, x in self._inference_batches(rows):
            latents[span] = self._evaluate(self.module_.encode, x)
        return latents

    def decode_rows(self, Z: NDArray[Any]) -> Any:
        """Yield slices and scaled rows for latents `Z`."""
        for span in self._spans(len(Z)):
            yield span, self._evaluate(self.module_.decode, self._tensor(Z[span]))

    def reconstruct_rows(self, rows: SourceRows, n_latents: int | None = None) -> Any:
        """Yield slices and scaled reconstructions, from the first `n_latents` only if given."""

        def reconstruct(x: Tensor) -> Tensor:
            return self.module_.reconstruct(x, n_latents)

        for span, x in self._inference_batches(rows):
            yield span, self._evaluate(reconstruct, x)

    @torch.no_grad()
    def _evaluate(self, function: Any, x: Tensor, row_axis: int = 0) -> NDArray[np.float32]:
        """What a function says of rows; they stand in `row_axis` of the result."""
        if self.module_.training:
            self._set_training(False)
        n_rows, n_missing = len(x), MIN_INFERENCE_ROWS - len(x)
        if n_missing > 0:
            x = torch.cat([x, x[-1:].expand(n_missing, -1)])
        with autocast(self.precision, x.device):
            return function(x).narrow(row_axis, 0, n_rows).float().cpu().numpy()

    def _tensor(self, values: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.array(values, dtype=np.float32)).to(self.device)

    def _inference_batches(self, rows: SourceRows | TensorRows) -> Any:
        for span in self._spans(len(rows)):
            yield span, rows.read(span)

    def _spans(self, n_rows: int) -> Any:
        step = self._inference_batch_size
        return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))

    @property
    def _inference_batch_size(self) -> int:
        return max(MIN_INFERENCE_ROWS, INFERENCE_BYTES // (4 * self._floats_per_row))

    @property
    def _floats_per_row(self) -> int:
        """Width of the widest layer."""
        return max(max(p.shape, default=1) for p in self.module_.parameters())

"""Inference of a net in batches: rows in, arrays of the same kind out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skae._engine._batches import Rows, SourceRows, to_array_like
from skae._engine._runtime import autocast
from skae.networks._autoencoder import Autoencoder

# Size of the widest layer in an inference batch: large enough for speed, small enough to
# stay in cache.
INFERENCE_BYTES = 4 * 2**20
# Shorter batches are padded: matrix products of few rows round differently, and a row must
# have the same result alone and in a batch.
MIN_INFERENCE_ROWS = 16

# Slices and results for these rows: NumPy arrays, or tensors on the device of tensors.
Pieces = Iterator[tuple[slice, Any]]


class InferenceMixin:
    """Evaluates the module of a net batch by batch, in eval mode and without gradients."""

    module_: Autoencoder
    device: Any
    precision: str
    _set_training: Any

    def keep_latents(self, n_kept: int) -> None:
        """Use the first `n_kept` latents only; the decoder reads zeros for the others."""
        self.module_.n_kept = n_kept

    @property
    def n_latents(self) -> int:
        """Number of latents that the encoder gives and the decoder takes."""
        return self.module_.n_kept

    def encode_rows(self, rows: SourceRows) -> Pieces:
        """Yield slices and latents, of shape (n_rows, n_kept)."""
        return self._map_batches(self.module_.encode, rows)

    def code_rows(self, rows: SourceRows) -> Pieces:
        """Yield slices and codes, which latents are made of, of shape (n_rows, n_kept)."""
        return self._map_batches(self.module_.kept_code, rows)

    def decode_rows(self, Z: Any) -> Pieces:
        """Yield slices and scaled rows for latents `Z`."""
        return self._map_latents(self.module_.decode, Z)

    def rows_of_codes(self, codes: Any) -> Pieces:
        """Yield slices and scaled rows for codes."""
        return self._map_latents(self.module_.decode_code, codes)

    def raw_rows_of_codes(self, codes: Any) -> Pieces:
        """Yield slices and outputs of the decoder for codes, before the output link."""
        return self._map_latents(self.module_.decode_code_raw, codes)

    def reconstruct_rows(self, rows: SourceRows, n_latents: int | None = None) -> Pieces:
        """Yield slices and scaled reconstructions, from the first `n_latents` only if given."""
        return self._map_batches(lambda x: self.module_.reconstruct(x, n_latents), rows)

    def _map_batches(
        self, function: Callable[[Tensor], Tensor], rows: Rows, row_axis: int = 0
    ) -> Pieces:
        """Yield slices and a function of these rows, as arrays of their kind."""
        for span, x in self._inference_batches(rows):
            yield span, rows.to_array_like(self._evaluate(function, x, row_axis))

    def _map_latents(self, function: Callable[[Tensor], Tensor], Z: Any) -> Pieces:
        """Yield slices and a function of these latents, as arrays of their kind."""
        for span in self._spans(len(Z)):
            yield span, to_array_like(self._evaluate(function, self._tensor(Z[span])), Z)

    @torch.no_grad()
    def _evaluate(
        self, function: Callable[[Tensor], Tensor], x: Tensor, row_axis: int = 0
    ) -> Tensor:
        """A function of rows, which are along `row_axis` of the result."""
        if self.module_.training:
            self._set_training(False)
        n_rows, n_padded = len(x), MIN_INFERENCE_ROWS - len(x)
        if n_padded > 0:
            x = torch.cat([x, x[-1:].expand(n_padded, -1)])
        with autocast(self.precision, x.device):
            return function(x).narrow(row_axis, 0, n_rows).float()

    def _tensor(self, values: Any) -> Tensor:
        if not isinstance(values, Tensor):
            values = torch.from_numpy(np.array(values, dtype=np.float32))
        return values.to(self.device, torch.float32)

    def _inference_batches(self, rows: Any) -> Iterator[tuple[slice, Tensor]]:
        for span in self._spans(len(rows)):
            yield span, rows.read(span)

    def _spans(self, n_rows: int) -> Iterator[slice]:
        step = self._inference_batch_size
        return (slice(start, min(start + step, n_rows)) for start in range(0, n_rows, step))

    @property
    def _inference_batch_size(self) -> int:
        return max(MIN_INFERENCE_ROWS, INFERENCE_BYTES // (4 * self._floats_per_row))

    @property
    def _floats_per_row(self) -> int:
        """Width of the widest layer."""
        return max(max(p.shape, default=1) for p in self.module_.parameters())

"""Encoders that say a distribution instead of a point."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Bounds of log-variances: e^8 is flat for every use, and exp() of it far from overflow.
MAX_LOG_VARIANCE = 8.0


class VariationalEncoder(nn.Module):
    """Means and log-variances of the latents, side by side, from a network each."""

    def __init__(self, mean: nn.Module, log_variance: nn.Module):
        super().__init__()
        self.mean = mean
        self.log_variance = log_variance

    def forward(self, x: Tensor) -> Tensor:
        bound = MAX_LOG_VARIANCE
        return torch.cat([self.mean(x), self.log_variance(x).clamp(-bound, bound)], dim=-1)

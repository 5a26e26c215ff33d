"""Encoders and decoders; any object with a ``build`` method can stand beside them."""

from skae.networks._conv import ConvNetwork
from skae.networks._mlp import MLPNetwork

__all__ = ["ConvNetwork", "MLPNetwork"]

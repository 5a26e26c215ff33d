"""Networks of the `network` parameter; any object with their ``build`` method will do."""

from skae.networks._conv import ConvNetwork
from skae.networks._mlp import MLPNetwork

__all__ = ["ConvNetwork", "MLPNetwork"]

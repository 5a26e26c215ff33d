"""Autoencoders behind scikit-learn's contract."""

from skae.estimators._transformer import AutoencoderTransformer

__version__ = "0.1.0.dev0"

__all__ = ["AutoencoderTransformer", "__version__"]

"""PyTorch autoencoders as scikit-learn estimators."""

import importlib
from typing import TYPE_CHECKING

from skae._version import __version__
from skae.comparison import compare_knn, compare_outlier_detectors, latent_size_curve
from skae.estimators._denoising import DenoisingAutoencoder
from skae.estimators._generator import VAEGenerator
from skae.estimators._outlier import AutoencoderOutlierDetector
from skae.estimators._transformer import AutoencoderTransformer
from skae.interchange import to_onnx

if TYPE_CHECKING:
    from skae.persistence import load, save

__all__ = [
    "AutoencoderOutlierDetector",
    "AutoencoderTransformer",
    "DenoisingAutoencoder",
    "VAEGenerator",
    "__version__",
    "compare_knn",
    "compare_outlier_detectors",
    "latent_size_curve",
    "load",
    "save",
    "to_onnx",
]


# Imported when they are first used, to keep `import skae` fast.
_MODULES = ("dask", "distributed", "io", "persistence", "plotting")


def __getattr__(name):
    if name in _MODULES:
        return importlib.import_module(f"skae.{name}")
    if name in ("load", "save"):
        return getattr(importlib.import_module("skae.persistence"), name)
    raise AttributeError(f"module 'skae' has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_MODULES})

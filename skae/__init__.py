"""Autoencoders behind scikit-learn's contract."""

from skae._version import __version__
from skae.comparison import compare_knn, compare_outlier_detectors, latent_size_curve
from skae.estimators._denoising import DenoisingAutoencoder
from skae.estimators._generator import VAEGenerator
from skae.estimators._outlier import AutoencoderOutlierDetector
from skae.estimators._transformer import AutoencoderTransformer
from skae.interchange import to_onnx
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

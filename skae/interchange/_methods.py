"""The methods of estimators that can be written as ONNX, and errors for the others."""

from sklearn.utils.validation import check_is_fitted

from skae._engine._runtime import initial_settings
from skae.estimators._denoising import DenoisingAutoencoder
from skae.estimators._generator import VAEGenerator
from skae.estimators._outlier import AutoencoderOutlierDetector
from skae.estimators._transformer import AutoencoderTransformer
from skae.interchange._onnx_estimators import DenoiserWriter, DetectorWriter, TransformerWriter
from skae.interchange._onnx_generator import GeneratorWriter

WRITERS = {
    AutoencoderOutlierDetector: DetectorWriter,
    AutoencoderTransformer: TransformerWriter,
    DenoisingAutoencoder: DenoiserWriter,
    VAEGenerator: GeneratorWriter,
}
READ_LATENTS = {"decode", "inverse_transform"}
ONE_PER_ROW = {"decision_function", "predict", "reconstruction_error", "score_samples"}
VERBS = READ_LATENTS | ONE_PER_ROW | {"encode", "reconstruct", "transform"}


def write_method(estimator, method, X):
    """Write a method into the graph of the value X, and return the value of its result."""
    # Subclasses can be written, unlike saved: their class is not needed to run the model.
    writer_class = next((WRITERS[cls] for cls in type(estimator).__mro__ if cls in WRITERS), None)
    if writer_class is None:
        raise TypeError(
            f"estimator is a {type(estimator).__name__}; it must be one of skae's estimators. "
            "Others, and pipelines, are for skl2onnx.to_onnx."
        )
    check_is_fitted(estimator)
    methods = [verb for verb in sorted(VERBS) if hasattr(writer_class, verb)]
    message = f"method={method!r} of this {type(estimator).__name__} cannot be written as ONNX"
    if method not in methods:
        raise ValueError(f"{message}; these can: {methods}.")
    try:
        writer = writer_class(estimator)
    except ValueError as error:
        raise ValueError(f"{message}, nor can any other method: {error}.") from error
    try:
        with initial_settings():  # torch.onnx.export runs a user's layers
            return getattr(writer, method)(X)
    except ValueError as error:
        methods.remove(method)
        raise ValueError(f"{message}: {error}. These can: {methods}.") from error

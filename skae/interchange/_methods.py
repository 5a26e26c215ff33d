"""Which methods of which estimators can be written, and an error for the others."""

from sklearn.utils.validation import check_is_fitted

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


def draw(estimator, method, X):
    """What a method says of a value; an error that tells what can be written if it can not."""
    # A subclass may be drawn though `save` refuses it: nothing has to make its class anew.
    kind = next((WRITERS[cls] for cls in type(estimator).__mro__ if cls in WRITERS), None)
    if kind is None:
        raise TypeError(
            f"estimator is a {type(estimator).__name__}; it must be one of skae's estimators. "
            "Others, and pipelines, are for skl2onnx.to_onnx."
        )
    check_is_fitted(estimator)
    methods = [verb for verb in sorted(VERBS) if hasattr(kind, verb)]
    told = f"method={method!r} of this {type(estimator).__name__} can not be written as ONNX"
    if method not in methods:
        raise ValueError(f"{told}; these can: {methods}.")
    try:
        drawing = kind(estimator)
    except ValueError as error:
        raise ValueError(f"{told}, and no other either: {error}.") from error
    try:
        return getattr(drawing, method)(X)
    except ValueError as error:
        methods.remove(method)
        raise ValueError(f"{told}: {error}. Others are {methods}.") from error

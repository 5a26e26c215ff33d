"""Estimators elsewhere: as ONNX models, alone and in pipelines, and as detectors of PyOD."""

from skae._onnx_hooks import IMPLEMENTATIONS
from skae.interchange._export import to_onnx
from skae.interchange._pipelines import converter_of, parser_of, shape_calculator_of
from skae.interchange._pyod import PyODDetector

__all__ = ["PyODDetector", "to_onnx"]

# Registering converters with skl2onnx would import it, so estimators answer for themselves.
IMPLEMENTATIONS.update(
    onnx_converter=converter_of,
    onnx_parser=parser_of,
    onnx_shape_calculator=shape_calculator_of,
)

"""Fitted estimators as ONNX models, alone and as steps of pipelines."""

from skae.estimators._base import BaseAutoencoder
from skae.interchange._export import to_onnx
from skae.interchange._pipelines import onnx_converter, onnx_parser, onnx_shape_calculator

__all__ = ["to_onnx"]

# skl2onnx asks the steps of a pipeline for these: nothing needs to be registered with it, and
# it may be imported before or after.
for _door in (onnx_converter, onnx_parser, onnx_shape_calculator):
    setattr(BaseAutoencoder, _door.__name__, _door)

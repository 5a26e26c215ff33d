"""Fitted estimators as ONNX models, alone and as steps of pipelines."""

from skae.estimators._base import BaseAutoencoder
from skae.interchange._export import to_onnx
from skae.interchange._pipelines import answer_skl2onnx

__all__ = ["to_onnx"]

# Methods of the class would be seen by all users, and registering would import skl2onnx.
BaseAutoencoder.__getattr__ = answer_skl2onnx

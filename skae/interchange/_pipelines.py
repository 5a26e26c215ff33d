"""What skl2onnx asks the steps of a pipeline for: methods that BaseAutoencoder is given."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


def onnx_parser(self):
    """Tell skl2onnx what a converted pipeline says of rows.

    Returns
    -------
    parser : callable
        Names the outputs: of a detector labels and ``decision_function``, else a variable.
    """
    check_is_fitted(self)

    def parser(scope=None, inputs=None):
        if not hasattr(self, "predict"):
            return ["variable"]
        from skl2onnx.common.data_types import Int64TensorType

        return [("label", Int64TensorType()), "scores"]

    return parser


def onnx_shape_calculator(self):
    """Tell skl2onnx the shapes and types of the outputs.

    Returns
    -------
    shape_calculator : callable
        Sets the types of an operator's outputs.
    """

    def shape_calculator(operator):
        from skl2onnx.common.data_types import (
            DoubleTensorType,
            FloatTensorType,
            Int64TensorType,
        )

        kind = DoubleTensorType if _reads_doubles(operator) else FloatTensorType
        if hasattr(self, "predict"):
            label, scores = operator.outputs
            label.type, scores.type = Int64TensorType([None]), kind([None])
        else:
            operator.outputs[0].type = kind([None, len(self.get_feature_names_out())])

    return shape_calculator


def onnx_converter(self):
    """Let skl2onnx write the estimator into the graph of a pipeline.

    Returns
    -------
    converter : callable
        Adds nodes to the graph.

    Raises
    ------
    ValueError
        If the estimator can not be written; see :func:`skae.to_onnx`.
    """

    def converter(scope, operator, container):
        from skae.interchange._graph import OPSET, Graph, concat
        from skae.interchange._methods import draw

        if container.target_opset < OPSET:
            raise ValueError(
                f"target_opset={container.target_opset} must be at least {OPSET} for "
                f"{type(self).__name__}."
            )
        graph = Graph(scope.get_unique_operator_name("skae") + "_")
        dtype = np.float64 if _reads_doubles(operator) else np.float32
        # Types of inputs may be any numbers': all are cast, to what they are already mostly.
        parts = [graph.value(object, part.onnx_name) for part in operator.inputs]
        X = concat([part.cast(dtype) for part in parts])
        verbs = ["predict", "decision_function"] if hasattr(self, "predict") else ["transform"]
        for verb, output in zip(verbs, operator.outputs, strict=True):
            draw(self, verb, X).named(output.onnx_name)
        container.nodes.extend(graph.nodes)
        container.initializers.extend(graph.constants.values())
        container.node_domain_version_pair_sets.add(("", OPSET))

    return converter


def _reads_doubles(operator):
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(operator.inputs[0].type, DoubleTensorType)

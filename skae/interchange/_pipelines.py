"""Parser, shape calculator and converter of estimators as steps of skl2onnx pipelines."""

import numpy as np
from sklearn.utils.validation import check_is_fitted


def parser_of(estimator):
    """A parser, which names the outputs: labels and scores of a detector, else one variable."""
    check_is_fitted(estimator)

    def parser(scope=None, inputs=None):
        if not hasattr(estimator, "predict"):
            return ["variable"]
        from skl2onnx.common.data_types import Int64TensorType

        return [("label", Int64TensorType()), "scores"]

    return parser


def shape_calculator_of(estimator):
    """A function that sets shapes and types of the outputs."""

    def shape_calculator(operator):
        from skl2onnx.common.data_types import (
            DoubleTensorType,
            FloatTensorType,
            Int64TensorType,
        )

        kind = DoubleTensorType if _reads_doubles(operator) else FloatTensorType
        if hasattr(estimator, "predict"):
            label, scores = operator.outputs
            label.type, scores.type = Int64TensorType([None]), kind([None])
        else:
            operator.outputs[0].type = kind([None, len(estimator.get_feature_names_out())])

    return shape_calculator


def converter_of(estimator):
    """A converter, which writes the estimator into the graph of a pipeline."""

    def converter(scope, operator, container):
        from skae.interchange._graph import OPSET, Graph, concat
        from skae.interchange._methods import write_method

        if container.target_opset < OPSET:
            raise ValueError(
                f"target_opset={container.target_opset} must be at least {OPSET} for "
                f"{type(estimator).__name__}."
            )
        graph = Graph(scope.get_unique_operator_name("skae") + "_")
        dtype = np.float64 if _reads_doubles(operator) else np.float32
        # Inputs of any numeric type are cast; for those of this type the cast does nothing.
        parts = [graph.value(object, part.onnx_name) for part in operator.inputs]
        X = concat([part.cast(dtype) for part in parts])
        verbs = ["predict", "decision_function"] if hasattr(estimator, "predict") else ["transform"]
        for verb, output in zip(verbs, operator.outputs, strict=True):
            write_method(estimator, verb, X).named(output.onnx_name)
        container.nodes.extend(graph.nodes)
        container.initializers.extend(graph.constants.values())
        container.node_domain_version_pair_sets.add(("", OPSET))

    return converter


def _reads_doubles(operator):
    from skl2onnx.common.data_types import DoubleTensorType

    return isinstance(operator.inputs[0].type, DoubleTensorType)

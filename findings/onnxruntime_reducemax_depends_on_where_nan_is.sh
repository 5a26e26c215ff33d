#!/usr/bin/env bash
# onnxruntime 1.31.1, onnx 1.23.2, NumPy 2.4.6, Python 3.11, Linux on x86-64: the ReduceMax of a row with
# one NaN is NaN, the largest number, or a smaller number, by where the NaN is.
#
# Expected: NaN, as numpy.max gives, or the largest number, as numpy.nanmax does: one of the two.
# Seen: NaN if it comes first, a number below the largest in two places, the largest in the others.
# Other processors may differ in the places. Output seen (the numbers 0 to 19 in order, one of them
# replaced by NaN; from 4 on, all are 19):
#   NaN at  0: nan
#   NaN at  1: 18
#   NaN at  2: 19
#   NaN at  3: 18
#   NaN at  4: 19
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

axis = helper.make_tensor("axis", TensorProto.INT64, [1], [1])
graph = helper.make_graph(
    [helper.make_node("ReduceMax", ["X", "axis"], ["Y"], keepdims=0)],
    "largest",
    [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 20])],
    [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [None])],
    [axis],
)
opset = [helper.make_opsetid("", 18)]
model = helper.make_model(graph, opset_imports=opset, ir_version=8)
onnx.checker.check_model(model, full_check=True)
session = onnxruntime.InferenceSession(model.SerializeToString())
largest = {}
for place in range(19):  # the largest number, at 19, stays
    row = np.arange(20, dtype=np.float32)
    row[place] = np.nan
    (value,) = session.run(None, {"X": row[None]})[0]
    largest[place] = float(value)
    print(f"NaN at {place:2}: {value:.0f}")
kinds = {"NaN" if np.isnan(v) else "largest" if v == 19 else "smaller" for v in largest.values()}
assert kinds == {"NaN", "largest", "smaller"}, f"now it is always of {kinds}"
PYTHON

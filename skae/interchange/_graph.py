"""An ONNX graph that is built by arithmetic on its values."""

from itertools import count

import numpy as np

# The first opset in which all reductions take their axes as inputs, and the version of the format
# of its release. Newer runtimes read both.
OPSET, IR_VERSION = 18, 8


class Graph:
    """Nodes in the order in which they are computed.

    Parameters
    ----------
    prefix : str
        Prefix of all names.
    outer : Graph, default=None
        The graph that holds this one, the body of a loop, which can read its values.
    """

    def __init__(self, prefix="", outer=None):
        self.prefix = prefix
        self.root = self if outer is None else outer.root
        self.depth = 0 if outer is None else outer.depth + 1
        self.numbers = count() if outer is None else outer.numbers
        self.nodes = []
        self.constants = {}

    def name(self, kind):
        """A name that no other value has."""
        return f"{self.root.prefix}{kind.lower()}_{next(self.numbers)}"

    def value(self, dtype, name=None):
        """A value that no node of the graph computes: an input."""
        return Value(self, name or self.name("input"), np.dtype(dtype))

    def constant(self, array, dtype):
        """A constant of the model; equal arrays share one."""
        from onnx import numpy_helper

        array = np.array(array, dtype=dtype, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        constants = self.root.constants
        if key not in constants:
            constants[key] = numpy_helper.from_array(array, self.name("constant"))
        return Value(self.root, constants[key].name, array.dtype)

    def op(self, kind, *inputs, dtype, n_outputs=1, **attributes):
        """Add a node, and return its outputs; it belongs to the innermost graph of its inputs."""
        from onnx import helper

        values = [v for v in inputs if isinstance(v, Value)]
        owner = max((v.graph for v in values), key=lambda graph: graph.depth)
        outputs = [Value(owner, self.name(kind), np.dtype(dtype)) for _ in range(n_outputs)]
        names = [v.name for v in inputs]
        owner.nodes.append(helper.make_node(kind, names, [v.name for v in outputs], **attributes))
        return outputs[0] if n_outputs == 1 else outputs

    def proto(self, inputs, outputs, name="skae"):
        """The graph, given its inputs and outputs: pairs of values and shapes (or None)."""
        from onnx import helper

        infos = [
            [helper.make_tensor_value_info(v.name, onnx_type(v.dtype), shape) for v, shape in pairs]
            for pairs in (inputs, outputs)
        ]
        constants = self.constants.values() if self.root is self else ()
        return helper.make_graph(self.nodes, name, *infos, initializer=list(constants))


class Value:
    """An output of a node, or an input of the graph; operators add further nodes.

    Arrays that it is combined with become constants of its dtype.
    """

    __array_ufunc__ = None  # otherwise `array + value` is an array of values

    def __init__(self, graph, name, dtype):
        self.graph = graph
        self.name = name
        self.dtype = dtype

    def op(self, kind, *others, dtype=None, **attributes):
        """Add a node whose inputs are this value and others, and return its output."""
        others = [self.like(other) for other in others]
        return self.graph.op(kind, self, *others, dtype=dtype or self.dtype, **attributes)

    def like(self, other):
        """A value as it is; an array as a constant of this value's dtype."""
        return other if isinstance(other, Value) else self.graph.constant(other, self.dtype)

    def whole(self, numbers):
        """A constant of type int64, as shapes and axes must be."""
        return self.graph.constant(numbers, np.int64)

    def __add__(self, other):
        return self.op("Add", other)

    def __radd__(self, other):
        return self.like(other) + self

    def __sub__(self, other):
        return self.op("Sub", other)

    def __rsub__(self, other):
        return self.like(other) - self

    def __mul__(self, other):
        return self.op("Mul", other)

    def __rmul__(self, other):
        return self.like(other) * self

    def __truediv__(self, other):
        return self.op("Div", other)

    def __rtruediv__(self, other):
        return self.like(other) / self

    def __matmul__(self, other):
        return self.op("MatMul", other)

    def __neg__(self):
        return self.op("Neg")

    def __invert__(self):
        return self.op("Not")

    def __and__(self, other):
        return self.op("And", other)

    def __or__(self, other):
        return self.op("Or", other)

    def __lt__(self, other):
        return self.op("Less", other, dtype=bool)

    def __le__(self, other):
        return self.op("LessOrEqual", other, dtype=bool)

    def __gt__(self, other):
        return self.op("Greater", other, dtype=bool)

    def __ge__(self, other):
        return self.op("GreaterOrEqual", other, dtype=bool)

    def equals(self, other):
        """Elementwise equality."""
        return self.op("Equal", other, dtype=bool)

    def is_nan(self):
        """Elementwise test for NaN."""
        return self.op("IsNaN", dtype=bool)

    def named(self, name):
        """The same value under a given name."""
        named = self.op("Identity")
        named.graph.nodes[-1].output[0] = named.name = name
        return named

    def cast(self, dtype):
        """The same numbers in another dtype."""
        dtype = np.dtype(dtype)
        if dtype == self.dtype:
            return self
        return self.op("Cast", dtype=dtype, to=onnx_type(dtype))

    def square(self):
        return self * self

    def exp(self):
        return self.op("Exp")

    def log(self):
        return self.op("Log")

    def between(self, low, high):
        """Clip to bounds; NaN stays NaN."""
        # By the standard, Max and Min need not keep NaN.
        clipped = where(self < low, self.like(low), self)
        return where(clipped > high, self.like(high), clipped)

    def sum(self, axis, keepdims=False):
        return self.op("ReduceSum", self.whole([axis]), keepdims=int(keepdims))

    def mean(self, axis):
        return self.op("ReduceMean", self.whole([axis]), keepdims=0)

    def max(self, axis):
        return self.op("ReduceMax", self.whole([axis]), keepdims=0)

    def logsumexp(self, axis):
        return self.op("ReduceLogSumExp", self.whole([axis]), keepdims=0)

    def argmax(self, axis):
        return self.op("ArgMax", dtype=np.int64, axis=axis, keepdims=0)

    def argmin(self, axis):
        return self.op("ArgMin", dtype=np.int64, axis=axis, keepdims=0)

    def slice(self, start, stop, axis=-1):
        """Cells of an axis from `start` to `stop`, which is excluded."""
        return self.op("Slice", *(self.whole([n]) for n in (start, stop, axis)))

    def take(self, indices, axis):
        """Cells of an axis at indices, which are an array or a value."""
        indices = indices if isinstance(indices, Value) else self.whole(indices)
        return self.op("Gather", indices, axis=axis)

    def reshape(self, *shape):
        """Another shape; 0 stands for the present size of an axis, -1 for the remaining one."""
        return self.op("Reshape", self.whole(shape))

    def flat_rows(self):
        """Merge all axes but the first."""
        return self.op("Flatten", axis=1)

    def expand_dims(self, axis):
        return self.op("Unsqueeze", self.whole([axis]))

    def squeeze(self, axis):
        return self.op("Squeeze", self.whole([axis]))


def where(condition, x, y):
    """`x` where a condition is true, and `y` elsewhere; at least one of them is a value."""
    like = x if isinstance(x, Value) else y
    if not isinstance(condition, Value):
        condition = like.graph.constant(condition, bool)
    return like.graph.op("Where", condition, like.like(x), like.like(y), dtype=like.dtype)


def concat(values, axis=-1):
    """Values joined along an axis."""
    values = list(values)
    first = values[0]
    if len(values) == 1:
        return first
    return first.graph.op("Concat", *values, dtype=first.dtype, axis=axis)


def onnx_type(dtype):
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

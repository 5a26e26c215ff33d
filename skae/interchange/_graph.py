"""An ONNX graph that is written down as arithmetic on its values."""

from itertools import count

import numpy as np

# The first version in which all reductions take their axes alike, and what came with it:
# newer runtimes read it, and nothing here would be shorter in a later one.
OPSET, IR_VERSION = 18, 8


class Graph:
    """Nodes in the order in which they are computed.

    Parameters
    ----------
    prefix : str
        What all names begin with.
    outer : Graph, default=None
        The graph that this one, the body of a loop, is a part of: its values can be read.
    """

    def __init__(self, prefix="", outer=None):
        self.prefix = prefix
        self.root = self if outer is None else outer.root
        self.depth = 0 if outer is None else outer.depth + 1
        self.numbers = count() if outer is None else outer.numbers
        self.nodes = []
        self.constants = {}

    def name(self, kind):
        """A name that is not taken."""
        return f"{self.root.prefix}{kind.lower()}_{next(self.numbers)}"

    def value(self, dtype, name=None):
        """A value that comes from elsewhere."""
        return Value(self, name or self.name("input"), np.dtype(dtype))

    def constant(self, array, dtype):
        """A value that is part of the model; the same one for the same numbers."""
        from onnx import numpy_helper

        array = np.array(array, dtype=dtype, order="C")
        key = array.dtype.str, array.shape, array.tobytes()
        constants = self.root.constants
        if key not in constants:
            constants[key] = numpy_helper.from_array(array, self.name("constant"))
        return Value(self.root, constants[key].name, array.dtype)

    def op(self, kind, *inputs, dtype, n_outputs=1, **attributes):
        """Values that a node says of others; arrays among its inputs become constants."""
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
        own = self.constants.values() if self.root is self else ()
        return helper.make_graph(self.nodes, name, *infos, initializer=list(own))


class Value:
    """What a node of a graph says; NumPy's operators and arrays write further nodes.

    Arrays take the dtype of the value that they meet, as NumPy's scalars do.
    """

    __array_ufunc__ = None  # or arrays on the left would take a value apart

    def __init__(self, graph, name, dtype):
        self.graph = graph
        self.name = name
        self.dtype = dtype

    def op(self, kind, *others, dtype=None, **attributes):
        """What a node says of this value and others."""
        others = [self.like(other) for other in others]
        return self.graph.op(kind, self, *others, dtype=dtype or self.dtype, **attributes)

    def like(self, other):
        """A value as it is; an array as a constant of this value's dtype."""
        return other if isinstance(other, Value) else self.graph.constant(other, self.dtype)

    def whole(self, numbers):
        """A constant of integers, as shapes and axes are."""
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
        """Where both are the same."""
        return self.op("Equal", other, dtype=bool)

    def is_nan(self):
        """Where cells are missing."""
        return self.op("IsNaN", dtype=bool)

    def named(self, name):
        """The same value under a name that it has to have."""
        told = self.op("Identity")
        told.graph.nodes[-1].output[0] = told.name = name
        return told

    def cast(self, dtype):
        """The same numbers as another type."""
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
        """Cut off at bounds (NumPy's clip); what is missing stays missing."""
        # Max and Min need not keep NaN, as far as the standard goes.
        cut = where(self < low, self.like(low), self)
        return where(cut > high, self.like(high), cut)

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

    def slice(self, start, stop, axis=-1):
        """Cells of an axis from `start` up to `stop`."""
        return self.op("Slice", *(self.whole([n]) for n in (start, stop, axis)))

    def take(self, places, axis):
        """Cells of an axis at the places in an array of integers, or a value of them."""
        places = places if isinstance(places, Value) else self.whole(places)
        return self.op("Gather", places, axis=axis)

    def reshape(self, *shape):
        """Another shape; 0 leaves an axis as it is, -1 is what is left."""
        return self.op("Reshape", self.whole(shape))

    def flat_rows(self):
        """All axes but the first as one."""
        return self.op("Flatten", axis=1)

    def expand_dims(self, axis):
        return self.op("Unsqueeze", self.whole([axis]))

    def squeeze(self, axis):
        return self.op("Squeeze", self.whole([axis]))


def where(condition, x, y):
    """`x` where a condition is true, and `y` elsewhere; one of them is a value."""
    like = x if isinstance(x, Value) else y
    if not isinstance(condition, Value):
        condition = like.graph.constant(condition, bool)
    return like.graph.op("Where", condition, like.like(x), like.like(y), dtype=like.dtype)


def concat(values, axis=-1):
    """Values side by side."""
    values = list(values)
    first = values[0]
    if len(values) == 1:
        return first
    return first.graph.op("Concat", *values, dtype=first.dtype, axis=axis)


def onnx_type(dtype):
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))

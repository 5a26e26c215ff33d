"""Write networks into a graph.

Known layers are written one by one: that is exact, fast and the same in all versions of torch, and
it covers the layers of ensembles. Networks with other layers are exported by torch.onnx.export,
which takes longer and, in its newer form, another package.
"""

import copy
import inspect
import io
import math
import warnings

import numpy as np
import torch
from torch import nn

from skae.interchange._graph import OPSET, Value, concat
from skae.networks._layers import ACTIVATIONS, Dropout, has_hooks
from skae.networks._linear_path import LinearPath, TiedLinear
from skae.networks._mlp import MLP, TiedMLP
from skae.networks._stacked import MemberLinear, OneByOne
from skae.networks._variational import MAX_LOG_VARIANCE, ConcatOutputs, VariationalEncoder


class LayerWriter:
    """Writes networks into a graph.

    Parameters
    ----------
    activations : list of Value, default=None
        The activations of hidden layers are appended to it, in the order of computation.
    """

    def __init__(self, activations=None):
        self.activations = activations

    def __call__(self, module, x, width):
        """The output of a network of `width` inputs for `x`."""
        self.width = width
        return self.known(module, x) if unknown_layer(module) is None else traced(module, x, width)

    def known(self, module, x):
        """The same for a network without an unknown layer."""
        output = WRITERS[_kind(module)](self, module, x)
        if self.activations is not None and isinstance(module, tuple(ACTIVATIONS.values())):
            self.activations.append(output)
        return output

    def chain(self, layers, x):
        for layer in layers:
            x = self.known(layer, x)
        return x

    def linear_path(self, module, x):
        residual = self.known(module.residual, x)
        if module.gain is not None:
            residual = residual * numbers(module.gain)
        return self.known(module.path, x) + residual

    def tied(self, module, x):
        biases = iter(module.biases)
        for layer in reversed(module._layers[0]):
            if isinstance(layer, nn.Linear):
                x = x @ numbers(layer.weight) + numbers(next(biases))
            else:
                x = self.known(layer, x)
        return x

    def concat_outputs(self, module, x):
        return concat([self.known(module.first, x), self.known(module.second, x)])

    def variational(self, module, x):
        code = self.known(module.network, x)
        mean, log_variance = code.graph.op(
            "Split", code, dtype=code.dtype, n_outputs=2, axis=-1, num_outputs=2
        )
        return concat([mean, log_variance.between(-MAX_LOG_VARIANCE, MAX_LOG_VARIANCE)])

    def one_by_one(self, module, x):
        members = enumerate(module.members)
        outputs = [self(member, x.take(i, axis=0), self.width) for i, member in members]
        return concat([output.expand_dims(0) for output in outputs], axis=0)


def numbers(tensor):
    """A parameter as an array; None stays None."""
    return None if tensor is None else tensor.detach().float().cpu().numpy()


def linear(writer, layer, x):
    product = x @ numbers(layer.weight).T
    return product if layer.bias is None else product + numbers(layer.bias)


def convolution(kind):
    def write(writer, layer, x):
        pads = [*layer.padding, *layer.padding]
        attributes = {
            "strides": list(layer.stride),
            "pads": pads,
            "dilations": list(layer.dilation),
            "group": layer.groups,
        }
        if kind == "ConvTranspose":
            attributes["output_padding"] = list(layer.output_padding)
        parts = [numbers(layer.weight)]
        parts += [] if layer.bias is None else [numbers(layer.bias)]
        return x.op(kind, *parts, **attributes)

    return write


def batch_norm(writer, layer, x):
    mean = numbers(layer.running_mean)
    scale = np.ones_like(mean) if layer.weight is None else numbers(layer.weight)
    shift = np.zeros_like(mean) if layer.bias is None else numbers(layer.bias)
    variance = numbers(layer.running_var)
    return x.op("BatchNormalization", scale, shift, mean, variance, epsilon=layer.eps)


def layer_norm(writer, layer, x):
    scale = layer.weight if layer.weight is not None else torch.ones(layer.normalized_shape)
    parts = [numbers(scale)] + ([] if layer.bias is None else [numbers(layer.bias)])
    axis = -len(layer.normalized_shape)
    return x.op("LayerNormalization", *parts, axis=axis, epsilon=layer.eps)


def gelu(writer, layer, x):
    if layer.approximate == "tanh":
        curve = ((x + 0.044715 * x * x * x) * math.sqrt(2 / math.pi)).op("Tanh")
    else:
        curve = (x * math.sqrt(0.5)).op("Erf")
    return 0.5 * x * (curve + 1.0)


WRITERS = {
    nn.BatchNorm1d: batch_norm,
    nn.BatchNorm2d: batch_norm,
    nn.Conv1d: convolution("Conv"),
    nn.Conv2d: convolution("Conv"),
    nn.ConvTranspose1d: convolution("ConvTranspose"),
    nn.ConvTranspose2d: convolution("ConvTranspose"),
    nn.Dropout: lambda w, m, x: x,
    nn.ELU: lambda w, m, x: x.op("Elu", alpha=m.alpha),
    nn.Flatten: lambda w, m, x: x.flat_rows(),
    nn.GELU: gelu,
    nn.Hardtanh: lambda w, m, x: x.between(m.min_val, m.max_val),
    nn.Identity: lambda w, m, x: x,
    nn.LayerNorm: layer_norm,
    nn.LeakyReLU: lambda w, m, x: x.op("LeakyRelu", alpha=m.negative_slope),
    nn.Linear: linear,
    nn.ReLU: lambda w, m, x: x.op("Relu"),
    nn.Sequential: LayerWriter.chain,
    nn.SiLU: lambda w, m, x: x * x.op("Sigmoid"),
    nn.Sigmoid: lambda w, m, x: x.op("Sigmoid"),
    nn.Softplus: lambda w, m, x: x.op("Softplus"),
    nn.Tanh: lambda w, m, x: x.op("Tanh"),
    nn.Unflatten: lambda w, m, x: x.reshape(0, *m.unflattened_size),
    ConcatOutputs: LayerWriter.concat_outputs,
    Dropout: lambda w, m, x: x,
    LinearPath: LayerWriter.linear_path,
    MLP: lambda w, m, x: w.chain(m.layers, x),
    MemberLinear: lambda w, m, x: x @ numbers(m.weight) + numbers(m.bias),
    OneByOne: LayerWriter.one_by_one,
    TiedLinear: lambda w, m, x: (x * m.factor) @ numbers(m._layer[0].weight) + numbers(m.bias),
    TiedMLP: LayerWriter.tied,
    VariationalEncoder: LayerWriter.variational,
}
# Networks that are known if all of their layers are.
COMPOSITES = (nn.Sequential, ConcatOutputs, LinearPath, MLP, VariationalEncoder)
# Conditions on the settings of a layer under which its writer is right.
CONDITIONS = {
    nn.BatchNorm1d: lambda m: m.running_mean is not None,
    nn.BatchNorm2d: lambda m: m.running_mean is not None,
    **dict.fromkeys(
        (nn.Conv1d, nn.Conv2d, nn.ConvTranspose1d, nn.ConvTranspose2d),
        lambda m: m.padding_mode == "zeros" and not isinstance(m.padding, str),
    ),
    nn.Flatten: lambda m: (m.start_dim, m.end_dim) == (1, -1),
    nn.Softplus: lambda m: m.beta == 1,
    nn.Unflatten: lambda m: m.dim == 1,
}


def unknown_layer(module):
    """The first layer of a network that there is no writer for, or None."""
    kind = _kind(module)
    if kind is None or has_hooks(module) or not CONDITIONS.get(kind, _always)(module):
        return module
    inner = map(unknown_layer, module.children() if kind in COMPOSITES else ())
    return next((layer for layer in inner if layer is not None), None)


def _always(module):
    return True


def _kind(module):
    """The class whose writer fits a module: its own, or one whose `forward` it inherits."""
    if "forward" in vars(module):
        return None
    for kind in type(module).__mro__:
        if kind in WRITERS and type(module).forward is kind.forward:
            return kind
    return None


def traced(module, x, width):
    """Export a network by torch, and add the result to the graph of `x`."""
    from onnx import compose, helper, load_from_string

    try:
        part = load_from_string(_exported(copy.deepcopy(module).cpu().eval(), width))
    except Exception as error:
        raise ValueError(
            f"torch.onnx.export cannot write {type(unknown_layer(module)).__name__}: {error}"
        ) from error
    part = compose.add_prefix(part, x.graph.name("traced") + "_").graph
    graph = x.graph
    graph.nodes.append(helper.make_node("Identity", [x.name], [part.input[0].name]))
    graph.nodes.extend(part.node)
    graph.root.constants.update({tensor.name: tensor for tensor in part.initializer})
    return Value(graph, part.output[0].name, x.dtype)


def _exported(module, width):
    file = io.BytesIO()
    # The older, tracing exporter needs no other package; older versions of torch have no other.
    legacy = (
        {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    )
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            module,
            (torch.zeros(2, width),),
            file,
            opset_version=OPSET,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": {0: "n"}, "y": {0: "n"}},
            **legacy,
        )
    return file.getvalue()

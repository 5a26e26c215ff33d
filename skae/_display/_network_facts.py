"""Collect facts about a network for display."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from skae._display._html import Layer, NetworkFacts
from skae._engine._net import AutoencoderNet
from skae.networks._layers import ACTIVATIONS, Dropout
from skae.networks._linear_path import LinearPath
from skae.networks._mlp import MLP, TiedMLP
from skae.networks._stacked import MemberLinear, OneByOne
from skae.networks._variational import ConcatOutputs, VariationalEncoder

# Layers that are shown as the layers in them.
CONTAINERS = (nn.Sequential, MLP, VariationalEncoder, OneByOne, nn.ModuleList)
CONVOLUTIONS = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
# Layers that are not shown, or in the notes only.
SILENT = (Dropout, nn.Flatten, nn.Unflatten, *ACTIVATIONS.values())


def describe(net: AutoencoderNet, n_features: int) -> NetworkFacts:
    """Facts about the network of a net for `n_features` columns."""
    module = net.module_
    encoder, decoder = (list(_layers(part)) for part in (module.encoder, module.decoder))
    notes = sorted(set(_notes(module)), key=str.lower)
    return NetworkFacts(
        encoder=encoder,
        decoder=decoder,
        n_inputs=_n_inputs(module.encoder) or n_features,
        n_latents=module.n_kept,
        n_parameters=sum(parameter.numel() for parameter in module.parameters()),
        n_members=getattr(net, "n_members", 1),
        notes=notes,
    )


def _layers(module: nn.Module) -> Iterator[Layer]:
    """Layers in order; of an ensemble of networks, those of the first member."""
    if isinstance(module, LinearPath):
        yield from _layers(module.residual)
    elif isinstance(module, OneByOne):
        yield from _layers(module.members[0])
    elif isinstance(module, ConcatOutputs):  # the second has the same layers
        yield from _layers(module.first)
    elif isinstance(module, TiedMLP):
        yield from (Layer(f"Linear to {len(bias):,}", len(bias)) for bias in module.biases)
    elif isinstance(module, CONTAINERS):
        for child in module.children():
            yield from _layers(child)
    elif isinstance(module, nn.Linear):
        yield Layer(f"Linear to {module.out_features:,}", module.out_features)
    elif isinstance(module, MemberLinear):
        yield Layer("Linear", module.bias.shape[-1])
    elif isinstance(module, CONVOLUTIONS):
        yield Layer(_convolution(module))
    elif not isinstance(module, SILENT):
        yield Layer(repr(module))


def _convolution(layer: Any) -> str:
    name, size = type(layer).__name__, "x".join(map(str, layer.kernel_size))
    strides = "" if set(layer.stride) == {1} else f", stride {'x'.join(map(str, layer.stride))}"
    return f"{name} {layer.in_channels} → {layer.out_channels}, {size}{strides}"


def _n_inputs(module: nn.Module) -> int | None:
    """Number of inputs of the first layer, or None if that is unknown."""
    first: Any = next(
        (m for m in module.modules() if isinstance(m, nn.Linear | MemberLinear)), None
    )
    if first is None or any(layer.width is None for layer in _layers(module)):
        return None
    return first.weight.shape[-2] if isinstance(first, MemberLinear) else first.in_features


def _notes(module: nn.Module) -> Iterator[str]:
    """Properties that the list of layers does not show."""
    for layer in module.modules():
        if isinstance(layer, LinearPath):
            yield "a linear path"
        elif isinstance(layer, VariationalEncoder):
            yield "variational"
        elif isinstance(layer, TiedMLP):
            yield "tied weights"
        elif isinstance(layer, Dropout):
            yield f"dropout {layer.p:g}"
        elif isinstance(layer, tuple(ACTIVATIONS.values())):
            yield type(layer).__name__

"""Layouts of nets and their layers: what each consists of, and which shapes it maps to which.

The shapes are followed from the first layer to the last without computing anything, so that a
small file cannot ask for large rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from skae._engine._ensemble_net import MemberNet
from skae._engine._losses import CELL_LOSSES, EvidenceBound, MixedObjective, Objective
from skae._engine._net import AutoencoderNet
from skae._engine._variational_net import VariationalNet
from skae._storage._layouts import (
    Layout,
    Optional,
    Sizes,
    check_named,
    flag,
    listing,
    maybe,
    number,
    of_type,
    one_of,
    refuse,
    whole,
)
from skae.networks._autoencoder import Autoencoder, LatentBasis, OutputLink
from skae.networks._conv import ConvDecoder, ConvEncoder
from skae.networks._layers import ACTIVATIONS, ORIGIN, Dropout
from skae.networks._levels import MixedOutput
from skae.networks._linear_path import LinearPath, TiedLinear
from skae.networks._mlp import MLP, TiedMLP
from skae.networks._stacked import MemberLinear, OneByOne
from skae.networks._variational import (
    BernoulliOutput,
    ConcatOutputs,
    GaussianOutput,
    TableOutput,
    VariationalAutoencoder,
    VariationalEncoder,
)

# Numbers that a layer may give out for a row, for each that is in the network's weights and
# rows: images of many channels are larger than their kernels.
MAX_GROWTH = 50
# Rows whose way through the network is followed.
N_ROWS = 2
Shape = tuple[int, ...]


class UnknownShapeError(Exception):
    """A network of a user's class maps shapes as it likes."""


# What layers consist of: settings, modules and tensors by their names.


class Parts(NamedTuple):
    """Settings of a layer with their layouts, its modules, and dimensions of its tensors."""

    settings: dict[str, Any]
    modules: str = ""
    tensors: dict[str, int] = {}


def tensor(value: Tensor, path: str, n_dimensions: int, finite: bool = True) -> None:
    """The layout of weights and buffers: numbers in single precision."""
    if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.ndim != n_dimensions:
        refuse(path, f"a tensor of float32 with {n_dimensions} dimensions", value)
    if finite and not value.isfinite().all():
        raise ValueError(f"{path} holds values that are not finite")


def a_layer(cls: type[nn.Module]) -> Layout:
    """The layout of a tuple of one layer."""

    def check(value: Any, path: str, sizes: Sizes) -> None:
        if type(value) is not tuple or [type(layer) for layer in value] != [cls]:
            refuse(path, f"a tuple of one {cls.__name__}", value)

    return check


ROWS = {"missing": flag, "n_latents": whole(1), "n_kept": whole(1, size="k")}
OUTPUT = {"log_slope": number()}
OBJECTIVE = {
    "loss": one_of(*CELL_LOSSES),
    "l1": number(0),
    "sparsity": number(0),
    "sparsity_penalty": one_of("l1", "kl"),
    "sparsity_target": number(0, 1),
    "kl": number(0),
    "missing": flag,
}
PARTS: dict[type[nn.Module], Parts] = {
    Autoencoder: Parts(ROWS, "encoder decoder link latent_basis", {"baseline": 1}),
    BernoulliOutput: Parts({"is_binary": flag}),
    ConcatOutputs: Parts({}, "first second"),
    Dropout: Parts({"p": number(0, 1)}),
    EvidenceBound: Parts(
        {
            "beta": number(0),
            "warmup": number(0, 1),
            "n_warm_steps": number(0),
            "n_steps_done": whole(0),
        }
    ),
    GaussianOutput: Parts(OUTPUT, "", {"raw_deviation": 1}),
    LatentBasis: Parts({}, "", {"center": 1, "to_latents": 2, "to_codes": 2}),
    LinearPath: Parts({"gain": Optional(one_of(None))}, "path residual", {"gain": 1}),
    MLP: Parts({"sizes": listing(whole(1))}, "layers"),
    MemberLinear: Parts({}, "", {"weight": 3, "bias": 3}),
    MixedObjective: Parts(OBJECTIVE, "", {"weights": 1}),
    MixedOutput: Parts(
        {"n_scores": whole(0), "level_counts": listing(whole(1))}, "", {"shares": 1, "scales": 1}
    ),
    Objective: Parts(OBJECTIVE),
    OneByOne: Parts({}, "members"),
    OutputLink: Parts(
        {"activation": one_of("identity", "logistic", "relu")}, "", {"center": 1, "scale": 1}
    ),
    TableOutput: Parts(
        OUTPUT
        | {"n_scores": whole(0), "level_counts": listing(whole(1)), "n_continuous": whole(0)},
        "",
        {"raw_deviation": 1},
    ),
    TiedLinear: Parts({"_layer": a_layer(nn.Linear), "factor": number()}, "", {"bias": 1}),
    TiedMLP: Parts({"_layers": a_layer(nn.Sequential)}, "biases"),
    VariationalAutoencoder: Parts(
        ROWS | {"n_inputs": whole(1), "n_conditions": whole(0)}, "encoder decoder link"
    ),
    VariationalEncoder: Parts({}, "network"),
}
# Parts that a layer need not have: of another net, or in the place of a setting.
MAY_MISS = {(Autoencoder, "baseline"), (Autoencoder, "latent_basis"), (LinearPath, "gain")}
# Attributes of every module, and those that are set before each training.
NOT_SETTINGS = {*vars(nn.Module()), "generator", ORIGIN}


def check_parts(module: nn.Module, path: str, sizes: Sizes) -> None:
    """Raise ValueError unless a known layer and all in it have the parts of their classes."""
    cls = type(module)
    tensors = {**module._parameters, **module._buffers}
    tensors = {name: value for name, value in tensors.items() if value is not None}
    if cls in PARTS:
        settings, modules, n_dimensions = PARTS[cls]
        has = {name: value for name, value in vars(module).items() if name not in NOT_SETTINGS}
        check_named(has, settings, path, sizes)
        given, least = {*module._modules, *tensors}, {*modules.split(), *n_dimensions}
        optional = {name for name in least if (cls, name) in MAY_MISS}
        if "gain" in optional and "gain" not in has:
            optional = set()
        needed = set(modules.split()) - optional
        if not least - optional <= given <= least or not needed <= set(module._modules):
            raise ValueError(f"{path} must consist of {sorted(least)}; it has {sorted(given)}")
        for name, value in tensors.items():
            # The units of columns may be beyond single precision; not every link reads them.
            is_read = getattr(module, "activation", "") != "identity"
            tensor(value, f"{path}.{name}", n_dimensions[name], finite=is_read)
    else:
        for name, value in tensors.items():
            tensor(value, f"{path}.{name}", value.ndim)
    for name, child in module._modules.items():
        if child is not None and not hasattr(child, ORIGIN):
            check_parts(child, f"{path}.{name}", sizes)


# Which shapes layers map to which.


class Follower:
    """Follows shapes through layers.

    Parameters
    ----------
    max_numbers : int
        Numbers that a layer may give out.
    """

    def __init__(self, max_numbers: int) -> None:
        self.max_numbers = max_numbers

    def __call__(self, module: nn.Module, shape: Shape, path: str) -> Shape:
        """The shape that a layer maps a shape to; raise ValueError if it cannot."""
        if hasattr(module, ORIGIN) or type(module) not in MAPS:
            raise UnknownShapeError
        out = MAPS[type(module)](self, module, shape, path)
        if math.prod(out) > self.max_numbers:
            raise ValueError(f"{path} would give out {out[1:]} for a row, too large for the file")
        return out


def unfit(path: str, shape: Shape) -> None:
    raise ValueError(f"{path} cannot read what comes to it, of shape {shape}")


def _same(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    return shape


def _linear(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    n_out, n_in = module.weight.shape
    if shape[-1] != n_in:
        unfit(path, shape)
    return (*shape[:-1], n_out)


def _member_linear(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    n_members, n_in, n_out = module.weight.shape
    if len(shape) != 3 or (shape[0], shape[2]) != (n_members, n_in):
        unfit(path, shape)
    if module.bias.shape != (n_members, 1, n_out):
        refuse(f"{path}.bias", f"a tensor of shape {(n_members, 1, n_out)}", module.bias)
    return (*shape[:2], n_out)


def _reshaped(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    return tuple(module(torch.empty(shape, device="meta")).shape)


def _pair(value: Any, path: str, low: int) -> tuple[int, int]:
    if isinstance(value, str):  # "valid", or "same", whose padding is on both sides together
        raise UnknownShapeError
    whole_numbers = listing(whole(low))
    whole_numbers(list(value) if isinstance(value, tuple) else value, path, {})
    if len(value) != 2:
        refuse(path, "a pair of integers", value)
    return value[0], value[1]


def _convolution(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    if len(shape) != 4 or shape[1] != module.in_channels:
        unfit(path, shape)
    least = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    is_transposed = isinstance(module, nn.ConvTranspose2d)
    least |= {"output_padding": 0} if is_transposed else {}
    values = {n: _pair(getattr(module, n), f"{path}.{n}", low) for n, low in least.items()}
    size = []
    for i, side in enumerate(shape[2:]):
        kernel, stride, padding, dilation, *more = (pair[i] for pair in values.values())
        reach = dilation * (kernel - 1)
        if is_transposed:
            size.append((side - 1) * stride - 2 * padding + reach + more[0] + 1)
        else:
            size.append((side + 2 * padding - reach - 1) // stride + 1)
        # Padding is stored with the rows.
        if min(size[-1], side) < 1 or side + 2 * padding > follow.max_numbers:
            unfit(path, shape)
    return (shape[0], module.out_channels, *size)


def _chain(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    for name, layer in module._modules.items():
        shape = follow(layer, shape, f"{path}.{name}")
    return shape


def _mlp(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    return follow(module.layers, shape, f"{path}.layers")


def _tied_linear(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    n_out = module._layer[0].in_features
    if shape[-1] != module._layer[0].out_features:
        unfit(path, shape)
    if module.bias.shape != (n_out,):
        refuse(f"{path}.bias", f"a tensor of shape {(n_out,)}", module.bias)
    return (*shape[:-1], n_out)


def _tied_mlp(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    biases = list(module.biases)
    layers = list(module._layers[0])[::-1]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    widths = [(layer.in_features,) for layer in linear]
    if [tuple(bias.shape) for bias in biases] != widths:
        raise ValueError(f"{path}.biases must have the shapes {widths}")
    for layer in layers:
        if not isinstance(layer, nn.Linear):
            shape = follow(layer, shape, path)
        elif shape[-1] != layer.out_features:
            unfit(path, shape)
        else:
            shape = (*shape[:-1], layer.in_features)
    return shape


def _linear_path(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    out = follow(module.path, shape, f"{path}.path")
    if module.gain is not None and module.gain.shape != out[-1:]:
        refuse(f"{path}.gain", f"a tensor of shape {out[-1:]}", module.gain)
    if follow(module.residual, shape, f"{path}.residual") != out:
        raise ValueError(f"{path}.residual must give out the shape {out}, as its path does")
    return out


def _concatenated(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    one, other = (follow(getattr(module, n), shape, f"{path}.{n}") for n in ("first", "second"))
    if one[:-1] != other[:-1]:
        raise ValueError(f"{path} joins the shapes {one} and {other}")
    return (*one[:-1], one[-1] + other[-1])


def _variational(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    return follow(module.network, shape, f"{path}.network")


def _one_by_one(follow: Follower, module: Any, shape: Shape, path: str) -> Shape:
    if len(module.members) != shape[0] or not len(module.members):
        raise ValueError(f"{path} must have {shape[0]} members; it has {len(module.members)}")
    of_each = {follow(member, shape[1:], f"{path}.members") for member in module.members}
    if len(of_each) > 1:
        raise ValueError(f"{path} has members that give out different shapes, {sorted(of_each)}")
    return (shape[0], *of_each.pop())


Map = Callable[[Follower, Any, Shape, str], Shape]
MAPS: dict[type[nn.Module], Map] = {
    **dict.fromkeys((*ACTIVATIONS.values(), Dropout), _same),
    **dict.fromkeys((nn.Sequential, ConvEncoder, ConvDecoder), _chain),
    **dict.fromkeys((nn.Conv2d, nn.ConvTranspose2d), _convolution),
    **dict.fromkeys((nn.Flatten, nn.Unflatten), _reshaped),
    ConcatOutputs: _concatenated,
    LinearPath: _linear_path,
    MLP: _mlp,
    MemberLinear: _member_linear,
    OneByOne: _one_by_one,
    TiedLinear: _tied_linear,
    TiedMLP: _tied_mlp,
    VariationalEncoder: _variational,
    nn.Linear: _linear,
}


# Nets.


RATE = number(1e-300)
NET = {
    "learning_rate": RATE,
    "partial_rate": RATE,
    "alpha": number(0),
    "max_norm": RATE,
    "orthogonal": flag,
    "patience": maybe(whole(1)),
    "global_seed": maybe(whole(0, 2**63)),
    "batch_size": whole(1),
    "max_epochs": whole(1),
    "verbose": of_type(Integral),
}
LOSS, N_EPOCHS = number(finite=False), maybe(whole(0))
BEST_WEIGHTS = {
    "keep_epoch_": N_EPOCHS,
    "keep_last_": flag,
    "losses_": listing(LOSS),
    "best_epoch_": N_EPOCHS,
}
CORRUPTION = {
    "generator": of_type(torch.Generator),
    "input_noise": number(0),
    "latent_noise": number(0),
    "ordered": flag,
    "variational": flag,
}


def check_net(
    net: AutoencoderNet, sizes: Sizes, n_inputs: int, n_conditions: int, views: Layout
) -> None:
    """Raise ValueError unless a net is whole, and maps rows of `n_inputs` to rows of d columns.

    Sizes are d columns and k latents; M members are added.
    """
    for name, layout in NET.items():
        layout(getattr(net, name), f"net_.{name}", sizes)
    best = dict(net.callbacks_)["best_weights"]
    for name, layout in BEST_WEIGHTS.items():
        layout(getattr(best, name), f"net_.{name}", sizes)
    maybe(LOSS)(dict(net.callbacks_)["divergence_guard"].start_, "net_.start_", sizes)
    if "stop_" in vars(net):
        one_of("finished", "stopped", "interrupted")(net.stop_, "net_.stop_", sizes)
    for i, epoch in enumerate(net.history):
        for name in {"train_loss", "valid_loss"} & set(epoch):
            LOSS(epoch[name], f"net_.history.{i}.{name}", sizes)
    check_named(vars(net.corruption), CORRUPTION, "net_.corruption", sizes)
    module: Any = net.module_
    check_parts(module, "net_.module", sizes)
    check_parts(net.criterion_, "net_.criterion", sizes)
    is_variational = isinstance(net, VariationalNet)
    is_mixed = isinstance(module.link, MixedOutput)
    objective = EvidenceBound if is_variational else MixedObjective if is_mixed else Objective
    for value, cls in (
        (module, VariationalAutoencoder if is_variational else Autoencoder),
        (net.criterion_, objective),
    ):
        if type(value) is not cls:
            raise ValueError(f"net_ has a {type(value).__name__} in the place of a {cls.__name__}")
    if isinstance(net, MemberNet):
        whole(1, size="M")(net.n_members, "net_.n_members", sizes)
        if not hasattr(module, "baseline") or module.baseline.shape != (n_inputs,):
            raise ValueError(f"net_.module.baseline must be a tensor of shape ({n_inputs},)")
        if "views_" in vars(net):
            views(net.views_, "net_.views_", sizes)
    elif hasattr(module, "baseline"):
        raise ValueError("net_.module has a baseline, which is a detector's")
    _check_basis(module, sizes["k"])
    n_outputs = _check_link(module.link, sizes["d"])
    try:
        _follow(net, sizes, n_inputs, n_conditions, n_outputs)
    except UnknownShapeError:
        return


def _check_basis(module: Any, k: int) -> None:
    """Raise ValueError unless a basis of the latents is of their number."""
    if module.basis is None:
        return
    at, basis = "net_.module.latent_basis", module.basis
    of_type(LatentBasis)(basis, at, {})
    for name, tensor in basis.named_buffers():
        if set(tensor.shape) != {k}:
            refuse(f"{at}.{name}", f"a tensor of {k} rows and columns", tensor)


def _check_link(link: Any, d: int) -> int:
    """The number of decoder outputs that a link reads."""
    at, widths = "net_.module.link", {}
    n_outputs = d
    if isinstance(link, OutputLink):
        widths = {"center": d, "scale": d}
        if link.activation != "identity" and not (link.scale > 0).all():
            raise ValueError(f"{at}.scale must be positive")
    elif isinstance(link, MixedOutput):
        n_levels = sum(link.level_counts)
        widths = {"shares": n_levels, "scales": n_levels}
        n_outputs = link.n_scores + n_levels
        if not (link.shares > 0).all() or not (link.scales > 0).all():
            raise ValueError(f"{at}.shares and scales must be positive")
    elif isinstance(link, TableOutput):
        widths = {"raw_deviation": link.n_scores}
        n_outputs = link.n_scores + sum(link.level_counts)
    elif isinstance(link, GaussianOutput):
        widths = {"raw_deviation": d}
    elif not isinstance(link, BernoulliOutput):
        refuse(at, "a layer that turns outputs into rows", link)
    for name, width in widths.items():
        if getattr(link, name).shape != (width,):
            refuse(f"{at}.{name}", f"a tensor of shape ({width},)", getattr(link, name))
    return n_outputs


def _follow(
    net: AutoencoderNet, sizes: Sizes, n_inputs: int, n_conditions: int, n_outputs: int
) -> None:
    """Raise ValueError unless rows come through encoder and decoder."""
    module: Any = net.module_
    n_kept, n_latents = module.n_kept, module.n_latents
    is_variational = net.corruption.variational
    if (getattr(module, "n_inputs", n_inputs), getattr(module, "n_conditions", 0)) != (
        n_inputs,
        n_conditions,
    ):
        raise ValueError(f"net_.module must read {n_inputs} columns and {n_conditions} conditions")
    has_all = isinstance(module, VariationalAutoencoder)
    if n_kept + n_conditions > n_latents or (has_all and n_kept + n_conditions < n_latents):
        raise ValueError(f"net_.module.n_latents must be {n_kept + n_conditions}, not {n_latents}")
    n_weights = sum(parameter.numel() for parameter in module.parameters())
    follow = Follower(MAX_GROWTH * N_ROWS * (n_weights + n_inputs + n_outputs))
    rows = (sizes["M"], N_ROWS) if isinstance(net, MemberNet) else (N_ROWS,)
    n_codes = (n_latents - n_conditions) * (2 if is_variational else 1)
    code = follow(module.encoder, (*rows, n_inputs), "net_.module.encoder")
    if code != (*rows, n_codes):
        raise ValueError(f"net_.module.encoder must give out {n_codes} numbers per row, not {code}")
    output = follow(module.decoder, (*rows, n_latents), "net_.module.decoder")
    if output != (*rows, n_outputs):
        raise ValueError(
            f"net_.module.decoder must give out {n_outputs} numbers per row, not {output}"
        )

"""Encode networks and nets as documents, and decode them: known layers, tensors as arrays."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._engine._build import build_network
from skae._engine._denoising_net import DenoisingNet
from skae._engine._ensemble_net import MemberNet
from skae._engine._flat_layout import in_flat_order, in_plain_order
from skae._engine._losses import EvidenceBound, MixedObjective, Objective
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._runtime import Draws, moved_generator, restored_draws
from skae._engine._variational_net import VariationalNet
from skae._storage._documents import (
    DocumentDecoder,
    DocumentEncoder,
    Kind,
    expect,
    is_exactly,
    read_pairs,
    record,
)
from skae._storage._network_layouts import BEST_WEIGHTS, CORRUPTION, NET, NOT_SETTINGS, PARTS
from skae.networks._autoencoder import Autoencoder, LatentBasis
from skae.networks._conv import ConvDecoder, ConvEncoder
from skae.networks._layers import ORIGIN, Origin, has_hooks
from skae.networks._variational import ConcatOutputs, VariationalAutoencoder

CONVOLUTION = (
    "in_channels out_channels kernel_size stride padding dilation groups bias padding_mode"
)
# Layers of torch, which are constructed from these of their arguments.
TORCH_LAYERS: dict[type[nn.Module], str] = {
    nn.Conv2d: CONVOLUTION,
    nn.ConvTranspose2d: f"{CONVOLUTION} output_padding",
    nn.ELU: "alpha",
    nn.Flatten: "start_dim end_dim",
    nn.GELU: "approximate",
    nn.Identity: "",
    nn.LeakyReLU: "negative_slope",
    nn.Linear: "in_features out_features bias",
    nn.ReLU: "",
    nn.SiLU: "",
    nn.Sigmoid: "",
    nn.Tanh: "",
    nn.Unflatten: "dim unflattened_size",
}
# Layers that are restored from these attributes, without their constructors: those of skae, and
# containers of torch.
LAYERS: dict[type[nn.Module], set[str]] = {
    **{cls: set(parts.settings) for cls, parts in PARTS.items()},
    ConvDecoder: set(),
    ConvEncoder: set(),
    nn.ModuleList: set(),
    nn.ParameterList: {"_size"},
    nn.Sequential: set(),
}
# Layers that were renamed after format 1 was fixed.
RENAMED_LAYERS: dict[type[nn.Module], str] = {ConcatOutputs: "Beside"}
BY_NAME = {RENAMED_LAYERS.get(cls, cls.__name__): cls for cls in (*TORCH_LAYERS, *LAYERS)}
NETS: dict[type[AutoencoderNet], str] = {
    AutoencoderNet: "",
    DenoisingNet: "",
    MemberNet: "n_members",
    VariationalNet: "",
}
NETS_BY_NAME = {cls.__name__: cls for cls in NETS}
NET_PARAMETERS = tuple(NET)
# Attributes that training sets in a net and in its callbacks.
SET_BY_TRAINING = ("stop_", "views_", "draws_")
# Types of saved entries of the history; callbacks may put others into it.
PLAIN = (bool, int, float, str, np.generic)
# Size of the state of torch's Mersenne twister.
CPU_STATE_BYTES, WORDS_OF_STATE = 5056, 624
# Memory of a layer besides its weights. Layers are counted once for each path to them, and so are
# their weights: torch visits them by every path.
LAYER_BYTES = 5000
# The network of a user may be told to build no larger layers than this, relative to the file.
MAX_WEIGHTS_PER_VALUE = 100
# In the place of a class: a module that was written before, and one that the network of a user
# builds.
SAME, BUILT = "same module", "built module"


# Tensors and generators.


def _write_tensor(encoder: DocumentEncoder, tensor: Tensor, path: str) -> tuple[Any, ...]:
    array, dtype, role = to_array(tensor)
    return encoder.add(array, path), dtype, role


def to_array(tensor: Tensor) -> tuple[Any, str, str]:
    """A tensor as an array, with its dtype and what it is of a module."""
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:  # NumPy has no such dtype
        values = values.view(torch.int16)
    role = "tensor"
    if isinstance(tensor, nn.Parameter):
        role = "parameter" if tensor.requires_grad else "frozen"
    return values.numpy(), str(tensor.dtype), role


def _read_tensor(decoder: DocumentDecoder, name: Any, dtype: Any, role: Any) -> Tensor:
    tensor = torch.from_numpy(decoder.take(name))
    if dtype == "torch.bfloat16" and tensor.dtype == torch.int16:
        tensor = tensor.view(torch.bfloat16)
    if str(tensor.dtype) != dtype:
        raise ValueError(f"array {name!r} holds {tensor.dtype}, not {dtype!r:.30}")
    if role == "tensor":
        return tensor
    if role not in ("parameter", "frozen"):
        raise ValueError(f"array {name!r} is a {role!r:.30}")
    return nn.Parameter(tensor, requires_grad=role == "parameter")


def _write_generator(
    encoder: DocumentEncoder, draws: torch.Generator, path: str
) -> tuple[Any, ...]:
    state = encoder.write(draws.get_state(), path)
    return str(draws.device), state, str(draws.initial_seed())


def _read_generator(
    decoder: DocumentDecoder, device: Any, state: Any, seed: Any
) -> torch.Generator:
    state = decoder.read(state)
    if state.dtype != torch.uint8 or not _is_within_bounds(state):
        raise ValueError("the state of a generator of random numbers is invalid")
    draws = restored_draws(expect(device, str), state, int(expect(seed, str)))
    return moved_generator(draws, decoder.notes.get("device") or draws.device)


def _is_within_bounds(state: Tensor) -> bool:
    """Whether a generator on the CPU would read within its state; torch does not check it."""
    if state.numel() != CPU_STATE_BYTES:
        return True  # a GPU's, which holds no position; torch refuses other lengths
    n_left, position = (int(state[start : start + 4].view(torch.int32)) for start in (8, 16))
    return n_left >= 1 and position >= 0 and n_left + position <= WORDS_OF_STATE + 1


# Modules.


def _write_module(encoder: DocumentEncoder, module: nn.Module, path: str) -> tuple[Any, ...]:
    indices = encoder.notes.setdefault("modules", {})
    if id(module) in indices:
        return SAME, indices[id(module)], []
    is_plain = all(map(is_known, module.modules())) and not encoder.notes.get("tied")
    is_made_by_user = hasattr(module, ORIGIN) and not is_plain
    nodes = (_write_built if is_made_by_user else _write_known)(encoder, module, path)
    indices[id(module)] = len(indices)
    return nodes


def is_known(layer: nn.Module) -> bool:
    """Whether the class of a layer is known, and it has no hooks."""
    return type(layer) in BY_NAME.values() and not has_hooks(layer)


def weights(layers: Iterable[nn.Module]) -> list[int]:
    """Identities of the parameters that belong to the layers themselves."""
    return [id(weight) for layer in layers for weight in layer.parameters(recurse=False)]


def share_weights(layers: Iterable[nn.Module]) -> bool:
    """Whether two of the layers share a parameter, which files hold with each of them."""
    identities = weights(layers)
    return len(set(identities)) < len(identities)


def _write_known(encoder: DocumentEncoder, module: nn.Module, path: str) -> tuple[Any, ...]:
    settings: dict[str, Any]
    if type(module) in TORCH_LAYERS:
        names = TORCH_LAYERS[type(module)].split()
        settings = {name: getattr(module, name) for name in names}
        if "bias" in settings:
            settings["bias"] = module.bias is not None
    else:
        settings = {name: value for name, value in vars(module).items() if name not in NOT_SETTINGS}
    unknown = sorted(set(settings) - LAYERS.get(type(module), set(settings)))
    if unknown or type(module) not in BY_NAME.values():
        raise TypeError(f"{path} is the layer {type(module).__name__}, which cannot be saved.")
    parts = {**module._parameters, **module._buffers, **module._modules}
    parts = {name: part for name, part in parts.items() if part is not None}  # no bias, perhaps
    return (
        RENAMED_LAYERS.get(type(module), type(module).__name__),
        _write_named(encoder, settings, path),
        _write_named(encoder, parts, path),
    )


def _write_built(encoder: DocumentEncoder, module: nn.Module, path: str) -> tuple[Any, ...]:
    origin: Origin = getattr(module, ORIGIN)
    calls = encoder.notes.setdefault("calls", {})
    index = calls.setdefault(id(origin.call), len(calls))
    tensors = module.state_dict()
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{path}.{name} is an extra state of a layer, which cannot be saved.")
    settings = [index, *origin.call.sizes, origin.part]
    return BUILT, settings, _write_named(encoder, tensors, path)


def _write_named(encoder: DocumentEncoder, named: Any, path: str) -> list[Any]:
    return [[name, encoder.write(value, f"{path}.{name}")] for name, value in named.items()]


def _read_module(decoder: DocumentDecoder, name: Any, settings: Any, parts: Any) -> nn.Module:
    modules = decoder.notes.setdefault("modules", [])
    sizes = decoder.notes.setdefault("sizes", {})
    if name == SAME:
        module = modules[expect(settings, int)]
        decoder.spend(sizes[id(module)])
        return module
    decoder.spend(LAYER_BYTES)
    if name == BUILT:
        module = _rebuilt(decoder, read_pairs(decoder, parts), *expect(settings, list))
        inner = module.state_dict()
    else:
        cls = BY_NAME.get(name)
        if cls is None:
            raise ValueError(f"it holds the unknown layer {name!r:.60}")
        attributes, inner = read_pairs(decoder, settings), read_pairs(decoder, parts)
        make = _torch_layer if cls in TORCH_LAYERS else _restored_layer
        module = make(cls, attributes, inner)
    # Bytes of a layer and of all that is in it, by every path.
    sizes[id(module)] = LAYER_BYTES + sum(
        sizes.get(id(part), 0) if isinstance(part, nn.Module) else part.nbytes
        for part in inner.values()
    )
    modules.append(module)
    return module


def _torch_layer(cls: type[nn.Module], settings: dict[str, Any], parts: dict[str, Any]) -> Any:
    if set(settings) != set(TORCH_LAYERS[cls].split()):
        raise ValueError(f"a layer {cls.__name__} has the settings {sorted(settings)}")
    with torch.device("meta"):  # no weights are drawn, and sizes take no memory
        layer = cls(**settings)
    expected = {name: p.shape for name, p in layer.named_parameters()}
    if {name: getattr(p, "shape", None) for name, p in parts.items()} != expected:
        raise ValueError(f"the weights of a layer {cls.__name__} do not have its shapes")
    for name, parameter in parts.items():
        setattr(layer, name, parameter)
    return layer


def _restored_layer(
    cls: type[nn.Module], settings: dict[str, Any], parts: dict[str, Any]
) -> nn.Module:
    unknown = sorted(set(settings) - LAYERS[cls])
    if unknown:
        raise ValueError(f"a layer {cls.__name__} has the settings {unknown}")
    layer = cls.__new__(cls)
    nn.Module.__init__(layer)
    vars(layer).update(settings)
    for name, part in parts.items():
        if isinstance(part, nn.Parameter):
            layer.register_parameter(name, part)
        elif isinstance(part, nn.Module):
            layer.add_module(name, part)
        else:
            layer.register_buffer(name, part, persistent=cls is not LatentBasis)
    return layer


def _rebuilt(
    decoder: DocumentDecoder,
    weights: Any,
    index: int,
    n_features: int,
    n_components: int,
    part: int,
) -> Any:
    """An encoder or decoder that the user's network builds; both of one call stay a pair."""
    calls, network = decoder.notes.setdefault("calls", {}), decoder.notes["network"]
    if network is None:
        raise ValueError("it holds layers of a custom network, but names none")
    sizes = [expect(size, int) for size in (n_features, n_components)]
    if n_features * n_components > MAX_WEIGHTS_PER_VALUE * decoder.n_values:
        raise ValueError(f"it asks the network to build layers of {sizes}, too large for the file")
    try:
        if index not in calls:
            calls[expect(index, int)] = build_network(network, *sizes)
        module = calls[index][expect(part, int)]
        module.load_state_dict(weights)
    except Exception as error:
        raise LookupError(
            f"network={network!r} of the registry does not build what was saved: {error}"
        ) from error
    return module


# Nets.


def _write_net(encoder: DocumentEncoder, net: AutoencoderNet, path: str) -> tuple[Any, ...]:
    parameters = (*NET_PARAMETERS, *NETS[type(net)].split())
    settings = {name: getattr(net, name) for name in parameters}
    if not net.orthogonal:
        del settings["orthogonal"]
    callbacks = dict(net.callbacks_)
    state = {name: vars(net)[name] for name in SET_BY_TRAINING if name in vars(net)}
    state["start_"] = callbacks["divergence_guard"].start_
    best = vars(callbacks["best_weights"])
    state |= {name: best[name] for name in BEST_WEIGHTS if name in best}
    keep = dict if encoder.takes_objects else _plain_entries
    history = [keep(epoch) for epoch in net.history]
    moments = [_moments_of(net, group) for group in net.optimizer_.param_groups]
    encoder.notes["tied"] = share_weights(net.module_.modules())
    return (
        type(net).__name__,
        _write_named(encoder, settings, path),
        encoder.write(net.module_, f"{path}.module"),
        encoder.write(net.criterion_, f"{path}.criterion"),
        encoder.write(net.corruption, f"{path}.corruption"),
        encoder.write(net.batch_generator, f"{path}.batch_generator"),
        encoder.write(history, f"{path}.history"),
        _write_named(encoder, state, f"{path}.left"),
        encoder.write(moments, f"{path}.moments"),
    )


def _plain_entries(epoch: dict[str, Any]) -> dict[str, Any]:
    """What files hold of the history of an epoch, or of a batch."""
    plain: dict[str, Any] = {}
    for name, value in epoch.items():
        if name == "batches":
            plain[name] = [_plain_entries(batch) for batch in value]
        elif isinstance(value, PLAIN) or value is None:
            plain[name] = value
    return plain


def _read_net(decoder: DocumentDecoder, name: Any, parameters: Any, *parts: Any) -> AutoencoderNet:
    cls = NETS_BY_NAME.get(name)
    if cls is None:
        raise ValueError(f"it holds the unknown net {name!r:.60}")
    # Files name it only where it is so.
    settings = {"orthogonal": False, **read_pairs(decoder, parameters)}
    if set(settings) != {*NET_PARAMETERS, *NETS[cls].split()}:
        raise ValueError(f"a {name} has the parameters {sorted(settings)}")
    module, criterion, corruption, draws, history, left, moments = parts
    device = decoder.notes["device"]
    net = cls(
        expect(decoder.read(module), Autoencoder, VariationalAutoencoder).to(device),
        expect(decoder.read(criterion), Objective, MixedObjective, EvidenceBound),
        corruption=expect(decoder.read(corruption), Corruption),
        batch_generator=expect(decoder.read(draws), Draws),
        device=device,
        precision=decoder.notes["precision"],
        **settings,
    ).initialize()
    net.restore_history([expect(epoch, dict) for epoch in decoder.read(history)])
    state = read_pairs(decoder, left)
    is_trained = "objects" not in decoder.notes  # as all nets in files are
    if is_trained and not {"start_", *BEST_WEIGHTS} <= set(state):
        raise ValueError(f"a {name} lacks some of {sorted(BEST_WEIGHTS)}")
    callbacks = dict(net.callbacks_)
    callbacks["divergence_guard"].start_ = state.pop("start_")
    for key in BEST_WEIGHTS.keys() & state.keys():
        setattr(callbacks["best_weights"], key, state.pop(key))
    callbacks["best_weights"].weights_ = None
    if not set(state) <= set(SET_BY_TRAINING):
        raise ValueError(f"a {name} has the attributes {sorted(state)}")
    vars(net).update(state, schedule_=None, valid_rows_=None)
    _restore_moments(net, decoder.read(expect(moments, list)))
    return net


def _first_parameters(net: AutoencoderNet) -> list[Any]:
    """The first parameter of each group, under which the optimiser keeps the group's moments."""
    return [next(iter(group["params"]), None) for group in net.optimizer_.param_groups]


def _moments_of(net: AutoencoderNet, group: dict[str, Any]) -> dict[str, Any] | None:
    """The moments of a group, each in the order of the parameters."""
    parameters = list(group["params"])
    state = net.optimizer_.state.get(parameters[0]) if parameters else None
    if state is None:
        return None
    return {k: v if v.ndim == 0 else in_plain_order(v, parameters) for k, v in state.items()}


def _restore_moments(net: AutoencoderNet, moments: list[Any]) -> None:
    groups = net.optimizer_.param_groups
    for group, first, state in zip(groups, _first_parameters(net), moments, strict=True):
        if state is None:
            continue
        size = sum(p.numel() for p in group["params"])
        shapes: dict[str, tuple[int, ...]] = {"exp_avg": (size,)}
        if not group["orthogonal"]:
            shapes |= {"step": (), "exp_avg_sq": (size,)}
        if {name: tuple(value.shape) for name, value in state.items()} != shapes:
            raise ValueError("the moments of the optimiser do not fit the weights")
        if not all(v.dtype == torch.float32 and v.isfinite().all() for v in state.values()):
            raise ValueError("the moments of the optimiser must be finite, in float32")
        state = {
            k: v if v.ndim == 0 else in_flat_order(v, group["params"]) for k, v in state.items()
        }
        net.optimizer_.state[first] = {k: v.to(net.device) for k, v in state.items()}


NET_KINDS = {
    "tensor": Kind(
        ("name", "dtype", "role"), lambda v: isinstance(v, Tensor), _write_tensor, _read_tensor
    ),
    "generator": Kind(
        ("device", "state", "seed"),
        lambda v: isinstance(v, torch.Generator),
        _write_generator,
        _read_generator,
    ),
    "module": Kind(
        ("class", "settings", "parts"),
        lambda v: isinstance(v, nn.Module),
        _write_module,
        _read_module,
    ),
    "net": Kind(
        (
            *("class", "parameters", "module", "criterion", "corruption"),
            *("batch_generator", "history", "left", "moments"),
        ),
        is_exactly(*NETS),
        _write_net,
        _read_net,
    ),
    "corruption": record(Corruption, CORRUPTION),
}

"""Encode networks and nets as documents, and decode them: known layers, tensors as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._engine._build import build_network
from skae._engine._denoising_net import DenoisingNet
from skae._engine._ensemble_net import MemberNet
from skae._engine._losses import EvidenceBound, Objective
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
    record,
)
from skae.networks._autoencoder import Autoencoder, OutputLink
from skae.networks._conv import ConvDecoder, ConvEncoder
from skae.networks._layers import ORIGIN, Dropout, Origin, has_hooks
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
LAYERS: dict[type[nn.Module], str] = {
    Autoencoder: "missing n_latents n_kept",
    BernoulliOutput: "is_binary",
    ConcatOutputs: "",
    ConvDecoder: "",
    ConvEncoder: "",
    Dropout: "p",
    EvidenceBound: "beta warmup n_warm_steps n_steps_done",
    GaussianOutput: "log_slope",
    LinearPath: "gain",
    MLP: "sizes",
    MemberLinear: "",
    Objective: "loss l1 sparsity sparsity_penalty sparsity_target kl missing",
    OneByOne: "",
    OutputLink: "activation",
    TableOutput: "log_slope n_scores level_counts n_continuous",
    TiedLinear: "_layer factor",
    TiedMLP: "_layers",
    VariationalAutoencoder: "missing n_latents n_kept n_inputs n_conditions",
    VariationalEncoder: "",
    nn.ModuleList: "",
    nn.ParameterList: "_size",
    nn.Sequential: "",
}
# Layers that were renamed after format 1 was fixed.
RENAMED_LAYERS: dict[type[nn.Module], str] = {ConcatOutputs: "Beside"}
BY_NAME = {RENAMED_LAYERS.get(cls, cls.__name__): cls for cls in (*TORCH_LAYERS, *LAYERS)}
# Attributes of every module, and those that are set before each training.
NOT_SAVED = {*vars(nn.Module()), "generator", ORIGIN}

NETS: dict[type[AutoencoderNet], str] = {
    AutoencoderNet: "",
    DenoisingNet: "",
    MemberNet: "n_members",
    VariationalNet: "",
}
NETS_BY_NAME = {cls.__name__: cls for cls in NETS}
NET_PARAMETERS = (
    *("learning_rate", "partial_rate", "alpha", "max_norm", "patience", "global_seed"),
    *("batch_size", "max_epochs", "verbose"),
)
# Attributes that training sets in a net and in its callbacks.
SET_BY_TRAINING = ("stop_", "views_", "draws_")
SET_BY_BEST_WEIGHTS = ("keep_epoch_", "keep_last_", "losses_", "best_epoch_")
# Types of saved entries of the history; callbacks may put others into it.
PLAIN = (bool, int, float, str, np.generic)
# Size of the state of torch's Mersenne twister.
CPU_STATE_BYTES, WORDS_OF_STATE = 5056, 624
# Layers are counted once for each path to them: torch visits them by every path.
MAX_LAYERS = 100_000
# In the place of a class: a module that was written before, and one that the network of a user
# builds.
SAME, BUILT = "same module", "built module"


# Tensors and generators.


def _write_tensor(encoder: DocumentEncoder, tensor: Tensor, path: str) -> tuple[Any, ...]:
    values = tensor.detach().cpu().contiguous()
    if values.dtype == torch.bfloat16:  # NumPy has no such dtype
        values = values.view(torch.int16)
    role = "tensor"
    if isinstance(tensor, nn.Parameter):
        role = "parameter" if tensor.requires_grad else "frozen"
    return encoder.add(values.numpy(), path), str(tensor.dtype), role


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
    return moved_generator(draws, decoder.notes["device"])


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
    is_made_by_user = hasattr(module, ORIGIN) and not _is_known(module)
    nodes = (_write_built if is_made_by_user else _write_known)(encoder, module, path)
    indices[id(module)] = len(indices)
    return nodes


def _is_known(module: nn.Module) -> bool:
    """Whether a module holds known layers only, without hooks."""
    return all(type(m) in BY_NAME.values() and not has_hooks(m) for m in module.modules())


def _write_known(encoder: DocumentEncoder, module: nn.Module, path: str) -> tuple[Any, ...]:
    settings: dict[str, Any]
    if type(module) in TORCH_LAYERS:
        names = TORCH_LAYERS[type(module)].split()
        settings = {name: getattr(module, name) for name in names}
        if "bias" in settings:
            settings["bias"] = module.bias is not None
    else:
        settings = {name: value for name, value in vars(module).items() if name not in NOT_SAVED}
    unknown = sorted(set(settings) - set(LAYERS.get(type(module), " ".join(settings)).split()))
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


def _read_named(decoder: DocumentDecoder, pairs: Any) -> dict[str, Any]:
    return {expect(name, str): decoder.read(node) for name, node in expect(pairs, list)}


def _read_module(decoder: DocumentDecoder, name: Any, settings: Any, parts: Any) -> nn.Module:
    modules = decoder.notes.setdefault("modules", [])
    sizes = decoder.notes.setdefault("sizes", {})
    if name == SAME:
        return modules[expect(settings, int)]
    size = 1
    if name == BUILT:
        module = _rebuilt(decoder, _read_named(decoder, parts), *expect(settings, list))
    else:
        cls = BY_NAME.get(name)
        if cls is None:
            raise ValueError(f"it holds the unknown layer {name!r:.60}")
        attributes, inner = _read_named(decoder, settings), _read_named(decoder, parts)
        size += sum(sizes[id(part)] for part in inner.values() if isinstance(part, nn.Module))
        if size > MAX_LAYERS:
            raise ValueError(f"its network has more than {MAX_LAYERS} layers")
        make = _torch_layer if cls in TORCH_LAYERS else _restored_layer
        module = make(cls, attributes, inner)
    sizes[id(module)] = size
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
    unknown = sorted(set(settings) - set(LAYERS[cls].split()))
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
            layer.register_buffer(name, part)
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
    callbacks = dict(net.callbacks_)
    state = {name: vars(net)[name] for name in SET_BY_TRAINING if name in vars(net)}
    state["start_"] = callbacks["divergence_guard"].start_
    state |= {name: getattr(callbacks["best_weights"], name) for name in SET_BY_BEST_WEIGHTS}
    history = [
        {k: v for k, v in epoch.items() if isinstance(v, PLAIN) or v is None}
        for epoch in net.history
    ]
    moments = [net.optimizer_.state.get(first) for first in _first_parameters(net)]
    moments = [None if of_group is None else dict(of_group) for of_group in moments]
    return (
        type(net).__name__,
        _write_named(encoder, {name: getattr(net, name) for name in parameters}, path),
        encoder.write(net.module_, f"{path}.module"),
        encoder.write(net.criterion_, f"{path}.criterion"),
        encoder.write(net.corruption, f"{path}.corruption"),
        encoder.write(net.batch_generator, f"{path}.batch_generator"),
        encoder.write(history, f"{path}.history"),
        _write_named(encoder, state, f"{path}.left"),
        encoder.write(moments, f"{path}.moments"),
    )


def _read_net(decoder: DocumentDecoder, name: Any, parameters: Any, *parts: Any) -> AutoencoderNet:
    cls = NETS_BY_NAME.get(name)
    if cls is None:
        raise ValueError(f"it holds the unknown net {name!r:.60}")
    settings = _read_named(decoder, parameters)
    if set(settings) != {*NET_PARAMETERS, *NETS[cls].split()}:
        raise ValueError(f"a {name} has the parameters {sorted(settings)}")
    module, criterion, corruption, draws, history, left, moments = parts
    device = decoder.notes["device"]
    net = cls(
        expect(decoder.read(module), Autoencoder, VariationalAutoencoder).to(device),
        expect(decoder.read(criterion), Objective, EvidenceBound),
        corruption=expect(decoder.read(corruption), Corruption),
        batch_generator=expect(decoder.read(draws), Draws),
        device=device,
        precision=decoder.notes["precision"],
        **settings,
    ).initialize()
    net.restore_history([expect(epoch, dict) for epoch in decoder.read(history)])
    state = _read_named(decoder, left)
    callbacks = dict(net.callbacks_)
    callbacks["divergence_guard"].start_ = state.pop("start_")
    for key in SET_BY_BEST_WEIGHTS:
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


def _restore_moments(net: AutoencoderNet, moments: list[Any]) -> None:
    groups = net.optimizer_.param_groups
    for group, first, state in zip(groups, _first_parameters(net), moments, strict=True):
        if state is None:
            continue
        size = sum(p.numel() for p in group["params"])
        shapes = {"step": (), "exp_avg": (size,), "exp_avg_sq": (size,)}
        if {name: tuple(value.shape) for name, value in state.items()} != shapes:
            raise ValueError("the moments of the optimiser do not fit the weights")
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
    "corruption": record(Corruption, "generator input_noise latent_noise ordered variational"),
}

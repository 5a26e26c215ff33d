"""States of estimators and nets, for pickle, copy, joblib and skops: plain data and few types.

A state is a document as text, its arrays as the bytes of a safetensors file, and a list of what
has no kind: objects of users' classes. So equal models have equal states, byte for byte: neither
addresses in memory nor which texts and dtypes are one object count.
"""

from __future__ import annotations

import copy
import copyreg
import json
import sys
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skae._data._fitted_arrays import plain_state
from skae._engine._callbacks import InternalCallback
from skae._engine._net import DEFAULTS, WHILE_TRAINING, AutoencoderNet
from skae._engine._runtime import resolve_device
from skae._storage._documents import DocumentDecoder, DocumentEncoder, Kind
from skae._storage._estimator_kinds import KINDS
from skae._storage._network_kinds import (
    NET_KINDS,
    NET_PARAMETERS,
    NETS,
    SET_BY_TRAINING,
    is_known,
    share_weights,
    to_array,
    weights,
)
from skae.exceptions import warn_user
from skae.networks._layers import ORIGIN

# Attributes of a net that are in its node, that ``initialize`` sets, or that only training has.
IN_NODE = {
    *("module", "module_", "criterion", "criterion_", "corruption", "batch_generator"),
    *("device", "precision", "callbacks", "callbacks_", "history_", "optimizer_"),
    *(*NET_PARAMETERS, *" ".join(NETS.values()).split(), *SET_BY_TRAINING),
}
SET_ANEW = {
    *("initialized_", "virtual_params_", "prefixes_", "cuda_dependent_attributes_"),
    *("_modules", "_criteria", "_optimizers", "_params_to_validate", "init_context_", "_kwargs"),
    *("schedule_", "valid_rows_", "watched_", *WHILE_TRAINING),
}
STATE = ("document", "arrays", "objects")


def to_state(attributes: dict[str, Any]) -> dict[str, Any]:
    """The state of an object with these attributes, in any order."""
    from safetensors.numpy import save as tensors_to_bytes

    encoder = StateEncoder(state_kinds())
    nodes = {name: encoder.write(attributes[name], name) for name in sorted(attributes)}
    return {
        "document": json.dumps(nodes, allow_nan=False),
        "arrays": np.frombuffer(tensors_to_bytes(encoder.arrays), np.uint8),
        "objects": encoder.objects,
    }


def from_state(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes that ``to_state`` was given, which share no memory with the state."""
    from safetensors.numpy import load as tensors_from_bytes

    arrays = tensors_from_bytes(state["arrays"].tobytes())
    arrays = {name: array.copy() for name, array in arrays.items()}
    limits = {"n_bytes": sys.maxsize}  # a state is trusted, as its objects are
    decoder = DocumentDecoder(state_kinds(), arrays, objects=state["objects"], copies={}, **limits)
    return {name: decoder.read(node) for name, node in json.loads(state["document"]).items()}


class PlainStateMixin:
    """For estimators: their copies and pickles are made from a state."""

    # Attributes that copies, pickles and files do not have.
    _left_behind: tuple[str, ...] = ()

    def __getstate__(self) -> dict[str, Any]:
        return to_state(self._attributes())

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "document" not in state:
            raise ValueError(
                "This pickle was made by an earlier version of skae: fit again, or load a file "
                "that skae.save wrote."
            )
        added = {k: v for k, v in state.items() if k not in STATE}  # by a subclass
        super().__setstate__(from_state(state) | added)  # type: ignore[misc]

    def _attributes(self) -> dict[str, Any]:
        """Parameters, and what was fitted."""
        kept = {k: v for k, v in vars(self).items() if k not in self._left_behind}
        return plain_state(kept)


class NetState:
    """The state of a net, which restores it; an object, so that a net may contain itself."""

    def __init__(self, net: AutoencoderNet):
        # The parts of a net that is not initialised are parameters like any other.
        self.state = to_state({"net": net} if net.initialized_ else vars(net))

    def restore(self, net: AutoencoderNet) -> None:
        """Make an empty net the one that the state is of."""
        attributes = from_state(self.state)
        vars(net).update(vars(attributes["net"]) if "net" in attributes else attributes)


def _reduce_net(net: AutoencoderNet) -> tuple[Any, ...]:
    return copyreg.__newobj__, (type(net),), NetState(net)  # type: ignore[attr-defined]


for _net in NETS:
    copyreg.pickle(_net, _reduce_net)  # type: ignore[arg-type]


class StateEncoder(DocumentEncoder):
    """Encodes every value: what has no kind is kept as an object."""

    takes_objects = True

    def __init__(self, kinds: dict[str, Kind]):
        super().__init__(kinds)
        self.objects: list[Any] = []
        self.indices: dict[int, int] = {}
        self.copies: dict[int, Any] = {}  # what modules share, their copies share

    def write(self, value: Any, path: str) -> Any:
        try:
            return super().write(value, path)
        except (KeyError, TypeError, ValueError):  # raised before anything is written
            return {"is": "object", "index": self._keep(value)}

    def _keep(self, value: Any) -> int:
        if id(value) not in self.indices:
            self.indices[id(value)] = len(self.objects)
            is_module = isinstance(value, nn.Module)
            self.objects.append(_packed(value, self.copies) if is_module else value)
        return self.indices[id(value)]


def _read_object(decoder: DocumentDecoder, index: int) -> Any:
    value = decoder.notes["objects"][index]
    # Tensors are there after a copy; that of ``copy.copy`` would be the state's own module.
    is_module = isinstance(value, nn.Module)
    return copy.deepcopy(value, decoder.notes["copies"]) if is_module else value


# Modules of users: copies of them, in which arrays stand for tensors. torch pickles tensors with
# their addresses.


class PackedTensor:
    """Stands for a tensor; its copies and pickles are the tensor."""

    def __new__(cls, array: Any, dtype: str, role: str) -> Any:  # a constructor that skops calls
        kind = NET_KINDS["tensor"]
        return kind.read(
            DocumentDecoder({}, {"it": np.array(array)}, sys.maxsize), "it", dtype, role
        )

    @classmethod
    def of(cls, tensor: Tensor) -> PackedTensor:
        """What stands for a tensor."""
        packed = object.__new__(cls)
        packed.parts = to_array(tensor)
        return packed

    parts: tuple[Any, str, str]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.parts


def _packed(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    for layer in module.modules():
        for tensor in _tensors_in(list(vars(layer).values())):
            memo.setdefault(id(tensor), PackedTensor.of(tensor))
    packed = copy.deepcopy(module, memo)
    for layer in packed.modules():
        attributes = _afresh(vars(layer)) | {"training": False}  # which every use sets
        vars(layer).clear()
        vars(layer).update(attributes)
    return packed


def _afresh(value: Any) -> Any:
    """An equal value in which equal texts are one object, and no containers are."""
    if type(value) is str:
        return sys.intern(value)
    if type(value) in (list, tuple):
        return type(value)(map(_afresh, value))
    if type(value) is dict:
        return {_afresh(key): _afresh(item) for key, item in value.items()}
    return value


def _tensors_in(values: Any) -> Any:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple | dict):
        for value in values.values() if isinstance(values, dict) else values:
            yield from _tensors_in(value)


def _write_module(encoder: DocumentEncoder, module: nn.Module, path: str) -> tuple[Any, ...]:
    is_root = "objects" not in encoder.notes
    if is_root:
        encoder.notes["objects"] = _objects_among(module)
    try:
        if id(module) in encoder.notes["objects"]:
            raise TypeError(path)
        return NET_KINDS["module"].write(encoder, module, path)
    finally:
        if is_root:
            del encoder.notes["objects"]


def _objects_among(root: nn.Module) -> set[int]:
    """Modules that are kept as objects, with the choice of files, or the root if others must be."""
    layers = list(root.modules())
    tied = share_weights(layers)
    built = [module for module in layers if hasattr(module, ORIGIN)]
    objects = [it for it in built if tied or not all(map(is_known, it.modules()))]
    inner = list(nn.ModuleList(objects).modules())[1:]
    outer = [layer for layer in layers if all(layer is not it for it in inner)]
    is_apart = not share_weights(outer) and not set(weights(outer)) & set(weights(inner))
    if is_apart and all(map(is_known, outer)):
        return {id(module) for module in objects}
    return {id(root)}


# Nets, with all that files leave out.


def _write_net(encoder: DocumentEncoder, net: AutoencoderNet, path: str) -> tuple[Any, ...]:
    callbacks = [
        (name, None if isinstance(callback, InternalCallback) else callback)
        for name, callback in net.callbacks_
    ]
    others = {
        name: value
        for name, value in vars(net).items()
        if name not in IN_NODE | SET_ANEW and not _is_default(name, value)
    }
    return (
        *NET_KINDS["net"].write(encoder, net, path),
        None if net.device is None else str(net.device),
        net.precision,
        encoder.write(net.callbacks, f"{path}.callbacks"),
        encoder.write(callbacks, f"{path}.callbacks_"),
        encoder.write(others, f"{path}.others"),
    )


def _is_default(name: str, value: Any) -> bool:
    default = DEFAULTS.get(name)
    is_plain = type(value) is type(default) and isinstance(value, float | str)
    return name in DEFAULTS and (value is default or (is_plain and value == default))


def _read_net(decoder: DocumentDecoder, *nodes: Any) -> AutoencoderNet:
    *parts, device, precision, callbacks, named, others = nodes
    decoder.notes |= {"device": _device_here(device), "precision": precision}
    net = NET_KINDS["net"].read(decoder, *parts)
    internal = dict(net.callbacks_)
    vars(net).update(
        decoder.read(others),
        callbacks=decoder.read(callbacks),
        callbacks_=[(name, internal.get(name, it)) for name, it in decoder.read(named)],
    )
    return net


def _device_here(name: str | None) -> torch.device | None:
    """The device of a state, or the CPU if it is not there."""
    if name is None:
        return None
    try:
        return resolve_device(name)
    except ValueError:
        warn_user(f"The network was on the device {name!r}, which is not here; it is on the CPU.")
        return torch.device("cpu")


@cache
def state_kinds() -> dict[str, Kind]:
    """Those of files, but for names of users' code, and generators that others may draw from."""
    kinds = {k: v for k, v in KINDS.items() if k not in ("registered", "random state")}
    module, net = NET_KINDS["module"], NET_KINDS["net"]
    timestamp, datetime = kinds["timestamp"], kinds["datetime"]
    keys = (*net.keys, "device", "precision", "callbacks", "callbacks_", "others")
    return kinds | {
        "module": module._replace(write=_write_module),
        # Their zones are written by name or offset, which those of others lack.
        "timestamp": timestamp._replace(
            holds=lambda it: timestamp.holds(it) and "dateutil" not in type(it.tzinfo).__module__
        ),
        "datetime": datetime._replace(holds=lambda it: datetime.holds(it) and it.tzinfo is None),
        # One that is not initialised has a state of its own.
        "net": Kind(keys, lambda it: net.holds(it) and it.initialized_, _write_net, _read_net),
        "object": Kind(
            ("index",),
            lambda value: False,
            lambda *args: (),
            _read_object,
        ),
    }

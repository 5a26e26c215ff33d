"""Networks of one shape stacked into one with a leading member axis."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skae.networks._layers import ACTIVATIONS, Dropout, has_hooks
from skae.networks._linear_path import LinearPath
from skae.networks._mlp import MLP
from skae.networks._variational import ConcatOutputs, VariationalEncoder


class MemberLinear(nn.Module):
    """A linear layer of every member: (n_members, n, n_in) to (n_members, n, n_out).

    Narrower layers are padded with zeros.
    """

    def __init__(self, layers: Sequence[nn.Linear]):
        super().__init__()
        n_in = max(layer.in_features for layer in layers)
        n_out = max(layer.out_features for layer in layers)
        weight, bias = torch.zeros(len(layers), n_in, n_out), torch.zeros(len(layers), 1, n_out)
        for i, layer in enumerate(layers):
            weight[i, : layer.in_features, : layer.out_features] = layer.weight.detach().T
            bias[i, 0, : layer.out_features] = layer.bias.detach()
        like = layers[0].weight
        self.weight = nn.Parameter(weight.to(like))
        self.bias = nn.Parameter(bias.to(like))

    def forward(self, x: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, x, self.weight)


class OneByOne(nn.Module):
    """Members that cannot be stacked, run one by one."""

    def __init__(self, members: Sequence[nn.Module]):
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, x: Tensor) -> Tensor:
        pairs = zip(self.members, x, strict=True)
        return torch.stack([member(rows) for member, rows in pairs])


def stack_members(*networks: Sequence[nn.Module]) -> list[nn.Module]:
    """Modules that map (n_members, n, n_in) as their members map (n, n_in).

    Each of `networks` holds one module per member, such as all encoders. A network with a
    layer of another library runs member by member, as the layer may not accept a leading
    axis. So do networks that share parameters.
    """
    if shares_parameters(networks):
        return [OneByOne(members) for members in networks]
    return [
        _stack(members) if _is_stackable(members[0]) else OneByOne(members) for members in networks
    ]


def can_stack(*networks: Sequence[nn.Module]) -> bool:
    """Whether ``stack_members`` stacks all layers."""
    is_each = all(_is_stackable(members[0]) for members in networks)
    return is_each and not shares_parameters(networks)


def shares_parameters(networks: Sequence[Sequence[nn.Module]]) -> bool:
    """Whether a parameter stands in several places of a member."""
    firsts = [members[0] for members in networks]
    named = [first.named_parameters(remove_duplicate=False) for first in firsts]
    parameters = [id(p) for pairs in named for _, p in pairs]
    return len(set(parameters)) < len(parameters)


@torch.no_grad()
def load_member(module: nn.Module, stacked: dict[str, Tensor], i: int) -> None:
    """Copy the weights of member `i` out of the parameters of stacked networks."""
    for name, parameter in module.named_parameters():
        values = stacked[name][i]
        # The layout of MemberLinear: transposed weights, a row of biases, padding.
        values = values.T if parameter.ndim > 1 else values[0]
        parameter.copy_(values[tuple(slice(n) for n in parameter.shape)])


def _is_stackable(module: nn.Module) -> bool:
    if isinstance(module, LinearPath) and module.gain is not None:
        return False
    if has_hooks(module):
        return False
    if type(module) in (nn.Sequential, ConcatOutputs, LinearPath, MLP, VariationalEncoder):
        children: list[Any] = list(module._modules.values())  # children() skips repetitions
        is_repeated = len(set(map(id, children))) < len(children)
        return not is_repeated and all(map(_is_stackable, children))
    if type(module) is nn.Linear:
        return module.bias is not None and all(p.requires_grad for p in module.parameters())
    return type(module) in (Dropout, *ACTIVATIONS.values())


def _stack(members: Sequence[nn.Module]) -> nn.Module:
    if isinstance(members[0], nn.Linear):
        return MemberLinear([member for member in members if isinstance(member, nn.Linear)])
    stacked = copy.deepcopy(members[0])
    for name, _ in members[0].named_children():
        children = [member.get_submodule(name) for member in members]
        setattr(stacked, name, _stack(children))

    return stacked

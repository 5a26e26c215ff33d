"""Training of several nets of one shape as one batched net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from itertools import zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skae._engine._batches import Batch, Batches, Rows
from skae._engine._callbacks import InternalCallback, TrainingStopped, is_new_best, should_stop
from skae._engine._net import AutoencoderNet
from skae._engine._noise import Corruption
from skae._engine._progress import remaining_epochs
from skae._engine._tasks import current_tasks
from skae.networks._autoencoder import Autoencoder
from skae.networks._stacked import can_stack, load_member, stack_members

# Parameters in which nets must agree to be trained as one.
SETTINGS = (
    *("alpha", "batch_size", "learning_rate", "max_epochs", "max_norm", "patience"),
    *("orthogonal", "precision", "device", "verbose"),
)
# Name of the task of a fit that nets are trained together for.
TASK = "cross-validation"


def train_together(
    nets: Sequence[AutoencoderNet],
    rows: Sequence[Rows],
    valid: Sequence[Rows],
    *,
    keep_last: bool = False,
    until: Callable[[Iterable[bool]], bool] = all,
) -> int:
    """Train each net on its own rows and keep its best epoch on its own validation rows.

    Nets of one shape, up to the number of latents, are trained as one network with a member
    axis: most of the time of a small matrix product is overhead. Others are trained one after
    the other.

    Parameters
    ----------
    keep_last : bool
        Whether the last epoch is kept, whatever its loss.
    until : {all, any}
        Whether training stops when all nets have stopped improving, or any.

    Returns
    -------
    n_trained : int
        Number of trained nets: an interruption leaves later ones untrained.
    """
    tasks = current_tasks()
    if len(nets) == 1 or not can_train_as_one(nets):
        triples = zip(nets, rows, valid, strict=True)
        with tasks.task(TASK, len(nets)) if len(nets) > 1 else nullcontext():
            for n_trained, (net, net_rows, net_valid) in enumerate(triples, start=1):
                n_later = sum(later.max_epochs for later in nets[n_trained:])
                with remaining_epochs(n_later), tasks.task("fold", net.max_epochs):
                    net.train(net_rows, net_valid, keep_last=keep_last)
                if net.stop_ == "interrupted":
                    return n_trained
        return len(nets)
    best = BestWeightsPerMember(StackedRows(valid), keep_last, until)
    joint = train_as_one(nets, rows, best)
    for i, net in enumerate(nets):
        net.adopt(joint, best.curves[i], best.epochs[i])
        load_member(net.module_, best.weights, i)
    return len(nets)


def train_as_one(
    nets: Sequence[AutoencoderNet], rows: Sequence[Rows], callback: InternalCallback
) -> AutoencoderNet:
    """Train nets that ``can_train_as_one``; return the net around all, as they stay as they are."""
    joint = _joint_net(nets, _joint_module(nets), callback)
    with current_tasks().task(TASK, joint.max_epochs):
        joint.train(StackedRows(rows))
    return joint


def can_train_as_one(nets: Sequence[AutoencoderNet]) -> bool:
    """Whether nets can be stacked, and trained with manual gradients."""
    first = nets[0]
    if any(net.callbacks for net in nets) or not _agree(nets):
        return False
    is_plain = first.criterion.has_manual_grad(first.module.link) and first.precision == "float32"
    halves = [net.module.encoder for net in nets], [net.module.decoder for net in nets]
    return is_plain and not first.corruption.ordered and can_stack(*halves)


def _joint_net(
    nets: Sequence[AutoencoderNet], module: Autoencoder, callback: InternalCallback
) -> AutoencoderNet:
    """A net around the networks of all `nets`."""
    joint = type(nets[0])(
        module,
        nets[0].criterion,
        corruption=_joint_corruption(
            [net.corruption for net in nets], [net.module.n_latents for net in nets]
        ),
        batch_generator=nets[0].batch_generator,
        callbacks=[callback],
        **{name: getattr(nets[0], name) for name in SETTINGS},
    )
    # The loss is the mean over members: it divides each member's gradient by their number,
    # and the norm of all gradients by the square root of it.
    joint.max_norm /= len(nets) ** 0.5
    return joint


def _joint_module(nets: Sequence[AutoencoderNet]) -> Autoencoder:
    encoder, decoder = stack_members(
        [net.module.encoder for net in nets], [net.module.decoder for net in nets]
    )
    n_latents = max(net.module.n_latents for net in nets)
    return Autoencoder(encoder, decoder, nets[0].module.link, n_latents, nets[0].module.missing)


def _agree(nets: Sequence[AutoencoderNet]) -> bool:
    """Whether nets differ at most in their weights and the number of latents."""
    descriptions = {
        (type(net), *(getattr(net, name) for name in SETTINGS), *_layers(net)) for net in nets
    }
    return len(descriptions) == 1


def _layers(net: AutoencoderNet) -> Iterator[Any]:
    """Describe layers, up to the sizes that depend on the number of latents."""
    for name, layer in net.module.named_modules():
        yield name, type(layer)
        if not isinstance(layer, nn.Linear):
            yield layer.extra_repr()
            continue
        # In a user's network, a size that equals the number of latents may mean anything.
        n_latents = net.module.n_latents if net.global_seed is None else None
        for n in layer.weight.shape:
            yield "latents" if n == n_latents else n


def _joint_corruption(parts: Sequence[Corruption], widths: Sequence[int]) -> Corruption:
    """The noise of each member; latents beyond a member's number get none."""
    device = parts[0].generator.device
    input_noise = torch.tensor([part.input_noise for part in parts], device=device)
    latent_noise = torch.zeros(len(parts), 1, max(widths), device=device)
    for deviation, part, width in zip(latent_noise, parts, widths, strict=True):
        deviation[:, :width] = part.latent_noise
    # A float of zero, unlike a tensor of zeros, saves the draws.
    return Corruption(
        parts[0].generator,
        input_noise[:, None, None] if input_noise.any() else 0.0,
        latent_noise if latent_noise.any() else 0.0,
    )


class StackedRows(Rows):
    """Rows of several nets, stacked; the shorter ones are padded with rows of zero weight."""

    def __init__(self, parts: Sequence[Rows]):
        self.parts = parts

    def __len__(self) -> int:
        return max(map(len, self.parts))

    def batches(self, spans: Iterator[slice], generator: torch.Generator | None) -> Iterator[Batch]:
        first = next(spans)
        batch_size = first.stop - first.start
        for batches in zip_longest(*(Batches(p, batch_size, generator) for p in self.parts)):
            present = [batch for batch in batches if batch is not None]
            sizes = {len(x) for x, _ in present}
            is_even = len(present) == len(batches) and len(sizes) == 1
            if is_even and all(weight is None for _, weight in present):
                yield torch.stack([x for x, _ in present]), None
                continue
            empty: Batch = present[0][0][:0], None
            padded = [_pad(batch or empty, max(sizes)) for batch in batches]
            x, weight = (torch.stack(part) for part in zip(*padded, strict=True))
            yield x, weight


def _pad(batch: Batch, n_rows: int) -> tuple[Tensor, Tensor]:
    """Rows and weights, padded with zeros to `n_rows`."""
    x, weight = batch
    weight = x.new_ones(len(x)) if weight is None else weight
    n_padded = n_rows - len(x)
    return F.pad(x, (0, 0, 0, n_padded)), F.pad(weight, (0, n_padded))


class BestWeightsPerMember(InternalCallback):
    """Keep the weights of each member at its own best epoch, epoch 0 included.

    Parameters
    ----------
    valid : StackedRows
    keep_last, until
        As in ``train_together``.

    Attributes
    ----------
    curves : list of list of float
        Validation losses of each member, from epoch 0 to the one where it stopped.
    epochs : list of int
        The epoch kept for each member.
    weights : dict of Tensor
        The weights of these epochs, stacked.
    """

    def __init__(
        self, valid: StackedRows, keep_last: bool, until: Callable[[Iterable[bool]], bool]
    ):
        self.valid = valid
        self.keep_last = keep_last
        self.until = until

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.curves: list[list[float]] = [[] for _ in self.valid.parts]
        self.epochs = [0] * len(self.curves)
        self.is_done = [False] * len(self.curves)
        self.weights = copied_parameters(net)

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if not self.curves[0]:
            self._compare(net)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self._compare(net)
        last = [curve[-1] for curve in self.curves]
        net.history.record("valid_loss", sum(last) / len(last))
        for i, (curve, best) in enumerate(zip(self.curves, self.epochs, strict=True)):
            self.is_done[i] |= should_stop(curve, best, net.patience)
        if self.until(self.is_done):
            raise TrainingStopped

    def _compare(self, net: Any) -> None:
        losses = member_losses(net, self.valid).tolist()
        curves, epochs, improved = [*self.curves], [*self.epochs], []
        for i, loss in enumerate(losses):
            if self.is_done[i]:
                continue
            curves[i] = [*curves[i], loss]
            if self.keep_last or is_new_best(curves[i], epochs[i]):
                epochs[i] = len(curves[i]) - 1
                improved.append(i)
        weights = self._with_members_of(net, improved)
        # All in one statement without a call, which no Ctrl-C comes into.
        self.curves, self.epochs, self.weights = curves, epochs, weights

    def _with_members_of(self, net: Any, members: list[int]) -> dict[str, Tensor]:
        """The kept weights, in which some members are those of the net now."""
        if not members:
            return self.weights
        is_member = torch.zeros(len(self.curves), 1, 1, dtype=torch.bool)
        is_member[members] = True
        is_member = is_member.to(net.device)
        return {
            name: torch.where(is_member, weight.detach(), self.weights[name])
            for name, weight in net.module_.named_parameters()
        }


class Snapshots(InternalCallback):
    """Weights and validation losses of all members after some epochs.

    Parameters
    ----------
    valid : StackedRows
    epochs : sequence of int
        From 0 on, never falling; some may be equal.

    Attributes
    ----------
    losses : list of list of float
        For each of the epochs, the validation loss of each member.
    weights : list of dict of Tensor
        For each of the epochs, the weights, stacked.
    """

    def __init__(self, valid: StackedRows, epochs: Sequence[int]):
        self.valid = valid
        self.epochs = epochs

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        self.losses: list[list[float]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        if not self.losses:
            self._take(net, 0)

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if len(net.history) in self.epochs:
            self._take(net, len(net.history))

    def _take(self, net: Any, epoch: int) -> None:
        n_equal = self.epochs.count(epoch)
        self.losses += n_equal * [member_losses(net, self.valid).tolist()]
        self.weights += n_equal * [copied_parameters(net)]

    def keep(self, net: AutoencoderNet, joint: AutoencoderNet, member: int, number: int) -> None:
        """Give a member's net the weights of one of the snapshots."""
        net.adopt(joint, None, self.epochs[number])
        load_member(net.module_, self.weights[number], member)


def copied_parameters(net: Any) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in net.module_.named_parameters()}


@torch.no_grad()
def member_losses(net: AutoencoderNet, rows: StackedRows) -> Tensor:
    """Mean reconstruction loss per cell of each member.

    ``AutoencoderNet.validation_loss`` of the members' own nets, up to rounding: that one
    averages batches as wholes, which does not tell members apart.
    """
    net._set_training(False)
    total: Any = 0.0
    total_weight: Any = 0.0
    for x, weight in net.get_iterator(rows, training=False):
        output, _ = net.infer(x)
        losses = net.criterion_.cells(net.module_.link, output.float(), net._targets(x))
        weight = torch.ones_like(x[..., 0]) if weight is None else weight
        total = total + (losses.mean(dim=-1) * weight).sum(dim=-1)
        total_weight = total_weight + weight.sum(dim=-1)
    return total / total_weight

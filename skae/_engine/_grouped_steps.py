"""Training steps that several processes take together."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from skae._engine._group import Group
from skae._engine._losses import EvidenceBound

# Between seeds of the noise of processes; seeds next to each other have other uses.
SEEDS_APART = 1_000_003


class GroupedSteps:
    """Steps on batches whose rows lie on several processes.

    Each computes the gradient of its own rows. With one synchronisation per step, the gradients
    are weighed by rows and added up: the step is that of one process with all rows. Otherwise each
    process takes steps of its own, and their weights are averaged every `sync_every` steps [1]_.

    Parameters
    ----------
    net : AutoencoderNet
    group : Group

    References
    ----------
    .. [1] S. U. Stich, "Local SGD converges fast and communicates little", ICLR 2019.
    """

    def __init__(self, net: Any, group: Group):
        self.net = net
        self.group = group
        self.n_steps = 0
        self.nothing = torch.zeros((), device=net.device)
        self.share = 0.0  # of the rows of the steps since the last synchronisation
        draws = net.corruption.generator
        if group.rank:  # noise on other rows is other noise, as is that after a resumption
            place = group.rank + group.size * net.n_epochs_done
            draws.manual_seed(draws.initial_seed() + SEEDS_APART * place)
        self.synchronise()

    def __call__(self, batch: Any) -> Tensor:
        """Take a step and return the loss of own rows."""
        n_rows = batch[0].shape[-2]
        loss = self.net._compute_gradients(batch) if n_rows else self._pass_over()
        if self.group.sync_every == 1:
            # Nothing but this one tensor is reduced, whatever the network.
            gradients = self.net.optimizer_.gradients
            self.group.add(gradients.mul_(batch.share) if n_rows else gradients.zero_())
            self.net._update()
            return loss
        if n_rows:
            self.net._update()
        self.share += batch.share
        self.n_steps += 1
        if self.n_steps == self.group.sync_every:
            self.average()
        return loss

    def _pass_over(self) -> Tensor:
        """Of a batch without own rows, only count the step."""
        if isinstance(self.net.criterion_, EvidenceBound):
            self.net.criterion_.step()
        return self.nothing

    def average(self) -> None:
        """Put the average over processes in the place of the weights."""
        values = self.net.optimizer_.values
        # One sum of weights and shares: each sum takes its time, however small.
        weighed = torch.cat([values.flatten() * self.share, values.new_tensor([self.share])])
        self.group.add(weighed)
        values.copy_((weighed[:-1] / weighed[-1]).view_as(values))
        self.n_steps, self.share = 0, 0.0

    def synchronise(self) -> None:
        """Let all processes have the same weights, bit by bit."""
        if self.n_steps:
            self.average()
        # Unlike processors round differently.
        self.group.copy_from_first(self.net.optimizer_.values)

    def note_epoch(self, is_last: bool) -> None:
        """Note where the training is after an epoch, and whether it stops there."""
        if self.group.checkpoints is not None:
            self.group.checkpoints.save(self.net, is_last)

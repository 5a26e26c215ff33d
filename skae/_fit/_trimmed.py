"""Train an ensemble on the trimmed subset of a table, chosen anew as it learns.

The subset is the h-subset of trimmed estimators (Rousseeuw & Van Driessen, "A fast algorithm
for the minimum covariance determinant estimator", Technometrics 41, 1999): the share of the
rows that the model of before fits best, from which the next model is learned.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skae._engine._ensemble_net import MemberNet, member_rows
from skae._engine._progress import remaining_epochs
from skae._engine._tasks import current_tasks, epochs_lead_to
from skae._fit._run import Outcome
from skae._stats._trimming import trimmed_subset

# Fits that only prepare the choice of the subset take this share of the last one's epochs.
SHARE_OF_REFIT = 1 / 3
# Rows that each member leaves out at most.
MAX_HELD_OUT = 10_000


@dataclass(eq=False)
class TrimmedPlan:
    """All that one training of an ensemble depends on.

    Attributes
    ----------
    net : MemberNet
        To be trained in place.
    rows : Rows
        All rows, scaled.
    weights : ndarray of shape (n_samples,)
    held_out : ndarray of shape (n_members, n_held_out)
        Numbers of the rows that each member does not train on.
    fraction : float
        Share of its rows that a member learns from.
    n_refits : int
        How often the subset is chosen anew.
    keeps_best_epoch : bool
        Whether the epoch with the lowest loss on held-out rows is kept.
    is_first_fit : bool
        Whether the net has learned nothing yet: then the baseline chooses the first subset.
    attributes_after : callable
        Called with an outcome: attributes of the estimator, had the fit come to this. One
        pass needs none.
    """

    net: MemberNet
    rows: Any
    weights: NDArray[np.float64]
    held_out: NDArray[np.intp]
    fraction: float
    n_refits: int
    keeps_best_epoch: bool
    is_first_fit: bool
    attributes_after: Callable[[Outcome], dict[str, Any]] | None = None


def held_out_rows(
    n_rows: int, n_members: int, validation_fraction: float, seed: int
) -> NDArray[np.intp]:
    """Numbers of the rows that each member does not train on, different ones if possible.

    The same for as many rows again: training may go on with rows that were in an earlier
    fit, and must stay held out.

    Returns
    -------
    held_out : ndarray of shape (n_members, n_held_out)
    """
    n_held_out = min(int(validation_fraction * n_rows), MAX_HELD_OUT)
    n_held_out = min(max(n_held_out, int(n_rows >= 4)), n_rows - 2) if n_rows > 2 else 0
    rng = np.random.RandomState(seed)
    places = np.arange(n_members * n_held_out) % n_rows
    return rng.permutation(n_rows)[places].reshape(n_members, n_held_out)


def size_of_subset(fraction: float, n_rows: int) -> int:
    """Number of rows in the trimmed subset; raise if there are not two."""
    n_subset = int(np.ceil(fraction * n_rows - 1e-9))
    if n_subset < 2:
        raise ValueError(
            f"core_fraction={fraction!r} leaves {n_subset} of {n_rows} rows to train on; at "
            "least 2 are needed. Raise it, or fit on more rows."
        )
    return n_subset


def fit_trimmed(plan: TrimmedPlan) -> Outcome:
    """Train on the rows with the lowest losses, which are computed anew after each training."""
    net, rows, weights = plan.net, plan.rows, plan.weights
    member_weights = weights_of_members(weights, plan.held_out)
    valid = None
    if plan.keeps_best_epoch and plan.held_out.size:
        valid = member_rows(rows, np.tile(weights, (len(member_weights), 1)) - member_weights)
    n_epochs = net.max_epochs
    n_short = ceil(n_epochs * SHARE_OF_REFIT)
    n_refits = 0 if plan.fraction == 1 else plan.n_refits
    tasks = current_tasks()
    tasks.begin(n_refits + 1)

    def attributes_of(net: MemberNet) -> dict[str, Any]:
        assert plan.attributes_after is not None
        return plan.attributes_after(Outcome.of(net, None))

    for n_left in range(n_refits, -1, -1):
        net.set_params(max_epochs=n_epochs if n_left == 0 else n_short)
        from_baseline = plan.is_first_fit and n_left == n_refits
        subset = choose_subset(net, rows, member_weights, plan.fraction, from_baseline)
        with (
            remaining_epochs(n_epochs + (n_left - 1) * n_short if n_left else 0),
            tasks.task("trimmed-fit", net.max_epochs, **tasks.given),
            epochs_lead_to(attributes_of),
        ):
            net.train(member_rows(rows, member_weights * subset), valid)
        if net.stop_ == "interrupted":
            break
    return Outcome.of(net, None)


def fit_trimmed_pass(plan: TrimmedPlan) -> Outcome:
    """Train for one epoch; on a fitted net, on all rows by their weights alone."""
    net, rows = plan.net, plan.rows
    member_weights = weights_of_members(plan.weights, plan.held_out)
    subset = choose_subset(net, rows, member_weights, plan.fraction, plan.is_first_fit)
    current_tasks().begin(0, "partial-fit")
    net.train_on(member_rows(rows, member_weights * subset))
    return Outcome.of(net, None)


def choose_subset(
    net: MemberNet,
    rows: Any,
    member_weights: NDArray[np.float64],
    fraction: float,
    from_baseline: bool,
) -> NDArray[np.bool_]:
    """Masks, for each member, of the rows that it reproduces best.

    Before training, the rows nearest to the baseline stand for them.
    """
    *members, baseline = net.row_losses(rows)
    losses = [baseline] * len(members) if from_baseline else members
    pairs = zip(losses, member_weights, strict=True)
    return np.stack([trimmed_subset(loss, weight, fraction) for loss, weight in pairs])


def weights_of_members(
    weights: NDArray[np.float64], held_out: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Weights of the rows for each member, zero for those that it does not train on."""
    member_weights = np.tile(weights, (len(held_out), 1))
    np.put_along_axis(member_weights, held_out, 0.0, axis=1)
    return member_weights

"""What a fit says of itself while it goes on: one bar, a line an epoch, or nothing."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from joblib.parallel import get_active_backend

# Keys of a net's history, as they are called here.
NAMES = {"train_loss": "loss", "valid_loss": "val_loss"}
# Name, losses and time left fit into 80 columns; the bar takes what is left.
BAR = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
FULL_BAR = BAR.replace("<{remaining}", "")
# As `verbose`: nothing is shown, nor is what is fitted within.
HIDDEN = -1


class Progress:
    """All trainings of one fit, shown as one; also what shows nothing.

    Parameters
    ----------
    name : str
        What is fitted.
    verbose : int
        0 shows nothing, 1 a bar, 2 or more a line an epoch. Among workers, where bars would
        be drawn over each other, 1 is one line at the end.

    Attributes
    ----------
    is_search : bool
        Whether fits are parts of it; any other fit within a shown one shows nothing.
    n_later : int
        Epochs that are still to come after the training that goes on.
    in_units : dict of callable
        Lead from losses of the history to those that the estimator will report.
    """

    def __init__(self, name: str, verbose: int, is_search: bool = False):
        self.name = name
        self.verbose = verbose
        self.is_search = is_search
        self.n_done = self.n_total = self.n_later = 0
        self.in_units: Mapping[str, Callable[[float], float]] = {}
        self.losses: dict[str, float] = {}
        self.outcome = ""
        self.started = time.perf_counter()
        self.bar: Any = None
        self.is_closed = False

    def begin(self, n_epochs: int) -> None:
        """A training of so many epochs begins."""
        self.n_total = self.n_done + n_epochs + self.n_later
        if self.verbose != 1 or is_worker() or sys.stdout is None:
            return
        if self.bar is None:
            make = bar_class()
            self.bar = make(total=self.n_total, desc=self.name, bar_format=BAR, file=sys.stdout)
            self.bar.leave = self.bar.pos == 0  # one below a bar of the user's own goes away
        self._set_total()

    def update(self, epoch: Mapping[str, Any]) -> None:
        """An epoch has ended."""
        self.n_done += 1
        self.losses = {
            name: self.in_units.get(key, float)(epoch[key])
            for key, name in NAMES.items()
            if key in epoch
        }
        if self.bar is not None:
            self._show()
            self.bar.update()
        elif self.verbose > 1:
            seconds = time.perf_counter() - self.started
            self._map_batches(
                f"epoch {self.n_done}/{self.n_total}: {self._told('.6g')}, {seconds:.1f} s"
            )

    def end(self, stop: str) -> None:
        """The training has ended, maybe before its time."""
        if stop != "finished" and self.outcome != "interrupted":
            self.outcome = {"stopped": "stopped early"}.get(stop, stop)
        if stop == "interrupted":
            self.close()  # before the warning that follows

    def set_note(self, what: str) -> None:
        """Say what goes on besides training."""
        if self.bar is not None:
            self._show(what)
            self.bar.refresh()

    def close(self, failed: bool = False) -> None:
        """The fit has ended; a bar ends at what was run, unless more should have been."""
        if self.is_closed:
            return
        self.is_closed = True
        self.outcome = "failed" if failed else self.outcome
        if self.bar is not None:
            if self.outcome in ("", "stopped early"):
                self.n_total = self.n_done
                self._set_total()
            self.bar.bar_format = FULL_BAR
            self._show(self.outcome)
            self.bar.close()
            self.bar = None
        elif self.n_total and (self.verbose == 1 or (self.verbose > 1 and self.outcome)):
            seconds = time.perf_counter() - self.started
            parts = [f"{self.n_done} epochs in {seconds:.1f} s", self.outcome, self._told(".4g")]
            self._map_batches(f"{self.name}: {', '.join(part for part in parts if part)}")

    def _told(self, digits: str) -> str:
        return ", ".join(f"{name}={loss:{digits}}" for name, loss in self.losses.items())

    def _show(self, note: str = "") -> None:
        self.bar.set_postfix_str(", ".join(filter(None, [note, self._told(".4g")])), refresh=False)

    def _set_total(self) -> None:
        self.bar.total = self.n_total
        if hasattr(self.bar, "container"):  # a notebook's has a length of its own
            self.bar.container.children[1].max = self.n_total

    def _map_batches(self, line: str) -> None:
        # In one piece: ``print`` writes the end of the line on its own, and workers share it.
        with suppress(AttributeError):  # there may be no screen at all
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


_current: ContextVar[Progress | None] = ContextVar("current", default=None)


def current_progress() -> Progress:
    """What shows the fit that goes on; outside of any, nothing does."""
    return _current.get() or Progress("", 0)


@contextmanager
def show_progress(name: str, verbose: int, is_search: bool = False) -> Iterator[None]:
    """Show what is trained in the block as one.

    Blocks within that of a search are parts of it; within another that is shown, they show
    nothing and do not count.
    """
    outer = current_progress()
    if outer.verbose and outer.is_search:
        with _part_of(outer):
            yield
        return
    progress = Progress(name, HIDDEN if outer.verbose else verbose, is_search)
    token = _current.set(progress)
    try:
        yield
    except BaseException:
        progress.close(failed=True)
        raise
    else:
        progress.close()
    finally:
        _current.reset(token)


@contextmanager
def _part_of(search: Progress) -> Iterator[None]:
    search.is_search = False
    try:
        yield
    finally:
        search.is_search = True


@contextmanager
def losses_reported_in(units: Mapping[str, Callable[[float], float]]) -> Iterator[None]:
    """Losses of what is trained in the block are told in other units."""
    progress = current_progress()
    progress.in_units = units
    try:
        yield
    finally:
        progress.in_units = {}


@contextmanager
def remaining_epochs(n_epochs: int) -> Iterator[None]:
    """What is trained in the block is not all: so many epochs come after it."""
    progress = current_progress()
    progress.n_later += n_epochs
    try:
        yield
    finally:
        progress.n_later -= n_epochs


def is_worker() -> bool:
    """Whether others may write to the same screen at the same time."""
    backend, _ = get_active_backend()
    aside = threading.current_thread() is not threading.main_thread()
    return aside or backend.nesting_level or multiprocessing.parent_process() is not None


def bar_class() -> Any:
    """The bar for notebooks in one that has ipywidgets, else the one of text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # text is fine; nobody needs to be told
        from tqdm.auto import tqdm
    return tqdm

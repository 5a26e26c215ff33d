"""Progress of a fit: one bar, a line per epoch, or nothing."""

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

# Displayed names of losses in a net's history.
NAMES = {"train_loss": "loss", "valid_loss": "val_loss"}
# Name, losses and remaining time fit into 80 columns; the bar takes the rest.
BAR = "{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
FULL_BAR = BAR.replace("<{remaining}", "")
# What is shown of a part of an epoch comes at most so often.
SECONDS_BETWEEN_LINES, SECONDS_BETWEEN_REFRESHES = 30.0, 0.5
# `verbose` of a fit within another one that is shown: it shows nothing, nor do fits in it.
HIDDEN = -1


class Progress:
    """The progress of all trainings of one fit; with ``verbose=0``, it shows nothing.

    Parameters
    ----------
    name : str
        Name of the estimator, shown in front.
    verbose : int
        0 shows nothing, 1 a bar, 2 or more a line per epoch. In parallel workers, which would
        overwrite each other's bars, 1 is one line at the end.
    is_search : bool
        Whether fits inside count as parts of it; otherwise they show nothing.

    Attributes
    ----------
    n_later : int
        Number of epochs after the current training.
    in_units : dict of callable
        Conversions of losses of the history to those that the estimator will report.
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
        self.rows_began: float | None = None
        self.rows_shown = 0.0

    def begin(self, n_epochs: int) -> None:
        """Start a training of `n_epochs`."""
        self.n_total = self.n_done + n_epochs + self.n_later
        if self.verbose != 1 or is_worker() or sys.stdout is None:
            return
        if self.bar is None:
            make = bar_class()
            self.bar = make(total=self.n_total, desc=self.name, bar_format=BAR, file=sys.stdout)
            self.bar.leave = self.bar.pos == 0  # a bar below one of the user's is removed
        self._set_total()

    def update(self, epoch: Mapping[str, Any]) -> None:
        """End an epoch; `epoch` is its history."""
        self.n_done += 1
        self.rows_began = None
        self.losses = {
            name: self.in_units.get(key, float)(epoch[key])
            for key, name in NAMES.items()
            if key in epoch
        }
        if self.bar is not None:
            self._show()
            self.bar.n = self.n_done - 1  # it may show a part of the epoch
            self.bar.update()
        elif self.verbose > 1:
            seconds = time.perf_counter() - self.started
            losses = self._format_losses(".6g")
            self._write_line(f"epoch {self.n_done}/{self.n_total}: {losses}, {seconds:.1f} s")

    def update_rows(self, n_read: int, n_rows: int) -> None:
        """Show a part of an epoch over a table on disk, now and then."""
        now = time.perf_counter()
        if self.rows_began is None or not n_read:
            self.rows_began = self.rows_shown = now
            return
        wait = SECONDS_BETWEEN_LINES if self.bar is None else SECONDS_BETWEEN_REFRESHES
        if self.verbose < 1 or now - self.rows_shown < wait:
            return
        self.rows_shown = now
        rate = n_read / (now - self.rows_began)
        note = f"{rate:.3g} rows/s"
        if self.bar is not None:
            self.bar.n = round(self.n_done + n_read / n_rows, 2)
            self._show(note)
            self.bar.refresh()
        elif self.verbose > 1:
            seconds = (n_rows - n_read) / rate
            share = f"{100 * n_read / n_rows:.0f} % of epoch {self.n_done + 1}/{self.n_total}"
            self._write_line(f"{share}: {note}, {seconds:.0f} s left")

    def end(self, stop: str) -> None:
        """End a training; `stop` is the net's ``stop_``."""
        if stop != "finished" and self.outcome != "interrupted":
            self.outcome = {"stopped": "stopped early"}.get(stop, stop)
        if stop == "interrupted":
            self.close()  # before the warning that follows

    def conclude(self, outcome: str) -> None:
        """Say what the fit has come to, unless it ended before its time."""
        self.outcome = self.outcome or outcome

    def set_note(self, note: str) -> None:
        """Show what the fit does besides training."""
        if self.bar is not None:
            self._show(note)
            self.bar.refresh()

    def close(self, failed: bool = False) -> None:
        """End the fit; a bar becomes full unless the fit failed or was interrupted."""
        if self.is_closed:
            return
        self.is_closed = True
        self.outcome = "failed" if failed else self.outcome
        if self.bar is not None:
            if self.outcome not in ("failed", "interrupted"):
                self.n_total = self.n_done
                self._set_total()
            self.bar.bar_format = FULL_BAR
            self._show(self.outcome)
            self.bar.close()
            self.bar = None
        elif (self.n_total or self.outcome) and (
            self.verbose == 1 or (self.verbose > 1 and self.outcome)
        ):
            seconds = time.perf_counter() - self.started
            losses = self._format_losses(".4g")
            parts = [f"{self.n_done} epochs in {seconds:.1f} s", self.outcome, losses]
            self._write_line(f"{self.name}: {', '.join(part for part in parts if part)}")

    def _format_losses(self, digits: str) -> str:
        return ", ".join(f"{name}={loss:{digits}}" for name, loss in self.losses.items())

    def _show(self, note: str = "") -> None:
        parts = [note, self._format_losses(".4g")]
        self.bar.set_postfix_str(", ".join(part for part in parts if part), refresh=False)

    def _set_total(self) -> None:
        self.bar.total = self.n_total
        if hasattr(self.bar, "container"):  # the widget of a notebook has its own maximum
            self.bar.container.children[1].max = self.n_total

    def _write_line(self, line: str) -> None:
        # In one call: ``print`` writes the newline separately, and workers share the stream.
        with suppress(AttributeError):  # sys.stdout may be None
            sys.stdout.write(line + "\n")
            sys.stdout.flush()


_current: ContextVar[Progress | None] = ContextVar("current", default=None)


def current_progress() -> Progress:
    """The progress of the current fit; outside of a fit, one that shows nothing."""
    return _current.get() or Progress("", 0)


@contextmanager
def show_progress(name: str, verbose: int, is_search: bool = False) -> Iterator[None]:
    """Show all trainings in the block as one fit.

    A block inside that of a search counts as part of it. Inside any other fit that is shown,
    it shows nothing and does not count.
    """
    outer = current_progress()
    if outer.verbose and outer.is_search:
        with _part_of(outer):
            yield
        return
    progress = Progress(name, HIDDEN if outer.verbose else verbose, is_search)
    before = _current.get()
    try:
        _current.set(progress)
        yield
    except BaseException:
        progress.close(failed=True)
        raise
    else:
        progress.close()
    finally:
        _current.set(before)  # a token of the first call could be lost by Ctrl-C


@contextmanager
def _part_of(search: Progress) -> Iterator[None]:
    try:
        search.is_search = False
        yield
    finally:
        search.is_search = True


@contextmanager
def losses_reported_in(units: Mapping[str, Callable[[float], float]]) -> Iterator[None]:
    """Convert the losses shown in the block."""
    progress = current_progress()
    progress.in_units = units
    try:
        yield
    finally:
        progress.in_units = {}


@contextmanager
def remaining_epochs(n_epochs: int) -> Iterator[None]:
    """Announce that `n_epochs` of the fit come after the training in the block."""
    progress = current_progress()
    progress.n_later += n_epochs
    try:
        yield
    finally:
        progress.n_later -= n_epochs


def is_worker() -> bool:
    """Whether this is a parallel worker, which shares the screen with others."""
    backend, _ = get_active_backend()
    is_thread = threading.current_thread() is not threading.main_thread()
    return is_thread or backend.nesting_level or multiprocessing.parent_process() is not None


def bar_class() -> Any:
    """The widget of tqdm in a notebook with ipywidgets, else its text bar."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm warns if it falls back to text
        from tqdm.auto import tqdm
    return tqdm


def rows_bar(name: str, n_rows: int | None, verbose: int) -> Any:
    """A bar of rows that are done; with ``verbose=0``, it shows nothing."""
    is_shown = verbose > 0 and sys.stdout is not None
    options = {"desc": name, "unit": " rows", "unit_scale": True, "file": sys.stdout}
    return bar_class()(total=n_rows, disable=not is_shown, **options)

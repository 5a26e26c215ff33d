"""Tasks of a fit, which scikit-learn's callbacks are told of (from version 1.9 on).

The tasks are a tree: "fit", the root; below it "epoch", or, where no rows are held out in the end,
"all-rows" with epochs of its own, after "cross-validation" if folds come before it. A detector has
a "trimmed-fit" for each choice of its rows. Folds that train as one network share their epochs;
otherwise each has a task "fold". ``partial_fit`` is a single task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from skae._sklearn import callbacks_of

# From a net that is trained to the attributes of its estimator, had training stopped there.
AttributesOf = Callable[[Any], dict[str, Any]]


class FitTasks:
    """The tasks of one fit; without callbacks, there is none but the root.

    Parameters
    ----------
    estimator : estimator or None
        None if callbacks are not to be told anything.
    given : dict
        What the fit was called with, by ``given_to_fit``.
    """

    def __init__(self, estimator: Any, given: dict[str, Any]):
        self.estimator = estimator
        self.given = given
        self.attributes_of: AttributesOf | None = None
        self._root: Any = None
        self._parent: Any = None  # whose subtask the next one is; None if nobody is told of it
        self._epoch: Any = None

    def begin(self, n_subtasks: int, name: str = "fit") -> None:
        """Begin the root, which sets up callbacks; at most `n_subtasks` will follow below it."""
        is_begun = self._root is not None  # several passes are one task
        if is_begun or not hasattr(self.estimator, "_init_callback_context"):
            return
        self._root = self.estimator._init_callback_context(task_name=name, max_subtasks=n_subtasks)
        self._parent = self._root if callbacks_of(self.estimator) and n_subtasks else None
        self._root.call_on_fit_task_begin(estimator=self.estimator, **self.given)

    def end(self) -> None:
        """End the root; the estimator is fitted."""
        if self._root is not None:
            self._root.call_on_fit_task_end(
                estimator=self.estimator, reconstruction_attributes={}, **self.given
            )

    @contextmanager
    def task(self, name: str, n_subtasks: int, **data: Any) -> Iterator[Any]:
        """A task with subtasks in the block; it yields its context, or None."""
        parent = self._parent
        if parent is None:
            yield None
            return
        task = parent.subcontext(task_name=name, max_subtasks=n_subtasks)
        task.call_on_fit_task_begin(estimator=self.estimator, **data)
        self._parent = task
        try:
            yield task
        finally:
            self._parent = parent
        task.call_on_fit_task_end(estimator=self.estimator, **data)

    @contextmanager
    def fit_of(self, part: Any, name: str) -> Iterator[None]:
        """The fit of a part of the estimator, which callbacks and tasks are handed on to."""
        if self._root is None:
            yield
            return
        task = self._root.subcontext(task_name=name)
        with task.propagate_callback_context(part):
            task.call_on_fit_task_begin(estimator=self.estimator, **self.given)
            yield
            task.call_on_fit_task_end(estimator=self.estimator, **self.given)

    def begin_epoch(self) -> None:
        if self._parent is not None:
            self._epoch = self._parent.subcontext(task_name="epoch")
            self._epoch.call_on_fit_task_begin(estimator=self.estimator, **self._data_of_epoch)

    def end_epoch(self, net: Any) -> bool:
        """End an epoch of a net; return whether a callback wants to stop its training."""
        if self._epoch is None:
            return False
        epoch, self._epoch = self._epoch, None
        attributes_of = self.attributes_of
        attributes = None if attributes_of is None else lambda: attributes_of(net.as_if_stopped())
        return epoch.call_on_fit_task_end(
            estimator=self.estimator, reconstruction_attributes=attributes, **self._data_of_epoch
        )

    def drop_epoch(self) -> None:
        """End an epoch that was begun and interrupted."""
        if self._epoch is not None:
            epoch, self._epoch = self._epoch, None
            epoch.call_on_fit_task_end(estimator=self.estimator)

    @property
    def _data_of_epoch(self) -> dict[str, Any]:
        # Folds train on other rows, and the estimator's net is none of theirs.
        return {} if self.attributes_of is None else self.given


_current: ContextVar[FitTasks | None] = ContextVar("current", default=None)


def current_tasks() -> FitTasks:
    """The tasks of the current fit; outside of a fit, none that anybody is told of."""
    return _current.get() or FitTasks(None, {})


def given_to_fit(X: Any, y: Any, **metadata: Any) -> dict[str, Any]:
    """What callbacks are told that ``fit`` was called with; metadata that are None are not."""
    metadata = {name: value for name, value in metadata.items() if value is not None}
    return {"X": X, "y": y, "metadata": metadata or None}


@contextmanager
def tasks_of_fit(estimator: Any, given: dict[str, Any]) -> Iterator[None]:
    """The tasks of the fit in the block, of which the callbacks of an estimator are told.

    With None as the estimator, nobody is told of them, whatever fit the block is in.
    """
    tasks = FitTasks(estimator, given)
    token = _current.set(tasks)
    try:
        yield
        tasks.end()
    finally:
        _current.reset(token)


@contextmanager
def epochs_lead_to(attributes_of: AttributesOf) -> Iterator[None]:
    """Tell callbacks, after each epoch of the block, what the estimator has become."""
    tasks = current_tasks()
    tasks.attributes_of = attributes_of
    try:
        yield
    finally:
        tasks.attributes_of = None

"""What every fit is wrapped in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skae._engine._progress import show_progress
from skae._engine._runtime import one_thread_per_worker


@contextmanager
def rollback_on_error(estimator: Any) -> Iterator[None]:
    """What every fit is wrapped in: its attributes are put back if the block raises."""
    before = vars(estimator).copy()
    try:
        with (
            one_thread_per_worker(),
            show_progress(type(estimator).__name__, int(estimator.verbose)),
        ):
            yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before)
        raise

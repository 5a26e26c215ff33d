"""What every fit is wrapped in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from skae._engine._progress import show_progress
from skae._engine._runtime import one_thread_per_worker
from skae._engine._tasks import tasks_of_fit
from skae._sklearn import callback_state


@contextmanager
def rollback_on_error(
    estimator: Any, given: dict[str, Any], is_quiet: bool = False
) -> Iterator[None]:
    """What every fit is wrapped in: its attributes are put back if the block raises.

    `given` is what callbacks are told that the fit was called with. A quiet fit shows no progress,
    whatever `verbose` is.
    """
    before = vars(estimator).copy()
    try:
        with (
            one_thread_per_worker(),
            show_progress(type(estimator).__name__, 0 if is_quiet else int(estimator.verbose)),
            tasks_of_fit(estimator, given),
        ):
            yield
    except BaseException:
        # By one statement, which an interrupt cannot divide.
        estimator.__dict__ = before | callback_state(estimator)
        raise

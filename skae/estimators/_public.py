"""What every public method of an estimator is wrapped in."""

import inspect
from functools import wraps

from skae._engine._runtime import initial_settings, is_out_of_memory

FITS = ("fit", "partial_fit")


class PublicMethodsMixin:
    """Has the public methods of each class that inherits from it wrapped."""

    def __init_subclass__(cls, **kwargs):
        for name, value in vars(cls).copy().items():
            if inspect.isfunction(value) and not name.startswith("_"):
                setattr(cls, name, public_method(value))
        super().__init_subclass__(**kwargs)


def public_method(method):
    """A method that runs under torch's initial settings and reports what lacks memory."""

    @wraps(method)
    def call(self, *args, **kwargs):
        try:
            with initial_settings():
                return method(self, *args, **kwargs)
        except SystemError as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # Ctrl-C in a function of C
                raise KeyboardInterrupt from error
            raise
        except MemoryError as error:
            if not hasattr(error, "__notes__"):  # by another public method
                error.add_note(_what_saves_memory(method))
            raise
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
            raise MemoryError(
                f"There is not enough memory. {_what_saves_memory(method)} torch says: {reason}"
            ) from error

    return call


def _what_saves_memory(method):
    if method.__name__ in FITS:
        return "Lower batch_size or hidden_layer_sizes, or pass pieces of X to partial_fit."
    return "Pass fewer rows at a time."

"""For doctests and tests alike: figures need no screen and are closed after each test."""

import os
import sys
from importlib.util import find_spec

import pytest

collect_ignore = [] if find_spec("pyarrow") else ["skae/io.py"]  # whose examples need it

os.environ.setdefault("MPLBACKEND", "Agg")


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")

"""Count what a reader visits to follow a fit: methods of the estimator, and changes of file.

For each estimator one small fit runs under a profile hook. Counted are the methods of skae that
are called with the estimator, or a copy of it, as ``self``: how many distinct ones there are,
in how many files, and how often two that follow each other are in different files. What methods
call with other arguments (functions, nets, scalers) can be read on its own; the last two columns
count the functions of ``_fit`` and ``estimators`` as well, which carry out what methods state.

    python tools/fit_path.py            # the counts
    python tools/fit_path.py --names    # and the methods, in the order of their first call
"""

import argparse
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

import skae

PACKAGE = Path(skae.__file__).resolve().parent


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--names", action="store_true", help="list the methods")
    arguments = parser.parse_args()
    print(f"{'':32} {'methods of the estimator':^31} {'and functions':^31}")
    print(f"{'fit':32}" + 2 * f" {'number':>8} {'files':>5} {'changes of file':>16}")
    for name, estimator, X in fits():
        methods, functions = visited(estimator, X)
        print(f"{name:32}{counts(methods)}{counts(functions)}")
        if arguments.names:
            for file, method in dict.fromkeys(methods):
                print(f"    {file}: {method}")


def fits():
    """Small fits of the four estimators."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1100, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(1100, 6))
    gaps = np.where(rng.random((200, 6)) < 0.1, np.nan, rows[:200])
    frame = pd.DataFrame(rows[:200], columns=list("abcdef"))
    settings = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
    yield "AutoencoderTransformer", skae.AutoencoderTransformer(2, **settings), rows
    yield "AutoencoderTransformer, folds", skae.AutoencoderTransformer(2, **settings), rows[:200]
    yield "AutoencoderOutlierDetector", skae.AutoencoderOutlierDetector(**settings), rows
    yield "DenoisingAutoencoder, folds", skae.DenoisingAutoencoder(**settings), gaps
    yield "VAEGenerator", skae.VAEGenerator(2, **settings), frame


def visited(estimator, X):
    """(file, name) of the calls in ``fit``: methods of the estimator, and functions besides."""
    methods, functions = [], []

    def note(frame, event, argument):
        if event != "call":
            return
        code = frame.f_code
        file = Path(code.co_filename)
        if not file.is_relative_to(PACKAGE):
            return
        file = file.relative_to(PACKAGE)
        call = file.as_posix(), code.co_qualname
        is_method = code.co_varnames[:1] == ("self",)
        if is_method and isinstance(frame.f_locals["self"], type(estimator)):
            methods.append(call)
            functions.append(call)
        elif file.parts[0] in ("_fit", "estimators") and code.co_name.isidentifier():
            functions.append(call)

    sys.setprofile(note)
    try:
        estimator.fit(X)
    finally:
        sys.setprofile(None)
    return methods, functions


def counts(calls):
    n_files = len({file for file, _ in calls})
    return f" {len(set(calls)):8} {n_files:5} {changes_of_file(calls):16}"


def changes_of_file(calls):
    """How often a call and the next one are in different files."""
    return sum(a != b for a, b in pairwise(file for file, _ in calls))


if __name__ == "__main__":
    main()

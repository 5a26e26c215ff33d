"""Count the methods that someone who reads a fit has to follow, and the changes of file.

For each estimator, one small fit runs under a profile hook. It counts methods of skae that are
called with the estimator, or a copy of it, as ``self``: the distinct methods, their files, and how
often two consecutive calls are in different files. Anything else that these methods call
(functions, nets, scalers) can be read separately and is not counted.

    python tools/fit_path.py            # the counts
    python tools/fit_path.py --names    # also the methods, in the order of their first call
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
    print(f"{'fit':32} {'methods':>7} {'files':>5} {'changes of file':>15}")
    for name, estimator, X in fits():
        path = calls_in_fit(estimator, X)
        files = [file for file, _ in path]
        n_changes = sum(a != b for a, b in pairwise(files))
        print(f"{name:32} {len(set(path)):7} {len(set(files)):5} {n_changes:15}")
        if arguments.names:
            for file, method in dict.fromkeys(path):
                print(f"    {file}: {method}")


def fits():
    """Yield name, estimator and rows of small fits of the four estimators."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(1100, 3)) @ rng.normal(size=(3, 6)) + 0.1 * rng.normal(size=(1100, 6))
    incomplete = np.where(rng.random((200, 6)) < 0.1, np.nan, rows[:200])
    frame = pd.DataFrame(rows[:200], columns=list("abcdef"))
    settings = {"max_epochs": 2, "random_state": 0, "device": "cpu"}
    yield "AutoencoderTransformer", skae.AutoencoderTransformer(2, **settings), rows
    yield "AutoencoderTransformer, folds", skae.AutoencoderTransformer(2, **settings), rows[:200]
    yield "AutoencoderOutlierDetector", skae.AutoencoderOutlierDetector(**settings), rows
    yield "DenoisingAutoencoder, folds", skae.DenoisingAutoencoder(**settings), incomplete
    yield "VAEGenerator", skae.VAEGenerator(2, **settings), frame


def calls_in_fit(estimator, X):
    """(file, method) of each call of a method of the estimator during ``fit``."""
    path = []

    def record(frame, event, argument):
        if event != "call":
            return
        code = frame.f_code
        file = Path(code.co_filename)
        is_method = code.co_varnames[:1] == ("self",) and file.is_relative_to(PACKAGE)
        if is_method and isinstance(frame.f_locals["self"], type(estimator)):
            path.append((file.relative_to(PACKAGE).as_posix(), code.co_qualname))

    sys.setprofile(record)
    try:
        estimator.fit(X)
    finally:
        sys.setprofile(None)
    return path


if __name__ == "__main__":
    main()

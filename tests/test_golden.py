"""Small fits leave the same bits as when they were recorded: weights, statistics, results.

`golden_fits.json` holds fingerprints by platform, for last bits follow the processor and the
versions of the libraries; where none were recorded, these tests are skipped. A change that is
meant to alter results renews them, and its message gives the reason:

    make golden

What they cannot catch: a result that was wrong when it was recorded; GPUs and their graphs,
bfloat16, callbacks that watch batches, Ctrl-C, memory maps, searches (other tests do); and
anything on platforms without a record. They do not show which of two results is better.
"""

import hashlib
import json
import os
import platform
import re
import sys
import warnings
from contextlib import redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

import skae
from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae.networks import ConvNetwork

RECORDS = Path(__file__).with_name("golden_fits.json")
LIBRARIES = ("numpy", "pandas", "scikit-learn", "scipy", "skorch", "torch")
VERBS = ("transform", "predict", "score_samples", "pvalues", "explain", "correct")


def here():
    """All that last bits are known to depend on."""
    blas = {info.get("architecture") or info["internal_api"] for info in threadpool_info()}
    return ", ".join(
        [
            f"{platform.system()} {platform.machine()} {_processor()}",
            f"{torch.backends.cpu.get_cpu_capability()} {'/'.join(sorted(blas))}",
            f"Python {sys.version_info.major}.{sys.version_info.minor}",
            *(f"{name} {version(name).partition('+')[0]}" for name in LIBRARIES),
        ]
    )


def _processor():
    """Family and model of the processor: names may be those of a virtual machine."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            facts = dict(line.split(":", 1) for line in file if ":" in line)
    except OSError:
        return platform.processor()
    names = ("vendor_id", "cpu family", "model", "CPU implementer", "CPU part")
    found = " ".join(value.strip() for key, value in facts.items() if key.strip() in names)
    return found or platform.processor()


# The rows.

rng = np.random.default_rng(0)


def table(n_rows, n_features, n_factors=3):
    factors = rng.normal(size=(n_rows, n_factors))
    noise = 0.1 * rng.normal(size=(n_rows, n_features))
    return factors @ rng.normal(size=(n_factors, n_features)) + noise


with threadpool_limits(1):  # products of matrices are part of the rows
    SMALL, MEDIUM, WIDE = table(200, 6), table(1100, 6), table(1100, 300, 8)
GAPS = np.where(rng.random(SMALL.shape) < 0.15, np.nan, SMALL)
MARKED = np.nan_to_num(GAPS, nan=-1.0)
UNIT = (SMALL - SMALL.min()) / (SMALL.max() - SMALL.min())
WEIGHT = rng.integers(0, 3, size=200).astype(float)
FRAME = pd.DataFrame(SMALL[:, :3], columns=list("abc")).assign(
    level=np.where(SMALL[:, 3] > 0, "up", "down"),
    day=pd.Timestamp("2026-01-01") + pd.to_timedelta(np.arange(200) % 9, "D"),
    count=np.arange(200) % 5,
)
FRAME.loc[::7, "a"] = np.nan
CLASSES = np.where(SMALL[:, 0] > 0, "p", "q")
SETTINGS = {"max_epochs": 2, "random_state": 0, "device": "cpu"}


def drop_cells(rows, generator):
    return np.where(generator.random(rows.shape) < 0.2, np.nan, rows)


# The fits: name, estimator, rows, and what `fit` takes besides. Rows are asked for again.


def transformer(*args, **params):
    return AutoencoderTransformer(*args, **SETTINGS | params)


def detector(**params):
    return AutoencoderOutlierDetector(**SETTINGS | params)


def denoiser(*args, **params):
    return DenoisingAutoencoder(*args, **SETTINGS | params)


def generator(*args, **params):
    return VAEGenerator(*args, **SETTINGS | params)


FITS = {
    "transformer folds": (transformer(2), SMALL),
    "transformer split": (transformer(2), MEDIUM),
    "transformer rotated": (transformer(4), WIDE),
    "transformer rotated, lines": (transformer(4, verbose=2), WIDE),
    "transformer weights": (transformer(2), SMALL, {"sample_weight": WEIGHT}),
    "transformer share": (transformer(0.8), SMALL),
    "transformer ordered": (transformer(3, ordered=True), MEDIUM),
    "transformer auto, wide": (transformer(), WIDE),
    "transformer random": (transformer(2, init="random"), SMALL),
    "transformer tied, dropout": (transformer(2, tied_weights=True, dropout=0.1), SMALL),
    "transformer penalties": (
        transformer(2, sparsity=0.1, sparsity_penalty="kl", l1=1e-3),
        SMALL,
    ),
    "transformer cross-entropy": (transformer(2, loss="binary_cross_entropy"), UNIT),
    "transformer relu, minmax": (
        transformer(2, output_activation="relu", scaling="minmax"),
        SMALL,
    ),
    "transformer no stopping": (transformer(2, early_stopping=False), MEDIUM),
    "transformer patience": (transformer(2, n_iter_no_change=1, max_epochs=6), MEDIUM),
    "transformer convolution": (transformer(2, network=ConvNetwork((1, 2, 3), (2,))), SMALL),
    "transformer warm": (transformer(2), MEDIUM, {"times": 2}),
    "transformer partial": (transformer(2), SMALL, {"verb": "partial_fit", "times": 2}),
    "detector": (detector(), SMALL),
    "detector gaps": (detector(), GAPS),
    "detector neighbors": (detector(views=("neighbors", "rank_neighbors")), SMALL),
    "detector variational": (detector(variational=True), SMALL),
    "detector share": (detector(n_components=0.7, init="pca", scaling="standard"), SMALL),
    "detector stopping": (detector(early_stopping=True, threshold="std"), SMALL),
    "detector weights": (detector(), SMALL, {"sample_weight": WEIGHT}),
    "detector warm": (detector(), SMALL, {"times": 2}),
    "detector partial": (detector(contamination=0.1), SMALL, {"verb": "partial_fit", "times": 2}),
    "denoiser": (denoiser(), GAPS),
    "denoiser split": (denoiser(), MEDIUM),
    "denoiser random": (denoiser(init="random"), GAPS),
    "denoiser gaussian": (denoiser(noise="gaussian"), SMALL),
    "denoiser swap, gaps": (denoiser(noise="swap"), GAPS),
    "denoiser function": (denoiser(noise=drop_cells), SMALL),
    "denoiser pairs": (denoiser(), SMALL + 0.3, {"X_clean": SMALL}),
    "denoiser pairs, gaps": (denoiser(), GAPS, {"X_clean": SMALL}),
    "denoiser share": (denoiser(0.8, add_indicator=True), GAPS),
    "denoiser wide": (denoiser(), WIDE),
    "denoiser marker": (denoiser(missing_values=-1.0), MARKED),
    "denoiser warm": (denoiser(), GAPS, {"times": 2}),
    "denoiser partial": (denoiser(), GAPS, {"verb": "partial_fit", "times": 2}),
    "generator frame": (generator(2), FRAME),
    "generator numbers": (generator(2), SMALL),
    "generator refined": (generator(2, refine=True), FRAME),
    "generator classes": (generator(2, conditional=True), FRAME, {"y": CLASSES}),
    "generator targets": (generator(2, conditional=True), FRAME, {"y": SMALL[:, 0]}),
    "generator gaussian": (generator(2, likelihood="gaussian"), SMALL),
    "generator bernoulli": (generator(2, likelihood="bernoulli", prior="standard"), UNIT),
    "generator random, share": (generator(0.7, init="random"), FRAME),
    "generator stopping": (generator(2, early_stopping=True), FRAME),
    "generator weights": (generator(2), FRAME, {"sample_weight": WEIGHT}),
    "generator warm": (generator(2), FRAME, {"times": 2}),
    "generator partial": (generator(2), FRAME, {"verb": "partial_fit", "times": 2}),
}


def fitted(estimator, X, arguments):
    arguments = dict(arguments)
    verb, times = arguments.pop("verb", "fit"), arguments.pop("times", 1)
    for _ in range(times):
        with redirect_stdout(StringIO()):
            getattr(estimator, verb)(X, **arguments)
        estimator.set_params(warm_start=True)
    return estimator.set_params(warm_start=False)


# The fingerprints.


def fingerprints(name, folder):
    """Of the file that `save` writes, and of the results of public methods."""
    estimator, X, *more = FITS[name]
    model = fitted(unfitted(estimator), X, *(more or [{}]))
    path = os.path.join(folder, "model.skae")
    skae.save(model, path)
    return [_of_file(Path(path).read_bytes()), _of_answers(model, X)]


def unfitted(estimator):
    return type(estimator)(**estimator.get_params(deep=False))


def _of_file(content):
    """Fingerprint of a saved file, whatever the order of attributes and the versions are.

    The number of rows and whether others are compared with them are not in it: records are
    older. Nor are the seconds of epochs.
    """
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    document = json.loads(header.pop("__metadata__")["skae"])
    later = "n_samples_seen_", "_watches_rows"
    fitted = [pair for pair in document["fitted"] if pair[0] not in later]
    document["fitted"] = sorted(fitted, key=lambda pair: pair[0])
    for epoch in dict(fitted)["net_"]["history"]:
        epoch["items"] = [pair for pair in epoch["items"] if pair[0] != "dur"]
    del document["sha256"], document["versions"]
    document = _without_batches(document)  # of the history; the first records lack them
    digest = hashlib.sha256(json.dumps(document, sort_keys=True).encode())
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        digest.update(name.encode() + data[start:end])
    return digest.hexdigest()[:16]


def _without_batches(node):
    if isinstance(node, dict):
        return {key: _without_batches(value) for key, value in node.items()}
    if isinstance(node, list):
        kept = [it for it in node if not (isinstance(it, list) and it[:1] == ["batches"])]
        return [_without_batches(item) for item in kept]
    return node


def _of_answers(model, X):
    answers = [model.encode(X), model.reconstruction_error(X)]
    answers += [getattr(model, verb)(X) for verb in VERBS if hasattr(model, verb)]
    if hasattr(model, "sample"):
        answers.append(model.sample(20, random_state=0))
    digest = hashlib.sha256()
    for answer in answers:
        if isinstance(answer, pd.DataFrame):
            digest.update(answer.to_csv().encode())
        else:
            digest.update(repr(answer.dtype).encode() + np.ascontiguousarray(answer).tobytes())
    return digest.hexdigest()[:16]


@pytest.fixture(scope="module")
def record():
    """The fingerprints of this platform, on one thread."""
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    if here() not in records:
        pytest.skip(f"no fits were recorded on this platform: {here()}")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield records[here()]
    torch.set_num_threads(n_threads)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FITS)
def test_same_bits_as_recorded(name, record, tmp_path):
    assert fingerprints(name, tmp_path) == record[name]


def test_every_record_is_whole():
    records = json.loads(RECORDS.read_text(encoding="utf-8"))
    assert records
    for record in records.values():
        assert set(record) == set(FITS)
        assert all(re.fullmatch("[0-9a-f]{16}", part) for pair in record.values() for part in pair)


def main():
    """Record the fits of this platform anew; others stay as they are."""
    import tempfile

    records = json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}
    before = records.get(here(), {})
    torch.set_num_threads(1)
    with threadpool_limits(1), tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        records[here()] = {name: fingerprints(name, folder) for name in FITS}
    changed = [name for name, found in records[here()].items() if found != before.get(name)]
    RECORDS.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(f"{here()}\n{len(changed)} of {len(FITS)} changed: {', '.join(changed)}")


if __name__ == "__main__":
    main()

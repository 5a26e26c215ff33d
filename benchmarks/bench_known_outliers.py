"""Known cases of outlier detection: heartbeats, a shoe among digits, a patch of noise.

python benchmarks/bench_known_outliers.py --data DIR
"""

import argparse
from functools import partial
from time import perf_counter

import numpy as np
import torch
from _common import (
    add_data_argument,
    data_folder,
    existing,
    load_images,
    machine_line,
    markdown_table,
    parse_arguments,
    report,
    save_part,
    skippable,
    write_sections,
)
from sklearn.model_selection import train_test_split

from skae import AutoencoderOutlierDetector

STD = {"threshold": "std", "n_std": 1.0}
SMOOTH = {
    "loss": "squared_error",
    "scaling": "global",
    "activation": "silu",
    "max_epochs": 60,
}
IMAGES = {
    "n_estimators": 1,
    "n_components": 64,
    "hidden_layer_sizes": (512, 128),
    "init": "pca",
    "activation": "silu",
    "loss": "squared_error",
    "scaling": "standard",
    "learning_rate": 4e-3,
    "batch_size": 256,
    "max_epochs": 12,
}
SHOES = (5, 7, 9)  # sandals, sneakers, ankle boots
N_SHOES, N_PATCHED, PATCH = 100, 2000, 6


# Heartbeats.


def load_heartbeats(data):
    """The published split, scaled by the training range; only normal beats to train on."""
    with np.load(existing(data_folder(data) / "ecg5000.npz"), allow_pickle=False) as file:
        X, normal = file["X"], file["y"] == 1
    X_train, X_test, normal_train, normal_test = train_test_split(
        X, normal, test_size=0.2, random_state=21
    )
    low, high = X_train.min(), X_train.max()
    X_train, X_test = ((rows - low) / (high - low) for rows in (X_train, X_test))
    return X_train[normal_train], X_test, normal_test


def measure_heartbeats(data, seeds):
    X_train, X_test, normal = load_heartbeats(data)
    rows = [
        {
            "detector": "published: dense autoencoder, mean absolute error, mean + 1 std",
            "accuracy": 0.946,
            "precision": 0.992,
            "recall": 0.911,
        }
    ]
    for params in ({}, STD, STD | SMOOTH, {"views": ("autoencoder",)}):
        measured = []
        for seed in seeds:
            settings = params | {"random_state": seed}
            predicted = AutoencoderOutlierDetector(**settings).fit(X_train).predict(X_test) == 1
            hits = (predicted & normal).sum()
            accuracy = (predicted == normal).mean()
            measured.append([accuracy, hits / predicted.sum(), hits / normal.sum()])
        names = ("accuracy", "precision", "recall")
        means = map(float, np.mean(measured, axis=0).round(3))
        rows.append({"detector": format_params(params) or "default"})
        rows[-1] |= dict(zip(names, means, strict=True))
        report(rows[-1])
    return rows


def format_heartbeats(part):
    return [
        "## ECG5000",
        part["machine"],
        "Split 80/20 with `random_state=21`, scaled by the range of the training rows, trained on "
        "normal beats only. Precision and recall are those of the normal class; means over five "
        "seeds. The published figures are those of TensorFlow's tutorial on autoencoders.",
        markdown_table(part["rows"]),
    ]


# A shoe among digits, and a patch of noise on a digit.


def measure_images(data):
    train, _, test, _ = load_images("mnist", data)
    _, _, clothes, kinds = load_images("fashion_mnist", data)
    train = np.random.default_rng(0).permutation(train)
    shoes = clothes[np.isin(kinds, SHOES)][:N_SHOES]
    original = np.random.default_rng(1).permutation(test)[:N_PATCHED]
    noisy, patched = with_patches(original)
    rows = []
    for params in ({}, IMAGES):
        detector = AutoencoderOutlierDetector(random_state=0, **params)
        start = perf_counter()
        detector.fit(train)
        seconds = perf_counter() - start
        highest = -detector.score_samples(test).min()
        outlying = detector.predict(noisy) == -1
        restored = is_nearer(detector.correct(noisy), noisy, original, patched)
        row = {
            "detector": format_params(params) or "default",
            "fit s": round(seconds, 1),
            "shoes above all 10000 digits": share(-detector.score_samples(shoes) > highest),
            "patch told: nearer": share(restores_known_patch(detector, original)),
            "patched digits that are outliers": share(outlying),
            "of these, patch nearer": share(restored[outlying]),
        }
        rows.append(row)
        report(row)
    return rows


def format_images(part):
    return [
        "## Digits",
        part["machine"],
        f"Trained on the 60000 training digits of MNIST. Each of {N_SHOES} shoes among "
        "Fashion-MNIST's test images is compared with all 10000 test digits. "
        f"{N_PATCHED} test digits have a {PATCH}x{PATCH} patch of uniform noise. *Patch told*: it "
        "is in the middle, and its columns are passed to `correct`; otherwise it is at a random "
        "place, which the detector does not know. *Nearer*: the squared distance of the patch "
        "from the original is smaller after the correction than before.",
        markdown_table(part["rows"]),
    ]


def with_patches(rows):
    """Copies of rows with a square of uniform noise at a random place, and masks of the squares."""
    rng = np.random.default_rng(0)
    patched = np.zeros((len(rows), 28, 28), dtype=bool)
    for mask in patched:
        top, left = rng.integers(0, 28 - PATCH + 1, size=2)
        mask[top : top + PATCH, left : left + PATCH] = True
    patched = patched.reshape(len(rows), -1)
    noisy = rows.copy()
    noisy[patched] = rng.uniform(size=patched.sum())
    return noisy, patched


def restores_known_patch(detector, rows):
    """Whether each row is nearer to the original if `correct` is given the columns of the patch."""
    rng = np.random.default_rng(0)
    patch = np.zeros((28, 28), dtype=bool)
    patch[11 : 11 + PATCH, 11 : 11 + PATCH] = True
    noisy = rows.copy()
    noisy[:, patch.ravel()] = rng.uniform(size=(len(rows), PATCH**2))
    corrected = detector.correct(noisy, columns=np.flatnonzero(patch))
    return is_nearer(corrected, noisy, rows, patch.ravel())


def is_nearer(corrected, noisy, original, patched):
    """Whether the patch of each row is nearer to the original after the correction than before."""
    after, before = (((rows - original) ** 2 * patched).sum(axis=1) for rows in (corrected, noisy))
    return after < before


def share(mask):
    return round(float(np.mean(mask)), 3)


def format_params(params):
    return ", ".join(f"{name}={value!r}" for name, value in params.items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    add_data_argument(parser)
    args = parse_arguments(parser)
    torch.set_num_threads(1)
    seeds = range(1 if args.quick else 5)
    measures = {
        "heartbeats": partial(measure_heartbeats, seeds=seeds),
        "images": measure_images,
    }
    for section, measure in measures.items():
        with skippable(section):
            part = {"machine": machine_line(), "rows": measure(args.data)}
            save_part(f"known_outliers_{section}", part)
    formatters = {"heartbeats": format_heartbeats, "images": format_images}
    write_sections("known_outliers", "# Known cases of outlier detection", formatters)


if __name__ == "__main__":
    main()

"""
============================================
Removing noise and filling in missing values
============================================

:class:`~skae.DenoisingAutoencoder` does two jobs. It removes a given kind of noise: here,
three kinds from scikit-learn's bundled digits. And it imputes missing values, where
``IterativeImputer()`` or ``KNNImputer()`` would be used.

Run it with ``python examples/demo_denoising.py --output demo``.
"""  # noqa: D400

import argparse
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

from skae import DenoisingAutoencoder

N_SHOWN = 10

# %%
# Three kinds of noise
# --------------------
# The first two have a name. The third is a function: ``noise`` accepts any function of the
# rows and a random generator. Pixels hidden by a block must be inferred from the rest of
# the digit.


def add_gaussian(X, rng):
    """Gaussian noise with a standard deviation of a quarter of the range."""
    return X + 0.25 * rng.normal(size=X.shape)


def add_salt_and_pepper(X, rng):
    """A fifth of the pixels black or white."""
    uniform = rng.random(X.shape)
    return np.where(uniform < 0.2, np.where(uniform < 0.1, 0.0, 1.0), X)


def hide_block(X, rng):
    """A gray block of 4x4 pixels at a random place."""
    images = X.reshape(-1, 8, 8).copy()
    top, left = rng.integers(0, 5, size=(2, len(X)))
    for image, i, j in zip(images, top, left, strict=True):
        image[i : i + 4, j : j + 4] = 0.5
    return images.reshape(X.shape)


NOISES = {
    "Gaussian noise": (add_gaussian, {"noise": "gaussian", "noise_level": 0.25}),
    "salt and pepper": (add_salt_and_pepper, {"noise": "salt_and_pepper", "noise_level": 0.2}),
    "a block": (hide_block, {"noise": hide_block}),
}


def clean_digits():
    """Labels and images: noisy and cleaned test digits for each kind of noise."""
    X = load_digits().data / 16
    X_train, X_test = train_test_split(X, random_state=0)
    lines, rows = [("test digits", X_test)], []
    for name, (add_noise, params) in NOISES.items():
        noisy = add_noise(X_test, np.random.default_rng(0))
        model = DenoisingAutoencoder(scaling=None, random_state=0, **params).fit(X_train)
        cleaned = np.clip(model.transform(noisy), 0, 1)
        before, after = (np.square(images - X_test).mean() for images in (noisy, cleaned))
        lines.append((f"{name}\nsquared error {before:.3f}", noisy))
        lines.append((f"cleaned\nsquared error {after:.3f}", cleaned))
        rows.append({"noise": name, "squared error before": before, "after": after})
    print("Digits with noise, mean squared error of test pixels in [0, 1].\n")
    print(pd.DataFrame(rows).set_index("noise").round(4).rename_axis(None).to_string())
    return lines


def draw(lines, path):
    """Draw noisy digits above their cleaned versions."""
    figure, axes = plt.subplots(
        len(lines), N_SHOWN, figsize=(10, 7.4), dpi=150, layout="constrained"
    )
    for line, (label, images) in zip(axes, lines, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("lightgray")
    figure.suptitle("Test digits with three kinds of noise, and cleaned")
    figure.savefig(path)
    print(f"\nwrote {path}\n")


# %%
# A table with missing values
# ---------------------------
# A fifth of the cells are missing, in training and in test rows. Errors are those of the
# missing test cells, whose true values are known here, in standard deviations of the column.


def print_imputers():
    """Error and seconds of each imputer."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    missing = np.random.default_rng(0).random(X.shape) < 0.2
    _, X_test, incomplete_train, incomplete_test = train_test_split(
        X, np.where(missing, np.nan, X), random_state=0
    )
    hidden = np.isnan(incomplete_test)
    imputers = {
        "mean": SimpleImputer(),
        "KNNImputer()": KNNImputer(),
        "IterativeImputer()": IterativeImputer(max_iter=30, random_state=0),
        "DenoisingAutoencoder()": DenoisingAutoencoder(random_state=0),
    }
    rows = []
    for name, imputer in imputers.items():
        start = perf_counter()
        filled = imputer.fit(incomplete_train).transform(incomplete_test)
        seconds = perf_counter() - start
        error = np.sqrt(np.square((filled - X_test)[hidden]).mean())
        rows.append({"imputer": name, "root mean squared error": error, "seconds": seconds})
    print("breast_cancer with a fifth of its cells missing; errors are those of held-out rows.\n")
    print(pd.DataFrame(rows).set_index("imputer").round(3).rename_axis(None).to_string())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the picture")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    draw(clean_digits(), output / "denoised.png")
    print_imputers()
    print(f"{perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()

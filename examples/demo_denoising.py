"""
=================================
Cleaned digits and a filled table
=================================

:class:`~skae.DenoisingAutoencoder` does two jobs. Told which noise to expect, it removes
it: here from scikit-learn's bundled digits, spoilt in three ways. And where
``IterativeImputer()`` or ``KNNImputer()`` stands, it fills the holes of a table.

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
# Three ways to spoil a digit
# ---------------------------
# The first is known by name. The other two are functions: ``noise`` takes any function of
# the rows and a random generator. A hidden block is no single pixel's affair: what was
# there must be told from the rest of the digit.


def blurry(X, rng):
    """Gaussian noise of a quarter of the range."""
    return X + 0.25 * rng.normal(size=X.shape)


def salted(X, rng):
    """A fifth of the pixels black or white."""
    chance = rng.random(X.shape)
    return np.where(chance < 0.2, np.where(chance < 0.1, 0.0, 1.0), X)


def covered(X, rng):
    """A gray block of 4x4 pixels somewhere."""
    images = X.reshape(-1, 8, 8).copy()
    top, left = rng.integers(0, 5, size=(2, len(X)))
    for image, i, j in zip(images, top, left, strict=True):
        image[i : i + 4, j : j + 4] = 0.5
    return images.reshape(X.shape)


NOISES = {
    "Gaussian noise": (blurry, {"noise": "gaussian", "noise_level": 0.25}),
    "salt and pepper": (salted, {"noise": "salt_and_pepper", "noise_level": 0.2}),
    "a block": (covered, {"noise": covered}),
}


def clean_digits():
    """Labels and images: spoilt and cleaned test digits for each noise."""
    X = load_digits().data / 16
    X_train, X_test = train_test_split(X, random_state=0)
    lines, told = [("test digits", X_test)], []
    for name, (spoil, params) in NOISES.items():
        spoilt = spoil(X_test, np.random.default_rng(0))
        model = DenoisingAutoencoder(scaling=None, random_state=0, **params).fit(X_train)
        cleaned = np.clip(model.transform(spoilt), 0, 1)
        errors = [np.square(rows - X_test).mean() for rows in (spoilt, cleaned)]
        lines.append((f"{name}\nsquared error {errors[0]:.3f}", spoilt))
        lines.append((f"cleaned\nsquared error {errors[1]:.3f}", cleaned))
        told.append({"noise": name, "squared error before": errors[0], "after": errors[1]})
    print("Digits with noise, mean squared error of test pixels in [0, 1].\n")
    print(pd.DataFrame(told).set_index("noise").round(4).rename_axis(None).to_string())
    return lines


def draw(lines, path):
    """Draw spoilt digits above their cleaned versions."""
    figure, axes = plt.subplots(
        len(lines), N_SHOWN, figsize=(10, 7.4), dpi=150, layout="constrained"
    )
    for line, (label, images) in zip(axes, lines, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("lightgray")
    figure.suptitle("Test digits, spoilt in three ways and cleaned")
    figure.savefig(path)
    print(f"\nwrote {path}\n")


# %%
# A table with holes
# ------------------
# A fifth of the cells are missing, in rows to learn from and in rows to fill. Errors are on
# cells whose values are known to us only, in standard deviations of the column.


def print_imputers():
    """Error and seconds of each imputer."""
    X = StandardScaler().fit_transform(load_breast_cancer().data)
    missing = np.random.default_rng(0).random(X.shape) < 0.2
    _, X_test, holed_train, holed_test = train_test_split(
        X, np.where(missing, np.nan, X), random_state=0
    )
    hidden = np.isnan(holed_test)
    imputers = {
        "mean": SimpleImputer(),
        "KNNImputer()": KNNImputer(),
        "IterativeImputer()": IterativeImputer(max_iter=30, random_state=0),
        "DenoisingAutoencoder()": DenoisingAutoencoder(random_state=0),
    }
    told = []
    for name, imputer in imputers.items():
        start = perf_counter()
        filled = imputer.fit(holed_train).transform(holed_test)
        seconds = perf_counter() - start
        error = np.sqrt(np.square((filled - X_test)[hidden]).mean())
        told.append({"imputer": name, "root mean squared error": error, "seconds": seconds})
    print("A fifth of breast_cancer's cells missing, filled in rows not seen in fit.\n")
    print(pd.DataFrame(told).set_index("imputer").round(3).rename_axis(None).to_string())


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

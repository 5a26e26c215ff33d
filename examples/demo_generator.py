"""
===============================================
Drawing digits, and rows of a table with levels
===============================================

:class:`~skae.VAEGenerator` learns the distribution of rows. Here it draws digits of each
class and interpolates between digits. Then it draws patients, from a table with numbers,
levels and missing cells that needs no encoding, and reports how much drawn rows differ
from real ones.

Run it with ``python examples/demo_generator.py --output demo``.
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
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import train_test_split

from skae import VAEGenerator

N_SHOWN = 10

# %%
# Digits
# ------
# Pixels are in [0, 1], so the likelihood can be Bernoulli's. With ``conditional=True`` the
# generator learns the distribution of digits given their class, and draws a given class.


def draw_digits(path):
    """Draw a line of new digits for each class, and interpolations between real ones."""
    X, y = load_digits(return_X_y=True)
    X = X / 16
    generator = VAEGenerator(likelihood="bernoulli", conditional=True, random_state=0).fit(X, y)
    drawn = generator.sample(y=np.repeat(np.arange(10), N_SHOWN), random_state=0)
    pairs = [(0, 1), (4, 11), (13, 28)]
    paths = [generator.interpolate(X[a], X[b], N_SHOWN) for a, b in pairs]
    lines = [*np.split(drawn, 10), *paths]
    labels = [*(f"a new {digit}" for digit in range(10))]
    labels += [f"from {y[a]} to {y[b]}" for a, b in pairs]
    figure, axes = plt.subplots(
        len(lines), N_SHOWN, figsize=(8, 9.6), dpi=150, layout="constrained"
    )
    for line, label, images in zip(axes, labels, lines, strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image.reshape(8, 8), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("lightgray")
    figure.suptitle("Digits drawn from each class, and interpolations between real digits")
    figure.savefig(path)
    plt.close(figure)
    print(f"wrote {path}\n")


# %%
# A table of columns of several kinds
# -----------------------------------
# The table has numbers, a column of strings, ordered levels and missing cells. A mixture of
# normal distributions, for comparison, can only be fitted to its numbers.


def patients():
    """Some columns of breast_cancer, as in a table of a hospital."""
    cancer = load_breast_cancer(as_frame=True).frame
    table = cancer[["mean radius", "mean texture", "mean concavity", "worst area"]].round(3)
    table["texture grade"] = pd.qcut(cancer["worst texture"], 3, labels=["low", "mid", "high"])
    table["diagnosis"] = cancer["target"].map({0: "malignant", 1: "benign"})
    table["visits"] = np.random.default_rng(0).poisson(1 + 3 * (cancer["target"] == 0))
    missing = np.random.default_rng(1).random(len(table)) < 0.2
    table["worst area"] = table["worst area"].mask(missing)
    return table


def print_table():
    """Print drawn rows, a mean under a condition, and a comparison of drawn and real rows."""
    train, test = train_test_split(patients(), test_size=0.4, random_state=0)
    generator = VAEGenerator(random_state=0).fit(train)
    print("Six drawn patients:\n")
    print(generator.sample(6, random_state=0).to_string())
    malignant = generator.sample(500, conditions={"diagnosis": "malignant"}, random_state=0)
    real = train[train["diagnosis"] == "malignant"]
    print("\nMean radius of malignant cases: ", end="")
    print(f"real {real['mean radius'].mean():.1f}, drawn {malignant['mean radius'].mean():.1f}")
    print(f"Log-density of held-out rows: {generator.score(test):.1f} nats\n")
    numbers = train.select_dtypes("number").dropna()
    mixture = GaussianMixture(3, random_state=0).fit(numbers)
    reports = {"VAEGenerator": generator.evaluate(test)}
    reports["the same, on numbers"] = (
        VAEGenerator(random_state=0).fit(numbers).evaluate(test[numbers.columns].dropna())
    )
    print(
        "Drawn rows compared with held-out ones (AUROC of trees that separate them: 0.5 is ideal)\n"
    )
    print(pd.DataFrame(reports).round(3).to_string())
    print(
        "\nks: distance between distributions of columns (ks_real: between real rows)."
        "\nrecord_distance_ratio: near 1 if drawn rows are as far from training rows as real ones."
    )
    below = (mixture.sample(1000)[0][:, 2] < 0).mean()
    print(f"\nA GaussianMixture draws a negative concavity in {below:.0%} of the rows.")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the picture")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    draw_digits(output / "generated.png")
    print_table()
    print(f"{perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()

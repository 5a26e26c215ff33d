"""
=========================================
Letters, noise and spots among the digits
=========================================

:class:`~skae.AutoencoderOutlierDetector` can be used wherever
``IsolationForest(contamination=0.05)`` is. This example mixes three kinds of outliers into
scikit-learn's bundled digits, compares both detectors on each kind, and shows what only
one of them provides: the pixels that make an image an outlier, and a corrected image.

Run it with ``python examples/demo_outliers.py --output demo``.
"""  # noqa: D400

import argparse
from pathlib import Path
from string import ascii_uppercase
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from skae import AutoencoderOutlierDetector
from skae.comparison import compare_outlier_detectors

N_OF_A_KIND = 26
INLIER_COLOR, OUTLIER_COLOR = "tab:gray", "tab:red"

# %%
# A table with outliers in it
# ---------------------------
# Letters consist of strokes, like digits. Noise is images whose pixels each come from
# another digit. Spots are digits with 3x3 pixels of noise.


def build_table(seed=0):
    """Rows of 64 pixels in [0, 16], and the kind of each."""
    rng = np.random.default_rng(seed)
    digits = load_digits().data
    letters = np.stack([letter_image(letter) for letter in ascii_uppercase])
    noise = rng.permuted(digits, axis=0)[:N_OF_A_KIND]
    spots = rng.permutation(digits)[:N_OF_A_KIND].reshape(-1, 8, 8)
    for image in spots:
        top, left = rng.integers(0, 6, size=2)
        image[top : top + 3, left : left + 3] = rng.choice([0, 16], size=(3, 3))
    X = np.concatenate([digits, letters, noise, spots.reshape(-1, 64)])
    kinds = np.repeat(["digit", "letter", "noise", "spot"], [len(digits), *3 * [N_OF_A_KIND]])
    return X, kinds


def letter_image(letter):
    canvas = Image.new("L", (64, 64))
    font = ImageFont.load_default(60)
    ImageDraw.Draw(canvas).text((32, 32), letter, fill=255, font=font, anchor="mm")
    small = canvas.resize((8, 8), Image.Resampling.BOX)
    return np.asarray(small, dtype=float).ravel() * 16 / 255


# %%
# Comparison of both detectors
# ----------------------------


def print_tables(X, kinds):
    outlying = kinds != "digit"
    detectors = [
        ("IsolationForest", IsolationForest(random_state=0)),
        ("AutoencoderOutlierDetector", AutoencoderOutlierDetector(random_state=0)),
    ]
    table = compare_outlier_detectors(detectors, X, outlying)
    print(f"{outlying.sum()} outliers and {(~outlying).sum()} digits; fitted without labels,")
    print("evaluated on held-out rows, mean of 3 splits.\n")
    print(table.round(3).rename_axis(None).to_string())

    scores = {name: -detector.fit(X).score_samples(X) for name, detector in detectors}
    by_kind = {
        kind: {name: roc_auc_score(*with_digits(kinds, kind, s)) for name, s in scores.items()}
        for kind in ("letter", "noise", "spot")
    }
    print("\nAUROC for digits and each kind of outlier alone, fitted on all rows:\n")
    print(pd.DataFrame(by_kind).round(3).to_string())


def with_digits(kinds, kind, scores):
    """Labels and scores of the digits and one kind of outlier."""
    rows = (kinds == "digit") | (kinds == kind)
    return kinds[rows] == kind, scores[rows]


# %%
# Explanation and correction
# --------------------------
# ``explain`` divides a row's score among its pixels, and ``correct`` replaces the
# anomalous ones.


def draw(X, kinds, path):
    share = np.mean(kinds != "digit")
    forest = IsolationForest(contamination=share, random_state=0).fit(X)
    detector = AutoencoderOutlierDetector(contamination=share, random_state=0).fit(X)
    figure = plt.figure(figsize=(11, 9), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=[1, 1.9])
    for ax, model in zip(above.subplots(1, 2), (forest, detector), strict=True):
        draw_histogram(ax, model, X, kinds)
    draw_worst(below, detector, X, kinds)
    figure.savefig(path, dpi=150)
    plt.close(figure)
    print(f"\nwrote {path}")


def draw_histogram(ax, model, X, kinds):
    scores, outlying = -model.score_samples(X), kinds != "digit"
    bins = np.linspace(scores.min(), np.quantile(scores, 0.998), 50)
    # Scores beyond the last bin are counted in it.
    shown = [np.minimum(scores[rows], bins[-1]) for rows in (~outlying, outlying)]
    ax.set_yscale("log")
    ax.hist(shown[0], bins, color=INLIER_COLOR, label="digits")
    ax.hist(shown[1], bins, color=OUTLIER_COLOR, alpha=0.8, label="letters, noise, spots")
    ax.axvline(-model.offset_, ymax=0.88, color="black", linestyle="--", label="threshold")
    auroc = roc_auc_score(outlying, scores)
    ax.set(
        xlabel="score: more abnormal to the right",
        ylabel="rows",
        title=f"{type(model).__name__}, AUROC {auroc:.3f}",
    )
    ax.set_ylim(top=20 * ax.get_ylim()[1])
    ax.legend(frameon=False, fontsize=9, ncols=3, loc="upper center")


def draw_worst(figure, detector, X, kinds, n_rows=5):
    worst = np.argsort(detector.score_samples(X))[:n_rows]
    spots = np.flatnonzero((kinds == "spot") & (detector.predict(X) == -1))
    shown = [*worst, *np.setdiff1d(spots, worst)[:3]]
    lines = {
        "row": X[shown],
        "reconstruction": detector.reconstruct(X[shown]),
        "contributions": detector.explain(X[shown]),
        "correction": detector.correct(X[shown]),
    }
    axes = figure.subplots(len(lines), len(shown))
    for line, (label, images) in zip(axes, lines.items(), strict=True):
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", fontsize=11)
        for ax, image in zip(line, images, strict=True):
            look = {"cmap": "gray_r", "vmin": 0, "vmax": 16}
            if label == "contributions":
                look = {"cmap": "Reds", "vmin": 0, "vmax": image.max()}
            ax.imshow(image.reshape(8, 8), **look)
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_color("lightgray")
    for ax, kind in zip(axes[0], kinds[shown], strict=True):
        ax.set_title(kind, fontsize=11)
    figure.suptitle(f"The {n_rows} rows with the highest scores, and the first other spots found")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the picture")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    start = perf_counter()
    X, kinds = build_table()
    print_tables(X, kinds)
    draw(X, kinds, output / "outliers.png")
    print(f"{perf_counter() - start:.0f} s in all")


if __name__ == "__main__":
    main()

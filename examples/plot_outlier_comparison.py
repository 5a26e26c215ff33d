"""
=============================================
Five outlier detectors on six toy sets
=============================================

Which shape does a detector find in the rows? Each picture shows two columns with 15 % of
uniform noise in them, and the line that the detector draws around the rest.
:class:`~skae.AutoencoderOutlierDetector` takes the place of any of the others without a
change to the code around it.

Two columns are the hardest case for an autoencoder: with one latent there is little
to compress. Its default is made for tables of five columns and more, where columns
say something of each other.
"""  # noqa: D400

# %%
# Six sets, five detectors
# ------------------------

import argparse
from pathlib import Path
from time import perf_counter

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import make_blobs, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import LocalOutlierFactor
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector

N_ROWS, SHARE = 300, 0.15
N_OUTLIERS = int(SHARE * N_ROWS)
LIMITS = (-7, 7)

DETECTORS = {
    "EllipticEnvelope": EllipticEnvelope(contamination=SHARE, random_state=0),
    "OneClassSVM": OneClassSVM(nu=SHARE, gamma=0.1),
    "IsolationForest": IsolationForest(contamination=SHARE, random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(n_neighbors=35, contamination=SHARE, novelty=True),
    "AutoencoderOutlierDetector": AutoencoderOutlierDetector(contamination=SHARE, random_state=0),
}


def toy_sets():
    """Inliers by name, each of shape (255, 2)."""
    blobs = {"n_samples": N_ROWS - N_OUTLIERS, "n_features": 2, "random_state": 0}
    rng = np.random.default_rng(0)
    line = rng.uniform(-4, 4, size=(N_ROWS - N_OUTLIERS, 1))
    noise = 0.2 * rng.normal(size=(N_ROWS - N_OUTLIERS, 2))
    return {
        "one blob": make_blobs(centers=[[0, 0]], cluster_std=0.5, **blobs)[0],
        "two blobs": make_blobs(centers=[[2, 2], [-2, -2]], cluster_std=[0.5, 0.5], **blobs)[0],
        "two spreads": make_blobs(centers=[[2, 2], [-2, -2]], cluster_std=[1.5, 0.3], **blobs)[0],
        "moons": 4 * (make_moons(N_ROWS - N_OUTLIERS, noise=0.05, random_state=0)[0] - [0.5, 0.25]),
        "line": np.hstack([line, 0.7 * line]) + noise,
        "parabola": np.hstack([line, 0.5 * line**2 - 3]) + noise,
    }


def draw(path):
    sets = toy_sets()
    outliers = np.random.default_rng(42).uniform(-6, 6, size=(N_OUTLIERS, 2))
    xx, yy = np.meshgrid(np.linspace(*LIMITS, 120), np.linspace(*LIMITS, 120))
    grid = np.c_[xx.ravel(), yy.ravel()]
    AutoencoderOutlierDetector(max_epochs=1).fit(grid)  # the first fit of all loads libraries
    figure, axes = plt.subplots(len(sets), len(DETECTORS), figsize=(12, 14), layout="constrained")
    for line, (set_name, inliers) in zip(axes, sets.items(), strict=True):
        X = np.concatenate([inliers, outliers])
        for ax, detector in zip(line, DETECTORS.values(), strict=True):
            start = perf_counter()
            inlying = detector.fit(X).predict(X) == 1
            seconds = perf_counter() - start
            decisions = detector.decision_function(grid).reshape(xx.shape)
            ax.contour(xx, yy, decisions, levels=[0], linewidths=2, colors="black")
            ax.scatter(*X[inlying].T, s=8, color="tab:blue")
            ax.scatter(*X[~inlying].T, s=8, color="tab:orange")
            ax.text(0.98, 0.02, f"{seconds:.2f} s", transform=ax.transAxes, ha="right")
            ax.set(xlim=LIMITS, ylim=LIMITS, xticks=[], yticks=[])
        line[0].set_ylabel(set_name)
    for ax, name in zip(axes[0], DETECTORS, strict=True):
        ax.set_title(name, fontsize=10)
    figure.suptitle(
        "Rows taken for inliers (blue) and outliers (orange), the line between, seconds to fit"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the picture")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    draw(output / "outlier_comparison.png")


if __name__ == "__main__":
    main()

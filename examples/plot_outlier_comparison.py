"""
============================
Outlier detectors compared
============================

Which rows does a detector consider outliers, and does an autoencoder choose better? This example
draws the decision boundaries of five detectors on six toy data sets with two columns, and then
evaluates three detectors on real tables in which one class is rare.

With two columns, :class:`~skae.AutoencoderOutlierDetector` is about as accurate as the best of the
others, but its boundary is ragged, as it compares rows with single other rows. On tables of 13 and
30 columns it is better than :class:`~sklearn.ensemble.IsolationForest` once, about as good twice
and worse once; no detector is best on all.
"""  # noqa: D400

# %%
# Six toy data sets
# -----------------
# Each has 255 rows in some shape and 45 rows of uniform noise. All detectors are given the share of
# outliers and nothing else.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.covariance import EllipticEnvelope
from sklearn.datasets import load_breast_cancer, load_wine, make_blobs, make_moons
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import LocalOutlierFactor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from skae import AutoencoderOutlierDetector
from skae.plotting import OutlierScoreDisplay

N_ROWS, SHARE = 300, 0.15
N_OUTLIERS = int(SHARE * N_ROWS)
LIMITS = (-7, 7)

rng = np.random.default_rng(0)
blobs = {"n_samples": N_ROWS - N_OUTLIERS, "n_features": 2, "random_state": 0}
line = rng.uniform(-4, 4, size=(N_ROWS - N_OUTLIERS, 1))
noise = 0.2 * rng.normal(size=(N_ROWS - N_OUTLIERS, 2))
toy_sets = {
    "one blob": make_blobs(centers=[[0, 0]], cluster_std=0.5, **blobs)[0],
    "two blobs": make_blobs(centers=[[2, 2], [-2, -2]], cluster_std=[0.5, 0.5], **blobs)[0],
    "two spreads": make_blobs(centers=[[2, 2], [-2, -2]], cluster_std=[1.5, 0.3], **blobs)[0],
    "moons": 4 * (make_moons(N_ROWS - N_OUTLIERS, noise=0.05, random_state=0)[0] - [0.5, 0.25]),
    "line": np.hstack([line, 0.7 * line]) + noise,
    "parabola": np.hstack([line, 0.5 * line**2 - 3]) + noise,
}
uniform = np.random.default_rng(42).uniform(-6, 6, size=(N_OUTLIERS, 2))

detectors = {
    "EllipticEnvelope": EllipticEnvelope(contamination=SHARE, random_state=0),
    "OneClassSVM": OneClassSVM(nu=SHARE, gamma=0.1),
    "IsolationForest": IsolationForest(contamination=SHARE, random_state=0),
    "LocalOutlierFactor": LocalOutlierFactor(n_neighbors=35, contamination=SHARE, novelty=True),
    "AutoencoderOutlierDetector": AutoencoderOutlierDetector(contamination=SHARE, random_state=0),
}

# %%
# Predicted inliers are blue, outliers orange; the line is the decision boundary. In the corner: the
# accuracy, and the seconds to fit.

xx, yy = np.meshgrid(np.linspace(*LIMITS, 80), np.linspace(*LIMITS, 80))
grid = np.column_stack([xx.ravel(), yy.ravel()])
AutoencoderOutlierDetector(max_epochs=1).fit(grid)  # the first fit of all loads libraries
figure, axes = plt.subplots(
    len(toy_sets), len(detectors), figsize=(11, 13), sharex=True, sharey=True, layout="constrained"
)
for panes, (set_name, inliers) in zip(axes, toy_sets.items(), strict=True):
    X = np.concatenate([inliers, uniform])
    for ax, detector in zip(panes, detectors.values(), strict=True):
        start = perf_counter()
        inlying = detector.fit(X).predict(X) == 1
        seconds = perf_counter() - start
        decisions = detector.decision_function(grid).reshape(xx.shape)
        ax.contour(xx, yy, decisions, levels=[0], linewidths=2, colors="black")
        ax.scatter(*X[inlying].T, s=8, color="tab:blue")
        ax.scatter(*X[~inlying].T, s=8, color="tab:orange")
        right = np.mean(inlying == (np.arange(N_ROWS) < len(inliers)))
        label = f"{right:.2f}, {seconds:.2f} s"
        box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1}
        ax.text(0.98, 0.02, label, transform=ax.transAxes, ha="right", bbox=box)
        ax.set(xlim=LIMITS, ylim=LIMITS, xticks=[], yticks=[])
    panes[0].set_ylabel(set_name)
for ax, name in zip(axes[0], detectors, strict=True):
    ax.set_title(name, fontsize=10)
plt.show()

# %%
# Real tables
# -----------
# All rows of the other classes and a few of one class, which is then rare: 20 malignant tumours
# among 357 benign ones (30 columns), or 6 wines of one cultivar among those of the other two (13
# columns). Detectors run with their defaults and without labels, which serve only to compute the
# AUROC, the probability that a rare row scores worse than another. Means over three draws of the
# rare rows.


def with_rare(X, y, rare, n_rare, seed):
    """Rows of the other classes and a few of a rare one, and which these are."""
    few = np.random.default_rng(seed).choice(np.flatnonzero(y == rare), n_rare, replace=False)
    kept = np.concatenate([np.flatnonzero(y != rare), few])
    return X[kept], y[kept] == rare


cancer, wine = load_breast_cancer(return_X_y=True), load_wine(return_X_y=True)
tables = {"breast_cancer, malignant rare": (*cancer, 0, 20)}
tables |= {f"wine, cultivar {k} rare": (*wine, k, 6) for k in range(3)}

lines = {}
for name, table in tables.items():
    aurocs = []
    for seed in range(3):
        X, is_rare = with_rare(*table, seed)
        compared = {
            "IsolationForest": IsolationForest(random_state=seed),
            "LocalOutlierFactor, scaled": make_pipeline(
                StandardScaler(), LocalOutlierFactor(novelty=True)
            ),
            "AutoencoderOutlierDetector": AutoencoderOutlierDetector(random_state=seed),
        }
        scores = {k: -detector.fit(X).score_samples(X) for k, detector in compared.items()}
        aurocs.append({k: roc_auc_score(is_rare, score) for k, score in scores.items()})
    lines[name] = pd.DataFrame(aurocs).mean()
print(pd.DataFrame(lines).T.round(3).to_string())

# %%
# With so few rare rows, differences of a few hundredths mean little. The benchmark on tables that
# chose none of the defaults (``benchmarks/results/outliers.md``) is more informative.
#
# Scores and the threshold
# ------------------------
# By default the threshold is the score that 95.4 % of ordinary rows do not exceed. A good ranking
# of the rows does not imply a good threshold: most malignant tumours score worse than most benign
# ones, but only some of them exceed it. If outliers are known to be more frequent, set
# ``contamination``.

X, is_rare = with_rare(*cancer, 0, 20, seed=0)
detector = AutoencoderOutlierDetector(random_state=0).fit(X)
kinds = np.where(is_rare, "malignant", "benign")
display = OutlierScoreDisplay.from_estimator(detector, X, kinds)
display.ax_.set_yscale("log")
plt.show()

outlying = detector.predict(X) == -1
print(f"Beyond the threshold: {outlying[is_rare].sum()} of {is_rare.sum()} malignant, ", end="")
print(f"{outlying[~is_rare].sum()} of {(~is_rare).sum()} benign")

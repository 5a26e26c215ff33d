"""
=======================================
More rows of a rare class
=======================================

Where one class has few rows, classifiers are often fed with more of them: copies, or rows
drawn from a generator that learned the rows given their class. This script measures
what that is worth: gradient boosting and nearest neighbours, trained on digits of which
one kind is rare, tested on all.

Copies and weights can say no more than the few rows did. Drawn rows bring along what
the other classes taught the generator of how digits vary; whether that helps depends on the
classifier, so measure it on yours.
"""  # noqa: D400

# %%
# A rare class, four ways to treat it
# -----------------------------------

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import VAEGenerator

RARE, N_RARE, N_SPLITS = 8, 12, 5

CLASSIFIERS = {
    "gradient boosting": lambda seed: HistGradientBoostingClassifier(
        max_iter=30, random_state=seed
    ),
    "15 nearest neighbours": lambda seed: KNeighborsClassifier(15),
    "logistic regression": lambda seed: LogisticRegression(max_iter=1000),
}


def rare_split(seed):
    """Training rows with few of the rare class, and test rows as they come."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.5, stratify=y, random_state=seed
    )
    kept = np.r_[np.flatnonzero(y_train != RARE), np.flatnonzero(y_train == RARE)[:N_RARE]]
    return X_train[kept], X_test, y_train[kept], y_test


def with_copies(X, y, n, seed):
    chosen = np.random.default_rng(seed).choice(np.flatnonzero(y == RARE), n)
    return np.r_[X, X[chosen]], np.r_[y, y[chosen]]


def with_drawn(X, y, n, seed):
    generator = VAEGenerator(likelihood="bernoulli", conditional=True, random_state=seed)
    drawn = generator.fit(X, y).sample(n, y=RARE, random_state=seed)
    return np.r_[X, drawn], np.r_[y, np.full(n, RARE)]


TREATMENTS = {
    "as they are": lambda X, y, n, seed: (X, y),
    "with copies": with_copies,
    "with drawn rows": with_drawn,
}


def measure():
    """F1 of the rare class by treatment and classifier, of shape (3, 3, n_splits)."""
    scores = np.empty((len(TREATMENTS), len(CLASSIFIERS), N_SPLITS))
    for seed in range(N_SPLITS):
        X_train, X_test, y_train, y_test = rare_split(seed)
        n_missing = int((y_train != RARE).sum() / 9) - N_RARE
        for i, treat in enumerate(TREATMENTS.values()):
            X, y = treat(X_train, y_train, n_missing, seed)
            for j, make in enumerate(CLASSIFIERS.values()):
                told = make(seed).fit(X, y).predict(X_test)
                scores[i, j, seed] = f1_score(y_test == RARE, told == RARE)
    return scores


def draw(scores, path):
    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    places = np.arange(len(CLASSIFIERS))
    for i, name in enumerate(TREATMENTS):
        means, errors = scores[i].mean(axis=1), scores[i].std(axis=1) / np.sqrt(N_SPLITS)
        bars = ax.bar(places + 0.27 * (i - 1), means, 0.25, yerr=errors, label=name)
        ax.bar_label(bars, fmt="%.2f", padding=2)
    ax.set(
        xticks=places,
        xticklabels=list(CLASSIFIERS),
        ylim=(0, 1.15),
        ylabel=f"F1 of the rare {RARE} on test rows",
        title=f"{N_RARE} training rows of the digit {RARE}, about 90 of every other digit\n"
        f"(means of {N_SPLITS} splits, bars: standard error)",
    )
    ax.legend(loc="upper center", ncols=3)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder for the picture")
    output = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    scores = measure()
    for name, line in zip(TREATMENTS, scores.mean(axis=2), strict=True):
        told = ", ".join(f"{c} {s:.3f}" for c, s in zip(CLASSIFIERS, line, strict=True))
        print(f"{name}: {told}")
    draw(scores, output / "oversampling.png")


if __name__ == "__main__":
    main()

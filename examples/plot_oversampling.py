"""
=========================
More rows of a rare class
=========================

If one class has few rows, does it help to draw more of them? Classifiers are often trained with
copies of rare rows, or with rows from a generator that has learned the distribution of each class.
This example measures the effect of both on three classifiers, on digits of which one class is rare.

Here both help, and drawn rows no less than copies. How much depends on the classifier: nearest
neighbours gain most, because otherwise they seldom see the rare class; the gain of gradient
boosting is hardly larger than chance. So measure it on your classifier, and try copies first,
which cost nothing.
"""  # noqa: D400

# %%
# A rare digit
# ------------
# The training rows contain twelve eights and about ninety of every other digit; the test rows are
# left as they are.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import VAEGenerator
from skae.plotting import SampleGridDisplay

RARE, N_RARE, N_SPLITS = 8, 12, 3


def rare_split(seed):
    """Training rows with few of the rare class, and test rows as they come."""
    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, y_test = train_test_split(
        X / 16, y, test_size=0.5, stratify=y, random_state=seed
    )
    kept = np.r_[np.flatnonzero(y_train != RARE), np.flatnonzero(y_train == RARE)[:N_RARE]]
    return X_train[kept], X_test, y_train[kept], y_test


# %%
# Copies and drawn rows
# ---------------------
# The generator learns all classes jointly, so that the rare one profits from how strokes vary in
# the others. Drawn eights next to the real ones that it has seen:


def copies(X, y, n_rows, seed):
    """Rows of the rare class, some of them several times."""
    return X[np.random.default_rng(seed).choice(np.flatnonzero(y == RARE), n_rows)]


def drawn(X, y, n_rows, seed):
    """New rows of the rare class."""
    generator = VAEGenerator(likelihood="bernoulli", conditional=True, random_state=seed)
    return generator.fit(X, y).sample(n_rows, y=RARE, random_state=seed)


X_train, _, y_train, _ = rare_split(0)
SampleGridDisplay.from_predictions(
    drawn(X_train, y_train, N_RARE, seed=0),
    X_train[y_train == RARE],
    image_shape=(8, 8),
    cmap="gray_r",
)
plt.show()

# %%
# Effect on classifiers
# ---------------------
# Each classifier is trained on the rows as they are, with copies and with drawn rows, as many as
# make the rare class as frequent as the others. The measure is the F1 score of the rare class on
# test rows, over three splits.

CLASSIFIERS = {
    "gradient boosting": HistGradientBoostingClassifier(max_iter=30, random_state=0),
    "15 nearest neighbours": KNeighborsClassifier(15),
    "logistic regression": LogisticRegression(max_iter=1000),
}
ADDED = {"as they are": None, "with copies": copies, "with drawn rows": drawn}

lines = []
for seed in range(N_SPLITS):
    X_train, X_test, y_train, y_test = rare_split(seed)
    n_missing = int((y_train != RARE).sum() / 9) - N_RARE
    for treatment, more in ADDED.items():
        X, y = X_train, y_train
        if more is not None:
            X = np.concatenate([X_train, more(X_train, y_train, n_missing, seed)])
            y = np.concatenate([y_train, np.full(n_missing, RARE)])
        for name, classifier in CLASSIFIERS.items():
            predicted = classifier.fit(X, y).predict(X_test)
            f1 = f1_score(y_test == RARE, predicted == RARE)
            lines.append({"classifier": name, "rows": treatment, "f1": f1})

f1_scores = pd.DataFrame(lines).groupby(["classifier", "rows"], sort=False)["f1"]
means, errors = f1_scores.mean().unstack(), f1_scores.sem().unstack()
print(means.round(3).to_string())

# %%
# The same as a plot, with standard errors.

ax = means.plot.bar(yerr=errors, rot=0, width=0.8, figsize=(8, 4), color=["C7", "C1", "C0"])
for bars in ax.containers:
    if hasattr(bars, "datavalues"):
        ax.bar_label(bars, fmt="%.2f", padding=6, fontsize="small")
ax.set(ylim=(0, 1.2), xlabel="", ylabel=f"F1 of the rare {RARE} on test rows")
ax.spines[["top", "right"]].set_visible(False)
ax.legend(frameon=False, ncols=3, loc="upper center")
plt.show()

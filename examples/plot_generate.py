"""
===========================
Rows that never were
===========================

How real are rows that a generator makes up? :class:`~skae.VAEGenerator` learns how rows are
distributed and draws new ones. This example draws digits, and patients in a table of
numbers, counts, strings and gaps, and lets a classifier try to tell them from
real rows that the generator has not seen.

Quite real, but not wholly. Drawn digits can be read, even a little too well: they are more typical
than real ones. Drawn patients keep types, gaps, whole numbers and most of what columns say of
each other, and none is a copy. Trees tell them from real ones with an AUROC of about two thirds
(0.5 would be ideal); where each column is drawn by itself, with about 0.9.
"""  # noqa: D400

# %%
# Digits
# ------
# Pixels in [0, 1] are shares of ink: ``likelihood="bernoulli"``. With ``conditional=True`` the
# digits are learned given their class, which ``sample`` then takes.

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict, train_test_split
from sklearn.neighbors import KNeighborsClassifier

from skae import VAEGenerator
from skae.plotting import SampleGridDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, stratify=y, random_state=0)
digits = VAEGenerator(likelihood="bernoulli", conditional=True, random_state=0)
digits.fit(X_train, y_train)

SampleGridDisplay.from_estimator(
    digits, X_test, n_samples=64, image_shape=(8, 8), random_state=0, cmap="gray_r"
)
plt.show()

# %%
# Can they be read? Five nearest neighbours that learned from real digits read test digits,
# and ones drawn for a given class.

reader = KNeighborsClassifier(5).fit(X_train, y_train)
wanted = np.repeat(np.arange(10), 45)
drawn = digits.sample(y=wanted, random_state=0)
print(f"Read as what they are: real {reader.score(X_test, y_test):.3f}, ", end="")
print(f"drawn {reader.score(drawn, wanted):.3f}")

# %%
# A table of all sorts
# --------------------
# Some columns of breast_cancer as a hospital might keep them: numbers, a count, two columns of
# strings, and a number that one patient in five lacks.

cancer = load_breast_cancer(as_frame=True).frame
rng = np.random.default_rng(0)
patients = cancer[["mean radius", "mean texture", "mean concavity", "worst area"]].round(3)
patients["grade"] = pd.cut(cancer["worst texture"], [0, 22, 28, 99], labels=["low", "mid", "high"])
patients["diagnosis"] = cancer["target"].map({0: "malignant", 1: "benign"})
patients["visits"] = rng.poisson(1 + 3 * (cancer["target"] == 0))
patients["worst area"] = patients["worst area"].mask(rng.random(len(patients)) < 0.2)

train, test = train_test_split(patients, test_size=0.4, random_state=0)
generator = VAEGenerator(random_state=0).fit(train)
print(generator.sample(6, random_state=0).to_string())

# %%
# The columns of a thousand drawn patients and those of patients the generator has not seen. A
# missing cell is drawn as often as it was met.

SampleGridDisplay.from_estimator(generator, test, random_state=0)
plt.show()

# %%
# What columns say of each other counts as much as the columns themselves:

drawn = generator.sample(len(test), random_state=0)
figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharex=True, sharey=True, layout="constrained")
for ax, (name, table) in zip(axes, {"real": test, "drawn": drawn}.items(), strict=True):
    for diagnosis, color in {"benign": "tab:blue", "malignant": "tab:orange"}.items():
        some = table[table["diagnosis"] == diagnosis]
        ax.scatter(some["mean radius"], some["worst area"], s=9, color=color, label=diagnosis)
    ax.set(title=name, xlabel="mean radius")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_ylabel("worst area")
axes[0].legend(frameon=False)
plt.show()

# %%
# The drawn cloud follows the real one, a little blurred where benign patients lie close to a line.
#
# A report
# --------
# ``evaluate`` draws as many rows as it is given and compares them.

report = generator.evaluate(test)
print(f"AUROC of trees that tell drawn from real rows (0.5 is ideal): {report.auroc:.2f}")
print(f"Distance of columns' distributions: {report.ks:.3f} (real from real: {report.ks_real:.3f})")
print(f"Distance to the closest training row, over real rows': {report.record_distance_ratio:.2f}")
print(f"Copies of training rows, beyond those among real rows: {report.excess_copies:.2f}")

# %%
# Is that good? For scale, the same trees look at training rows with each column shuffled by
# itself: all columns are right then, and nothing between them. Test rows against training rows
# show what chance does.


def told_apart(a, b):
    """AUROC of gradient-boosted trees that tell two tables apart, cross-validated."""
    levels = {"grade": "category", "diagnosis": "category"}
    both = pd.concat([a, b], ignore_index=True).astype(levels)
    is_b = np.arange(len(both)) >= len(a)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    trees = HistGradientBoostingClassifier(random_state=0)
    scores = cross_val_predict(trees, both, is_b, cv=folds, method="predict_proba")[:, 1]
    return roc_auc_score(is_b, scores)


few = train.sample(len(test), random_state=0)
shuffled = few.apply(lambda column: rng.permutation(column))
for name, table in {"drawn": drawn, "shuffled": shuffled, "other real": few}.items():
    print(f"AUROC, {name} rows against real ones: {told_apart(table, test):.2f}")

# %%
# A few hundred training rows are few for a generator; with thousands the difference gets smaller.

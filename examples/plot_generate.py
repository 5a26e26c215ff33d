"""
===================
Generating new rows
===================

How realistic are the rows of a generator? :class:`~skae.VAEGenerator` learns the distribution of
rows and draws new ones from it. This example draws digits, and patients from a table with numbers,
counts, strings and missing cells. Then a classifier tries to distinguish them from real rows that
the generator has not seen.

Realistic, but not perfectly so. Drawn digits are legible, even slightly too much: they are more
typical than real ones. Drawn patients keep types, missing cells, integers and most of the
dependence between columns, and none is a copy. Trees distinguish them from real ones with an AUROC
of about two thirds (0.5 would be ideal), and with about 0.9 if columns are drawn independently.
"""  # noqa: D400

# %%
# Digits
# ------
# ``likelihood="bernoulli"`` suits pixels in [0, 1]. With ``conditional=True`` the distribution of
# each class is learned, and ``sample`` accepts classes.

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
# Are they legible? A nearest-neighbours classifier fitted to real digits predicts the class of test
# digits and of digits drawn for a given class.

reader = KNeighborsClassifier(5).fit(X_train, y_train)
wanted = np.repeat(np.arange(10), 45)
drawn = digits.sample(y=wanted, random_state=0)
print(f"Classified correctly: real {reader.score(X_test, y_test):.3f}, ", end="")
print(f"drawn {reader.score(drawn, wanted):.3f}")

# %%
# A table with columns of several types
# -------------------------------------
# Some columns of breast_cancer as a hospital might record them: numbers, a count, two columns of
# strings, and a number that is missing for one patient in five.

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
# The columns of a thousand drawn patients, and those of patients that the generator has not seen.
# Cells are missing as often as in the training rows.

SampleGridDisplay.from_estimator(generator, test, random_state=0)
plt.show()

# %%
# The dependence between columns is as important as the columns themselves:

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
# The drawn cloud has the shape of the real one, slightly blurred where benign patients lie close to
# a line.
#
# A report
# --------
# ``evaluate`` draws as many rows as it is given and compares them.

report = generator.evaluate(test)
print(f"AUROC of trees, drawn against real rows (0.5 is ideal): {report.auroc:.2f}")
print(f"Distance of column distributions: {report.ks:.3f} (real rows: {report.ks_real:.3f})")
print(f"Distance to the closest training row, over real rows': {report.record_distance_ratio:.2f}")
print(f"Copies of training rows, in excess of those among real rows: {report.excess_copies:.2f}")

# %%
# Is that good? For comparison, trees are also given training rows in which each column was shuffled
# independently: the columns are right, but there is no dependence between them. Training rows as
# they are, against test rows, show the effect of chance.


def auroc_between(a, b):
    """AUROC of gradient-boosted trees that classify rows by table, cross-validated."""
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
    print(f"AUROC, {name} rows against real ones: {auroc_between(table, test):.2f}")

# %%
# A few hundred training rows are few for a generator; with thousands, the difference gets smaller.

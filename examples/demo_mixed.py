"""
=======================================
One table of loans, and all estimators
=======================================

Strings, categories, flags, dates and missing cells need no encoding. The four estimators are
fitted to one table of loans, which is made up, as none with all of these comes with
scikit-learn.

Run it with ``python examples/demo_mixed.py``.
"""  # noqa: D400

import argparse

import numpy as np
import pandas as pd
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
    latent_size_curve,
)

STATES = {"Kiel": "north", "Bremen": "north", "Leipzig": "east", "Dresden": "east", "Ulm": "south"}

# %%
# The table
# ---------


def loans(n_rows, seed):
    """Loans, with an income of the joint applicant where there is one."""
    rng = np.random.default_rng(seed)
    wealth = rng.normal(size=n_rows)
    city = rng.choice(list(STATES), n_rows, p=[0.2, 0.3, 0.2, 0.1, 0.2])
    is_joint = rng.random(n_rows) < 0.3
    income = pd.Series(np.exp(10.3 + 0.4 * wealth + 0.2 * rng.normal(size=n_rows))).round(-2)
    amount = (income * np.exp(rng.normal(0.5, 0.5, n_rows))).round(-2)
    paid = (amount * rng.uniform(size=n_rows)).round(2)
    applied = pd.Timestamp("2026-01-05") + pd.to_timedelta(rng.integers(0, 300, n_rows), "D")
    grade = np.digitize(wealth + 0.4 * rng.normal(size=n_rows), [-1, 0, 1])
    return pd.DataFrame(
        {
            "city": city,
            "state": [STATES[name] for name in city],
            "purpose": np.where(amount > 60_000, "house", rng.choice(["car", "other"], n_rows)),
            "grade": pd.Categorical.from_codes(grade, list("DCBA")),
            "income": income,
            "is_joint": is_joint,
            "joint_income": (income * rng.uniform(0.3, 1, n_rows)).round(-2).where(is_joint),
            "amount": amount,
            "paid": paid,
            "balance": (amount - paid).round(2),
            "applied": applied,
            "decided": applied + pd.to_timedelta(rng.integers(1, 30, n_rows), "D"),
        }
    )


# %%
# Few numbers for each row
# ------------------------
# The start is factor analysis of mixed data; shares of variances and Gini impurities of held-out
# rows that both explain.


def compress(table):
    curve = latent_size_curve(AutoencoderTransformer(random_state=0), table, [2, 4, 6], cv=3)
    curve = curve.rename(columns={"pca": "factor analysis", "explained": "autoencoder"})
    print("Share explained of held-out loans, by the number of latents:\n")
    print(curve[["factor analysis", "autoencoder"]].round(3).to_string())


# %%
# Missing cells
# -------------
# A tenth of the grades, incomes and purposes are hidden, filled, and compared with what they were.


def fill(table):
    hidden = np.random.default_rng(0).random(table.shape) < 0.1
    filled = DenoisingAutoencoder(random_state=0).fit_transform(table.mask(hidden))
    usual = table.mask(hidden).mode().iloc[0]
    print("\nHidden cells, filled:\n")
    for name in ("purpose", "grade"):
        was = table.loc[hidden[:, table.columns.get_loc(name)], name]
        accuracy, by_mode = (filled[name][was.index] == was).mean(), (usual[name] == was).mean()
        print(
            f"{name:8} right in {accuracy:.0%}; the most frequent level is right in {by_mode:.0%}"
        )


# %%
# Rows that do not go with the others
# -----------------------------------
# In twenty loans, four cells are those of another loan. Each of them is usual by itself.


def detect(table):
    rng = np.random.default_rng(0)
    mixed_up = rng.choice(len(table), 20, replace=False)
    others = rng.permutation(len(table))
    mixed = table.copy()
    for row in mixed_up:
        names = rng.choice(table.columns, 4, replace=False)
        mixed.loc[row, names] = table.loc[others[row], names]
    is_mixed_up = mixed.index.isin(mixed_up)
    detector = AutoencoderOutlierDetector(contamination=0.02, random_state=0).fit(mixed)
    days = mixed[["applied", "decided"]].astype("int64")
    encoded = pd.get_dummies(mixed.assign(**days), dtype=float).fillna(0)
    forest = IsolationForest(random_state=0).fit(encoded)
    print("\nTwenty loans of mixed-up cells, area under the curve:\n")
    for name, scores in [
        ("IsolationForest on one-hot levels", forest.score_samples(encoded)),
        ("AutoencoderOutlierDetector", detector.score_samples(mixed)),
    ]:
        print(f"{name:33} {roc_auc_score(is_mixed_up, -scores):.3f}")
    oddest = mixed.loc[mixed_up].iloc[[detector.score_samples(mixed.loc[mixed_up]).argmin()]]
    parts = detector.explain(oddest).iloc[0].nlargest(4)
    columns = {"was": table.loc[oddest.index[0]], "is": oddest.iloc[0]}
    columns |= {"contribution": parts.round(2), "corrected": detector.correct(oddest).iloc[0]}
    print("\nThe oddest of them:\n")
    print(pd.DataFrame(columns).loc[parts.index].to_string())


# %%
# New rows
# --------


def generate(table):
    generator = VAEGenerator(random_state=0).fit(table)
    drawn = generator.sample(len(table), random_state=0)
    print("\nRelations that hold in all loans, and in all that are drawn:\n")
    print(*generator.relations_, sep="\n")
    print("\nThree loans that nobody applied for:\n")
    print(drawn.head(3).T.to_string(header=False))
    assert (drawn["city"].map(STATES) == drawn["state"]).all()
    assert (drawn["decided"] >= drawn["applied"]).all()


def main():
    argparse.ArgumentParser(description=__doc__).parse_args()
    table = loans(1000, seed=0)
    print(table.head(3).T.to_string(header=False), "\n")
    compress(table)
    fill(table)
    detect(table)
    generate(table)


if __name__ == "__main__":
    main()

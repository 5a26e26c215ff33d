"""Mixed tables drawn by VAEGenerator: the protocol of published work, and impossible rows.

A generator is fitted on 80 % of the rows and draws as many. XGBoost (scikit-learn's histogram
boosting where that is not installed), in three folds, tells drawn from *training* rows. Boosted
trees are trained on drawn and on real training rows and tested on the other 20 %. The tables of
packages chose no default of the generator; adult and default were looked at while trees that draw
cells were made.
"""

from time import process_time

import numpy as np
import pandas as pd
from _common import machine_line, markdown_table, report, save_part, short_training, skippable
from bench_mixed import Table, load
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from skae import VAEGenerator

TABLES = (
    Table("adult", "income"),
    Table("default", "default payment next month"),
    Table("AER/CollegeDistance", "education", True),
    Table("AER/DoctorVisits", "visits", True),
    Table("AER/HMDA", "deny"),
    Table("carData/Chile", "vote"),
    Table("Ecdat/Computers", "price", True),
    Table("Ecdat/Kakadu", "answer"),
    Table("ISLR/Wage", "wage", True, ("logwage",)),
)
MODELS = {
    "VAEGenerator": {},
    "refine=False": {"refine": False},
    "private_values=True": {"private_values": True},
}
PUBLISHED = (
    "Published, with XGBoost, on adult and default (splits and settings are theirs): TabDiff 0.580 "
    "and 0.704 (hours on a GPU), TabPC 0.572 and 0.869, TabSyn 0.603 and 0.799, TVAE 1.00 and "
    "0.999."
)
N_FOLDS, SHARE_TRAINED = 3, 0.8


def detector(seed):
    """The classifier of drawn and real rows, and its name."""
    try:
        from xgboost import XGBClassifier
    except ImportError:
        return HistGradientBoostingClassifier(
            categorical_features="from_dtype", random_state=seed
        ), "histogram boosting"
    return XGBClassifier(enable_categorical=True, n_jobs=1, random_state=seed), "XGBoost"


def detection_auroc(drawn, real, seed=0):
    """AUROC of a detector of drawn rows, over all folds together."""
    X = pd.concat([drawn, real], ignore_index=True)
    y = np.repeat([0, 1], [len(drawn), len(real)])
    probabilities = np.empty(len(y))
    for train, test in StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed).split(X, y):
        fitted = detector(seed)[0].fit(X.iloc[train], y[train])
        probabilities[test] = fitted.predict_proba(X.iloc[test])[:, 1]
    return roc_auc_score(y, probabilities)


def downstream(frame, test, outcome, is_regression):
    """Score on held-out rows of trees trained on `frame`: R^2, AUROC of two classes, accuracy."""
    kind = HistGradientBoostingRegressor if is_regression else HistGradientBoostingClassifier
    trees = kind(categorical_features="from_dtype", random_state=0)
    trees.fit(frame.drop(columns=outcome), frame[outcome])
    X, y = test.drop(columns=outcome), test[outcome]
    if is_regression or len(trees.classes_) > 2:
        return trees.score(X, y)
    return roc_auc_score(y == trees.classes_[1], trees.predict_proba(X)[:, 1])


def share_of_copies(rows, train):
    """Share of rows that equal a training row."""
    keys = set(train.astype(str).itertuples(index=False, name=None))
    return np.mean([row in keys for row in rows.astype(str).itertuples(index=False, name=None)])


def measure_table(table, data):
    X, y = load(table, data, 32_768 if "/" not in table.where else 5000)
    frame = X.assign(**{table.outcome: y if table.is_regression else pd.Categorical(y)})
    order = np.random.default_rng(0).permutation(len(frame))
    parts = np.split(order, [int(SHARE_TRAINED * len(frame))])
    train, test = (frame.iloc[part].reset_index(drop=True) for part in parts)
    for name in train.select_dtypes("category"):  # a level that no training row has is an error
        test = test[test[name].isin(train[name].unique())]
    of_real = downstream(train, test, table.outcome, table.is_regression)
    rows = []
    for name, params in MODELS.items():
        model = VAEGenerator(random_state=0, **params, **short_training())
        started = process_time()
        model.fit(train)
        row = {"table": table.name, "rows": len(train), "columns": train.shape[1], "by": name}
        row["fit, processor s"] = process_time() - started
        drawn = model.sample(len(train), random_state=0)
        row["detection"] = detection_auroc(drawn, train)
        row["evaluate"] = float(model.evaluate(test, X_train=train).auroc)
        copies = [share_of_copies(rows_of, train) for rows_of in (drawn, test)]
        row["excess copies"] = float(copies[0] - copies[1])
        row["real"] = of_real
        row["drawn / real"] = downstream(drawn, test, table.outcome, table.is_regression) / of_real
        rows.append(row)
        report(row)
    return rows


# Rows that cannot be.


def tables_with_rules(seed):
    """Name, table, and a function that says which of its rows break its rule."""
    rng = np.random.default_rng(seed)
    level = rng.choice(list("abc"), 450)
    noise = rng.normal(size=(450, 3))
    equal = pd.DataFrame(noise, columns=["u", "v", "w"]).assign(one=level, two=level)
    yield "two equal columns, 450 rows", equal, lambda t: t["one"] != t["two"]
    for n in (500, 2000):
        city = rng.integers(0, 8, n)
        cities = pd.DataFrame(
            {"city": [f"city {c}" for c in city], "state": [f"state {c // 2}" for c in city]}
        )
        cities = cities.assign(income=rng.normal(city, 1), age=rng.integers(18, 80, n))
        yield f"8 cities in 4 states, {n} rows", cities, _is_elsewhere
    kind = rng.choice(["joint", "single"], 1000, p=[0.3, 0.7])
    second = np.where(kind == "joint", rng.lognormal(8, 1, 1000), np.nan)
    joint = pd.DataFrame({"kind": kind, "first": rng.lognormal(8, 1, 1000), "second": second})
    yield (
        "a gap at one level, 1000 rows",
        joint,
        lambda t: t["second"].isna() != (t["kind"] == "single"),
    )


def _is_elsewhere(table):
    number = table["city"].str.removeprefix("city ").astype(int)
    return table["state"] != "state " + (number // 2).astype(str)


def measure_rules(n_seeds):
    rows = []
    for seed in range(n_seeds):
        for name, frame, breaks in tables_with_rules(seed):
            for relations in ("auto", None):
                model = VAEGenerator(random_state=seed, relations=relations, **short_training())
                drawn = model.fit(frame).sample(5000, random_state=seed)
                shares = [float(t.isna().to_numpy().mean()) for t in (drawn, frame)]
                row = {"table": name, "relations": str(relations), "seed": seed}
                row |= {"broken": float(breaks(drawn).mean()), "missing": shares[0]}
                rows.append(row | {"missing in real rows": shares[1]})
    return rows


def measure_mixed(data, n_seeds):
    rows = []
    for table in TABLES:
        with skippable(table.name):
            try:
                rows += measure_table(table, data)
            except ImportError as missing:
                print(f"{table.name} is left out: {missing}", flush=True)
        part = {"machine": machine_line(), "rows": rows, "by": detector(0)[1]}
        save_part("generator_mixed", part)
    save_part("generator_mixed", part | {"rules": measure_rules(n_seeds)})


def format_mixed(part):
    rows, rules = pd.DataFrame(part["rows"]), pd.DataFrame(part.get("rules", []))
    blocks = [
        "## Mixed tables",
        part["machine"],
        f"Detection is the AUROC of {part['by']} in three folds that tells as many drawn rows from "
        "*training* rows; `evaluate` is that of `evaluate`, from held-out rows. Real is the score "
        "on held-out rows of boosted trees trained on real rows (AUROC of two classes, accuracy of "
        "more, R^2 of numbers); next to it is that of trees trained on drawn rows, over it. Copies "
        "are drawn rows that equal a training row, less those among held-out rows. One processor "
        f"core of a machine that others used. {PUBLISHED}",
        markdown_table(rows.to_dict("records")),
    ]
    if len(rows):
        # Ratios are far off where real rows hardly predict, so their median counts.
        measures = dict.fromkeys(("fit, processor s", "detection", "evaluate"), "mean")
        measures |= {"excess copies": "mean", "drawn / real": "median"}
        means = rows.groupby("by", sort=False).agg(measures).reset_index()
        blocks += [
            "Means over tables, and the median of drawn / real:",
            markdown_table(means.to_dict("records")),
        ]
    if len(rules):
        means = rules.drop(columns="seed").groupby(["table", "relations"], sort=False).mean()
        blocks += [
            "### Rows that cannot be",
            "Share of 5000 drawn rows that break the rule of a made table, and of cells that are "
            f"missing, mean of {rules['seed'].nunique()} seeds.",
            markdown_table(means.reset_index().to_dict("records")),
        ]
    return blocks

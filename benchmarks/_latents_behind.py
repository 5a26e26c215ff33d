"""The section "behind" of `bench_latents.py`: models on latents of tables that chose nothing."""

import warnings
from itertools import chain

import numpy as np
from _common import MissingDataError, load_part, markdown_table, report
from _labelled_tables import NAMES, labelled_tables_that_chose_nothing
from _latents import autoencoder, fit_and_measure
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import KFold, StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

N_FOLDS, N_NEIGHBORS = 5, 7
HALVES = {"even": "decided on", "odd": "reported"}  # places in the alphabetical list
QUICK_NAMES = ("diabetes", "vowel")
MODELS = {"kNN": f"kNN({N_NEIGHBORS})", "linear": "linear", "boosting": "boosting"}
INPUTS = ("raw", "PCA", "autoencoder")
AIMS = {
    "kNN": "at least 14 wins, at most 1 loss",
    "linear": "at most 2 losses",
    "boosting": None,
}
NOTES = f"""\
The {len(NAMES)} tables were picked by a rule before any of them was fitted (`_labelled_tables.py`).
Columns are standardised by the training rows; a quarter as many latents as columns; \
{N_FOLDS} shuffled folds (stratified by class, seed 0). *linear* is logistic regression or ridge \
regression, with their defaults, on latents as they come; *boosting* is \
`HistGradientBoosting*`. Figures are accuracies, or R² where the outcome is a number, with the \
standard error over folds. A *win* or *loss* is a mean difference to PCA of more than one standard \
error of the {N_FOLDS} differences by fold; otherwise it is a tie. Folds share training rows, so \
that these standard errors are too small rather than too large. Defaults may have been decided on \
the tables at even places of the alphabetical list, never on those at odd places."""


# Measuring.


def measure_behind(args):
    """Rows of the halves measured now, and those of the other half as last saved."""
    measured = {} if args.quick else (load_part("latents_behind") or {}).get("measured", {})
    for half in (args.half,) if args.half else tuple(HALVES):
        names = NAMES[half == "even" :: 2]
        if args.quick:
            names = [name for name in names if name in QUICK_NAMES]
        rows = [measure_table(*table) for table in labelled_tables_that_chose_nothing(names)]
        if rows:
            measured[half] = rows
    if not measured:
        raise MissingDataError("none of the packages with the labelled tables is installed.")
    return measured


def measure_table(name, X, y, is_regression):
    """Scores of all models on all inputs by fold, and the errors of both reconstructions."""
    k = X.shape[1] // 4
    scores = {model: {which: [] for which in INPUTS} for model in MODELS}
    errors = {"PCA": [], "autoencoder": []}
    seconds = []
    for train, test in folds(X, y, is_regression):
        scaler = StandardScaler().fit(X[train])
        raw = scaler.transform(X[train]), scaler.transform(X[test])
        fits = {
            "PCA": fit_and_measure(PCA(k, random_state=0), *raw),
            "autoencoder": fit_and_measure(autoencoder(k), *raw),
        }
        inputs = {"raw": raw} | {n: (fit["Z_train"], fit["Z_test"]) for n, fit in fits.items()}
        for which, (Z_train, Z_test) in inputs.items():
            for model, estimator in models(is_regression).items():
                score = fitted_score(estimator, Z_train, y[train], Z_test, y[test])
                scores[model][which].append(score)
        for which, fit in fits.items():
            errors[which].append(fit["mse"])
        seconds.append(fits["autoencoder"]["seconds"])
    row = {"table": name, "rows": len(X), "columns": X.shape[1], "latents": k}
    row |= {"outcome": "number" if is_regression else f"{len(np.unique(y))} classes"}
    means = {f"{m}, {w}": float(np.mean(s)) for m in MODELS for w, s in scores[m].items()}
    report(row | means | {"error over PCA's": error_ratio(errors)})
    return row | {"scores": scores, "errors": errors, "seconds": seconds}


def folds(X, y, is_regression):
    """Shuffled splits into training and test rows."""
    splitter = KFold if is_regression else StratifiedKFold
    return splitter(N_FOLDS, shuffle=True, random_state=0).split(X, y)


def models(is_regression):
    """Models behind the latents, by name."""
    if is_regression:
        return {
            "kNN": KNeighborsRegressor(N_NEIGHBORS),
            "linear": Ridge(),
            "boosting": HistGradientBoostingRegressor(random_state=0),
        }
    return {
        "kNN": KNeighborsClassifier(N_NEIGHBORS),
        "linear": LogisticRegression(max_iter=1000),
        "boosting": HistGradientBoostingClassifier(random_state=0),
    }


def fitted_score(model, Z_train, y_train, Z_test, y_test):
    """Accuracy or R² on test rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(model.fit(Z_train, y_train).score(Z_test, y_test))


# Numbers.


def standard_error(values):
    """Standard error of the mean of the folds."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values)))


def compared(scores):
    """Mean difference of the autoencoder's scores to PCA's, and whether it is a win or a loss."""
    difference = np.subtract(scores["autoencoder"], scores["PCA"])
    mean, error = float(difference.mean()), standard_error(difference)
    return mean, "win" if mean > error else "loss" if mean < -error else "tie"


def error_ratio(errors):
    """Mean squared test error over PCA's."""
    return float(np.mean(errors["autoencoder"]) / np.mean(errors["PCA"]))


# Text.


def format_behind(measured):
    halves = {half: measured[half] for half in HALVES if half in measured}
    counts = [
        count_line(model, label, rows) for model in MODELS for label, rows in groups(halves).items()
    ]
    errors = [error_line(label, rows) for label, rows in groups(halves).items()]
    blocks = ["## Behind the latents", NOTES, markdown_table(counts), markdown_table(errors)]
    for half, rows in halves.items():
        blocks += [f"Tables at {half} places ({HALVES[half]}):"]
        blocks += [markdown_table([table_line(row) for row in rows])]
    return blocks


def groups(halves):
    """Rows of each half with its label, and of both together."""
    labelled = {f"{half} places, {HALVES[half]}": rows for half, rows in halves.items()}
    if len(halves) > 1:
        labelled["together"] = list(chain.from_iterable(halves.values()))
    return labelled


def count_line(model, label, rows):
    """Wins, ties and losses of a model behind the autoencoder's latents."""
    results = [compared(row["scores"][model]) for row in rows]
    verdicts = [verdict for _, verdict in results]
    return {
        "behind the latents": MODELS[model],
        "tables": f"{label} ({len(rows)})",
        "wins over PCA": verdicts.count("win"),
        "ties": verdicts.count("tie"),
        "losses": verdicts.count("loss"),
        "mean difference": f"{np.mean([mean for mean, _ in results]):+.4f}",
        "aim, all tables": AIMS[model],
        "lost on": ", ".join(
            row["table"]
            for row, (_, verdict) in zip(rows, results, strict=True)
            if verdict == "loss"
        ),
    }


def error_line(label, rows):
    """Test errors over PCA's."""
    ratios = [error_ratio(row["errors"]) for row in rows]
    worst = int(np.argmax(ratios))
    return {
        "tables": f"{label} ({len(rows)})",
        "test error over PCA's, median": f"{np.median(ratios):.3f}",
        "worst": f"{ratios[worst]:.3f} ({rows[worst]['table']})",
        "at PCA's (within 1 %)": sum(0.99 <= ratio <= 1.01 for ratio in ratios),
        "above": sum(ratio > 1.01 for ratio in ratios),
        "seconds of a fit, median": f"{np.median([row['seconds'] for row in rows]):.2f}",
    }


def table_line(row):
    """One table: means and standard errors of all inputs, and what they come to."""
    line = {"table": row["table"], "rows": row["rows"], "columns": row["columns"]}
    line |= {"latents": row["latents"], "outcome": row["outcome"]}
    for model, scores in row["scores"].items():
        _, verdict = compared(scores)
        for which, values in scores.items():
            text = f"{np.mean(values):.3f} ± {standard_error(values):.3f}"
            mark = f" ({verdict})" if which == "autoencoder" else ""
            line[f"{MODELS[model]}, {which}"] = text + mark
    return line | {"test error over PCA's": f"{error_ratio(row['errors']):.3f}"}

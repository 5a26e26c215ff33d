"""Layouts of fitted attributes, and what belongs together in an estimator."""

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

import skae._data._frames as frames
import skae._data._normal_scores as ranks
import skae._engine._mixed_views as mixed_views
import skae._engine._views as views
import skae._stats._scoring as scoring
from skae._data._guarded_values import GuardedValues
from skae._data._judged import JudgedScaler
from skae._data._mixed import MixedScaler
from skae._data._relations import Relations
from skae._data._scaling import Scaler
from skae._data._targets import Targets
from skae._engine._losses import MixedObjective
from skae._engine._net import AutoencoderNet
from skae._engine._noise import NOISES
from skae._sklearn import CALLBACKS
from skae._stats._cell_trees import CellTrees, columns_of_outputs
from skae._stats._density_ratio import DensityRatio
from skae._storage._layouts import (
    Optional,
    anything,
    array,
    check_named,
    flag,
    listing,
    mapping,
    maybe,
    number,
    of_type,
    one_of,
    refuse,
    row,
    text,
    whole,
)
from skae._storage._network_layouts import check_net
from skae._storage._object_layouts import (
    NORMAL,
    WIDTH,
    check_ascending,
    check_sums_to_one,
    instance,
    mixture,
)
from skae._storage._relation_layouts import RELATION_LAYOUTS
from skae.networks._conv import ConvNetwork
from skae.networks._levels import MixedOutput
from skae.networks._mlp import MLPNetwork
from skae.networks._variational import BernoulliOutput, GaussianOutput, TableOutput

SEEDS = whole(0, 2**32 - 1)


def names(value, path, sizes):
    """The layout of the names of columns."""
    array("O", "d")(value, path, sizes)
    for i, name in enumerate(value):
        text(name, f"{path}.{i}", sizes)


def noise(value, path, sizes):
    """The layout of a denoiser's noise: a name, a user's function, or None for pairs."""
    if not callable(value):
        one_of(None, *NOISES)(value, path, sizes)


def level(value, path, sizes):
    """The layout of a level of noise: one, or one for each column."""
    if isinstance(value, np.ndarray):
        array("f8", *["d"][: value.ndim], low=0)(value, path, sizes)
    else:
        number(0)(value, path, sizes)


def _relations(value, path, sizes):
    """The layout of relations between columns."""
    of_type(Relations)(value, path, sizes)
    RELATION_LAYOUTS[Relations](value, path, sizes)


def _scaler(value, path, sizes):
    """The layout of a scaler, which sets the width of what a denoiser encodes."""
    instance(Scaler, MixedScaler)(value, path, sizes)
    sizes["e"] = value.n_inputs


def _of_encoded(layout):
    """The layout of what is learned from encoded rows."""
    return lambda value, path, sizes: layout(value, path, sizes | {"d": sizes["e"]})


ENCODED = array("f8", "e")
# Fitted attributes of all estimators and of each one; those that set sizes come first.

OF_ALL = {
    "n_features_in_": whole(1, size="d"),
    "feature_names_in_": Optional(names),
    "n_components_": whole(1, size="k"),
    "n_samples_seen_": Optional(whole(0)),
    "n_iter_": whole(0),
    "best_epoch_": whole(0),
    "loss_curve_": listing(number(finite=False)),
    "validation_loss_curve_": maybe(listing(number(finite=False))),
    "net_": of_type(AutoencoderNet),
    "_network_fingerprint": mapping(text, text),
    "_watches_rows": Optional(flag),
    "_metadata_request": Optional(of_type(MetadataRequest)),
    "_sklearn_output_config": Optional(
        mapping(one_of("transform"), one_of("default", "pandas", "polars"))
    ),
}
OF_EACH = {
    "AutoencoderTransformer": {
        "mean_": WIDTH,
        "_scaler": instance(Scaler, MixedScaler),
        "_columns": Optional(instance(frames.Columns)),
        "latent_size_curve_": Optional(array("f8", "n_latents")),
        "explained_variance_": Optional(array("f8", "k", low=0)),
        "explained_variance_ratio_": Optional(array("f8", "k")),
        "_latent_unit": Optional(number(0)),
    },
    "AutoencoderOutlierDetector": {
        "mean_": WIDTH,
        "_scaler": instance(Scaler, JudgedScaler),
        "_columns": Optional(instance(frames.Columns)),
        "offset_": number(),
        "_split_seed": SEEDS,
        "_rule": instance(scoring.ScoreRule),
        "_calibration_scores": instance(scoring.CalibrationScores),
        "_seen": instance(scoring.SeenLosses),
    },
    "DenoisingAutoencoder": {
        "mean_": WIDTH,
        "_scaler": _scaler,
        "_columns": Optional(instance(frames.Columns)),
        "_whole": Optional(maybe(array("b1", "d"))),
        "missing_columns_": array("i", "n_missing", low=0),
        "noise_": noise,
        "gaussian_": maybe(_of_encoded(NORMAL)),
        "blend_": number(0, 1),
        "_empty": array("b1", "d"),
        "_is_paired": flag,
        "noise_level_": maybe(level),
        "observed_blend_": array("f8", "d", low=0),
        "_draw_seed": SEEDS,
        "_n_draws": whole(0),
        "_spreads": maybe(row(array("f8", "n_numbers"), array("f8", "n_numbers"))),
        "_divisor": maybe(array("f4", "e", low=1)),
        "_learns_to_fill": flag,
        "_n_latents_to_learn": whole(1),
        "_shrinkage": number(0, 1),
        "_unknown_spread": ENCODED,
        "_bounds": maybe(row(array("f4", "e"), array("f4", "e"))),
        "_spread": ENCODED,
    },
    "VAEGenerator": {
        "_scaler": instance(Scaler, ranks.NormalScores),
        "prior_": maybe(mixture),
        "refiner_": maybe(instance(DensityRatio)),
        "_cell_trees": Optional(maybe(instance(CellTrees))),
        "_candidate_ratio": Optional(maybe(instance(DensityRatio))),
        "_columns": instance(frames.Columns, frames.PlainColumns),
        "_kept_relations": Optional(maybe(_relations)),
        "_guarded": Optional(maybe(instance(GuardedValues))),
        "_targets": Optional(instance(Targets)),
        "_draw_seed": SEEDS,
        "_group_weights": array("f8", "n_groups", "c", low=0),
        "_is_binary": Optional(flag),
    },
}


# What belongs together in an estimator.


def _denoiser_fits(estimator, sizes):
    is_mixed = _table_fits(estimator)
    if is_mixed != (getattr(estimator, "_whole", None) is not None):
        raise ValueError("_whole must say which columns of a mixed table are whole")
    spreads = estimator._spreads
    n_numbers = estimator._scaler.n_scores if is_mixed else sizes["d"]
    if spreads is not None and len(spreads[0]) != n_numbers:
        refuse("_spreads", f"those of {n_numbers} columns of numbers", spreads)
    columns = estimator._columns_with_gaps
    check_ascending(columns, "missing_columns_")
    if len(columns) and columns[-1] >= sizes["d"]:
        raise ValueError(f"missing_columns_ must be below {sizes['d']}; it holds {columns[-1]}")


def _generator_fits(estimator, sizes):
    conditional, targets = estimator.conditional, vars(estimator).get("_targets")
    if conditional != (targets is not None):
        raise ValueError(f"conditional={conditional!r} does not fit what was learned of targets")
    weights, n_groups = estimator._group_weights, len(targets.shares_) if conditional else 1
    if len(weights) != n_groups or (estimator.prior_ is None and weights.shape[1] != 1):
        refuse("_group_weights", f"weights of {n_groups} groups", weights)
    check_sums_to_one(weights, "_group_weights")
    n_learned = len(estimator._relations.keys)
    n_read_from = n_learned + conditional
    for name in ("refiner_", "_candidate_ratio"):
        ratio = vars(estimator).get(name)
        if ratio is not None and len(ratio.support_) != n_read_from:
            refuse(f"{name}.support_", f"a mask of {n_read_from} columns", ratio.support_)
    scaler, link = estimator._scaler, estimator.net_.module_.link
    is_table = estimator.likelihood == "auto"
    if not is_table and estimator._relations.steps:
        raise ValueError(f"likelihood={estimator.likelihood!r} learns no relations")
    of_likelihood = {"auto": TableOutput, "gaussian": GaussianOutput, "bernoulli": BernoulliOutput}
    if type(scaler) is not (ranks.NormalScores if is_table else Scaler):
        raise ValueError(f"likelihood={estimator.likelihood!r} does not fit a {type(scaler)}")
    if type(link) is not of_likelihood[estimator.likelihood]:
        raise ValueError(f"likelihood={estimator.likelihood!r} does not fit a {type(link)}")
    if is_table:
        learned = scaler.n_levels.tolist(), scaler.n_scores, scaler.level_counts
        if learned != (estimator._relations.n_levels, link.n_scores, link.level_counts):
            raise ValueError("_scaler has other columns or levels than _columns and the network")
        if link.n_continuous != scaler.n_continuous:
            raise ValueError(f"n_continuous of the network must be {scaler.n_continuous}")
    _cell_trees_fit(estimator, sizes["k"] + (targets.n_columns if conditional else 0))
    _guards_fit(estimator)


def _guards_fit(estimator):
    """Numbers and levels of the table's columns are counted, if they are private."""
    guards, n_levels = estimator._guards, estimator._columns.n_levels
    if (guards is not None) != estimator.private_values:
        raise ValueError(f"private_values={estimator.private_values!r} does not fit _guarded")
    if guards is None:
        return
    counted = {j: len(counts) for j, counts in guards.level_counts.items()}
    if counted != {j: n for j, n in enumerate(n_levels) if n}:
        raise ValueError("_guarded counts other levels than _columns has")
    if not set(guards.columns) <= set(range(len(n_levels))) - set(counted):
        raise ValueError("_guarded has numbers of columns that hold none")


def _cell_trees_fit(estimator, n_given):
    """What the trees read of rows is there."""
    trees, ratio = (vars(estimator).get(name) for name in ("_cell_trees", "_candidate_ratio"))
    if (trees is None) != (ratio is None):
        raise ValueError("_cell_trees and _candidate_ratio belong together")
    if trees is not None:
        if estimator.likelihood != "auto":
            raise ValueError(f"likelihood={estimator.likelihood!r} has no _cell_trees")
        outputs = columns_of_outputs(estimator._scaler)
        trees.check([n_given + j + len(own) for j, own in enumerate(outputs)])


def _detector_fits(estimator, sizes):
    is_mixed = _table_fits(estimator, JudgedScaler)
    seen = getattr(estimator.net_, "views_", None)
    if type(seen) is not (mixed_views.MixedViews if is_mixed else views.Views):
        raise ValueError("net_.views_ must be those of the table")
    if is_mixed:
        link, scaler = estimator.net_.module_.link, estimator._scaler
        layout = scaler.n_scores, scaler.level_counts
        if (link.n_scores, link.level_counts) != layout:
            raise ValueError("_scaler has other columns or levels than the network")
        if (seen.n_scores, seen.level_counts) != layout:
            raise ValueError("net_.views_ has other columns or levels than _scaler")


def _transformer_fits(estimator, sizes):
    _table_fits(estimator, others=[estimator.net_.module_.missing])


def _table_fits(estimator, of_mixed=MixedScaler, others=()):
    """Whether an estimator is that of a mixed table; all of its parts must be, or none."""
    scaler, net, columns = estimator._scaler, estimator.net_, vars(estimator).get("_columns")
    is_mixed = [type(scaler) is of_mixed, columns is not None, *others]
    is_mixed += [type(net.module_.link) is MixedOutput, type(net.criterion_) is MixedObjective]
    if len(set(is_mixed)) > 1:
        raise ValueError(
            "_scaler, _columns and the network must be those of a mixed table, or none"
        )
    if is_mixed[0] and scaler.n_levels.tolist() != columns.n_levels:
        raise ValueError("_scaler has other columns or levels than _columns")
    return is_mixed[0]


BELONGS_TOGETHER = {
    "AutoencoderOutlierDetector": _detector_fits,
    "AutoencoderTransformer": _transformer_fits,
    "DenoisingAutoencoder": _denoiser_fits,
    "VAEGenerator": _generator_fits,
}


def widths(estimator):
    """Numbers of columns that the encoder reads, and of conditions of the decoder."""
    d = estimator.n_features_in_
    if hasattr(estimator, "conditional"):
        scaler, targets = estimator._scaler, estimator._targets if estimator.conditional else None
        return getattr(scaler, "n_inputs", d), 0 if targets is None else targets.n_columns
    n_marks = d if getattr(estimator, "_reads_mask", False) else 0
    return estimator._scaler.n_inputs + n_marks, 0


def fitted_attributes(estimator):
    """What `fit` has set in an estimator, but for what stays out of files."""
    others = {*estimator.get_params(deep=False), CALLBACKS}
    return {name: value for name, value in estimator._attributes().items() if name not in others}


def _n_learned(estimator):
    """The number of columns that the model learns, as a size."""
    keys = getattr(vars(estimator).get("_kept_relations"), "keys", None)
    n_columns = len(keys) if isinstance(keys, list) else vars(estimator).get("n_features_in_")
    return {} if n_columns is None else {"m": n_columns}


def check_fitted(estimator):
    """Raise ValueError unless all fitted attributes are there, and fit each other."""
    name, sizes = type(estimator).__name__, _n_learned(estimator)
    if isinstance(estimator.network, MLPNetwork | ConvNetwork):
        fields = dict.fromkeys(type(estimator.network).__dataclass_fields__, anything)
        check_named(vars(estimator.network), fields, "network", sizes)
    check_named(fitted_attributes(estimator), OF_ALL | OF_EACH[name], "", sizes)
    of_basis = {name in vars(estimator) for name in ("explained_variance_", "_latent_unit")}
    if of_basis != {estimator.net_.module_.basis is not None}:  # files of format 1 have none
        raise ValueError("explained_variance_, _latent_unit and latent_basis belong together")
    if name in BELONGS_TOGETHER:
        BELONGS_TOGETHER[name](estimator, sizes)
    of_views = instance(views.Views, mixed_views.MixedViews)
    check_net(estimator.net_, sizes, *widths(estimator), of_views)

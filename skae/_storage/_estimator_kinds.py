"""Kinds of values in saved estimators."""

import sys
from functools import cache, partial
from types import NoneType

from sklearn.utils.metadata_routing import MetadataRequest

import skae._data._frames as frames
import skae._data._normal_scores as ranks
import skae._data._relation_rules as rules
import skae._data._relation_steps as steps
import skae._engine._mixed_views as mixed_views
import skae._engine._views as views
import skae._stats._gaussian as gaussian
import skae._stats._scoring as scoring
import skae._stats._surprise as surprise
from skae._data._columns import Column
from skae._data._guarded_values import GuardedColumn, GuardedValues
from skae._data._judged import JudgedScaler
from skae._data._mixed import MixedScaler
from skae._data._relation_units import Unit
from skae._data._relations import Relations
from skae._data._scaling import Scaler
from skae._data._targets import Targets
from skae._stats._boosted_trees import BoostedTrees
from skae._stats._cell_trees import CellTree, CellTrees
from skae._stats._density_ratio import DensityRatio
from skae._storage._documents import FileNames, Kind, expect, is_exactly, record
from skae._storage._network_kinds import NET_KINDS
from skae._storage._object_layouts import LAYOUTS, MIXTURE
from skae._storage._plain_kinds import PLAIN_KINDS
from skae._storage._relation_layouts import FIELDS_OF_RELATIONS, RELATION_LAYOUTS
from skae.networks._conv import ConvNetwork
from skae.networks._mlp import MLPNetwork

METHODS_WITH_METADATA = ("fit", "partial_fit", "score")
# Parameters and attributes that may hold objects of a user's classes, or functions.
MADE_BY_USERS = ("network", "noise", "noise_")
# Attributes that were renamed after format 1 was fixed.
ATTRIBUTES = FileNames(
    {
        "_learns_to_fill": "_hides",
        "_network_fingerprint": "_description",
    }
)
RENAMED = {
    Scaler: {"cut": "clip", "data_min_": "least_", "data_max_": "most_"},
    Targets: {"representatives_": "typical_", "quantiles_": "met_"},
    DensityRatio: {"support_": "kept_"},
}


def _is_registered(value):
    return callable(value) or callable(getattr(value, "build", None))


def _write_registered(encoder, value, path):
    name = getattr(value, "__name__", type(value).__name__)
    is_allowed = path in MADE_BY_USERS and name.isidentifier()
    if not is_allowed or isinstance(value, partial):
        raise TypeError(
            f"{path}={value!r} cannot be saved: code is saved by its name only, and only the "
            "network, an object of a class of yours, and the noise, a function with a name."
        )
    if encoder.notes.setdefault(("registered", name), value) is not value:
        raise TypeError(f"{path}={value!r} has the name of something else that is saved.")
    return (name,)


def _read_registered(decoder, name):
    registry = decoder.notes["registry"]
    if name not in registry:
        raise LookupError(
            f"it was saved with {name!r}, a network or function of yours, and no code is loaded "
            f"from files: pass registry={{{name!r}: ...}}; got names {sorted(registry)}"
        )
    return registry[name]


def _write_requests(encoder, request, path):
    by_method = {m: dict(getattr(request, m).requests) for m in METHODS_WITH_METADATA}
    by_method = {m: requests for m, requests in by_method.items() if requests}
    owner = request.owner if isinstance(request.owner, str) else type(request.owner).__name__
    return owner, encoder.write(by_method, path)


def _read_requests(decoder, owner, requests):
    request = MetadataRequest(owner=expect(owner, str))
    for method, aliases in expect(decoder.read(requests), dict).items():
        if method not in METHODS_WITH_METADATA:
            raise ValueError(f"it requests metadata for {method!r:.60}")
        for name, alias in expect(aliases, dict).items():
            getattr(request, method).add_request(param=expect(name, str), alias=alias)
    return request


KINDS = {
    **PLAIN_KINDS,
    **NET_KINDS,
    **{
        kind: record(cls, LAYOUTS[cls].named, RENAMED.get(cls))
        for kind, cls in {
            "scaler": Scaler,
            "judged scaler": JudgedScaler,
            "mixed scaler": MixedScaler,
            "score rule": scoring.ScoreRule,
            "surprises": surprise.Surprises,
            "calibration scores": scoring.CalibrationScores,
            "seen losses": scoring.SeenLosses,
            "mixed views": mixed_views.MixedViews,
            "views": views.Views,
            "gaussian": gaussian.Gaussian,
            "factor gaussian": gaussian.FactorGaussian,
            "columns": frames.Columns,
            "plain columns": frames.PlainColumns,
            "column": Column,
            "targets": Targets,
            "ranks": ranks.NormalScores,
            "ranked column": ranks.RankedColumn,
            "grid": ranks.Grid,
            "density ratio": DensityRatio,
            "trees": BoostedTrees,
            "guarded column": GuardedColumn,
            "guarded values": GuardedValues,
            "cell tree": CellTree,
            "cell trees": CellTrees,
        }.items()
    },
    **{
        kind: record(cls, RELATION_LAYOUTS[cls].named)
        for kind, cls in {
            "relations": Relations,
            "unit": Unit,
            "sum rule": rules.SumRule,
            "formula rule": rules.FormulaRule,
            "lookup rule": rules.LookupRule,
            "derived step": steps.DerivedStep,
            "inequality step": steps.InequalityStep,
            "combination step": steps.CombinationStep,
            "gap step": steps.GapStep,
            "day step": steps.DayStep,
        }.items()
    },
    **{name: record(*fields) for name, fields in FIELDS_OF_RELATIONS.items()},
    "MLPNetwork": record(
        MLPNetwork, ("hidden_layer_sizes", "activation", "dropout", "tied_weights")
    ),
    "ConvNetwork": record(ConvNetwork, ConvNetwork.__dataclass_fields__),
    "mixture": Kind(
        ("items",),
        lambda value: "sklearn.mixture" in sys.modules and _mixture().holds(value),
        lambda *args: _mixture().write(*args),
        lambda *args: _mixture().read(*args),
    ),
    "metadata request": Kind(
        ("owner", "requests"), is_exactly(MetadataRequest), _write_requests, _read_requests
    ),
    "registered": Kind(("name",), _is_registered, _write_registered, _read_registered),
}


@cache
def _mixture():
    """The kind of scikit-learn's mixtures, whose import takes half a second."""
    from sklearn.mixture import GaussianMixture

    return record(GaussianMixture, MIXTURE.named)


def network_of_user(estimator):
    """The network of a user's class, which the registry must name, or None."""
    network = estimator.network
    return None if isinstance(network, NoneType | MLPNetwork | ConvNetwork) else network

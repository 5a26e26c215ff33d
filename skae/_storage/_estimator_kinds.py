"""Kinds of values in saved estimators, and the fitted attributes of each estimator."""

from functools import cache, partial
from numbers import Integral, Real
from types import NoneType

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

import skae._data._frames as frames
import skae._data._normal_scores as ranks
import skae._engine._views as views
import skae._stats._gaussian as gaussian
import skae._stats._scoring as scoring
import skae._stats._surprise as surprise
from skae._data._scaling import Scaler
from skae._data._targets import Targets
from skae._engine._net import AutoencoderNet
from skae._stats._boosted_trees import BoostedTrees
from skae._stats._density_ratio import DensityRatio
from skae._storage._documents import FileNames, Kind, expect, is_exactly, record
from skae._storage._network_kinds import NET_KINDS
from skae._storage._plain_kinds import PLAIN_KINDS
from skae.estimators._denoising import DenoisingAutoencoder
from skae.estimators._generator import VAEGenerator
from skae.estimators._outlier import AutoencoderOutlierDetector
from skae.estimators._transformer import AutoencoderTransformer
from skae.networks._conv import ConvNetwork
from skae.networks._mlp import MLPNetwork

METHODS_WITH_METADATA = ("fit", "partial_fit", "score")
# Parameters and attributes that may hold objects of a user's classes, or functions.
MADE_BY_USERS = ("network", "noise", "noise_")
# Types of the fitted attributes, of all estimators and of each one.
OF_ALL = {
    "feature_names_in_": np.ndarray,
    "n_features_in_": Integral,
    "n_components_": Integral,
    "mean_": np.ndarray,
    "n_iter_": Integral,
    "best_epoch_": Integral,
    "loss_curve_": list,
    "validation_loss_curve_": (list, NoneType),
    "net_": AutoencoderNet,
    "_scaler": (Scaler, ranks.NormalScores),
    "_network_fingerprint": dict,
    "_metadata_request": MetadataRequest,
    "_sklearn_output_config": dict,
}
OF_EACH = {
    AutoencoderTransformer: {
        "latent_size_curve_": np.ndarray,
        "explained_variance_ratio_": np.ndarray,
    },
    AutoencoderOutlierDetector: {
        "offset_": Real,
        "_split_seed": Integral,
        "_rule": scoring.ScoreRule,
        "_calibration_scores": scoring.CalibrationScores,
        "_seen": scoring.SeenLosses,
    },
    DenoisingAutoencoder: {
        "missing_columns_": np.ndarray,
        "noise_": object,
        "gaussian_": (gaussian.Gaussian, gaussian.FactorGaussian, NoneType),
        "blend_": Real,
        "_empty": np.ndarray,
        "_is_paired": bool,
        "_level": object,
        "_learns_to_fill": bool,
        "_n_latents_to_learn": Integral,
        "_shrinkage": Real,
        "_unknown_spread": np.ndarray,
        "_bounds": (tuple, NoneType),
        "_spread": np.ndarray,
    },
    VAEGenerator: {
        "prior_": object,
        "refiner_": (DensityRatio, NoneType),
        "_columns": (frames.Columns, frames.PlainColumns),
        "_targets": Targets,
        "_draw_seed": Integral,
        "_group_weights": np.ndarray,
        "_is_binary": bool,
    },
}
# Fitted attributes that were renamed after format 1 was fixed.
ATTRIBUTES = FileNames(
    {
        "_learns_to_fill": "_hides",
        "_network_fingerprint": "_description",
    }
)
ESTIMATORS = {cls.__name__: cls for cls in OF_EACH}


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
    "scaler": record(
        Scaler, "method cut:clip mean_ data_min_:least_ data_max_:most_ center_ scale_ low_ high_"
    ),
    "score rule": record(
        scoring.ScoreRule,
        "member_means baseline_mean baseline_weight surprises counts",
    ),
    "surprises": record(surprise.Surprises, "knots slopes"),
    "calibration scores": record(scoring.CalibrationScores, "scores weights"),
    "seen losses": record(scoring.SeenLosses, "raw unseen weights"),
    "views": record(
        views.Views, "gaussian deviations knots scores rows radii penalties rank_penalties"
    ),
    "gaussian": record(gaussian.Gaussian, "shrinkage mean_ covariance_ precision_ _varies"),
    "factor gaussian": record(gaussian.FactorGaussian, "shrinkage mean_ loadings_ noise_variance_"),
    "columns": record(frames.Columns, "container schema index columns"),
    "plain columns": record(frames.PlainColumns, "dtype n_features"),
    "column": record(frames.Column, "name dtype levels origin tick is_whole"),
    "targets": record(
        Targets, "classes_ representatives_:typical_ shares_ quantiles_:met_ center_ scale_ bounds_"
    ),
    "ranks": record(
        ranks.NormalScores, "n_levels of_codes columns_ gaps_ level_shares_ level_scales"
    ),
    "ranked column": record(
        ranks.RankedColumn,
        "n_rows values shares is_atom grid edges scores curve quantiles",
    ),
    "grid": record(ranks.Grid, "first step decimals"),
    "density ratio": record(DensityRatio, "support_:kept_ trees_ log_mean_"),
    "trees": record(
        BoostedTrees,
        "order_ levels_ baseline_ nodes_ level_sets_ n_nodes_ n_sets_",
        check=BoostedTrees.check,
    ),
    "MLPNetwork": record(MLPNetwork, "hidden_layer_sizes activation dropout tied_weights"),
    "ConvNetwork": record(ConvNetwork, "image_shape channels kernel_size activation"),
    "metadata request": Kind(
        ("owner", "requests"), is_exactly(MetadataRequest), _write_requests, _read_requests
    ),
    "registered": Kind(("name",), _is_registered, _write_registered, _read_registered),
}


@cache
def kinds():
    """All kinds of values; not a constant, as importing `sklearn.mixture` takes half a second."""
    from sklearn.mixture import GaussianMixture

    return KINDS | {
        "mixture": record(
            GaussianMixture,
            "n_components covariance_type tol reg_covar max_iter n_init init_params weights_init "
            "means_init precisions_init random_state warm_start verbose verbose_interval weights_ "
            "means_ covariances_ precisions_ precisions_cholesky_ converged_ n_iter_ lower_bound_ "
            "lower_bounds_ n_features_in_",
        ),
    }


def network_of_user(estimator):
    """The network of a user's class, which the registry must name, or None."""
    network = estimator.network
    return None if isinstance(network, NoneType | MLPNetwork | ConvNetwork) else network


def check_fitted(cls, fitted):
    """Raise TypeError or ValueError unless these are attributes of a fitted estimator."""
    known = OF_ALL | OF_EACH[cls]
    for name, value in fitted.items():
        if not isinstance(value, known.get(name, ())):
            raise TypeError(
                f"a fitted {cls.__name__} has no attribute {name!r:.60} of type "
                f"{type(value).__module__}.{type(value).__qualname__}"
            )
    module, n_features = fitted["net_"].module_, fitted["n_features_in_"]
    n_columns = len(fitted["mean_"]) if "mean_" in fitted else len(fitted["_columns"].names)
    if not (n_features == n_columns and fitted["n_components_"] == module.n_kept >= 1):
        raise ValueError(
            f"a network of {n_columns} columns does not fit n_features_in_={n_features}"
        )
    if not all(isinstance(loss, Real) for loss in fitted["loss_curve_"]):
        raise ValueError("its losses are no numbers")

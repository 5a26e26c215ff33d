"""All imports of scikit-learn's private names, so that an upgrade changes one file."""

from __future__ import annotations

from inspect import signature
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import _fit_context as fit_context
from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._array_api import _average as average
from sklearn.utils._array_api import _convert_to_numpy as convert_to_numpy
from sklearn.utils._array_api import _is_numpy_namespace as is_numpy_namespace
from sklearn.utils._array_api import _max_precision_float_dtype as max_precision_float_dtype
from sklearn.utils._array_api import get_namespace_and_device
from sklearn.utils._missing import is_pandas_na, is_scalar_nan
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    MissingValues,
    RealNotInt,
    StrOptions,
)
from sklearn.utils._set_output import _get_output_config
from sklearn.utils.stats import _weighted_percentile
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight
from sklearn.utils.validation import _num_samples as num_samples

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:  # scikit-learn < 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """There are no callbacks to support."""


__all__ = [
    "CALLBACKS",
    "MAY_ALL_BE_ZERO",
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "MissingValues",
    "RealNotInt",
    "StrOptions",
    "average",
    "callback_state",
    "callbacks_of",
    "check_feature_names_in",
    "check_sample_weight",
    "convert_to_numpy",
    "fit_context",
    "fitted_indicator",
    "get_namespace_and_device",
    "is_numpy_namespace",
    "is_pandas_na",
    "is_scalar_nan",
    "max_precision_float_dtype",
    "num_samples",
    "output_container",
    "preceded_by",
    "safe_indexing",
    "tree_node_dtype",
    "tree_values",
    "validate_params",
    "weighted_percentile",
]


# Weights that are all zero were not refused before scikit-learn 1.8, which knows no such argument.
_MAY_BE_ZERO = signature(check_sample_weight).parameters.keys() & {"allow_all_zero_weights"}
MAY_ALL_BE_ZERO = dict.fromkeys(_MAY_BE_ZERO, True)

# Where ``set_callbacks`` keeps callbacks, which ``clone`` hands on.
CALLBACKS = "_skl_callbacks"


def callbacks_of(estimator: Any) -> list[Any]:
    """What ``set_callbacks`` was given."""
    return vars(estimator).get(CALLBACKS, [])


def callback_state(estimator: Any) -> dict[str, Any]:
    """Attributes by which ``fit_context`` tears callbacks down, also after a fit that failed."""
    names = ("_callback_fit_ctx", "_skl_callbacks_to_teardown")
    return {name: vars(estimator)[name] for name in names if name in vars(estimator)}


def validate_params(estimator):
    """Raise if a parameter of an estimator is not what its constraints allow."""
    estimator._validate_params()


def weighted_percentile(array: Any, sample_weight: Any, percentile_rank: Any = 50) -> Any:
    """The weighted percentile of scikit-learn; of unweighted rows without sorting them."""
    is_table = np.ndim(array) == 2 and len(array) and np.asarray(array).dtype.kind == "f"
    if not is_table or np.ndim(percentile_rank) or not np.all(sample_weight == 1):
        return _weighted_percentile(array, sample_weight, percentile_rank)
    columns = np.array(array.T, order="C")
    n_known = columns.shape[1] - np.isnan(columns).sum(axis=1)
    share = np.asarray(percentile_rank, dtype=columns.dtype) / 100  # rounded as scikit-learn does
    places = np.maximum(np.ceil(share * n_known.astype(columns.dtype)).astype(np.intp) - 1, 0)
    columns.partition(np.unique(places), axis=1)
    return columns[np.arange(len(columns)), places]


def fitted_indicator(missing_values: Any, misses_cells: NDArray[np.bool_]) -> Any:
    """The indicator of missing cells that an imputer of scikit-learn would hold.

    Parameters
    ----------
    missing_values : object
        The marker.
    misses_cells : ndarray of shape (n_features,)
        Which columns missed cells in ``fit``.
    """
    from sklearn.impute import MissingIndicator

    indicator = MissingIndicator(missing_values=missing_values, error_on_new=False)
    indicator._fit(misses_cells[None], precomputed=True)
    return indicator


def output_container(estimator: Any) -> str:
    """What ``set_output`` asks of ``transform``: "default", "pandas" or "polars"."""
    return str(_get_output_config("transform", estimator)["dense"])


def tree_node_dtype() -> np.dtype[Any]:
    """Dtype of the nodes of gradient-boosted trees; the import takes a second."""
    from sklearn.ensemble._hist_gradient_boosting.common import PREDICTOR_RECORD_DTYPE

    return PREDICTOR_RECORD_DTYPE


def tree_values(
    nodes: NDArray[Any],
    level_sets: NDArray[Any],
    X: NDArray[Any],
    known_levels: NDArray[Any],
    place_of_column: NDArray[Any],
) -> NDArray[Any]:
    """Values of a gradient-boosted tree for rows, by compiled code that checks no argument."""
    from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor
    from sklearn.utils._openmp_helpers import _openmp_effective_n_threads

    tree = TreePredictor(nodes, level_sets, level_sets)
    return tree.predict(X, known_levels, place_of_column, _openmp_effective_n_threads())


def preceded_by(html: str, shown: Any) -> Any:
    """Put HTML before what scikit-learn shows of an object in a notebook."""
    if hasattr(shown, "_html_repr"):
        html_repr = shown._html_repr
        shown._html_repr = lambda: html + html_repr()
    return shown

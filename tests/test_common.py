"""scikit-learn's own checks, over every public estimator."""

import pytest
from sklearn.base import clone
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator, parametrize_with_checks

from skae import AutoencoderTransformer

REASON = (
    "Training is stochastic: a repeated row falls into other batches than a heavy one. "
    "test_contract.py shows that both agree in expectation."
)
EXPECTED_FAILED_CHECKS = {
    "check_sample_weight_equivalence_on_dense_data": REASON,
    "check_sample_weight_equivalence_on_sparse_data": REASON,
}
ESTIMATORS = [
    AutoencoderTransformer(max_epochs=2),
    AutoencoderTransformer(n_components=2, hidden_layer_sizes=8, max_epochs=3),
    AutoencoderTransformer(
        n_components=3,
        hidden_layer_sizes=(4,),
        max_epochs=2,
        init="random",
        early_stopping=False,
        dropout=0.1,
        scaling="robust",
        tied_weights=True,
    ),
]
# Checks that check_estimator does not run by itself.
FURTHER_CHECKS = [
    "check_dataframe_column_names_consistency",
    "check_get_feature_names_out_error",
    "check_global_output_transform_pandas",
    "check_global_set_output_transform_polars",
    "check_param_validation",
    "check_set_output_transform",
    "check_set_output_transform_pandas",
    "check_set_output_transform_polars",
    "check_transformer_get_feature_names_out",
    "check_transformer_get_feature_names_out_pandas",
]


# Not strict: a fit that keeps epoch 0 is PCA, and PCA passes them.
@parametrize_with_checks(
    ESTIMATORS,
    expected_failed_checks=lambda estimator: EXPECTED_FAILED_CHECKS,
    xfail_strict=False,
)
def test_sklearn_compatible(estimator, check):
    check(estimator)


# The checks themselves mix frames and arrays; PCA warns in them, too.
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
@pytest.mark.filterwarnings("ignore:X has feature names, but:UserWarning")
@pytest.mark.parametrize("check", FURTHER_CHECKS)
@pytest.mark.parametrize("estimator", ESTIMATORS, ids=["default", "small", "random"])
def test_further_sklearn_checks(estimator, check):
    getattr(estimator_checks, check)(type(estimator).__name__, clone(estimator))


def test_only_the_expected_checks_fail():
    """check_estimator itself, and no failure that we do not explain."""
    estimator = AutoencoderTransformer(2, hidden_layer_sizes=4, max_epochs=1)
    results = check_estimator(
        estimator, expected_failed_checks=EXPECTED_FAILED_CHECKS, on_skip=None
    )
    skipped = {result["check_name"] for result in results if result["status"] == "skipped"}
    assert not skipped

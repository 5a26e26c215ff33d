"""Training that diverges raises an error that names what to lower."""

import pytest

from skae.exceptions import DivergenceError

# The detector's own loss grows with the logarithm of the error, and its tanh is bounded: they
# do not explode.
CAN_EXPLODE = [
    ("transformer", {}),
    ("denoiser", {}),
    ("generator", {}),
    ("detector", {"loss": "squared_error", "activation": "silu"}),
]


@pytest.mark.parametrize("n_rows", [120, 1200])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize(
    ("case", "params"),
    [*CAN_EXPLODE, ("transformer", {"loss": "huber"}), ("denoiser", {"loss": "huber"})],
    indirect=["case"],
)
def test_divergence_error_names_what_to_lower(params, early_stopping, n_rows, case, digits):
    # With fewer epochs, early stopping gives up after one, whose loss is that before its steps.
    params = {"max_epochs": 10, "early_stopping": early_stopping, **params}
    model = case.make(learning_rate=1e6, **params)
    with pytest.raises(DivergenceError, match=r"learning_rate=1000000\.0.*Lower learning_rate"):
        model.fit(digits[:n_rows, 20:40])
    assert not hasattr(model, "net_")


@pytest.mark.parametrize("rate", [1e6, 1e30, 1e38])
@pytest.mark.parametrize(("case", "params"), CAN_EXPLODE, indirect=["case"])
def test_divergence_in_the_last_step_is_seen(params, rate, case, table):
    params = {"max_epochs": 1, "batch_size": 200, "early_stopping": False, **params}
    model = case.make(learning_rate=rate, **params)
    with pytest.raises(DivergenceError, match="learning_rate"):
        model.fit(table)
    assert not hasattr(model, "net_")


@pytest.mark.parametrize(("case", "params"), CAN_EXPLODE, indirect=["case"])
def test_divergence_in_partial_fit(params, case, table):
    model = case.make(learning_rate=1e12, batch_size=16, **params)
    with pytest.raises(DivergenceError, match="learning_rate"):
        model.partial_fit(table)

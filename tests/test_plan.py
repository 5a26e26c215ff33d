"""Plans: what parameters mean for a fit, and when training can go on."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.utils import check_random_state

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._fit._defaults import MIN_ROWS_FOR_SPLIT, MIN_WIDE_COLUMNS, Compression
from skae._fit._plan import (
    MAX_FOLDS,
    OPEN_TRIAL,
    MayChange,
    Schedule,
    Seeds,
    check_same_network,
    n_rows_held_out,
    net_settings,
    network_fingerprint,
    resolve_network,
)


def make_schedule(validation_fraction=0.1, **fields):
    params = AutoencoderTransformer(validation_fraction=validation_fraction)
    return Schedule.of(params, **{"max_epochs": 10} | fields)


def test_a_schedule_follows_the_parameters():
    params = AutoencoderTransformer(
        early_stopping=False, validation_fraction=0.3, callbacks=[object()], verbose=2
    )
    schedule = Schedule.of(params, max_epochs=1)
    assert not schedule.early_stopping
    assert schedule.validation_fraction == 0.3
    assert schedule.is_watched
    assert schedule.verbose == 2


@pytest.mark.parametrize(
    "fields", [{"is_watched": True}, {"resumes": True}, {"early_stopping": False}]
)
def test_no_folds_where_one_training_is_wanted(fields):
    schedule = make_schedule()
    assert schedule.takes_folds(MIN_ROWS_FOR_SPLIT - 1)
    assert not schedule.takes_folds(MIN_ROWS_FOR_SPLIT)
    other = Schedule(**(vars(schedule) | fields))
    assert not other.takes_folds(MIN_ROWS_FOR_SPLIT - 1)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.4, 0.9])
@pytest.mark.parametrize("n_rows", [2, 3, 10, 500])
@pytest.mark.parametrize("n_features", [2, MIN_WIDE_COLUMNS])
def test_folds_are_all_trained_once(fraction, n_rows, n_features):
    schedule = make_schedule(max_folds=3, validation_fraction=fraction)
    n_folds = schedule.n_folds(n_rows)
    batches = schedule.batches(n_rows, n_features, n_folds)
    assert 2 <= n_folds <= min(3, n_rows)
    assert [i for batch in batches for i in range(n_folds)[batch]] == list(range(n_folds))
    assert (len(batches) == 1) == (n_features < MIN_WIDE_COLUMNS)
    parts = schedule.held_out_parts(n_rows, check_random_state(0))
    assert sorted(np.concatenate(parts)) == list(range(n_rows))


@pytest.mark.parametrize("fraction", [0.1, 0.3, 0.9])
def test_parts_of_many_rows_hold_out_other_rows_each(fraction):
    schedule = make_schedule(validation_fraction=fraction)
    parts = schedule.held_out_parts(1200, check_random_state(0))
    assert len(parts) == min(MAX_FOLDS, int(1 / fraction))
    assert {len(part) for part in parts} == {int(1200 * fraction)}
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    _, held_out = schedule.split(np.empty((1200, 1)), None, check_random_state(0))
    assert_array_equal(parts[0], held_out)
    batches = schedule.batches(1200, 2, len(parts))
    assert batches[0] == slice(0, 1)  # one is mostly enough
    assert [i for batch in batches for i in range(len(parts))[batch]] == list(range(len(parts)))


def test_a_split_parts_the_rows():
    train, held_out = make_schedule().split(np.empty((50, 1)), None, check_random_state(0))
    assert len(held_out) == 5
    assert sorted([*train, *held_out]) == list(range(50))
    assert (np.diff(train) > 0).all()  # in order: memory maps are read forward
    schedule = Schedule(**(vars(make_schedule()) | {"early_stopping": False}))
    assert schedule.split(np.empty((50, 1)), None, None) == (None, None)


def test_epochs_that_the_bar_counts():
    few, many = MIN_ROWS_FOR_SPLIT - 1, MIN_ROWS_FOR_SPLIT
    assert make_schedule().n_epochs(many, 5) == 10
    assert make_schedule().n_epochs(few, 5) == 10 * (1 + 5)  # each fold, then all rows
    stacked = make_schedule(stacks_folds=True)
    assert stacked.n_epochs(few, 5) == 10 * (1 + 1)
    tried = make_schedule(stacks_folds=True, may_try=True)
    assert tried.n_epochs(few, 5) == stacked.n_epochs(few, 5) + tried.n_trial_epochs(OPEN_TRIAL)


def test_some_rows_must_be_left_to_train_on():
    params = SimpleNamespace(early_stopping=True, validation_fraction=0.9)
    assert n_rows_held_out(params, 20) == 18
    with pytest.raises(ValueError, match=r"validation_fraction=0\.9 leaves no rows.*X has 5 rows"):
        n_rows_held_out(params, 5)
    assert n_rows_held_out(SimpleNamespace(early_stopping=False, validation_fraction=0.9), 5) == 5


def test_auto_is_resolved_by_the_rules_and_nothing_else_is():
    auto = net_settings(AutoencoderTransformer(), Compression, 20, 5000)
    assert auto["batch_size"] == Compression.batch_size(5000)
    assert auto["max_epochs"] == Compression.max_epochs(5000, auto["batch_size"])
    assert auto["learning_rate"] == Compression.learning_rate(20, 5000)
    wanted = {"batch_size": 7, "max_epochs": 3, "learning_rate": 0.5, "alpha": 0.0}
    settings = net_settings(AutoencoderTransformer(**wanted), Compression, 300, 5000)
    assert {name: settings[name] for name in wanted} == wanted


def test_networks_and_their_errors():
    params = AutoencoderTransformer(hidden_layer_sizes=3, activation="tanh")
    assert resolve_network(params, Compression, 5).hidden_layer_sizes == (3,)
    own = object()
    params.network = own
    assert resolve_network(params, Compression, 5) is own
    with pytest.raises(ValueError, match=r"hidden_layer_sizes=\(3, 0\) must hold positive"):
        resolve_network(AutoencoderTransformer(hidden_layer_sizes=(3, 0)), Compression, 5)
    with pytest.raises(ValueError, match=r"network=Seeds is a class"):
        resolve_network(AutoencoderTransformer(network=Seeds), Compression, 5)


def test_seeds_differ_and_follow_the_generator():
    seeds = Seeds.draw(check_random_state(0))
    assert seeds == Seeds.draw(check_random_state(0))
    assert len(set(seeds)) == 4


# Whether training can go on.


# What training can go on with when it changes; all other parameters shape the network.
OF_TRAINING = {
    *(
        "alpha",
        "batch_size",
        "callbacks",
        "device",
        "early_stopping",
        "learning_rate",
        "max_epochs",
    ),
    *("n_iter_no_change", "random_state", "validation_fraction", "verbose", "warm_start"),
}
MAY_CHANGE = {
    AutoencoderTransformer: OF_TRAINING,
    AutoencoderOutlierDetector: OF_TRAINING
    | {"contamination", "core_fraction", "n_refits", "n_std", "threshold", "views"},
    DenoisingAutoencoder: OF_TRAINING
    | {
        "add_indicator",
        "keep_empty_features",
        "keep_observed",
        "max_value",
        "min_value",
        "noise_level",
        "noise_unit",
        "output",
        "sample_posterior",
    },
    VAEGenerator: OF_TRAINING | {"n_importance_samples", "n_mixture_components", "prior", "refine"},
}


@pytest.mark.parametrize("cls", MAY_CHANGE)
def test_marks_beside_the_constraints(cls):
    constraints = cls._parameter_constraints
    assert {k for k, v in constraints.items() if isinstance(v, MayChange)} == MAY_CHANGE[cls]


@pytest.mark.parametrize("cls", MAY_CHANGE)
def test_other_parameters_are_in_the_fingerprint(cls):
    estimator = cls()
    before = network_fingerprint(estimator)
    for name in estimator.get_params(deep=False):
        other = clone(estimator)
        vars(other)[name] = "something else"
        assert (network_fingerprint(other) == before) == (name in MAY_CHANGE[cls]), name


def test_the_error_says_what_changed():
    before = network_fingerprint(AutoencoderTransformer(4))
    check_same_network(AutoencoderTransformer(4, max_epochs=3), before)
    with pytest.raises(ValueError, match=r"n_components=5 .* was built with n_components=4"):
        check_same_network(AutoencoderTransformer(5), before)


def noise(rows, generator):
    return rows


def test_functions_are_known_by_name():
    one, other = (DenoisingAutoencoder(noise=function) for function in (noise, noise.__call__))
    assert network_fingerprint(one)["noise"] == "noise"
    assert network_fingerprint(one) != network_fingerprint(other)


class WithMore(AutoencoderTransformer):
    """A subclass with a parameter of its own, and another constraint for one of its base."""

    _parameter_constraints = {**AutoencoderTransformer._parameter_constraints, "max_epochs": [int]}

    def __init__(self, label="x", network=None, max_epochs=2, warm_start=False):
        super().__init__(2, network=network, max_epochs=max_epochs, warm_start=warm_start)
        self.label = label


def test_subclasses_may_add_parameters_and_constraints(table):
    model = WithMore().fit(table)
    assert "label" in network_fingerprint(model)
    assert "max_epochs" not in network_fingerprint(model)
    assert model.set_params(warm_start=True, max_epochs=3).fit(table).n_iter_ <= 3

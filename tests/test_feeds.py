"""What the denoiser trains on."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from skae import DenoisingAutoencoder
from skae._data._chunks import ColumnStack
from skae._data._scaling import Scaler
from skae._fit._feeds import NoisyFeed, blend_measure, clean_rows, noisy_rows


@pytest.fixture
def make_feed(table):
    def make(**fields):
        defaults = {
            "scaler": Scaler("standard").fit(table),
            "device": "cpu",
            "noise": "masking",
            "level": 0.3,
            "hidden_share": 0.0,
            "is_paired": False,
            "reads_mask": True,
            "empty": np.zeros(table.shape[1], dtype=bool),
            "shrinkage": 0.1,
        }
        return NoisyFeed(**defaults | fields)

    return make


def test_a_feed_is_fitted_on_training_rows_only(make_feed, table):
    feed = make_feed()
    first = feed.fitted(table, np.arange(60), None)
    other = np.where(np.arange(len(table))[:, None] < 60, table, 1e3)
    again = feed.fitted(other, np.arange(60), None)
    assert feed.gaussian is None  # folds share the feed of the plan
    assert_array_equal(first.gaussian.mean_, again.gaussian.mean_)
    assert (first.gaussian.mean_ != feed.fitted(table, None, None).gaussian.mean_).any()


def test_without_shrinkage_there_is_nothing_to_fit(make_feed, table):
    feed = make_feed(shrinkage=None)
    assert feed.fitted(table, None, None) is feed


def test_the_encoder_reads_filled_rows_and_a_mask(make_feed, table):
    feed = make_feed().fitted(table, None, None)
    rows = table.copy()
    rows[3, 2] = np.nan
    inputs = feed.input_transform.transform(rows)
    assert inputs.shape == (len(table), 2 * table.shape[1])
    assert np.isfinite(inputs).all()
    mask = inputs[:, table.shape[1] :]
    assert mask[3, 2] == 1
    assert mask.sum() == 1


def test_nothing_is_measured_without_held_out_rows(make_feed, table):
    assert blend_measure(None, make_feed(), table, None, None) is None


def test_pairs_are_split_again(table):
    pairs = ColumnStack(table, table + 1)
    assert noisy_rows(pairs) is table
    assert_array_equal(clean_rows(pairs), table + 1)
    assert noisy_rows(table) is clean_rows(table) is table


def test_custom_networks_read_no_mask():
    class Own:
        def build(self, n_features, n_components):
            from torch import nn

            return nn.Linear(n_features, n_components), nn.Linear(n_components, n_features)

    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 4))
    X[::5, 1] = np.nan
    model = DenoisingAutoencoder(2, network=Own(), max_epochs=1, random_state=0).fit(X)
    assert model._learns_to_fill
    assert not model._reads_mask
    assert DenoisingAutoencoder(2, max_epochs=1, random_state=0).fit(X)._reads_mask

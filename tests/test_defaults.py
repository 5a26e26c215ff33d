import pytest

from skae import AutoencoderTransformer, _defaults


@pytest.mark.parametrize("n_rows", [2, 30, 64, 65, 500, 999, 1000, 5000, 60_000, 10**7])
def test_lengths_are_sane(n_rows):
    batch_size = _defaults.batch_size(n_rows)
    n_epochs = _defaults.max_epochs(n_rows, batch_size)
    assert isinstance(n_epochs, int)
    assert n_epochs >= 12
    if n_rows <= 10_000:
        assert n_epochs * -(-n_rows // batch_size) <= 2000  # seconds, not minutes


@pytest.mark.parametrize("n_features", [1, 10, 255, 256, 10_000])
def test_rates_are_sane(n_features):
    assert 1e-4 < _defaults.learning_rate(n_features) < 0.05
    for n_steps in (1, 100, 10**6):
        assert 0 <= _defaults.alpha(n_features, n_steps) <= 0.3
    assert all(size > 0 for size in _defaults.hidden_layer_sizes(n_features))


def test_auto_means_the_defaults(table):
    model = AutoencoderTransformer(2, random_state=0, max_epochs=1).fit(table)
    net = model.net_
    assert net.batch_size == _defaults.batch_size(120)
    assert net.learning_rate == _defaults.learning_rate(10)
    assert net.alpha == _defaults.alpha(10, -(-120 // net.batch_size))

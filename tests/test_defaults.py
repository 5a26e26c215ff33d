import numpy as np
import pytest

from skae import (
    AutoencoderOutlierDetector,
    AutoencoderTransformer,
    DenoisingAutoencoder,
    VAEGenerator,
)
from skae._fit._defaults import (
    Cleaning,
    Compression,
    Detection,
    Filling,
    Generation,
    TableGeneration,
)


@pytest.mark.parametrize(
    ("rules", "least"),
    [(Cleaning, 12), (Compression, 1), (Detection, 1), (Generation, 20), (TableGeneration, 20)],
)
@pytest.mark.parametrize("n_rows", [2, 30, 64, 65, 500, 999, 1000, 5000, 60_000, 10**7])
def test_lengths_are_sane(rules, least, n_rows):
    batch_size = rules.batch_size(n_rows)
    n_epochs = rules.max_epochs(n_rows, batch_size)
    assert isinstance(n_epochs, int)
    assert n_epochs >= least
    if n_rows <= 10_000:
        assert n_epochs * -(-n_rows // batch_size) <= 2000  # seconds, not minutes


@pytest.mark.parametrize(
    "rules", [Cleaning, Compression, Detection, Filling, Generation, TableGeneration]
)
@pytest.mark.parametrize("n_features", [1, 10, 255, 256, 10_000])
def test_rates_are_sane(rules, n_features):
    assert 1e-4 < rules.learning_rate(n_features, n_rows=5000) < 0.05
    for n_steps in (1, 100, 10**6):
        assert 0 <= rules.alpha(n_features, n_steps) <= 0.3
    assert all(size > 0 for size in rules.hidden_layer_sizes(n_features))


def test_auto_means_the_defaults(table):
    model = AutoencoderTransformer(2, random_state=0, max_epochs=1).fit(table)
    net = model.net_
    assert net.batch_size == Compression.batch_size(120)
    assert net.learning_rate == Compression.learning_rate(10, 120)
    assert net.alpha == Compression.alpha(10, -(-120 // net.batch_size))


def test_auto_means_the_defaults_of_the_detector(table):
    model = AutoencoderOutlierDetector(random_state=0).fit(table)
    assert model.n_components_ == Detection.n_components(10) == 3
    assert model.net_.learning_rate == Detection.learning_rate(10, 120)
    assert model.n_iter_ == model.net_.max_epochs == 300  # one step each: the core is 76 rows


def test_auto_means_the_defaults_of_the_denoiser(table):
    model = DenoisingAutoencoder(random_state=0).fit(table)
    assert model.n_components_ == Cleaning.n_components(10) == 10
    assert model.net_.learning_rate == Filling.learning_rate(10, 120)
    assert model.net_.alpha == Cleaning.alpha(10, 1)
    cleaner = DenoisingAutoencoder(noise="gaussian", max_epochs=1).fit(table)
    assert cleaner.net_.learning_rate == Cleaning.learning_rate(10, 120)
    # 120 rows come nine times an epoch, each time with other noise.
    assert model.n_iter_ == Cleaning.max_epochs(120, 64) == 38


def test_auto_means_the_defaults_of_the_generator(table):
    model = VAEGenerator(random_state=0).fit(table)
    assert model.n_components_ == Generation.n_components(10) == 10
    assert model.net_.learning_rate == Generation.learning_rate(10, 120)
    assert model.n_iter_ == Generation.max_epochs(120, 256) == 300  # one step each
    assert model.prior_.n_components == Generation.n_mixture_components(120) == 4
    assert model.refiner_ is None


@pytest.mark.parametrize("n_features", [1, 2, 6, 20, 784, 10**6])
def test_few_latents(n_features):
    assert 1 <= Detection.n_components(n_features) <= max(1, n_features - 1)


@pytest.mark.parametrize(
    ("n_rows", "params", "is_orthogonal"),
    [
        (1000, {}, True),
        (999, {}, False),
        (1000, {"likelihood": "gaussian"}, False),
    ],
)
def test_generators_of_tables_take_fewer_steps(n_rows, params, is_orthogonal):
    X = np.random.default_rng(0).normal(size=(n_rows, 3))
    model = VAEGenerator(max_epochs=1, refine=False, prior="standard", random_state=0, **params)
    assert model.fit(X).net_.orthogonal == is_orthogonal
    assert TableGeneration.max_epochs(1000, 256) == 100 < Generation.max_epochs(1000, 256)


def test_a_warm_start_takes_the_same_rules(monkeypatch):
    monkeypatch.setattr(TableGeneration, "max_epochs", staticmethod(lambda *args: 1))
    monkeypatch.setattr(Generation, "max_epochs", staticmethod(lambda *args: 2))
    X = np.random.default_rng(0).normal(size=(1000, 3))
    model = VAEGenerator(refine=False, prior="standard", warm_start=True, random_state=0)
    assert model.fit(X).n_iter_ == 1
    model.fit(X)
    assert model.net_.max_epochs == 1

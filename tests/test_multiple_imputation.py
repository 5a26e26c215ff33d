"""Draws of missing cells: they differ from call to call, and fits begin them anew."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pytest
from numpy.testing import assert_array_equal

import skae
from skae import DenoisingAutoencoder

FAST = {"hidden_layer_sizes": (8,), "max_epochs": 3, "random_state": 0}


@pytest.fixture(scope="module")
def holes():
    """200 rows of 4 columns, two of which are nearly the sum of the others."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2)) @ [[1.0, 0, 1, 2], [0, 1, 1, -1]]
    X += 0.3 * rng.normal(size=X.shape)
    return np.where(rng.random(X.shape) < 0.2, np.nan, X)


def make(**params):
    return DenoisingAutoencoder(**{"sample_posterior": True, **FAST, **params})


def draws(model, X, n=3):
    return [model.transform(X) for _ in range(n)]


@pytest.mark.parametrize("init", ["pca", "random"])
def test_each_call_draws_anew(init, holes):
    first, second = draws(make(init=init).fit(holes), holes, 2)
    gaps = np.isnan(holes)
    assert (first[gaps] != second[gaps]).all()
    assert_array_equal(first[~gaps], second[~gaps])
    assert_array_equal(first[~gaps], holes[~gaps])


def test_the_same_seed_gives_the_same_sequence_after_each_fit(holes):
    model = make().fit(holes)
    sequence = draws(model, holes)
    assert_array_equal(draws(make().fit(holes), holes), sequence)
    assert_array_equal(draws(model.fit(holes), holes), sequence)
    assert_array_equal(make().fit_transform(holes), sequence[0])
    other = draws(make(random_state=1).fit(holes), holes)
    assert (np.array(other)[:, np.isnan(holes)] != np.array(sequence)[:, np.isnan(holes)]).all()


def test_training_that_goes_on_does_not_repeat_draws(holes):
    model = make(warm_start=True).fit(holes)
    model.transform(holes)
    seed = model._draw_seed
    model.fit(holes).partial_fit(holes)
    assert (model._draw_seed, model._n_draws) == (seed, 1)


def test_only_draws_advance_the_state(holes):
    model, other = make().fit(holes), make().fit(holes)
    model.set_params(sample_posterior=False).transform(holes)
    model.score(holes)
    model.set_params(sample_posterior=True, output="latent").transform(holes)
    model.set_params(output="denoised")
    assert_array_equal(model.transform(holes), other.transform(holes))


@pytest.mark.parametrize("seed", [None, np.random.RandomState(3)])
def test_generators_of_others_are_left_alone(seed, holes):
    model = make(random_state=seed).fit(holes)
    theirs = np.random.get_state()[1] if seed is None else seed.get_state()[1]  # noqa: NPY002
    theirs = theirs.copy()
    first, second = draws(model, holes, 2)
    assert (first != second).any()
    now = np.random.get_state()[1] if seed is None else seed.get_state()[1]  # noqa: NPY002
    assert_array_equal(now, theirs)


def saved_and_loaded(model, folder):
    skae.save(model, folder / "model.skae")
    return skae.load(folder / "model.skae")


def dumped_by_joblib(model, folder):
    joblib.dump(model, folder / "model.joblib")
    return joblib.load(folder / "model.joblib")


@pytest.mark.parametrize(
    "copied",
    [
        lambda model, folder: copy.deepcopy(model),
        lambda model, folder: pickle.loads(pickle.dumps(model)),
        dumped_by_joblib,
        saved_and_loaded,
    ],
    ids=["deepcopy", "pickle", "joblib", "save"],
)
def test_copies_go_on_with_the_draws_that_the_original_would_make(copied, holes, tmp_path):
    model = make().fit(holes)
    model.transform(holes)
    other = copied(model, tmp_path)
    assert_array_equal(draws(other, holes), draws(model, holes))


def test_threads_share_one_sequence(holes):
    model = make().fit(holes)
    expected = {draw.tobytes() for draw in draws(make().fit(holes), holes, 12)}
    with ThreadPoolExecutor(4) as pool:
        found = {draw.tobytes() for draw in pool.map(lambda _: model.transform(holes), range(12))}
    assert found == expected
    assert len(found) == 12


def test_draws_in_frames(holes):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(holes, columns=list("abcd"))
    model = make(add_indicator=True).set_output(transform="pandas").fit(frame)
    first, second = draws(model, frame, 2)
    assert first.columns[:4].tolist() == list("abcd")
    gaps = np.isnan(holes)
    assert (first.to_numpy()[:, :4][gaps] != second.to_numpy()[:, :4][gaps]).all()
    assert_array_equal(first.iloc[:, 4:], second.iloc[:, 4:])


def test_rubins_rules_give_the_variance_that_the_gaps_add():
    """Of the mean of a column of which 40 % is missing, for normal rows with correlation r.

    Draws of the k missing of n cells have the conditional variance 1 - r ** 2, so their mean over
    the whole column varies by ``k * (1 - r ** 2) / n ** 2`` between imputations.
    """
    rng = np.random.default_rng(0)
    n, r = 1200, 0.6
    x = rng.normal(size=n)
    y = r * x + np.sqrt(1 - r**2) * rng.normal(size=n)
    X = np.column_stack([x, np.where(rng.random(n) < 0.4, np.nan, y)])
    imputer = DenoisingAutoencoder(sample_posterior=True, max_epochs=5, random_state=0).fit(X)
    completed = np.stack([imputer.transform(X)[:, 1] for _ in range(60)])
    means, within = completed.mean(axis=1), completed.var(axis=1, ddof=1).mean() / n
    between = means.var(ddof=1)
    # 0.63 to 1.69 times over eight seeds.
    expected = np.isnan(X[:, 1]).sum() * (1 - r**2) / n**2
    assert 0.4 * expected < between < 2.5 * expected
    total = within + (1 + 1 / len(means)) * between
    # 1.07 to 1.61 times what it is without gaps.
    assert 1 / n < total < 2 / n
    assert abs(means.mean()) < 3 * np.sqrt(total)

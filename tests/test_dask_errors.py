"""What is refused of Dask collections before anything is submitted."""

import pandas as pd
import pytest
import shards
from sklearn.pipeline import make_pipeline

from skae import VAEGenerator
from skae import dask as skae_dask

dd = pytest.importorskip("dask.dataframe", reason="fits collections")
da = pytest.importorskip("dask.array", reason="fits collections")
distributed = pytest.importorskip("distributed", reason="its workers train")


@pytest.fixture(scope="module")
def client():
    with distributed.Client(processes=False, n_workers=1, dashboard_address=":0") as client:
        yield client


def blocks():
    return da.from_array(shards.table(), chunks=(6000, 6))


def test_what_is_no_estimator_or_client(client):
    with pytest.raises(TypeError, match="estimator, of type Pipeline, must be"):
        skae_dask.fit(make_pipeline(shards.transformer()), blocks(), client)
    with pytest.raises(TypeError, match=r"client, of type Array, .* passed by sample_weight="):
        skae_dask.fit(shards.transformer(), blocks(), blocks()[:, 0])
    weights = shards.weights(shards.table())
    with pytest.raises(TypeError, match=r"sample_weight, of type ndarray, .*from_array"):
        skae_dask.fit(shards.transformer(), blocks(), client, sample_weight=weights)


def test_parameters_are_checked_on_the_client(client, monkeypatch):
    monkeypatch.setattr(skae_dask, "_train", None)  # nothing is submitted
    with pytest.raises(ValueError, match="cannot watch a training"):
        skae_dask.fit(shards.transformer(callbacks=[print]), blocks(), client)


def test_arrays_that_hold_texts_in_a_partition(client):
    X = shards.table(100)
    parts = client.scatter([X, X.astype(str)])
    with pytest.raises(ValueError, match="Column 0 holds texts in partition 1, but numbers in pa"):
        skae_dask.fit(shards.transformer(), parts, client)


def test_what_is_no_collection_of_rows_for_a_method():
    X = pd.DataFrame(shards.table()[:500], columns=[*"abcdef"])
    model = shards.transformer(max_epochs=1).fit(X)
    with pytest.raises(
        ValueError, match=r"has columns .*'z'.* was fitted to \['a'.*missing: \['a'\]"
    ):
        skae_dask.apply(model, "transform", dd.from_pandas(X.rename(columns={"a": "z"})))
    for wrong in (1000, X):
        with pytest.raises(TypeError, match=f"collection, of type {type(wrong).__name__}, must"):
            skae_dask.apply(model, "transform", wrong)
    generator = VAEGenerator(2, max_epochs=1, random_state=0).fit(X)
    with pytest.raises(ValueError, match="method='sample' must be one that takes rows"):
        skae_dask.apply(generator, "sample", dd.from_pandas(X), n_samples=3)

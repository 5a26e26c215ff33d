"""Shards that are tables on disk: mixed ones, wrong ones, and few rows of positive weight."""

import numpy as np
import pandas as pd
import pytest
import shards
from numpy.testing import assert_allclose
from sklearn.base import clone

import skae
import skae.io
from skae._data._row_files import FilesOfRows, write_rows
from skae._engine._group import ALONE
from skae.estimators._sharded_fit import Shard, fit_shards
from skae.estimators._shared_columns import check_levels


@pytest.mark.parametrize("name", ["default", "denoiser", "generator", "detector"])
def test_shards_may_be_tables_on_disk(name, tmp_path):
    """Of several parts, without a group; processes do the same with their own."""
    pytest.importorskip("pyarrow", reason="reads files")
    estimator, X, _ = (shards.EQUAL | shards.AS_GOOD)[name]()
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=1000)
    source, sizes = skae.io.open_table(tmp_path / "rows.parquet"), {0: 6000, 1: 4500}
    ours = fit_shards(estimator, lambda: Shard(source, None, sizes, 0), ALONE)
    theirs = fit_shards(estimator, lambda: Shard(frame, None, sizes), ALONE)
    assert ours.feature_names_in_.tolist() == [*"abcdef"]
    assert ours.n_samples_seen_ == len(X)
    assert_allclose(ours.loss_curve_[-1], theirs.loss_curve_[-1], rtol=0.1)
    weight = np.ones(len(X))
    weight[:100] = 0.5
    again = fit_shards(estimator, lambda: Shard(source, weight, sizes, 0), ALONE)
    assert_allclose(again.loss_curve_[-1], theirs.loss_curve_[-1], rtol=0.1)


@pytest.mark.parametrize("name", [*shards.ON_DISK, "repeated"])
def test_few_rows_of_positive_weight(name, tmp_path, set_limits, monkeypatch):
    """Of a table on disk, on shards or not: what is learned is what these rows tell."""
    pytest.importorskip("pyarrow", reason="reads files")
    monkeypatch.setattr("skae._data._survey.n_sampled", lambda n_features: 100)
    monkeypatch.setattr("skae.estimators._sharded_fit.n_sampled", lambda n_features: 100)
    X = shards.table(10_100)
    X[:100] += 100
    weight = np.zeros(len(X))
    weight[:100] = np.linspace(1, 2, 100)
    frame = pd.DataFrame(X, columns=[*"abcdef"])
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=1000)
    table = skae.io.open_table(tmp_path)
    estimator = (shards.ON_DISK | {"repeated": shards.AS_GOOD["denoiser"]})[name]
    estimator = estimator()[0] if name == "repeated" else estimator()
    estimator.set_params(batch_size=300)
    set_limits(bytes_on_disk=1, rows_on_disk=1000)
    sizes = {0: 50, 1: 10_050}
    models = [
        fit_shards(estimator, lambda: Shard(table, weight, sizes, 0), ALONE),
        clone(estimator).fit(table, sample_weight=weight),
        clone(estimator).fit(frame[:100], sample_weight=weight[:100]),
    ]
    errors = [model.reconstruction_error(frame[:100]).mean() for model in models]
    assert_allclose(errors, errors[2], rtol=0.5)
    assert_allclose([model.loss_curve_[-1] for model in models], models[2].loss_curve_[-1], rtol=1)
    for model in models:
        _, high, _ = model._scaler.known_ranges
        assert_allclose(high, X[:100].max(axis=0), rtol=1e-5)


@pytest.mark.parametrize("names", [None, [*"abcdef"]], ids=["array", "frame"])
def test_files_of_numbers_with_gaps_and_levels(names, tmp_path):
    X = shards.table()
    X[:, 1] = np.arange(len(X)) % 7
    X[5000:5010, 2] = np.nan
    rows = FilesOfRows([write_rows(X, str(tmp_path / "rows"))], ["partition 0"], names)
    some = X[5000:5010] if names is None else pd.DataFrame(X[5000:5010], columns=names)
    shard = Shard(rows, None, {0: len(X)}, 0)
    model = fit_shards(shards.transformer(categorical_features=[1]), lambda: shard, ALONE)
    assert [*map(len, map(model._columns.levels, range(6)))] == [0, 7, 0, 0, 0, 0]
    assert np.isfinite(model.transform(some)).all()
    model = fit_shards(shards.transformer(), lambda: shard, ALONE)
    assert np.isfinite(model.transform(some)).all()
    X[0, 0] = np.inf
    rows = FilesOfRows([write_rows(X, str(tmp_path / "others"))], ["partition 0"], names)
    with pytest.raises(ValueError, match=r"contains infinity.*partition 0, row 0 of the table"):
        fit_shards(shards.transformer(), lambda: Shard(rows, None, {0: len(X)}, 0), ALONE)


def test_columns_that_seem_to_name_rows(monkeypatch):
    """By their levels in all rows; of the examples that columns are learned from, many do."""
    X = shards.mixed_table(shards.N_ROWS)
    one_epoch = shards.transformer(max_epochs=1)
    fit_shards(one_epoch, lambda: Shard(X, None, {0: len(X)}), ALONE)
    monkeypatch.setattr("skae._data._columns.MAX_LEVEL_SHARE", 1e-4)
    with pytest.warns(UserWarning, match="'level' of X holds 3 levels in 10500 rows") as told:
        fit_shards(one_epoch, lambda: Shard(X, None, {0: 9000, 1: 1500}), ALONE)
    assert len(told) == 1


def test_more_levels_than_tables_on_disk_may_have(tmp_path, monkeypatch, set_limits):
    pytest.importorskip("pyarrow", reason="reads files")
    X = shards.mixed_table()
    X.to_parquet(tmp_path / "rows.parquet")
    table = skae.io.open_table(tmp_path)
    assert Shard(table, None, {0: len(X)}).table.equals(X)  # small tables are read
    set_limits(bytes_on_disk=1)
    shard = Shard(table, None, {0: len(X)})
    assert shard.table is table
    model = shards.transformer(max_epochs=1).fit(X)
    monkeypatch.setattr("skae._data._telling_batches.MOST_LEVELS", 2)
    with pytest.raises(ValueError, match="'level' of X holds more than 2 levels"):
        check_levels(model, shard, len(X), ALONE)


WRONG_ON_DISK = {
    "infinite": (shards.transformer(), r"'a' of X contains infinity.*row 1234 of the table"),
    "levels": (shards.transformer(categorical_features=None), "'level' of X holds 'high', but"),
    "likelihood": (shards.small_generator(likelihood="gaussian"), "column 'level' holds levels"),
    "named": (
        shards.small_generator(likelihood="gaussian", categorical_features=["f"]),
        "column 'f' holds levels",
    ),
    "private": (shards.small_generator(private_values=True), "private_values=True counts"),
    "marker": (skae.DenoisingAutoencoder(missing_values=-1), "missing_values=-1 needs numbers"),
}


@pytest.mark.parametrize("name", WRONG_ON_DISK)
def test_mixed_tables_on_disk_that_cannot_be_learned(name, tmp_path):
    pytest.importorskip("pyarrow", reason="reads files")
    X = shards.mixed_table(shards.N_ROWS)
    if name == "infinite":
        X.loc[1234, "a"] = np.inf
    if name == "named":
        X = X[["a", "c", "f"]].round()
    X.to_parquet(tmp_path / "rows.parquet", row_group_size=500)
    shard = Shard(skae.io.open_table(tmp_path), None, {0: len(X)}, 0)
    estimator, message = WRONG_ON_DISK[name]
    with pytest.raises(ValueError, match=message):
        fit_shards(estimator, lambda: shard, ALONE)

"""Time zones that files name: of the tz database, or fixed offsets, and never a path."""

import builtins
import io
import os
from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

import skae
from skae._storage._documents import DocumentDecoder, DocumentEncoder
from skae._storage._plain_kinds import PLAIN_KINDS

PATHS = [
    *("dateutil/Europe/Berlin", "dateutil//etc/hosts", "/etc/hosts", "../../etc/hosts"),
    *("Europe/../../hosts", "Europe/Berlin/", "tzlocal()", "tzfile('/etc/hosts')", "localtime"),
    *("posixrules", "Nowhere/At_All", "", ".", "zone.tab", "C:\\hosts", "Europe"),
]
ZONES = [
    "Europe/Berlin",
    "UTC",
    "Etc/GMT+5",
    "America/Argentina/Buenos_Aires",
    "UTC+02:00",
    "-03:30",
]


def nodes(zone):
    yield {"is": "timestamp", "value": 0, "unit": "ns", "zone": zone}
    for name in (
        "datetime64[ns, {}]",
        "M8[ns, {}]",
        "interval[datetime64[ns, {}], right]",
        "Sparse[datetime64[ns, {}]]",
        "timestamp[ns, tz={}][pyarrow]",
    ):
        yield {"is": "pandas dtype", "name": name.format(zone), "categories": None}
    yield {"is": "pandas dtype", "name": f"datetime64[ns, UTC, {zone}]", "categories": None}


@pytest.mark.parametrize("zone", PATHS)
def test_paths_are_no_zones(zone, monkeypatch):
    """They are refused before anything is opened."""

    def refuse(path, *args, **kwargs):
        assert not str(path).startswith(("/etc/", "../")), path
        return opened(path, *args, **kwargs)

    opened = io.open
    for module in (builtins, io):
        monkeypatch.setattr(module, "open", refuse)
    for node in nodes(zone):
        with pytest.raises(ValueError, match=r"time zone|not understood"):
            DocumentDecoder(PLAIN_KINDS, {}).read(node)


@pytest.mark.parametrize("zone", PATHS)
def test_paths_are_no_zones_of_polars(zone):
    pytest.importorskip("polars")
    node = {"is": "polars dtype", "name": "Datetime", "settings": ["us", zone]}
    with pytest.raises(ValueError, match="time zone"):
        DocumentDecoder(PLAIN_KINDS, {}).read(node)


@pytest.mark.parametrize("zone", ZONES)
def test_zones_of_the_database_and_offsets_come_back(zone):
    stamp = pd.Timestamp("2026-03-29 12:00", tz=zone)
    for value in (
        stamp,
        pd.DatetimeTZDtype("ns", zone),
        pd.IntervalDtype(f"datetime64[ns, {zone}]"),
    ):
        node = DocumentEncoder(PLAIN_KINDS).write(value, "x")
        assert DocumentDecoder(PLAIN_KINDS, {}).read(node) == value


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=2)), ZoneInfo("Asia/Kolkata")])
def test_models_of_zoned_columns_come_back(zone, tmp_path):
    days = pd.date_range("2026-01-01", periods=40, tz=zone)
    frame = pd.DataFrame({"day": days, "x": np.arange(40.0)})
    model = skae.VAEGenerator(1, max_epochs=1, random_state=0).fit(frame)
    skae.save(model, tmp_path / "model.skae")
    drawn = [m.sample(5, random_state=0) for m in (model, skae.load(tmp_path / "model.skae"))]
    pd.testing.assert_frame_equal(*drawn)


def test_a_zone_that_could_not_be_loaded_is_not_saved(tmp_path):
    tz = pytest.importorskip("dateutil.tz")
    zone = tz.gettz("Europe/Berlin")
    if zone is None or os.name != "posix":
        pytest.skip("dateutil finds no time zones here")
    days = pd.date_range("2026-01-01", periods=40, tz=zone)
    frame = pd.DataFrame({"day": days, "x": np.arange(40.0)})
    model = skae.VAEGenerator(1, max_epochs=1, random_state=0).fit(frame)
    with pytest.raises(TypeError, match=r"cannot be saved.*time zone"):
        skae.save(model, tmp_path / "model.skae")
    assert not list(tmp_path.iterdir())

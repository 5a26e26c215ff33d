"""The README's code prints the output shown, and its tables are correct."""

import re
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import skae

REPOSITORY = Path(__file__).parents[1]
if not (REPOSITORY / "setup.cfg").exists():
    pytest.skip("the tests are not run from the repository", allow_module_level=True)
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PICTURE = REPOSITORY / "docs" / "overview.png"
CODE = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n\n^```text\n(?P<output>.*?)^```$)?", re.M | re.S
)


class Example(NamedTuple):
    """A block of code, and the block of output after it."""

    code: str
    output: str | None


def examples_in(text):
    return [Example(match["code"], match["output"]) for match in CODE.finditer(text)]


def table_in(text, column):
    """The pipe table that has this column, as one dict per row."""
    for table in re.findall(r"(?:^\|.*\|\n)+", text, re.M):
        header, _, *rows = [
            [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()
        ]
        if column in header:
            return [dict(zip(header, row, strict=True)) for row in rows]
    raise ValueError(f"there is no table with a column {column!r}")


def words_in(text):
    """The words outside of code, tables, pictures and addresses."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^(\||!\[).*$", "", text, flags=re.M)
    return re.sub(r"\]\([^)]*\)", "]", text).split()


@pytest.mark.parametrize(
    "example", examples_in(README), ids=lambda e: re.search(r"from skae import (\w+)", e.code)[1]
)
def test_example_prints_what_is_shown(example):
    printed = StringIO()
    with redirect_stdout(printed):
        exec(compile(example.code, "README.md", "exec"), {"__name__": "readme"})
    assert printed.getvalue() == example.output


def test_every_estimator_has_an_example():
    code = "".join(example.code for example in examples_in(README))
    estimators = [name for name in skae.__all__ if isinstance(getattr(skae, name), type)]
    assert len(estimators) == 4
    assert all(re.search(rf"\b{name}\(", code) for name in estimators)


def test_examples_and_their_output_are_found():
    shown = "```python\na = 1\n```\n\n```text\n1\n```\n\n"
    text = shown + "```python\nb = 2\n```\n\nText.\n\n```text\n2\n```\n"
    assert examples_in(text) == [Example("a = 1\n", "1\n"), Example("b = 2\n", None)]


def test_figures_are_those_of_the_benchmarks():
    rows = table_in(README, "script")
    assert len({re.match(r"`(\w+)", row["estimator"])[1] for row in rows}) == 4
    for row in rows:
        script = row["script"].strip("`")
        assert (REPOSITORY / "benchmarks" / script).exists()
        name = re.fullmatch(r"bench_(\w+)\.py", script)[1]
        results = (REPOSITORY / "benchmarks" / "results" / f"{name}.md").read_text(encoding="utf-8")
        figures = re.findall(r"\d+\.\d{2,}", row["result"])
        assert figures
        for figure in figures:
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?!\d)", results), figure


def kinds_of_data():
    """A table of each kind that the README's table of kinds asks about."""
    rng = np.random.default_rng(0)
    numbers = pd.DataFrame(rng.normal(size=(120, 5)), columns=list("abcde"))
    labels = np.where(numbers["a"] > 0, "high", "low")
    days = pd.Timestamp("2020-01-01") + pd.to_timedelta(np.arange(120), unit="D")
    return {
        "strings, categories": [
            numbers.assign(f=labels),
            numbers.assign(f=pd.Categorical(labels)),
        ],
        "dates": [numbers.assign(f=days)],
        "missing cells (NaN)": [numbers.mask(rng.random(numbers.shape) < 0.1)],
        "sparse rows": [
            sparse.random(120, 8, density=0.3, format=kind, random_state=0)
            for kind in ("csr", "csc")
        ],
    }


@pytest.mark.parametrize("row", table_in(README, "dates"), ids=lambda row: row["estimator"])
def test_kinds_of_data_are_accepted_as_shown(row):
    kinds = kinds_of_data()
    assert set(row) == {"estimator", *kinds}
    estimator = getattr(skae, row["estimator"].strip("`"))(max_epochs=2, random_state=0)
    use = "transform" if hasattr(estimator, "transform") else "score_samples"
    for kind, tables in kinds.items():
        for X in tables:
            if row[kind] == "yes":
                assert len(getattr(estimator.fit(X), use)(X)) == 120
            else:
                assert row[kind] == "no"
                with pytest.raises((TypeError, ValueError)):
                    estimator.fit(X)


def test_it_is_short():
    assert 600 <= len(words_in(README)) <= 900


def test_picture_is_small_and_committed_with_its_script():
    assert f"]({PICTURE.relative_to(REPOSITORY).as_posix()})" in README
    assert PICTURE.stat().st_size < 100_000
    assert PICTURE.name in (PICTURE.parent / "draw_overview.py").read_text(encoding="utf-8")

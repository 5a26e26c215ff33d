"""The manual is correct: its code runs, its errors are those raised, its lists are complete."""

import importlib.util
import inspect
import re
import shutil
import warnings
from itertools import pairwise
from pathlib import Path
from textwrap import dedent
from typing import NamedTuple

import matplotlib
import pytest

import skae
import skae.comparison
import skae.dask
import skae.distributed
import skae.exceptions
import skae.interchange
import skae.io
import skae.networks
import skae.plotting
import skae.relations
from skae._fit._defaults import Cleaning, Compression, Detection, Generation, TableGeneration
from skae._version import PAGE_OF_CLASS

DOCS = Path(__file__).parents[1] / "docs"
if not DOCS.exists():
    pytest.skip("the manual is not beside the tests", allow_module_level=True)
GETTING_STARTED = DOCS / "getting_started.rst"
PAGES = sorted([*DOCS.glob("user_guide/*.rst"), GETTING_STARTED])
# Packages whose blocks, of a class of this name, run where they are installed, and what they need.
OPTIONAL = {"aeon", "pyarrow", "pyod", "sktime", "suod", "dask", "distributed", "ray", "pyspark"}
OPTIONAL |= {"imblearn", "mlflow", "optuna", "optuna_integration", "rich", "shap", "skops", "skrub"}
MODULES = {"rich": "sklearn.callback"}
PROGRAMS = {"pyspark": "java"}
# A title and the line under it.
HEADING = re.compile(r"^(?P<title>\S.*)\n(?P<line>([=~-])\3{2,})$", re.M)
BLOCK = re.compile(
    r"^(?P<indent> *)\.\. code-block:: (?P<language>\w+)\n"
    r"(?:(?P=indent)   :class: (?P<kind>\w+)\n)?"
    r"(?P<body>(?:\n|(?P=indent)   .*\n)+)",
    re.M,
)


class Block(NamedTuple):
    """A block of code, or the error that the block before it raises."""

    language: str
    kind: str | None
    body: str


def blocks_of(text):
    for match in BLOCK.finditer(text + "\n"):
        yield Block(match["language"], match["kind"], dedent(match["body"]).strip())


def sections_of(text):
    """(title, text) of each section; a page's first one holds its title."""
    headings = list(HEADING.finditer(text))
    ends = [*(heading.start() for heading in headings[1:]), len(text)]
    for heading, end in zip(headings, ends, strict=True):
        yield heading["title"], text[heading.end() : end]


def units_of(page):
    """(id, blocks) of what must run by itself: a block in getting started, a section elsewhere."""
    for title, text in sections_of(page.read_text(encoding="utf-8")):
        blocks = list(blocks_of(text))
        units = [[block] for block in blocks] if page == GETTING_STARTED else [blocks]
        for unit in units:
            if any(block.language == "python" for block in unit):
                yield f"{page.stem}: {title}", unit


UNITS = [pytest.param(blocks, id=name) for page in PAGES for name, blocks in units_of(page)]


def matches(shown, raised):
    """Whether the error shown is the one raised; "..." stands for anything."""
    pattern = ".*".join(re.escape(" ".join(part.split())) for part in shown.split("..."))
    return re.fullmatch(pattern.replace(r"\ .*", ".*"), " ".join(raised.split())) is not None


def missing(kind):
    """What a block of an optional package needs and does not find, or None."""
    if kind not in OPTIONAL:
        return None
    for module in (kind, MODULES.get(kind)):
        if module and importlib.util.find_spec(module) is None:
            return module
    program = PROGRAMS.get(kind)
    return program if program and shutil.which(program) is None else None


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Few epochs, as the quality of the networks does not matter, and a folder to write in."""
    monkeypatch.chdir(tmp_path)
    matplotlib.use("Agg")
    for rules in (Compression, Cleaning, Detection, Generation, TableGeneration):
        monkeypatch.setattr(rules, "max_epochs", staticmethod(lambda n_rows, batch_size: 2))


@pytest.mark.parametrize("blocks", UNITS)
def test_code_runs_by_itself(blocks, quick, request):
    names, not_found = {"__name__": "page"}, []
    for block, then in pairwise([*blocks, None]):
        if missing(block.kind):
            not_found.append(missing(block.kind))
            continue
        if block.language != "python":
            continue
        # Warnings are errors here, so those shown are checked like errors.
        code = compile(block.body, f"{request.node.name}: {block.body.splitlines()[0]}", "exec")
        if block.kind != "raises":
            with warnings.catch_warnings():
                if block.kind in OPTIONAL:
                    warnings.simplefilter("ignore")
                exec(code, names)
            continue
        with pytest.raises(Exception) as caught:  # noqa: PT011
            exec(code, names)
        assert then is not None
        assert then.kind == "error", f"no error is shown for {block.body!r}"
        raised = f"{caught.type.__name__}: {caught.value}"
        assert matches(then.body, raised), raised
    if not_found:
        pytest.skip(f"only the blocks without {', '.join(dict.fromkeys(not_found))} were run")


def test_every_error_shown_is_one_that_is_raised():
    for page in PAGES:
        blocks = list(blocks_of(page.read_text(encoding="utf-8")))
        for before, block in pairwise([None, *blocks]):
            if block.kind == "error":
                assert before is not None
                assert before.kind == "raises", block.body


def test_blocks_are_found():
    text = (
        ".. code-block:: python\n\n   a = 1\n\n   b = 2\n\n"
        "#. item\n\n   .. code-block:: python\n      :class: raises\n\n      1 / 0\n\nText.\n"
    )
    found = [Block("python", None, "a = 1\n\nb = 2"), Block("python", "raises", "1 / 0")]
    assert list(blocks_of(text)) == found


def test_blocks_of_other_libraries_need_them(monkeypatch):
    assert missing(None) is missing("raises") is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert missing("pyspark") == "pyspark"
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert missing("pyspark") == "java"
    assert missing("dask") is None
    kinds = {block.kind for page in PAGES for block in blocks_of(page.read_text(encoding="utf-8"))}
    assert kinds - {None, "raises", "error"} == OPTIONAL


def test_sections_are_found():
    text = "Page\n====\n\na\n\nPart\n----\n\nb --- c\n\n====  ====\n"
    assert list(sections_of(text)) == [
        ("Page", "\n\na\n\n"),
        ("Part", "\n\nb --- c\n\n====  ====\n"),
    ]
    blocks = [b for page in PAGES for b in blocks_of(page.read_text(encoding="utf-8"))]
    tested = [block for param in UNITS for block in param.values[0]]
    assert [b for b in tested if b.language == "python"] == [
        b for b in blocks if b.language == "python"
    ]


@pytest.mark.parametrize(
    ("shown", "expected"),
    [("E: a\n b", True), ("E: a ...", True), ("...: a b", True), ("E: a", False), ("F...", False)],
)
def test_errors_are_compared_without_line_breaks(shown, expected):
    assert matches(shown, "E: a b") is expected


def test_reference_lists_every_public_name():
    text = (DOCS / "api.rst").read_text(encoding="utf-8")
    listed = re.findall(r"^   ([\w.]+)$", text, re.M)
    errors = [name for name, kind in vars(skae.exceptions).items() if isinstance(kind, type)]
    public = {name for name in skae.__all__ if name != "__version__"}
    for module in ("dask", "distributed", "io", "networks", "relations"):
        public |= {f"{module}.{name}" for name in getattr(skae, module).__all__}
    public |= {f"plotting.{name}" for name in skae.plotting.__all__}
    public |= {f"interchange.{name}" for name in skae.interchange.__all__ if name not in public}
    functions = inspect.getmembers(skae.comparison, inspect.isfunction)
    own = {name for name, function in functions if function.__module__ == "skae.comparison"}
    public |= {f"comparison.{name}" for name in own - public if name[0] != "_"}
    public |= {f"exceptions.{name}" for name in errors if name != "ConvergenceWarning"}
    assert sorted(public) == sorted(listed)
    # Diagrams of estimators link to the pages that are made of this list.
    (folder,) = set(re.findall(r":toctree: (\S+)", text))
    assert PAGE_OF_CLASS.endswith(f"/latest/{folder}/skae.{{estimator_name}}.html")


def test_markdown_becomes_restructured_text():
    to_rst = load(DOCS / "_ext" / "markdown_pages.py").to_rst
    text = "# A `b`\n\nSee *this* and [PCA](https://x.org/a_b); x_ stays.\n\n- one\n  two\n\n"
    table = "| a | b |\n| --- | --- |\n| `x_` |  |\n"
    rst = to_rst(text + table)
    assert rst.startswith("A \\ ``b``\n===")
    assert "`PCA <https://x.org/a_b>`__" in rst
    assert "x\\_ stays" in rst
    assert "- one two" in rst
    assert "   * - a\n     - b\n   * - ``x_``\n     -\n" in rst


def test_dangling_links_are_found(tmp_path):
    dangling = load(DOCS / "check_links.py").dangling
    (tmp_path / "a.html").write_text('<p id="x"><a href="b.html#y">b</a><a href="#x">x</a>')
    (tmp_path / "b.html").write_text('<a id="y" href="a.html#z">z</a><img src="no.png">')
    found = {(str(page), link) for page, link in dangling(tmp_path)}
    assert found == {("b.html", "a.html#z"), ("b.html", "no.png")}


def test_addresses_are_made_from_names():
    pytest.importorskip("sphinx", reason="sphinx is not installed")
    address = load(DOCS / "_ext" / "external_links.py").address
    sklearn = "https://scikit-learn.org/stable/modules/generated/"
    assert address("sklearn.decomposition.PCA") == f"{sklearn}sklearn.decomposition.PCA.html"
    method = "sklearn.decomposition.PCA.fit"
    assert address(method) == f"{sklearn}sklearn.decomposition.PCA.html#{method}"
    assert address("numpy.median").endswith("/generated/numpy.median.html")
    assert address("skae.VAEGenerator") is None


def test_formulas_become_mathml():
    nodes = pytest.importorskip("docutils.nodes", reason="docutils is not installed")
    mathml = load(DOCS / "_ext" / "mathml.py").mathml
    markup = mathml(nodes.math_block("", r"\bar x_j = \log p"), as_block=True)
    assert markup.startswith("<math")
    assert "munderover" not in markup  # the index is beside the bar
    assert "\N{MACRON}" in markup

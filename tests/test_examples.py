"""Gallery scripts, read without being run: form, and names that exist."""

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import skae

SCRIPTS = sorted(Path(__file__).parents[1].glob("examples/plot_*.py"))
# What reaches for the network or for files that a reader may not have.
FORBIDDEN_MODULES = {"ftplib", "http", "pooch", "requests", "socket", "urllib"}
READERS = {"open", "load", "loadtxt", "genfromtxt", "fromfile", "memmap", "imread"}

if not SCRIPTS:
    pytest.skip("the examples are not beside the tests", allow_module_level=True)
pytestmark = pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)


def read(path):
    source = path.read_text(encoding="utf-8")
    return source, ast.parse(source)


def imported_modules(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module


def test_it_has_a_title_and_an_introduction(path):
    overline, title, underline, blank, *introduction = ast.get_docstring(read(path)[1]).split("\n")
    assert overline == underline
    assert set(underline) == {"="}
    assert title
    assert len(underline) >= len(title)
    assert not blank
    assert " ".join(introduction).strip()


def test_it_is_cut_into_cells(path):
    source = read(path)[0]
    cells = re.split(r"(?m)^# %%.*\n", source)[1:]
    titles = [re.match(r"# (\S.*)\n# (-+)\n", cell) for cell in cells]
    assert len(cells) >= 1
    assert any(titles), "a cell has a heading"
    for heading in filter(None, titles):
        assert len(heading[2]) >= len(heading[1])


def test_it_reads_no_files_and_no_network(path):
    tree = read(path)[1]
    roots = {name.split(".")[0] for name in imported_modules(tree)}
    assert not roots & FORBIDDEN_MODULES
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {getattr(call, "attr", getattr(call, "id", "")) for call in calls}
    assert not [name for name in names if name.startswith("fetch_")]
    if "TemporaryDirectory" not in names:  # where a script may read what it wrote itself
        assert not [name for name in names if name in READERS or name.startswith("read_")]


def test_names_of_skae_exist(path):
    source, tree = read(path)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    for node in imports:
        if node.module.split(".")[0] == "skae":
            module = importlib.import_module(node.module)
            assert not [a.name for a in node.names if not hasattr(module, a.name)]
    for reference in re.findall(r":(?:class|func|meth|mod):`~?(skae[\w.]*)`", source):
        found = skae
        for part in reference.split(".")[1:]:
            assert hasattr(found, part) or importlib.import_module(f"{found.__name__}.{part}")
            found = getattr(found, part)


def test_keywords_of_skae_exist(path):
    """Keywords of direct calls to what is imported from skae are parameters of it."""
    tree = read(path)[1]
    public = {
        alias.asname or alias.name: getattr(importlib.import_module(node.module), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "skae"
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in public:
            known = inspect.signature(public[node.func.id]).parameters
            assert not [k.arg for k in node.keywords if k.arg and k.arg not in known]

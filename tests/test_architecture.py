"""Folders of the package, imports between them, and the style of their files."""

import ast
from collections import Counter
from pathlib import Path

import pytest

import skae
from skae.estimators._base import BaseAutoencoder

ROOT = Path(skae.__file__).parent
# What each folder may import, lower layers first; all may import `_sklearn`, `exceptions` and
# `_version`. A module at the root counts as a folder.
ALLOWED_IMPORTS = {
    "_sklearn": "",
    "exceptions": "",
    "_version": "",
    "_onnx_hooks": "",
    "relations": "",
    "_data": "relations",
    "networks": "",
    "_stats": "_data",
    "_engine": "_data _stats networks",
    "io": "_data _engine",
    "_fit": "_data _stats _engine",
    "_display": "_engine networks",
    "_storage": "_data _stats networks _engine relations",
    "estimators": "_data _stats networks _engine _fit _display _onnx_hooks _storage",
    "interchange": "_data _stats networks _engine estimators _onnx_hooks _storage",
    "comparison": "_data _stats estimators",
    "plotting": "",
    "persistence": "_engine estimators _storage",
    "distributed": "_data _engine estimators",
    "_dask_workers": "",
    "_dask_parts": "_dask_workers _data estimators",
    "dask": "_data _engine _dask_parts _dask_workers estimators",
    "__init__": "estimators interchange comparison persistence",
}
IMPORTED_BY_ALL = {"_sklearn", "exceptions", "_version"}
# Where packages may be imported.
TORCH = {"_engine", "networks", "_display", "_storage", "interchange"}
SKORCH = {"_engine"}
MATPLOTLIB = {"plotting"}
# Public methods in the order of their class.
ORDERS = {
    "_transformer": "transform inverse_transform score",
    "_denoising": "transform inverse_transform score get_feature_names_out",
    "_outlier": "predict decision_function score_samples pvalues explain correct",
    "_generator": (
        "sample interpolate score_samples score elbo evaluate transform inverse_transform"
    ),
}


class File:
    """A file of the package: parsed once, and its imports listed."""

    def __init__(self, path):
        parts = path.relative_to(ROOT).with_suffix("").parts
        self.path = path
        self.name = ".".join(parts)
        self.folder = parts[0]
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        self.nodes = list(ast.walk(self.tree))
        self.functions = [n for n in self.nodes if isinstance(n, ast.FunctionDef)]
        self.imports = list(self.imports_among(self.nodes))

    def imports_among(self, nodes):
        """(module, imported names) of import statements."""
        for node in nodes:
            if isinstance(node, ast.Import):
                yield from ((alias.name, ()) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name}: imports are absolute"
                yield node.module, tuple(alias.name for alias in node.names)

    @property
    def packages(self):
        return {module.split(".")[0] for module, _ in self.imports}


FILES = [File(path) for path in sorted(ROOT.rglob("*.py"))]


def offenders(is_wrong):
    """Names of the files that break a rule."""
    return [file.name for file in FILES if is_wrong(file)]


def test_every_folder_is_listed():
    assert {file.folder for file in FILES} == set(ALLOWED_IMPORTS)


@pytest.mark.parametrize("folder", ALLOWED_IMPORTS)
def test_imports_between_folders(folder):
    allowed = {folder, *ALLOWED_IMPORTS[folder].split(), *IMPORTED_BY_ALL}
    for file in FILES:
        of_skae = [m.split(".") for m, _ in file.imports if m.split(".")[0] == "skae"]
        assert file.folder != folder or {m[1] for m in of_skae if len(m) > 1} <= allowed, file.name


def test_imports_go_one_way():
    folders = list(ALLOWED_IMPORTS)
    for i, folder in enumerate(folders):
        assert set(ALLOWED_IMPORTS[folder].split()) <= set(folders[:i]), folder


def test_no_import_cycles():
    names = {f"skae.{file.name.removesuffix('.__init__')}" for file in FILES}
    needs = {
        f"skae.{file.name.removesuffix('.__init__')}": {m for m, _ in file.imports if m in names}
        for file in FILES
    }
    while leaves := {name for name, wanted in needs.items() if not wanted & set(needs)}:
        needs = {name: wanted for name, wanted in needs.items() if name not in leaves}
    assert not needs, f"cycle among {sorted(needs)}"


def test_package_is_never_imported_from_its_root():
    assert not offenders(lambda file: "skae" in [module for module, _ in file.imports])


def test_file_names_are_unique():
    names = Counter(file.path.stem for file in FILES if file.path.stem != "__init__")
    assert not [name for name, n in names.items() if n > 1]


@pytest.mark.parametrize(
    ("package", "folders"), [("torch", TORCH), ("skorch", SKORCH), ("matplotlib", MATPLOTLIB)]
)
def test_packages_are_imported_in_their_folders_only(package, folders):
    assert not offenders(lambda file: package in file.packages and file.folder not in folders)


def test_slow_packages_are_imported_where_they_are_used():
    def is_slow(file):
        at_the_top = {module.split(".")[0] for module, _ in file.imports_among(file.tree.body)}
        return at_the_top & {
            *("dask", "distributed", "matplotlib", "onnx", "onnxruntime"),
            *("pandas", "polars", "pyarrow"),
        }

    assert not offenders(is_slow)


def test_private_names_of_sklearn_come_from_one_file():
    for file in FILES:
        for module, names in file.imports:
            private = [n for n in (*module.split("."), *names) if n.startswith("_")]
            is_sklearn = module.split(".")[0] == "sklearn"
            assert file.name == "_sklearn" or not (is_sklearn and private), (file.name, module)


def test_no_mutable_defaults():
    mutable = ast.List | ast.Dict | ast.Set | ast.Call
    for file in FILES:
        for node in file.nodes:
            if isinstance(node, ast.FunctionDef | ast.Lambda):
                defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
                assert not [d for d in defaults if isinstance(d, mutable)], ast.unparse(node)[:80]


def test_only_progress_writes_to_the_screen():
    def writes(file):
        names = [n.func for n in file.nodes if isinstance(n, ast.Call)]
        prints = "print" in [name.id for name in names if isinstance(name, ast.Name)]
        return prints or ("stdout" in file.text and file.name != "_engine._progress")

    assert not offenders(writes)


def test_files_stay_small():
    assert not offenders(lambda file: len(file.text.splitlines()) > 500)


def test_functions_stay_small():
    for file in FILES:
        for node in file.functions:
            docs = len((ast.get_docstring(node, clean=False) or "").splitlines())
            n_lines = node.end_lineno - node.body[0].lineno + 1 - docs
            assert n_lines <= 50 or node.name == "__init__", (file.name, node.name)


ESTIMATORS = [
    value
    for value in map(vars(skae).get, skae.__all__)
    if isinstance(value, type) and issubclass(value, BaseAutoencoder)
]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_constraints_name_the_parameters(estimator):
    assert set(estimator().get_params(deep=False)) == set(estimator._parameter_constraints)


def test_shared_base_has_no_init():
    assert "__init__" not in vars(BaseAutoencoder)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_init_only_stores(estimator):
    file = next(file for file in FILES if f"skae.{file.name}" == estimator.__module__)
    (init,) = [function for function in file.functions if function.name == "__init__"]
    names = [arg.arg for arg in (*init.args.args[1:], *init.args.kwonlyargs)]
    assert [ast.unparse(line) for line in init.body] == [f"self.{name} = {name}" for name in names]


@pytest.mark.parametrize(("name", "order"), ORDERS.items(), ids=ORDERS)
def test_method_order(name, order):
    """Public uses come before the private methods that end the class; tags are last."""
    (file,) = [file for file in FILES if file.name == f"estimators.{name}"]
    (cls,) = [n for n in file.tree.body if isinstance(n, ast.ClassDef)]
    methods = [n.name for n in cls.body if isinstance(n, ast.FunctionDef)]
    assert methods[0] == "__init__"
    assert "__sklearn_tags__" not in methods[:-1]
    assert [m for m in methods if not m.startswith("_")] == order.split()

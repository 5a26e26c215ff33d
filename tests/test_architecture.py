"""The house rules of design.md, section 3."""

import ast
from pathlib import Path

import pytest

import skae

ROOT = Path(skae.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# From the roof to the ground; a file imports from lower floors only.
FLOORS = [
    ["skae"],
    ["skae.persistence", "skae.interchange", "skae.comparison", "skae.plotting"],
    ["skae._saved"],
    ["skae.estimators"],
    ["skae.estimators._base"],
    [
        "skae.estimators._core_training",
        "skae.estimators._filling",
        "skae.estimators._generating",
    ],
    ["skae.estimators._training", "skae.estimators._drawing"],
    ["skae.estimators._doors"],
    ["skae._engine._states"],
    [
        "skae._engine._build",
        "skae._engine._describe",
        "skae._engine._denoising",
        "skae._engine._members",
        "skae._engine._rotation",
        "skae._engine._together",
        "skae._engine._variational",
    ],
    ["skae._engine._net"],
    ["skae._engine"],
    ["skae._core", "skae._fidelity", "skae._gaussian"],
    [
        "skae.networks",
        "skae._scaling",
        "skae._scoring",
        "skae._selection",
        "skae._ranks",
        "skae._mixture",
        "skae._ratio",
        "skae._targets",
        "skae._linear",
        "skae._defaults",
        "skae._html",
    ],
    ["skae._chunks", "skae._frames", "skae._trees"],
    ["skae._arrays"],
    ["skae._document_kinds"],
    ["skae._documents", "skae._hooks", "skae._sklearn", "skae._version", "skae.exceptions"],
]
TORCH_ROOMS = ("skae._engine", "skae.networks", "skae.persistence", "skae.interchange")


def module_name(path):
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def imports_in(tree):
    """(module, imported names) of every import statement under a node."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module, tuple(alias.name for alias in node.names)


def in_room(module, room):
    return module == room or module.startswith(room + ".")


def floor_of(module):
    """Floor of the longest entry that holds the module."""
    known = [
        (len(room), i)
        for i, floor in enumerate(FLOORS)
        for room in floor
        if module == room or (room != "skae" and in_room(module, room))
    ]
    assert known, f"{module} stands in no room of FLOORS"
    return max(known)[1]


@pytest.fixture(params=FILES, ids=[module_name(path) for path in FILES])
def path(request):
    return request.param


def test_arrows_point_down(path):
    me = module_name(path)
    if in_room(me, "skae.plotting"):
        ours = [m for m, _ in imports_in(tree_of(path)) if in_room(m, "skae")]
        assert all(in_room(module, "skae.plotting") for module in ours)
        return
    for module, _ in imports_in(tree_of(path)):
        if in_room(module, "skae"):
            same_room = me.split(".")[:2] == module.split(".")[:2] != ["skae", "estimators"]
            step = floor_of(module) - floor_of(me)
            assert step > 0 or (same_room and step == 0), f"{me} imports {module}"


def test_siblings_do_not_import_each_other(path):
    if path.parent.name != "estimators" or path.name.startswith("__init__"):
        return
    siblings = {
        module for module, _ in imports_in(tree_of(path)) if in_room(module, "skae.estimators")
    }
    shared = {
        f"skae.estimators.{name}"
        for name in (
            *("_base", "_core_training", "_doors", "_filling", "_generating"),
            *("_drawing", "_training"),
        )
    }
    assert siblings <= shared


def test_no_import_cycles():
    needs = {
        module_name(path): {m for m, _ in imports_in(tree_of(path)) if in_room(m, "skae")}
        for path in FILES
    }
    while True:
        leaves = {name for name, wanted in needs.items() if not wanted & set(needs)}
        if not leaves:
            break
        needs = {name: wanted for name, wanted in needs.items() if name not in leaves}
    assert not needs, f"cycle among {sorted(needs)}"


def test_package_is_never_imported_from_its_root(path):
    if path == ROOT / "__init__.py":
        return
    assert "skae" not in [module for module, _ in imports_in(tree_of(path))]


def test_torch_and_skorch_stay_in_their_rooms(path):
    me = module_name(path)
    packages = {module.split(".")[0] for module, _ in imports_in(tree_of(path))}
    if not me.startswith("skae._engine"):
        assert "skorch" not in packages
    if not any(in_room(me, room) for room in TORCH_ROOMS):
        assert "torch" not in packages


def test_slow_packages_are_imported_where_they_are_used(path):
    top = ast.Module([n for n in tree_of(path).body if not isinstance(n, ast.FunctionDef)], [])
    statements = [n for n in top.body if isinstance(n, ast.Import | ast.ImportFrom)]
    packages = {m.split(".")[0] for m, _ in imports_in(ast.Module(statements, []))}
    assert not packages & {"matplotlib", "pandas", "polars"}
    anywhere = {m.split(".")[0] for m, _ in imports_in(tree_of(path))}
    assert "matplotlib" not in anywhere or "plotting" in module_name(path)


def test_private_sklearn_has_one_door(path):
    if path.name == "_sklearn.py":
        return
    for module, names in imports_in(tree_of(path)):
        if not module.startswith("sklearn"):
            continue
        private = [n for n in (*module.split("."), *names) if n.startswith("_")]
        assert not private, f"{module_name(path)} imports {module}: {names}"


def test_no_mutable_defaults(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            defaults = [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]
            mutable = ast.List | ast.Dict | ast.Set | ast.Call
            assert not [d for d in defaults if isinstance(d, mutable)], ast.unparse(node)[:80]


def test_only_progress_prints(path):
    calls = [n for n in ast.walk(tree_of(path)) if isinstance(n, ast.Call)]
    assert "print" not in [call.func.id for call in calls if isinstance(call.func, ast.Name)]
    writes = "stdout" in path.read_text(encoding="utf-8")
    assert not writes or path.name == "_progress.py"


def test_files_stay_small(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 500, module_name(path)


def test_functions_stay_small(path):
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef) and node.name != "__init__":
            lines = ast.unparse(node).splitlines()
            docs = (ast.get_docstring(node) or "").splitlines()
            assert len(lines) - len(docs) <= 60, f"{module_name(path)}.{node.name}"


def test_base_has_no_init_and_constraints_mirror_the_parameters():
    from skae.estimators._base import BaseAutoencoder

    assert "__init__" not in vars(BaseAutoencoder)
    for name in skae.__all__:
        estimator = getattr(skae, name)
        if isinstance(estimator, type) and issubclass(estimator, BaseAutoencoder):
            parameters = set(estimator().get_params(deep=False))
            assert parameters == set(estimator._parameter_constraints)


def test_init_only_stores():
    for path in FILES:
        if path.parent.name != "estimators":
            continue
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.FunctionDef) and node.name == "__init__":
                stored = [ast.unparse(statement) for statement in node.body]
                wanted = [
                    f"self.{arg.arg} = {arg.arg}"
                    for arg in (*node.args.args[1:], *node.args.kwonlyargs)
                ]
                assert stored == wanted


ORDERS = {
    "_denoising.py": [
        *("fit", "partial_fit"),
        *("transform", "inverse_transform", "score", "get_feature_names_out"),
    ],
    "_generator.py": [
        *("sample", "interpolate", "score_samples", "score", "elbo", "evaluate"),
        *("transform", "inverse_transform"),
    ],
    "_transformer.py": ["transform", "inverse_transform", "score"],
    "_outlier.py": [
        *("predict", "decision_function", "score_samples"),
        *("pvalues", "explain", "correct"),
    ],
}


@pytest.mark.parametrize(("file", "order"), ORDERS.items(), ids=ORDERS)
def test_method_order(file, order):
    """Public uses come before the private twins that end the class; tags are last."""
    tree = tree_of(ROOT / "estimators" / file)
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef)]
    methods = [n.name for n in cls.body if isinstance(n, ast.FunctionDef)]
    assert methods[0] == "__init__"
    assert "__sklearn_tags__" not in methods[:-1]
    public = [m for m in methods if not m.startswith("_")]
    assert public == order

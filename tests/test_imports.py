"""Modules that `import skae` imports."""

import subprocess
import sys

import skae

NEW_MODULES = """
import sys
import sklearn, skorch, torch
before = set(sys.modules)
import skae
new = {name.partition(".")[0] for name in set(sys.modules) - before} - before
heavy = {name for name in set(sys.modules) - before if name.startswith(("sklearn", "scipy"))}
print(*sorted((new - set(sys.stdlib_module_names)) | heavy))
"""


def test_rarely_used_modules_are_not_imported():
    code = "import sys, skae; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert not {"skae.persistence", "skae._display._html"} & set(result.stdout.split())


def test_public_modules_are_there_after_importing_skae():
    names = "comparison", "dask", "distributed", "interchange", "io", "networks", "plotting"
    code = f"import skae; print(*(getattr(skae, name).__name__ for name in {names}))"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == [f"skae.{name}" for name in names]
    assert set(names) <= set(dir(skae))


def test_importing_skae_imports_little_else():
    result = subprocess.run(
        [sys.executable, "-c", NEW_MODULES], capture_output=True, text=True, check=True
    )
    assert set(result.stdout.split()) <= {"skae", "tqdm"}


def test_importing_plotting_imports_no_matplotlib():
    code = "import sys, skae.plotting; print('matplotlib' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"

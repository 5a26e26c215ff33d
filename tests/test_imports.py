"""What `import skae` brings along."""

import subprocess
import sys

NEWCOMERS = """
import sys
import sklearn, skorch, torch
before = set(sys.modules)
import skae
new = {name.partition(".")[0] for name in set(sys.modules) - before} - before
heavy = {name for name in set(sys.modules) - before if name.startswith(("sklearn", "scipy"))}
print(*sorted((new - set(sys.stdlib_module_names)) | heavy))
"""


def test_rooms_that_few_enter_stay_closed():
    code = "import sys, skae; print(*sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"skae.persistence", "skae._display._html"} & set(told.stdout.split())


def test_importing_skae_imports_little_else():
    told = subprocess.run(
        [sys.executable, "-c", NEWCOMERS], capture_output=True, text=True, check=True
    )
    assert set(told.stdout.split()) <= {"skae", "tqdm"}


def test_importing_plotting_imports_no_matplotlib():
    code = "import sys, skae.plotting; print('matplotlib' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "False"

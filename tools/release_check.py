"""Check a release before it is published: build it, compare its contents, and test the wheel.

Builds the source distribution from the files that git tracks and the wheel from the source
distribution, compares their contents with the files of the repository, and runs the tests on the
installed wheel, in a folder without the package's sources, in two fresh environments: ``oldest``
(the oldest Python and each dependency at the lower bound in setup.cfg) and ``newest`` (the newest
Python installed here and the versions that pip chooses today). If all checks pass, both archives
are copied to ``dist/``.

Needs `build` and `twine`, and pip must reach a package index. Each environment takes several
gigabytes if pip installs a CUDA build of torch.
"""

import argparse
import configparser
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Not in the source distribution: files for git and for the site that hosts the repository.
REPOSITORY_ONLY = (".ci/", ".github/", ".gitignore")


def main():
    arguments = parse_arguments()
    folder = Path(tempfile.mkdtemp(prefix="release-check-"))
    try:
        check(folder, arguments)
    except CheckError as error:
        sys.exit(f"release check failed: {error}")
    finally:
        if arguments.keep:
            report("kept", folder)
        else:
            shutil.rmtree(folder)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["oldest", "newest"], help="test in one environment only")
    parser.add_argument("--keep", action="store_true", help="keep builds and environments")
    parser.add_argument(
        "--pytest-args", default="", metavar="ARGS", help='such as "-x -k transformer"'
    )
    return parser.parse_args()


def check(folder, arguments):
    setup = read_setup()
    files = tracked_files()
    sdist, wheel = build(folder, files)
    run([sys.executable, "-m", "twine", "check", "--strict", sdist, wheel])
    report("metadata", "twine check --strict: passed")
    compare("sdist", sdist_files(sdist), wanted_in_sdist(files))
    compare("wheel", wheel_files(wheel), wanted_in_wheel(files))
    for name in [arguments.only] if arguments.only else ["oldest", "newest"]:
        oldest = name == "oldest"
        python = install(
            folder / name,
            interpreter(python_versions(setup), oldest=oldest),
            wheel,
            lower_bounds(setup) if oldest else {},
        )
        report(name, versions(python, lower_bounds(setup)))
        test(folder / f"{name}-tests", python, shlex.split(arguments.pytest_args))
        tests = "the selected tests" if arguments.pytest_args else "all tests"
        report(name, f"{tests} passed on the installed wheel")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    shutil.copytree(sdist.parent, ROOT / "dist")
    report("passed", f"dist/{sdist.name} and dist/{wheel.name}")


# Metadata in setup.cfg, and files in git.


def read_setup():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def python_versions(setup):
    """The Python versions of the classifiers, oldest first."""
    return re.findall(r"Python :: (\d+\.\d+)", setup["metadata"]["classifiers"])


def requirements(setup, extra=None):
    """Yield the dependencies, or those of an extra and of the extras that it includes."""
    if extra is None:
        lines = setup["options"]["install_requires"]
    else:
        lines = setup["options.extras_require"][extra]
    for line in lines.split("\n"):
        if others := re.fullmatch(rf"{setup['metadata']['name']}\[(.*)\]", line):
            for other in others[1].split(","):
                yield from requirements(setup, other.strip())
        elif line:
            yield line


def lower_bounds(setup):
    """Lower bound of each package that the package and its tests need, by name."""
    bounds = {}
    for line in [*requirements(setup), *requirements(setup, "test")]:
        if not (match := re.fullmatch(r"([\w.-]+)>=([\w.]+)", line)):
            raise CheckError(f"setup.cfg states no plain lower bound in {line!r}")
        bounds[match[1]] = match[2]
    return bounds


def tracked_files():
    """Tracked files that exist; untracked files of the working tree are left out."""
    listed = run(["git", "ls-files", "-z"], cwd=ROOT).split("\0")
    return {name for name in listed if name and (ROOT / name).is_file()}


# The two archives.


def build(folder, files):
    """Build the source distribution, and the wheel from it; return both paths."""
    for name in files:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "source" / name)
    run([sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source"])
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    report("built", f"{sdist.name} ({sdist.stat().st_size >> 10} KiB) and, from it, {wheel.name}")
    return sdist, wheel


def sdist_files(path):
    with tarfile.open(path) as archive:
        names = [member.name for member in archive.getmembers() if member.isfile()]
    return {name.partition("/")[2] for name in names}


def wheel_files(path):
    return set(zipfile.ZipFile(path).namelist())


def wanted_in_sdist(files):
    def generated(name):
        return name == "PKG-INFO" or name.startswith("skae.egg-info/")

    return {name for name in files if not name.startswith(REPOSITORY_ONLY)}, generated


def wanted_in_wheel(files):
    def generated(name):
        return re.match(r"skae-[^/]+\.dist-info/", name)

    return {name for name in files if name.startswith("skae/")}, generated


def compare(kind, found, wanted):
    files, generated = wanted
    missing = sorted(files - found)
    surplus = sorted(name for name in found - files if not generated(name))
    if missing or surplus:
        raise CheckError(f"{kind} lacks {missing} and should not contain {surplus}")
    folders = sorted({name.partition("/")[0] for name in files})
    report(
        kind, f"contains {len(files)} files of the repository and no others: {', '.join(folders)}"
    )


# The two environments.


def interpreter(versions, *, oldest):
    """The oldest declared Python, which must be installed, or the newest one that is."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in versions[:1] if oldest else reversed(versions):
        python = sys.executable if version == here else shutil.which(f"python{version}")
        # A version manager's shim may exist without the Python that it would start.
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    raise CheckError(f"found no python{versions[0]}, the oldest that setup.cfg declares")


def install(folder, python, wheel, bounds):
    """Make an environment with the wheel and the packages of its tests; return its Python."""
    run([python, "-m", "venv", folder])
    pinned = folder / "constraints.txt"
    pinned.write_text("".join(f"{name}=={bound}\n" for name, bound in bounds.items()))
    fresh = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    report(folder.name, f"installing into a fresh environment of {python}")
    run([fresh, "-m", "pip", "install", "--quiet", "--constraint", pinned, f"{wheel}[test]"])
    return fresh


def versions(python, names):
    """Versions of Python and packages in an environment, in one line."""
    code = (
        "import importlib.metadata as m, platform, sys;"
        "print('Python', platform.python_version(), *(f'{n} {m.version(n)}' for n in sys.argv[1:]),"
        "sep=', ')"
    )
    return run([python, "-c", code, *names]).strip().replace("Python, ", "Python ")


def test(folder, python, pytest_args):
    """Run the tests and the examples in docstrings where only the wheel can be imported."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):  # pytest's settings
        shutil.copy2(ROOT / name, folder)
    where = "import pathlib, skae; print(pathlib.Path(skae.__file__).resolve().parent)"
    package = Path(run([python, "-c", where], cwd=folder).strip())
    if not package.is_relative_to(python.parents[1].resolve()):
        raise CheckError(f"the tests would import {package}, not the installed wheel")
    command = [python, "-m", "pytest", "-q", "-c", "pyproject.toml", "tests", package]
    run([*command, *pytest_args], cwd=folder, show=True)


# Commands.


class CheckError(Exception):
    """The release should not be published as it is."""


def run(command, *, cwd=None, show=False):
    """Run a command without PYTHONPATH; return its output, or raise if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        text=True,
        capture_output=not show,
    )
    if done.returncode:
        line = " ".join(str(part) for part in command)
        raise CheckError(
            f"{line} ended with {done.returncode}\n{done.stdout or ''}{done.stderr or ''}"
        )
    return done.stdout


def report(step, message):
    print(f"{step:9} {message}", flush=True)


if __name__ == "__main__":
    main()

"""Check what would be published: build it, look inside, and test what is installed.

Builds the source distribution from the files that git tracks and the wheel from the source
distribution, compares their contents with the files of the repository, and runs the suite against
the installed wheel, in a folder that holds nothing else, in two fresh environments: ``oldest``
(the oldest Python and each dependency at the lower bound that setup.cfg declares) and ``newest``
(the newest Python found here and whatever pip takes today). What passed is left in ``dist/``.

Needs `build` and `twine`, and pip must reach a package index. Each environment takes some
gigabytes where pip's torch is a CUDA build.
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
# Kept out of the source distribution: what only git and the page that hosts the repository read.
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
            say("kept", folder)
        else:
            shutil.rmtree(folder)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=["oldest", "newest"], help="test in this one alone")
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
    say("metadata", "twine check --strict: passed")
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
        say(name, versions(python, lower_bounds(setup)))
        test(folder / f"{name}-tests", python, shlex.split(arguments.pytest_args))
        told = "what was chosen of the suite" if arguments.pytest_args else "the suite"
        say(name, f"{told} passed on the installed wheel")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    shutil.copytree(sdist.parent, ROOT / "dist")
    say("passed", f"dist/{sdist.name} and dist/{wheel.name}")


# What setup.cfg and git say.


def read_setup():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    return setup


def python_versions(setup):
    """The Python versions of the classifiers, oldest first."""
    return re.findall(r"Python :: (\d+\.\d+)", setup["metadata"]["classifiers"])


def requirements(setup, extra=None):
    """Lines of the dependencies, or of an extra with those that it names in turn."""
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
    """Name and lower bound of everything that the suite needs."""
    bounds = {}
    for line in [*requirements(setup), *requirements(setup, "test")]:
        if not (match := re.fullmatch(r"([\w.-]+)>=([\w.]+)", line)):
            raise CheckError(f"setup.cfg states no plain lower bound in {line!r}")
        bounds[match[1]] = match[2]
    return bounds


def tracked_files():
    """What git tracks and is still there, so that leftovers of a working tree stay out."""
    listed = run(["git", "ls-files", "-z"], cwd=ROOT).split("\0")
    return {name for name in listed if name and (ROOT / name).is_file()}


# The two archives.


def build(folder, files):
    """Source distribution, and the wheel built from it."""
    for name in files:
        (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / "source" / name)
    run([sys.executable, "-m", "build", "--outdir", folder / "dist", folder / "source"])
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    (wheel,) = (folder / "dist").glob("*.whl")
    say("built", f"{sdist.name} ({sdist.stat().st_size >> 10} KiB) and, from it, {wheel.name}")
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
        raise CheckError(f"{kind} lacks {missing} and should not hold {surplus}")
    folders = sorted({name.partition("/")[0] for name in files})
    say(kind, f"holds {len(files)} files of the repository and no other: {', '.join(folders)}")


# The two environments.


def interpreter(versions, *, oldest):
    """The oldest declared Python, which must be here, or the newest of those that are."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    for version in versions[:1] if oldest else reversed(versions):
        python = sys.executable if version == here else shutil.which(f"python{version}")
        # A version manager's shim may be there without the Python it stands for.
        if python and subprocess.run([python, "--version"], capture_output=True).returncode == 0:
            return python
    raise CheckError(f"found no python{versions[0]}, the oldest that setup.cfg declares")


def install(folder, python, wheel, bounds):
    """The Python of a fresh environment with the wheel and what its suite needs."""
    run([python, "-m", "venv", folder])
    pinned = folder / "constraints.txt"
    pinned.write_text("".join(f"{name}=={bound}\n" for name, bound in bounds.items()))
    fresh = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    say(folder.name, f"installing into a fresh environment of {python}")
    run([fresh, "-m", "pip", "install", "--quiet", "--constraint", pinned, f"{wheel}[test]"])
    return fresh


def versions(python, names):
    """Python and packages of an environment, in one line."""
    code = (
        "import importlib.metadata as m, platform, sys;"
        "print('Python', platform.python_version(), *(f'{n} {m.version(n)}' for n in sys.argv[1:]),"
        "sep=', ')"
    )
    return run([python, "-c", code, *names]).strip().replace("Python, ", "Python ")


def test(folder, python, pytest_args):
    """Run the suite, and the examples in docstrings, where only the wheel can be imported."""
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("conftest.py", "pyproject.toml"):  # pytest's settings
        shutil.copy2(ROOT / name, folder)
    where = "import pathlib, skae; print(pathlib.Path(skae.__file__).resolve().parent)"
    package = Path(run([python, "-c", where], cwd=folder).strip())
    if not package.is_relative_to(python.parents[1].resolve()):
        raise CheckError(f"the suite would test {package}, not the installed wheel")
    command = [python, "-m", "pytest", "-q", "-c", "pyproject.toml", "tests", package]
    run([*command, *pytest_args], cwd=folder, show=True)


# Commands.


class CheckError(Exception):
    """What was found is not what should be published."""


def run(command, *, cwd=None, show=False):
    """Standard output of a command that must succeed; it does not see PYTHONPATH."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        text=True,
        capture_output=not show,
    )
    if done.returncode:
        told = " ".join(str(part) for part in command)
        raise CheckError(
            f"{told} ended with {done.returncode}\n{done.stdout or ''}{done.stderr or ''}"
        )
    return done.stdout


def say(what, told):
    print(f"{what:9} {told}", flush=True)


if __name__ == "__main__":
    main()

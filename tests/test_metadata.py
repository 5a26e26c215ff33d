"""Metadata, changelog, badges and workflows agree with each other."""

import re
from importlib.metadata import metadata, requires, version
from pathlib import Path

import pytest

import skae

PACKAGE = Path(skae.__file__).parent


def read(path):
    return path.read_text(encoding="utf-8")


def test_version_is_that_of_the_installed_package():
    assert version("skae") == skae.__version__, "install skae again"


def test_changelog_begins_with_the_version(repository):
    top = re.search(r"^## (.+)$", read(repository / "CHANGELOG.md"), re.M)[1]
    if ".dev" in skae.__version__:
        assert top == "Unreleased"
    else:
        assert re.fullmatch(rf"\[?{re.escape(skae.__version__)}\]? - \d{{4}}-\d\d-\d\d", top)


def test_badges_agree_with_the_metadata(repository):
    package = metadata("skae")
    classifiers = "\n".join(package.get_all("Classifier"))
    versions = re.findall(r"Python :: (\d\.\d+)$", classifiers, re.M)
    assert package["Requires-Python"] == f">={versions[0]}"
    badges = dict(re.findall(r"^!\[(\w+) (.+)\]\(", read(repository / "README.md"), re.M))
    assert badges["Python"] == " | ".join(versions)
    assert badges["License"] == (package.get("License-Expression") or package["License"])


def test_every_declared_python_is_tested(repository):
    workflow = repository / ".github" / "workflows" / "ci.yml"
    if not workflow.exists():
        pytest.skip("the source distribution has no workflows")
    (tested,) = re.findall(r"^ +python: \[(.+)\]$", read(workflow), re.M)
    classifiers = "\n".join(metadata("skae").get_all("Classifier"))
    assert re.findall(r"\d\.\d+", tested) == re.findall(r"Python :: (\d\.\d+)", classifiers)


def test_hooks_before_a_commit_are_those_of_make_lint(repository):
    makefile, hooks = read(repository / "Makefile"), read(repository / ".pre-commit-config.yaml")
    recipe = re.search(r"^lint:.*\n((?:\t.+\n)+)", makefile, re.M)[1]
    commands = [line.strip().replace("$(BIN)", ".venv/bin") for line in recipe.splitlines()]
    assert re.findall(r"entry: (.+)", hooks) == commands


def test_every_requirement_has_a_lower_bound():
    for requirement in requires("skae"):
        assert re.match(r"skae\[|[\w.-]+(\[\w+\])?>=[\d.]+(;|$)", requirement), requirement


def test_extras_named_in_messages_exist():
    extras = metadata("skae").get_all("Provides-Extra")
    for path in PACKAGE.rglob("*.py"):
        assert set(re.findall(r"skae\[(\w+)\]", read(path))) <= set(extras), path


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md"])
def test_linked_files_exist(page, repository):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", read(repository / page)):
        assert "://" in link or (repository / page).parent.joinpath(link).exists(), link


def test_readme_has_no_relative_links(repository):
    """It is the long description: a package index shows it without the files beside it.

    The picture is the exception: only a relative path shows it in every checkout and fork.
    """
    relative = r"(!?)\[[^\]]*\]\((?!\w+://|#)([^)]*)\)"
    assert re.findall(relative, read(repository / "README.md")) == [("!", "docs/overview.png")]
    assert "src=" not in read(repository / "README.md")

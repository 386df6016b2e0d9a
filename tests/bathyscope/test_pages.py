"""The pages for contributors name code and files that exist, and versions that are installed."""

from __future__ import annotations

import importlib
import re
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PINNED = {
    canonicalize_name(requirement.name): str(requirement.specifier).removeprefix("==")
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
    for requirement in [Requirement(line)]
}
DEFINED = sorted(
    set(re.findall(r"`([a-z_.]+(?:\.[A-Z]\w+)?)` \|$", (ROOT / "docs" / "vocabulary.md").read_text(), re.M))
)


@pytest.mark.parametrize("place", DEFINED)
def test_vocabulary_names_code_that_exists(place: str) -> None:
    module, _, name = place.rpartition(".")
    if name[0].isupper():
        assert hasattr(importlib.import_module(module), name)
    else:
        importlib.import_module(place)


@pytest.mark.parametrize(
    "page", ["CONTRIBUTING.md", "docs/architecture.md", "docs/vocabulary.md", "examples/README.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert "://" in target or ((ROOT / page).parent / target).exists(), target


def test_every_dependency_has_a_tested_version_within_its_bounds() -> None:
    # The other trackers are installed by hand, for one experiment.
    extras = [texts for name, texts in PROJECT["optional-dependencies"].items() if name != "trackers"]
    for text in (*PROJECT["dependencies"], *(each for extra in extras for each in extra)):
        requirement = Requirement(text)
        if requirement.name != "bathyscope":
            assert requirement.specifier.contains(PINNED[canonicalize_name(requirement.name)]), text


def test_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])
    assert citation["authors"] == [{"name": PROJECT["authors"][0]["name"]}]


def test_hooks_before_a_commit_need_no_download() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert {repo["repo"] for repo in hooks} == {"local"}
    assert {hook["language"] for repo in hooks for hook in repo["hooks"]} == {"system"}

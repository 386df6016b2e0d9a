"""Architectures of other packages are found by entry point; those of this one need none."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from models.errors import DataError
from models.networks import (
    architecture_named,
    architecture_names,
    architecture_sizes,
    available_architectures,
)
from models.networks.cascade import CascadeSettings
from models.networks.registry import GROUP

BUILT_IN = ("cascade", "vgg", "fcn", "matched")

# The whole of a package that adds an architecture: this file and its entry point.
UNET = """
    from models.networks.cascade_architecture import CascadeArchitecture

    class UnetArchitecture(CascadeArchitecture):
        sizes = ("live",)
"""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of other packages, on the path of this process."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def _install(packages: Path, name: str, target: str) -> None:
    information = packages / f"{name}_networks-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-networks\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {target}\n")


def test_the_architectures_of_this_package_need_no_entry_point() -> None:
    assert architecture_names()[: len(BUILT_IN)] == BUILT_IN
    for name in BUILT_IN:
        assert architecture_sizes(name) == architecture_named(name).sizes


def test_another_package_adds_an_architecture_with_one_file(packages: Path) -> None:
    (packages / "added_unet.py").write_text(dedent(UNET))
    _install(packages, "unet", "added_unet:UnetArchitecture")
    try:
        assert architecture_names() == (*BUILT_IN, "unet")
        assert available_architectures()["unet"] == ("live",)
        kind = architecture_named("unet")
        assert kind.__module__ == "added_unet"
        settings = CascadeSettings().as_dict()
        assert kind.from_settings(settings).settings == settings
    finally:
        sys.modules.pop("added_unet", None)


def test_an_architecture_that_cannot_be_imported_is_named_with_its_package(packages: Path) -> None:
    (packages / "added_broken.py").write_text("import a_library_that_is_not_installed\n")
    _install(packages, "broken", "added_broken:Network")
    assert "broken" in architecture_names()
    assert tuple(available_architectures()) == BUILT_IN
    with pytest.raises(DataError, match=r"'broken' of broken-networks .* cannot be imported \(ModuleNotFoundError"):
        architecture_named("broken")


def test_an_entry_point_to_something_else_is_refused(packages: Path) -> None:
    _install(packages, "array", "numpy:ndarray")
    with pytest.raises(DataError, match="has no sizes, for_optics, from_settings"):
        architecture_sizes("array")


def test_an_architecture_of_this_package_is_not_replaced(packages: Path) -> None:
    _install(packages, "vgg", "numpy:ndarray")
    assert architecture_names() == BUILT_IN
    assert architecture_named("vgg").__module__ == "models.networks.vgg_architecture"


def test_the_error_for_an_unknown_architecture_lists_those_that_exist() -> None:
    with pytest.raises(DataError, match=r"no architecture 'yolo'.*cascade"):
        architecture_named("yolo")

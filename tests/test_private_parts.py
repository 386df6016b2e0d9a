"""Private parts of other libraries: each used one is declared here, exists, and has an upper version bound."""

from __future__ import annotations

import ast
import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, need

PACKAGES = ("hardware", "models", "service")

USED = {
    "smappy._fit3d": "smappy-smlm",
    "torch.cpu._is_amx_tile_supported": "torch",
    "torch.cpu._is_avx512_bf16_supported": "torch",
    "torch.ops.mkldnn._convolution_pointwise": "torch",
    "torch.ops.mkldnn._convolution_pointwise_": "torch",
    "torch.ops.mkldnn._is_mkldnn_bf16_supported": "torch",
    "torch.ops.mkldnn._reorder_convolution_weight": "torch",
    "uvicorn._types": "uvicorn",
}
"""Private part -> the distribution that may take it away with its next release."""


def _private(dotted: str) -> str | None:
    """The name up to its first private part; None where all is public."""
    parts = dotted.split(".")
    for place, part in enumerate(parts):
        if part.startswith("_") and not part.endswith("__"):
            return ".".join(parts[: place + 1])
    return None


def _dotted(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and (before := _dotted(node.value)):
        return f"{before}.{node.attr}"
    return None


def _used(file: Path) -> Iterator[str]:
    """Private parts of imported modules that a file names."""
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    modules: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                modules[name.asname or name.name.split(".")[0]] = name.name if name.asname else name.name.split(".")[0]
                yield name.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                modules[name.asname or name.name] = f"{node.module}.{name.name}"
                yield f"{node.module}.{name.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (dotted := _dotted(node)):
            root, _, rest = dotted.partition(".")
            if root in modules:
                yield f"{modules[root]}.{rest}"


def _all_used() -> set[str]:
    ours = (*PACKAGES, "os", "sys", "threading", "__future__")
    return {
        private
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        for dotted in _used(file)
        if dotted.split(".")[0] not in ours and (private := _private(dotted)) is not None
    }


def test_every_private_part_that_is_used_is_declared_here() -> None:
    undeclared = _all_used() - USED.keys()
    assert not undeclared, f"use what is public, or declare with an upper bound: {sorted(undeclared)}"


@pytest.mark.parametrize("part", sorted(USED))
def test_every_private_part_is_still_there(part: str) -> None:
    distribution = USED[part]
    if distribution == "smappy-smlm":
        need("smappy")
    module, _, name = part.rpartition(".")
    try:
        owner: Any = importlib.import_module(part.split(".")[0])
        for step in module.split(".")[1:]:
            owner = getattr(owner, step)
        found = hasattr(owner, name) or importlib.import_module(part)
    except (AttributeError, ModuleNotFoundError):
        found = False
    assert found, f"{distribution} has no {part} any more: find another way, and then move its upper bound"


def test_a_package_with_used_private_parts_has_an_upper_bound() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    every = [*project["dependencies"], *(each for extra in project["optional-dependencies"].values() for each in extra)]
    for distribution in sorted(set(USED.values())):
        said = [each for each in every if re.match(rf"{distribution}\b(?!-)", each)]
        assert said, distribution
        assert all("<" in each or "==" in each for each in said), f"{distribution} needs an upper bound: {said}"

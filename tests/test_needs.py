"""External needs of tests are requested in one place, so that CI skips no test silently."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import conftest
from tests.conftest import ROOT, need

SHARED = "tests/conftest.py"

CAPABILITIES = ("sys.platform", "platform.machine()", "can_pack(", "geteuid()")
"""Allowed reasons of skip marks: the kind of machine and of user, which cannot be installed."""


def _marks_and_calls(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line, name and arguments of every use of pytest's functions to skip a test."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"), str(file))):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.split(".")[-1] in ("skip", "importorskip", "skipif", "skipTest"):
                yield node.lineno, name, ", ".join(map(ast.unparse, node.args))


def test_only_need_and_missing_skip_a_test() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{line}: {name}({arguments})"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        if str(file.relative_to(ROOT)) != SHARED
        for line, name, arguments in _marks_and_calls(file)
        if not (name.endswith("mark.skipif") and any(each in arguments for each in CAPABILITIES))
    ]
    assert not found, "\n".join(["ask with need() or missing() of tests/conftest.py:", *found])


@pytest.mark.parametrize("name", ["picasso", "chromium", "shared data", "mm_test_adapters"])
def test_a_missing_need_skips_and_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _take_away(monkeypatch)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"pip install 'bathyscope\[|apt-get install|name the folder"):
        need(name)


@pytest.mark.parametrize("name", [*conftest._EXTRAS, *conftest._OTHERS])
def test_a_missing_need_fails_in_ci(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _take_away(monkeypatch)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="and CI=true demands it"):
        need(name)


def test_the_tests_extra_brings_every_package_that_tests_need() -> None:
    """The README installs the extra `test`, and CI runs the commands of the README."""
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    brought = next(each for each in extras["test"] if each.startswith("bathyscope["))
    assert {*conftest._EXTRAS.values()} - {"test"} <= set(
        brought.removeprefix("bathyscope[").removesuffix("]").split(",")
    )


def _take_away(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(conftest.importlib, "import_module", gone)
    for name, (_, remedy) in conftest._OTHERS.items():
        monkeypatch.setitem(conftest._OTHERS, name, (lambda: None, remedy))

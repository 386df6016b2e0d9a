"""The public names: complete, quick to import, and with examples that run."""

from __future__ import annotations

import doctest
import importlib
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bathyscope
from tests.conftest import ROOT

HEAVY = ("matplotlib", "numba", "numpy", "pyarrow", "scipy", "torch")


def _examples() -> Iterator[tuple[str, doctest.DocTest]]:
    """Every docstring of the package that has examples, by the name it documents."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    for file in sorted((ROOT / "bathyscope").glob("*.py")):
        name = "bathyscope" if file.stem == "__init__" else f"bathyscope.{file.stem}"
        for test in finder.find(importlib.import_module(name), globs={}):
            if test.examples:
                yield test.name, test


EXAMPLES = dict(_examples())
CALIBRATE, TRAIN = "bathyscope.calibration.calibrate", "bathyscope.training.train"
"""The example of the second uses the folder that the first writes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the examples write."""
    return tmp_path_factory.mktemp("examples")


def test_import_loads_nothing_heavy() -> None:
    code = f"import sys, bathyscope; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_every_public_name_is_there() -> None:
    assert set(bathyscope.__all__) <= set(dir(bathyscope))
    assert set(bathyscope.__all__) == set(bathyscope._MODULES)
    for name in bathyscope.__all__:
        assert not isinstance(getattr(bathyscope, name), types.ModuleType)
        assert getattr(bathyscope, name).__doc__


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'deconvolve'"):
        bathyscope.deconvolve  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize("name", bathyscope.__all__)
def test_every_public_name_has_an_example(name: str) -> None:
    used = [each for test in EXAMPLES.values() for each in test.examples if f"bathyscope.{name}" in each.source]
    assert used
    if isinstance(getattr(bathyscope, name), types.FunctionType):
        assert f"{bathyscope._MODULES[name]}.{name}" in EXAMPLES


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_examples_run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    if name == TRAIN:
        _shorten_validation(monkeypatch)
    if name == TRAIN and not Path("calibration").exists():
        _run(CALIBRATE)
    _run(name)


def _shorten_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Validate on 4 frames and not on hundreds: the scores of a model of one step mean nothing."""
    from models import training
    from models.validation import choose_threshold

    def choose(*arguments: Any, frames: int) -> tuple[float, dict[str, Any]]:
        return choose_threshold(*arguments, frames=4)

    monkeypatch.setattr(training, "choose_threshold", choose)
    monkeypatch.setattr(training, "_MEASURED_FRAMES", 8)


def _run(name: str) -> None:
    said: list[str] = []
    done = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(EXAMPLES[name], out=said.append)
    assert done.failed == 0, "".join(said)


@pytest.mark.parametrize("package", ["bathyscope", "evaluation", "hardware", "models", "service"])
def test_type_checkers_read_the_annotations(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()

"""All errors that users see are of one type, and each kind of them has an HTTP status."""

from __future__ import annotations

import ast
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bathyscope_errors import BathyscopeError
from hardware.microscope import MicroscopeError
from hardware.remote import RemoteAway
from models.errors import DataError
from service.api.problems import STATUSES, NotReady, problem
from service.engine.controls import refusal_of
from service.files.descriptions import FolderUnreadable
from service.protocol.errors import EngineAway, EngineRefusal
from service.store.errors import StoreError, UnknownItem

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("evaluation", "hardware", "models", "service")

ERRORS = [
    (DataError("The value is 3.", "Give 2."), 422, "data"),
    (FolderUnreadable("models/a cannot be read.", "Move it away."), 503, "folder-unreadable"),
    (StoreError("The database is away.", "Start it."), 503, "store"),
    (UnknownItem("There is no run 'a'.", "List the runs."), 404, "unknown-item"),
    (NotReady("The engine is away.", "Wait."), 503, "not-ready"),
    (RemoteAway("s3://lab cannot be used now.", "Check the network."), 503, "remote-away"),
    (EngineAway("The engine does not respond."), 503, "engine-away"),
    (EngineRefusal("conflict", "A run is on.", "Stop it."), 409, "conflict"),
    (EngineRefusal("not_found", "There is no such command.", "Update."), 404, "not_found"),
    (EngineRefusal("invalid", "The value is 3.", "Give 2."), 422, "invalid"),
    (EngineRefusal("unavailable", "There is no model.", "Choose one."), 503, "unavailable"),
    (EngineRefusal("microscope", "The cable is out.", "Plug it in."), 503, "microscope"),
    (EngineRefusal("internal", "The engine failed.", "See the log."), 500, "internal"),
    (MicroscopeError("stage_limit", "Too far.", "Go back."), 422, "microscope:stage_limit"),
    (MicroscopeError("busy", "A sequence runs.", "Wait."), 409, "microscope:busy"),
    (MicroscopeError("no_frame", "There is no frame.", "Look at it."), 503, "microscope:no_frame"),
]
"""One error of each kind, with the status and the type of problem that clients rely on."""


@pytest.mark.parametrize(("error", "status", "kind"), ERRORS, ids=[kind for _, _, kind in ERRORS])
def test_the_status_of_a_kind_is_part_of_the_contract(error: BathyscopeError, status: int, kind: str) -> None:
    response = problem(error.kind, error.problem, error.remedy)
    assert response.status_code == status
    assert f'"urn:bathyscope:problem:{kind}"'.encode() in bytes(response.body)


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS], ids=[kind for _, _, kind in ERRORS])
def test_an_error_is_pickled_whole(error: BathyscopeError) -> None:
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is type(error)
    assert (back.kind, back.problem, back.remedy) == (error.kind, error.problem, error.remedy)
    assert str(back) == str(error) == f"{error.problem} {error.remedy}"


def test_bad_input_is_a_value_error() -> None:
    assert issubclass(DataError, ValueError)


def test_every_kind_that_is_raised_has_a_status() -> None:
    kinds = dict(_kinds_in_the_packages())
    assert {"data", "store", "conflict", "validation", "microscope:stage_limit"} <= set(kinds)
    causes = [kind.partition(":")[2] for kind in kinds if kind.startswith("microscope:")]
    kinds |= {refusal_of(MicroscopeError(cause, "", "")).kind: f"refusal of {cause}" for cause in causes}
    missing = {kind: place for kind, place in kinds.items() if not {kind, kind.partition(":")[0]} & set(STATUSES)}
    assert missing == {}


def test_every_status_is_that_of_a_kind_that_is_raised() -> None:
    kinds = {kind for kind, _ in _kinds_in_the_packages()}
    assert set(STATUSES) - kinds - {"microscope"} == set()


def _kinds_in_the_packages() -> Iterator[tuple[str, str]]:
    """Each kind of error that the packages can raise or send, and one place of it."""
    trees = {
        file: ast.parse(file.read_text(encoding="utf-8"), str(file))
        for package in PACKAGES
        for file in sorted((ROOT / package).rglob("*.py"))
    }
    classes = _subclasses(
        [node for tree in trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    )
    for file, tree in trees.items():
        for node in ast.walk(tree):
            place = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ClassDef) and node.name in classes:
                for statement in node.body:
                    if isinstance(statement, ast.Assign) and _names(statement.targets) == ["kind"]:
                        yield from ((kind, place) for kind in _texts(statement.value))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
                if node.func.id in ("EngineRefusal", "problem"):
                    yield from ((kind, place) for kind in _texts(node.args[0]))
                elif node.func.id == "MicroscopeError":
                    yield from ((f"microscope:{cause}", place) for cause in _texts(node.args[0]))


def _subclasses(found: list[ast.ClassDef]) -> set[str]:
    """Names of the classes that derive from `BathyscopeError`, over any number of steps."""
    names = {"BathyscopeError"}
    while more := {node.name for node in found if set(_names(node.bases)) & names} - names:
        names |= more
    return names


def _names(nodes: Any) -> list[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


def _texts(node: ast.expr) -> list[str]:
    """The strings that an expression may give: a literal, or both branches of a choice."""
    if isinstance(node, ast.IfExp):
        return _texts(node.body) + _texts(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []

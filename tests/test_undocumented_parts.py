"""Parts of other packages that are not documented, and that the service uses all the same: each must still be there.

The versions are bounded in pyproject.toml. Who raises a bound is told here which part has gone.
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement

from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["uvicorn", "pycromanager"])
def test_the_version_is_bounded_above(name: str) -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        requirements = [Requirement(text) for text in tomllib.load(file)["project"]["dependencies"]]
    (wanted,) = [requirement for requirement in requirements if requirement.name == name]
    assert any(part.operator == "<" for part in wanted.specifier)
    assert wanted.specifier.contains(version(name))


@pytest.mark.parametrize(
    "name",
    [
        *("transport", "response", "handshake_complete", "close_sent", "writable", "scope"),
        *("connection_made", "handle_connect", "send", "on_task_complete", "keepalive_timeout"),
    ],
)
def test_websockets_of_uvicorn_have_the_parts_that_bound_them(name: str) -> None:
    from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

    assert hasattr(WebSocketsSansIOProtocol, name) or f"self.{name}" in inspect.getsource(WebSocketsSansIOProtocol)


@pytest.mark.parametrize("name", ["capture_signals", "startup", "on_tick"])
def test_the_server_of_uvicorn_has_the_steps_that_are_overridden(name: str) -> None:
    import uvicorn

    assert callable(getattr(uvicorn.Server, name))


def test_pycromanager_keeps_one_engine_where_it_is_looked_for() -> None:
    from pycromanager.acquisition.acq_eng_py.internal.engine import Engine

    source = inspect.getsource(Engine)
    assert "Engine.singleton = self" in source
    assert "def shutdown(self" in source

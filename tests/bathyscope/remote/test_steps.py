"""The steps of the methods, answered by hand: what is requested, and what becomes of the responses."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import httpx
import numpy as np
import pytest

import bathyscope
from bathyscope.remote.instrument import wait_until_ready
from bathyscope.remote.jobs import follow_job
from bathyscope.remote.problems import MissingPackage, ServiceAway, ServiceError, problem_of
from bathyscope.remote.runs import list_runs, read_tracks
from bathyscope.remote.steps import Pause, Request
from bathyscope.remote.table import Table
from bathyscope.remote.transports import KEY_VARIABLE, Place
from tests.conftest import ROOT

JOB: dict[str, Any] = {
    "id": "j1", "kind": "train", "name": "", "state": "running", "step": "compute", "request": {},
    "created_at": "2026-11-22T01:15:00Z", "started_at": None, "ended_at": None,
    "progress": {"done": 3.0, "total": 12.0, "unit": "minutes", "eta_s": None},
    "log": "", "result": None, "error": None,
}  # fmt: skip


def run_record(number: int) -> dict[str, Any]:
    return {
        "id": f"r{number}", "name": "", "notes": "", "state": "finished", "started_at": "2026-11-22T01:15:00Z",
        "ended_at": None, "model_id": "m", "duration_s": None, "recording": None, "fps": None, "revision": 1,
        "ledger": {}, "latency_ms": {}, "accuracy": None, "problem": None, "new_field": 7,
    }  # fmt: skip


def job_is(steps: Any, **changes: Any) -> Any:
    """Answer the request for the job, and return the step after it."""
    return steps.send(httpx.Response(200, json={**JOB, **changes}))


def test_client_needs_neither_torch_nor_the_libraries_of_the_service() -> None:
    heavy = ("torch", "numba", "fastapi", "sqlalchemy", "scipy", "zarr", "pyarrow")
    code = f"import sys, bathyscope; bathyscope.Client; print(*[name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


def test_lists_follow_the_cursor_up_to_the_limit() -> None:
    steps = list_runs(limit=3)
    assert next(steps) == Request("GET", "/runs", {"limit": 3, "cursor": None})
    page = {"items": [run_record(1), run_record(2)], "next": "r2"}
    assert steps.send(httpx.Response(200, json=page)) == Request("GET", "/runs", {"limit": 1, "cursor": "r2"})
    with pytest.raises(StopIteration) as end:
        steps.send(httpx.Response(200, json={"items": [run_record(3)], "next": "r3"}))
    runs = end.value.value
    assert [run.id for run in runs] == ["r1", "r2", "r3"]
    assert runs[0].started_at.year == 2026
    assert runs[0].raw["new_field"] == 7


def test_a_box_becomes_bounds_of_the_query() -> None:
    query = dict(next(read_tracks("r1", z_um=(5, 20), min_length=4)).query)  # type: ignore[union-attr]
    assert {name: value for name, value in query.items() if value is not None} == {
        "z_min_um": 5, "z_max_um": 20, "min_length": 4,
    }  # fmt: skip


def test_a_job_is_followed_through_an_absence_of_the_service(capsys: pytest.CaptureFixture[str]) -> None:
    steps = follow_job("j1")
    next(steps)
    assert isinstance(job_is(steps), Pause)
    assert isinstance(next(steps), Request)
    assert isinstance(steps.throw(ServiceAway("away", "wait")), Pause)
    next(steps)
    with pytest.raises(StopIteration) as end:
        job_is(steps, state="done", result="models/j1")
    assert end.value.value.result == "models/j1"
    assert capsys.readouterr().err.splitlines() == ["j1: compute 3/12 minutes", "j1: done 3/12 minutes"]


def test_a_job_that_failed_is_an_error_with_the_remedy_of_the_job() -> None:
    steps = follow_job("j1", progress=False)
    next(steps)
    with pytest.raises(ServiceError, match="no beads") as failure:
        job_is(steps, state="failed", error={"problem": "There are no beads.", "remedy": "Focus first."})
    assert (failure.value.kind, failure.value.remedy) == ("job-failed", "Focus first.")


def test_a_service_that_refuses_is_not_waited_for() -> None:
    steps = wait_until_ready()
    next(steps)
    assert isinstance(steps.throw(problem_of({"detail": "starting", "status": 503})), Pause)
    next(steps)
    with pytest.raises(ServiceError, match="key"):
        steps.throw(problem_of({"detail": "no key", "status": 401}))


def test_problems_carry_all_that_the_service_states() -> None:
    values = {
        "type": "urn:bathyscope:problem:validation", "title": "The request breaks a rule", "status": 422,
        "detail": "body.minutes is 0.", "remedy": "Correct it.", "errors": [{"field": "body.minutes"}],
    }  # fmt: skip
    error = problem_of(values)
    assert (error.kind, error.title, error.status) == ("validation", "The request breaks a rule", 422)
    assert (error.problem, error.remedy, error.errors[0]["field"]) == (
        "body.minutes is 0.",
        "Correct it.",
        "body.minutes",
    )


def test_the_key_comes_from_the_argument_or_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "of the environment")
    assert Place.of("localhost:8000", None) == Place("http://localhost:8000", "of the environment")
    place = Place.of("https://scope/", "of the argument")
    assert place.options(Request("GET", "/runs"))["headers"]["Authorization"] == "Bearer of the argument"
    assert place.socket_url("/stream") == "wss://scope/api/v1/stream"


def test_numbers_of_numpy_are_sent_as_numbers() -> None:
    body = Place.of("scope", None).options(Request("POST", "/", json={"by_um": np.float32(0.5)}))["content"]
    assert body == '{"by_um": 0.5}'


def test_tables_are_columns_and_data_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table({"track_id": np.array([1, 1, 2]), "z_um": np.array([1.0, 2.0, np.nan])}, revision=2)
    assert (table.rows, len(table), list(table)) == (3, 2, ["track_id", "z_um"])
    assert table.select(table["track_id"] == 1)["z_um"].tolist() == [1.0, 2.0]
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingPackage, match="pip install polars"):
        table.to_polars()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="not installed"):
        table.to_pandas()


def test_a_service_that_is_not_there_is_said_to_be_away() -> None:
    with bathyscope.Client("http://127.0.0.1:9") as client, pytest.raises(ServiceAway, match="does not respond"):
        client.system()

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pyarrow.parquet
import pytest
import structlog
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

from hardware.microscope import MicroscopeError
from models.tables import Localizations, Tracks
from models.tracking.settings import TrackerSettings
from service.files.access_keys import hashed
from service.protocol.addresses import LinkAddress
from service.protocol.errors import EngineRefusal
from service.protocol.latency import Latencies
from service.settings import Settings
from service.store.errors import StoreError
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.api_peer import Peer, Server, filled_store, link
from tests.service.store_samples import frame_times, recompute, sample_batch, sample_ledger

KEY = "a-long-random-access-key"


@pytest.fixture(scope="module")
def address() -> Iterator[LinkAddress]:
    with link() as address:
        yield address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def stored(folder: Path) -> Iterator[tuple[Store, str]]:
    store, run = filled_store(folder)
    yield store, run
    store.close()


@pytest.fixture(scope="module")
def run(stored: tuple[Store, str]) -> str:
    return stored[1]


@pytest.fixture(scope="module")
def page(folder: Path) -> Path:
    page = folder / "dist"
    for name, text in (
        ("index.html", "<!doctype html><title>Bathyscope</title>"),
        ("assets/index-1a2b.js", "export {};"),
        ("swagger/swagger-ui-bundle.js", "window.SwaggerUIBundle = () => {};"),
        ("swagger/swagger-ui.css", ""),
    ):
        (page / name).parent.mkdir(parents=True, exist_ok=True)
        (page / name).write_text(text)
    return page


@contextmanager
def api(address: LinkAddress, store: Store, page: Path, **settings: Any) -> Iterator[httpx.Client]:
    """A client of a real server, which thinks that it is at port 8000."""
    settings = {"data_dir": page.parent, **settings}
    server = Server(Settings(**settings), address, store, page)
    try:
        with httpx.Client(base_url=f"http://{server.host}", headers={"Host": "127.0.0.1:8000"}, timeout=30) as client:
            yield client
    finally:
        server.close()


@pytest.fixture(scope="module")
def client(address: LinkAddress, stored: tuple[Store, str], page: Path) -> Iterator[httpx.Client]:
    with api(address, stored[0], page, allowed_hosts=("scope.lab.example",)) as client:
        yield client


@pytest.fixture(scope="module")
def keyed_client(address: LinkAddress, stored: tuple[Store, str], page: Path) -> Iterator[httpx.Client]:
    with api(address, stored[0], page, access_key=KEY) as client:
        yield client


@pytest.fixture
def peer(address: LinkAddress, stored: tuple[Store, str]) -> Iterator[Peer]:
    peer = Peer(address, stored[0])
    yield peer
    peer.close()


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def assert_problem(response: Any, status: int, *words: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem: dict[str, Any] = response.json()
    assert problem["status"] == status
    assert problem["title"]
    assert problem["type"].startswith("urn:bathyscope:problem:")
    assert problem["detail"].endswith(".")
    assert problem["remedy"].endswith(".")
    for word in words:
        assert word in f"{problem['detail']} {problem['remedy']}"
    return problem


# ---- health ----


def test_alive_without_an_engine(client: httpx.Client) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    assert_problem(client.get("/readyz"), 503, "engine does not respond")
    assert client.get("/readyz").headers["retry-after"] == "2"


def test_ready_while_tracks_flow(client: httpx.Client, peer: Peer) -> None:
    def ready() -> bool:
        peer.publish_status(run_id="r1")
        return client.get("/readyz").status_code == 200

    eventually(ready, "readyz turns 200")
    assert client.get("/readyz").json() == {"status": "ready", "state": "running", "run_id": "r1", "page": "built"}


def test_not_ready_while_the_microscope_is_away(client: httpx.Client, peer: Peer) -> None:
    def told() -> bool:
        peer.publish_status(
            ready=False, state="microscope away", problem="The camera Cam1 is gone.", remedy="Plug it in."
        )
        return "Cam1" in client.get("/readyz").text

    eventually(told, "readyz tells the reason")
    assert_problem(client.get("/readyz"), 503, "The camera Cam1 is gone.", "Plug it in.")


def test_not_ready_before_tracks_flow(client: httpx.Client, peer: Peer) -> None:
    def told() -> bool:
        peer.publish_status(ready=False)
        return "no tracks flow" in client.get("/readyz").text

    eventually(told, "readyz waits for tracks")


def test_a_silent_engine_is_away(client: httpx.Client, peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.live._STATUS_LIMIT_S", 0.3)

    def ready() -> bool:
        peer.publish_status()
        return client.get("/readyz").status_code == 200

    eventually(ready, "readyz turns 200")
    eventually(lambda: client.get("/readyz").status_code == 503, "readyz turns 503 when the engine is silent")


# ---- errors ----


@pytest.mark.parametrize(
    ("method", "path", "status", "words"),
    [
        ("GET", "/api/v1/nothing", 404, ["/api/v1/nothing", "/docs"]),
        ("DELETE", "/api/v1/system", 405, ["Allow"]),
        ("GET", "/api/v1/runs/20260101T000000-0000", 404, ["20260101T000000-0000", "lists"]),
        ("GET", "/api/v1/runs/%00", 404, ["There is no run"]),
        ("POST", "/api/v1/runs/nope/stop", 404, ["nope"]),
        ("GET", "/api/v1/runs/nope/tracks", 404, ["nope"]),
        ("GET", "/api/v1/runs/nope/localizations", 404, ["nope"]),
        ("GET", "/api/v1/runs?limit=0", 422, ["query.limit", "'0'", "greater than or equal to 1"]),
        ("GET", "/api/v1/runs?limt=5", 422, ["query.limt", "no such field"]),
        ("GET", "/api/v1/runs?cursor=x", 422, ["'x'", "not one that a list returned"]),
        ("GET", "/api/v1/events?kind=%27", 422, ["query.kind"]),
    ],
)
def test_errors_are_problems_with_a_remedy(
    client: httpx.Client, method: str, path: str, status: int, words: list[str]
) -> None:
    assert_problem(client.request(method, path), status, *words)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("t_from_s=nan", ["query.t_from_s", "finite"]),
        ("x_min_um=inf", ["query.x_min_um", "finite"]),
        ("t_from_s=2&t_to_s=1", ["t_from_s is 2.0", "must not be greater"]),
        ("z_min_um=2&z_max_um=1", ["z_min_um is 2.0"]),
        ("t_from=1", ["query.t_from", "no such field"]),
        ("min_length=0", ["query.min_length"]),
        ("revision=x", ["query.revision", "'x'"]),
        ("limit=-1", ["query.limit"]),
        ("columns=x", ["query.columns.0", "'x_um'"]),
        ("columns=track_id", ["query.columns.0"]),
    ],
)
def test_parameters_that_break_a_rule(client: httpx.Client, run: str, query: str, words: list[str]) -> None:
    problem = assert_problem(client.get(f"/api/v1/runs/{run}/tracks?{query}"), 422, *words)
    assert problem["errors"][0]["rule"]


def test_some_columns_of_tracks(client: httpx.Client, run: str) -> None:
    path = f"/api/v1/runs/{run}/tracks"
    whole = client.get(path, params={"limit": 1}).json()
    some = client.get(path, params={"limit": 1, "columns": ["z_um", "frame", "z_um"]}).json()
    assert some.keys() == whole.keys()
    assert some["next"] == whole["next"]
    (item,), (full,) = some["items"], whole["items"]
    assert list(item) == ["id", "points", "t_from_s", "t_to_s", "frame", "z_um"]
    assert item == {name: full[name] for name in item}
    refused = client.get(path, params={"columns": "z_um"}, headers={"Accept": "text/csv"})
    assert_problem(refused, 422, "Columns are chosen in JSON only")


def test_unknown_track(client: httpx.Client, run: str) -> None:
    assert_problem(client.get(f"/api/v1/runs/{run}/tracks/99"), 404, "no track 99", f"/api/v1/runs/{run}/tracks")
    assert_problem(client.get(f"/api/v1/runs/{run}/tracks/x"), 422, "path.track")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"recrod": True}, ["body.recrod", "no such field"]),
        ({"record": "yes"}, ["body.record", "'yes'"]),
        ({"duration_s": -1}, ["body.duration_s", "-1"]),
        ({"duration_s": True}, ["body.duration_s"]),
        ({"name": "a\u0000b"}, ["body.name"]),
        ({"name": "x" * 201}, ["body.name"]),
        ([], ["body"]),
        (None, ["body"]),
    ],
)
def test_bodies_are_strict(client: httpx.Client, peer: Peer, body: Any, words: list[str]) -> None:
    assert_problem(client.post("/api/v1/runs", json=body), 422, *words)
    assert peer.commands == []


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"{", "application/json", 422),
        (b'{"name": "\\ud800"}', "application/json", 422),
        (b"record=true", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"{}", "application/problem+json", 201),
        (b"{" + b" " * 100_000 + b"}", "application/json", 413),
    ],
)
def test_bodies_that_cannot_be_read(client: httpx.Client, peer: Peer, content: bytes, kind: str, status: int) -> None:
    response = client.post("/api/v1/runs", content=content, headers={"Content-Type": kind})
    if status == 201:
        assert response.status_code == status
        return
    problem = assert_problem(response, status)
    assert peer.commands == []
    if status == 415:
        assert repr(kind) in problem["detail"] if kind else "missing" in problem["detail"]
        assert "b'" not in response.text  # no Python in what a user reads
        assert "application/json" in problem["remedy"]


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("conflict", 409), ("not_found", 404), ("invalid", 422), ("unavailable", 503), ("microscope", 503),
        ("internal", 500),
    ],
)  # fmt: skip
def test_refusals_of_the_engine(client: httpx.Client, peer: Peer, kind: str, status: int) -> None:
    peer.refusal = EngineRefusal(kind, "This is why.", "Do that.")
    assert_problem(client.post("/api/v1/runs", json={}), status, "This is why.", "Do that.")


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (MicroscopeError("stage_limit", "200 µm is beyond 150 µm.", "Stay within."), 422, ["200 µm", "Stay within."]),
        (MicroscopeError("no_frame", "No frame came.", "Look at the cable."), 503, ["Look at the cable."]),
        (StoreError("The database is locked.", "Try again."), 503, ["locked", "Try again."]),
        (ZeroDivisionError("secret detail"), 500, ["ZeroDivisionError", "log"]),
    ],
)
def test_errors_of_the_parts(
    client: httpx.Client, stored: tuple[Store, str], monkeypatch: pytest.MonkeyPatch,
    error: Exception, status: int, words: list[str],
) -> None:  # fmt: skip
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(stored[0].runs, "list", fail)
    response = client.get("/api/v1/runs", headers={"Connection": "close"})  # as the server does after a failure
    assert_problem(response, status, *words)
    assert "secret" not in response.text
    assert response.headers["x-content-type-options"] == "nosniff"


def test_body_of_unstated_length_is_cut_off(client: httpx.Client, peer: Peer) -> None:
    def parts() -> Iterator[bytes]:
        yield b'{"notes": "'
        for _ in range(100):
            yield b"x" * 1000

    response = client.post("/api/v1/runs", content=parts(), headers={"Content-Type": "application/json"})
    assert_problem(response, 413, "65536 bytes")
    assert peer.commands == []


# ---- system and microscope ----


def test_system(client: httpx.Client, folder: Path) -> None:
    system = client.get("/api/v1/system").json()
    assert system["data_directory"] == str(folder)
    assert system["database"] == str(folder / "bathyscope.db")
    assert system["machine"]["processors"] >= 1
    assert system["disk"]["free_gb"] > 0
    assert system["processes"] == {}
    assert system["page"] == "built"


def test_system_before_the_data_directory_is_there(
    address: LinkAddress, stored: tuple[Store, str], page: Path, tmp_path: Path
) -> None:
    with api(address, stored[0], page, data_dir=tmp_path / "later") as client:
        assert client.get("/api/v1/system").json()["disk"] is None


def test_microscope(client: httpx.Client, peer: Peer) -> None:
    assert client.get("/api/v1/microscope").json()["stage"] == {"stage_um": 12.5}
    assert peer.commands == [("microscope", {})]


def test_microscope_is_away(client: httpx.Client) -> None:
    assert_problem(client.get("/api/v1/microscope"), 503, "does not respond")


def test_properties_and_presets(client: httpx.Client, peer: Peer) -> None:
    found = client.get("/api/v1/microscope/properties", params={"device": "Camera"}).json()
    assert (found["next"], [item["id"] for item in found["items"]]) == (None, ["Camera/Gain"])
    assert client.get("/api/v1/microscope/properties", params={"trigger": "true"}).json()["items"] == []
    for value, text in (("High", "High"), (3, "3"), (0.25, "0.25")):
        change = {"device": "Camera", "name": "Gain", "value": value}
        assert client.patch("/api/v1/microscope/properties", json=change).json()["value"] == text
    assert peer.commands[-1] == ("microscope.property", {"device": "Camera", "name": "Gain", "value": "0.25"})
    preset = {"group": "Channel", "name": "FITC"}
    assert client.patch("/api/v1/microscope", json={"preset": preset}).json()["set"] == {"preset": preset}
    assert client.patch("/api/v1/microscope", json={"preset": None, "binning": 2}).json()["set"] == {"binning": 2}
    chosen = client.patch("/api/v1/microscope", json={"focus_drive": "Piezo"}).json()
    assert chosen["set"] == {"focus_drive": "Piezo"}
    both = {"focus_drive": "Piezo", "preset": preset}
    assert_problem(client.patch("/api/v1/microscope", json=both), 422, "preset is given together with focus_drive")
    both = {"preset": preset, "binning": 2}
    assert_problem(client.patch("/api/v1/microscope", json=both), 422, "preset is given together with binning")
    change = {"device": "Camera", "name": "Gain", "value": True}
    assert_problem(client.patch("/api/v1/microscope/properties", json=change), 422, "body.value")


def test_the_camera_view_is_switched(client: httpx.Client, peer: Peer) -> None:
    assert client.post("/api/v1/microscope/live", json={"on": True, "duration_s": 60}).status_code == 200
    assert client.post("/api/v1/microscope/live", json={"on": False}).status_code == 200
    assert peer.commands == [
        ("microscope.live", {"on": True, "duration_s": 60.0}), ("microscope.live", {"on": False, "duration_s": None}),
    ]  # fmt: skip
    assert_problem(client.post("/api/v1/microscope/live", json={}), 422, "body.on")


def test_stop_is_always_accepted(client: httpx.Client, peer: Peer) -> None:
    assert client.post("/api/v1/microscope/stop").json() == {
        "confirmed": True, "detail": "Stage and camera stand still.", "remedy": None,
    }  # fmt: skip
    peer.stop_answer = {"confirmed": False, "reason": "The driver did not answer within 3 s."}
    answer = client.post("/api/v1/microscope/stop").json()
    assert (answer["confirmed"], answer["detail"]) == (False, "The driver did not answer within 3 s.")
    assert "its own stop" in answer["remedy"]


def test_stop_without_an_engine_is_unconfirmed(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.microscope._STOP_TIMEOUT_S", 0.1)
    response = client.post("/api/v1/microscope/stop")
    assert response.status_code == 200
    assert response.json()["confirmed"] is False


# ---- runs ----


def test_a_run_is_started_and_stopped(client: httpx.Client, peer: Peer) -> None:
    wanted = {"record": True, "duration_s": 5, "name": "µ beads", "notes": "two\nlines"}
    response = client.post("/api/v1/runs", json=wanted)
    assert response.status_code == 201
    started = response.json()
    assert started["state"] == "running"
    assert response.headers["location"] == f"/api/v1/runs/{started['id']}"
    assert peer.commands == [("run.start", {"model": None, "static_light": None, "fit": None, **wanted})]

    assert_problem(client.post("/api/v1/runs", json={}), 409, f"Run {started['id']} is on.", "Stop it first.")

    for _ in range(2):  # stopping twice is stopping once
        stopped = client.post(f"/api/v1/runs/{started['id']}/stop")
        assert (stopped.status_code, stopped.json()["state"]) == (200, "finished")
    assert [command for command, _ in peer.commands].count("run.stop") == 1


def test_a_run_states_how_it_tracks(client: httpx.Client, peer: Peer) -> None:
    tracking = {"preset": "default", "settings": {"step_um": 2, "coast_frames": 30, "adapt": False}}
    response = client.post("/api/v1/runs", json={"tracking": tracking, "fit": "auto"})
    assert response.status_code == 201
    (_, asked) = peer.commands[0]
    assert (asked["tracking"], asked["fit"]) == (tracking, "auto")
    client.post(f"/api/v1/runs/{response.json()['id']}/stop")


def test_a_run_states_what_becomes_of_static_light(client: httpx.Client, peer: Peer) -> None:
    response = client.post("/api/v1/runs", json={"static_light": "on"})
    assert response.status_code == 201
    assert peer.commands[0][1]["static_light"] == "on"
    client.post(f"/api/v1/runs/{response.json()['id']}/stop")
    refused = client.post("/api/v1/runs", json={"static_light": "maybe"})
    assert (refused.status_code, "static_light" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("tracking", "place"),
    [
        ({"preset": "fast"}, "preset"),
        ({"settings": {"step_um": 0}}, "step_um"),
        ({"settings": {"step_um": "2"}}, "step_um"),
        ({"settings": {"coast_frames": 1.5}}, "coast_frames"),
        ({"settings": {"confirm_probability": 1}}, "confirm_probability"),
        ({"settings": {"acceleration": 1}}, "acceleration"),
        ({"smooth": True}, "smooth"),
        ({"fit": "always"}, "fit"),
        ({"preset": "published", "settings": {"step_um": 2}}, "published"),
    ],
)
def test_wrong_settings_of_the_tracker_are_refused(
    client: httpx.Client, peer: Peer, tracking: dict[str, Any], place: str
) -> None:
    response = client.post("/api/v1/runs", json={"tracking": tracking})
    assert response.status_code == 422
    assert place in response.text
    assert peer.commands == []


def test_the_description_has_the_ranges_of_the_tracker(client: httpx.Client) -> None:
    described = client.get("/openapi.json").json()["components"]["schemas"]["TrackerRequest"]["properties"]
    assert set(described) == {each.name for each in dataclasses.fields(TrackerSettings)}
    for each in dataclasses.fields(TrackerSettings):
        kinds = [kind for kind in described[each.name]["anyOf"] if kind["type"] != "null"]
        assert each.metadata["help"] in described[each.name]["description"]
        if each.type != "bool":
            assert (kinds[0]["minimum"], kinds[0]["maximum"]) == (each.metadata["low"], each.metadata["high"])


def test_run_item_has_the_contract_s_fields(client: httpx.Client, run: str) -> None:
    item = client.get(f"/api/v1/runs/{run}").json()
    assert set(item) == {
        "id", "name", "notes", "state", "started_at", "ended_at", "model_id", "record", "recording", "duration_s",
        "fps", "revision", "revisions", "ledger", "latency_ms", "stages", "accuracy", "settings", "problem",
        "fitted_frames", "recording_copy",
    }  # fmt: skip
    assert set(item["ledger"]) == {
        "exposed", "grabbed", "lost", "recorded", "unrecorded", "analysed", "deferred", "skipped", "in_flight",
    }  # fmt: skip
    assert item["started_at"].endswith("Z")
    assert (item["name"], item["fps"], item["latency_ms"]["tracked"]["p99"]) == ("beads", 99.0, 30.0)


def test_lists_come_in_pages(client: httpx.Client, stored: tuple[Store, str]) -> None:
    store, oldest = stored
    newer = store.runs.create(model_id="m", record=False).id
    first = client.get("/api/v1/runs?limit=1").json()
    assert [item["id"] for item in first["items"]] == [newer]
    second = client.get("/api/v1/runs", params={"limit": 1000, "cursor": first["next"]}).json()
    assert (second["items"][-1]["id"], second["next"]) == (oldest, None)


def test_events(client: httpx.Client, run: str) -> None:
    listed = client.get(f"/api/v1/events?run={run}").json()
    assert listed["next"] is None
    event = listed["items"][0]
    assert (event["kind"], event["run_id"], event["details"]) == ("run_finished", run, {"frames": 50})
    assert client.get(f"/api/v1/events?kind=other&run={run}").json()["items"] == []


# ---- tables ----


def test_tracks_as_json(client: httpx.Client, run: str) -> None:
    answer = client.get(f"/api/v1/runs/{run}/tracks?limit=2").json()
    assert [item["id"] for item in answer["items"]] == [3, 2]
    item = answer["items"][1]
    assert set(item) == {"id", "points", "t_from_s", "t_to_s", *Tracks.names()} - {"track_id"}
    assert item["points"] == len(item["frame"]) == 50
    assert item["x_um"][:2] == [20.0, 21.0]
    rest = client.get(f"/api/v1/runs/{run}/tracks", params={"limit": 2, "cursor": answer["next"]}).json()
    assert ([item["id"] for item in rest["items"]], rest["next"]) == ([1], None)
    assert (answer["revision"], rest["revision"]) == (1, 1)


def test_pages_stay_on_the_revision_of_the_first(client: httpx.Client, stored: tuple[Store, str]) -> None:
    """A catch-up completes between two pages, as JSON, as CSV, and of one track; every answer names its revision."""
    store, _ = stored
    run = store.runs.create(model_id="m", record=False).id
    for batch in range(2):
        store.append(run, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    path = f"/api/v1/runs/{run}/tracks"
    first = client.get(path, params={"limit": 1})
    first_csv = client.get(path, params={"limit": 1}, headers={"Accept": "text/csv"})
    first_part = client.get(f"{path}/3", params={"limit": 15})
    first_part_csv = client.get(f"{path}/3", params={"limit": 15}, headers={"Accept": "text/csv"})
    assert recompute(store, run, 1000.0, (2, 3, 4), 2) == 2

    second = client.get(path, params={"cursor": first.json()["next"]})
    # The client thinks that it is at port 8000.
    addresses = [httpx.URL(its.links["next"]["url"]).raw_path.decode() for its in (first_csv, first_part_csv)]
    second_csv = client.get(addresses[0], headers={"Accept": "text/csv"})
    second_part = client.get(f"{path}/3", params={"cursor": first_part.json()["next"]})
    second_part_csv = client.get(addresses[1], headers={"Accept": "text/csv"})
    live = (first, first_csv, first_part, first_part_csv, second, second_csv, second_part, second_part_csv)
    assert [answer.headers["bathyscope-revision"] for answer in live] == ["1"] * 8
    assert [answer.json()["revision"] for answer in (first, first_part, second, second_part)] == [1, 1, 1, 1]
    assert [item["id"] for item in second.json()["items"]] == [2, 1]
    assert max(second.json()["items"][0]["x_um"]) < 1000
    rows = list(csv.DictReader(io.StringIO(second_csv.text)))
    assert ({row["track_id"] for row in rows}, max(float(row["x_um"]) for row in rows) < 1000) == ({"2"}, True)
    assert first_part.json()["frame"] + second_part.json()["frame"] == [*range(20)]
    assert max(second_part.json()["x_um"]) < 1000
    assert len(first_part_csv.text.splitlines()) + len(second_part_csv.text.splitlines()) == 20 + 2

    for accept in ("application/json", "text/csv", "application/vnd.apache.parquet"):
        for newest in (path, f"{path}/3"):
            assert client.get(newest, headers={"Accept": accept}).headers["bathyscope-revision"] == "2"
    assert min(client.get(f"{path}/3").json()["x_um"]) > 1000
    assert_problem(client.get(path, params={"revision": 3}), 404, "no revision 3", "newest is 2")
    assert_problem(client.get(path, params={"cursor": "3.2"}), 404, "no revision 3")
    problem = client.get(path, params={"revision": 2, "cursor": first.json()["next"]})
    assert_problem(problem, 422, "revision is 2, and the cursor is of revision 1")


def test_answers_are_bounded(client: httpx.Client, run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No JSON answer has more points, however long a track is; its rest comes with the next page."""
    monkeypatch.setattr("service.api.tracks.MOST_POINTS", 20)
    frames: dict[int, list[int]] = {}
    cursor: dict[str, str] = {}
    for _ in range(9):
        answer = client.get(f"/api/v1/runs/{run}/tracks", params=cursor).json()
        assert sum(len(item["frame"]) for item in answer["items"]) <= 20
        for item in answer["items"]:
            frames.setdefault(item["id"], []).extend(item["frame"])
        cursor = {"cursor": answer["next"]}
    assert answer["next"] is None
    assert frames == {track: [*range(50)] for track in (3, 2, 1)}
    one = client.get(f"/api/v1/runs/{run}/tracks/1").json()
    assert (one["points"], one["frame"], one["next"]) == (50, [*range(20)], "1.1.19")
    batches = client.get(f"/api/v1/runs/{run}/localizations").json()
    assert (len(batches["items"]), batches["next"]) == (1, "4")


def test_tracks_by_time_and_place(client: httpx.Client, run: str) -> None:
    query = {"t_from_s": 0.1, "t_to_s": 0.19, "z_min_um": 30, "z_max_um": 50, "min_length": 50, "revision": 1}
    items = client.get(f"/api/v1/runs/{run}/tracks", params=query).json()["items"]
    assert [(item["id"], item["points"], item["frame"]) for item in items] == [(2, 50, list(range(10, 20)))]


def test_tracks_as_csv(client: httpx.Client, run: str) -> None:
    response = client.get(f"/api/v1/runs/{run}/tracks", headers={"Accept": "text/csv"})
    assert response.headers["content-type"] == "text/csv; charset=utf-8"
    assert response.headers["content-disposition"] == f'attachment; filename="{run}-tracks.csv"'
    assert response.text.splitlines()[0] == (
        "track_id,frame,t_s,x_um,y_um,z_um,vx_um_s,vy_um_s,vz_um_s,sigma_x_um,sigma_y_um,sigma_z_um,observed,probability"
    )
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert len(rows) == 150
    assert (rows[0]["track_id"], rows[0]["frame"], float(rows[0]["x_um"]), rows[0]["observed"]) == ("1", "0", 10.0, "1")


def test_tracks_as_csv_in_pages(client: httpx.Client, run: str) -> None:
    headers = {"Accept": "text/csv"}
    seen, address = [], f"/api/v1/runs/{run}/tracks?limit=2"
    for _ in range(2):
        response = client.get(address, headers=headers)
        seen += [row["track_id"] for row in csv.DictReader(io.StringIO(response.text))]
        address = httpx.URL(response.links.get("next", {}).get("url", "")).raw_path.decode()
    assert address == "/"
    assert sorted(seen) == ["1"] * 50 + ["2"] * 50 + ["3"] * 50


def test_localizations_as_csv(client: httpx.Client, run: str) -> None:
    response = client.get(f"/api/v1/runs/{run}/localizations", headers={"Accept": "text/csv"})
    lines = response.text.splitlines()
    assert lines[0] == ("frame,x_um,y_um,z_um,photons,background,probability,sigma_x_um,sigma_y_um,sigma_z_um,chi2")
    assert len(lines) == 151
    assert lines[1] == "0,10,1,20,10000,2,0.75,0.25,0.25,0.5,"  # chi2 is empty where nothing was refined


@pytest.mark.parametrize(("name", "table"), [("tracks", Tracks), ("localizations", Localizations)])
def test_tables_as_parquet(
    client: httpx.Client, run: str, name: str, table: type[Tracks] | type[Localizations]
) -> None:
    response = client.get(f"/api/v1/runs/{run}/{name}", headers={"Accept": "application/vnd.apache.parquet"})
    read = pyarrow.parquet.read_table(io.BytesIO(response.content))
    assert tuple(read.column_names) == table.names()
    assert read.num_rows == 150
    assert [str(read.schema.field(column).type) for column in ("frame", "x_um")] == ["int64", "double"]
    if name == "localizations":
        assert read["chi2"].null_count == 150


def test_localizations_as_json(client: httpx.Client, run: str) -> None:
    answer = client.get(f"/api/v1/runs/{run}/localizations?t_from_s=0.15&t_to_s=0.35&limit=2").json()
    assert [(item["id"], item["frame_from"], item["frame_to"]) for item in answer["items"]] == [
        (3, 30, 39),
        (2, 20, 29),
    ]
    item = answer["items"][0]
    assert set(Localizations.names()) <= set(item)
    assert (item["model_id"], len(item["x_um"]), item["chi2"][0]) == ("reference", 30, None)
    assert answer["next"] == "2"


def test_localizations_as_csv_in_pages(client: httpx.Client, run: str) -> None:
    response = client.get(f"/api/v1/runs/{run}/localizations?limit=2", headers={"Accept": "text/csv"})
    frames = [int(row["frame"]) for row in csv.DictReader(io.StringIO(response.text))]
    assert sorted(set(frames)) == list(range(30, 50))
    assert "cursor=3" in response.links["next"]["url"]


@pytest.mark.parametrize("accept", ["text/csv", "application/vnd.apache.parquet", "application/json"])
def test_empty_selection(client: httpx.Client, run: str, accept: str) -> None:
    for name in ("tracks", "localizations"):
        response = client.get(f"/api/v1/runs/{run}/{name}?t_from_s=1000", headers={"Accept": accept})
        assert response.status_code == 200
        assert response.content


def test_one_track_in_every_form(client: httpx.Client, run: str) -> None:
    path = f"/api/v1/runs/{run}/tracks/2"
    assert client.get(path).json()["id"] == 2
    assert len(client.get(path, headers={"Accept": "text/csv"}).text.splitlines()) == 51
    parquet = client.get(path, headers={"Accept": "application/vnd.apache.parquet"})
    assert pyarrow.parquet.read_table(io.BytesIO(parquet.content)).num_rows == 50


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "application/json"),
        ("text/*", "text/csv; charset=utf-8"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv; charset=utf-8"),
        ("text/csv;q=0.5, */*", "application/json"),
        ("application/json;q=0, */*;q=0.1", "text/csv; charset=utf-8"),
        ("application/vnd.apache.parquet, text/csv;q=x", "application/vnd.apache.parquet"),
        ("text/html, application/xhtml+xml, */*;q=0.8", "application/json"),
    ],
)
def test_form_by_accept(client: httpx.Client, run: str, accept: str, kind: str) -> None:
    response = client.get(f"/api/v1/runs/{run}/tracks", headers={"Accept": accept})
    assert response.headers["content-type"] == kind


def test_form_that_is_not_offered(client: httpx.Client, run: str) -> None:
    response = client.get(f"/api/v1/runs/{run}/tracks", headers={"Accept": "application/xml"})
    assert_problem(response, 406, "application/xml", "text/csv")


def test_undefined_numbers_are_null(client: httpx.Client, stored: tuple[Store, str]) -> None:
    store, _ = stored
    new = store.runs.create(model_id="m", record=False).id
    found, tracks = sample_batch(0, (1,))
    tracks.sigma_z_um[2] = np.nan
    store.append(new, ResultBatch(found, tracks, frame_times(0)), sample_ledger(0))
    item = client.get(f"/api/v1/runs/{new}/tracks/1").json()
    assert item["sigma_z_um"][1:4] == [0.5, None, 0.5]
    line = client.get(f"/api/v1/runs/{new}/tracks/1", headers={"Accept": "text/csv"}).text.splitlines()[3]
    assert line.endswith(",0.25,0.25,,1,0.875")


# ---- who may ask ----


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("127.0.0.1:8000", True), ("localhost:8000", True), ("[::1]:8000", True), ("LOCALHOST", True),
        ("127.0.0.2", True), ("scope.lab.example", True), ("evil.example", False), ("127.0.0.1.evil.example", False),
        ("192.0.2.1", False), ("", False), ("local host", False), ("[::1", False), ("localhost:port", False),
        ("evilscope.lab.example", False), ("evil.scope.lab.example", False), ("scope.lab.example.evil", False),
        ("evil127.0.0.1", False), ("evillocalhost", False), ("localhost.evil", False), ("scope", False),
        ("scope.lab.example@evil.example", False), ("evil.example#scope.lab.example", False),
        ("evil.example?scope.lab.example", False), ("evil.example/scope.lab.example", False),
    ],
)  # fmt: skip
def test_host_must_be_a_name_of_this_service(client: httpx.Client, host: str, allowed: bool) -> None:
    response = client.get("/api/v1/runs", headers={"Host": host})
    if allowed:
        assert response.status_code == 200
    else:
        assert_problem(response, 403, "allowed_hosts")
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (None, True), ("http://127.0.0.1:8000", True), ("http://127.0.0.1:8001", False), ("http://127.0.0.1", False),
        ("https://127.0.0.1:8000", True), ("http://evil.example", False), ("null", False), ("", False),
        ("http://localhost:8000", False), ("file://127.0.0.1:8000", False),
        ("http://127.0.0.1:8000.evil.example", False), ("http://evil127.0.0.1:8000", False),
        ("http://127.0.0.1:8000@evil.example:8000", False), ("http://evil.example:8000", False),
        ("http://127.0.0.1:80000", False), ("ftp://127.0.0.1:8000", False), ("//127.0.0.1:8000", False),
        ("127.0.0.1:8000", False), ("http://127.0.0.10:8000", False),
    ],
)  # fmt: skip
def test_mutations_come_from_the_own_page(client: httpx.Client, peer: Peer, origin: str | None, allowed: bool) -> None:
    headers = {} if origin is None else {"Origin": origin}
    response = client.post("/api/v1/microscope/stop", headers=headers)
    if allowed:
        assert response.status_code == 200
    else:
        assert_problem(response, 403, "another site")


def test_reading_does_not_need_an_origin(client: httpx.Client) -> None:
    response = client.get("/api/v1/runs", headers={"Origin": "http://evil.example"})
    assert response.status_code == 200
    assert "access-control-allow-origin" not in response.headers  # so that page cannot see it


@pytest.mark.parametrize(
    "given",
    [
        None, "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {KEY}x", "Bearer ü", f"Bearer {KEY[:-1]}",
        f"Bearer {KEY.upper()}", f"Bearer x{KEY}", KEY, f"Bearer {KEY} {KEY}", f"Bearer{KEY}", "Bearer None",
    ],
)  # fmt: skip
def test_key_is_asked_for(keyed_client: httpx.Client, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given.encode()}
    for path in ("/api/v1/runs", "/api/v1/nothing", "/readyz", "/metrics", "//api/v1/runs", "/assets/../api/v1/runs"):
        address = f"{keyed_client.base_url}".rstrip("/") + path
        assert_problem(keyed_client.get(address, headers=headers), 401, "Authorization: Bearer")
    response = keyed_client.post("/api/v1/microscope/stop", headers=headers)
    assert_problem(response, 401)
    assert response.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/healthz", "/docs", "/docs/start.js", "/openapi.json", "/assets/index-1a2b.js"):
        assert keyed_client.get(path, headers=headers).status_code == 200, path


def test_keys_are_compared_in_constant_time(keyed_client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, str]] = []

    def compare(given: str, key: str) -> bool:
        compared.append((given, key))
        return given == key

    monkeypatch.setattr("service.api.access.hmac.compare_digest", compare)
    assert keyed_client.get("/api/v1/runs", headers={"Authorization": "Bearer almost"}).status_code == 401
    assert keyed_client.get("/api/v1/runs", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
    assert compared == [(hashed("almost"), hashed(KEY)), (hashed(KEY), hashed(KEY))]


def test_wrong_keys_are_logged_once_a_minute_without_the_key(
    address: LinkAddress, stored: tuple[Store, str], page: Path
) -> None:
    with structlog.testing.capture_logs() as logs, api(address, stored[0], page, access_key=KEY) as client:
        for attempt in range(50):
            client.get("/api/v1/runs", headers={"Authorization": f"Bearer guess-number-{attempt:04d}"})
        client.get("/api/v1/runs")  # without any key: a page that is about to ask for it
        refused = metric_values(client, headers={"Authorization": f"Bearer {KEY}"})
    lines = [line for line in logs if line["event"] == "wrong_key"]
    assert [(line["client"], line["path"], line["not_logged"]) for line in lines] == [("127.0.0.1", "/api/v1/runs", 0)]
    assert "guess" not in str(logs)
    assert KEY not in str(logs)
    assert refused["bathyscope_refused_requests_total", (("reason", "key"),)] == 50


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_right_key(keyed_client: httpx.Client, scheme: str) -> None:
    assert keyed_client.get("/api/v1/runs", headers={"Authorization": f"{scheme} {KEY}"}).status_code == 200


def test_security_headers(client: httpx.Client) -> None:
    for path in ("/", "/healthz", "/api/v1/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "connect-src 'self' ws://127.0.0.1:8000 wss://127.0.0.1:8000;" in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
    assert client.get("/api/v1/runs").headers["cache-control"] == "no-store"


# ---- page, description, metrics ----


def test_page(client: httpx.Client) -> None:
    assert "<title>Bathyscope</title>" in client.get("/").text
    assert client.get("/").headers["cache-control"] == "no-cache"
    assert "immutable" in client.get("/assets/index-1a2b.js").headers["cache-control"]
    assert "swagger/swagger-ui-bundle.js" in client.get("/docs").text
    assert "openapi.json" in client.get("/docs/start.js").text
    assert_problem(client.get("/assets/none.js"), 404)


def test_page_that_was_not_built(address: LinkAddress, stored: tuple[Store, str], tmp_path: Path) -> None:
    with api(address, stored[0], tmp_path / "none") as client:
        for path in ("/", "/docs"):
            response = client.get(path)
            assert response.status_code == 503
            assert "Why:" in response.text
            assert "pip install" in response.text
        assert client.get("/api/v1/system").json()["page"] == "not built"
        assert_problem(client.get("/assets/none.js"), 404)


def test_description_is_valid(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    validate(document)
    paths = document["paths"]
    assert {
        "/healthz", "/readyz", "/api/v1/system", "/api/v1/microscope", "/api/v1/microscope/stop",
        "/api/v1/microscope/stage", "/api/v1/microscope/snap", "/api/v1/microscope/live",
        "/api/v1/microscope/properties", "/api/v1/microscope/focus",
        "/api/v1/calibrations", "/api/v1/calibrations/{calibration}",
        "/api/v1/calibrations/{calibration}/report", "/api/v1/models", "/api/v1/models/active",
        "/api/v1/models/{model}", "/api/v1/jobs", "/api/v1/jobs/{job}", "/api/v1/jobs/{job}/result", "/api/v1/runs",
        "/api/v1/runs/{run}", "/api/v1/runs/{run}/stop", "/api/v1/runs/{run}/export", "/api/v1/runs/{run}/tracks",
        "/api/v1/runs/{run}/reprocess", "/api/v1/runs/{run}/recording", "/api/v1/runs/{run}/revisions",
        "/api/v1/runs/{run}/frames/{frame}",
        "/api/v1/runs/{run}/tracks/{track}", "/api/v1/runs/{run}/localizations", "/api/v1/runs/{run}/measures",
        "/api/v1/runs/{run}/track-events", "/api/v1/events", "/api/v1/retention", "/api/v1/audit", "/api/v1/access",
        "/api/v1/models/{model}/archive", "/api/v1/cameras", "/api/v1/acquisitions",
    } == set(paths)  # fmt: skip
    for path in paths.values():
        for operation in path.values():
            assert operation["description"]
            for status, answer in operation["responses"].items():
                assert status.startswith("2") or list(answer["content"]) == ["application/problem+json"]
    parameters = {p["name"] for p in paths["/api/v1/runs/{run}/tracks"]["get"]["parameters"]}
    assert parameters == {
        "run", "t_from_s", "t_to_s", "limit", "cursor", "x_min_um", "x_max_um", "y_min_um", "y_max_um", "z_min_um",
        "z_max_um", "min_length", "revision", "columns",
    }  # fmt: skip
    assert "https://" not in json.dumps(document)


# ---- methods ----


@pytest.mark.parametrize(
    "path",
    ["/", "/healthz", "/docs", "/assets/index-1a2b.js", "/api/v1/system", "/api/v1/runs", "/metrics", "/openapi.json"],
)
def test_head_is_get_without_the_content(client: httpx.Client, path: str) -> None:
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    assert head.headers["content-type"] == got.headers["content-type"]
    assert client.get("/healthz").status_code == 200  # the connection is still of use


def test_head_of_a_table_and_of_what_is_not_there(client: httpx.Client, run: str) -> None:
    head = client.head(f"/api/v1/runs/{run}/tracks", headers={"Accept": "text/csv"})
    assert (head.status_code, head.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert client.head("/api/v1/runs/none").status_code == 404
    assert client.head("/nothing").status_code == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", "/api/v1/system", "GET, HEAD"), ("PUT", "/api/v1/runs", "GET, HEAD, POST"),
        ("PUT", "/api/v1/runs/r1", "GET, HEAD, PATCH, DELETE"), ("GET", "/api/v1/runs/r1/stop", "POST"),
        ("HEAD", "/api/v1/microscope/stop", "POST"), ("PUT", "/api/v1/jobs/j1", "GET, HEAD, DELETE"),
        ("POST", "/api/v1/microscope", "GET, HEAD, PATCH"), ("POST", "/assets/index-1a2b.js", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"), ("POST", "/api/v1/models/active", "GET, HEAD, PUT"),
    ],
)  # fmt: skip
def test_other_methods_are_refused_with_those_that_there_are(
    client: httpx.Client, method: str, path: str, allowed: str
) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


def test_an_address_that_is_not_there_is_not_found_by_any_method(client: httpx.Client) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        assert_problem(client.request(method, "/api/v1/nothing"), 404)


# ---- figures ----


def metric_values(
    client: httpx.Client, headers: dict[str, str] | None = None
) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(client.get("/metrics", headers=headers).text)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_metrics(client: httpx.Client, peer: Peer) -> None:
    eventually(lambda: metric_values(client)["bathyscope_engine_up", ()] == 0, "the engine is away at first")

    def up() -> bool:
        peer.publish_status()
        return metric_values(client)["bathyscope_engine_up", ()] == 1

    eventually(up, "the engine's status arrives")
    values = metric_values(client)
    assert values["bathyscope_instrument_ready", ()] == 1
    assert values["bathyscope_frames_total", (("outcome", "analysed"),)] == 50
    assert values["bathyscope_frames_total", (("outcome", "lost"),)] == 0
    assert values["bathyscope_frames_in_flight", ()] == 0
    assert values["bathyscope_fitted_frames_total", (("degree", "full"),)] == 40
    assert values["bathyscope_fitted_frames_total", (("degree", "none"),)] == 1
    assert values["bathyscope_analysis_rate_hertz", ()] == 99.5
    assert values["bathyscope_stage_depth_items", (("stage", "analysis"),)] == 2
    assert values["bathyscope_stage_highest_items", (("stage", "analysis"),)] == 5
    assert values["bathyscope_latency_seconds", (("quantile", "0.99"), ("stage", "tracked"))] == pytest.approx(0.03)
    assert ("bathyscope_latency_seconds", (("quantile", "1"), ("stage", "tracked"))) not in values  # undefined
    for name in ("clients", "dropped_views_total", "disconnected_clients_total"):
        assert values[f"bathyscope_stream_{name}", (("stream", "preview"),)] == 0


def test_metrics_of_processes_disk_recorder_and_latency(client: httpx.Client, peer: Peer, address: LinkAddress) -> None:
    latencies = Latencies()
    for latency_s in (0.004, 0.04, 0.04, 30.0):
        latencies.of["tracked"].add(latency_s)
    address.record.write({"engine": {"state": "running", "restarts": 3}, "api": {"state": "pausing", "restarts": 0}})

    def up() -> bool:
        peer.publish_status(latency_buckets=latencies.buckets(), recorder="stopped")
        return metric_values(client).get(("bathyscope_recorder_state", (("state", "stopped"),))) == 1

    try:
        eventually(up, "the engine's status arrives")
        values = metric_values(client)
    finally:
        address.record.path.unlink()
    assert values["bathyscope_recorder_state", (("state", "writing"),)] == 0
    assert values["bathyscope_process_up", (("process", "engine"),)] == 1
    assert values["bathyscope_process_up", (("process", "api"),)] == 0
    assert values["bathyscope_process_restarts_total", (("process", "engine"),)] == 3
    assert values["bathyscope_disk_free_bytes", ()] > 0
    name, stage = "bathyscope_stage_latency_seconds", ("stage", "tracked")
    within = [values[f"{name}_bucket", (("le", le), stage)] for le in ("0.005", "0.03", "0.05", "5", "+Inf")]
    assert within == [1, 1, 3, 3, 4]
    assert values[f"{name}_count", (stage,)] == 4
    assert values[f"{name}_sum", (stage,)] == pytest.approx(30.084, rel=0.01)  # bins are right to one percent
    assert values[f"{name}_count", (("stage", "published"),)] == 0


def test_metrics_say_that_the_engine_is_away(
    address: LinkAddress, stored: tuple[Store, str], page: Path, tmp_path: Path
) -> None:
    with api(address, stored[0], page, data_dir=tmp_path / "later") as client:
        values = metric_values(client)
    assert values["bathyscope_engine_up", ()] == 0
    assert values["bathyscope_instrument_ready", ()] == 0
    assert values["bathyscope_process_record_up", ()] == 0
    assert values["bathyscope_analysis_rate_hertz", ()] == 0
    assert math.isnan(values["bathyscope_frames_in_flight", ()])
    assert math.isnan(values["bathyscope_disk_free_bytes", ()])  # the folder is not there
    states = {labels[0][1]: value for (name, labels), value in values.items() if name.endswith("recorder_state")}
    assert states == {"off": 0, "writing": 0, "stopped": 0, "unknown": 1}
    missing = {labels[0][1]: value for (name, labels), value in values.items() if name.endswith("figures_missing")}
    assert missing == dict.fromkeys(("frames", "stages", "fits", "latencies", "latency_buckets", "recorder"), 1)


def test_metrics_of_a_status_that_they_do_not_know(client: httpx.Client, peer: Peer) -> None:
    def up() -> bool:
        # Another rate than in the status of the test before, which may still hold.
        peer.publish_status(fps=12.5, stages=["analysis"], latency_buckets={"tracked": {}})
        return metric_values(client).get(("bathyscope_analysis_rate_hertz", ())) == 12.5

    eventually(up, "the odd status arrives")
    values = metric_values(client)
    assert values["bathyscope_engine_up", ()] == 1
    assert values["bathyscope_figures_missing", (("figures", "stages"),)] == 1
    assert values["bathyscope_figures_missing", (("figures", "latency_buckets"),)] == 1
    assert values["bathyscope_figures_missing", (("figures", "frames"),)] == 0


def test_metrics_of_an_engine_without_a_run(client: httpx.Client, peer: Peer) -> None:
    def up() -> bool:
        peer.publish_status(ledger=None, stages={}, latency_ms={}, fps=None, state="ready")
        return metric_values(client).get(("bathyscope_analysis_rate_hertz", ())) == 0

    eventually(up, "the engine's status arrives")

"""Every number, text and list of every request has bounds, and what costs memory is told in planes and bytes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.files.jobs import Jobs
from service.settings import Settings
from service.store.store import Store
from tests.models.test_training import small_calibration
from tests.service.api_peer import Peer, Server, link


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Peer]]:
    folder = tmp_path_factory.mktemp("bounds")
    small_calibration().save(folder / "calibrations" / "small")
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    with link() as address:
        peer = Peer(address, store, Jobs(folder))
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}", timeout=30) as client:
            yield client, peer
        server.close()
        peer.close()
    store.close()


def request_schemas(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every schema of every parameter and body, with the place where it stands."""
    for path, operations in document["paths"].items():
        for verb, operation in operations.items():
            for parameter in operation.get("parameters", ()):
                yield f"{verb} {path} {parameter['name']}", parameter["schema"]
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                yield f"{verb} {path} {kind}", body["schema"]


def unbounded(document: dict[str, Any], place: str, schema: dict[str, Any]) -> Iterator[str]:
    """What in `schema`, at any depth, has no bound."""
    if "$ref" in schema:
        yield from unbounded(document, place, document["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
        return
    for choice in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(choice, ()):
            yield from unbounded(document, place, part)
    if "enum" in schema or "const" in schema:
        return
    kind = schema.get("type")
    if kind in ("number", "integer"):
        if not ({"minimum", "exclusiveMinimum"} & set(schema) and {"maximum", "exclusiveMaximum"} & set(schema)):
            yield f"{place}: {kind} without minimum and maximum"
    elif kind == "string":
        if "maxLength" not in schema:
            yield f"{place}: string without maxLength"
    elif kind == "array":
        if "maxItems" not in schema:
            yield f"{place}: array without maxItems"
        yield from unbounded(document, f"{place}[]", schema.get("items", {}))
    elif kind == "object":
        if schema.get("additionalProperties") is not False and "properties" in schema:
            yield f"{place}: object that takes any field"
        for name, part in schema.get("properties", {}).items():
            yield from unbounded(document, f"{place}.{name}", part)
        if "properties" not in schema:
            yield f"{place}: object of anything"
    elif kind not in ("boolean", "null") and not set(schema) & {"anyOf", "oneOf", "allOf"}:
        yield f"{place}: {kind} of no known kind"


def test_every_value_of_every_request_is_bounded(served: tuple[httpx.Client, Peer]) -> None:
    document = served[0].get("/openapi.json").json()
    found = list(request_schemas(document))
    assert len(found) > 30
    assert [fault for place, schema in found for fault in unbounded(document, place, schema)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number"}, {"type": "integer", "minimum": 0}, {"type": "string"}, {"type": "array", "items": {}},
        {"type": "object"}, {"type": "array", "maxItems": 2, "items": {"type": "number"}}, {},
        {"anyOf": [{"type": "null"}, {"type": "number", "maximum": 1}]},
        {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False},
    ],
)  # fmt: skip
def test_the_walk_finds_what_is_not_bounded(schema: dict[str, Any]) -> None:
    assert list(unbounded({}, "here", schema))


@pytest.mark.parametrize("step_um", [1e-9, 1e-7, 1e-300, 5e-324])
def test_a_step_below_what_a_drive_resolves_is_refused(served: tuple[httpx.Client, Peer], step_um: float) -> None:
    client, peer = served
    asked = len(peer.commands)
    answer = client.post("/api/v1/calibrations", json={"z_range_um": [0, 40], "z_step_um": step_um})
    assert answer.status_code == 422
    assert "z_step_um" in answer.json()["detail"]
    assert "0.001" in answer.json()["detail"]
    assert len(peer.commands) == asked


@pytest.mark.parametrize("minutes", [1e-300, 1e-6, 0.01, 1e9])
def test_a_training_too_short_to_learn_or_without_end_is_refused(
    served: tuple[httpx.Client, Peer], minutes: float
) -> None:
    answer = served[0].post("/api/v1/models", json={"calibration": "small", "minutes": minutes})
    assert answer.status_code == 422
    assert "minutes" in answer.json()["detail"]


@pytest.mark.parametrize(
    ("verb", "path", "body"),
    [
        ("POST", "/api/v1/runs", {"duration_s": 1e-300}),
        ("POST", "/api/v1/microscope/stage", {"stage_um": 1e300}),
        ("POST", "/api/v1/microscope/stage", {"stage_um": -1e6}),
        ("PATCH", "/api/v1/microscope", {"exposure_s": 1e-12}),
        ("PATCH", "/api/v1/microscope/properties", {"device": "Camera", "name": "Gain", "value": 1e300}),
        ("PATCH", "/api/v1/microscope/properties", {"device": "C" * 201, "name": "Gain", "value": "1"}),
        ("PATCH", "/api/v1/microscope/properties", {"device": "Camera", "name": "", "value": "1"}),
        ("PATCH", "/api/v1/microscope/properties", {"device": "Camera", "name": "Gain", "value": "1" * 201}),
        ("PATCH", "/api/v1/microscope", {"preset": {"group": "", "name": "x"}}),
        ("PATCH", "/api/v1/microscope", {"focus_drive": "x" * 201}),
        ("POST", "/api/v1/microscope/focus", {"range_um": 1e300}),
        ("POST", "/api/v1/microscope/focus", {"step_um": 1e-9}),
        ("POST", "/api/v1/microscope/focus", {"settle_s": 1e9}),
        ("GET", "/api/v1/microscope/properties?device=" + "x" * 201, None),
        ("POST", "/api/v1/microscope/live", {"on": True, "duration_s": 1e300}),
        ("POST", "/api/v1/calibrations", {"z_range_um": [0, 40], "z_step_um": 1, "pixel_size_um": 1e-9}),
        ("POST", "/api/v1/calibrations", {"z_range_um": [0, 40], "z_step_um": 1, "exposure_s": 1e-9}),
        ("GET", "/api/v1/runs/r1/tracks?x_min_um=1e300", None),
        ("GET", "/api/v1/runs/r1/tracks?t_to_s=1e300", None),
        ("GET", "/api/v1/runs/" + "x" * 65, None),
        ("GET", "/api/v1/jobs/" + "x" * 65, None),
        ("PUT", "/api/v1/models/active", {"id": "x" * 65}),
    ],
)
def test_absurd_values_are_refused(served: tuple[httpx.Client, Peer], verb: str, path: str, body: Any) -> None:
    client, peer = served
    asked = len(peer.commands)
    answer = client.request(verb, path, json=body)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["rule"]
    assert len(peer.commands) == asked

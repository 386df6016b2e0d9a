"""Whatever a request says, the answer is data or a problem with a remedy, never a failure."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.settings import Settings
from tests.service.api_peer import Peer, Server, filled_store, link

# A fixed seed, so that a failure is a failure for everybody; the server is shared by all examples on purpose.
examples = settings(
    max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

NUMBERS = st.one_of(
    st.floats().map(repr),
    st.integers().map(str),
    st.sampled_from(["", "nan", "1e999", "0x10", "\uff19", "-0", "1_0", "True"]),
)
NAMES = (
    "t_from_s", "t_to_s", "x_min_um", "x_max_um", "y_min_um", "y_max_um", "z_min_um", "z_max_um", "min_length",
    "revision", "limit", "cursor",
)  # fmt: skip
QUERIES = st.dictionaries(
    st.one_of(st.sampled_from(NAMES), st.text(max_size=5)), st.one_of(NUMBERS, st.text(max_size=20))
)
ACCEPTS = st.one_of(
    st.sampled_from(["application/json", "text/csv", "application/vnd.apache.parquet", "*/*", "text/*;q=0.1"]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
)
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=10)
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, str]]:
    folder = tmp_path_factory.mktemp("fuzz")
    store, run = filled_store(folder)
    with link() as address:
        peer = Peer(address, store)
        server = Server(Settings(data_dir=folder), address, store, Path("none"))
        with httpx.Client(base_url=f"http://{server.host}", timeout=60) as client:
            yield client, run
        server.close()
        peer.close()
    store.close()


def assert_answered(response: httpx.Response) -> None:
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.headers["content-type"] == "application/problem+json", response.text
        problem = response.json()
        assert problem["detail"]
        assert problem["remedy"]


@examples
@given(query=QUERIES, accept=ACCEPTS, what=st.sampled_from(["tracks", "tracks/2", "localizations"]))
def test_queries_of_a_run(served: tuple[httpx.Client, str], query: dict[str, str], accept: str, what: str) -> None:
    client, run = served
    assert_answered(client.get(f"/api/v1/runs/{run}/{what}", params=query, headers={"Accept": accept.strip()}))


@examples
@given(run=st.text(min_size=1, max_size=30), track=st.one_of(NUMBERS, st.text(max_size=10)))
def test_names_of_runs_and_tracks(served: tuple[httpx.Client, str], run: str, track: str) -> None:
    client, known = served
    for path in (f"runs/{quote(run, safe='')}", f"runs/{known}/tracks/{quote(track, safe='')}"):
        assert_answered(client.get(f"/api/v1/{path}"))


ODD_NUMBERS = st.one_of(
    st.sampled_from([2**31, 2**31 - 1, 2**63 - 1, 2**63, 2**64, 10**30, -1, -(2**63), 0]).map(str),
    st.sampled_from(["nan", "inf", "-inf", "1e999", "-1e999", "1e308", "5e-324", "9" * 400, "1" + "0" * 5000]),
    NUMBERS,
)


@pytest.fixture(scope="module")
def queries(served: tuple[httpx.Client, str]) -> list[tuple[str, list[str]]]:
    """Every GET of the description with the parameters of its query."""
    document = served[0].get("/openapi.json").json()
    return [
        (path, [parameter["name"] for parameter in get["get"].get("parameters", ()) if parameter["in"] == "query"])
        for path, get in document["paths"].items()
        if "get" in get
    ]


@settings(parent=examples, max_examples=300)
@given(data=st.data())
def test_every_parameter_of_every_route(
    served: tuple[httpx.Client, str], queries: list[tuple[str, list[str]]], data: st.DataObject
) -> None:
    client, run = served
    path, names = data.draw(st.sampled_from(queries))
    values = dict.fromkeys(("track", "frame"), data.draw(st.one_of(st.just("2"), ODD_NUMBERS))) | {"run": run}
    for name in ("job", "model", "calibration"):
        values[name] = "20260101T000000-0000"
    query = {}
    if names:
        some = st.one_of(ODD_NUMBERS, st.text(max_size=20))
        query = data.draw(st.dictionaries(st.sampled_from(names), some, max_size=3))
    forms = ["application/json", "text/csv", "application/vnd.apache.parquet", "image/png"]
    accept = data.draw(st.sampled_from(forms))
    answer = client.get(path.format(**values), params=query, headers={"Accept": accept})
    if answer.status_code == 503:
        # There is no engine here: that is all that may be away.
        assert "engine" in answer.json()["detail"], answer.text
    else:
        assert_answered(answer)


NO_CURSORS = (
    "x",
    "",
    " ",
    "-1",
    "1.5.x",
    "9" * 30,
    str(2**63),
    "9" * 5000,
    "1.2.3.4",
    "\0",
    "\N{SUPERSCRIPT TWO}",
    "nan",
)
NO_LIMITS = ("0", "-1", str(2**63 - 1), str(2**63), "1e3", "x", "", "nan", "1001000", "9" * 5000)


def test_cursors_and_limits_of_every_list(
    served: tuple[httpx.Client, str], queries: list[tuple[str, list[str]]]
) -> None:
    client, run = served
    lists = [(path, names) for path, names in queries if {"cursor", "limit"} & set(names)]
    assert len(lists) >= 8
    for path, names in lists:
        assert {"cursor", "limit"} <= set(names), path
        address = path.format(run=run, track=2)
        for name, values in (("cursor", NO_CURSORS), ("limit", NO_LIMITS)):
            for value in values:
                for accept in ("application/json", "text/csv"):
                    answer = client.get(address, params={name: value}, headers={"Accept": accept})
                    assert answer.status_code == 422, (address, name, value, answer.text)
                    assert name in answer.json()["detail"]
        assert client.get(address, params={"limit": 1000}).status_code == 200


def test_one_kind_of_cursor_and_of_limit(served: tuple[httpx.Client, str]) -> None:
    document = served[0].get("/openapi.json").json()
    bounds: dict[str, set[tuple[Any, ...]]] = {"cursor": set(), "limit": set()}
    for path, operations in document["paths"].items():
        for parameter in operations.get("get", {}).get("parameters", ()):
            schema = parameter["schema"]
            schema = next((part for part in schema.get("anyOf", ()) if part["type"] != "null"), schema)
            if parameter["name"] == "cursor":
                bounds["cursor"].add((schema["maxLength"],))
            elif parameter["name"] == "limit" and not path.endswith("{track}"):  # of one track: points
                bounds["limit"].add((schema["minimum"], schema["maximum"]))
    assert bounds == {"cursor": {(128,)}, "limit": {(1, 1000)}}


@examples
@given(body=st.one_of(JSON, st.fixed_dictionaries({}, optional={
    "model": JSON, "record": JSON, "duration_s": JSON, "name": JSON, "notes": JSON,
})))  # fmt: skip
def test_bodies(served: tuple[httpx.Client, str], body: Any) -> None:
    response = served[0].post("/api/v1/runs", json=body)
    assert_answered(response)
    if response.status_code == 201:
        served[0].post(f"/api/v1/runs/{response.json()['id']}/stop")


@examples
@given(body=st.binary(max_size=100))
def test_bodies_of_bytes(served: tuple[httpx.Client, str], body: bytes) -> None:
    assert_answered(served[0].post("/api/v1/runs", content=body, headers={"Content-Type": "application/json"}))

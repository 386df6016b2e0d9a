"""Moves, single frames, and control of the stages over the WebSocket, in front of a peer that answers as the engine."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import imagecodecs
import numpy as np
import pytest
import tifffile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from service.api import control
from service.protocol.errors import EngineRefusal
from service.settings import Settings
from tests.service.api_peer import Peer, Server, filled_store, link

CONFLICT = EngineRefusal("conflict", "other.py has control of stages and light.", "End that script first.")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Peer]]:
    store, _ = filled_store(tmp_path_factory.mktemp("control"))
    with link() as address:
        peer = Peer(address, store)
        server = Server(Settings(data_dir=Path(store.location).parent), address, store, Path("none"))
        yield server, peer
        server.close()
        peer.close()
    store.close()


@pytest.fixture
def peer(served: tuple[Server, Peer]) -> Iterator[Peer]:
    yield served[1]
    served[1].refusal = None
    served[1].commands.clear()


@pytest.fixture
def socket(served: tuple[Server, Peer], peer: Peer) -> Iterator[ClientConnection]:
    with connect(f"ws://{served[0].host}/api/v1/control") as socket:
        yield socket


@pytest.fixture
def client(served: tuple[Server, Peer], peer: Peer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{served[0].host}/api/v1") as client:
        yield client


def ask(socket: ClientConnection, message: Any) -> dict[str, Any]:
    socket.send(json.dumps(message))
    return dict(json.loads(socket.recv(timeout=20)))


def test_commands_are_answered_by_their_number(socket: ClientConnection, peer: Peer) -> None:
    assert ask(socket, {"name": "follow.py"})["stage"] == {"stage_um": 12.5}
    answer = ask(socket, {"id": 1, "by_um": 0.5, "x_um": 3.0, "shutter": "open"})
    assert (answer["id"], answer["commanded_s"]) == (1, 1.0)
    begun, changed = peer.commands[0], peer.commands[1]
    assert (begun[0], begun[1]["name"]) == ("control.begin", "follow.py")
    assert changed == (
        "control.change",
        {"id": begun[1]["id"], "by_um": 0.5, "x_um": 3.0, "shutter_open": True},
    )
    socket.close()
    deadline_s = time.monotonic() + 20
    while ("control.end", {"id": begun[1]["id"]}) not in peer.commands:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ({"id": 7}, "nothing is given"),
        ({"id": 7, "by_um": 1.0, "stage_um": 2.0}, "stage_um and by_um are both given"),
        ({"id": 7, "by_um": "far"}, "by_um: Input should be a valid number"),
        ({"id": 7, "by_um": 1e9}, "plausible values are -100000 to 100000 µm"),
        ({"id": 7, "by_um": 1.0, "fast": True}, "fast: Extra inputs"),
    ],
)
def test_a_command_that_breaks_a_rule_is_a_problem_and_control_goes_on(
    socket: ClientConnection, peer: Peer, command: dict[str, Any], says: str
) -> None:
    ask(socket, {"name": "follow.py"})
    answer = ask(socket, command)
    assert answer["id"] == 7
    assert says in answer["problem"]["detail"]
    assert answer["problem"]["status"] == 422
    assert ask(socket, {"id": 8, "by_um": 1.0})["id"] == 8


def test_a_refused_move_is_a_problem_and_control_goes_on(socket: ClientConnection, peer: Peer) -> None:
    ask(socket, {"name": "follow.py"})
    peer.refusal = EngineRefusal("invalid", "The stage was asked to go to 999 µm.", "Choose a position within.")
    assert ask(socket, {"id": 1, "stage_um": 999.0})["problem"]["remedy"] == "Choose a position within."
    peer.refusal = None
    assert "problem" not in ask(socket, {"id": 2, "by_um": 1.0})


def test_a_second_client_is_told_who_has_control(socket: ClientConnection, peer: Peer) -> None:
    peer.refusal = CONFLICT
    problem = ask(socket, {"name": "follow.py"})["problem"]
    assert (problem["status"], problem["detail"]) == (409, CONFLICT.problem)
    with pytest.raises(ConnectionClosed) as closed:
        socket.recv(timeout=20)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == control.CONTROL_REFUSED


def test_a_client_that_lost_control_is_told_at_once(socket: ClientConnection, peer: Peer) -> None:
    ask(socket, {"name": "follow.py"})
    peer.refusal = CONFLICT
    assert json.loads(socket.recv(timeout=20))["problem"]["detail"] == CONFLICT.problem


@pytest.mark.parametrize("first", ["{}", "no JSON", '{"name": ""}', '{"name": "a", "colour": "red"}'])
def test_a_first_message_that_is_no_request_is_refused(socket: ClientConnection, first: str) -> None:
    socket.send(first)
    assert "first message" in json.loads(socket.recv(timeout=20))["problem"]["detail"]


@pytest.mark.parametrize("body", [{}, {"stage_um": 1.0, "by_um": 1.0}, {"x_um": 1.0, "x_by_um": 1.0}, {"y_um": "1"}])
def test_moves_that_break_a_rule_are_refused(client: httpx.Client, peer: Peer, body: dict[str, Any]) -> None:
    assert client.post("/microscope/stage", json=body).status_code == 422
    assert peer.commands == []


def test_each_axis_moves_to_a_place_or_by_a_distance(client: httpx.Client, peer: Peer) -> None:
    body = {"by_um": 2.0, "x_um": 1.0, "y_by_um": -3.0}
    assert client.post("/microscope/stage", json=body).json()["set"] == body


def test_a_single_frame_is_tiff_or_png(client: httpx.Client) -> None:
    wanted = np.arange(12, dtype=np.uint16).reshape(3, 4)
    tiff = client.post("/microscope/snap")
    assert (tiff.headers["Content-Type"], tiff.headers["Bathyscope-Stage-Um"]) == ("image/tiff", "12.5000")
    np.testing.assert_array_equal(tifffile.imread(io.BytesIO(tiff.content)), wanted)
    png = client.post("/microscope/snap", headers={"Accept": "image/png"})
    np.testing.assert_array_equal(imagecodecs.png_decode(png.content), wanted)
    assert client.post("/microscope/snap", headers={"Accept": "text/csv"}).status_code == 406


def test_each_control_is_one_line_of_the_audit(
    served: tuple[Server, Peer], client: httpx.Client, peer: Peer, socket: ClientConnection
) -> None:
    def lines() -> list[tuple[str, Any, int]]:
        found = client.get("/audit").json()["items"]
        return [(line["path"], line["body"], line["status"]) for line in found if line["method"] == "WEBSOCKET"]

    before = len(lines())
    ask(socket, {"name": "follow.py"})
    for number in range(3):
        ask(socket, {"id": number, "by_um": 0.1})
    peer.refusal = CONFLICT
    with connect(f"ws://{served[0].host}/api/v1/control") as second:
        assert ask(second, {"name": "other.py"})["problem"]["status"] == 409
    deadline_s = time.monotonic() + 10
    while len(lines()) < before + 2:
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    assert lines()[:2] == [
        ("/api/v1/control", '{"name":"other.py"}', 409),
        ("/api/v1/control", '{"name":"follow.py"}', 101),
    ]

from __future__ import annotations

import threading
import time
from typing import Any

import msgpack
import pytest
import structlog
import zmq

from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineAway, EngineRefusal
from tests.service.protocol_samples import handle, unexpected


@pytest.mark.parametrize(
    ("command", "kind"), [("refuse", "conflict"), ("fail", "internal"), ("unpackable", "internal")]
)
def test_refusals_arrive_whole(address: LinkAddress, server: CommandServer, command: Any, kind: Any) -> None:
    with SyncEngineClient(address) as client:
        with pytest.raises(EngineRefusal) as refusal:
            client.request(command)
        assert refusal.value.kind == kind
        assert refusal.value.problem
        assert refusal.value.remedy
        assert client.request("echo", {"n": 1})["n"] == 1


def test_an_unreadable_request_gets_a_refusal(address: LinkAddress, server: CommandServer) -> None:
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    address.connect(dealer, address.commands)
    dealer.send(b"\xc1 not MessagePack")
    assert msgpack.unpackb(dealer.recv())["error"]["kind"] == "internal"
    dealer.close()
    context.term()
    with SyncEngineClient(address) as client:
        assert client.request("echo", {"n": 2})["n"] == 2


def test_a_server_that_fails_reports_its_exception(address: LinkAddress, monkeypatch: pytest.MonkeyPatch) -> None:
    failures: list[Exception] = []
    server = CommandServer(address, address.commands, handle, failures.append)

    def broken(*_: Any) -> None:
        raise ValueError("no thread")

    monkeypatch.setattr(server._pool, "submit", broken)
    with SyncEngineClient(address, 1.0) as client, pytest.raises(EngineAway):
        client.request("anything")
    server.close()
    assert [str(failure) for failure in failures] == ["no thread"]


def test_an_exception_of_a_handler_is_a_refusal_and_is_logged(address: LinkAddress, server: CommandServer) -> None:
    with SyncEngineClient(address, 10.0) as client:
        for command in ("fail", "unpackable", "undecodable"):
            with structlog.testing.capture_logs() as logs, pytest.raises(EngineRefusal) as refusal:
                client.request(command)
            assert refusal.value.kind == "internal"
            assert [entry["event"] for entry in logs] == ["command_failed"]
        assert client.request("odd letters") == "25\\udcb5m"


def test_the_stop_command_has_its_own_socket(address: LinkAddress, server: CommandServer) -> None:
    stop = CommandServer(address, address.stop, lambda command, _: {"command": command}, unexpected)
    try:
        with SyncEngineClient(address) as client:
            busy = threading.Thread(target=ask_for_long, args=(address,))
            busy.start()
            begin = time.monotonic()
            assert client.request("microscope.stop") == {"command": "microscope.stop"}
            assert time.monotonic() - begin < 0.5
            busy.join()
    finally:
        stop.close()


def ask_for_long(address: LinkAddress) -> None:
    with SyncEngineClient(address) as client:
        client.request("wait", {"s": 0.5})

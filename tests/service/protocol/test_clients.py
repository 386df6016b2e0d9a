from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient, SyncEngineClient
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineAway
from tests.service.protocol_samples import handle, unexpected


def test_each_request_gets_its_own_reply(address: LinkAddress, server: CommandServer) -> Any:
    async def ask() -> Any:
        client = EngineClient(address, 2.0)
        try:
            # The slow one is asked first and answered last.
            return await asyncio.gather(
                client.request("wait", {"s": 0.3}), *(client.request("echo", {"n": n}) for n in range(20))
            )
        finally:
            await client.close()

    slow, *quick = asyncio.run(ask())
    assert slow == "waited"
    assert [reply["n"] for reply in quick] == list(range(20))


def test_no_reply_raises_engine_away(address: LinkAddress) -> None:
    async def ask() -> None:
        client = EngineClient(address, 0.2)
        try:
            await client.request("status")
        finally:
            await client.close()

    with pytest.raises(EngineAway, match="does not respond"):
        asyncio.run(ask())
    with SyncEngineClient(address, 0.2) as client, pytest.raises(EngineAway):
        client.status()


def test_a_late_reply_raises_engine_away(address: LinkAddress, server: CommandServer) -> None:
    with SyncEngineClient(address, 0.1) as client, pytest.raises(EngineAway):
        client.request("wait", {"s": 0.4})


def test_a_client_outlives_its_server(address: LinkAddress) -> None:
    async def ask() -> None:
        client = EngineClient(address, 30.0)
        try:
            for n in range(2):
                server = CommandServer(address, address.commands, handle, unexpected)
                assert (await client.request("echo", {"n": n}))["n"] == n
                await asyncio.to_thread(server.close)
        finally:
            await client.close()

    asyncio.run(ask())

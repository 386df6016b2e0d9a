from __future__ import annotations

import shutil
from typing import Any

import pytest
import zmq

from service.protocol.addresses import LinkAddress
from service.protocol.command_server import CommandServer
from tests.conftest import missing
from tests.service.protocol_samples import handle, unexpected


@pytest.fixture(params=[False, True], ids=["ipc", "tcp"])
def address(request: Any) -> Any:
    if not request.param and not zmq.has("ipc"):
        missing("this platform has no ipc sockets")
    address = LinkAddress.create(tcp=request.param)
    yield address
    shutil.rmtree(address.folder)


@pytest.fixture
def server(address: LinkAddress) -> Any:
    server = CommandServer(address, address.commands, handle, unexpected)
    yield server
    server.close()

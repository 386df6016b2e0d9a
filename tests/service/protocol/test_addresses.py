from __future__ import annotations

import shutil
import stat
from pathlib import Path

import pytest

from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineAway
from tests.service.protocol_samples import handle, unexpected


def test_the_folder_is_private(address: LinkAddress) -> None:
    assert stat.S_IMODE(Path(address.folder).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"state": "down", "failures": 5, "problem": "it was ended by SIGSEGV"}, "stays down after 5 failures"),
        ({"state": "pausing", "problem": "it was ended by SIGKILL"}, "is being restarted: it was ended by SIGKILL"),
    ],
)
def test_engine_away_states_the_reason_in_the_supervisors_record(address: LinkAddress, record: bool, said: str) -> None:
    address.record.write({"engine": record})
    assert said in str(address.away())
    address.record.path.write_text("{ half a rec")
    assert "does not respond" in str(address.away())


def test_a_client_without_the_keys_gets_no_reply() -> None:
    address = LinkAddress.create(tcp=True)
    server = CommandServer(address, address.commands, handle, unexpected)
    stranger = LinkAddress(address.folder, address.commands, address.stop, address.live)
    try:
        with SyncEngineClient(stranger, 0.5) as client, pytest.raises(EngineAway):
            client.request("echo", {"n": 1})
    finally:
        server.close()
        shutil.rmtree(address.folder)

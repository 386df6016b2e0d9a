"""Folders and files of the running service are moved: it reports this, and continues when they are back."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from service.protocol.clients import SyncEngineClient
from tests.faults.running_service import running, settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="open files cannot be moved there")


def test_readiness_names_the_missing_file(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.process.storage._PERIOD_S", 0.05)
    tmp_path = tmp_path_factory.mktemp("gone")  # short enough for sockets in it
    data = tmp_path / "data"
    with running(settings_for(data, record=False)) as service:
        run = service.status()["run_id"]

        # The socket folder, as a cleaner would: the sockets and the supervisor's record come back by themselves.
        sockets = Path(service.supervisor.address.folder)
        assert sockets.parent == data
        shutil.rmtree(sockets)
        names = ["commands", "live", "processes.json", "stop"]
        wait_for(lambda: sockets.is_dir() and sorted(path.name for path in sockets.iterdir()) == names)
        with service.recovery("the socket folder is removed and the API is killed"):
            os.kill(service.supervisor.processes["api"]["pid"], signal.SIGKILL)
            wait_for(lambda: service.supervisor.processes["api"]["restarts"] == 1)
        with SyncEngineClient(service.supervisor.address, 5.0) as client:
            assert client.status()["run_id"] == run

        # The database, moved under its open handle.
        database = data / "bathyscope.db"
        database.rename(data / "moved.db")
        wait_for(lambda: "is not there any more" in service.readiness()[1])
        time.sleep(0.5)  # ten looks of the watch
        (data / "moved.db").replace(database)
        service.wait_until_ready()
        assert "bathyscope.db" in service.wait_for_event("storage_away")

        # The data directory; nothing is made in its place.
        data.rename(tmp_path / "elsewhere")
        wait_for(lambda: f"{data} is not there any more" in service.readiness()[1])
        assert not data.exists()
        (tmp_path / "elsewhere").rename(data)
        service.wait_until_ready()
        assert service.supervisor.processes["engine"]["restarts"] == 0
        with SyncEngineClient(service.supervisor.address, 5.0) as client:
            assert client.request("microscope.stop")["confirmed"] is True

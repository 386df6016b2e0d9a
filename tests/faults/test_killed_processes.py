"""The engine and the API are killed while a run is recorded: each comes back, and what was committed is there."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.faults.running_service import coded_frame, running, settings_for, wait_for, write_coded_movie
from tests.faults.saboteur import give_order

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def test_killed_children_come_back_and_committed_frames_are_the_right_ones(tmp_path: Path) -> None:
    movie = write_coded_movie(tmp_path / "coded.tif")
    replay = {"driver": "replay", "replay": {"movie": movie, "fps": 100.0, "loop": True}}
    with running(settings_for(tmp_path / "data", replay)) as service:
        run = service.wait_for_run()
        epoch = service.status()["epoch"]
        port = service.supervisor.port

        # The API: the engine, its run and the port stay.
        with service.recovery("the API is killed"):
            os.kill(service.supervisor.processes["api"]["pid"], signal.SIGKILL)
            assert "SIGKILL" in service.wait_for_event("api_restarted")
        assert service.supervisor.port == port
        status = service.status()
        assert (status["epoch"], status["run_id"]) == (epoch, run)

        # The engine: the run is marked, the API says why it is not ready, another run begins.
        with service.recovery("the engine is killed"):
            os.kill(service.supervisor.processes["engine"]["pid"], signal.SIGKILL)
            assert "SIGKILL" in service.wait_until_away("is being restarted")
        killed = service.wait_until_ended(run)
        assert killed.state == "interrupted"
        assert "SIGKILL" in (killed.problem or "")
        numbers = service.check_recording(run, coded_frame)
        assert len(numbers) >= 48
        assert len(numbers) >= (killed.ledger["recorded"] or 0)
        assert service.status()["epoch"] != epoch
        second = service.wait_for_run(other_than=run)
        assert "SIGKILL" in service.wait_for_event("engine_restarted")
        assert service.supervisor.processes["engine"]["restarts"] == 1
    ended = service.store.runs.get(second)
    assert ended.state == "finished"
    numbers = service.check_recording(second, coded_frame)
    assert len(numbers) == ended.ledger["recorded"]
    service.close()


@pytest.mark.slow
def test_an_engine_without_heartbeats_is_killed(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, heartbeat_limit_s=8.0)
    with running(settings) as service:
        run = service.wait_for_run()
        with service.recovery("the engine stands still (limit 8 s)"):
            give_order(tmp_path, "hold_interpreter", seconds=600)
            service.wait_until_away("it was silent for")
        assert "it was silent for" in (service.wait_until_ended(run).problem or "")
        service.check_recording(run)
        wait_for(lambda: "engine_restarted" in service.events())

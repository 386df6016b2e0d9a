"""What an engine says and frees when a run begins or ends in another way than it should."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hardware.microscope import MicroscopeError
from service.engine.engine import Engine
from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineRefusal
from service.settings import load_settings
from service.store.database import Database
from service.store.events import Event
from service.store.store import Store
from tests.service.engine.test_owner import wait_for

ENDINGS = ("run_ended", "run_failed", "run_interrupted")


class Served:
    """An engine on a thread, in front of a simulated microscope."""

    def __init__(self, folder: Path) -> None:
        simulated = {"height": 64, "width": 64, "emitters": 4}
        self.settings = load_settings(
            command_line={
                "data_dir": folder,
                "microscope": {"simulated": simulated},
                "engine": {
                    "free_space_floor_gb": 0.0,
                    "shard_frames": 16,
                    "record_queue": 1000,
                    "analysis_queue": 1000,
                },
            },
            environment={},
        )
        self.store = Store.open(self.settings.database)
        self.store.migrate()
        self.address = LinkAddress.create()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Store, "open", lambda database: Store(Database(database, busy_timeout_s=0.1)))
            self.engine = Engine(self.settings, self.address, lambda _: None)
        self.thread = threading.Thread(target=self.engine.serve)
        self.thread.start()

    @property
    def driver(self) -> Any:
        """The simulated microscope behind its limits."""
        return self.engine.microscope.microscope.inner  # type: ignore[union-attr]

    def ending(self, run: str) -> Event:
        """The event of the end of a run; that of the smoothed revision may have come after it."""
        [event] = [event for event in self.store.events.list(run_id=run).items if event.kind in ENDINGS]
        return event

    def start_run(self, client: SyncEngineClient, analysed: int = 10, **request: Any) -> str:
        run = str(client.request("run.start", request)["id"])
        wait_for(lambda: (client.status()["ledger"] or {}).get("analysed", 0) >= analysed)
        return run

    def close(self) -> None:
        self.engine.end()
        self.thread.join(60)
        assert not self.thread.is_alive()
        self.store.close()
        shutil.rmtree(self.address.folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("engine"))
    yield served
    served.close()


@pytest.fixture
def client(served: Served) -> Iterator[SyncEngineClient]:
    with SyncEngineClient(served.address, 60.0) as client:
        wait_for(lambda: client.status()["state"] == "ready")
        yield client
        wait_for(lambda: client.status()["state"] == "ready")


def test_after_image_numbers_that_restart_nothing_is_busy(served: Served, client: SyncEngineClient) -> None:
    run = served.start_run(client)
    driver = served.driver
    fetch = driver.next_frame
    driver.next_frame = lambda timeout_s: (
        None if (frame := fetch(timeout_s)) is None else replace(frame, index=frame.index - 5)
    )
    wait_for(lambda: served.store.runs.get(run).state == "failed")
    wait_for(lambda: client.status()["run_id"] is None)
    del driver.next_frame
    assert served.ending(run).kind == "run_failed"
    client.request("microscope.set", {"exposure_s": 0.008})
    client.request("stage.move", {"stage_um": 1.0})
    again = served.start_run(client)
    client.request("run.stop")
    assert served.store.runs.get(again).state == "finished"


def test_a_recorded_run_outlives_the_process_of_the_network(served: Served, client: SyncEngineClient) -> None:
    run = served.start_run(client, record=True)
    process = served.engine.models.active.process  # type: ignore[union-attr]
    assert process is not None
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: (client.status()["ledger"] or {}).get("deferred", 0) >= 10)
    client.request("run.stop")
    item = served.store.runs.get(run)
    assert item.state == "failed"
    assert "the process of the network ended, with signal 9" in (item.problem or "")
    again = served.start_run(client)
    client.request("run.stop")
    assert served.store.runs.get(again).state == "finished"


def test_a_driver_that_raises_anything_at_the_start_ends_the_run(served: Served, client: SyncEngineClient) -> None:
    def fail() -> None:
        raise OSError("the trigger box is unplugged")

    before, served.driver.start_sequence = served.driver, fail
    with pytest.raises(EngineRefusal, match="the trigger box is unplugged"):
        client.request("run.start")
    # It is opened again, as after any failure of the microscope.
    wait_for(lambda: served.engine.microscope.microscope is not None and served.driver is not before)
    run = served.store.runs.list(1).items[0]
    assert run.state == "failed"
    assert "the trigger box is unplugged" in (run.problem or "")


def test_state_and_event_of_a_run_have_one_word(served: Served, client: SyncEngineClient) -> None:
    """Results that could not be stored, a disk that is full: the run went through, and has a problem all the same."""
    run = served.start_run(client, record=True)
    recorder = served.engine.lease.run._recorder  # type: ignore[union-attr]
    assert recorder is not None
    recorder._floor_gb = 1e9
    wait_for(lambda: client.status()["recorder"] == "stopped")
    client.request("run.stop")
    item = served.store.runs.get(run)
    assert item.state == "finished"
    assert "Recording stopped" in (item.problem or "")
    assert served.ending(run).kind == "run_ended"
    assert item.problem in served.ending(run).message


def test_a_run_that_is_cut_off_says_why_in_state_problem_and_event(served: Served, client: SyncEngineClient) -> None:
    run = served.start_run(client)
    on = served.engine.lease.run
    assert on is not None
    on.interruption = "The service was ended by SIGHUP."
    on.stop_camera()
    wait_for(lambda: client.status()["run_id"] is None)
    item = served.store.runs.get(run)
    assert (item.state, item.problem) == ("interrupted", "The service was ended by SIGHUP.")
    event = served.ending(run)
    assert event.kind == "run_interrupted"
    assert "SIGHUP" in event.message


def test_a_confirmed_stop_leaves_the_microscope_free(served: Served, client: SyncEngineClient) -> None:
    for record in (False, True):
        run = served.start_run(client, record=record)
        assert client.request("microscope.stop")["confirmed"] is True
        client.request("stage.move", {"stage_um": 0.0})
        assert served.store.runs.get(run).state == "finished"


def test_a_stop_is_confirmed_although_the_run_takes_long_to_end(
    served: Served, client: SyncEngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.stop_command._PATIENCE_S", 0.3)
    run = served.start_run(client)
    result_writer, go_on = served.engine.lease.run._result_writer, threading.Event()  # type: ignore[union-attr]
    append = result_writer._append
    monkeypatch.setattr(result_writer, "_append", lambda batch: (go_on.wait(), append(batch)))
    assert client.request("microscope.stop")["confirmed"] is True
    assert client.status()["run_id"] == run
    go_on.set()
    wait_for(lambda: served.store.runs.get(run).state == "finished")


def test_a_locked_database_leaves_no_recording_of_a_run_that_did_not_begin(
    served: Served, client: SyncEngineClient
) -> None:
    recordings = served.settings.data_dir / "recordings"
    before = sorted(recordings.glob("*")) if recordings.exists() else []
    lock = sqlite3.connect(served.settings.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    with pytest.raises(EngineRefusal, match="locked") as refusal:
        client.request("run.start", {"record": True})
    lock.execute("ROLLBACK")
    lock.close()
    assert refusal.value.kind == "unavailable"
    assert sorted(recordings.glob("*")) == before
    run = served.start_run(client, record=True)
    client.request("run.stop")
    assert served.store.runs.get(run).state == "finished"


def test_a_microscope_that_was_replaced_is_not_kept_in_memory(served: Served, client: SyncEngineClient) -> None:
    class Cycle:
        """What a driver leaves behind that refers to itself."""

    def lose_microscope() -> weakref.ref[Cycle]:
        garbage = Cycle()
        garbage.itself = garbage  # type: ignore[attr-defined]
        served.driver.garbage = garbage
        served.start_run(client)

        def fail(timeout_s: float) -> None:
            raise MicroscopeError("no_frame", "The cable fell out.", "Put it back.")

        served.driver.next_frame = fail
        wait_for(lambda: client.status()["run_id"] is None)
        wait_for(lambda: client.status()["ready"])
        return weakref.ref(garbage)

    # What is there at the second opening was frozen at the first one.
    lose_microscope()
    left = lose_microscope()
    lose_microscope()
    gc.collect()
    assert left() is None

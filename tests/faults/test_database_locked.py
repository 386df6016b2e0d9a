"""Another program holds the database's lock while a run is recorded."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.faults.running_service import Service, running, settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@contextlib.contextmanager
def locked(database: Path) -> Iterator[None]:
    """As a database browser with an open transaction does."""
    other = sqlite3.connect(database, isolation_level=None, timeout=30.0)
    other.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        other.execute("ROLLBACK")
        other.close()


def analysed_numbers(service: Service, run: str) -> np.ndarray:
    """Image numbers of the frames whose results are in the database."""
    batches = service.store.frames.analysed(run)
    return np.concatenate([np.empty(0, np.int64), *(batch.frames.numbers for batch in batches)])


def test_a_lock_of_seconds_loses_nothing_and_one_at_a_crash_only_delays_the_mark(tmp_path: Path) -> None:
    with running(settings_for(tmp_path)) as service:
        run = service.wait_for_run()
        with locked(tmp_path / "bathyscope.db"):
            # Longer than the time-out of one try, shorter than the limit for a batch. Reads still work.
            time.sleep(7.0)
            assert service.readiness()[0] == 200
            assert service.status()["run_id"] == run
            waiting = service.status()["stages"]["store"]["depth"]
            assert waiting > 10
        service.client.request("run.stop", {}, 60.0)
        ended = service.store.runs.get(run)
        assert (ended.state, ended.problem) == ("finished", None)
        assert ended.ledger["recorded"] == ended.ledger["grabbed"]
        assert len(service.check_recording(run)) == ended.ledger["recorded"]
        # Deferred frames are being added already; none is there twice.
        numbers = analysed_numbers(service, run)
        assert len(np.unique(numbers)) == len(numbers) >= (ended.ledger["analysed"] or 0)

        # The engine dies while the lock is held: the next one is up before the mark can be made.
        run = str(service.client.request("run.start", {"record": True}, 60.0)["id"])
        service.wait_for_run()
        with locked(tmp_path / "bathyscope.db"):
            os.kill(service.supervisor.processes["engine"]["pid"], signal.SIGKILL)
            wait_for(lambda: service.supervisor.processes["engine"]["restarts"] == 1)
            wait_for(lambda: "is locked by another process" in service.readiness()[1])
            assert service.store.runs.get(run).state == "running"
        with service.recovery("the database is free again after a crash of the engine"):
            marked = service.wait_until_ended(run)
        assert marked.state == "interrupted"
        assert "SIGKILL" in (marked.problem or "")
        service.check_recording(run)
        # The run of the next engine was begun when it could be, and it is not marked.
        following = service.wait_for_run(other_than=run)
        assert service.store.runs.get(following).state == "running"
        assert "SIGKILL" in service.wait_for_event("engine_restarted")


@pytest.mark.slow
def test_a_lock_beyond_the_limit_is_reported_and_spares_the_recording(tmp_path: Path) -> None:
    with running(settings_for(tmp_path)) as service:
        run = service.wait_for_run()
        with locked(tmp_path / "bathyscope.db"):
            # Until results have been given up: the first of them is tried for a minute.
            wait_for(lambda: "could not be stored" in (service.status().get("problem") or ""))
            assert service.readiness()[0] == 200
        service.client.request("run.stop", {}, 60.0)
        ended = service.wait_until_ended(run)
        assert ended.state == "finished"
        assert "could not be stored" in (ended.problem or "")
        assert ended.ledger["recorded"] == ended.ledger["grabbed"]
        assert len(service.check_recording(run)) == ended.ledger["recorded"]
        # What is missing is computed again from the recording, now that no run is on: it may be done already.
        wait_for(lambda: service.store.runs.get(run).revision == 2)
        ledger = service.store.runs.get(run).ledger
        assert ledger["analysed"] == ledger["grabbed"]
        numbers = analysed_numbers(service, run)
        assert len(np.unique(numbers)) == len(numbers) == ledger["analysed"]

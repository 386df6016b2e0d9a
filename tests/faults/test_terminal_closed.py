"""The terminal of the service is closed: it ends in order, and the run has the reason."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from service.store.runs import Run
from service.store.store import Store
from tests.faults.running_service import settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="terminals of Unix")

COMMAND = [
    sys.executable,
    "-c",
    "from service.commands.application import main; main()",
    "serve",
    "--port",
    "0",
    "--data",
]


@contextmanager
def recording_at_a_terminal(folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], int, str]]:
    """A service whose session has a terminal of its own, its other end, and the id of the run that it records."""
    environment = {
        **os.environ,
        "BATHYSCOPE_MICROSCOPE__SIMULATED": json.dumps({"height": 64, "width": 64}),
        "BATHYSCOPE_ENGINE": json.dumps(
            {"run_at_start": True, "record": True, "shard_frames": 16, "free_space_floor_gb": 0.0}
        ),
    }
    ours, theirs = os.openpty()
    acquire = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    )
    service = subprocess.Popen(
        [sys.executable, "-c", acquire, *COMMAND, str(folder)],
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    store = Store.open(settings_for(folder).database)
    try:

        def recorded() -> str | None:
            if not (folder / ".link").exists():  # the tables are made before it
                return None
            runs = store.runs.list().items
            return runs[0].id if runs and (runs[0].ledger["recorded"] or 0) >= 16 else None

        yield service, ours, wait_for(recorded)
    finally:
        store.close()
        service.kill()
        service.wait()


def ended(folder: Path, run_id: str) -> tuple[Run, list[str]]:
    store = Store.open(settings_for(folder).database)
    try:
        return store.runs.get(run_id), [event.message for event in store.events.list().items]
    finally:
        store.close()


@pytest.mark.parametrize(
    ("way", "state", "said"),
    [
        pytest.param("hang up", "interrupted", "its terminal was closed", id="the terminal is closed"),
        pytest.param(signal.SIGQUIT, "finished", "SIGQUIT", id="Ctrl-backslash reaches the whole group"),
    ],
)
def test_the_service_ends_in_order_and_the_run_has_the_reason(
    tmp_path: Path, way: signal.Signals | str, state: str, said: str
) -> None:
    with recording_at_a_terminal(tmp_path) as (service, terminal, run_id):
        children = psutil.Process(service.pid).children(recursive=True)
        if way == "hang up":
            os.close(terminal)  # the system sends SIGHUP, and writing to the terminal fails from now on
        else:
            os.killpg(service.pid, way)
        assert service.wait(120) == 0
        if way != "hang up":
            os.close(terminal)
        assert psutil.wait_procs(children, timeout=20)[1] == []
    run, events = ended(tmp_path, run_id)
    assert run.state == state
    assert (said in (run.problem or "")) == (state == "interrupted")
    assert any(said in event for event in events)
    assert run.ledger["in_flight"] == 0
    assert run.ledger["recorded"] == run.ledger["grabbed"]
    assert not (tmp_path / ".link").exists()

"""The supervisor is killed: its children end, and the next supervisor starts normally."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.store.store import Store
from tests.faults.running_service import Service, settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


def test_the_next_start_marks_the_run_and_removes_old_files(tmp_path: Path) -> None:
    settings = settings_for(tmp_path)
    store = Store.open(settings.database)
    environment = {
        **os.environ,
        "BATHYSCOPE_MICROSCOPE__SIMULATED": json.dumps({"height": 64, "width": 64}),
        "BATHYSCOPE_ENGINE": json.dumps(
            {"run_at_start": True, "record": True, "shard_frames": 16, "free_space_floor_gb": 0.0}
        ),
    }
    command = [
        sys.executable,
        "-c",
        "from service.commands.application import main; main()",
        "serve",
        "--data",
        str(tmp_path),
    ]
    first = subprocess.Popen([*command, "--port", "0"], env=environment, stderr=subprocess.DEVNULL)
    service = Service(settings)
    try:

        def recorded() -> str | None:
            if not (tmp_path / ".link").exists():  # the tables are made before it
                return None
            runs = store.runs.list().items
            return runs[0].id if runs and (runs[0].ledger["recorded"] or 0) >= 48 else None

        run = wait_for(recorded)
        children = [child for child in psutil.Process(first.pid).children() if "spawn_main" in str(child.cmdline())]
        assert len(children) >= 2
        folder = Path((tmp_path / ".link").read_text())
        assert folder.is_dir()
        with contextlib.ExitStack() as second:
            with service.recovery("the supervisor is killed and started again"):
                first.send_signal(signal.SIGKILL)
                first.wait()
                # At once, while the children of the killed one still work: the start waits for them.
                second.enter_context(service)
                assert [child for child in children if child.is_running() and child.status() != "zombie"] == []
                assert not folder.exists()
            marked = service.store.runs.get(run)
            assert marked.state == "interrupted"
            # The engine closed its recording after the supervisor died: no grabbed frame is missing.
            assert len(service.check_recording(run)) == marked.ledger["recorded"] == marked.ledger["grabbed"]
            assert "killed before" in service.wait_for_event("killed_before")
    finally:
        first.kill()
        first.wait()
        service.close()
        store.close()
    assert not (tmp_path / ".link").exists()

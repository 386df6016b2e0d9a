"""The PostgreSQL server stands still: the service still ends, within the time that service managers wait."""

from __future__ import annotations

import gc
import signal
import sys
import threading
from pathlib import Path

import psutil
import pytest

from service.process.signals import ending_of
from service.process.supervisor import Supervisor
from tests.faults.running_service import settings_for, wait_for
from tests.service.store.test_store_postgres import server, url

__all__ = ["server", "url"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(sys.platform == "win32", reason="stops processes by a signal"),
]

LIMIT_S = 60.0
"""As systemd and the container wait (deploy/)."""


def test_the_service_ends_while_the_server_stands_still(tmp_path: Path, server: str, url: str) -> None:
    settings = settings_for(tmp_path).model_copy(update={"database_url": url})
    supervisor = Supervisor(settings)
    supervisor.start()
    ending = threading.Thread(target=supervisor.stop, args=(ending_of(signal.SIGTERM),), daemon=True)
    frozen: list[psutil.Process] = []
    try:
        wait_for(lambda: supervisor._children[0].beat.get("run_id"))
        (postmaster,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if f"{server}/data" in (process.info["cmdline"] or ()) and "postgres" in process.info["cmdline"][0]
        ]
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.suspend()
        ending.start()
        ending.join(LIMIT_S)
        assert not ending.is_alive()
        assert psutil.Process().children() == [] or not any(
            "bathyscope" in " ".join(child.cmdline()) for child in psutil.Process().children()
        )
    finally:
        for process in frozen:
            process.resume()
        if ending.ident is None:
            supervisor.stop()
        else:
            ending.join()
        # What waited for the server lets go of its connections now, unclosed.
        for thread in threading.enumerate():
            if thread.name in ("failures", "open-runs"):
                thread.join(LIMIT_S)
        gc.collect()

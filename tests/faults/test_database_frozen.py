"""The PostgreSQL server does not respond: the service still ends, within the time that service managers wait."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.store.store import Store
from tests.faults.running_service import wait_for
from tests.service.store.test_store_postgres import server, url

__all__ = ["server", "url"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="the server of the tests is one of Unix"),
]

LIMIT_S = 60.0
"""Time limit of systemd and of the container (deploy/)."""


def test_the_service_ends_while_the_server_does_not_respond(tmp_path: Path, server: str, url: str) -> None:
    environment = {
        **os.environ,
        "BATHYSCOPE_DATABASE_URL": url,
        "BATHYSCOPE_MICROSCOPE__SIMULATED": json.dumps({"height": 64, "width": 64}),
        "BATHYSCOPE_ENGINE": json.dumps({"run_at_start": True, "record": True, "free_space_floor_gb": 0.0}),
    }
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--data", str(tmp_path)]
    service = subprocess.Popen([*command, "--port", "0"], env=environment, stderr=subprocess.DEVNULL)
    store = Store.open(url)
    frozen: list[psutil.Process] = []
    try:
        wait_for(lambda: (tmp_path / ".link").exists())  # the tables are made before it
        wait_for(lambda: any((run.ledger["recorded"] or 0) >= 16 for run in store.runs.list().items))
        children = psutil.Process(service.pid).children(recursive=True)
        store.close()
        (postmaster,) = [
            process
            for process in psutil.process_iter(["cmdline"])
            if f"{server}/data" in (words := process.info["cmdline"] or ()) and words[0].endswith("postgres")
        ]
        frozen = [postmaster, *postmaster.children(recursive=True)]
        for process in frozen:
            process.suspend()
        service.terminate()
        assert service.wait(LIMIT_S) == 0
        assert psutil.wait_procs(children, timeout=5)[1] == []
    finally:
        for process in frozen:
            process.resume()
        service.kill()
        service.wait()
        store.close()

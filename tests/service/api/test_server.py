from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx

from service.api.server import page_folder, serve
from service.settings import Settings
from service.store.store import Store
from tests.service.api_peer import link


def test_served_at_the_socket_that_was_bound_before(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    store = Store.open(settings.database)
    store.migrate()
    store.close()
    stop, ports = threading.Event(), []
    with link() as address, socket.create_server(("127.0.0.1", 0)) as listener:
        up = threading.Event()

        def started(port: int) -> None:
            ports.append(port)
            up.set()

        options = {"listener": listener, "stop": stop, "started": started}
        thread = threading.Thread(target=serve, args=(settings, address), kwargs=options)
        thread.start()
        try:
            assert up.wait(30)
            assert ports == [listener.getsockname()[1]]
            answer = httpx.get(
                f"http://127.0.0.1:{ports[0]}/api/v1/system", headers={"Connection": "close"}, timeout=30
            )
            assert answer.json()["page"] == ("built" if (page_folder() / "index.html").is_file() else "not built")
        finally:
            stop.set()
            thread.join()


def test_api_process_loads_no_network() -> None:
    """It has no use for torch, which costs seconds of start and half a gigabyte."""
    program = "import sys, service.api.server; print([m for m in ('torch', 'numba', 'alembic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

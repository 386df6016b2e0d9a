"""Drive the service over HTTP: start a run, wait for its end, and take its tracks along.

Run it with ``python examples/drive_service.py``. It starts the demo, a service
with a simulated microscope, and ends it afterwards. For a service that runs
already, give its address: ``python examples/drive_service.py http://127.0.0.1:8000``.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import bathyscope


def start_demo() -> tuple[subprocess.Popen[str], str]:
    """Start the demo at a free port; return the process and its address."""
    command = [sys.executable, "-m", "bathyscope", "demo", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = process.stdout.readline()  # "Bathyscope is ready at http://127.0.0.1:45321"
    if not ready:
        raise RuntimeError("The demo ended before it was ready; its message is above.")
    return process, ready.split()[4]


def call(address: str, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """Send a request to the service and return its JSON."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + "/api/v1" + path, data, method=method)
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


def run_for(address: str, seconds: float) -> dict[str, Any]:
    """Track for some seconds; return the description of the run when it has ended."""
    owner = call(address, "GET", "/microscope")["owner"]
    if owner is not None and owner["kind"] == "run":  # the demo runs from its start
        call(address, "POST", f"/runs/{owner['id']}/stop")
    run = call(address, "POST", "/runs", {"name": "example", "duration_s": seconds})
    while run["state"] == "running":
        time.sleep(0.5)
        run = call(address, "GET", f"/runs/{run['id']}")
    return dict(run)


def save_tracks(address: str, run_id: str, path: Path) -> None:
    """Save the tracks of a run as CSV."""
    request = urllib.request.Request(f"{address}/api/v1/runs/{run_id}/tracks", headers={"Accept": "text/csv"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        path.write_bytes(reply.read())


def main() -> None:
    """Use the service at the address that was given, or a demo."""
    folder = Path("example-data")
    folder.mkdir(exist_ok=True)
    process = None
    if len(sys.argv) > 1:
        address = sys.argv[1]
    else:
        process, address = start_demo()
    try:
        run = run_for(address, seconds=3)
        print(f"Run {run['id']} {run['state']}: {run['ledger']['analysed']} frames analysed.")
        save_tracks(address, run["id"], folder / "run.csv")
    finally:
        if process is not None:
            process.send_signal(signal.SIGINT)  # as Ctrl+C
            process.wait()
    tracks = bathyscope.read_table(folder / "run.csv", bathyscope.Tracks)
    print(f"{len(np.unique(tracks.track_id))} tracks with {len(tracks)} points in {folder / 'run.csv'}.")


if __name__ == "__main__":
    main()

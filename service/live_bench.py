"""Running the instrument for a while and measuring it: frames, rate, latency, accuracy, cost.

Used by `demo` and `bench live`. The figures are those of the run that the
engine starts by itself; `published` is when a WebSocket client of the API
has received the track message, on the same monotonic clock as the
mid-exposure time in its header.
"""

from __future__ import annotations

import json
import threading
import time
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from models.errors import DataError
from service import wire
from service.commands.waiting import Interrupted, Pause, interruptible, readiness, web_address
from service.console import note, result
from service.engine.latency import LatencyHistogram
from service.link import EngineAway, EngineRefusal, SyncEngineClient
from service.logs import configure_logs
from service.machine import ProcessGroup, machine
from service.settings import Settings
from service.store.runs import Run
from service.store.store import Store
from service.supervisor import Supervisor

__all__ = ["StreamClient", "measure"]

_READY_LIMIT_S = 180.0
"""Cold start on a slow, busy machine: imports, compilation and the model's warm-up."""

_POLL_S = 0.2
_STOP_LIMIT_S = 60.0

_FRAMES = ("exposed", "grabbed", "lost", "recorded", "analysed", "deferred", "skipped")
_ACCURACY = ("jaccard", "rmse_um", "rmse_lateral_um", "rmse_axial_um")


class StreamClient(threading.Thread):
    """A client of the track stream that measures from mid-exposure to reception.

    Parameters
    ----------
    url : str
        Of the WebSocket.
    access_key : str or None
    """

    def __init__(self, url: str, access_key: str | None = None) -> None:
        super().__init__(name="stream-client", daemon=True)
        self._url = url
        self._access_key = access_key
        self._ending = threading.Event()
        self.latency = LatencyHistogram()
        self.problem: str | None = None

    def run(self) -> None:
        """Receive until `end`."""
        try:
            with connect(self._url, compression=None, max_size=None) as stream:
                if self._access_key is not None:
                    stream.send(json.dumps({"access_key": self._access_key}))
                while not self._ending.is_set():
                    try:
                        message = stream.recv(timeout=_POLL_S)
                    except TimeoutError:
                        continue
                    now_s = time.monotonic()
                    if isinstance(message, bytes):
                        _, header, _ = wire.decode(message)
                        self.latency.add(now_s - header["captured_monotonic_s"])
        except (OSError, WebSocketException) as error:
            if not self._ending.is_set():
                self.problem = f"The track stream broke off ({type(error).__name__}: {error})."

    def end(self) -> None:
        """Stop receiving."""
        self._ending.set()
        self.join()


def measure(settings: Settings, seconds: float | None) -> dict[str, Any]:
    """Run the service for `seconds` (None: until interrupted) after tracks flow, and return its figures.

    Parameters
    ----------
    settings : Settings
        With ``engine.run_at_start``.
    seconds : float or None

    Returns
    -------
    dict
        The contract's result of `demo` and `bench live`; what is undefined is None.

    Raises
    ------
    DataError
        When the service does not become ready, or stops by itself.
    """
    configure_logs(settings.log_level)
    with interruptible() as pause, Supervisor(settings) as supervisor:
        address = web_address(settings.host, supervisor.port)
        client = StreamClient(
            address.replace("http", "ws", 1) + "/api/v1/stream",
            settings.access_key.get_secret_value() if settings.access_key else None,
        )
        costs: dict[str, Any] = {}
        try:
            _wait_until_ready(settings, supervisor, pause)
            result(f"Bathyscope is ready at {address}")
            client.start()
            group = ProcessGroup()
            try:
                _watch(supervisor, pause, seconds)
            finally:
                costs = {"cpu_percent": group.cpu_percent(), "rss_mb": group.rss_mb()}
        except Interrupted:
            note("Stopping.")
        finally:
            if client.is_alive():
                client.end()
        _stop_run(supervisor)
        processes = supervisor.processes
    if client.problem:
        note(client.problem)
    store = Store.open(settings.database)
    try:
        runs = store.runs.list(limit=1).items
    finally:
        store.close()
    return _figures(settings, runs[0] if runs else None, client, costs, processes)


def _wait_until_ready(settings: Settings, supervisor: Supervisor, pause: Pause) -> None:
    deadline = time.monotonic() + _READY_LIMIT_S
    told = None
    while (reason := readiness(settings.host, supervisor.port)) is not None:
        _still_up(supervisor)
        if time.monotonic() > deadline:
            raise DataError(
                f"The instrument was not ready within {_READY_LIMIT_S:.0f} s: {reason}",
                "Free the processor, or mend what the reason names.",
            )
        if reason != told and time.monotonic() > deadline - _READY_LIMIT_S + 5:
            note(f"Starting: {reason}")
            told = reason
        pause(_POLL_S)


def _watch(supervisor: Supervisor, pause: Pause, seconds: float | None) -> None:
    deadline = None if seconds is None else time.monotonic() + seconds
    while deadline is None or time.monotonic() < deadline:
        pause(1.0 if deadline is None else min(1.0, max(deadline - time.monotonic(), 0.0)))
        _still_up(supervisor)


def _still_up(supervisor: Supervisor) -> None:
    engine = supervisor.processes["engine"]
    if engine["state"] == "down":
        raise DataError(f"The engine stays down: {engine['problem']}.", "Run again with --debug to see why.")


def _stop_run(supervisor: Supervisor) -> None:
    with SyncEngineClient(supervisor.address, _STOP_LIMIT_S) as engine:
        try:
            engine.request("run.stop")
        except EngineRefusal as refusal:
            if refusal.kind != "conflict":  # the user has stopped it in the browser already
                note(str(refusal))
        except EngineAway as away:
            note(str(away))


def _figures(
    settings: Settings, run: Run | None, client: StreamClient, costs: dict[str, Any], processes: dict[str, Any]
) -> dict[str, Any]:
    ledger = run.ledger if run else {}
    latency = dict(run.latency_ms) if run else {}
    accuracy = (run.accuracy if run else None) or {}
    return {
        "frames": {name: ledger.get(name) for name in _FRAMES},
        "fps": run.fps if run else None,
        "latency_ms": {
            **{stage: latency.get(stage) for stage in ("grabbed", "analysed", "tracked")},
            "published": client.latency.summary_ms(),
        },
        "accuracy": {name: accuracy.get(name) for name in _ACCURACY},
        "cpu_percent": costs.get("cpu_percent"),
        "rss_mb": costs.get("rss_mb"),
        "recording": str(settings.data_dir / run.recording) if run and run.recording else None,
        "settings": {
            "run": run.id if run else None,
            "state": run.state if run else None,
            "problem": run.problem if run else None,
            "model": run.model_id if run else None,
            "time_source": "mid-exposure by the simulated camera's clock (monotonic)",
            "restarts": {name: process["restarts"] for name, process in processes.items()},
            "stream_messages": client.latency.count,
            "scored_frames": accuracy.get("frames"),
            "microscope": settings.microscope.model_dump(mode="json"),
            "camera": settings.camera.model_dump(mode="json"),
            "engine": settings.engine.model_dump(mode="json"),
        },
        "machine": machine(),
    }

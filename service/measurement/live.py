"""Running the instrument for a while and measuring it: frames, rate, latency, accuracy, cost.

Used by `demo` and `bench live`. `published` is the time at which a WebSocket
client of the API has received a track message, on the same monotonic clock as
the mid-exposure time in its header. The clients run in a separate process, so
their processor time is measured separately from that of the service.
"""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from models.errors import DataError
from service.commands.console import note, progress, result
from service.commands.waiting import Interrupted, Pause, interruptible, readiness, web_address
from service.measurement.clients import Clients, Load
from service.measurement.costs import Costs
from service.process.logs import configure_logs
from service.process.machine import machine
from service.process.supervisor import Supervisor
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineAway, EngineRefusal
from service.protocol.latency import LatencyHistogram
from service.settings import Settings
from service.store.runs import Run
from service.store.store import Store

__all__ = ["Measured", "Workload", "measure"]

_READY_LIMIT_S = 180.0
"""Cold start on a slow, busy machine: imports, compilation and warm-up of the model."""

_PATIENCE_S = 5.0
"""After this time the reason of the wait is printed."""

_POLL_S = 0.2
_SAMPLE_S = 1.0
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 60.0

_FRAMES = ("exposed", "grabbed", "lost", "recorded", "analysed", "deferred", "skipped")
_ACCURACY = ("jaccard", "rmse_um", "rmse_lateral_um", "rmse_axial_um")

_TIME_SOURCES = {
    "simulated": "mid-exposure by the simulated camera's clock (monotonic)",
    "replay": "mid-exposure by the clock that plays the movie (monotonic)",
    "micromanager": "arrival of the frame in the core minus half the exposure (monotonic, software)",
}


@dataclass(frozen=True, slots=True)
class Workload:
    """Load of the service while it is measured.

    Attributes
    ----------
    clients, slow_clients, history_rps : as of `Load`
    shape : rows and columns of the frames, for queries of a part of the field
    """

    clients: int = 1
    slow_clients: int = 0
    history_rps: float = 0.0
    shape: tuple[int, int] = (256, 256)


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of a measurement.

    Attributes
    ----------
    figures : the contract's result of `demo` and `bench live`; undefined figures are None
    clients : results of the stream clients and the history queries; None when it was interrupted
    processes : process to cpu_percent, rss_mb, descriptors and threads
    soak : first and last minute of each process, and all samples
    """

    figures: dict[str, Any]
    clients: dict[str, Any] | None
    processes: dict[str, Any]
    soak: dict[str, Any]


@dataclass(slots=True)
class _Results:
    """Results so far; an interrupt leaves the others at their defaults."""

    clients: dict[str, Any] | None = None
    processes: dict[str, Any] = field(default_factory=dict)
    soak: dict[str, Any] = field(default_factory=dict)


def measure(
    settings: Settings, seconds: float | None, workload: Workload | None = None, *, record: bool | None = None
) -> Measured:
    """Run the service for `seconds` (None: until interrupted) after it is ready, and return its figures.

    Parameters
    ----------
    settings : Settings
    seconds : float or None
    workload : Workload, optional
        Absent: one stream client.
    record : bool, optional
        Start a run, recorded or not, when all clients are connected. Absent: the settings start it
        (``engine.run_at_start``).

    Raises
    ------
    DataError
        When the service does not become ready, or stops by itself.
    """
    workload = workload or Workload()
    configure_logs(settings.log_level)
    results = _Results()
    with interruptible() as pause, Supervisor(settings) as supervisor:
        try:
            _wait_until_ready(settings, supervisor, pause)
            result(f"Bathyscope is ready at {web_address(settings.host, supervisor.port)}")
            with Clients(_load(settings, supervisor, workload)) as clients:
                clients.wait_until_connected(pause)
                if record is not None:
                    with SyncEngineClient(supervisor.address) as engine:
                        engine.request("run.start", {"record": record, "name": "bench"}, _START_LIMIT_S)
                costs = Costs(_pids(supervisor))
                try:
                    _watch(supervisor, pause, seconds, costs)
                finally:
                    costs.sample(_pids(supervisor))
                    results.processes, results.soak = costs.result(), costs.soak()
                    _stop_run(supervisor)
                    results.clients = clients.finish()
        except Interrupted as interrupted:
            note(f"Stopping, since {interrupted.ending.reason}.")
        _stop_run(supervisor)
        restarts = {name: process["restarts"] for name, process in supervisor.processes.items()}
    store = Store.open(settings.database)
    try:
        runs = store.runs.list(limit=1).items
        ledger = _live_ledger(store, runs[0]) if runs else {}
    finally:
        store.close()
    return _measured(settings, workload, runs[0] if runs else None, ledger, results, restarts)


def _load(settings: Settings, supervisor: Supervisor, workload: Workload) -> Load:
    with SyncEngineClient(supervisor.address) as engine:
        pixel_um = engine.status()["pixel_size_um"] or 0.0
    rows, columns = workload.shape
    return Load(
        web_address(settings.host, 0).removeprefix("http://").rpartition(":")[0].strip("[]"),
        supervisor.port,
        settings.access_key.get_secret_value() if settings.access_key else None,
        workload.clients,
        workload.slow_clients,
        workload.history_rps,
        (columns * pixel_um, rows * pixel_um),
    )


def _wait_until_ready(settings: Settings, supervisor: Supervisor, pause: Pause) -> None:
    begin_s, shown = time.monotonic(), None
    while (reason := readiness(settings.host, supervisor.port)) is not None:
        _still_up(supervisor)
        waited_s = time.monotonic() - begin_s
        if waited_s > _READY_LIMIT_S:
            raise DataError(
                f"The instrument was not ready within {_READY_LIMIT_S:.0f} s: {reason}",
                "Free the processor, or remove the cause that is stated.",
            )
        if waited_s > _PATIENCE_S:
            _nothing_away(supervisor)
            if reason != shown:
                note(f"Starting: {reason}")
                shown = reason
        pause(_POLL_S)


def _nothing_away(supervisor: Supervisor) -> None:
    """Refuse to wait when the engine reports a microscope, model or run that is not available."""
    try:
        with SyncEngineClient(supervisor.address, _POLL_S) as engine:
            status = engine.status()
    except EngineAway:
        return
    if status["problem"] is not None and status["state"] in ("model away", "microscope away", "run waits"):
        raise DataError(status["problem"], status["remedy"] or "See the log of the service.")


def _watch(supervisor: Supervisor, pause: Pause, seconds: float | None, costs: Costs) -> None:
    if seconds is None:
        while True:
            pause(_SAMPLE_S)
            _still_up(supervisor)
    begin_s = time.monotonic()
    with SyncEngineClient(supervisor.address, _SAMPLE_S) as engine, progress("Measuring", seconds, "s") as advance:
        while (left_s := begin_s + seconds - time.monotonic()) > 0:
            pause(min(_SAMPLE_S, left_s))
            _still_up(supervisor)
            costs.sample(_pids(supervisor))
            advance(min(time.monotonic() - begin_s, seconds), _in_short(engine))


def _in_short(engine: SyncEngineClient) -> str:
    try:
        status = engine.status()
    except EngineAway:
        return "the engine is away"
    ledger = status["ledger"] or {}
    lacking = ", ".join(f"{name} {ledger.get(name, 0)}" for name in ("lost", "deferred", "skipped"))
    return f"{status['fps'] or 0.0:.1f} frames/s, {lacking}"


def _pids(supervisor: Supervisor) -> dict[str, int | None]:
    children = {name: process["pid"] for name, process in supervisor.processes.items()}
    return {"supervisor": os.getpid(), **children}


def _still_up(supervisor: Supervisor) -> None:
    engine = supervisor.processes["engine"]
    if engine["state"] == "down":
        raise DataError(f"The engine stays down: {engine['problem']}.", "Run again with --debug to see why.")


def _stop_run(supervisor: Supervisor) -> None:
    with SyncEngineClient(supervisor.address, _STOP_LIMIT_S) as engine:
        try:
            engine.request("run.stop")
        except EngineRefusal as refusal:
            if refusal.kind != "conflict":  # it has ended already, or the user has stopped it in the browser
                note(str(refusal))
        except EngineAway as away:
            note(str(away))


def _live_ledger(store: Store, run: Run) -> dict[str, Any]:
    """The ledger as it was when the run ended: afterwards deferred frames are analysed one by one."""
    for event in store.events.list(run_id=run.id).items:
        if event.kind in ("run_ended", "run_interrupted", "run_failed"):
            return dict(event.details["ledger"])
    return dict(run.ledger)


def _measured(
    settings: Settings,
    workload: Workload,
    run: Run | None,
    ledger: dict[str, Any],
    results: _Results,
    restarts: dict[str, int],
) -> Measured:
    latency = dict(run.latency_ms) if run else {}
    accuracy = (run.accuracy if run else None) or {}
    clients = None if results.clients is None else dict(results.clients)
    received = LatencyHistogram() if clients is None else clients.pop("latency")
    figures = {
        "frames": {name: ledger.get(name) for name in _FRAMES},
        "fps": run.fps if run else None,
        "latency_ms": {
            **{stage: latency.get(stage) for stage in ("grabbed", "analysed", "tracked")},
            "published": received.summary_ms(),
        },
        "fitted_share": _shares(run.fitted_frames if run else None),
        "accuracy": {name: accuracy.get(name) for name in _ACCURACY},
        "track_accuracy": {name: accuracy.get("tracks", {}).get(name) for name in _ACCURACY},
        "cpu_percent": _total(results.processes, "cpu_percent"),
        "rss_mb": _total(results.processes, "rss_mb"),
        "recording": str(settings.data_dir / run.recording) if run and run.recording else None,
        "settings": {
            "run": run.id if run else None,
            "state": run.state if run else None,
            "problem": run.problem if run else None,
            "model": run.model_id if run else None,
            "time_source": _TIME_SOURCES[settings.microscope.driver],
            "restarts": restarts,
            "stream_messages": received.count,
            "scored_frames": accuracy.get("frames"),
            "workload": asdict(workload),
            "microscope": settings.microscope.model_dump(mode="json"),
            "camera": settings.camera.model_dump(mode="json"),
            "engine": settings.engine.model_dump(mode="json"),
            "tracking": settings.tracking.record(),
        },
        "machine": machine(),
    }
    return Measured(figures, clients, results.processes, results.soak)


def _shares(counts: dict[str, int] | None) -> dict[str, float] | None:
    """Share of the frames in each degree of the fit."""
    if not counts or not any(counts.values()):
        return None
    return {degree: round(count / sum(counts.values()), 4) for degree, count in counts.items()}


def _total(processes: dict[str, Any], name: str) -> float | None:
    return round(sum(process[name] for process in processes.values()), 1) if processes else None

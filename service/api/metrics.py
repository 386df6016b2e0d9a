"""Figures for Prometheus: `bathyscope_<noun>_<unit>`, in base units.

They are taken from the engine's newest status and the supervisor's record at
the moment of the scrape. Runs and tracks are never labels, because their
number is not bounded. The frame counters restart with each run, as counters do
after a restart of a process.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.live import Live
from service.api.problems import NotReady
from service.api.refusals import RefusalCounter
from service.api.repeats import Repeats
from service.copies.status import read_status
from service.protocol.clients import EngineClient
from service.protocol.latency import BUCKETS_S

__all__ = ["Metrics", "router"]

router = APIRouter(include_in_schema=False)

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99", "max": "1"}
_MS = 1e-3


_RECORDER_STATES = ("off", "writing", "stopped", "unknown")

_log = structlog.get_logger(__name__)


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Everything, in the text form of Prometheus."""
    return Response(await request.app.state.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


@dataclass(frozen=True, slots=True)
class _Surroundings:
    """What is read from disk.

    Attributes
    ----------
    processes : the supervisor's record of its processes
    free_bytes : None: not known
    copies : figures of the copies of recordings; None: recordings are not copied
    """

    processes: Mapping[str, Mapping[str, Any]]
    free_bytes: int | None
    copies: Mapping[str, Any] | None = None


class Metrics:
    """The figures of one application, in a registry of their own.

    Parameters
    ----------
    live : Live
    engine : EngineClient
        Knows the supervisor's record.
    data_dir : Path
        Whose disk is watched.
    refusals : RefusalCounter
    """

    def __init__(self, live: Live, engine: EngineClient, data_dir: Path, refusals: RefusalCounter) -> None:
        self._engine = engine
        self._data_dir = data_dir
        self._registry = CollectorRegistry()
        self._collector = _LiveCollector(live, refusals)
        self._registry.register(self._collector)
        ProcessCollector(registry=self._registry)

    async def text(self) -> bytes:
        """All figures in the text form of Prometheus."""
        # A disk that hangs must not block the streams, so another thread reads it.
        self._collector.surroundings = await run_in_threadpool(self._read_surroundings)
        return generate_latest(self._registry)

    def _read_surroundings(self) -> _Surroundings:
        try:
            free_bytes = shutil.disk_usage(self._data_dir).free
        except OSError:
            free_bytes = None
        processes = self._engine.processes()
        copies = read_status(self._data_dir) if "copies" in processes else None
        return _Surroundings(processes, free_bytes, copies)


class _LiveCollector(Collector):
    """The live figures, read at the moment of the scrape."""

    def __init__(self, live: Live, refusals: RefusalCounter) -> None:
        self._live = live
        self._refusals = refusals
        self._repeats = Repeats()
        self.surroundings = _Surroundings({}, None)

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        known = self._live.status
        status = known or {}
        yield _gauge("engine_up", "1 while the engine sends its status.", float(known is not None))
        yield _gauge("instrument_ready", "1 while the instrument tracks or could at once.", float(self._ready()))
        yield from _clients(self._live)
        yield from _refusals(self._refusals.counts, self._live.failures)
        yield from _around(self.surroundings)
        parts: dict[str, Callable[[], Iterator[Metric]]] = {
            "frames": lambda: _frames(status, known is not None),
            "stages": lambda: _stages(status.get("stages") or {}),
            "fits": lambda: _fits(status.get("fitted_frames") or {}),
            "latencies": lambda: _latencies(status.get("latency_ms") or {}),
            "latency_buckets": lambda: _latency_histogram(status.get("latency_buckets") or {}),
            "recorder": lambda: _recorder("unknown" if known is None else status.get("recorder")),
        }
        if self.surroundings.copies is not None:
            yield from _copies(self.surroundings.copies)
        missing = GaugeMetricFamily(
            "bathyscope_figures_missing", "1 for figures of the engine that could not be read.", labels=["figures"]
        )
        for name, part in parts.items():
            failed = False
            try:
                yield from list(part())
            except Exception:  # noqa: BLE001  an engine of another version must not hide the other figures
                failed = True
                if self._repeats.held_back(name) is not None:
                    _log.exception("figures_missing", figures=name)
            missing.add_metric([name], float(failed or known is None))
        yield missing

    def _ready(self) -> bool:
        try:
            self._live.require_ready()
        except NotReady:
            return False
        return True


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"bathyscope_{name}", text, value=value)


def _clients(live: Live) -> Iterator[Metric]:
    clients = GaugeMetricFamily("bathyscope_stream_clients", "WebSockets open now.", labels=["stream"])
    dropped = CounterMetricFamily(
        "bathyscope_stream_dropped_views", "Views replaced by newer ones before a client took them.", labels=["stream"]
    )
    gone = CounterMetricFamily(
        "bathyscope_stream_disconnected_clients", "Clients let go because they took nothing.", labels=["stream"]
    )
    for family, counts in ((clients, live.clients), (dropped, live.dropped), (gone, live.disconnected)):
        for view, count in counts.items():
            family.add_metric([view], count)
        yield family


def _around(surroundings: _Surroundings) -> Iterator[Metric]:
    up = GaugeMetricFamily("bathyscope_process_up", "1 while a process of the service runs.", labels=["process"])
    restarts = CounterMetricFamily(
        "bathyscope_process_restarts", "How often a process was started again.", labels=["process"]
    )
    for name, process in surroundings.processes.items():
        up.add_metric([name], float(process.get("state") == "running"))
        restarts.add_metric([name], process.get("restarts") or 0)
    yield up
    yield restarts
    yield _gauge(
        "process_record_up",
        "1 while the supervisor's record of its processes can be read.",
        float(bool(surroundings.processes)),
    )
    free = math.nan if surroundings.free_bytes is None else surroundings.free_bytes
    yield _gauge("disk_free_bytes", "Free space where recordings and database are; NaN when it cannot be read.", free)


def _copies(figures: Mapping[str, Any]) -> Iterator[Metric]:
    up = figures.get("place_up")
    yield _gauge(
        "copy_place_up",
        "1 while recordings can be copied to their place; NaN before the first one.",
        math.nan if up is None else float(up),
    )
    family = GaugeMetricFamily("bathyscope_copies", "Recordings by the state of their copy.", labels=["state"])
    for state, count in (figures.get("recordings") or {}).items():
        family.add_metric([state], count)
    yield family
    oldest_s = figures.get("oldest_waiting_s")
    waited_s = 0.0 if oldest_s is None else max(0.0, time.time() - oldest_s)
    yield _gauge("copy_oldest_waiting_seconds", "Time since the end of the oldest recording without a copy.", waited_s)
    for name, key, text in (
        ("bathyscope_copy_sent_bytes", "sent_bytes", "Bytes that were sent to the place of the copies."),
        ("bathyscope_copy_verified_bytes", "verified_bytes", "Bytes of recordings that were copied and verified."),
        ("bathyscope_copy_failures", "failures", "Attempts to copy a recording that failed."),
    ):
        yield CounterMetricFamily(name, text, value=figures.get(key) or 0)


def _refusals(refused: Mapping[str, int], failures: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "bathyscope_refused_requests", "Requests and WebSockets that were refused, by the reason.", labels=["reason"]
    )
    for reason, count in refused.items():
        family.add_metric([reason], count)
    yield family
    family = CounterMetricFamily(
        "bathyscope_api_task_failures", "Failures of the API's own tasks, which were restarted.", labels=["task"]
    )
    for task, count in failures.items():
        family.add_metric([task], count)
    yield family


def _recorder(state: str | None) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "bathyscope_recorder_state",
        "1 for the state of the recorder; stopped: frames should be kept, and the disk did not take them; unknown: the "
        "engine is away.",
        labels=["state"],
    )
    for known in _RECORDER_STATES:
        family.add_metric([known], float(known == state))
    yield family


def _frames(status: Mapping[str, Any], known: bool) -> Iterator[Metric]:
    counts = {name: count for name, count in (status.get("ledger") or {}).items() if count is not None}
    frames = CounterMetricFamily("bathyscope_frames", "Frames of the run, by what became of them.", labels=["outcome"])
    for name, count in counts.items():
        if name != "in_flight":
            frames.add_metric([name], count)
    yield frames
    in_flight = counts.get("in_flight", 0) if known else math.nan
    yield _gauge("frames_in_flight", "Frames between camera and database; NaN while the engine is away.", in_flight)
    yield _gauge("analysis_rate_hertz", "Frames analysed per second.", status.get("fps") or 0.0)
    removed = float(status.get("removes_static_light") is True)
    yield _gauge("static_light_removed", "1 while light that stands still is removed from the frames.", removed)


def _fits(counts: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "bathyscope_fitted_frames",
        "Frames of the run, by how much of the fit of their image was made.",
        labels=["degree"],
    )
    for degree, count in counts.items():
        family.add_metric([degree], count)
    yield family


def _stages(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    depth = GaugeMetricFamily("bathyscope_stage_depth_items", "Items that wait in a stage.", labels=["stage"])
    highest = GaugeMetricFamily("bathyscope_stage_highest_items", "Most items that waited so far.", labels=["stage"])
    dropped = CounterMetricFamily("bathyscope_stage_dropped_items", "Items that a stage refused.", labels=["stage"])
    age = GaugeMetricFamily("bathyscope_stage_age_seconds", "Age of the oldest item in a stage.", labels=["stage"])
    for family, key in ((depth, "depth"), (highest, "highest"), (dropped, "dropped"), (age, "age_s")):
        for stage, report in stages.items():
            if report.get(key) is not None:
                family.add_metric([stage], report[key])
        yield family


def _latencies(latencies: Mapping[str, Mapping[str, float | None]]) -> Iterator[Metric]:
    family = GaugeMetricFamily(
        "bathyscope_latency_seconds", "From mid-exposure to the end of a stage, this run.", labels=["stage", "quantile"]
    )
    for stage, figures in latencies.items():
        for name, quantile in _QUANTILES.items():
            if figures.get(name) is not None:
                family.add_metric([stage, quantile], float(figures[name] or 0.0) * _MS)
    yield family


def _latency_histogram(stages: Mapping[str, Mapping[str, Any]]) -> Iterator[Metric]:
    family = HistogramMetricFamily(
        "bathyscope_stage_latency_seconds", "From mid-exposure to the end of a stage, this run.", labels=["stage"]
    )
    for stage, counts in stages.items():
        bounds = [f"{bound:g}" for bound in BUCKETS_S]
        buckets = [*zip(bounds, counts["at_most"], strict=True), ("+Inf", counts["count"])]
        family.add_metric([stage], buckets, counts["sum_s"])
    yield family

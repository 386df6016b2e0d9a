"""Figures for Prometheus: `bathyscope_<noun>_<unit>`, in base units.

They are taken from the engine's newest status at the moment of the scrape.
Runs and tracks are never labels, because their number is not bounded. The
frame counters begin again with each run, as counters do after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.api.live import Live
from service.api.problems import NotReady

__all__ = ["make_registry", "router"]

router = APIRouter(include_in_schema=False)

_QUANTILES = {"p50": "0.5", "p95": "0.95", "p99": "0.99", "max": "1"}
_MS = 1e-3


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Everything, in the text form of Prometheus."""
    return Response(generate_latest(request.app.state.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


def make_registry(live: Live) -> CollectorRegistry:
    """A registry of its own, so that several applications fit in one process."""
    registry = CollectorRegistry()
    registry.register(_LiveCollector(live))
    ProcessCollector(registry=registry)
    return registry


class _LiveCollector(Collector):
    """The live figures, read when they are asked for."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        status = self._live.status
        yield _gauge("engine_up", "1 while the engine tells its status.", float(status is not None))
        yield _gauge("instrument_ready", "1 while the instrument tracks or could at once.", float(self._ready()))
        yield from _clients(self._live)
        if status is not None:
            yield from _frames(status)
            yield from _stages(status.get("stages") or {})
            yield from _latencies(status.get("latency_ms") or {})

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


def _frames(status: Mapping[str, Any]) -> Iterator[Metric]:
    counts = {name: count for name, count in (status.get("ledger") or {}).items() if count is not None}
    frames = CounterMetricFamily("bathyscope_frames", "Frames of the run, by what became of them.", labels=["outcome"])
    for name, count in counts.items():
        if name != "in_flight":
            frames.add_metric([name], count)
    yield frames
    yield _gauge("frames_in_flight", "Frames grabbed and still on their way.", counts.get("in_flight", 0))
    yield _gauge("analysis_rate_hertz", "Frames analysed per second.", status.get("fps") or 0.0)


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

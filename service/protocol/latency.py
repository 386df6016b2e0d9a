"""Time from the middle of an exposure until a stage has finished the frame.

A histogram with bins that grow by two percent: any quantile of a run of any
length, in a fixed six kilobytes, to within one percent. The maximum is exact.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["BUCKETS_S", "STAGES", "Latencies", "LatencyHistogram"]

STAGES = ("grabbed", "analysed", "tracked", "published")
"""Stages whose latency is measured, in the order of the data."""

BUCKETS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Upper bounds of the coarse histogram for monitoring: fine around the 50 ms that a live track may take, s."""

_LOWEST_S = 1e-5
_HIGHEST_S = 100.0
_LOG_STEP = math.log(1.02)
_BINS = math.ceil(math.log(_HIGHEST_S / _LOWEST_S) / _LOG_STEP) + 1


class LatencyHistogram:
    """Latencies of one stage. One thread adds; any thread may read."""

    def __init__(self) -> None:
        self._counts = np.zeros(_BINS, np.int64)
        self._max_s = 0.0

    def add(self, latency_s: float) -> None:
        """Count one latency, s; a negative one (a clock that was set) counts as the smallest."""
        if latency_s > self._max_s:
            self._max_s = latency_s
        index = math.log(max(latency_s, _LOWEST_S) / _LOWEST_S) / _LOG_STEP
        self._counts[min(int(index), _BINS - 1)] += 1

    def include(self, other: LatencyHistogram) -> None:
        """Add the counts of another histogram."""
        self._counts += other._counts
        self._max_s = max(self._max_s, other._max_s)

    @property
    def count(self) -> int:
        """Number of counted latencies."""
        return int(self._counts.sum())

    def buckets(self) -> dict[str, Any]:
        """For monitoring: ``at_most``, the number within each of `BUCKETS_S`, the total ``count``, and the ``sum_s``.

        A bin counts as within a bound when its middle is, so both are within one percent of latency.
        """
        counts = self._counts.copy()
        within = np.searchsorted(_MIDDLES_S, BUCKETS_S, side="right")
        cumulated = np.concatenate([[0], np.cumsum(counts)])
        return {
            "at_most": cumulated[within].tolist(),
            "count": int(counts.sum()),
            "sum_s": float(counts @ _MIDDLES_S),
        }

    def summary_ms(self) -> dict[str, float | None]:
        """Median, 95th and 99th percentile and maximum, ms; None when nothing was counted."""
        cumulated = np.cumsum(self._counts)
        total = int(cumulated[-1])
        if not total:
            return {"p50": None, "p95": None, "p99": None, "max": None}
        summary: dict[str, float | None] = {}
        for name, share in (("p50", 0.50), ("p95", 0.95), ("p99", 0.99)):
            index = int(np.searchsorted(cumulated, math.ceil(share * total)))
            middle_s = _LOWEST_S * math.exp((index + 0.5) * _LOG_STEP)
            summary[name] = round(1000 * min(middle_s, self._max_s), 3)
        summary["max"] = round(1000 * self._max_s, 3)
        return summary


_EDGES_S = _LOWEST_S * np.exp(_LOG_STEP * np.arange(1, _BINS + 1))
"""Upper edge of each bin, s."""

_MIDDLES_S = _EDGES_S * math.exp(-0.5 * _LOG_STEP)


class Latencies:
    """The histograms of all stages of a run."""

    def __init__(self) -> None:
        self.of = {stage: LatencyHistogram() for stage in STAGES}

    def summary_ms(self) -> dict[str, dict[str, float | None]]:
        """Stage to p50, p95, p99 and max, ms."""
        return {stage: histogram.summary_ms() for stage, histogram in self.of.items()}

    def buckets(self) -> dict[str, dict[str, Any]]:
        """Stage to its coarse histogram."""
        return {stage: histogram.buckets() for stage, histogram in self.of.items()}

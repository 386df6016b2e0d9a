"""Processor time, memory, descriptors and threads of the processes of the service, over time."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import psutil

__all__ = ["Costs"]

_WINDOW_S = 60.0
"""A soak test compares its first minute with its last one."""


@dataclass(frozen=True, slots=True)
class _Sample:
    """One process at one moment."""

    after_s: float
    rss_mb: float
    descriptors: int
    threads: int


class Costs:
    """Records the costs of named processes from its construction on; call `sample` at a steady rate.

    Those of their children without a name are included.

    Parameters
    ----------
    pids : mapping of str to int or None
        Process to its number.
    """

    def __init__(self, pids: Mapping[str, int | None]) -> None:
        self._begin_s = time.monotonic()
        self._processes: dict[str, psutil.Process] = {}
        self._before_s: dict[str, float] = {}
        self._spent_s: dict[str, float] = {}
        self._samples: dict[str, list[_Sample]] = {}
        for name, pid in pids.items():
            self._register(name, pid)
            if name in self._processes:
                self._before_s[name] = sum(_cpu_s(each) for each in _with_children(self._processes[name], pids))

    def sample(self, pids: Mapping[str, int | None]) -> None:
        """Sample all processes; a process that was restarted counts from its start."""
        for name, pid in pids.items():
            self._register(name, pid)
            process = self._processes.get(name)
            if process is None:
                continue
            try:
                family = _with_children(process, pids)
                self._spent_s[name] = sum(_cpu_s(each) for each in family) - self._before_s[name]
                sample = _Sample(
                    round(time.monotonic() - self._begin_s, 1),
                    round(sum(each.memory_info().rss for each in family) / 1e6, 1),
                    sum(_descriptors(each) for each in family),
                    sum(each.num_threads() for each in family),
                )
            except psutil.Error:
                continue
            self._samples.setdefault(name, []).append(sample)

    def result(self) -> dict[str, dict[str, Any]]:
        """Process to cpu_percent (100 is one core) and the figures of the last sample."""
        wall_s = max(time.monotonic() - self._begin_s, 1e-9)
        return {
            name: {
                "cpu_percent": round(100 * self._spent_s[name] / wall_s, 1),
                "rss_mb": samples[-1].rss_mb,
                "descriptors": samples[-1].descriptors,
                "threads": samples[-1].threads,
            }
            for name, samples in self._samples.items()
        }

    def soak(self) -> dict[str, Any]:
        """First and last minute of each process as medians (of a shorter run: quarters), and all samples.

        Returns
        -------
        dict
            ``window_s``, and per process ``first``, ``last`` (rss_mb, descriptors, threads),
            ``rss_growth_percent`` and ``samples``.
        """
        window_s = min(_WINDOW_S, (time.monotonic() - self._begin_s) / 4)
        processes = {}
        for name, samples in self._samples.items():
            first = _medians([sample for sample in samples if sample.after_s <= samples[0].after_s + window_s])
            last = _medians([sample for sample in samples if sample.after_s >= samples[-1].after_s - window_s])
            processes[name] = {
                "first": first,
                "last": last,
                "rss_growth_percent": round(100 * (last["rss_mb"] / first["rss_mb"] - 1), 2),
                "samples": [asdict(sample) for sample in samples],
            }
        return {"window_s": round(window_s, 1), "processes": processes}

    def _register(self, name: str, pid: int | None) -> None:
        known = self._processes.get(name)
        if pid is None or (known is not None and known.pid == pid):
            return
        try:
            self._processes[name] = psutil.Process(pid)
        except psutil.NoSuchProcess:
            return
        # The time of the process that it replaces is added.
        self._before_s[name] = -self._spent_s.get(name, 0.0)


def _with_children(process: psutil.Process, pids: Mapping[str, int | None]) -> list[psutil.Process]:
    named = set(pids.values())
    return [process, *(child for child in process.children() if child.pid not in named)]


def _cpu_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _descriptors(process: psutil.Process) -> int:
    if sys.platform == "win32":
        return int(process.num_handles())
    return process.num_fds()


def _medians(samples: list[_Sample]) -> dict[str, float]:
    return {
        name: statistics.median(getattr(sample, name) for sample in samples)
        for name in ("rss_mb", "descriptors", "threads")
    }

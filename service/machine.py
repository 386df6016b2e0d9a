"""What a figure was measured on, and what the service's processes cost."""

from __future__ import annotations

import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

__all__ = ["ProcessGroup", "machine"]


def machine() -> dict[str, Any]:
    """Processor, memory and versions: what a figure depends on."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "processors": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "load_1min": round(psutil.getloadavg()[0], 2),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "python": platform.python_version(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


def _processor() -> str:
    """The processor's name; Linux has it only here, and `platform` does not look."""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


class ProcessGroup:
    """The calling process and all its descendants, watched from the moment the group is made."""

    def __init__(self) -> None:
        self._begin_s = time.monotonic()
        self._before = self._cpu_times()

    def cpu_percent(self) -> float:
        """Processor time since the beginning, over the wall time; 100 is one core."""
        spent = sum(now_s - self._before.get(pid, 0.0) for pid, now_s in self._cpu_times().items())
        return round(100 * spent / max(time.monotonic() - self._begin_s, 1e-9), 1)

    def rss_mb(self) -> float:
        """Resident memory of all of them together now, MB (10^6 bytes); shared pages count in each."""
        return round(sum(process.memory_info().rss for process in _processes()) / 1e6, 1)

    @staticmethod
    def _cpu_times() -> dict[int, float]:
        times = {}
        for process in _processes():
            try:
                spent = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            times[process.pid] = spent.user + spent.system
        return times


def _processes() -> list[psutil.Process]:
    this = psutil.Process()
    return [this, *this.children(recursive=True)]

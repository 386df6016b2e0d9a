"""Time per step of the tracker, and of other trackers that take one frame after the other, in one thread.

Emitters that diffuse while they move straight, at a constant density (50 in
200 x 200 x 100 µm³), found with a recall of 0.9 and 5 % false ones. Processor
time of the thread and wall time are both measured: the second shows what else
the machine was doing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from evaluation.tracks.peers import ByoTrackLinker, NorfairTracker, TrackpyLinker
from models.tables import Localizations
from models.tracking import Tracker, make_tracker
from service.process.machine import machine

__all__ = ["measure_tracking"]

_FPS = 100.0
_SIGMA_UM = np.array([0.5, 0.5, 1.5])
_SETTLING_FRAMES = 30
"""Tracks are not yet confirmed, and memory is not yet prepared."""

_FRAMES, _FRAMES_OF_MANY, _MANY = 150, 80, 1000
_MOST_SECONDS = 30.0
"""A tracker that needs longer for a number of targets is measured on fewer frames."""

Step = Callable[[int, Localizations], Any]


def measure_tracking(
    targets: Sequence[int], advance: Callable[[float, str], None] = lambda _done, _what: None, *, peers: bool = True
) -> dict[str, Any]:
    """Measure the trackers.

    Parameters
    ----------
    targets : sequence of int
        Numbers of emitters.
    advance : callable
        Called with the share that is done, and what.
    peers : bool
        Whether other trackers are measured too, where they are installed.

    Returns
    -------
    dict
        ``rows``: for each tracker and number of targets the median and the 99th percentile of a step in ms, of
        processor and of wall time, and the number of frames; ``missing``: why a tracker has no rows; ``machine``.
    """
    makers = {"bathyscope": _ours, "published": _published} | (_PEERS if peers else {})
    missing = {name: f"{name} is not installed" for name in makers if name in _PEERS and find_spec(name) is None}
    jobs = [(name, count) for count in targets for name in makers if name not in missing]
    rows = []
    with threadpool_limits(1):
        for done, (name, count) in enumerate(jobs):
            advance(done / len(jobs), f"{name}, {count} targets")
            rows.append({"tracker": name, "targets": count} | _measure(makers[name](), count))
    return {"rows": rows, "missing": missing, "machine": machine()}


def _measure(step: Step, targets: int) -> dict[str, Any]:
    frames = _scene(targets, _FRAMES_OF_MANY if targets > _MANY else _FRAMES)
    processor, wall = [], []
    begun = time.perf_counter()
    for number, found in enumerate(frames):
        before, wall_before = time.thread_time(), time.perf_counter()
        step(number, found)
        if number >= _SETTLING_FRAMES:
            processor.append(1e3 * (time.thread_time() - before))
            wall.append(1e3 * (time.perf_counter() - wall_before))
        if len(processor) >= 2 and time.perf_counter() - begun > _MOST_SECONDS:
            break
    return {
        "frames": len(processor),
        "p50_ms": round(float(np.median(processor)), 3),
        "p99_ms": round(float(np.percentile(processor, 99)), 3),
        "wall_p50_ms": round(float(np.median(wall)), 3),
        "wall_p99_ms": round(float(np.percentile(wall, 99)), 3),
    }


def _scene(targets: int, count: int) -> list[Localizations]:
    rng = np.random.default_rng(targets)
    side = (targets / 50 * 200 * 200 * 100) ** (1 / 3)
    place, velocity = rng.uniform(0, side, (targets, 3)), rng.normal(0, 40.0, (targets, 3))
    frames = []
    for number in range(count):
        place = place + velocity / _FPS + rng.normal(0, 0.1, (targets, 3))
        found = place[rng.random(targets) < 0.9]
        found = found + rng.standard_normal(found.shape) * _SIGMA_UM
        found = np.concatenate([found, rng.uniform(0, side, (max(1, targets // 20), 3))])
        ones = np.ones(len(found))
        sigma = np.broadcast_to(_SIGMA_UM, found.shape).T
        columns = (*found.T, ones, ones, 0.9 * ones, *sigma, np.nan * ones)
        frames.append(Localizations(np.full(len(found), number), *columns))
    return frames


def _ours() -> Step:
    tracker = Tracker()
    return lambda number, found: tracker.step(number / _FPS, number, found)


def _published() -> Step:
    tracker = make_tracker("published")
    return lambda number, found: tracker.step(number / _FPS, number, found)


def _byotrack() -> Step:
    import torch

    torch.set_num_threads(1)
    linker = ByoTrackLinker({"order": 1, "process_um": 0.1, "reach_sigmas": 4.5}, _SIGMA_UM, smoothed=False)
    return lambda _number, found: linker.step(found.xyz_um)


def _norfair() -> Step:
    tracker = NorfairTracker({"reach_um": 4, "process": 0.1}, _SIGMA_UM)
    return lambda _number, found: tracker.step(found.xyz_um)


def _trackpy() -> Step:
    linker = TrackpyLinker({"reach_um": 3}, _SIGMA_UM)
    return lambda _number, found: linker.step(found.xyz_um)


_PEERS: dict[str, Callable[[], Step]] = {"byotrack": _byotrack, "norfair": _norfair, "trackpy": _trackpy}

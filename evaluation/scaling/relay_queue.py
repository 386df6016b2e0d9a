"""Simulation of one relay: scopes send views to one server, and a newer view replaces one that waits.

A relay has one thread. The messages of the scopes arrive with a constant rate
and random phases, or at random moments, and each takes the same time. Of each
scope at most one message waits; a newer one takes its place.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np

__all__ = ["Served", "simulate_relay"]


@dataclass(frozen=True, slots=True)
class Served:
    """What became of the messages.

    Attributes
    ----------
    delivered : share of the messages that were served
    busy : share of the time in which the server worked
    wait_s : (n,) from arrival to the end of service of each message that was served, s
    """

    delivered: float
    busy: float
    wait_s: np.ndarray


def simulate_relay(
    scopes: int,
    fps: float,
    service_s: float,
    seconds: float,
    *,
    arrivals: Literal["regular", "random"] = "regular",
    replaces: bool = True,
    seed: int = 1,
) -> Served:
    """Serve the messages of all scopes in their order.

    Parameters
    ----------
    scopes : int
    fps : float
        Messages a second of each scope.
    service_s : float
        Time of the server for one message and all its viewers, s.
    seconds : float
        Simulated time, s.
    arrivals : {"regular", "random"}
        At a constant rate with random phases, as cameras; or independent (Poisson).
    replaces : bool
        Whether a newer message of a scope replaces one that waits; otherwise all are served.
    seed : int

    Returns
    -------
    Served
    """
    moments, senders = _arrivals(scopes, fps, seconds, arrivals, np.random.default_rng(seed))
    queue: deque[int] = deque()
    waiting: dict[int, float] = {}
    waits: list[float] = []
    free_s = busy_s = 0.0

    def serve_until(now_s: float) -> None:
        nonlocal free_s, busy_s
        while queue and free_s <= now_s:
            came_s = waiting.pop(queue.popleft())
            free_s = max(free_s, came_s) + service_s
            busy_s += service_s
            waits.append(free_s - came_s)

    for number, (now_s, sender) in enumerate(zip(moments.tolist(), senders.tolist(), strict=True)):
        serve_until(now_s)
        key = sender if replaces else number
        if key not in waiting:
            queue.append(key)
            waiting[key] = now_s
        elif replaces:
            waiting[key] = now_s
    serve_until(seconds)
    total = len(moments)
    return Served(len(waits) / total if total else 1.0, min(busy_s / seconds, 1.0), np.array(waits))


def _arrivals(
    scopes: int, fps: float, seconds: float, kind: Literal["regular", "random"], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Moments of all messages in order, s, and the scope of each."""
    if kind == "random":
        count = generator.poisson(scopes * fps * seconds)
        return np.sort(generator.uniform(0, seconds, count)), generator.integers(0, scopes, count)
    frames = np.arange(int(fps * seconds)) / fps
    moments = frames[:, None] + generator.uniform(0, 1 / fps, scopes)
    senders = np.broadcast_to(np.arange(scopes), moments.shape)
    order = np.argsort(moments, axis=None, kind="stable")
    return moments.ravel()[order], senders.ravel()[order]

"""Limits of rates, by the address of the client: of requests, and of wrong keys."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["RateLimit"]

_MOST_CLIENTS = 4096
"""Addresses that are counted separately; beyond it, those that have their full allowance back are forgotten."""


class RateLimit:
    """An allowance for each client, which is used up by its events and grows back with time (token bucket).

    Parameters
    ----------
    per_s : float
        Events a second that a client may go on with.
    burst : float
        Events that it may have at once.
    clock : callable
        Seconds that never go back.
    """

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_s = per_s
        self._burst = burst
        self._clock = clock
        self._left: dict[str, tuple[float, float]] = {}

    def wait_s(self, client: str) -> int:
        """Whole seconds until the client may have one more event; 0 when it may now."""
        left = self._allowance(client)
        return 0 if left >= 1 else math.ceil((1 - left) / self._per_s)

    def use(self, client: str) -> None:
        """Count one event of a client."""
        left = self._allowance(client)
        if len(self._left) >= _MOST_CLIENTS:
            self._forget()
        self._left[client] = (max(left - 1, 0.0), self._clock())

    def _allowance(self, client: str) -> float:
        left, then_s = self._left.get(client, (self._burst, self._clock()))
        return min(self._burst, left + (self._clock() - then_s) * self._per_s)

    def _forget(self) -> None:
        self._left = {client: kept for client, kept in self._left.items() if self._allowance(client) < self._burst}
        if len(self._left) >= _MOST_CLIENTS:
            self._left.clear()

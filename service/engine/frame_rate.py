"""Rates of analysed frames: over the whole run, and at present."""

from __future__ import annotations

import time

__all__ = ["FrameRate"]

_RECENT_S = 2.0
"""Time over which the present rate is counted."""


class FrameRate:
    """Frames analysed per second. `capture` is called by one thread, the rates by others."""

    def __init__(self) -> None:
        self._first_s: float | None = None
        self._last_s = 0.0
        self._recent: tuple[float, int, float | None] = (time.monotonic(), 0, None)

    def capture(self, time_s: float) -> None:
        """Note the mid-exposure of the newest frame, s."""
        if self._first_s is None:
            self._first_s = time_s
        self._last_s = time_s

    def mean(self, analysed: int) -> float | None:
        """Frames analysed per second of capture, stored or not yet; None before the second one.

        Parameters
        ----------
        analysed : int
            Frames so far.
        """
        if self._first_s is None or analysed < 2 or self._last_s <= self._first_s:
            return None
        # n frames span n - 1 periods
        return round((analysed - 1) / (self._last_s - self._first_s), 3)

    def recent(self, analysed: int) -> float | None:
        """Frames analysed per second over about the last two seconds; the mean until two seconds are over.

        Parameters
        ----------
        analysed : int
            Frames so far.
        """
        since_s, before, last = self._recent
        now_s = time.monotonic()
        if now_s - since_s >= _RECENT_S:
            last = round((analysed - before) / (now_s - since_s), 2)
            self._recent = (now_s, analysed, last)
        return last if last is not None else self.mean(analysed)

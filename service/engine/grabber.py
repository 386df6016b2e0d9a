"""The thread that fetches frames: it fetches, stamps and hands on, and does nothing else.

It never writes, encodes or logs per frame, so only the driver can delay it. It
also stops the sequence, so that only one thread calls a running camera; then
it fetches the rest of the driver's buffer, so that the last gap is counted too.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hardware.microscope import Frame, Microscope
from service.engine.ledger import Ledger
from service.protocol.latency import LatencyHistogram
from service.worker_thread import WorkerThread

__all__ = ["Grabber"]

_PATIENCE_S = 0.1
"""Longest wait of one call for a frame; a stop request is noticed after at most this time."""


class Grabber(WorkerThread):
    """Fetches the frames of one sequence until it has ended and the buffer is empty.

    Parameters
    ----------
    microscope : Microscope
        Its sequence runs.
    ledger : Ledger
        Counts each frame.
    latency : LatencyHistogram
        From mid-exposure to fetched.
    hand_on : callable
        Receives each frame; must not block.
    ended : callable
        Is called once at the end, on this thread, with None or the exception that ended the grabbing.
    """

    def __init__(
        self,
        microscope: Microscope,
        ledger: Ledger,
        latency: LatencyHistogram,
        hand_on: Callable[[Frame], None],
        ended: Callable[[Exception | None], None],
    ) -> None:
        super().__init__("grab", ended)
        self._microscope = microscope
        self._ledger = ledger
        self._latency = latency
        self._hand_on = hand_on
        self._ended = ended
        self._stop_asked = threading.Event()
        self._last_s = time.monotonic()

    def stop(self) -> None:
        """Ask for the end of the sequence, from any thread; returns at once."""
        self._stop_asked.set()

    @property
    def frame_age_s(self) -> float:
        """Time since the newest frame was fetched, or since the start, s."""
        return time.monotonic() - self._last_s

    def work(self) -> None:
        """Fetch until the end."""
        running, stopped = True, False
        while True:
            if self._stop_asked.is_set() and not stopped:
                self._microscope.stop_sequence()
                stopped = True
            frame = self._microscope.next_frame(_PATIENCE_S)
            if frame is None:
                # The last frames may come between the two calls, so the end is an empty buffer after the sequence.
                if not running:
                    break
                running = self._microscope.is_running
                continue
            self._last_s = now_s = time.monotonic()
            self._ledger.grab(frame.index)
            self._latency.add(now_s - frame.time_s)
            self._hand_on(frame)
        self._ended(None)

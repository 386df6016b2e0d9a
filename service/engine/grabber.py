"""The thread that fetches frames: it fetches, stamps, hands on, and does nothing else.

It never writes, encodes or logs per frame, so that nothing but the driver can
hold it up. When the sequence has been stopped it fetches what is left in the
driver's buffer, so that also the last gap shows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from hardware.microscope import Frame, Microscope
from service.engine.latency import LatencyHistogram
from service.engine.ledger import Ledger

__all__ = ["Grabber"]

_PATIENCE_S = 0.1
"""How long one call waits for a frame; only a lack of frames is noticed with this delay."""


class Grabber(threading.Thread):
    """Fetches the frames of one sequence until it has ended and the buffer is empty.

    Parameters
    ----------
    microscope : Microscope
        Its sequence runs.
    ledger : Ledger
        Is told of each frame.
    latency : LatencyHistogram
        From mid-exposure to fetched.
    hand_on : callable
        Gets each frame; must not block.
    ended : callable
        Is called once at the end, with None or the exception that ended it.
    """

    def __init__(
        self,
        microscope: Microscope,
        ledger: Ledger,
        latency: LatencyHistogram,
        hand_on: Callable[[Frame], None],
        ended: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(name="grab", daemon=True)
        self._microscope = microscope
        self._ledger = ledger
        self._latency = latency
        self._hand_on = hand_on
        self._ended = ended
        self._last_s = time.monotonic()

    @property
    def frame_age_s(self) -> float:
        """Time since the newest frame was fetched, or since the start, s."""
        return time.monotonic() - self._last_s

    def run(self) -> None:
        """Fetch until the end."""
        failure: Exception | None = None
        running = True
        try:
            while True:
                frame = self._microscope.next_frame(_PATIENCE_S)
                if frame is None:
                    # Only a lack of frames after the sequence was seen to have ended is the end of them.
                    if not running:
                        break
                    running = self._microscope.is_running
                    continue
                self._last_s = now_s = time.monotonic()
                self._ledger.grab(frame.index)
                self._latency.add(now_s - frame.time_s)
                self._hand_on(frame)
        except Exception as error:  # noqa: BLE001  whatever the driver raises ends the run with a reason
            failure = error
        self._ended(failure)

"""The camera view without a run: frames go from the camera to the preview, and nowhere else."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from hardware.microscope import Frame, Microscope, MicroscopeError
from service.engine.controls import is_refusal
from service.engine.grabber import Grabber
from service.engine.ledger import Ledger
from service.engine.publisher import PreviewThread
from service.engine.stages import Slot
from service.protocol.latency import LatencyHistogram
from service.protocol.live import LivePublisher

__all__ = ["LiveView"]


class LiveView:
    """One sequence of the camera whose newest frame is shown, at most ten times a second.

    Parameters
    ----------
    microscope : Microscope
        Idle.
    live : LivePublisher
    epoch : str
        Of the engine.
    end_s : float or None
        When it ends, on the monotonic clock; None: when it is stopped.
    ended : callable
        Is called once, on the grab thread, when the camera is idle or has failed.

    Attributes
    ----------
    end_s : as given
    problem : str or None
        Why it ended, when nobody asked for the end.
    microscope_failed : bool
        The microscope is in an unknown state and has to be opened again.
    """

    def __init__(
        self,
        microscope: Microscope,
        live: LivePublisher,
        epoch: str,
        end_s: float | None,
        ended: Callable[[LiveView], None],
    ) -> None:
        self.end_s = end_s
        self.problem: str | None = None
        self.microscope_failed = False
        self._microscope = microscope
        self._ended = ended
        self._idle = threading.Event()
        self._over = threading.Event()
        self._slot: Slot[Frame] = Slot()
        self._ledger = Ledger()
        self._grabber = Grabber(microscope, self._ledger, LatencyHistogram(), self._show, self._sequence_ended)
        header: dict[str, Any] = {"epoch": epoch, "run": None}
        depth = microscope.description.bit_depth
        self._preview = PreviewThread(self._slot, depth, live, lambda: header, self._preview_failed)

    def start(self) -> None:
        """Start the camera.

        Raises
        ------
        Exception
            Whatever the driver raises; the view has ended then.
        """
        try:
            self._microscope.start_sequence()
            self._preview.start()
            self._grabber.start()
        except Exception as error:
            self._sequence_ended(error)
            raise

    def stop(self) -> None:
        """Ask for the end, from any thread; returns at once."""
        self._grabber.stop()

    def wait_idle(self, timeout_s: float) -> bool:
        """Wait until the camera is idle; False after `timeout_s`. May be called with the lock of the lease."""
        return self._idle.wait(timeout_s)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the microscope is given back and the last preview is sent; False after `timeout_s`."""
        deadline_s = time.monotonic() + timeout_s
        if not self._over.wait(timeout_s):
            return False
        if self._preview.ident is not None:
            self._preview.join(max(deadline_s - time.monotonic(), 0.0))
        return not self._preview.is_alive()

    @property
    def frame_age_s(self) -> float | None:
        """Time since the newest frame, s; None when the camera does not run (any more)."""
        return self._grabber.frame_age_s if self._grabber.is_alive() and not self._idle.is_set() else None

    # ---- on the grab thread ----

    def _show(self, frame: Frame) -> None:
        self._ledger.turn_away([frame.index])
        self._slot.put(frame)
        if self.end_s is not None and time.monotonic() >= self.end_s:
            self.stop()

    def _preview_failed(self, error: Exception) -> None:
        self.problem = self.problem or f"The preview stopped ({type(error).__name__}: {error})."
        self.stop()

    def _sequence_ended(self, failure: Exception | None) -> None:
        self._slot.close()
        if failure is not None:
            is_of_driver = isinstance(failure, MicroscopeError)
            unforeseen = f"Taking frames from the camera failed ({type(failure).__name__}: {failure})."
            self.problem = str(failure) if is_of_driver else unforeseen
            refused = isinstance(failure, MicroscopeError) and is_refusal(failure)
            self.microscope_failed = not self._halt_camera() or (is_of_driver and not refused)
        self._idle.set()
        try:
            self._ended(self)
        finally:
            self._over.set()

    def _halt_camera(self) -> bool:
        """After a failure: whether the camera is idle."""
        try:
            self._microscope.stop_sequence()
            return not self._microscope.is_running
        except Exception as error:  # noqa: BLE001  a driver that has failed may raise anything
            self.problem = f"{self.problem} The camera did not stop ({type(error).__name__}: {error})."
            return False

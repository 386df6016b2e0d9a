"""The camera view without a run: switched on and off by clients, and giving way to everything else.

The view is an owner of the microscope that nobody has to wait for. A run or a
sweep ends it (`MicroscopeSlot.free_microscope`). A single frame and new camera
settings pause it. Stages and light change while it is on. It does not come
back by itself after a run, because the light of the view bleaches the sample.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from service.engine.event_log import EventLog
from service.engine.lease import Lease, LeaseState
from service.engine.live_view import LiveView
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.run import RunOutputs

__all__ = ["LiveControl"]

_END_PATIENCE_S = 5.0


class LiveControl:
    """Starts, pauses and ends the camera view.

    Parameters
    ----------
    lease : Lease
    microscope : MicroscopeSlot
    outputs : RunOutputs
        Publisher and epoch are used.
    events : EventLog
    """

    def __init__(self, lease: Lease, microscope: MicroscopeSlot, outputs: RunOutputs, events: EventLog) -> None:
        self._lease = lease
        self._microscope = microscope
        self._outputs = outputs
        self._events = events
        self._halts = 0

    def switch(self, on: bool, duration_s: float | None = None) -> None:
        """Switch the view on or off; what is so already stays so, but a view that is on gets the new end.

        Parameters
        ----------
        on : bool
        duration_s : float or None
            The view ends by itself after this time; None: it does not.

        Raises
        ------
        EngineRefusal
            While the microscope is away, or a run or sweep has it.
        MicroscopeError
            Whatever the driver refuses.
        """
        with self._lease.held():
            if not on:
                self._microscope.end_live()
                return
            end_s = None if duration_s is None else time.monotonic() + duration_s
            view = self._lease.tenure.live
            if view is not None:
                view.end_s = end_s
            else:
                self._begin(end_s)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """End the view for the block, and begin it again afterwards, unless the microscope was stopped meanwhile.

        Raises
        ------
        EngineRefusal, MicroscopeError
            That of the block. When only the view cannot begin again, an event says so.
        """
        with self._lease.held():
            view, halts = self._lease.tenure.live, self._halts
            self._microscope.end_live()
            try:
                yield
            finally:
                is_wanted = view is not None and self._lease.state is LeaseState.FREE and halts == self._halts
                if view is not None and is_wanted:
                    with self._microscope.reporting("showing the camera again"):
                        self._begin(view.end_s)

    def halt(self) -> None:
        """End the view, or let a paused one not begin again, because the microscope is stopped. Takes no lock."""
        self._halts += 1
        view = self._lease.tenure.live
        if view is not None:
            view.stop()

    def end(self) -> None:
        """End the view, if there is one, at the end of the engine."""
        view = self._lease.tenure.live
        if view is not None:
            view.stop()
            view.wait(_END_PATIENCE_S)

    def _begin(self, end_s: float | None) -> None:
        microscope = self._microscope.free_microscope()
        view = LiveView(microscope, self._outputs.live, self._outputs.epoch, end_s, self._ended)
        self._lease.become(LeaseState.LIVE, live=view)
        with self._microscope.calling("starting the camera"):
            view.start()

    def _ended(self, view: LiveView) -> None:
        """Free the microscope, unless that was done by the command for which the view gave way."""
        with self._lease.lock:
            if self._lease.tenure.live is not view:
                return
            is_closing = self._microscope.end_use(failed=view.microscope_failed, problem=view.problem)
        if view.problem is not None:
            self._events.add("live_view_failed", f"The camera view ended: {view.problem}")
        if is_closing:
            self._microscope.close_failed()

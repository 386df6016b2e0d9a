"""The run that the settings ask for at the start of the engine: whether it is still to begin, and when it is tried.

A run that cannot begin (no space for its recording, a database that is away)
is tried again after pauses that grow. After a failure of the microscope it
begins again, when the microscope is back.
"""

from __future__ import annotations

import time
from typing import Literal

from service.engine.event_log import EventLog
from service.engine.lease import STARTING

__all__ = ["UnattendedRun"]

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0


class UnattendedRun:
    """State of the run at start. Methods are called with the lock of the lease.

    Parameters
    ----------
    wanted : bool
        The setting `engine.run_at_start`.
    events : EventLog

    Attributes
    ----------
    pending : bool
        The run is to begin as soon as it can.
    """

    def __init__(self, wanted: bool, events: EventLog) -> None:
        self.pending = wanted
        self._wanted = wanted
        self._events = events
        self._pause_s = _FIRST_PAUSE_S
        self._not_before_s = 0.0
        self._obstacle: tuple[str, str] | None = None

    @property
    def is_due(self) -> bool:
        """Whether the run is to be tried now."""
        return self.pending and time.monotonic() >= self._not_before_s

    def put_off(self, problem: str, remedy: str) -> None:
        """Try again later, because of this problem."""
        is_first = self._pause_s == _FIRST_PAUSE_S
        self._not_before_s = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        self.pending, self._obstacle = True, (f"The run at start waits: {problem}", remedy)
        if is_first:  # once, because figures in the problem change between attempts
            self._events.add("run_waits", f"{self._obstacle[0]} {remedy}")

    def begun(self) -> None:
        """A run has begun. When a user has begun it, that user decides what follows."""
        self.pending, self._obstacle = False, None

    def ended_by_microscope(self, problem: str | None, *, flowed: bool) -> None:
        """A run ended because the microscope failed: begin again when it is back.

        Parameters
        ----------
        problem : str or None
            Of the run.
        flowed : bool
            Whether the run had published tracks; if not, the next attempt is put off.
        """
        if flowed:
            self._pause_s = _FIRST_PAUSE_S
        elif self._wanted:
            self.put_off(problem or "The microscope failed.", "It is tried again.")
        self.pending = self._wanted

    def report(self) -> tuple[Literal["run waits", "starting"], str, str]:
        """State, problem and remedy for the status, while the run is pending."""
        if self._obstacle is not None:
            return "run waits", *self._obstacle
        return "starting", STARTING.problem, STARTING.remedy

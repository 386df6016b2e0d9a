"""Control of stages and light by one client, also during a run: for scripts that react to what is tracked.

The lease of the microscope says who exposes: a run, a sweep, or none. Control
is beside it: at most one client has it, while no sweep has the microscope, and
nobody else moves a stage or switches the light meanwhile. It ends when the
client ends it, when no sign of life has come from it for some seconds, and
with the stop command. Limits are those of `hardware.limits`, as for every move.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from service.engine.controls import change_stages_and_light
from service.engine.event_log import EventLog
from service.engine.lease import Lease, LeaseState
from service.engine.microscope_slot import MicroscopeSlot
from service.protocol.errors import EngineRefusal

__all__ = ["Steering"]

_LAPSE_S = 5.0
"""Longest time without a command or a sign of life; the API gives one every second."""


@dataclass(slots=True)
class _Control:
    """Who has control, since when, and what was done with it."""

    id: str
    name: str
    heard_s: float
    commands: int = 0


class Steering:
    """Gives control to one client at a time, and carries out its commands.

    Parameters
    ----------
    lease : Lease
    microscope : MicroscopeSlot
    events : EventLog
    wake : callable
        Wakes the engine's own thread, which calls `report`.
    """

    def __init__(self, lease: Lease, microscope: MicroscopeSlot, events: EventLog, wake: Callable[[], None]) -> None:
        self._lease = lease
        self._microscope = microscope
        self._events = events
        self._wake = wake
        self._ended: deque[tuple[_Control, str]] = deque()
        self._control: _Control | None = None
        lease.controller = self.controller

    def controller(self) -> str | None:
        """Name of the client that has control; None: nobody. A client that gives no sign of life loses it here."""
        control = self._control
        if control is not None and time.monotonic() - control.heard_s > _LAPSE_S:
            self._finish(control, f"it gave no sign of life for {_LAPSE_S:g} s")
        return None if self._control is None else self._control.name

    def begin(self, id: str, name: str) -> dict[str, Any]:
        """Give control to a client.

        Parameters
        ----------
        id : str
            The client states it with every command.
        name : str
            For people.

        Returns
        -------
        dict
            ``stage``: positions and limits of the stages.

        Raises
        ------
        EngineRefusal
            ``conflict`` when another client has control, or a sweep has the microscope; ``unavailable`` when the
            microscope is away.
        """
        with self._lease.held():
            self._lease.require_not_controlled()
            if self._lease.state is not LeaseState.RUN:
                self._lease.require_free()
            microscope = self._microscope.open_microscope()
            self._control = _Control(id, name, time.monotonic())
            stage = self._microscope.read_stage(microscope, light=False)["stage"]
        self._events.add("control_begun", f"{name} has control of stages and light.", details={"control": id})
        return {"stage": stage}

    def renew(self, id: str) -> dict[str, Any]:
        """Take a sign of life from the client that has control.

        Raises
        ------
        EngineRefusal
            ``conflict`` when it has lost control.
        """
        self._required(id).heard_s = time.monotonic()
        return {}

    def change(self, id: str, **wanted: Any) -> dict[str, Any]:
        """Move stages and switch the light for the client that has control.

        Parameters
        ----------
        id : str
            Of the client.
        wanted
            As of `change_stages_and_light`.

        Returns
        -------
        dict
            ``commanded_s``: when the driver was called (monotonic clock of the engine, which stamps the frames too);
            ``stage`` and ``light`` afterwards.

        Raises
        ------
        EngineRefusal
            ``conflict`` when the client has lost control; ``unavailable`` when the microscope is away.
        MicroscopeError
            Whatever limits and driver refuse.
        """
        with self._lease.held():
            control = self._required(id)
            control.heard_s = time.monotonic()
            microscope = self._microscope.open_microscope()
            with self._microscope.calling("moving the stage"):
                commanded_s = time.monotonic()
                try:
                    change_stages_and_light(microscope, wanted)
                finally:
                    switched = "channel" in wanted or "shutter_open" in wanted
                    changed = self._microscope.read_stage(microscope, light=switched)
            control.commands += 1
            control.heard_s = time.monotonic()
        return {"commanded_s": commanded_s, **changed}

    def end(self, id: str) -> dict[str, Any]:
        """Take control back from a client that has ended; from another one nothing is taken."""
        control = self._control
        if control is not None and control.id == id:
            self._finish(control, "it has ended")
        return {}

    def revoke(self) -> None:
        """Take control from whoever has it, because the microscope is stopped. Takes no lock."""
        control = self._control
        if control is not None:
            self._finish(control, "the microscope was stopped")

    def report(self) -> None:
        """Write an event for each client that has lost control since the last call."""
        while self._ended:
            control, reason = self._ended.popleft()
            message = f"{control.name} has no control any more, because {reason}; it gave {control.commands} commands."
            details = {"control": control.id, "commands": control.commands}
            self._events.add("control_ended", message, details=details)

    def _required(self, id: str) -> _Control:
        self.controller()
        control = self._control
        if control is None or control.id != id:
            raise EngineRefusal(
                "conflict",
                "This client has no control any more: the microscope was stopped, or no sign of life came from it.",
                "Look at the events, and take control again.",
            )
        return control

    def _finish(self, control: _Control, reason: str) -> None:
        # The event is written by another thread: the stop command and the status do not wait for a busy database.
        self._control = None
        self._ended.append((control, reason))
        self._wake()

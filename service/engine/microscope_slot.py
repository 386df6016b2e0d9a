"""The microscope of the engine: opening, closing, settings, and the facts that the status reports of it.

A microscope that failed is closed here and opened again by the engine's own
thread. Facts are read from the driver after each change, and never by the
status itself, which must not wait for a driver.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import structlog

from hardware.microscope import CameraSettings, Frame, Microscope
from service.engine.controls import (
    change_stages_and_light,
    facts_of,
    property_values,
    set_microscope,
    sets_camera,
    stage_of,
)
from service.engine.event_log import EventLog
from service.engine.lease import STARTING, Absence, Lease, LeaseState
from service.engine.opening import open_instrument
from service.protocol.errors import EngineRefusal
from service.settings import Settings

__all__ = ["MicroscopeSlot"]

_DRIVER_LIMIT_S = 180.0
"""Longest that a driver may take to open, start or close the microscope: homing all axes of a large stand takes less.
Beyond, the supervisor ends this process, because a call that hangs cannot be ended from within."""

_LIVE_PATIENCE_S = 2.0
"""Longest wait for the end of the camera view, beside three exposures."""

_log = structlog.get_logger(__name__)


class MicroscopeSlot:
    """Holds the microscope while it is open. Methods that change it are called with the lock of the lease.

    Parameters
    ----------
    settings : Settings
    lease : Lease
    events : EventLog
    ending : Event
        Set when the engine ends; a microscope that fails is not opened again then.
    wake : callable
        Wakes the engine's own thread, which opens a microscope that is away.

    Attributes
    ----------
    microscope : Microscope or None
        None while it is away.
    facts : dict
        The plain values that were read last; empty before the first opening.
    camera : CameraSettings or None
        Read with the facts.
    """

    def __init__(
        self, settings: Settings, lease: Lease, events: EventLog, ending: threading.Event, wake: Callable[[], None]
    ) -> None:
        self.microscope: Microscope | None = None
        self.facts: dict[str, Any] = {}
        self.camera: CameraSettings | None = None
        self._settings = settings
        self._lease = lease
        self._events = events
        self._ending = ending
        self._wake = wake
        self._driver_call: tuple[str, float] | None = None

    # ---- opening and closing ----

    def open(self, prepare: Callable[[Microscope], None]) -> None:
        """Open the microscope of the settings; it is free then.

        Parameters
        ----------
        prepare : callable
            Receives the open microscope; what it raises closes the microscope again.

        Raises
        ------
        Exception
            Whatever the driver or `prepare` raises.
        """
        self._lease.become(LeaseState.OPENING)
        try:
            microscope = self._opened(prepare)
        except BaseException:
            self._lease.become(LeaseState.AWAY)
            raise
        self.microscope = microscope
        self._lease.become(LeaseState.FREE)
        if self._lease.absence.state == "microscope away":
            self._events.add("microscope_back", f"The microscope is back: {microscope.description.camera}.")
        self._lease.absence = STARTING  # so that the same loss is reported again

    def _opened(self, prepare: Callable[[Microscope], None]) -> Microscope:
        with self.calling("opening the microscope"):
            microscope = open_instrument(self._settings)
        try:
            prepare(microscope)
            gc.unfreeze()  # the microscope that was open before is garbage now
            gc.collect()
            gc.freeze()
            self.read_facts(microscope)
        except BaseException:
            # A microscope that stays open without an owner could not be opened again.
            with self.reporting("closing the microscope"):
                microscope.close()
            raise
        return microscope

    def end_use(self, *, failed: bool, problem: str | None) -> bool:
        """Take the lease from a run or sweep that has ended.

        Returns
        -------
        bool
            Whether the microscope failed and `close_failed` has to be called; else it is free.
        """
        with self._lease.lock:
            if failed and not self._ending.is_set():
                self._lease.absence = Absence(
                    "microscope away", problem or "The microscope failed.", "It is being opened again."
                )
                self._lease.become(LeaseState.CLOSING)
                return True
            self._lease.become(LeaseState.FREE)
            return False

    def close_failed(self) -> None:
        """Close a microscope that failed; the engine's own thread opens it again."""
        with self._lease.lock:
            absence = self._lease.absence
            self._events.add("microscope_away", f"{absence.problem} {absence.remedy}")
            microscope, self.microscope = self.microscope, None
            if microscope is not None:
                with self.reporting("closing the microscope"), self.calling("closing the microscope"):
                    microscope.close()
            self._lease.become(LeaseState.AWAY)
        self._wake()

    def close(self) -> None:
        """Close the microscope at the end of the engine."""
        if self.microscope is not None:
            with self.reporting("closing the microscope"):
                self.microscope.close()

    # ---- commands ----

    def set(self, wanted: Mapping[str, Any]) -> None:
        """Set camera and light, as `set_microscope` does. Camera settings end the camera view.

        Raises
        ------
        EngineRefusal
            While the microscope is away or has an owner.
        MicroscopeError
            Whatever the driver refuses.
        """
        beside_live = not sets_camera(wanted)
        with self._changing("setting the microscope", beside_live=beside_live) as microscope:
            set_microscope(microscope, wanted)

    def move(self, wanted: Mapping[str, Any]) -> None:
        """Move focus drive and XY stage within their limits, as `change_stages_and_light` does; an event says so.

        Raises
        ------
        EngineRefusal
            While the microscope is away or has an owner, or a client has control.
        MicroscopeError
            Whatever limits and driver refuse.
        """
        before = _positions(self.facts)
        try:
            with self._changing("moving the stage", beside_live=True) as microscope:
                change_stages_and_light(microscope, wanted)
        finally:
            after = _positions(self.facts)
            if after != before:  # also when the stage stopped on its way
                details = {"asked": dict(wanted), "from": before, "to": after}
                self._events.add("stage_moved", f"Moved to {_place(after)}.", details=details)

    def snap(self) -> Frame:
        """Expose one frame; the camera view ends.

        Raises
        ------
        EngineRefusal
            While the microscope is away or has an owner.
        MicroscopeError
            Whatever the driver refuses.
        """
        with self._lease.held():
            microscope = self.free_microscope()
            with self.calling("taking a single frame"):
                return microscope.snap()

    def properties(self, device: str | None) -> list[dict[str, Any]]:
        """Properties of one device or of all, read from the devices, as plain values; see `property_values`.

        Raises
        ------
        EngineRefusal
            While the microscope is away, or a run or sweep has it.
        MicroscopeError
            For a device that does not exist.
        """
        with self._lease.held():
            self._lease.require_free()
            microscope = self.open_microscope()
            with self.calling("reading properties"):
                return [property_values(each) for each in microscope.properties(device)]

    def set_property(self, device: str, name: str, value: str) -> dict[str, Any]:
        """Set a property and return it as it is afterwards; an event says so. The camera view ends.

        Raises
        ------
        EngineRefusal
            While the microscope is away or has an owner, or a client has control.
        MicroscopeError
            Whatever limits and driver refuse.
        """
        with self._changing("setting a property") as microscope:
            after = microscope.set_property(device, name, value)
        self._events.add(
            "property_set", f"{name} of {device} is {after.value}.", details={"device": device, "property": name}
        )
        return property_values(after)

    def refresh(self) -> None:
        """Read the facts again, unless the microscope is away, or a run or sweep has it.

        Raises
        ------
        EngineRefusal
            While another command holds the microscope.
        """
        with self._lease.held():
            if self._lease.state in (LeaseState.FREE, LeaseState.LIVE) and self.microscope is not None:
                self.read_facts(self.microscope)

    def free_microscope(self) -> Microscope:
        """The microscope, when it is open and has no owner; the camera view ends. To be called with the lock.

        Raises
        ------
        EngineRefusal
            Else.
        """
        self._lease.require_free()
        self.end_live()
        if self.microscope is None:
            raise self._lease.unavailable()
        return self.microscope

    def end_live(self) -> None:
        """End the camera view, if it is on, and wait until the camera is idle. To be called with the lock.

        Raises
        ------
        EngineRefusal
            When the camera does not stop in time, or has failed.
        """
        view = self._lease.tenure.live
        if view is None:
            return
        view.stop()
        exposure_s = 0.0 if self.camera is None else self.camera.exposure_s
        if not view.wait_idle(_LIVE_PATIENCE_S + 3 * exposure_s):
            raise EngineRefusal("unavailable", "The camera view has not ended yet.", "Try again in a few seconds.")
        if view.microscope_failed:
            # Its own thread closes the microscope, as soon as it gets the lock.
            raise EngineRefusal("unavailable", view.problem or "The camera failed.", "It is being opened again.")
        self._lease.become(LeaseState.FREE)

    def open_microscope(self) -> Microscope:
        """The microscope, with or without an owner. To be called with the lock.

        Raises
        ------
        EngineRefusal
            When it is away.
        """
        if self.microscope is None or not self._lease.tenure.is_open:
            raise self._lease.unavailable()
        return self.microscope

    @contextmanager
    def _changing(self, name: str, *, beside_live: bool = False) -> Iterator[Microscope]:
        """Hold the free microscope, and read its facts afterwards; the camera view goes on when it may."""
        with self._lease.held():
            self._lease.require_not_controlled()
            self._lease.require_free()
            microscope = self.open_microscope() if beside_live else self.free_microscope()
            with self.calling(name):
                try:
                    yield microscope
                except BaseException:
                    # The error of the command is the one that the client receives.
                    with self.reporting("reading the microscope"):
                        self.read_facts(microscope)
                    raise
                self.read_facts(microscope)

    # ---- facts and health ----

    def read_facts(self, microscope: Microscope) -> None:
        """Ask the driver for all that the status reports.

        Raises
        ------
        MicroscopeError
            Whatever the driver raises.
        """
        self.facts, self.camera = facts_of(microscope), microscope.camera_settings

    def read_stage(self, microscope: Microscope, *, light: bool) -> dict[str, Any]:
        """Ask the driver for the stages, and for the light where that has changed; return stage and light."""
        self.facts = {**self.facts, "stage": stage_of(microscope)}
        if light:  # some microscopes need long to say which channel is on
            self.facts["light"] = asdict(microscope.light)
        return {"stage": self.facts["stage"], "light": self.facts["light"]}

    @property
    def frame_period_s(self) -> float:
        """Time from frame to frame, s: that of the camera, or else its exposure."""
        return float(self.facts["frame_period_s"] or self.facts["camera"]["exposure_s"])

    @contextmanager
    def reporting(self, purpose: str) -> Iterator[None]:
        """Continue after a failure of the block; an event says what failed."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  a driver may raise anything
            _log.exception("step_failed", purpose=purpose)
            self._events.add("microscope_trouble", f"{purpose.capitalize()} failed ({type(error).__name__}: {error}).")

    @contextmanager
    def calling(self, name: str) -> Iterator[None]:
        """Let the heartbeat say how long a call of the driver takes."""
        self._driver_call = (name, time.monotonic())
        try:
            yield
        finally:
            self._driver_call = None

    def driver_call(self) -> dict[str, Any] | None:
        """The call of the driver that is on: ``{"name", "age_s", "limit_s"}``; None: there is none."""
        call = self._driver_call
        if call is None:
            return None
        name, begun_s = call
        return {"name": name, "age_s": time.monotonic() - begun_s, "limit_s": _DRIVER_LIMIT_S}


def _positions(facts: Mapping[str, Any]) -> dict[str, Any]:
    stage = facts.get("stage", {})
    return {axis: stage.get(axis) for axis in ("stage_um", "x_um", "y_um")}


def _place(stage: Mapping[str, Any]) -> str:
    """The position of the stages in words."""
    names = {"stage_um": "focus drive", "x_um": "x", "y_um": "y"}
    return ", ".join(f"{name} {stage[axis]:g} µm" for axis, name in names.items() if stage.get(axis) is not None)

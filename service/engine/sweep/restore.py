"""Leaving the microscope as it was found: position, exposure, light and continuous focus.

They are put back however a sweep ends, Ctrl-C included. There is one exception:
after a stop the drive stays where it is, because a user who stops the
microscope wants nothing to move.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hardware.microscope import MicroscopeError
from models.errors import DataError
from service.engine.sweep.drive import ROUNDING_UM, Check, go

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["DrivePlace", "StageHalted", "left_as_found"]


class StageHalted(RuntimeError):
    """A user has stopped the microscope, so the drive must not move any more, not even back.

    The text names other parts that could not be put back.
    """


@dataclass(slots=True)
class DrivePlace:
    """Where the focus drive is left at the end of a block, µm; the block may change it."""

    stage_um: float


@contextmanager
def left_as_found(microscope: Microscope, check: Check = lambda: None) -> Iterator[DrivePlace]:
    """Put back light, camera settings, position and continuous focus at the end of the block, however it ends.

    After a block without an error the drive goes to the position of the yielded place, which is that of the begin
    unless the block changes it. Continuous focus is switched off for the block, because it moves the drive by itself.
    After a `StageHalted` neither position nor continuous focus is put back, because both move the drive. `check` is
    called before each move back and may raise it. Each part is put back independently of the others.

    Raises
    ------
    MicroscopeError
        Before any change, when the drive stands outside its soft limits, so that it could not go back; at the end,
        when a part could not be put back.
    DataError, MicroscopeError
        That of the block; its text also names the parts that could not be put back.
    """
    position, limits = microscope.stage_um, microscope.stage_limits
    if not limits.low_um - ROUNDING_UM <= position <= limits.high_um + ROUNDING_UM:
        raise MicroscopeError(
            "stage_limit",
            f"The focus drive stands at {position:g} µm, outside its soft limits of {limits.low_um:g} to "
            f"{limits.high_um:g} µm, so a sweep could not bring it back there.",
            "Move it to a position within the limits first, or widen them in the settings if the way is free.",
        )
    place = DrivePlace(position)
    camera, light, focusing = microscope.camera_settings, microscope.light, microscope.continuous_focus
    halted: StageHalted | None = None
    troubles: list[BaseException] = []

    def put_back(step: Callable[[], object]) -> None:
        nonlocal halted
        try:
            step()
        except StageHalted as stopped:
            halted = stopped
        except BaseException as trouble:  # noqa: BLE001  the other parts are put back after any exception
            troubles.append(trouble)

    def put_light_back() -> None:
        shutter = None if light.automatic else light.shutter_open
        if shutter is not None or light.channel is not None:
            microscope.set_light(shutter_open=shutter, channel=light.channel)

    def put_camera_back() -> None:
        if microscope.camera_settings != camera:
            microscope.apply_camera(camera)

    def put_drive_back() -> None:
        if halted is None:
            go(microscope, place.stage_um, check)
            if focusing:
                microscope.set_continuous_focus(True)

    failure: BaseException | None = None
    try:
        if focusing:
            microscope.set_continuous_focus(False)
        yield place
    except BaseException as error:  # noqa: BLE001  raised again below
        failure = error
        place.stage_um = position
        halted = error if isinstance(error, StageHalted) else None
    for step in (put_light_back, put_camera_back, put_drive_back):
        put_back(step)
    if halted is not None and focusing:
        troubles.append(RuntimeError("continuous focus was on and has been left off, because it moves the drive"))
    if halted is not None and not isinstance(failure, StageHalted):
        failure = halted
    if failure is not None or troubles:
        raise _with_troubles(failure, troubles)


def _with_troubles(failure: BaseException | None, troubles: list[BaseException]) -> BaseException:
    """The error that ended a block, with the parts that could not be put back in its text; an interrupt stays one."""
    for trouble in troubles:
        if not isinstance(trouble, Exception):
            return trouble
    if not troubles:
        assert failure is not None  # noqa: S101  one of the two is there
        return failure
    failures = " ".join(f"{trouble}".rstrip(".") + "." for trouble in troubles)
    also = f"Not everything was put back: {failures}"
    if isinstance(failure, StageHalted):
        return _caused(StageHalted(also), failure)
    if isinstance(failure, DataError):
        return _caused(DataError(f"{failure.problem} {also}", failure.remedy), failure)
    if isinstance(failure, MicroscopeError):
        return _caused(MicroscopeError(failure.cause, f"{failure.problem} {also}", failure.remedy), failure)
    first = troubles[0]
    cause = first.cause if isinstance(first, MicroscopeError) else "device"
    remedy = first.remedy if isinstance(first, MicroscopeError) else "Look at the microscope, and set it by hand."
    return _caused(MicroscopeError(cause, also, remedy), failure or first)


def _caused(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error

"""A sweep taken with the microscope: find focus, step through it, put everything back.

The microscope is left as it was found (position, exposure, light, continuous
focus), whatever happens on the way, Ctrl-C included. Only after a stop the
drive stays where it is: who stops a microscope wants nothing to move. The drive always arrives
from the same side, so that its backlash does not enter the steps.

The engine of a service sweeps the microscope that it owns. The command line
opens one itself, which is refused while a service runs on the same data
directory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import MicroscopeError
from models.calibration.depth_axis import DepthAxis, depth_axis
from models.calibration.sweep import fine_detail, fit_peak
from models.errors import DataError
from service.engine.sweep.request import SweepRequest, SweepSize

if TYPE_CHECKING:
    from hardware.microscope import Microscope, MicroscopeDescription
    from service.settings import MicroscopePart

__all__ = [
    "ExposureSink",
    "StageHalted",
    "axis_of",
    "find_focus",
    "left_as_found",
    "pixel_size_of",
    "sweep_around_focus",
    "sweep_stage",
]

# Way that the drive backs off before it moves up to a position, µm: more than the backlash of focus drives.
_BACKLASH_UM = 5.0
# Half of the way that is searched for focus, and the first step of the search, µm.
_SEARCH_UM = 60.0
_SEARCH_STEP_UM = 4.0
# Fine detail in the sharpest picture of a search over that of the median one; less is no focus.
_FOCUS_CONTRAST = 1.3

# Part of the whole time that finding focus takes, about.
_FOCUS_SHARE = 0.4
# Rounding of positions in double precision, far below what any drive resolves, µm.
_ROUNDING_UM = 1e-6
# How often the wait after a move looks whether the sweep is to end, s.
_LOOK_S = 0.05

Told = Callable[[float, str], None]
"""Called with the share done and what is being done before every move and exposure; may raise to end the sweep."""


class StageHalted(RuntimeError):
    """The user has stopped the microscope, so the drive must not be moved any more, not even back.

    Its text, if any, says what else could not be put back.
    """


class ExposureSink(Protocol):
    """Where the exposures of a sweep go, in their order."""

    def begin(self, size: SweepSize) -> None:
        """Make ready for so many; called once, with the size as it really is, before the first exposure is kept."""
        ...

    def add(self, pixels: NDArray[np.uint16]) -> None:
        """Keep the next exposure, shape (H, W)."""
        ...


@contextmanager
def left_as_found(microscope: Microscope, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Give back light, camera settings, position and continuous focus when the block ends, however it ends.

    Continuous focus is switched off for the block, because it moves the drive by itself. After a `StageHalted`
    neither position nor continuous focus is given back, for both move the drive. `check` is called before each move
    on the way back and may raise it. Each part is given back whatever happens to the others.

    Raises
    ------
    MicroscopeError
        Before anything is changed, when the drive stands where the soft limits do not allow it to go back to; at the
        end, when something could not be given back.
    DataError, MicroscopeError
        That of the block. What could not be given back is added to its text.
    """
    position, limits = microscope.stage_um, microscope.stage_limits
    if not limits.low_um - _ROUNDING_UM <= position <= limits.high_um + _ROUNDING_UM:
        raise MicroscopeError(
            "stage_limit",
            f"The focus drive stands at {position:g} µm, outside its soft limits of {limits.low_um:g} to "
            f"{limits.high_um:g} µm, so a sweep could not bring it back there.",
            "Move it to a position within the limits first, or widen them in the settings if the way is free.",
        )
    camera, light, focusing = microscope.camera_settings, microscope.light, microscope.continuous_focus
    halted: StageHalted | None = None
    troubles: list[BaseException] = []

    def give_back(step: Callable[[], object]) -> None:
        nonlocal halted
        try:
            step()
        except StageHalted as stopped:
            halted = stopped
        except BaseException as trouble:  # noqa: BLE001  whatever it is, the other parts are still given back
            troubles.append(trouble)

    def light_back() -> None:
        shutter = None if light.automatic else light.shutter_open
        if shutter is not None or light.channel is not None:
            microscope.set_light(shutter_open=shutter, channel=light.channel)

    def camera_back() -> None:
        if microscope.camera_settings != camera:
            microscope.apply_camera(camera)

    def drive_back() -> None:
        if halted is None:
            _go(microscope, position, check)
            if focusing:
                microscope.set_continuous_focus(True)

    failure: BaseException | None = None
    try:
        if focusing:
            microscope.set_continuous_focus(False)
        yield
    except BaseException as error:  # noqa: BLE001  raised again below, with what could not be given back
        failure = error
        halted = error if isinstance(error, StageHalted) else None
    for step in (light_back, camera_back, drive_back):
        give_back(step)
    if halted is not None and focusing:
        troubles.append(RuntimeError("continuous focus was on and has been left off, because it moves the drive"))
    if halted is not None and not isinstance(failure, StageHalted):
        failure = halted
    if failure is not None or troubles:
        raise _with_troubles(failure, troubles)


def _with_troubles(failure: BaseException | None, troubles: list[BaseException]) -> BaseException:
    """The error that ended a block, with what could not be given back in its text; an interrupt stays one."""
    for trouble in troubles:
        if not isinstance(trouble, Exception):
            return trouble
    if not troubles:
        assert failure is not None  # noqa: S101  one of the two is there
        return failure
    told = " ".join(f"{trouble}".rstrip(".") + "." for trouble in troubles)
    also = f"Not everything was put back: {told}"
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


def _go(microscope: Microscope, target_um: float, check: Callable[[], None] = lambda: None) -> float:
    """Move in steps that the limits allow."""
    longest = microscope.stage_limits.max_step_um
    position = microscope.stage_um
    while abs(target_um - position) > longest:
        check()
        position = microscope.move_stage(position + float(np.sign(target_um - position)) * longest)
    check()
    return microscope.move_stage(target_um)


def _approach(microscope: Microscope, target_um: float, check: Callable[[], None]) -> None:
    """Back off below the target, as far as the limits allow, so that the drive then arrives from below."""
    _go(microscope, max(target_um - _BACKLASH_UM, microscope.stage_limits.low_um), check)


def _settle(settle_s: float, check: Callable[[], None]) -> None:
    """Wait, and look now and then whether the sweep is to end."""
    end_s = time.monotonic() + settle_s
    while (left_s := end_s - time.monotonic()) > 0:
        check()
        time.sleep(min(left_s, _LOOK_S))


def find_focus(microscope: Microscope, settle_s: float, told: Told = lambda done, what: None) -> float:
    """Position of the drive at which the picture has most fine detail, µm.

    A coarse search around the present position within the soft limits, then a
    finer one around the best.

    Raises
    ------
    DataError
        When no picture is clearly sharper than the others, or the sharpest is at the end of the search.
    """
    limits = microscope.stage_limits
    start = microscope.stage_um
    low, high = max(start - _SEARCH_UM, limits.low_um), min(start + _SEARCH_UM, limits.high_um)
    best, step = start, _SEARCH_STEP_UM
    for fraction, step in ((0.0, _SEARCH_STEP_UM), (0.7, _SEARCH_STEP_UM / 8)):
        if fraction:
            low, high = max(best - 2 * _SEARCH_STEP_UM, limits.low_um), min(best + 2 * _SEARCH_STEP_UM, limits.high_um)
        positions = np.arange(low, high + 1e-9, step)
        if len(positions) < 5:
            raise DataError(
                f"The focus drive may move only from {limits.low_um:g} to {limits.high_um:g} µm; that is no search.",
                "Widen the soft limits in the microscope's settings, if the way is free.",
            )
        detail = np.empty(len(positions))
        for index, position in enumerate(positions):
            done = fraction + (0.7 if not fraction else 0.3) * index / len(positions)
            check = partial(told, done, "searching focus")
            if index == 0:
                _approach(microscope, float(position), check)
            _go(microscope, float(position), check)
            _settle(settle_s, check)
            check()
            detail[index] = fine_detail(microscope.snap().pixels.astype(np.float32))
        contrast = float(detail.max() / max(float(np.median(detail)), 1e-12))
        sharpest = int(detail.argmax())
        if not fraction and (contrast < _FOCUS_CONTRAST or sharpest in (0, len(detail) - 1)):
            raise DataError(
                f"No focus was found from {low:g} to {high:g} µm: the sharpest picture, at {positions[sharpest]:g} µm, "
                f"has {contrast:.2f} times the fine detail of the median one (at least {_FOCUS_CONTRAST} is needed, "
                "and it must not be the first or the last).",
                "Focus on the beads by hand, check light and exposure, and start again.",
            )
        best = fit_peak(positions, detail / detail.max())
    return best


def sweep_stage(
    microscope: Microscope,
    positions_um: NDArray[np.float64],
    repeats: int,
    settle_s: float,
    sink: ExposureSink,
    told: Told = lambda done, what: None,
) -> NDArray[np.float64]:
    """Expose `repeats` frames at each of the rising positions into `sink`.

    Returns
    -------
    ndarray of float64, shape (Z,)
        Positions read back, µm.

    Raises
    ------
    DataError
        When the positions lie beyond the soft limits, or there are none (nothing was moved then); when the frames
        change their size.
    """
    if not len(positions_um) or repeats < 1:
        raise DataError("The sweep has no positions or no repeats.", "Ask for at least one of each.")
    limits = microscope.stage_limits
    if positions_um.min() < limits.low_um - _ROUNDING_UM or positions_um.max() > limits.high_um + _ROUNDING_UM:
        raise DataError(
            f"The sweep goes from {positions_um.min():.1f} to {positions_um.max():.1f} µm; the soft limits of the "
            f"focus drive are {limits.low_um:g} to {limits.high_um:g} µm.",
            "Choose a smaller z-range, or widen the limits in the settings if the way is free.",
        )
    size: SweepSize | None = None
    reached = np.empty(len(positions_um))
    for index, position in enumerate(positions_um):
        check = partial(told, index / len(positions_um), "sweeping")
        if index == 0:
            _approach(microscope, float(position), check)
        reached[index] = _go(microscope, float(position), check)
        _settle(settle_s, check)
        for _ in range(repeats):
            check()
            pixels = microscope.snap().pixels
            if size is None:
                size = SweepSize(len(positions_um), repeats, (pixels.shape[0], pixels.shape[1]))
                sink.begin(size)
            if pixels.shape != size.shape:
                raise DataError(
                    f"At {reached[index]:g} µm the camera gave {pixels.shape[1]} x {pixels.shape[0]} pixels, "
                    f"and {size.shape[1]} x {size.shape[0]} before.",
                    "Let no other program change the camera during a sweep.",
                )
            sink.add(pixels)
    return reached


def _positions(
    axis: DepthAxis, focus_um: float, request: SweepRequest, limits: tuple[float, float]
) -> NDArray[np.float64]:
    """Rising positions that cover the range and, where the limits allow, focus and a margin."""
    ends, needed = (
        sorted(axis.stage(depth_um, focus_um) for depth_um in depths)
        for depths in (request.covered_um, request.z_range_um)
    )
    step_um = request.z_step_um
    first = min(max(ends[0], limits[0]), needed[0])
    last = max(min(ends[1], limits[1]), needed[1])
    count = int(np.ceil((last - first) / step_um - 1e-9))
    # Whole steps that end inside the limits.
    if first + count * step_um > max(limits[1], needed[1]):
        count -= 1
    return np.asarray(first + step_um * np.arange(count + 1), np.float64)


def sweep_around_focus(
    microscope: Microscope,
    axis: DepthAxis,
    request: SweepRequest,
    sink: ExposureSink,
    told: Told = lambda done, what: None,
) -> tuple[NDArray[np.float64], float]:
    """Light on, find focus, sweep into `sink`. Put it into `left_as_found`.

    Returns
    -------
    stage_um : ndarray of float64, shape (Z,)
        Positions of the drive, read back, µm.
    focus_um : float
        About where focus is, stage coordinates.

    Raises
    ------
    DataError
        When focus is not found, or the range is beyond the soft limits.
    MicroscopeError
        Whatever the microscope refuses.
    """
    light = microscope.light
    if light.shutter_open is False and not light.automatic:
        microscope.set_light(shutter_open=True)
    if request.exposure_s is not None:
        microscope.apply_camera(replace(microscope.camera_settings, exposure_s=request.exposure_s))
    focus = find_focus(microscope, request.settle_s, lambda done, what: told(_FOCUS_SHARE * done, what))
    limits = microscope.stage_limits
    positions = _positions(axis, focus, request, (limits.low_um, limits.high_um))
    reached = sweep_stage(
        microscope,
        positions,
        request.repeats,
        request.settle_s,
        sink,
        lambda done, what: told(_FOCUS_SHARE + (1 - _FOCUS_SHARE) * done, what),
    )
    return reached, focus


def axis_of(part: MicroscopePart, description: MicroscopeDescription) -> DepthAxis:
    """How the positions of the microscope's drive become depth; of the simulated one it is known.

    The sign comes from `moves`, and from the direction of the drive that the microscope's configuration states
    (Micro-Manager's FocusDirection); they must agree.

    Raises
    ------
    DataError
        When neither says the sign, or they contradict each other.
    """
    if description.driver == "simulated" and part.moves is None:
        return depth_axis("objective", 1.0, 1.0)  # as the simulated scene is rendered
    direction = description.focus_direction
    # A drive that brings objective and sample together makes depth fall, whichever of the two it moves.
    following: Literal["objective", "sample"] | None = None
    if direction != 0:
        following = "objective" if direction > 0 else "sample"
    if part.moves is not None and following is not None and part.moves != following:
        raise DataError(
            f"The sign of depth is stated twice and differently: microscope.moves is {part.moves}, but FocusDirection "
            f"of {description.focus_stage} is {direction} in Micro-Manager's configuration, which means that a higher "
            f"position {'brings objective and sample together' if direction > 0 else 'takes them apart'} "
            f"(as moves = {following} does).",
            "Raise the drive a little and see what happens, then correct the wrong one: without moves FocusDirection "
            "decides; with FocusDirection 0 (unknown) moves decides.",
        )
    return depth_axis(part.moves or following, part.immersion_index, part.sample_index)


def pixel_size_of(microscope: Microscope, stated_um: float | None) -> float:
    """Camera pixel at the sample as it is binned, µm: what the microscope knows, or what is stated.

    Raises
    ------
    DataError
        When neither is there, or they contradict each other.
    """
    known = microscope.description.pixel_size_um
    if known is not None:
        known *= microscope.camera_settings.binning
    if known is None and stated_um is None:
        raise DataError(
            "The microscope does not state its pixel size at the sample.",
            "State it, or set the pixel size in Micro-Manager.",
        )
    if known is not None and stated_um is not None and abs(stated_um / known - 1) > 0.01:
        raise DataError(
            f"The pixel size is stated to be {stated_um:g} µm, but {known:g} µm according to the "
            "microscope; they must agree to 1 %.",
            "Correct the one that is wrong.",
        )
    return float(stated_um if stated_um is not None else known)  # type: ignore[arg-type]

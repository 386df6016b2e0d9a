"""The microscope of the service: state, settings, single moves, and the stop."""

from __future__ import annotations

import io
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from bathyscope.remote.records import FocusCurveRecord, PropertyRecord, read_job
from bathyscope.remote.steps import Endpoint, Number, Request, Steps, get, id_of
from service.files.job import Job

__all__ = ["MicroscopeMethods", "stop"]

_CHANGE_S = 90.0
"""Longer than the service waits for slow drives and filter wheels."""

_STOP_S = 8.0


def state() -> Steps[dict[str, Any]]:
    """Owner, devices, camera settings, light, stage positions and limits."""
    found: dict[str, Any] = yield from get("/microscope")
    return found


def set_microscope(
    *,
    exposure_s: float | None = None,
    roi: tuple[int, int, int, int] | Literal["whole sensor"] | None = None,
    binning: int | None = None,
    channel: str | None = None,
    shutter: Literal["open", "closed"] | None = None,
) -> Steps[dict[str, Any]]:
    """Set camera and light, all or nothing; what is absent stays. Returns the state afterwards.

    Parameters
    ----------
    exposure_s : float
    roi : (left, top, width, height)
        In binned pixels, or ``"whole sensor"``.
    binning : int
        Without a `roi` it takes the whole sensor.
    channel : str
        Preset of the light.
    shutter : str
        ``"open"`` or ``"closed"``; from then on it no longer follows the camera.
    """
    given: dict[str, Any] = {"exposure_s": exposure_s, "binning": binning, "channel": channel, "shutter": shutter}
    body = {name: value for name, value in given.items() if value is not None}
    if roi is not None:
        body["roi"] = None if roi == "whole sensor" else list(roi)
    return dict((yield Request("PATCH", "/microscope", json=body, timeout_s=_CHANGE_S)).json())


def apply_preset(group: str, name: str) -> Steps[dict[str, Any]]:
    """Set a preset of Micro-Manager's configuration groups; `state` lists them in ``presets``. Returns the state."""
    body = {"preset": {"group": group, "name": name}}
    return dict((yield Request("PATCH", "/microscope", json=body, timeout_s=_CHANGE_S)).json())


def choose_focus_drive(label: str) -> Steps[dict[str, Any]]:
    """Use another focus drive, with its own limits; `state` lists them in ``stage["focus_drives"]``. Returns the state.

    Raises
    ------
    ServiceError
        For a drive without limits in the settings of the service.
    """
    return dict((yield Request("PATCH", "/microscope", json={"focus_drive": label}, timeout_s=_CHANGE_S)).json())


def read_properties(device: str | None = None, *, trigger: bool = False) -> Steps[list[PropertyRecord]]:
    """Properties of the devices, as they report them now.

    Parameters
    ----------
    device : str, optional
        Only of this device.
    trigger : bool
        Only those of the camera for trigger, strobe and other signals.

    Raises
    ------
    ServiceError
        Kind ``"conflict"`` while a run or a sweep has the microscope.
    """
    query = {"device": device, "trigger": "true" if trigger else None}
    found = (yield Request("GET", "/microscope/properties", query, timeout_s=_CHANGE_S)).json()
    return [PropertyRecord.read(item) for item in found["items"]]


def set_property(device: str, name: str, value: str | Number) -> Steps[PropertyRecord]:
    """Set a property of a device, and return it as the device reports it afterwards.

    Raises
    ------
    ServiceError
        For a value that the property does not take or keep; for one that can move a stage (use `move`); and while a
        run, a sweep or a script has the microscope.
    """
    body = {"device": device, "name": name, "value": value if isinstance(value, str | int) else float(value)}
    return PropertyRecord.read(
        (yield Request("PATCH", "/microscope/properties", json=body, timeout_s=_CHANGE_S)).json()
    )


def move(
    *,
    stage_um: Number | None = None,
    by_um: Number | None = None,
    x_um: Number | None = None,
    x_by_um: Number | None = None,
    y_um: Number | None = None,
    y_by_um: Number | None = None,
) -> Steps[dict[str, Any]]:
    """Move focus drive and XY stage within their limits, and wait; parameters as of `Control.move`.

    Returns
    -------
    dict
        The state afterwards.

    Raises
    ------
    ServiceError
        For a move beyond the limits (nothing moves), and while a run, a sweep or a script has the microscope.
    """
    given = {"stage_um": stage_um, "by_um": by_um, "x_um": x_um, "x_by_um": x_by_um, "y_um": y_um, "y_by_um": y_by_um}
    body = {name: value for name, value in given.items() if value is not None}
    return dict((yield Request("POST", "/microscope/stage", json=body, timeout_s=_CHANGE_S)).json())


def live(on: bool = True, *, duration_s: float | None = None) -> Steps[dict[str, Any]]:
    """Show the camera without a run, or end that; `Client.live.frames` brings the frames. Returns the state afterwards.

    A run or a sweep ends the view. A single frame and new camera settings pause it.

    Parameters
    ----------
    on : bool
    duration_s : float, optional
        The view ends by itself after this time. Absent: it stays on, and so does the light of an automatic shutter.

    Raises
    ------
    ServiceError
        Kind ``"conflict"`` while a run or a sweep has the microscope.
    """
    body = {"on": on} if duration_s is None else {"on": on, "duration_s": duration_s}
    return dict((yield Request("POST", "/microscope/live", json=body, timeout_s=_CHANGE_S)).json())


def start_focus(
    *,
    range_um: Number = 60.0,
    step_um: Number = 4.0,
    settle_s: float = 0.05,
    exposure_s: float | None = None,
    name: str = "",
) -> Steps[Job]:
    """Search the sharpest image along the focus drive and go there.

    Parameters
    ----------
    range_um : float
        Distance to each side of the present position, µm; less where the soft limits are nearer.
    step_um : float
        Step of the first search, µm: shorter than the range in which the image looks sharp. The second search, around
        the best position, has an eighth of it.
    settle_s : float
        Wait after each move, s.
    exposure_s : float, optional
        Absent: as the camera is set.
    name : str
        For people.

    Returns
    -------
    Job
        It has begun; `jobs.wait` follows it, and `focus_curve` has what it found. Cancelled or failed, it brings the
        drive back.
    """
    body: dict[str, Any] = {"range_um": float(range_um), "step_um": float(step_um), "settle_s": settle_s, "name": name}
    if exposure_s is not None:
        body["exposure_s"] = exposure_s
    return read_job((yield Request("POST", "/microscope/focus", json=body, timeout_s=_CHANGE_S)).json())


def read_focus_curve(job: Job | str) -> Steps[FocusCurveRecord]:
    """What an autofocus that is done has found: the position, and the sharpness along the drive."""
    return FocusCurveRecord.read((yield from get(f"/jobs/{id_of(job)}/result")))


def snap() -> Steps[NDArray[np.uint16]]:
    """Expose one frame; its counts, shape (H, W)."""
    response = yield Request("POST", "/microscope/snap", headers={"Accept": "image/tiff"}, timeout_s=_CHANGE_S)
    import tifffile

    pixels: NDArray[np.uint16] = tifffile.imread(io.BytesIO(response.content))
    return pixels


def stop() -> Steps[dict[str, Any]]:
    """Halt stages and camera, which ends a run or a sweep too; this is not an emergency stop.

    Returns
    -------
    dict
        ``confirmed``, ``detail`` and ``remedy``.
    """
    return dict((yield Request("POST", "/microscope/stop", timeout_s=_STOP_S)).json())


class MicroscopeMethods:
    """The microscope, while no run has it; `Client.control` moves it during a run."""

    state = Endpoint(state)
    set = Endpoint(set_microscope)
    preset = Endpoint(apply_preset)
    focus_drive = Endpoint(choose_focus_drive)
    properties = Endpoint(read_properties)
    set_property = Endpoint(set_property)
    move = Endpoint(move)
    focus = Endpoint(start_focus)
    focus_curve = Endpoint(read_focus_curve)
    live = Endpoint(live)
    snap = Endpoint(snap)
    stop = Endpoint(stop)

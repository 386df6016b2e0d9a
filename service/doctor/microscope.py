"""The microscope itself: opened, looked at without moving anything, and closed, in a process of its own.

A driver that crashes or hangs then ends that process, and becomes a finding.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from service.doctor.findings import Finding, checked, error, ok, warning
from service.settings import Settings

if TYPE_CHECKING:
    from hardware.limits import LimitedMicroscope
    from hardware.microscope import CameraSettings, MicroscopeDescription

__all__ = ["Seen", "check_microscope"]

_OPEN_LIMIT_S = 180.0
"""Longest time for opening, looking and closing; some cameras cool down when they are opened."""

_SEQUENCE_S = 1.0
_FRAME_PATIENCE_S = 5.0
_DARK_SPREAD_ADU = 0
_SATURATED_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Seen:
    """What an open microscope stated, for the checks of model, disk and threads.

    Attributes
    ----------
    description, camera : of the microscope
    fps : frames a second that came; None when none came
    """

    description: MicroscopeDescription
    camera: CameraSettings
    fps: float | None


def check_microscope(settings: Settings) -> tuple[list[Finding], Seen | None]:
    """Open the microscope of the settings, take a second of frames, and close it. Nothing is moved.

    Opening initializes the devices, which may move some of them: this is the same as at the start of the service.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_look, args=(settings, theirs), name="bathyscope-doctor", daemon=True)
    process.start()
    theirs.close()
    findings: list[Finding] = []
    seen: Seen | None = None
    deadline_s = time.monotonic() + _OPEN_LIMIT_S
    try:
        while True:
            if not ours.poll(max(0.0, deadline_s - time.monotonic())):
                findings.append(
                    error(
                        "microscope",
                        f"The microscope did not respond within {_OPEN_LIMIT_S:g} s.",
                        "Switch its devices off and on, and test the configuration in Micro-Manager itself.",
                    )
                )
                return findings, seen
            got = ours.recv()
            if got is None:
                return findings, seen
            if isinstance(got, Seen):
                seen = got
            else:
                findings.append(got)
    except EOFError:
        process.join(_FRAME_PATIENCE_S)
        findings.append(
            error(
                "microscope",
                f"The driver ended the process that opened the microscope (exit status {process.exitcode}).",
                "Test the configuration in Micro-Manager itself, and update the driver of the vendor.",
            )
        )
        return findings, seen
    finally:
        process.kill()
        process.join()
        process.close()
        ours.close()


def _look(settings: Settings, parent: Connection) -> None:
    """Entry point of the process: send findings, a `Seen`, and None at the end."""
    for finding in checked("microscope", lambda: _opened(settings, parent)):
        parent.send(finding)
    parent.send(None)


def _opened(settings: Settings, parent: Connection) -> Iterator[Finding]:
    from service.engine.opening import open_instrument

    microscope = open_instrument(settings)
    try:
        description, camera = microscope.description, microscope.camera_settings
        devices = ", ".join(description.devices) or description.camera
        yield ok("microscope", f"The microscope opens ({description.driver}: {devices}).", notes=[*description.notes])
        fps, findings = _camera(microscope)
        parent.send(Seen(description, camera, fps))
        yield from findings
        yield from checked("stage", lambda: _stage(settings, microscope))
    finally:
        microscope.close()


def _camera(microscope: LimitedMicroscope) -> tuple[float | None, list[Finding]]:
    """Frames a second, and findings on frames and pixel size."""
    import numpy as np

    description, camera = microscope.description, microscope.camera_settings
    findings: list[Finding] = []
    microscope.start_sequence()
    try:
        frames = []
        begin_s = time.monotonic()
        while time.monotonic() - begin_s < max(_SEQUENCE_S, 3 * camera.exposure_s):
            frame = microscope.next_frame(_FRAME_PATIENCE_S + 2 * camera.exposure_s)
            if frame is None:
                break
            frames.append(frame)
    finally:
        microscope.stop_sequence()
    if len(frames) < 2:
        findings.append(
            error("camera", f"{description.camera} gave {len(frames)} frames.", "Check trigger mode and cable.")
        )
        return None, findings
    fps = (len(frames) - 1) / (frames[-1].time_s - frames[0].time_s)
    lost = frames[-1].index - frames[0].index - len(frames) + 1
    pixels = frames[-1].pixels
    about = {
        "fps": round(fps, 2),
        "exposure_s": camera.exposure_s,
        "shape": [*pixels.shape],
        "bit_depth": description.bit_depth,
        "lowest_adu": int(pixels.min()),
        "highest_adu": int(pixels.max()),
        "lost": lost,
    }
    findings.append(
        ok(
            "camera",
            f"{description.camera} gives {fps:.1f} frames/s of {pixels.shape[1]} x {pixels.shape[0]} px at an exposure "
            f"of {1e3 * camera.exposure_s:g} ms, {description.bit_depth} bits.",
            **about,
        )
    )
    if lost:
        findings.append(
            warning(
                "camera", f"{lost} frames were lost.", "Enlarge microscope.micromanager.buffer_mb, or reduce the ROI."
            )
        )
    if int(pixels.max()) - int(pixels.min()) <= _DARK_SPREAD_ADU:
        findings.append(
            warning(
                "camera", f"All pixels have the count {pixels.max()}.", "Open the shutter of the camera, and check it."
            )
        )
    full = np.count_nonzero(pixels >= 2**description.bit_depth - 1) / pixels.size
    if full > _SATURATED_SHARE:
        findings.append(
            warning("camera", f"{100 * full:.0f} % of the pixels are saturated.", "Reduce light or exposure.")
        )
    if description.pixel_size_um is None:
        findings.append(
            warning(
                "camera",
                "The microscope does not state the pixel size at the sample, so models are not checked against it.",
                "Set a pixel size configuration in Micro-Manager, or pixel_size_um where the driver has it.",
            )
        )
    return fps, findings


def _stage(settings: Settings, microscope: LimitedMicroscope) -> Iterator[Finding]:
    from service.engine.sweep.geometry import axis_of

    description, part = microscope.description, settings.microscope
    if description.focus_stage is None:
        yield warning("stage", "There is no focus drive.", "Live calibration needs one; movies and runs do not.")
        return
    position, limits = microscope.stage_um, microscope.stage_limits
    span = f"{limits.low_um:g} to {limits.high_um:g} µm"
    if not limits.low_um <= position <= limits.high_um:
        yield error(
            "stage",
            f"{description.focus_stage} is at {position:.2f} µm, outside of its soft limits ({span}).",
            "Correct microscope.stage_low_um and stage_high_um, or move it by hand into the range.",
            position_um=position,
        )
    else:
        yield ok(
            "stage",
            f"{description.focus_stage} is at {position:.2f} µm, within its soft limits ({span}).",
            position_um=position,
        )
    if part.driver not in ("simulated", "replay") and not {"stage_low_um", "stage_high_um"} <= part.model_fields_set:
        yield warning(
            "stage",
            f"The soft limits are the defaults ({span}), which know nothing of this objective.",
            "Set microscope.stage_low_um and stage_high_um to the lowest and highest safe position.",
        )
    axis_of(part, description)  # raises when the direction of depth is not known

"""The camera of the Micro-Manager core: its settings, single frames and sequences.

Frames are drained from the core's sequence buffer, whose image numbers are
kept. In continuous mode the core empties an overflowing buffer without an
error, so that only gaps in the numbers show the loss.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Any

from hardware.core_focus import CoreFocus
from hardware.core_session import check_bridge_rate
from hardware.core_values import (
    Popped,
    as_counts,
    core_request,
    leading_number,
    not_read_back,
    pop_in_process,
    pop_over_bridge,
    read_roi,
    snapped_image,
    strings,
)
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import CameraSettings, Frame, MicroscopeError, Roi

__all__ = ["CoreCamera"]

_POLL_S = 0.0005
"""Pause between two looks into an empty buffer: short beside an exposure, long enough to leave the processor free."""

_EXPOSURE_TOLERANCE = 0.01
"""Cameras round the exposure to their line time; 1 % is the most that passes as the value that was set."""


class CoreCamera:
    """The device with the role Core-Camera.

    Parameters
    ----------
    core : callable
        Returns the core; raises when the microscope is closed.
    settings : MicroManagerSettings
        Mode, buffer and the time without frames that is allowed.
    label : str
        Label of the device.
    focus : CoreFocus
        Its position is noted in each frame; it is read when a frame or sequence starts.
    stop_asked : Event
        Set when the sequence was stopped by a call; while it is clear, an ending sequence is an error.

    Attributes
    ----------
    label : str
        As given.
    sensor_shape : tuple of int
        Rows and columns of the whole sensor, unbinned.
    bit_depth : int
        Bits of a count.
    pixel_size_um : float or None
        Of unbinned pixels at the sample; None: the configuration does not state it.

    Raises
    ------
    MicroscopeError
        When the camera gives no grey frames of 8 or 16 bits.
    """

    def __init__(
        self,
        core: Callable[[], Any],
        settings: MicroManagerSettings,
        label: str,
        focus: CoreFocus,
        stop_asked: threading.Event,
    ) -> None:
        self._core = core
        self._settings = settings
        self.label = label
        self._focus = focus
        self._pop: Callable[[Any], Popped | None] = pop_over_bridge() if settings.mode == "bridge" else pop_in_process()
        self._last_frame_s = 0.0
        self._stop_asked = stop_asked
        self._stop_asked.set()
        self._snapping: _Snapping | None = None
        self._read_sensor()

    # ---- settings ----

    def _read_sensor(self) -> None:
        """Read what belongs to the whole sensor; the region becomes that."""
        core = self._core()
        with core_request("read the camera's format"):
            core.clear_roi()
            binning = leading_number(core.get_property(self.label, "Binning"))
            self.sensor_shape = (core.get_image_height() * binning, core.get_image_width() * binning)
            self.bit_depth = int(core.get_image_bit_depth())
            self._exposure_s = float(core.get_exposure()) / 1000
        self.read_pixel_size()
        self._check_format()

    def read_pixel_size(self) -> None:
        """Read the pixel size again, which depends on the objective."""
        core = self._core()
        with core_request("read the pixel size"):
            # The core knows it for the binning in force.
            binning = leading_number(core.get_property(self.label, "Binning"))
            pixel_size_um = float(core.get_pixel_size_um()) / binning
        self.pixel_size_um = pixel_size_um if pixel_size_um > 0 else None

    def read_again(self, binning: int) -> None:
        """Read sensor, format, pixel size and exposure again, after a property of the camera has changed.

        A region of interest stays when the binning is still `binning`; else it would be one of other pixels.

        Raises
        ------
        MicroscopeError
            When the camera gives no grey frames of 8 or 16 bits any more.
        """
        core = self.require_idle("change its properties")
        with core_request("read the region of interest"):
            roi = read_roi(core.get_roi())
        self._read_sensor()
        whole = read_roi(core.get_roi())
        fits = roi.x + roi.width <= whole.width and roi.y + roi.height <= whole.height
        if roi != whole and fits and self.settings.binning == binning:
            with core_request(f"set the region of interest to {_roi_text(roi)}"):
                core.set_roi(roi.x, roi.y, roi.width, roi.height)

    @property
    def settings(self) -> CameraSettings:
        """Settings as the camera reports them."""
        core = self._core()
        with core_request("read the camera's settings"):
            binning = leading_number(core.get_property(self.label, "Binning"))
            roi = read_roi(core.get_roi())
            exposure_s = float(core.get_exposure()) / 1000
        rows, columns = (extent // binning for extent in self.sensor_shape)
        whole = roi == Roi(0, 0, columns, rows)
        return CameraSettings(exposure_s, None if whole else roi, binning)

    def apply(self, settings: CameraSettings) -> CameraSettings:
        """Set binning, ROI and exposure, in this order because each may reset the next; return what the camera reports.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while a sequence runs; ``"not_read_back"`` with the value
            asked and the value reported; ``"settings"`` for a ROI beyond the sensor.
        """
        core = self.require_idle("change the camera settings")
        rows, columns = (extent // settings.binning for extent in self.sensor_shape)
        roi = settings.roi
        if roi is not None and (roi.x < 0 or roi.y < 0 or roi.x + roi.width > columns or roi.y + roi.height > rows):
            raise MicroscopeError(
                "settings",
                f"The region of interest was asked to be {_roi_text(roi)}; at binning {settings.binning} the sensor "
                f"has {columns} x {rows} pixels.",
                "Choose a region within the sensor, in binned pixels.",
            )
        if settings.binning != self.settings.binning:
            self._set_binning(settings.binning)
        with core_request(f"set the region of interest to {_roi_text(roi)}"):
            core.clear_roi()
            if roi is not None:
                core.set_roi(roi.x, roi.y, roi.width, roi.height)
        with core_request(f"set the exposure to {settings.exposure_s} s"):
            core.set_exposure(settings.exposure_s * 1000)
        reported = self.settings
        self._exposure_s = reported.exposure_s
        if not math.isclose(reported.exposure_s, settings.exposure_s, rel_tol=_EXPOSURE_TOLERANCE):
            raise not_read_back(
                "exposure", f"{settings.exposure_s:g} s", f"{reported.exposure_s:g} s", "an exposure that it accepts"
            )
        if reported.binning != settings.binning:
            raise not_read_back("binning", str(settings.binning), str(reported.binning), "a binning that it accepts")
        wanted = None if roi == Roi(0, 0, columns, rows) else roi
        if reported.roi != wanted:
            raise not_read_back(
                "region of interest",
                _roi_text(wanted),
                _roi_text(reported.roi),
                "the region that it reports, or the whole sensor",
            )
        return reported

    # ---- frames ----

    def snap(self) -> Frame:
        """Expose one frame.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while a sequence runs, ``"no_frame"`` when the camera gives none in time.
        """
        core = self.require_idle("take a single frame")
        self._focus.update()
        limit_s = self._frame_limit_s()
        begin_s = time.monotonic()
        # The core has no time-out for this call, which may hang, so it has its own thread.
        self._snapping = _Snapping(core)
        self._snapping.start()
        self._snapping.join(limit_s)
        if self._snapping.is_alive():
            raise self._no_frame(limit_s)
        end_s = time.monotonic()
        with core_request("take a single frame"):
            self._finish_snapping()
            pixels = snapped_image(core)
        middle_s = max(begin_s + self._exposure_s / 2, end_s - self._exposure_s / 2)
        return Frame(as_counts(pixels), 0, middle_s, "software", self._focus.last_um)

    def start(self) -> None:
        """Start continuous exposures into the core's buffer.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while one runs; in bridge mode ``"bridge_rate"``.
        """
        core = self.require_idle("start a sequence")
        self._focus.update()
        # Before the start, because a stop may come from another thread at any moment after it.
        self._stop_asked.clear()
        with core_request("start a sequence"):
            if self._settings.mode == "bridge":
                check_bridge_rate(
                    core.get_image_width(),
                    core.get_image_height(),
                    core.get_bytes_per_pixel(),
                    1000.0 / max(float(core.get_exposure()), 1e-3),
                )
            self._last_frame_s = time.monotonic()
            core.start_continuous_sequence_acquisition(0.0)

    def stop(self) -> None:
        """Stop exposing, from any thread; returns when the exposure that runs has ended. Queued frames stay."""
        core = self._core()
        self._stop_asked.set()
        with core_request("stop the sequence"):
            core.stop_sequence_acquisition()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        core = self._core()
        with core_request("ask whether a sequence runs"):
            return bool(core.is_sequence_running())

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame; None after `timeout_s`, or when the sequence has ended and the buffer is empty.

        Raises
        ------
        MicroscopeError
            ``"no_frame"`` when the sequence runs but the camera has given nothing
            for `frame_timeout_s` beyond two exposures; ``"camera_stopped"`` when
            the sequence has ended although no call stopped it.
        """
        core = self._core()
        deadline_s = time.monotonic() + timeout_s
        while True:
            with core_request("fetch a frame"):
                running = core.is_sequence_running()
                waiting = core.get_remaining_image_count() > 0
                popped = self._pop(core) if waiting else None
            if popped is not None:
                break
            now_s = time.monotonic()
            if running and now_s - self._last_frame_s > self._frame_limit_s():
                raise self._no_frame(now_s - self._last_frame_s)
            if not (running or waiting or self._stop_asked.is_set()):
                raise self._stopped_by_itself()
            if not (running or waiting) or now_s >= deadline_s:
                return None
            time.sleep(_POLL_S)
        pixels, number, arrival_s = popped
        self._last_frame_s = time.monotonic()
        return Frame(as_counts(pixels), number, arrival_s - self._exposure_s / 2, "software", self._focus.last_um)

    # ---- inside ----

    def require_idle(self, purpose: str) -> Any:
        """Return the core when neither a sequence nor an exposure runs.

        Raises
        ------
        MicroscopeError
            ``"busy"`` or ``"no_frame"`` when one of them does.
        """
        core = self._core()
        if self._snapping is not None and self._snapping.is_alive():
            raise MicroscopeError(
                "no_frame",
                f"The camera was asked to {purpose}, but the last exposure has not ended.",
                "Wait, or check the camera's trigger, power and cable and open the microscope again.",
            )
        with core_request(f"{purpose}, because the last exposure failed"):
            self._finish_snapping()
        if self.is_running:
            raise MicroscopeError(
                "busy", f"The camera was asked to {purpose} while a sequence runs.", "Stop the sequence first."
            )
        return core

    def _finish_snapping(self) -> None:
        """Raise the error of an exposure that failed on its own thread, once."""
        snapping, self._snapping = self._snapping, None
        if snapping is not None and snapping.failure is not None:
            raise snapping.failure

    def _set_binning(self, binning: int) -> None:
        core, camera = self._core(), self.label
        with core_request(f"set the binning to {binning}"):
            # Written "2" by most cameras, "2x2" by some.
            allowed = strings(core.get_allowed_property_values(camera, "Binning"))
            word = next((choice for choice in allowed if leading_number(choice) == binning), None)
            if word is not None:
                core.set_property(camera, "Binning", word)
        if word is None:
            raise MicroscopeError(
                "settings",
                f"The binning was asked to be {binning}; {camera} has {', '.join(allowed)}.",
                "Use one of these.",
            )

    def _check_format(self) -> None:
        core = self._core()
        with core_request("read the camera's format"):
            parts, depth = int(core.get_number_of_components()), int(core.get_bytes_per_pixel())
        if parts != 1 or depth not in (1, 2):
            raise MicroscopeError(
                "settings",
                f"The camera gives {parts} components in {depth} bytes a pixel; frames are grey, of 8 or 16 bits.",
                "Set the camera's PixelType to 16bit among the properties.",
            )

    def _frame_limit_s(self) -> float:
        return self._settings.frame_timeout_s + 2 * self._exposure_s

    def _no_frame(self, waited_s: float) -> MicroscopeError:
        return MicroscopeError(
            "no_frame",
            f"The camera {self.label} gave no frame for {waited_s:.1f} s at an exposure of "
            f"{self._exposure_s:g} s; {self._settings.frame_timeout_s:g} s beyond two exposures are allowed.",
            "Check the camera's trigger, power and cable, then open the microscope again.",
        )

    def _stopped_by_itself(self) -> MicroscopeError:
        camera = self.label
        with core_request(f"find {camera}"):
            core = self._core()
            there = camera in strings(core.get_loaded_devices())
            overflowed = there and bool(core.is_buffer_overflowed())
        if overflowed:
            return MicroscopeError(
                "overflow",
                f"The core's sequence buffer of {self._settings.buffer_mb} MB overflowed, and {camera} was stopped.",
                "Give it a larger buffer_mb, or ask for fewer or smaller frames.",
            )
        return MicroscopeError(
            "camera_stopped",
            f"{camera} stopped giving frames without a request to stop."
            if there
            else f"{camera} is no longer among the devices.",
            "Check its power and cable, and that no other program uses it.",
        )


class _Snapping(threading.Thread):
    """One exposure; `failure` is what it raised."""

    def __init__(self, core: Any) -> None:
        super().__init__(name="snap", daemon=True)
        self._core = core
        self.failure: BaseException | None = None

    def run(self) -> None:
        try:
            self._core.snap_image()
        except BaseException as error:  # noqa: BLE001 handed to the thread that waits, or to the next call
            self.failure = error


def _roi_text(roi: Roi | None) -> str:
    return "the whole sensor" if roi is None else f"{roi.width} x {roi.height} pixels at ({roi.x}, {roi.y})"

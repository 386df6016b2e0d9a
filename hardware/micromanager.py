"""A real microscope: the Micro-Manager core, through pycromanager.

Nothing that is set is believed before it is read back: the core accepts an
exposure of 20 s or of -1 ms in silence and keeps the old one. Frames are
drained from the core's sequence buffer, whose image numbers are kept, because
in continuous mode the core empties an overflowing buffer without a word and
only the gaps in the numbers tell.

The core runs in this process by default. In bridge mode it is the one of a
running Micro-Manager, reached over a local connection that carries about
100 MB/s; more is refused when a sequence starts. Bridge mode has not been
tested: it needs a desktop with Micro-Manager.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog

from hardware.core_session import check_bridge_rate, connect_bridge, find_installation, start_core, stop_core
from hardware.core_text import clean_text
from hardware.core_values import (
    Popped,
    as_counts,
    core_speaks,
    device_type,
    leading_number,
    pop_in_process,
    pop_over_bridge,
    read_roi,
    same_value,
    snapped_image,
    strings,
)
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    MicroscopeDescription,
    MicroscopeError,
    Roi,
    StageLimits,
)

__all__ = ["MicroManagerMicroscope"]

_POLL_S = 0.0005
"""Pause between two looks into an empty buffer: short beside an exposure, long enough to leave the processor free."""

_EXPOSURE_TOLERANCE = 0.01
"""Cameras round the exposure to their line time; 1 % is the most that passes as the value that was set."""

_SWITCHED_TYPES = ("shutter", "state device")

_log = structlog.get_logger(__name__)


class MicroManagerMicroscope:
    """Camera, focus drive and light of a Micro-Manager configuration.

    The light follows the core's auto shutter (open while the camera exposes)
    until `set_light` opens or closes it; from then on it stays as it is told.

    Parameters
    ----------
    settings : MicroManagerSettings
        How Micro-Manager is reached and what is set.

    Raises
    ------
    MicroscopeError
        When the core cannot be started, there is no camera, or a property cannot be set.
    """

    def __init__(self, settings: MicroManagerSettings) -> None:
        self._settings = settings
        self._core: Any = None
        self._pop: Callable[[Any], Popped | None]
        self._devices: dict[str, str] = {}
        self._stage: str | None = None
        self._stage_um = 0.0
        self._last_frame_s = 0.0
        self._exposure_s = 0.0
        self._stop_asked = True
        # Autofocus devices that were switched off here.
        self._held_focus: list[str] = []
        self._snapping: _Snapping | None = None
        self._guard = threading.RLock()
        if settings.mode == "bridge":
            self._core = connect_bridge(settings.port)
            self._pop = pop_over_bridge()
        else:
            app_path, config_file = find_installation(settings.app_path, settings.config_file)
            self._core = start_core(app_path, config_file, settings.buffer_mb)
            self._pop = pop_in_process()
        try:
            self._description = self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> MicroscopeDescription:
        core, settings = self._core, self._settings
        with core_speaks("read the list of devices"):
            labels = strings(core.get_loaded_devices())
            self._devices = {label: device_type(core, label) for label in labels}
        for label, timeout_s in settings.device_timeout_s.items():
            self._known(label)
            with core_speaks(f"set the time-out of {label} to {timeout_s} s"):
                core.set_device_timeout_ms(label, round(timeout_s * 1000))
        for label, properties in settings.properties.items():
            for name, value in properties.items():
                self._set_property(label, name, str(value))
        # Only now: the properties may change the roles (those of the device Core).
        camera, stage = self._roles()
        if not camera:
            raise MicroscopeError(
                "no_camera",
                f"No device has the role Core-Camera; the devices are {', '.join(labels)}.",
                "Choose the default camera in Micro-Manager's configuration wizard, or set it in the settings: "
                'properties.Core.Camera = "LABEL".',
            )
        self._stage = stage or None
        direction = 0
        if self._stage is not None:
            with core_speaks(f"read the direction of {self._stage}"):
                direction = int(core.get_focus_direction(self._stage))
        with core_speaks("read the camera's format"):
            core.clear_roi()
            binning = leading_number(core.get_property(camera, "Binning"))
            shape = (core.get_image_height() * binning, core.get_image_width() * binning)
            bit_depth = int(core.get_image_bit_depth())
            # The core knows the pixel size for the binning in force.
            pixel_size_um = float(core.get_pixel_size_um()) / binning
            self._exposure_s = float(core.get_exposure()) / 1000
        self._check_format()
        if self._stage is not None:
            self._stage_um = self.stage_um
        return MicroscopeDescription(
            driver="micromanager",
            camera=camera,
            focus_stage=self._stage,
            sensor_shape=shape,
            bit_depth=bit_depth,
            pixel_size_um=pixel_size_um if pixel_size_um > 0 else None,
            devices=dict(self._devices),
            focus_direction=direction,
        )

    # ---- description and settings ----

    @property
    def description(self) -> MicroscopeDescription:
        """What is connected; the pixel size is that of unbinned pixels."""
        return self._description

    @property
    def camera_settings(self) -> CameraSettings:
        """Settings as the camera reports them."""
        core = self._running_core()
        with core_speaks("read the camera's settings"):
            binning = leading_number(core.get_property(self._description.camera, "Binning"))
            roi = read_roi(core.get_roi())
            exposure_s = float(core.get_exposure()) / 1000
        rows, columns = (extent // binning for extent in self._description.sensor_shape)
        whole = roi == Roi(0, 0, columns, rows)
        return CameraSettings(exposure_s, None if whole else roi, binning)

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """Set binning, ROI and exposure, in the order in which cameras forget; return what the camera reports.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while a sequence runs; ``"not_read_back"`` with the value
            asked and the value reported; ``"settings"`` for a ROI beyond the sensor.
        """
        core = self._idle("change the camera settings")
        rows, columns = (extent // settings.binning for extent in self._description.sensor_shape)
        roi = settings.roi
        if roi is not None and (roi.x < 0 or roi.y < 0 or roi.x + roi.width > columns or roi.y + roi.height > rows):
            raise MicroscopeError(
                "settings",
                f"The region of interest was asked to be {_worded(roi)}; at binning {settings.binning} the sensor has "
                f"{columns} x {rows} pixels.",
                "Choose a region within the sensor, in binned pixels.",
            )
        if settings.binning != self.camera_settings.binning:
            self._set_binning(settings.binning)
        with core_speaks(f"set the region of interest to {_worded(roi)}"):
            core.clear_roi()
            if roi is not None:
                core.set_roi(roi.x, roi.y, roi.width, roi.height)
        with core_speaks(f"set the exposure to {settings.exposure_s} s"):
            core.set_exposure(settings.exposure_s * 1000)
        reported = self.camera_settings
        self._exposure_s = reported.exposure_s
        if not math.isclose(reported.exposure_s, settings.exposure_s, rel_tol=_EXPOSURE_TOLERANCE):
            raise _not_read_back(
                "exposure", f"{settings.exposure_s:g} s", f"{reported.exposure_s:g} s", "an exposure that it accepts"
            )
        if reported.binning != settings.binning:
            raise _not_read_back("binning", str(settings.binning), str(reported.binning), "a binning that it accepts")
        wanted = None if roi == Roi(0, 0, columns, rows) else roi
        if reported.roi != wanted:
            raise _not_read_back(
                "region of interest",
                _worded(wanted),
                _worded(reported.roi),
                "the region that it reports, or the whole sensor",
            )
        return reported

    @property
    def frame_period_s(self) -> float | None:
        """Not known: the core does not ask the camera."""
        return None

    @property
    def truth(self) -> None:
        """Not known."""
        return None

    # ---- frames ----

    def snap(self) -> Frame:
        """Expose one frame.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while a sequence runs, ``"no_frame"`` when the camera gives none in time.
        """
        core = self._idle("take a single frame")
        if self._stage is not None:
            self._stage_um = self.stage_um
        limit_s = self._frame_limit_s()
        begin_s = time.monotonic()
        # The core cannot be told to give up, so the call that may hang has its own thread.
        self._snapping = _Snapping(core)
        self._snapping.start()
        self._snapping.join(limit_s)
        if self._snapping.is_alive():
            raise self._no_frame(limit_s)
        end_s = time.monotonic()
        with core_speaks("take a single frame"):
            self._finish_snapping()
            pixels = snapped_image(core)
        middle_s = max(begin_s + self._exposure_s / 2, end_s - self._exposure_s / 2)
        return Frame(as_counts(pixels), 0, middle_s, "software", self._stage_um)

    def start_sequence(self) -> None:
        """Start continuous exposures into the core's buffer.

        Raises
        ------
        MicroscopeError
            ``"busy"`` while one runs; in bridge mode ``"bridge_rate"``.
        """
        core = self._idle("start a sequence")
        if self._stage is not None:
            self._stage_um = self.stage_um
        # Before the start, because a stop may come from another thread at any moment after it.
        self._stop_asked = False
        with core_speaks("start a sequence"):
            if self._settings.mode == "bridge":
                check_bridge_rate(
                    core.get_image_width(),
                    core.get_image_height(),
                    core.get_bytes_per_pixel(),
                    1000.0 / max(float(core.get_exposure()), 1e-3),
                )
            self._last_frame_s = time.monotonic()
            core.start_continuous_sequence_acquisition(0.0)

    def stop_sequence(self) -> None:
        """Stop exposing, from any thread; returns when the exposure that runs has ended. Queued frames stay."""
        core = self._running_core()
        self._stop_asked = True
        with core_speaks("stop the sequence"):
            core.stop_sequence_acquisition()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        core = self._core
        if core is None:
            return False
        with core_speaks("ask whether a sequence runs"):
            return bool(core.is_sequence_running())

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame; None after `timeout_s`, or when the sequence has ended and the buffer is empty.

        Raises
        ------
        MicroscopeError
            ``"no_frame"`` when the sequence runs but the camera has given nothing
            for `frame_timeout_s` beyond two exposures; ``"camera_stopped"`` when
            the sequence has ended although nobody stopped it.
        """
        core = self._running_core()
        deadline_s = time.monotonic() + timeout_s
        while True:
            with core_speaks("fetch a frame"):
                running = core.is_sequence_running()
                waiting = core.get_remaining_image_count() > 0
                popped = self._pop(core) if waiting else None
            if popped is not None:
                break
            now_s = time.monotonic()
            if running and now_s - self._last_frame_s > self._frame_limit_s():
                raise self._no_frame(now_s - self._last_frame_s)
            if not (running or waiting or self._stop_asked):
                raise self._stopped_by_itself()
            if not (running or waiting) or now_s >= deadline_s:
                return None
            time.sleep(_POLL_S)
        pixels, number, arrival_s = popped
        self._last_frame_s = time.monotonic()
        return Frame(as_counts(pixels), number, arrival_s - self._exposure_s / 2, "software", self._stage_um)

    # ---- stage ----

    @property
    def stage_um(self) -> float:
        """Position of the focus drive as it reports it, µm."""
        core = self._running_core()
        stage = self._need_stage()
        with core_speaks(f"read the position of {stage}"):
            return float(core.get_position(stage))

    def move_stage(self, stage_um: float) -> float:
        """Move the focus drive, wait, and return the position read back, µm.

        Raises
        ------
        MicroscopeError
            ``"not_arrived"`` when the drive stands elsewhere; ``"device"`` when it
            refuses or does not finish within its time-out; ``"continuous_focus"``
            while another device moves it to hold focus.
        """
        core = self._running_core()
        stage = self._need_stage()
        if self.continuous_focus:
            raise MicroscopeError(
                "continuous_focus",
                f"{stage} was asked to go to {stage_um:g} µm while continuous focus is on, which moves it back.",
                "Nothing was moved. Switch continuous focus off first, at the microscope or in Micro-Manager.",
            )
        with core_speaks(f"move {stage} to {stage_um:g} µm"):
            core.set_position(stage, stage_um)
            core.wait_for_device(stage)
            settle_s = time.monotonic() + float(core.get_device_timeout_ms(stage)) / 1000
        # Some drives report that they are done before they are.
        while True:
            self._stage_um = self.stage_um
            if abs(self._stage_um - stage_um) <= self._settings.stage_tolerance_um:
                return self._stage_um
            if time.monotonic() > settle_s:
                raise MicroscopeError(
                    "not_arrived",
                    f"{stage} was sent to {stage_um:g} µm and reports {self._stage_um:g} µm; "
                    f"the tolerance is {self._settings.stage_tolerance_um:g} µm.",
                    "Check that the drive is not blocked or moved by hand, or set a greater tolerance.",
                )
            time.sleep(10 * _POLL_S)

    @property
    def stage_limits(self) -> StageLimits:
        """No limits of its own: the core does not know them."""
        return StageLimits(-math.inf, math.inf, math.inf)

    @property
    def continuous_focus(self) -> bool:
        """Whether any autofocus device holds focus, also one that has not the role Core-AutoFocus.

        A focus drive that is the offset of the continuous focus may move while that is on, so it does not count.
        """
        return bool(self._holding_focus())

    def set_continuous_focus(self, on: bool) -> None:
        """Switch off all autofocus devices that hold focus; or on again those that were switched off, or that in role.

        Raises
        ------
        MicroscopeError
            ``"not_read_back"``; ``"settings"`` when there is no autofocus device to switch on.
        """
        core = self._running_core()
        holding = self._holding_focus()
        if on == bool(holding):
            return
        with core_speaks("find the autofocus device"):
            role = str(core.get_auto_focus_device())
        devices = holding or self._held_focus or ([role] if role else [])
        if not devices:
            raise MicroscopeError(
                "settings",
                "Continuous focus was asked for, but no device has the role Core-AutoFocus.",
                "Choose one in Micro-Manager's configuration wizard.",
            )
        with core_speaks(f"switch continuous focus of {', '.join(devices)} {_on(on)}"):
            for device in devices:
                core.set_auto_focus_device(device)
                core.enable_continuous_focus(on)
            core.set_auto_focus_device(role)
        self._held_focus = [] if on else devices
        if self.continuous_focus != on:
            raise _not_read_back("continuous focus", _on(on), _on(not on), "a position at which it can lock")

    def _holding_focus(self) -> list[str]:
        """Autofocus devices that hold focus now. The core asks only the one in role, so each has it for a moment."""
        core = self._running_core()
        devices = [label for label, kind in self._devices.items() if kind == "autofocus"]
        if not devices:
            return []
        with core_speaks("ask whether continuous focus is on"):
            if self._stage is not None and core.is_continuous_focus_drive(self._stage):
                return []
            role = core.get_auto_focus_device()
            holding = []
            for device in devices:
                core.set_auto_focus_device(device)
                if core.is_continuous_focus_enabled():
                    holding.append(device)
            core.set_auto_focus_device(role)
        return holding

    # ---- light ----

    @property
    def light(self) -> LightState:
        """Shutter and channel as the core reports them."""
        core = self._running_core()
        group = self._settings.channel_group
        with core_speaks("read the light's state"):
            shutter = core.get_shutter_device()
            is_open = bool(core.get_shutter_open()) if shutter else None
            channels = tuple(strings(core.get_available_configs(group)))
            channel = core.get_current_config(group) if channels else ""
            automatic = bool(shutter) and bool(core.get_auto_shutter())
        return LightState(is_open, channel or None, channels, automatic)

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Choose a channel, then open or close the shutter; both are read back.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a channel that does not exist or a missing shutter; ``"not_read_back"``.
        """
        core = self._running_core()
        group = self._settings.channel_group
        if channel is not None:
            channels = self.light.channels
            if channel not in channels:
                raise MicroscopeError(
                    "settings",
                    f"Channel {channel} was asked for; the group {group} has {', '.join(channels) or 'no presets'}.",
                    "Choose one of these, or name another group as channel_group.",
                )
            with core_speaks(f"switch the light to {channel}"):
                core.set_config(group, channel)
                self._wait_for_switches()
            self._keep_roles(f"The preset {channel} of {group}")
        if shutter_open is not None:
            if self.light.shutter_open is None:
                raise MicroscopeError(
                    "settings",
                    "The shutter was asked to switch, but the configuration has no shutter.",
                    "Choose the default shutter in Micro-Manager's configuration wizard.",
                )
            with core_speaks("switch the shutter"):
                core.set_auto_shutter(False)
                core.set_shutter_open(shutter_open)
                self._wait_for_switches()
        state = self.light
        if channel is not None and state.channel != channel:
            raise _not_read_back("channel", channel, str(state.channel), "a channel whose devices are connected")
        if shutter_open is not None and state.shutter_open != shutter_open:
            raise _not_read_back("shutter", _opened(shutter_open), _opened(state.shutter_open), "a shutter that works")
        return state

    # ---- end ----

    def stop(self) -> bool:
        """Halt stage and sequence, from any thread; True when the core confirms both."""
        core = self._core
        if core is None:
            return True
        self._stop_asked = True
        confirmed = True
        if self._stage is not None:
            try:
                core.stop(self._stage)
            except Exception as error:  # noqa: BLE001 the core raises many kinds; the answer is "unconfirmed"
                _log.warning("stage_not_stopped", stage=self._stage, error=clean_text(str(error)))
                # A drive that cannot be stopped may still be known to stand.
                confirmed = False
                with contextlib.suppress(Exception):
                    confirmed = not core.device_busy(self._stage)
        try:
            if core.is_sequence_running():
                core.stop_sequence_acquisition()
            return confirmed and not core.is_sequence_running()
        except Exception as error:  # noqa: BLE001 as above
            _log.warning("camera_not_stopped", error=clean_text(str(error)))
            return False

    def close(self) -> None:
        """Stop, close the shutter, unload all devices. May be called twice."""
        with self._guard:
            core = self._core
            if core is None:
                return
            self.stop()
            try:
                if core.get_shutter_device():
                    core.set_shutter_open(False)
            except Exception as error:  # noqa: BLE001 the devices are released all the same
                _log.warning("shutter_not_closed", error=clean_text(str(error)))
            self._core = None
            if self._settings.mode == "in-process":
                with core_speaks("release the devices"):
                    stop_core()

    # ---- inside ----

    def _running_core(self) -> Any:
        core = self._core
        if core is None:
            raise MicroscopeError("closed", "The microscope has been closed.", "Open it again.")
        return core

    def _idle(self, purpose: str) -> Any:
        core = self._running_core()
        if self._snapping is not None and self._snapping.is_alive():
            raise MicroscopeError(
                "no_frame",
                f"The camera was asked to {purpose} and still owes the frame before.",
                "Wait, or check the camera's trigger, power and cable and open the microscope again.",
            )
        with core_speaks(f"{purpose}, because the frame before failed"):
            self._finish_snapping()
        if self.is_running:
            raise MicroscopeError(
                "busy", f"The camera was asked to {purpose} while a sequence runs.", "Stop the sequence first."
            )
        return core

    def _finish_snapping(self) -> None:
        """Raise what a call that is over raised on its own thread, once."""
        snapping, self._snapping = self._snapping, None
        if snapping is not None and snapping.failure is not None:
            raise snapping.failure

    def _roles(self) -> tuple[str, str]:
        """Camera and focus drive of the core's roles; empty where there is none."""
        with core_speaks("read the roles of the devices"):
            return str(self._core.get_camera_device()), str(self._core.get_focus_device())

    def _keep_roles(self, changer: str) -> None:
        """Give the roles back to the devices that were described when the microscope was opened.

        Raises
        ------
        MicroscopeError
            When they had been given to others: soft limits and settings are those of the devices described.
        """
        camera, stage = self._description.camera, self._stage or ""
        now = self._roles()
        if now == (camera, stage):
            return
        with core_speaks("give the roles back"):
            self._core.set_camera_device(camera)
            self._core.set_focus_device(stage)
        raise MicroscopeError(
            "settings",
            f"{changer} makes {now[0] or 'no device'} the camera and {now[1] or 'no device'} the focus drive; the "
            f"microscope was opened with {camera} and {stage or 'no focus drive'}, and its limits are theirs.",
            "Take Core-Camera and Core-Focus out of it. The roles have been given back; its other devices were set.",
        )

    def _need_stage(self) -> str:
        if self._stage is None:
            drives = ", ".join(label for label, kind in self._devices.items() if kind == "focus drive")
            raise MicroscopeError(
                "no_stage",
                f"The focus drive was asked for, but no device has the role Core-Focus (there are {drives or 'none'}).",
                "Choose the default focus stage in Micro-Manager's configuration wizard, or set it in the settings: "
                'properties.Core.Focus = "LABEL".',
            )
        return self._stage

    def _known(self, label: str) -> None:
        if label not in self._devices:
            raise MicroscopeError(
                "settings",
                f"Device {label} was named in the settings; the configuration has {', '.join(self._devices)}.",
                "Use one of these labels.",
            )

    def _set_property(self, label: str, name: str, value: str) -> None:
        self._known(label)
        core = self._core
        with core_speaks(f"read the properties of {label}"):
            names = strings(core.get_device_property_names(label))
            allowed = strings(core.get_allowed_property_values(label, name)) if name in names else []
        if name not in names:
            raise MicroscopeError(
                "settings",
                f"Property {name} of {label} was named in the settings; {label} has {', '.join(names)}.",
                "Use one of these properties.",
            )
        if allowed and not any(same_value(value, choice) for choice in allowed):
            raise MicroscopeError(
                "settings",
                f"Property {name} of {label} was asked to be {value}; it may be {', '.join(allowed)}.",
                "Use one of these values.",
            )
        with core_speaks(f"set property {name} of {label} to {value}"):
            core.set_property(label, name, value)
            core.wait_for_device(label)
            reported = str(core.get_property(label, name))
        value = clean_text(value)
        if not same_value(value, reported):
            raise _not_read_back(f"property {name} of {label}", value, reported, "a value that the device keeps")

    def _set_binning(self, binning: int) -> None:
        core, camera = self._core, self._description.camera
        with core_speaks(f"set the binning to {binning}"):
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
        core = self._core
        with core_speaks("read the camera's format"):
            parts, depth = int(core.get_number_of_components()), int(core.get_bytes_per_pixel())
        if parts != 1 or depth not in (1, 2):
            raise MicroscopeError(
                "settings",
                f"The camera gives {parts} components in {depth} bytes a pixel; frames are grey, of 8 or 16 bits.",
                "Set the camera's PixelType to 16bit among the properties.",
            )

    def _wait_for_switches(self) -> None:
        for label, kind in self._devices.items():
            if kind in _SWITCHED_TYPES:
                self._core.wait_for_device(label)

    def _frame_limit_s(self) -> float:
        return self._settings.frame_timeout_s + 2 * self._exposure_s

    def _no_frame(self, waited_s: float) -> MicroscopeError:
        return MicroscopeError(
            "no_frame",
            f"The camera {self._description.camera} gave no frame for {waited_s:.1f} s at an exposure of "
            f"{self._exposure_s:g} s; {self._settings.frame_timeout_s:g} s beyond two exposures are allowed.",
            "Check the camera's trigger, power and cable, then open the microscope again.",
        )

    def _stopped_by_itself(self) -> MicroscopeError:
        camera = self._description.camera
        with core_speaks(f"find {camera}"):
            there = camera in strings(self._core.get_loaded_devices())
            overflowed = there and bool(self._core.is_buffer_overflowed())
        if overflowed:
            return MicroscopeError(
                "overflow",
                f"The core's sequence buffer of {self._settings.buffer_mb} MB overflowed, and {camera} was stopped.",
                "Give it a larger buffer_mb, or ask for fewer or smaller frames.",
            )
        return MicroscopeError(
            "camera_stopped",
            f"{camera} stopped giving frames, and nobody had asked it to."
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


def _on(state: bool) -> str:
    return "on" if state else "off"


def _worded(roi: Roi | None) -> str:
    return "the whole sensor" if roi is None else f"{roi.width} x {roi.height} pixels at ({roi.x}, {roi.y})"


def _opened(state: bool | None) -> str:
    return {True: "open", False: "closed", None: "absent"}[state]


def _not_read_back(what: str, asked: str, reported: str, choose: str) -> MicroscopeError:
    return MicroscopeError(
        "not_read_back",
        f"The {what} was asked to be {asked}, but the microscope reports {reported}.",
        f"Choose {choose}.",
    )

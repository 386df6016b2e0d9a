"""A real microscope: the Micro-Manager core, through pycromanager.

No value that is set is taken as set before it is read back: the core accepts an
exposure of 20 s or of -1 ms without an error and keeps the old one.

The core runs in this process by default. In bridge mode it is the one of a
running Micro-Manager, reached over a local connection that carries about
100 MB/s; more is refused when a sequence starts. Bridge mode has not been
tested: it needs a desktop with Micro-Manager.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import structlog

from hardware.core_camera import CoreCamera
from hardware.core_devices import CoreDevices
from hardware.core_focus import CoreFocus
from hardware.core_light import CoreLight
from hardware.core_properties import CoreProperties
from hardware.core_session import connect_bridge, find_installation, start_core, stop_core
from hardware.core_text import clean_text
from hardware.core_values import core_request
from hardware.core_xy import CoreXY
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    MicroscopeDescription,
    MicroscopeError,
    StageLimits,
    XYLimits,
)
from hardware.properties import DeviceProperty, PresetGroup, PropertySetting

__all__ = ["MicroManagerMicroscope"]

_log = structlog.get_logger(__name__)


class MicroManagerMicroscope:
    """Camera, focus drive, XY stage and light of a Micro-Manager configuration.

    The light follows the core's auto shutter (open while the camera exposes)
    until `set_light` opens or closes it; from then on it stays as it was set.

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
        self._stage: str | None = None
        self._xy: CoreXY | None = None
        self._stop_asked = threading.Event()
        self._guard = threading.RLock()
        if settings.mode == "bridge":
            self._core = connect_bridge(settings.port)
        else:
            app_path, config_file = find_installation(settings.app_path, settings.config_file)
            self._core = start_core(app_path, config_file, settings.buffer_mb)
        try:
            self._set_up()
        except BaseException:
            self.close()
            raise

    def _set_up(self) -> None:
        core, settings = self._running_core, self._settings
        self._devices = CoreDevices(core)
        self._devices.apply(settings)
        # Only now: the properties may change the roles (those of the device Core).
        camera, stage = self._devices.roles()
        if not camera:
            raise MicroscopeError(
                "no_camera",
                f"No device has the role Core-Camera; the devices are {', '.join(self._devices.kinds)}.",
                "Choose the default camera in Micro-Manager's configuration wizard, or set it in the settings: "
                'properties.Core.Camera = "LABEL".',
            )
        self._stage = stage or None
        self._focus = CoreFocus(core, self._devices, settings, self._stage)
        self._xy = xy = CoreXY(core, settings.stage_tolerance_um)
        self._camera = CoreCamera(core, settings, camera, self._focus, self._stop_asked)
        self._properties = CoreProperties(core, self._devices)
        self._light = CoreLight(core, self._devices, self._properties, settings.channel_group)
        self._focus.update()
        self._description = MicroscopeDescription(
            driver="micromanager",
            camera=camera,
            focus_stage=self._stage,
            sensor_shape=self._camera.sensor_shape,
            bit_depth=self._camera.bit_depth,
            pixel_size_um=self._camera.pixel_size_um,
            devices=dict(self._devices.kinds),
            focus_direction=self._focus.direction,
            xy_stage=xy.stage,
        )

    @property
    def description(self) -> MicroscopeDescription:
        """Driver and devices; the pixel size is that of unbinned pixels. Properties and presets may change it."""
        return self._description

    # ---- camera ----

    @property
    def camera_settings(self) -> CameraSettings:
        """Settings as the camera reports them."""
        return self._camera.settings

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """Set binning, ROI and exposure; see `CoreCamera.apply`."""
        return self._camera.apply(settings)

    @property
    def frame_period_s(self) -> float | None:
        """Not known: the core does not read it from the camera."""
        return None

    @property
    def truth(self) -> None:
        """Not known."""
        return None

    def snap(self) -> Frame:
        """Expose one frame; see `CoreCamera.snap`."""
        return self._camera.snap()

    def start_sequence(self) -> None:
        """Start continuous exposures into the core's buffer; see `CoreCamera.start`."""
        self._camera.start()

    def stop_sequence(self) -> None:
        """Stop exposing, from any thread; returns when the exposure that runs has ended. Queued frames stay."""
        self._camera.stop()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        return self._core is not None and self._camera.is_running

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame; see `CoreCamera.next_frame`."""
        return self._camera.next_frame(timeout_s)

    # ---- focus ----

    @property
    def stage_um(self) -> float:
        """Position of the focus drive as it reports it, µm."""
        return self._focus.read()

    def move_stage(self, stage_um: float) -> float:
        """Move the focus drive, wait, and return the position read back, µm; see `CoreFocus.move`."""
        return self._focus.move(stage_um)

    @property
    def stage_limits(self) -> StageLimits:
        """None: the core states no limits."""
        return StageLimits(-math.inf, math.inf, math.inf)

    @property
    def focus_drives(self) -> dict[str, StageLimits | None]:
        """All focus drives; the core states no limits."""
        return dict.fromkeys(self._devices.of_kind("focus drive"))

    def choose_focus_drive(self, label: str) -> None:
        """Give the role Core-Focus to another focus drive; see `CoreFocus.choose`."""
        self._focus.choose(label)
        self._stage = label
        self._description = replace(self._description, focus_stage=label, focus_direction=self._focus.direction)

    @property
    def xy_um(self) -> tuple[float, float]:
        """Position of the XY stage as it reports it, µm."""
        return self._required_xy.read()

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Move the XY stage, wait, and return the position read back, µm; see `CoreXY.move`."""
        return self._required_xy.move(x_um, y_um)

    @property
    def xy_limits(self) -> XYLimits | None:
        """None: the core states no limits."""
        return None

    @property
    def continuous_focus(self) -> bool:
        """Whether any autofocus device holds focus, also one that has not the role Core-AutoFocus."""
        return bool(self._focus.holding_devices())

    def set_continuous_focus(self, on: bool) -> None:
        """Switch continuous focus on or off; see `CoreFocus.set_continuous_focus`."""
        self._focus.set_continuous_focus(on)

    # ---- light ----

    @property
    def light(self) -> LightState:
        """Shutter and channel as the core reports them."""
        return self._light.state

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Choose a channel, then open or close the shutter; both are read back.

        Raises
        ------
        MicroscopeError
            ``"settings"`` for a channel that does not exist, a missing shutter, or a preset that changes the roles of
            camera and focus drive; ``"not_read_back"``.
        """
        if channel is not None:
            self._light.switch_channel(channel)
            changer = f"The preset {channel} of {self._settings.channel_group}"
            self._devices.restore_roles(self._description.camera, self._stage or "", changer)
        if shutter_open is not None:
            self._light.switch_shutter(shutter_open)
        return self._light.check(shutter_open, channel)

    # ---- properties and presets ----

    def properties(self, device: str | None = None) -> tuple[DeviceProperty, ...]:
        """Properties of one device or of all; see `CoreProperties.read`."""
        return self._properties.read(device)

    def read_property(self, device: str, name: str) -> DeviceProperty:
        """One property."""
        return self._properties.get(device, name)

    def set_property(self, device: str, name: str, value: str) -> DeviceProperty:
        """Set a property and read it back; see `CoreProperties.set`.

        Raises
        ------
        MicroscopeError
            Also ``"busy"`` for a property of the camera while a sequence runs, and when frames would no longer be grey.
        """
        before = self._properties.get(device, name)
        with self._described_again([before]):
            return self._properties.set(device, name, value)

    @property
    def trigger(self) -> dict[str, str]:
        """Properties of the camera for trigger and strobe; see `CoreProperties.trigger_of`."""
        return self._properties.trigger_of(self._description.camera)

    @property
    def preset_groups(self) -> tuple[PresetGroup, ...]:
        """The configuration groups."""
        return self._properties.groups

    def preset_settings(self, group: str, preset: str) -> tuple[PropertySetting, ...]:
        """What a preset sets; see `CoreProperties.settings`."""
        return self._properties.settings(group, preset)

    def apply_preset(self, group: str, preset: str) -> None:
        """Set a preset; see `CoreProperties.apply`.

        Raises
        ------
        MicroscopeError
            As `set_property`.
        """
        settings = self._properties.settings(group, preset)
        with self._described_again([self._properties.get(each.device, each.name) for each in settings]):
            self._properties.apply(group, preset)

    @contextlib.contextmanager
    def _described_again(self, before: list[DeviceProperty]) -> Iterator[None]:
        """Describe the microscope as the block leaves it; when its camera cannot be used then, put the properties back.

        Parameters
        ----------
        before : list of DeviceProperty
            What the block sets, as it was.
        """
        camera = self._camera
        is_camera = any(each.device == camera.label for each in before)
        if is_camera:
            camera.require_idle("change its properties")
        binning = camera.settings.binning
        yield
        try:
            if is_camera:
                camera.read_again(binning)
            else:
                camera.read_pixel_size()
        except MicroscopeError as error:
            after = self._properties.put_back(before, error)
            if is_camera:
                camera.read_again(binning)
            raise after from error
        self._description = replace(
            self._description,
            sensor_shape=camera.sensor_shape,
            bit_depth=camera.bit_depth,
            pixel_size_um=camera.pixel_size_um,
        )

    # ---- end ----

    def stop(self) -> bool:
        """Halt stages and sequence, from any thread; True when the core confirms all of them."""
        core = self._core
        if core is None:
            return True
        self._stop_asked.set()
        # A core that failed to open has no stages yet.
        stages = (self._stage, None if self._xy is None else self._xy.stage)
        stopped = [_is_stopped(core, stage) for stage in stages if stage is not None]
        confirmed = all(stopped)
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
                with core_request("release the devices"):
                    stop_core()

    def _running_core(self) -> Any:
        core = self._core
        if core is None:
            raise MicroscopeError("closed", "The microscope has been closed.", "Open it again.")
        return core

    @property
    def _required_xy(self) -> CoreXY:
        self._running_core()
        assert self._xy is not None  # noqa: S101  made when the microscope was opened
        return self._xy


def _is_stopped(core: Any, stage: str) -> bool:
    """Halt one stage; whether it stands still."""
    try:
        core.stop(stage)
    except Exception as error:  # noqa: BLE001 the core raises many kinds; each means "not confirmed"
        _log.warning("stage_not_stopped", stage=stage, error=clean_text(str(error)))
        # A drive that refuses to stop may report that it does not move.
        with contextlib.suppress(Exception):
            return not core.device_busy(stage)
        return False
    return True

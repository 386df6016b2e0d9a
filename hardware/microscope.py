"""The interface of a microscope: one camera, one focus drive, one XY stage, one light, and the devices' properties.

Every driver implements the `Microscope` Protocol; the real-time engine and the
calibration use nothing else. Calls block, and are made by one owner at a time.
`stop` and `stop_sequence` may be called from any thread at any moment, also
while another call blocks, and so may `description`, `stage_limits` and
`xy_limits`, which are replaced as a whole. Stages may be moved while a sequence runs, from
another thread than the one that fetches the frames.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

from bathyscope_errors import BathyscopeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from hardware.properties import DeviceProperty, PresetGroup, PropertySetting

__all__ = [
    "CameraSettings",
    "Frame",
    "LightState",
    "Microscope",
    "MicroscopeDescription",
    "MicroscopeError",
    "Roi",
    "StageLimits",
    "Truth",
    "XYLimits",
]

Truth: TypeAlias = "Callable[[int], NDArray[np.float64]]"
"""Image number to the emitters in the middle of that exposure, shape (N, 4): id, x_um, y_um, z_um.

x_um and y_um count from the centre of the frame's top-left pixel. The numbers of lost frames are allowed.
"""


class MicroscopeError(BathyscopeError):
    """The microscope refused, failed or does not respond.

    Parameters
    ----------
    cause : str
        Short machine-readable name, for example ``"stage_limit"``,
        ``"no_frame"``, ``"device_interface"``, ``"not_read_back"``.
    problem : str
        The value involved and the rule that it breaks, or what happened.
    remedy : str
        What the user can do about it.

    Attributes
    ----------
    kind : str
        ``"microscope:"`` and the cause.
    """

    def __init__(self, cause: str, problem: str, remedy: str) -> None:
        super().__init__(problem, remedy)
        self.kind = f"microscope:{cause}"

    @property
    def cause(self) -> str:
        """The kind without the word microscope."""
        return self.kind.partition(":")[2]


@dataclass(frozen=True, slots=True)
class Frame:
    """One exposure.

    Attributes
    ----------
    pixels : ndarray of uint16, shape (H, W)
        Camera counts (ADU). Row 0 is the top.
    index : int
        The camera's own image number, from 0 at the start of the sequence; gaps are lost frames.
    time_s : float
        Middle of the exposure on the monotonic clock (`time.monotonic`), seconds.
    time_source : str
        Where `time_s` came from: ``"camera"``, ``"software"``, ``"recording"``, ``"simulation"``.
    stage_um : float
        Focus drive at the time of the exposure, µm.
    """

    pixels: NDArray[np.uint16]
    index: int
    time_s: float
    time_source: str
    stage_um: float


@dataclass(frozen=True, slots=True)
class Roi:
    """A rectangle on the sensor, in binned pixels: left, top, width, height."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class CameraSettings:
    """Exposure (s), region of interest (None: the whole sensor) and binning."""

    exposure_s: float
    roi: Roi | None = None
    binning: int = 1


@dataclass(frozen=True, slots=True)
class StageLimits:
    """Soft limits of one axis of a stage: lowest and highest position and greatest step, µm."""

    low_um: float
    high_um: float
    max_step_um: float


@dataclass(frozen=True, slots=True)
class XYLimits:
    """Soft limits of the two axes of an XY stage."""

    x: StageLimits
    y: StageLimits


@dataclass(frozen=True, slots=True)
class LightState:
    """Shutter (None: there is none), active channel (None: none set) and the channels to choose from.

    `automatic`: the shutter opens by itself for each exposure, until `set_light` opens or closes it.
    """

    shutter_open: bool | None
    channel: str | None
    channels: tuple[str, ...] = ()
    automatic: bool = False


@dataclass(frozen=True, slots=True)
class MicroscopeDescription:
    """What is connected: driver, device labels, sensor (H, W), bit depth, pixel size at the sample (µm or None).

    `focus_stage`, `xy_stage`: label of the device; None: there is none.
    `focus_direction`: +1 when a higher position of the focus drive brings objective and sample together, -1 when it
    takes them apart, 0 when the microscope's configuration does not state it.
    `notes`: remarks for the user, such as stated values of a recording that are not trusted.
    """

    driver: str
    camera: str
    focus_stage: str | None
    sensor_shape: tuple[int, int]
    bit_depth: int
    pixel_size_um: float | None
    devices: dict[str, str] = field(default_factory=dict)
    focus_direction: int = 0
    notes: tuple[str, ...] = ()
    xy_stage: str | None = None

    def frame_shape(self, camera: CameraSettings) -> tuple[int, int]:
        """Rows and columns of the frames as the camera is set."""
        if camera.roi is not None:
            return camera.roi.height, camera.roi.width
        rows, columns = self.sensor_shape
        return rows // camera.binning, columns // camera.binning


@runtime_checkable
class Microscope(Protocol):
    """Camera, focus drive, XY stage and light of one microscope."""

    @property
    def description(self) -> MicroscopeDescription:
        """Driver and devices; read when the driver opened them, and when properties, presets or drive were changed."""
        ...

    @property
    def camera_settings(self) -> CameraSettings:
        """Settings as the camera reports them."""
        ...

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """Set exposure, ROI and binning; return what the camera reports afterwards.

        Raises
        ------
        MicroscopeError
            When a sequence runs, or the value read back is not what was set.
        """
        ...

    @property
    def frame_period_s(self) -> float | None:
        """Time from frame to frame of a sequence, s; None: not known before one runs."""
        ...

    @property
    def truth(self) -> Truth | None:
        """Positions of the emitters in the frames of the last sequence; None where they are not known (real optics).

        Raises
        ------
        MicroscopeError
            When they are known, but not for the present camera settings.
        """
        ...

    def snap(self) -> Frame:
        """Expose one frame (not while a sequence runs)."""
        ...

    def start_sequence(self) -> None:
        """Start continuous exposures into the driver's bounded buffer; image numbers start at 0."""
        ...

    def stop_sequence(self) -> None:
        """Stop exposing, from any thread. Frames still in the buffer can be fetched until the next start."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        ...

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame of the buffer.

        Returns
        -------
        Frame or None
            None when none comes within `timeout_s`, or the sequence has ended and the buffer is empty.

        Raises
        ------
        MicroscopeError
            When the camera has given no frame for longer than the driver allows, or failed.
        """
        ...

    @property
    def stage_um(self) -> float:
        """Position of the focus drive, µm."""
        ...

    @property
    def focus_drives(self) -> Mapping[str, StageLimits | None]:
        """Label of each focus drive, and its soft limits; None: none are stated, and it is not chosen."""
        ...

    def choose_focus_drive(self, label: str) -> None:
        """Use another focus drive from now on: position, moves and limits are then those of this drive.

        Raises
        ------
        MicroscopeError
            For a drive that does not exist or has no soft limits.
        """
        ...

    def move_stage(self, stage_um: float) -> float:
        """Move the focus drive, wait, and return the position read back, µm.

        Raises
        ------
        MicroscopeError
            Beyond the soft limits or the greatest step, not a finite number,
            while continuous focus is on, or not arrived within tolerance.
        """
        ...

    @property
    def stage_limits(self) -> StageLimits:
        """The soft limits in force."""
        ...

    @property
    def xy_um(self) -> tuple[float, float]:
        """Position of the XY stage in its own axes, µm.

        Raises
        ------
        MicroscopeError
            ``"no_stage"`` without one.
        """
        ...

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Move the XY stage, wait, and return the position read back, µm.

        Raises
        ------
        MicroscopeError
            As `move_stage`.
        """
        ...

    @property
    def xy_limits(self) -> XYLimits | None:
        """The soft limits in force; None: none are stated, and the XY stage is not moved."""
        ...

    @property
    def continuous_focus(self) -> bool:
        """Whether a device of the microscope holds focus by itself, and so moves the drive."""
        ...

    def set_continuous_focus(self, on: bool) -> None:
        """Switch that device on or off.

        Raises
        ------
        MicroscopeError
            When there is none to switch on, or it does not do it.
        """
        ...

    @property
    def light(self) -> LightState:
        """Shutter and channel."""
        ...

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Open or close the shutter and choose a channel; None leaves a part as it is."""
        ...

    def properties(self, device: str | None = None) -> tuple[DeviceProperty, ...]:
        """Properties of one device or of all, as the devices report them now.

        Raises
        ------
        MicroscopeError
            For a device that does not exist.
        """
        ...

    def read_property(self, device: str, name: str) -> DeviceProperty:
        """One property.

        Raises
        ------
        MicroscopeError
            For a device or property that does not exist.
        """
        ...

    def set_property(self, device: str, name: str, value: str) -> DeviceProperty:
        """Set a property, and return it as the device reports it afterwards.

        Raises
        ------
        MicroscopeError
            For a value that the property does not take or keep, and for a property that can move a stage.
        """
        ...

    @property
    def trigger(self) -> Mapping[str, str]:
        """Properties of the camera for trigger, strobe and other signals, by their names: name to value."""
        ...

    @property
    def preset_groups(self) -> tuple[PresetGroup, ...]:
        """The groups of presets."""
        ...

    def preset_settings(self, group: str, preset: str) -> tuple[PropertySetting, ...]:
        """What a preset sets.

        Raises
        ------
        MicroscopeError
            For a group or preset that does not exist.
        """
        ...

    def apply_preset(self, group: str, preset: str) -> None:
        """Set a preset, all or nothing.

        Raises
        ------
        MicroscopeError
            As `set_property`.
        """
        ...

    def stop(self) -> bool:
        """Halt stage and sequence as fast as the driver can, from any thread; True when the halt is confirmed."""
        ...

    def close(self) -> None:
        """Light off, sequence stopped, devices released. May be called twice."""
        ...

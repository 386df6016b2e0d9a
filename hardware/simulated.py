"""A simulated microscope: a camera that exposes by the wall clock in front of a moving scene.

A real camera does not wait for its reader, and neither does this one: its own
thread exposes frame k at the start of the sequence plus k periods and puts it
into a bounded ring. When the reader is too slow, the oldest frames are
overwritten; when rendering is too slow, exposures are skipped. Both show as
gaps in the image numbers, as with a real camera. The focus drive moves the focus
through the scene, the XY stage moves the scene sideways, the shutter makes it dark, and the true positions of the
emitters are known for every frame.

The caller supplies the physics as a `Scene` (photo-electrons) and a `Detector`
(counts), so that this package does not import models.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    MicroscopeDescription,
    MicroscopeError,
    Roi,
    StageLimits,
    XYLimits,
)
from hardware.software_microscope import SoftwareMicroscope

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Detector", "Scene", "SimulatedMicroscope"]

_JOIN_S = 5.0
"""How long stopping waits for the exposing thread: far more than one rendering, s."""


XY = tuple[float, float]
"""Position of the XY stage, µm. A stage at x shows the sample x farther to the right."""


class Scene(Protocol):
    """Sample and optics.

    `render` and `truth` must work for any time in any order, and `truth`
    may be called from another thread while a frame is rendered.
    """

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the sensor."""
        ...

    @property
    def pixel_size_um(self) -> float:
        """Pixel size at the sample, µm."""
        ...

    def render(self, time_s: float, exposure_s: float, stage_um: float, xy_um: XY) -> NDArray[np.float32]:
        """Expected photo-electrons, shape (H, W), of an exposure whose middle is at `time_s`."""
        ...

    def truth(self, time_s: float, stage_um: float, xy_um: XY) -> NDArray[np.float64]:
        """Emitters at `time_s`, shape (N, 4): id, x_um, y_um, z_um."""
        ...


class Detector(Protocol):
    """Conversion of photo-electrons to counts, with noise."""

    @property
    def bit_depth(self) -> int:
        """Bits of a count."""
        ...

    def expose(self, electrons: NDArray[np.float32], seed: int) -> NDArray[np.uint16]:
        """One noisy exposure, the same shape; the same seed gives the same noise."""
        ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Position of both stages, µm."""

    stage_um: float
    xy_um: XY


class SimulatedMicroscope(SoftwareMicroscope):
    """Camera, stages and light in front of a scene.

    Parameters
    ----------
    scene : Scene
        Sample and optics. Time 0 of the scene is the start of the last sequence, so frame k of
        a sequence always shows the same moment; before the first sequence it is the opening.
    detector : Detector
        Conversion of photo-electrons to counts.
    exposure_s : float
        Exposure at the start, s.
    frame_period_s : float or None
        Time from one exposure to the next when that is longer than the exposure; None: they follow each other.
    ring_frames : int
        Frames that the camera keeps for a slow reader before it overwrites the oldest.
    backlog_frames : int
        Exposures whose rendering may be late, as on a busy computer; beyond that number they are skipped.
    limits : StageLimits
        Range of the simulated drive itself.
    seed : int
        Of the detector's noise.
    """

    def __init__(
        self,
        scene: Scene,
        detector: Detector,
        *,
        exposure_s: float = 0.01,
        frame_period_s: float | None = None,
        ring_frames: int = 128,
        backlog_frames: int = 32,
        limits: StageLimits | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__("the simulated microscope")
        if ring_frames < 1 or backlog_frames < 1:
            raise MicroscopeError(
                "settings",
                f"The simulated camera was given a ring of {ring_frames} and a backlog of {backlog_frames} frames; "
                "both hold at least one.",
                "Give positive numbers.",
            )
        self._scene = scene
        self._detector = detector
        self._settings = CameraSettings(exposure_s)
        self._frame_period_s = frame_period_s
        self._backlog_frames = backlog_frames
        self._limits = limits or StageLimits(-1000.0, 1000.0, 2000.0)
        self._seed = seed
        self._ring: deque[Frame] = deque(maxlen=ring_frames)
        self._fetched = threading.Condition()
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None
        self._failure: Exception | None = None
        self._shutter_open = True
        self._snaps = 0
        self._start_s = time.monotonic()
        self._running_exposure_s = exposure_s
        self._running_period_s = exposure_s
        # Positions of the stages since the start of the sequence, by time; the last one is the present one.
        self._moves_s: list[float] = [self._start_s]
        self._places: list[_Place] = [_Place(0.0, (0.0, 0.0))]
        self._moving = threading.Lock()
        self._description = MicroscopeDescription(
            driver="simulated",
            camera="Simulated camera",
            focus_stage="Simulated stage",
            sensor_shape=scene.shape,
            bit_depth=detector.bit_depth,
            pixel_size_um=scene.pixel_size_um,
            devices={
                "Simulated camera": "camera",
                "Simulated stage": "focus drive",
                "Simulated XY stage": "XY stage",
                "Simulated shutter": "shutter",
            },
            xy_stage="Simulated XY stage",
        )

    # ---- description and settings ----

    @property
    def description(self) -> MicroscopeDescription:
        """The simulated devices."""
        return self._description

    @property
    def camera_settings(self) -> CameraSettings:
        """Exposure, ROI and binning in force."""
        return self._settings

    @property
    def frame_period_s(self) -> float:
        """Time from one exposure to the next, s."""
        return max(self._settings.exposure_s, self._frame_period_s or 0.0)

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """Set exposure, ROI and binning.

        Raises
        ------
        MicroscopeError
            While a sequence runs, or when the ROI does not fit the sensor.
        """
        self._require_idle("change the camera settings")
        rows, columns = (extent // settings.binning for extent in self._scene.shape)
        roi = settings.roi
        if rows < 1 or columns < 1 or (roi is not None and (roi.x + roi.width > columns or roi.y + roi.height > rows)):
            raise MicroscopeError(
                "settings",
                f"The region of interest {roi} at binning {settings.binning} was asked for; "
                f"the sensor then has {columns} x {rows} pixels.",
                "Choose a region within the sensor, in binned pixels.",
            )
        self._settings = settings
        return settings

    # ---- frames ----

    def snap(self) -> Frame:
        """Expose one frame now and wait for its end.

        Raises
        ------
        MicroscopeError
            While a sequence runs.
        """
        self._require_idle("take a single frame")
        exposure_s = self._settings.exposure_s
        begin_s = time.monotonic()
        self._snaps += 1
        # Seeds of single frames count down, those of sequences up, so that they never share their noise.
        frame = self._expose(0, begin_s + exposure_s / 2, exposure_s, self._seed - self._snaps)
        time.sleep(max(0.0, begin_s + exposure_s - time.monotonic()))
        return frame

    def start_sequence(self) -> None:
        """Start the camera's clock, after one rendering that is discarded; it compiles the code of the scene.

        Raises
        ------
        MicroscopeError
            While a sequence runs.
        """
        self._require_idle("start a sequence")
        exposure_s = self._settings.exposure_s
        self._expose(0, time.monotonic(), exposure_s, self._seed)
        with self._fetched:
            self._ring.clear()
        self._halt = threading.Event()
        self._running_exposure_s = exposure_s
        self._running_period_s = self.frame_period_s
        self._start_s = time.monotonic()
        with self._moving:
            self._moves_s, self._places = [self._start_s], self._places[-1:]
        self._thread = threading.Thread(
            target=self._expose_by_the_clock, args=(self._halt,), name="simulated-camera", daemon=True
        )
        self._thread.start()

    def stop_sequence(self) -> None:
        """Stop exposing; the ring keeps its frames."""
        self._halt_camera()

    @property
    def is_running(self) -> bool:
        """Whether a sequence runs."""
        return self._thread is not None and not self._halt.is_set()

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the oldest frame of the ring; None after `timeout_s` or at the end.

        Raises
        ------
        MicroscopeError
            When the scene or the detector failed.
        """
        with self._fetched:
            self._fetched.wait_for(lambda: self._ring or not self.is_running or self._failure, timeout_s)
            if self._ring:
                return self._ring.popleft()
        self._raise_failure()
        return None

    def truth(self, frame_index: int) -> NDArray[np.float64]:
        """Where the emitters were in the middle of a frame of the last sequence.

        Parameters
        ----------
        frame_index : int
            Image number, also of a lost frame.

        Returns
        -------
        ndarray of float64, shape (N, 4)
            id, x_um, y_um (from the centre of the frame's top-left pixel), z_um.
        """
        return self._truth(self._middle_s(frame_index))

    def truth_of(self, frame: Frame) -> NDArray[np.float64]:
        """Where the emitters were in a frame, a snapped one too, as `truth`.

        It must not be older than the last start of a sequence, which sets the scene's clock.
        """
        xy_um = self._place_at(frame.time_s).xy_um
        return self._in_frame(self._scene.truth(frame.time_s - self._start_s, frame.stage_um, xy_um))

    # ---- stage and light ----

    @property
    def stage_um(self) -> float:
        """Position of the focus drive, µm."""
        return self._places[-1].stage_um

    def move_stage(self, stage_um: float) -> float:
        """Move the focus at once."""
        self._require_open()
        self._move(stage_um=stage_um)
        return stage_um

    @property
    def stage_limits(self) -> StageLimits:
        """Range of the simulated drive."""
        return self._limits

    @property
    def focus_drives(self) -> dict[str, StageLimits | None]:
        """The simulated drive."""
        return {"Simulated stage": self._limits}

    @property
    def xy_um(self) -> tuple[float, float]:
        """Position of the XY stage, µm."""
        return self._places[-1].xy_um

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Move the sample sideways at once."""
        self._require_open()
        self._move(xy_um=(x_um, y_um))
        return x_um, y_um

    @property
    def xy_limits(self) -> XYLimits | None:
        """Range of the simulated stage."""
        return XYLimits(self._limits, self._limits)

    @property
    def light(self) -> LightState:
        """The shutter; there are no channels."""
        return LightState(self._shutter_open, None)

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Open or close the shutter.

        Raises
        ------
        MicroscopeError
            When a channel is asked for.
        """
        self._require_open()
        if channel is not None:
            raise MicroscopeError(
                "settings",
                f"Channel {channel} was asked for; the simulated microscope has no channels.",
                "Leave the channel out.",
            )
        if shutter_open is not None:
            self._shutter_open = shutter_open
        return self.light

    # ---- end ----

    def stop(self) -> bool:
        """Halt the sequence; the stage never moves for longer than a call."""
        return self._halt_camera()

    def close(self) -> None:
        """Stop, and close the shutter."""
        self._halt_camera()
        self._shutter_open = False
        self._closed = True

    # ---- inside ----

    def _require_idle(self, purpose: str) -> None:
        self._require_open()
        self._raise_failure()
        super()._require_idle(purpose)

    def _raise_failure(self) -> None:
        """Raise the error that ended the exposing thread, at the first call after it."""
        failure, self._failure = self._failure, None
        if failure is not None:
            raise MicroscopeError(
                "simulation",
                f"The simulated scene could not be rendered ({type(failure).__name__}: {failure}).",
                "Check the settings of the scene.",
            ) from failure

    def _halt_camera(self) -> bool:
        thread = self._thread
        self._halt.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_JOIN_S)
        return thread is None or not thread.is_alive()

    def _middle_s(self, index: int) -> float:
        return self._start_s + index * self._running_period_s + self._running_exposure_s / 2

    def _move(self, **changes: Any) -> None:
        with self._moving:
            # The position goes in first: a thread that reads between the two lines finds one more position than times.
            self._places.append(replace(self._places[-1], **changes))
            self._moves_s.append(time.monotonic())

    def _place_at(self, time_s: float) -> _Place:
        return self._places[max(bisect.bisect_right(self._moves_s, time_s) - 1, 0)]

    def _expose_by_the_clock(self, halt: threading.Event) -> None:
        period_s, exposure_s = self._running_period_s, self._running_exposure_s
        index = 0
        try:
            while not halt.wait(max(0.0, self._middle_s(index) - time.monotonic())):
                due = int((time.monotonic() - self._middle_s(0)) / period_s)
                if due - index > self._backlog_frames:
                    index = due
                frame = self._expose(index, self._middle_s(index), exposure_s, self._seed + index)
                if halt.wait(max(0.0, self._middle_s(index) + exposure_s / 2 - time.monotonic())):
                    return
                with self._fetched:
                    self._ring.append(frame)
                    self._fetched.notify_all()
                index += 1
        except Exception as failure:  # noqa: BLE001 the scene may raise any type; the next call raises it
            self._failure = failure
        finally:
            halt.set()
            with self._fetched:
                self._fetched.notify_all()

    def _expose(self, index: int, middle_s: float, exposure_s: float, seed: int) -> Frame:
        place = self._place_at(middle_s)
        electrons = self._scene.render(middle_s - self._start_s, exposure_s, place.stage_um, place.xy_um)
        if not self._shutter_open:
            electrons = np.zeros_like(electrons)
        pixels = self._detector.expose(self._on_sensor(electrons), seed % 2**63)
        return Frame(pixels, index, middle_s, "simulation", place.stage_um)

    def _on_sensor(self, electrons: NDArray[np.float32]) -> NDArray[np.float32]:
        binning, roi = self._settings.binning, self._settings.roi
        if binning > 1:
            rows, columns = (extent // binning for extent in electrons.shape)
            blocks = electrons[: rows * binning, : columns * binning].reshape(rows, binning, columns, binning)
            electrons = blocks.sum(axis=(1, 3), dtype=np.float32)
        if roi is not None:
            electrons = electrons[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        return np.ascontiguousarray(electrons)

    def _truth(self, middle_s: float) -> NDArray[np.float64]:
        place = self._place_at(middle_s)
        return self._in_frame(self._scene.truth(middle_s - self._start_s, place.stage_um, place.xy_um))

    def _in_frame(self, truth: NDArray[np.float64]) -> NDArray[np.float64]:
        # The centre of the first binned pixel lies (binning - 1) / 2 pixels after the centre of the first pixel.
        binning = self._settings.binning
        roi = self._settings.roi or Roi(0, 0, 0, 0)
        moved = truth.copy()
        for column, first in ((1, roi.x), (2, roi.y)):
            moved[:, column] -= (first * binning + (binning - 1) / 2) * self._scene.pixel_size_um
        return moved

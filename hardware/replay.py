"""A recorded movie played as a microscope.

For developing and demonstrating without hardware, with the images of a real
experiment. Played at its own rate it behaves like a camera, down to losing
frames when the reader falls further behind than the ring of a camera would
hold; played as fast as it is read it loses nothing, and its times are those of
the recording.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import (
    CameraSettings,
    Frame,
    LightState,
    MicroscopeDescription,
    MicroscopeError,
    Roi,
    StageLimits,
    Truth,
    XYLimits,
)
from hardware.software_microscope import SoftwareMicroscope

if TYPE_CHECKING:
    from hardware.movies import Movie

__all__ = ["ReplayMicroscope"]


class ReplayMicroscope(SoftwareMicroscope):
    """A movie as a microscope without stage and light.

    Parameters
    ----------
    movie : Movie
        Closed with the microscope.
    fps : float or None
        Frames a second; None: the movie's own rate, from its metadata.
    paced : bool
        Play by the clock; otherwise as fast as it is read.
    loop : bool
        Begin again at the end.
    back_and_forth : bool
        With `loop`: play backwards at the end instead of beginning again, so that nothing in the image jumps.
    in_memory : bool
        Read the whole movie now, so that no frame waits for the disk; frames are then views into it, read-only.
    ring_frames : int
        Frames by which the reader may be late before frames are lost (paced only).
    stage_um : float
        Position of the fixed stage.
    truth : mapping of int to ndarray of float64, shape (N, 4), optional
        Frame of the movie to where the emitters are: id, x_um, y_um, z_um. Frames that are not named have none.

    Raises
    ------
    MicroscopeError
        When neither `fps` nor the movie states the rate, or `truth` is not that of this movie.
    """

    def __init__(
        self,
        movie: Movie,
        *,
        fps: float | None = None,
        paced: bool = True,
        loop: bool = False,
        back_and_forth: bool = False,
        in_memory: bool = False,
        ring_frames: int = 128,
        stage_um: float = 0.0,
        truth: Mapping[int, NDArray[np.float64]] | None = None,
    ) -> None:
        super().__init__("a recording")
        period_s = 1.0 / fps if fps else movie.frame_period_s
        if period_s is None or not math.isfinite(period_s) or period_s <= 0:
            raise MicroscopeError(
                "movie",
                f"{movie.path} does not state its frame rate, and fps is {fps}; replaying needs a positive rate.",
                "Set fps to the rate at which it was recorded.",
            )
        if truth and not 0 <= min(truth) <= max(truth) < len(movie):
            raise MicroscopeError(
                "movie",
                f"The truth names the frames {min(truth)} to {max(truth)}; {movie.path} has {len(movie)} from 0 on.",
                "Give the truth of this movie, or none.",
            )
        self._movie = movie
        self._frames: NDArray[np.uint16] | None = None
        if in_memory:
            self._frames = movie.read_whole()
            self._frames.flags.writeable = False
        self._truth = truth
        self._period_s = period_s
        self._paced = paced
        self._loop = loop
        # Frames until the first one comes again.
        self._round = 2 * len(movie) - 2 if back_and_forth and len(movie) > 2 else len(movie)
        self._ring_frames = ring_frames
        self._stage_um = stage_um
        self._settings = CameraSettings(period_s)
        self._halt = threading.Event()
        self._halt.set()
        # Two threads may stop at once; only the first fixes the number of frames that had been exposed.
        self._stopping = threading.Lock()
        self._start_s = 0.0
        self._next = 0
        # Frames exposed before the halt can still be fetched.
        self._exposed_at_halt = 0
        self._snaps = 0
        self._description = MicroscopeDescription(
            driver="replay",
            camera=movie.path.name,
            focus_stage=None,
            sensor_shape=movie.shape[1:],
            bit_depth=movie.bit_depth,
            pixel_size_um=movie.pixel_size_um,
            devices={movie.path.name: "movie"},
            notes=movie.notes,
        )

    @property
    def description(self) -> MicroscopeDescription:
        """The movie."""
        return self._description

    @property
    def frame_period_s(self) -> float:
        """From frame to frame, s."""
        return self._period_s

    @property
    def truth(self) -> Truth | None:
        """Positions of the emitters in the frames; None without a table of truth.

        Raises
        ------
        MicroscopeError
            With a region of interest in a movie whose pixel size is not known.
        """
        if self._truth is None:
            return None
        if self._settings.roi is not None and self._movie.pixel_size_um is None:
            raise MicroscopeError(
                "movie",
                f"The truth of {self._movie.path} cannot be told in the region {self._settings.roi}: "
                "its pixel size is not known.",
                "Play the whole frame, or state the pixel size in the movie.",
            )
        return self._truth_at

    @property
    def camera_settings(self) -> CameraSettings:
        """Exposure as stated (at first the frame period), region of interest, binning 1."""
        return self._settings

    def apply_camera(self, settings: CameraSettings) -> CameraSettings:
        """State the exposure of the recording, and choose a region of it.

        Raises
        ------
        MicroscopeError
            While it plays, for an exposure longer than the frame period, for
            binning, and for a region beyond the frame.
        """
        self._require_idle("change the camera settings")
        _, rows, columns = self._movie.shape
        roi = settings.roi
        if settings.exposure_s > self._period_s * (1 + 1e-6) or settings.binning != 1:
            raise MicroscopeError(
                "not_read_back",
                f"The camera was asked for an exposure of {settings.exposure_s:g} s and binning {settings.binning}; "
                f"the recording has a frame every {self._period_s:g} s and its pixels are not joined again.",
                "Use an exposure up to the frame period and binning 1.",
            )
        if roi is not None and (roi.x + roi.width > columns or roi.y + roi.height > rows):
            raise MicroscopeError(
                "settings",
                f"The region of interest {roi} was asked for; the recording has {columns} x {rows} pixels.",
                "Choose a region within it.",
            )
        self._settings = settings
        return settings

    def snap(self) -> Frame:
        """The next frame of the movie, beginning again at the end."""
        self._require_idle("take a single frame")
        frame = self._frame(self._snaps % len(self._movie), 0, time.monotonic())
        self._snaps += 1
        return frame

    def start_sequence(self) -> None:
        """Play from the beginning."""
        self._require_idle("start a sequence")
        self._next = 0
        self._start_s = time.monotonic()
        self._halt.clear()

    def stop_sequence(self) -> None:
        """Stop playing; frames exposed until now can still be fetched."""
        with self._stopping:
            if not self._halt.is_set():
                self._exposed_at_halt = self._exposed() if self._paced else self._next
                self._halt.set()

    @property
    def is_running(self) -> bool:
        """Whether it plays."""
        played = self._exposed() if self._paced else self._next
        return not self._halt.is_set() and (self._loop or played < len(self._movie))

    def next_frame(self, timeout_s: float) -> Frame | None:
        """Fetch the next frame; None when it is not due within `timeout_s`, or at the end.

        Raises
        ------
        MicroscopeError
            When the movie is damaged there.
        """
        self._require_open()
        if self._paced:
            if not self._wait_until_due(timeout_s):
                return None
            self._next = max(self._next, self._exposed() - self._ring_frames)
        elif self._next >= self._exposed():
            return None
        index = self._next
        self._next += 1
        middle_s = self._start_s + index * self._period_s + self._settings.exposure_s / 2
        return self._frame(self._place(index), index, middle_s)

    @property
    def stage_um(self) -> float:
        """Position of the fixed stage, µm."""
        return self._stage_um

    def move_stage(self, stage_um: float) -> float:
        """Raise an error: a recording has no stage.

        Raises
        ------
        MicroscopeError
            Always.
        """
        raise MicroscopeError(
            "no_stage",
            f"The stage was asked to go to {stage_um} µm, but a recording has no stage.",
            "Leave the stage alone, or use another driver.",
        )

    @property
    def stage_limits(self) -> StageLimits:
        """The position of the fixed stage alone: there is no stage to move."""
        return StageLimits(self._stage_um, self._stage_um, 0.0)

    @property
    def focus_drives(self) -> dict[str, StageLimits | None]:
        """None: nothing moves."""
        return {}

    @property
    def xy_um(self) -> tuple[float, float]:
        """Position of the fixed stage, µm."""
        return 0.0, 0.0

    def move_xy(self, x_um: float, y_um: float) -> tuple[float, float]:
        """Raise an error: a recording has no stage.

        Raises
        ------
        MicroscopeError
            Always.
        """
        raise MicroscopeError(
            "no_stage",
            f"The XY stage was asked to go to ({x_um}, {y_um}) µm, but a recording has no stage.",
            "Leave the stage alone, or use another driver.",
        )

    @property
    def xy_limits(self) -> XYLimits | None:
        """None: there is no stage to move."""
        return None

    @property
    def light(self) -> LightState:
        """There is none."""
        return LightState(None, None)

    def set_light(self, *, shutter_open: bool | None = None, channel: str | None = None) -> LightState:
        """Accept only that nothing is changed.

        Raises
        ------
        MicroscopeError
            When shutter or channel is asked for.
        """
        if shutter_open is not None or channel is not None:
            raise MicroscopeError(
                "settings", "The light was asked to switch, but a recording has none.", "Leave the light alone."
            )
        return self.light

    def stop(self) -> bool:
        """Stop playing, from any thread."""
        self.stop_sequence()
        return True

    def close(self) -> None:
        """Stop and close the movie."""
        self.stop_sequence()
        if not self._closed:
            self._closed = True
            self._movie.close()

    def _exposed(self) -> int:
        """Frames exposed until now."""
        if self._halt.is_set():
            return self._exposed_at_halt
        if not self._paced:
            return self._next + 1 if self._loop else len(self._movie)
        exposed = int((time.monotonic() - self._start_s - self._settings.exposure_s) // self._period_s) + 1
        return max(exposed, 0) if self._loop else min(max(exposed, 0), len(self._movie))

    def _wait_until_due(self, timeout_s: float) -> bool:
        """Wait until the next frame has been exposed; False when it is not within the time or never."""
        deadline_s = time.monotonic() + timeout_s
        while self._next >= self._exposed():
            if not self.is_running:
                return False
            due_s = self._start_s + self._next * self._period_s + self._settings.exposure_s
            now_s = time.monotonic()
            if now_s >= deadline_s:
                return False
            # A moment more than due, so that rounding does not make it wake one time too early.
            self._halt.wait(min(due_s + 1e-5, deadline_s) - now_s)
        return True

    def _place(self, index: int) -> int:
        """Which frame of the movie is shown at an image number."""
        step = index % self._round
        return step if step < len(self._movie) else self._round - step

    def _truth_at(self, index: int) -> NDArray[np.float64]:
        # Only handed out by `truth` when there is one, and the pixel size that a region needs.
        roi, pixel_um = self._settings.roi, self._movie.pixel_size_um
        truth = (self._truth or {}).get(self._place(index), np.zeros((0, 4)))
        if roi is None or pixel_um is None:
            return truth
        return truth - np.array([0.0, roi.x, roi.y, 0.0]) * pixel_um

    def _frame(self, place: int, index: int, middle_s: float) -> Frame:
        roi = self._settings.roi or Roi(0, 0, self._movie.shape[2], self._movie.shape[1])
        whole = self._movie[place] if self._frames is None else self._frames[place]
        pixels = whole[roi.y : roi.y + roi.height, roi.x : roi.x + roi.width]
        return Frame(np.ascontiguousarray(pixels), index, middle_s, "recording", self._stage_um)

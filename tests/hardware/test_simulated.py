from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hardware.microscope import CameraSettings, Frame, Microscope, MicroscopeError, Roi
from hardware.simulated import SimulatedMicroscope

if TYPE_CHECKING:
    from tests.hardware.conftest import PlainDetector, PlainScene

OpenSimulated = Callable[..., SimulatedMicroscope]


@pytest.fixture
def open_simulated(scene: PlainScene, detector: PlainDetector) -> Iterator[OpenSimulated]:
    opened: list[SimulatedMicroscope] = []

    def open_it(**settings: Any) -> SimulatedMicroscope:
        settings.setdefault("scene", scene)
        settings.setdefault("detector", detector)
        opened.append(SimulatedMicroscope(**settings))
        return opened[-1]

    yield open_it
    for microscope in opened:
        microscope.close()


def drain(microscope: SimulatedMicroscope, timeout_s: float = 0.0) -> list[Frame]:
    frames = []
    while (frame := microscope.next_frame(timeout_s)) is not None:
        frames.append(frame)
    return frames


def wait_until_exposed(microscope: SimulatedMicroscope, index: int) -> None:
    """Stall: look at the ring without fetching until its newest frame is `index` or later."""
    deadline = time.monotonic() + 20
    while not microscope._ring or microscope._ring[-1].index < index:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_it_is_a_microscope(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated()
    assert isinstance(microscope, Microscope)
    description = microscope.description
    assert (description.sensor_shape, description.pixel_size_um, description.bit_depth) == ((32, 48), 0.5, 16)


def test_frame_k_is_exposed_at_start_plus_k_periods(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.002, frame_period_s=0.004)
    microscope.start_sequence()
    frames = [microscope.next_frame(5.0) for _ in range(20)]
    first = frames[0]
    for frame in frames:
        assert frame.time_s - first.time_s == pytest.approx((frame.index - first.index) * 0.004, abs=1e-9)
        assert frame.time_source == "simulation"
    assert microscope.frame_period_s == 0.004


def test_the_same_frame_number_shows_the_same_moment_in_every_sequence(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.002)
    pictures = []
    for _ in range(2):
        microscope.start_sequence()
        wait_until_exposed(microscope, 10)
        microscope.stop_sequence()
        pictures.append({frame.index: frame.pixels for frame in drain(microscope)})
    common = pictures[0].keys() & pictures[1].keys()
    assert common
    assert all(np.array_equal(pictures[0][index], pictures[1][index]) for index in common)


def test_a_stalled_reader_loses_exactly_the_frames_missing_in_the_index(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.001, ring_frames=8, backlog_frames=1000)
    microscope.start_sequence()
    assert microscope.next_frame(5.0).index == 0
    wait_until_exposed(microscope, 40)
    microscope.stop_sequence()
    kept = drain(microscope)
    # With this backlog nothing is skipped, so the ring holds the newest 8 and all others before are the gap.
    newest = kept[-1].index
    assert [frame.index for frame in kept] == list(range(newest - 7, newest + 1))
    lost = kept[0].index - 1
    exposed, grabbed = newest + 1, 1 + len(kept)
    assert exposed == grabbed + lost
    assert not microscope.is_running


def test_slow_rendering_skips_frames_and_does_not_slow_the_clock(
    open_simulated: OpenSimulated, scene: PlainScene, detector: PlainDetector
) -> None:
    class SlowDetector:
        bit_depth = 16

        def expose(self, electrons: NDArray[np.float32], seed: int) -> NDArray[np.uint16]:
            time.sleep(0.02)
            return detector.expose(electrons, seed)

    microscope = open_simulated(detector=SlowDetector(), exposure_s=0.002, backlog_frames=4)
    microscope.start_sequence()
    frames = [microscope.next_frame(5.0) for _ in range(12)]
    indices = [frame.index for frame in frames]
    assert indices == sorted(set(indices))
    assert indices[-1] > 2 * len(indices)
    assert frames[-1].time_s - frames[0].time_s == pytest.approx((indices[-1] - indices[0]) * 0.002, abs=1e-9)
    # A picture shows the moment of its own number, however late it was rendered.
    for frame in frames:
        truth = microscope.truth(frame.index)
        assert frame.pixels[8, round(truth[0, 1] / 0.5)] == 1000


def test_the_truth_of_a_frame_is_where_its_light_is(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.003)
    microscope.move_stage(12.0)
    microscope.start_sequence()
    frames = [microscope.next_frame(5.0) for _ in range(10)]
    for frame in frames:
        row, column = np.unravel_index(frame.pixels.argmax(), frame.pixels.shape)
        identity, x_um, y_um, z_um = microscope.truth(frame.index)[0]
        assert (identity, z_um) == (7.0, 12.0)
        assert (x_um, y_um) == (column * 0.5, row * 0.5)
        assert np.array_equal(microscope.truth_of(frame)[0], [identity, x_um, y_um, z_um])


def test_truth_follows_region_and_binning(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.001)
    microscope.apply_camera(CameraSettings(0.001, Roi(2, 1, 20, 10), 2))
    frame = microscope.snap()
    assert frame.pixels.shape == (10, 20)
    # Unbinned row 8 lies in binned row 4, which is row 3 of the region; its centre is half a pixel lower.
    assert microscope.truth_of(frame)[0, 2] == pytest.approx((8 - 2 - 0.5) * 0.5)
    # Four pixels of 100 electrons in each binned one.
    assert frame.pixels[0, 0] == 400


@pytest.mark.parametrize(
    "settings",
    [
        CameraSettings(0.01, Roi(40, 0, 16, 16)),
        CameraSettings(0.01, Roi(0, 10, 8, 8), 2),
        CameraSettings(0.01, None, 64),
    ],
)
def test_regions_beyond_the_sensor_are_refused(open_simulated: OpenSimulated, settings: CameraSettings) -> None:
    with pytest.raises(MicroscopeError, match="region of interest"):
        open_simulated().apply_camera(settings)


def test_the_stage_moves_the_focus_of_the_frames_after_it(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.002)
    microscope.start_sequence()
    assert microscope.next_frame(5.0).stage_um == 0.0
    assert microscope.move_stage(50.0) == 50.0
    moved_s = time.monotonic()
    while (frame := microscope.next_frame(5.0)).stage_um == 0.0:
        assert frame.time_s <= moved_s
        assert frame.pixels.min() == 100
    assert frame.pixels.min() == 150
    assert microscope.truth(frame.index)[0, 3] == 50.0
    assert microscope.stage_um == 50.0


def test_a_closed_shutter_makes_it_dark(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.001)
    assert microscope.light.shutter_open
    assert microscope.snap().pixels.max() == 1000
    assert not microscope.set_light(shutter_open=False).shutter_open
    assert microscope.snap().pixels.max() == 0
    with pytest.raises(MicroscopeError, match="no channels"):
        microscope.set_light(channel="FITC")


def test_rendering_is_warmed_up_before_the_clock_starts(open_simulated: OpenSimulated, scene: PlainScene) -> None:
    microscope = open_simulated(exposure_s=0.005)
    microscope.start_sequence()
    assert scene.renderings >= 1
    assert microscope.next_frame(5.0).index == 0


def test_a_scene_that_fails_is_reported_to_the_reader(
    open_simulated: OpenSimulated, scene: PlainScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    microscope = open_simulated(exposure_s=0.001)
    microscope.start_sequence()
    microscope.next_frame(5.0)
    monkeypatch.setattr(scene, "render", lambda *_: 1 / 0)
    with pytest.raises(MicroscopeError, match=r"could not be rendered \(ZeroDivisionError") as refusal:
        drain(microscope, 5.0)
    assert refusal.value.cause == "simulation"
    assert not microscope.is_running


def test_a_running_sequence_forbids_snap_settings_and_a_second_one(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=0.001)
    microscope.start_sequence()
    for forbidden in (microscope.snap, microscope.start_sequence, lambda: microscope.apply_camera(CameraSettings(0.1))):
        with pytest.raises(MicroscopeError, match="while a sequence runs"):
            forbidden()


def test_stop_wakes_a_waiting_reader_and_close_may_come_twice(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=5.0)
    microscope.start_sequence()
    got = []
    reader = threading.Thread(target=lambda: got.append(microscope.next_frame(60.0)))
    reader.start()
    assert microscope.stop()
    reader.join(10)
    assert got == [None]
    assert not microscope.is_running
    assert microscope.stop()
    microscope.close()
    microscope.close()
    assert not microscope.light.shutter_open
    for closed in (microscope.snap, microscope.start_sequence, lambda: microscope.move_stage(1.0)):
        with pytest.raises(MicroscopeError, match="has been closed"):
            closed()


def test_no_frame_in_time_is_none(open_simulated: OpenSimulated) -> None:
    microscope = open_simulated(exposure_s=5.0)
    microscope.start_sequence()
    assert microscope.next_frame(0.01) is None
    assert microscope.is_running


def test_an_empty_ring_is_refused(open_simulated: OpenSimulated) -> None:
    with pytest.raises(MicroscopeError, match="ring of 0"):
        open_simulated(ring_frames=0)


def test_the_xy_stage_moves_the_sample_and_its_truth(scene: PlainScene, detector: PlainDetector) -> None:
    microscope = SimulatedMicroscope(scene, detector, exposure_s=0.001)
    before = microscope.truth_of(microscope.snap())[0, 1]
    assert microscope.move_xy(5.0, 0.0) == microscope.xy_um == (5.0, 0.0)
    frame = microscope.snap()
    moved = (microscope.truth_of(frame)[0, 1] - before) % (scene.shape[1] * scene.pixel_size_um)
    assert moved == pytest.approx(5.0, abs=1.0)  # the emitter itself moves one pixel in 10 ms
    assert frame.pixels[8].argmax() * scene.pixel_size_um == pytest.approx(microscope.truth_of(frame)[0, 1])
    microscope.close()

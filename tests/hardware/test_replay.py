from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile

from hardware import memory
from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, Frame, Microscope, MicroscopeError, Roi, StageLimits
from hardware.movies import Movie, open_movie
from hardware.replay import ReplayMicroscope


@pytest.fixture
def movie(tmp_path: Path) -> Iterator[Movie]:
    path = tmp_path / "movie.ome.tif"
    data = np.arange(6, dtype="uint16")[:, None, None] + np.zeros((6, 16, 24), "uint16")
    tifffile.imwrite(
        path, data, metadata={"axes": "TYX", "TimeIncrement": 0.005, "PhysicalSizeX": 0.65}, photometric="minisblack"
    )
    with open_movie(path) as opened:
        yield opened


def play(microscope: ReplayMicroscope, count: int | None = None) -> list[Frame]:
    frames = []
    while (count is None or len(frames) < count) and (frame := microscope.next_frame(5.0)) is not None:
        frames.append(frame)
    return frames


def test_a_movie_is_a_microscope(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie)
    assert isinstance(microscope, Microscope)
    description = microscope.description
    assert (description.camera, description.sensor_shape) == ("movie.ome.tif", (16, 24))
    assert (description.pixel_size_um, description.focus_stage) == (0.65, None)
    assert microscope.camera_settings.exposure_s == pytest.approx(0.005)
    assert microscope.light.shutter_open is None


@pytest.mark.parametrize("paced", [True, False])
def test_it_plays_to_its_end(movie: Movie, paced: bool) -> None:
    microscope = ReplayMicroscope(movie, paced=paced)
    for _ in range(2):
        microscope.start_sequence()
        frames = play(microscope)
        assert [frame.index for frame in frames] == list(range(6))
        assert [frame.pixels[0, 0] for frame in frames] == list(range(6))
        assert np.diff([frame.time_s for frame in frames]) == pytest.approx(0.005)
        assert {frame.time_source for frame in frames} == {"recording"}
        assert not microscope.is_running


@pytest.mark.parametrize("paced", [True, False])
def test_it_plays_in_a_loop_with_growing_numbers(movie: Movie, paced: bool) -> None:
    microscope = ReplayMicroscope(movie, paced=paced, loop=True, fps=1000, ring_frames=10**6)
    microscope.start_sequence()
    frames = play(microscope, 14)
    assert [frame.index for frame in frames] == list(range(14))
    assert [frame.pixels[0, 0] for frame in frames] == [index % 6 for index in range(14)]
    assert microscope.is_running
    assert microscope.stop()
    assert not microscope.is_running


def test_a_frame_comes_after_its_exposure(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie)
    microscope.start_sequence()
    for frame in play(microscope):
        assert time.monotonic() >= frame.time_s + 0.0025


def test_a_stalled_reader_loses_frames_by_their_numbers(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie, fps=1000, loop=True, ring_frames=5)
    microscope.start_sequence()
    assert microscope.next_frame(5.0).index >= 0
    time.sleep(0.05)
    late = microscope.next_frame(5.0)
    assert late.index >= 30
    assert late.pixels[0, 0] == late.index % 6


def test_what_was_exposed_before_the_stop_can_be_fetched(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie, fps=1000, loop=True)
    microscope.start_sequence()
    time.sleep(0.02)
    microscope.stop_sequence()
    frames = play(microscope)
    assert len(frames) >= 10
    microscope.start_sequence()
    assert microscope.next_frame(5.0).index == 0


def test_a_waiting_reader_is_woken_by_stop_and_gives_up_in_time(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie, fps=0.01)
    microscope.start_sequence()
    assert microscope.next_frame(0.01) is None
    got = []
    reader = threading.Thread(target=lambda: got.append(microscope.next_frame(60.0)))
    reader.start()
    assert microscope.stop()
    reader.join(10)
    assert got == [None]


def test_camera_settings_of_a_recording(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie)
    asked = CameraSettings(0.002, Roi(4, 2, 8, 6))
    assert microscope.apply_camera(asked) == asked
    assert microscope.snap().pixels.shape == (6, 8)
    for settings, message in [
        (CameraSettings(0.1), "a frame every 0.005 s"),
        (CameraSettings(0.002, None, 2), "binning 2"),
        (CameraSettings(0.002, Roi(20, 0, 8, 8)), "24 x 16 pixels"),
    ]:
        with pytest.raises(MicroscopeError, match=message):
            microscope.apply_camera(settings)
    assert microscope.camera_settings == asked


def test_single_frames_go_through_the_movie(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie)
    assert [microscope.snap().pixels[0, 0] for _ in range(7)] == [0, 1, 2, 3, 4, 5, 0]


def test_there_is_no_stage_and_no_light(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie, stage_um=3.0)
    assert microscope.stage_um == 3.0
    with pytest.raises(MicroscopeError, match="has no stage"):
        microscope.move_stage(1.0)
    with pytest.raises(MicroscopeError, match="has no focus drive"):
        LimitedMicroscope(microscope, StageLimits(0, 10, 10)).move_stage(1.0)
    with pytest.raises(MicroscopeError, match="has none"):
        microscope.set_light(shutter_open=True)
    assert microscope.set_light() == microscope.light


def test_it_needs_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, np.zeros((3, 16, 24), "uint16"), photometric="minisblack")
    with open_movie(path) as plain:
        with pytest.raises(MicroscopeError, match="does not state its frame rate"):
            ReplayMicroscope(plain)
        assert ReplayMicroscope(plain, fps=50).frame_period_s == 0.02


def test_metadata_that_are_not_trusted_are_noted(tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(
        path, np.zeros((3, 16, 24), "uint16"), metadata={"axes": "TYX", "PhysicalSizeX": 0.0}, photometric="minisblack"
    )
    with open_movie(path) as movie:
        notes = ReplayMicroscope(movie, fps=50).description.notes
        assert "not trusted" in notes[0]


def test_a_movie_that_does_not_fit_into_memory(movie: Movie, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "spare_bytes", lambda: 4000)
    with pytest.raises(MicroscopeError, match=r"24 x 16 pixels, which needs about 4\.61e-06 GB of memory; 4e-06 GB"):
        ReplayMicroscope(movie, in_memory=True)


def test_busy_and_closed(movie: Movie) -> None:
    microscope = ReplayMicroscope(movie, fps=0.1)
    microscope.start_sequence()
    for forbidden in (microscope.snap, microscope.start_sequence, lambda: microscope.apply_camera(CameraSettings(0.1))):
        with pytest.raises(MicroscopeError, match="while a sequence runs"):
            forbidden()
    microscope.close()
    microscope.close()
    assert not microscope.is_running
    with pytest.raises(MicroscopeError, match="has been closed"):
        microscope.next_frame(0.0)


def test_back_and_forth_nothing_jumps_and_the_truth_goes_along(movie: Movie) -> None:
    truth = {place: np.array([[7.0, 10.0 + place, 20.0, 30.0]]) for place in range(5)}
    microscope = ReplayMicroscope(
        movie, fps=1000, loop=True, back_and_forth=True, in_memory=True, ring_frames=10**6, truth=truth
    )
    microscope.start_sequence()
    frames = play(microscope, 14)
    microscope.stop()
    places = [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 1, 2, 3]
    assert [frame.pixels[0, 0] for frame in frames] == places
    assert [frame.index for frame in frames] == list(range(14))
    # Frames are views into the movie: fetching one copies nothing, and no reader can change it.
    assert not frames[0].pixels.flags.owndata
    assert not frames[0].pixels.flags.writeable
    assert microscope.truth is not None
    truths = [microscope.truth(index) for index in range(14)]
    assert [rows[0, 1] if len(rows) else None for rows in truths] == [10.0 + p if p < 5 else None for p in places]
    microscope.apply_camera(CameraSettings(0.001, Roi(4, 2, 8, 6)))
    np.testing.assert_allclose(microscope.truth(1), [[7.0, 11.0 - 4 * 0.65, 20.0 - 2 * 0.65, 30.0]])


def test_truth_of_another_movie_is_refused(movie: Movie) -> None:
    assert ReplayMicroscope(movie).truth is None
    with pytest.raises(MicroscopeError, match=r"the frames 2 to 6; .* has 6 from 0 on"):
        ReplayMicroscope(movie, truth={2: np.zeros((1, 4)), 6: np.zeros((1, 4))})

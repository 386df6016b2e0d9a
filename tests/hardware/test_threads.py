"""What may come from any thread, `stop` and `stop_sequence`, comes from several at once; for each driver."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

from hardware.limits import LimitedMicroscope
from hardware.microscope import CameraSettings, Microscope, MicroscopeError, StageLimits
from hardware.movies import open_movie
from hardware.replay import ReplayMicroscope
from hardware.simulated import SimulatedMicroscope

if TYPE_CHECKING:
    from tests.hardware.conftest import PlainDetector, PlainScene

OPENERS = ["simulated", "replay", "replay, as fast as it is read", "micromanager"]


@pytest.fixture(params=OPENERS)
def microscope(request: pytest.FixtureRequest, tmp_path: Path, scene: PlainScene, detector: PlainDetector) -> Any:
    inner: Microscope
    if request.param == "simulated":
        inner = SimulatedMicroscope(scene, detector, exposure_s=0.001)
    elif request.param == "micromanager":
        inner = request.getfixturevalue("open_demo")()
        inner.apply_camera(CameraSettings(0.002))
    else:
        path = tmp_path / "movie.tif"
        tifffile.imwrite(path, np.zeros((50, 16, 16), np.uint16), metadata={"axes": "TYX"})
        inner = ReplayMicroscope(open_movie(path), fps=500.0, paced="fast" not in request.param, loop=True)
    limited = LimitedMicroscope(inner, StageLimits(-50.0, 50.0, 50.0))
    yield limited
    limited.close()


def all_at_once(*calls: Callable[[], object]) -> list[BaseException]:
    """Call each on a thread of its own, released together; what they raised."""
    failures: list[BaseException] = []
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> None:
        gate.wait()
        try:
            call()
        except BaseException as error:  # noqa: BLE001  handed to the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()
    return failures


def fetch_until_the_end(microscope: LimitedMicroscope, numbers: list[int]) -> None:
    """As a grabber does, on its own thread."""
    while True:
        frame = microscope.next_frame(0.2)
        if frame is not None:
            numbers.append(frame.index)
        elif not microscope.is_running:
            return


@pytest.mark.parametrize("round_", range(3))
def test_a_sequence_may_be_stopped_by_several_threads_while_one_fetches(
    microscope: LimitedMicroscope, round_: int
) -> None:
    for _ in range(4):
        numbers: list[int] = []
        microscope.start_sequence()
        first = microscope.next_frame(10.0)
        assert first is not None

        def later(call: Callable[[], object]) -> Callable[[], object]:
            return lambda: (time.sleep(0.01 * round_), call())

        failures = all_at_once(
            lambda numbers=numbers: fetch_until_the_end(microscope, numbers),  # type: ignore[misc]
            later(microscope.stop_sequence),
            later(microscope.stop),
            later(microscope.stop_sequence),
            lambda: microscope.description,
            lambda: microscope.stage_limits,
        )
        assert failures == []
        assert not microscope.is_running
        assert numbers == sorted(set(numbers))
        # What was exposed has been fetched, and nothing comes after the end.
        assert microscope.next_frame(0.05) is None


def test_a_stop_may_come_before_a_sequence_and_after_it(microscope: LimitedMicroscope) -> None:
    for _ in range(3):
        assert all_at_once(microscope.stop, microscope.stop_sequence, microscope.stop) == []
        microscope.start_sequence()
        assert microscope.next_frame(10.0) is not None
        assert all_at_once(microscope.stop, microscope.stop) == []
        assert not microscope.is_running
    microscope.snap()


def test_a_drive_that_moves_may_be_stopped(microscope: LimitedMicroscope) -> None:
    if microscope.description.focus_stage is None:
        return  # a recording has no drive
    failures = all_at_once(
        *(lambda target=target: microscope.move_stage(target) for target in (3.0,)), microscope.stop, microscope.stop
    )
    assert [failure for failure in failures if not isinstance(failure, MicroscopeError)] == []
    assert microscope.move_stage(1.0) == pytest.approx(1.0)


def test_a_stop_that_comes_as_the_sequence_starts_is_no_failure_of_the_camera(
    open_demo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stop may overtake the rest of the start; then the end is one that was asked for."""
    microscope = open_demo()
    core = microscope._core
    start = core.start_continuous_sequence_acquisition

    def start_and_be_stopped(interval_ms: float) -> None:
        start(interval_ms)
        microscope.stop_sequence()

    monkeypatch.setattr(core, "start_continuous_sequence_acquisition", start_and_be_stopped, raising=False)
    microscope.start_sequence()
    while microscope.next_frame(0.5) is not None:
        pass
    assert not microscope.is_running


def test_an_exposure_that_fails_late_is_reported_by_the_next_call(
    open_demo: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    microscope = open_demo(frame_timeout_s=0.1)
    released = threading.Event()

    def hang_then_fail() -> None:
        released.wait(10)
        raise RuntimeError("the cable fell out")

    with monkeypatch.context() as hanging:
        hanging.setattr(microscope._core, "snap_image", hang_then_fail, raising=False)
        with pytest.raises(MicroscopeError, match="gave no frame"):
            microscope.snap()
        with pytest.raises(MicroscopeError, match="the last exposure has not ended"):
            microscope.snap()
        released.set()
        microscope._camera._snapping.join(10)
    with pytest.raises(MicroscopeError, match="last exposure failed: the cable fell out"):
        microscope.start_sequence()
    assert microscope.snap().pixels.shape == (512, 512)


@pytest.mark.parametrize("call", ["snap", "start_sequence", "next_frame", "apply_camera"])
def test_a_scene_that_fails_is_reported_by_the_next_call(
    scene: PlainScene, detector: PlainDetector, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    microscope = SimulatedMicroscope(scene, detector, exposure_s=0.001)
    render = scene.render

    def fail(time_s: float, exposure_s: float, stage_um: float, xy_um: tuple[float, float]) -> Any:
        if threading.current_thread().name == "simulated-camera":
            raise ZeroDivisionError("no light")
        return render(time_s, exposure_s, stage_um, xy_um)

    monkeypatch.setattr(scene, "render", fail)
    microscope.start_sequence()
    assert microscope._thread is not None
    microscope._thread.join(10)
    arguments = {"next_frame": (0.1,), "apply_camera": (CameraSettings(0.002),)}.get(call, ())
    with pytest.raises(MicroscopeError, match="ZeroDivisionError: no light"):
        getattr(microscope, call)(*arguments)
    assert microscope.snap().pixels.shape == (32, 48)
    microscope.close()

"""The real Micro-Manager core, and a camera that vanishes, stalls and crashes while a run is recorded."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from hardware.limits import LimitedMicroscope
from hardware.micromanager import MicroManagerMicroscope
from hardware.micromanager_settings import MicroManagerSettings
from hardware.microscope import MicroscopeError, StageLimits
from service.engine.grabber import Grabber
from service.engine.ledger import Ledger
from service.protocol.latency import LatencyHistogram
from tests.conftest import need
from tests.faults.running_service import Service, demo_configuration, demo_microscope, running, settings_for, wait_for

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")


@pytest.fixture(autouse=True)
def _with_democamera() -> None:
    need("mm_test_adapters")


# ---- the whole service ----


def start_recording(service: Service) -> str:
    """A run that has recorded something."""
    run = str(service.client.request("run.start", {"record": True}, 60.0)["id"])
    return service.wait_for_run() and run


def test_a_camera_that_vanishes_stalls_and_crashes(tmp_path: Path) -> None:
    configuration = demo_configuration(tmp_path / "scope.cfg")
    settings = settings_for(
        tmp_path / "data",
        demo_microscope(configuration),
        camera={"roi": (0, 0, 64, 64)},
        run_at_start=False,
        frame_age_limit_s=1.0,
    )
    with running(settings) as service:
        # The camera is unplugged: the engine stays, the run has failed, and all that came is kept.
        run = start_recording(service)
        engine = service.supervisor.processes["engine"]["pid"]
        demo_configuration(configuration, camera="NoSuchCamera")
        service.sabotage("unplug")
        failed = service.wait_until_ended(run)
        assert failed.state == "failed"
        assert failed.ledger["in_flight"] == 0
        assert len(service.check_recording(run)) == failed.ledger["recorded"] == failed.ledger["grabbed"]
        assert "could not be loaded" in service.wait_until_away("could not be loaded")
        # It is plugged in again: the engine finds it by itself.
        with service.recovery("the camera is plugged in again"):
            demo_configuration(configuration)
        assert "Camera" in service.wait_for_event("microscope_back")
        assert service.supervisor.processes["engine"]["pid"] == engine
        assert service.events().index("microscope_back") < service.events().index("microscope_away")

        # It stalls in an exposure of 20 s: the driver answers nothing, and only another process can end it.
        run = start_recording(service)
        with service.recovery("the driver hangs (limit 1 s and three exposures)"):
            service.sabotage("set_exposure", milliseconds=20_000.0)
            assert "gave no frame for" in service.wait_until_away("gave no frame")
        stalled = service.wait_until_ended(run)
        assert stalled.state == "interrupted"
        assert "gave no frame for" in (stalled.problem or "")
        assert len(service.check_recording(run)) >= 48

        # It dereferences a null pointer: the engine dies, and nothing else.
        api = service.supervisor.processes["api"]["pid"]
        run = start_recording(service)
        with service.recovery("the driver dereferences a null pointer"):
            service.sabotage("crash", manner="Dereference Null Pointer")
            assert "SIGSEGV" in service.wait_until_away("SIGSEGV")
        crashed = service.wait_until_ended(run)
        assert crashed.state == "interrupted"
        assert "SIGSEGV" in (crashed.problem or "")
        assert len(service.check_recording(run)) >= 48
        assert service.supervisor.processes["api"]["pid"] == api
        assert service.events().count("engine_restarted") == 2


@pytest.mark.slow
def test_frames_that_the_core_drops_while_the_engine_is_stopped_are_counted(tmp_path: Path) -> None:
    configuration = demo_configuration(tmp_path / "scope.cfg")
    with running(settings_for(tmp_path / "data", demo_microscope(configuration), run_at_start=False)) as service:
        run = start_recording(service)
        # 16 MB hold 32 frames of 512 x 512.
        service.sabotage("hold_interpreter", seconds=2.0)
        wait_for(lambda: service.status()["ledger"]["lost"])
        recorded = service.status()["ledger"]["recorded"]
        wait_for(lambda: service.status()["ledger"]["recorded"] > recorded + 32)
        service.client.request("run.stop", {}, 60.0)
        ended = service.wait_until_ended(run)
        assert ended.state == "finished"
        ledger = ended.ledger
        assert ledger["exposed"] == (ledger["grabbed"] or 0) + (ledger["lost"] or 0)
        assert ledger["recorded"] == ledger["grabbed"]
        numbers = service.check_recording(run)
        assert int((np.diff([-1, *numbers]) - 1).sum()) == ledger["lost"]
        assert service.supervisor.processes["engine"]["restarts"] == 0


# ---- the driver by itself ----


@pytest.fixture
def microscope(tmp_path: Path) -> Iterator[LimitedMicroscope]:
    from hardware.core_session import democamera_installation

    adapters, _ = democamera_installation()
    driver = MicroManagerMicroscope(
        MicroManagerSettings(
            app_path=adapters,
            config_file=demo_configuration(tmp_path / "scope.cfg"),
            buffer_mb=16,
            device_timeout_s={"Z": 0.3},
        )
    )
    yield LimitedMicroscope(driver, StageLimits(-100.0, 100.0, 100.0))
    driver.close()


def test_frames_lost_by_an_overflowing_buffer_are_counted_exactly(microscope: LimitedMicroscope) -> None:
    numbers: list[int] = []
    stalled, go_on, failures = threading.Event(), threading.Event(), []

    def hand_on(frame: object) -> None:
        numbers.append(frame.index)  # type: ignore[attr-defined]
        if len(numbers) == 10:
            stalled.set()
            go_on.wait()

    ledger = Ledger()
    grabber = Grabber(microscope, ledger, LatencyHistogram(), hand_on, failures.append)
    microscope.start_sequence()
    grabber.start()
    assert stalled.wait(30.0)
    # 16 MB hold 32 frames of 512 x 512: after a second at 9 ms the core has emptied its buffer in silence.
    time.sleep(1.0)
    go_on.set()
    wait_for(lambda: ledger.counts().lost)
    wait_for(lambda: len(numbers) > 40)
    microscope.stop_sequence()
    grabber.join()
    assert failures == [None]
    counts = ledger.counts()
    assert counts.grabbed == len(numbers)
    assert counts.lost == int((np.diff([-1, *numbers]) - 1).sum()) > 0
    assert counts.exposed == numbers[-1] + 1 == counts.grabbed + counts.lost


def test_a_camera_that_stops_by_itself_is_a_failure(microscope: LimitedMicroscope) -> None:
    microscope.start_sequence()
    core = microscope.inner._core  # type: ignore[attr-defined]
    core.stop_sequence_acquisition()
    with pytest.raises(MicroscopeError, match="Camera stopped giving frames without a request to stop"):
        wait_for(lambda: microscope.next_frame(0.1) is None)


def test_a_buffer_that_overflows_and_stops_the_camera_says_so(microscope: LimitedMicroscope) -> None:
    core = microscope.inner._core  # type: ignore[attr-defined]
    microscope.start_sequence()
    core.stop_sequence_acquisition()
    core.start_sequence_acquisition(1000, 0.0, True)
    wait_for(core.is_buffer_overflowed)
    with pytest.raises(MicroscopeError, match=r"sequence buffer of 16 MB overflowed, and Camera was stopped\. Give it"):
        wait_for(lambda: microscope.next_frame(0.1) is None)


def test_a_stage_that_does_not_arrive_is_reported_with_both_positions(
    microscope: LimitedMicroscope, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = microscope.inner._core  # type: ignore[attr-defined]
    wait_for_device = core.wait_for_device

    def turn_by_hand(label: str) -> None:
        wait_for_device(label)
        core.set_position("Z", 3.25)

    monkeypatch.setattr(core, "wait_for_device", turn_by_hand, raising=False)
    with pytest.raises(MicroscopeError) as failure:
        microscope.move_stage(20.0)
    assert failure.value.cause == "not_arrived"
    assert "Z was sent to 20 µm and reports 3.25 µm" in failure.value.problem
    monkeypatch.undo()
    # Let go, it arrives.
    assert microscope.move_stage(20.0) == 20.0

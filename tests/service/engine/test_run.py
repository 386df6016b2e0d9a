from __future__ import annotations

import shutil
import sqlite3
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.microscope import Frame, MicroscopeError
from hardware.simulated import SimulatedMicroscope
from service.engine.analysis_batch import AnalysisModel
from service.engine.fit_time import DEGREES
from service.engine.grabber import Grabber
from service.engine.ledger import Ledger
from service.engine.recorder import Recording
from service.engine.run import NO_RUN, Run, RunOutputs, RunRequest, RunSource
from service.protocol.addresses import LinkAddress
from service.protocol.latency import LatencyHistogram
from service.protocol.live import LivePublisher
from service.settings import EnginePart
from service.store.errors import StoreError
from service.store.store import Store
from service.tracking_settings import TrackingPart
from tests.models.image_samples import image_model
from tests.service.engine_samples import (
    PIXEL_UM,
    SHAPE,
    DividingLocalizer,
    DotLocalizer,
    DotScene,
    dot_camera,
    dot_model,
)


class Rig:
    """A run in front of a simulated microscope, and everything around it."""

    def __init__(self, folder: Path, **microscope: Any) -> None:
        self.scene = DotScene()
        self.microscope = SimulatedMicroscope(self.scene, dot_camera(), **({"exposure_s": 0.005} | microscope))
        self.localizer = DotLocalizer()
        self.store = Store.open(folder / "bathyscope.db")
        self.store.migrate()
        self.address = LinkAddress.create()
        self.live = LivePublisher(self.address)
        self.folder = self.recording_folder = folder
        self.ended = []
        self.events = []

    def run(self, request: Any = None, recording: str | None = None, **engine: Any) -> Any:
        request = request or RunRequest()
        request = replace(request, tracking=request.tracking.model_copy(update={"smooth_after_run": False}))
        writes_to = None
        if request.record:
            writes_to = Recording(self.recording_folder / "dots.ome.zarr", SHAPE, PIXEL_UM, 0.005, 16, {})
        run_id = self.store.runs.create(model_id="dots", record=request.record, recording=recording).id
        return Run(
            run_id,
            request,
            source=RunSource(self.microscope, SHAPE, writes_to),
            model=AnalysisModel(self.localizer, dot_model()),
            outputs=RunOutputs(self.store, self.live, "test"),
            settings=EnginePart(**({"free_space_floor_gb": 0.0} | engine)),
            add_event=lambda kind, message: self.events.append((kind, message)),
            ended=self.ended.append,
        )

    def close(self) -> None:
        self.microscope.close()
        self.live.close()
        self.store.close()
        shutil.rmtree(self.address.folder)


@pytest.fixture
def rig(tmp_path: Path) -> Any:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def wait_for(condition: Any, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def finish(run: Any) -> Any:
    run.stop_camera()
    assert run.wait(30)
    counts = run.ledger.counts()
    assert counts.balances
    assert counts.in_flight == 0
    return counts


def test_a_run_accounts_for_every_frame_and_stores_what_it_says(rig: Rig) -> None:
    # Queues that a busy machine does not fill: what is late is the matter of other tests.
    run = rig.run(RunRequest(record=True, name="dots"), analysis_queue=1000, record_queue=1000)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 60)
    counts = finish(run)
    assert counts.lost == counts.skipped == counts.deferred == counts.unrecorded == 0
    assert counts.exposed == counts.grabbed == counts.recorded == counts.analysed
    item = rig.store.runs.get(run.id)
    assert item.state == "finished"
    assert item.problem is None
    assert item.ledger == counts.as_dict()
    found = rig.store.localizations.read(run.id)
    assert list(found.frame) == list(range(counts.analysed))
    assert item.latency_ms["tracked"]["p50"] >= item.latency_ms["analysed"]["p50"] > 0
    assert item.latency_ms["published"]["max"] > 0
    assert set(item.stages) == {"analyse", "track", "record", "publish", "preview", "store", "score"}
    assert item.stages["analyse"]["highest"] > 0
    assert zarr.open_array(str(rig.folder / "dots.ome.zarr" / "0"), mode="r").shape == (counts.recorded, *SHAPE)
    group = zarr.open_group(str(rig.folder / "dots.ome.zarr"), mode="r")
    np.testing.assert_array_equal(rig.store.frames.committed(run.id), group["frame"][:])
    np.testing.assert_array_equal(rig.store.frames.times_s(run.id), group["time_s"][:])
    (start_s,) = {batch.start_s for batch in rig.store.frames.analysed(run.id)}
    assert start_s == pytest.approx(group["time_s"][0])
    assert rig.ended == [run]
    assert run.status().keys() == NO_RUN.keys()


def test_a_split_is_stored_with_the_batch_in_which_it_is_certain(rig: Rig) -> None:
    rig.localizer = DividingLocalizer()
    run = rig.run(analysis_queue=1000)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 80)
    finish(run)
    page = rig.store.track_events.list(run.id)
    events = page.events
    assert (page.revision, events.kind.tolist(), events.frame.tolist()) == (1, ["split"], [35])
    tracks = rig.store.tracks.read(rig.store.tracks.select(run.id))
    assert {events.track_id[0], events.other_id[0]} == set(tracks.track_id)
    assert events.x_um[0] == pytest.approx(15, abs=1)


def test_the_truth_of_the_simulation_scores_the_run(rig: Rig) -> None:
    run = rig.run()
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 30)
    counts = finish(run)
    accuracy = rig.store.runs.get(run.id).accuracy
    assert accuracy["frames"] == counts.analysed
    assert accuracy["jaccard"] == 1.0
    # The centre of mass of a dot of 2 px sigma is right to a small part of a pixel.
    assert accuracy["rmse_lateral_um"] < 0.2 * PIXEL_UM
    assert accuracy["rmse_axial_um"] == pytest.approx(0.0)
    # The track is shown from its fifth frame or so on.
    assert 0.7 < accuracy["tracks"]["jaccard"] < 1.0
    assert accuracy["tracks"]["precision"] == 1.0


def test_truth_beyond_the_model_is_ignored(rig: Rig) -> None:
    rig.microscope.move_stage(200.0)  # the dot is now at -170 µm, beyond the depth range of the model
    run = rig.run()
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 10)
    finish(run)
    accuracy = run.accuracy()
    assert accuracy["fn"] == 0
    assert accuracy["fp"] == accuracy["frames"]


@pytest.mark.parametrize("record", [False, True])
def test_a_stalled_analysis_shows_every_frame_it_did_not_take(rig: Rig, record: bool) -> None:
    queue = 5
    run = rig.run(RunRequest(record=record), analysis_queue=queue, batch=1)
    rig.localizer.gate.clear()
    run.start()
    wait_for(lambda: run.ledger.counts().grabbed >= 40)
    counts = run.ledger.counts()
    assert counts.balances
    # One batch of one frame stands before the gate, the queue is full, all others were turned away.
    assert counts.in_flight == queue + 1
    assert run.stages()["analyse"]["depth"] == queue
    run.stop_camera()
    wait_for(lambda: not rig.microscope.is_running)
    time.sleep(0.3)
    rig.localizer.gate.set()
    assert run.wait(30)
    counts = run.ledger.counts()
    assert counts.analysed == queue + 1
    late = counts.grabbed - queue - 1
    assert (counts.deferred, counts.skipped) == ((late, 0) if record else (0, late))
    assert run.stages()["analyse"]["dropped"] == late
    assert counts.recorded == (counts.grabbed if record else 0)
    assert counts.balances
    assert counts.in_flight == 0


def test_frames_that_the_recorder_cannot_take_are_not_deferred(rig: Rig) -> None:
    run = rig.run(RunRequest(record=True), analysis_queue=1, batch=1, record_queue=2)
    rig.localizer.gate.clear()
    run._record_stage.close()  # a recorder that takes nothing any more
    run.start()
    wait_for(lambda: run.ledger.counts().grabbed >= 20)
    run.stop_camera()
    rig.localizer.gate.set()
    assert run.wait(30)
    counts = run.ledger.counts()
    assert counts.unrecorded == counts.grabbed
    assert counts.deferred == 0
    assert counts.skipped > 0
    assert counts.balances


def test_a_stalled_reader_loses_exactly_what_the_camera_overwrote(tmp_path: Path) -> None:
    rig = Rig(tmp_path, ring_frames=8)
    ledger, ended = Ledger(), threading.Event()
    stalled = threading.Event()
    fetched = []

    def hand_on(frame: Any) -> None:
        fetched.append(frame.index)
        if len(fetched) == 5:
            stalled.wait()

    grabber = Grabber(rig.microscope, ledger, LatencyHistogram(), hand_on, lambda _: ended.set())
    rig.microscope.start_sequence()
    grabber.start()
    wait_for(lambda: rig.scene.rendered > 60)
    rig.microscope.stop_sequence()  # the last frames are in the ring, and most before them are gone
    stalled.set()
    assert ended.wait(30)
    exposed = fetched[-1] + 1
    counts = ledger.counts()
    assert counts.grabbed == len(fetched) == 5 + 8
    assert counts.lost == exposed - len(fetched) > 30
    # The camera drew one picture before the sequence, and at most one that the stop cut off.
    assert exposed in (rig.scene.rendered - 1, rig.scene.rendered - 2)
    rig.close()


class Script:
    """A microscope that gives the frames of a script, None standing for a pause."""

    def __init__(self, script: Any, failure: Any = None) -> None:
        self._script = list(script)
        self._failure = failure

    @property
    def is_running(self) -> Any:
        return bool(self._script)

    def next_frame(self, timeout_s: Any) -> Any:
        if not self._script:
            if self._failure is not None:
                raise self._failure
            return None
        index = self._script.pop(0)
        return None if index is None else Frame(np.zeros((2, 2), np.uint16), index, time.monotonic(), "software", 0.0)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.one_of(st.none(), st.integers(0, 4)), max_size=40))
def test_loss_is_the_sum_of_the_gaps(gaps: list[int | None]) -> None:
    script, index = [], -1
    for gap in gaps:
        index += 0 if gap is None else gap + 1
        script.append(None if gap is None else index)
    ledger, ended = Ledger(), []
    Grabber(Script(script), ledger, LatencyHistogram(), lambda _: None, ended.append).run()
    counts = ledger.counts()
    assert counts.balances
    assert (counts.exposed, counts.lost) == (index + 1, sum(gap for gap in gaps if gap is not None))
    assert ended == [None]


@pytest.mark.parametrize(
    ("microscope", "said"),
    [
        (Script([0, 1], MicroscopeError("no_frame", "No frame came.", "Look at the cable.")), "No frame came"),
        (Script([0, 3, 2]), "they must rise"),
    ],
)
def test_a_camera_that_fails_ends_the_grabbing_with_the_reason(microscope: Any, said: str) -> None:
    ended = []
    ledger = Ledger()
    Grabber(microscope, ledger, LatencyHistogram(), lambda _: None, ended.append).run()
    assert said in str(ended[0])


def test_a_failing_analysis_ends_a_run_without_recording(rig: Rig) -> None:
    run = rig.run()
    rig.localizer.failure = RuntimeError("no kernel")
    run.start()
    assert run.wait(30)
    counts = run.ledger.counts()
    assert counts.analysed == 0
    assert counts.skipped == counts.grabbed > 0
    item = rig.store.runs.get(run.id)
    assert item.state == "failed"
    assert "no kernel" in item.problem


def test_a_failing_analysis_defers_what_is_recorded(rig: Rig) -> None:
    run = rig.run(RunRequest(record=True))
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 10)
    rig.localizer.failure = RuntimeError("no kernel")
    wait_for(lambda: run.ledger.counts().deferred >= 20)
    counts = finish(run)
    assert counts.recorded == counts.grabbed
    assert counts.analysed + counts.deferred == counts.grabbed
    assert rig.store.runs.get(run.id).state == "failed"


def test_a_failing_scene_fails_the_run(rig: Rig) -> None:
    run = rig.run()
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    rig.scene.render = None
    assert run.wait(30)
    assert run.microscope_failed
    assert "could not be rendered" in rig.store.runs.get(run.id).problem


def test_a_full_disk_stops_the_recording_and_not_the_run(rig: Rig) -> None:
    run = rig.run(RunRequest(record=True), free_space_floor_gb=1e9)
    run.start()
    wait_for(lambda: run.ledger.counts().unrecorded >= 32)
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed)
    counts = finish(run)
    assert counts.recorded == 0
    assert counts.unrecorded == counts.grabbed == counts.analysed
    item = rig.store.runs.get(run.id)
    assert item.state == "finished"
    assert "free_space_floor_gb" in item.problem
    ((kind, message),) = rig.events
    assert kind == "recording_stopped"
    assert "Recording stopped after 0 frames" in message
    assert "free_space_floor_gb" in message


def test_a_run_ends_by_itself_after_its_duration(rig: Rig) -> None:
    run = rig.run(RunRequest(duration_s=0.3))
    run.start()
    assert run.wait(30)
    # 0.3 s at 5 ms, and what a busy machine adds before the timer fires
    assert run.ledger.counts().exposed >= 50
    assert rig.store.runs.get(run.id).state == "finished"


def test_batches_grow_with_the_backlog(rig: Rig) -> None:
    run = rig.run(analysis_queue=64, batch=4)
    rig.localizer.gate.clear()
    run.start()
    wait_for(lambda: run.stages()["analyse"]["depth"] >= 12)
    rig.localizer.gate.set()
    finish(run)
    assert max(rig.localizer.batches) == 4


def test_a_camera_that_does_not_start_ends_the_run(rig: Rig) -> None:
    run = rig.run()
    rig.microscope.close()
    with pytest.raises(MicroscopeError, match="closed"):
        run.start()
    assert run.wait(30)
    assert rig.store.runs.get(run.id).state == "failed"


def test_a_locked_database_holds_up_neither_recording_nor_the_log(rig: Rig) -> None:
    """Frames go on to the disk; what is down is said once the lock is gone, and before the run ends."""
    run = rig.run(RunRequest(record=True), analysis_queue=1000, record_queue=1000)
    run.start()
    wait_for(lambda: run.ledger.counts().recorded >= 16)
    lock = sqlite3.connect(rig.folder / "bathyscope.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    time.sleep(0.05)  # a commit that was on has ended
    before = run.ledger.counts().recorded
    image = rig.folder / "dots.ome.zarr" / "0"
    wait_for(lambda: zarr.open_array(str(image), mode="r").shape[0] >= before + 48)
    counts = run.ledger.counts()
    assert counts.balances
    assert counts.recorded == before == rig.store.frames.count(run.id)
    assert counts.unrecorded == 0
    run.stop_camera()
    lock.execute("ROLLBACK")
    lock.close()
    counts = finish(run)
    assert counts.recorded == counts.grabbed == rig.store.frames.count(run.id)
    assert rig.store.runs.get(run.id).problem is None


def test_a_database_that_stays_locked_leaves_frames_unconfirmed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.engine.frame_log._END_PATIENCE_S", 0.0)
    monkeypatch.setattr("service.engine.frame_log._PAUSE_S", 0.01)

    def locked(*_: Any) -> None:
        raise StoreError("The database is locked.", "Wait.")

    run = rig.run(RunRequest(record=True), analysis_queue=1, batch=1)
    monkeypatch.setattr(rig.store.frames, "commit", locked)
    rig.localizer.gate.clear()
    run.start()
    wait_for(lambda: run.ledger.counts().deferred >= 20)
    rig.localizer.gate.set()
    counts = finish(run)
    assert counts.recorded == counts.deferred == 0
    assert counts.unrecorded == counts.grabbed
    assert counts.skipped == counts.grabbed - counts.analysed
    assert "not confirmed in the database" in (rig.store.runs.get(run.id).problem or "")


def test_frames_are_counted_by_the_degree_of_their_fit(rig: Rig) -> None:
    rig.localizer.image_model = image_model(PIXEL_UM)
    run = rig.run(RunRequest(record=True), analysis_queue=1000, record_queue=1000)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    counts = finish(run)
    assert sum(run.status()["fitted_frames"].values()) == counts.analysed
    item = rig.store.runs.get(run.id)
    assert item.fitted_frames == run.status()["fitted_frames"]
    found = rig.store.localizations.read(run.id)
    assert len(np.unique(found.frame[np.isfinite(found.chi2)])) <= counts.analysed - item.fitted_frames["none"]


def test_without_a_fit_no_degrees_are_counted(rig: Rig) -> None:
    """Neither with a model without a PSF nor when the fit is off."""
    assert rig.run().status()["fitted_frames"] is None
    rig.localizer.image_model = image_model(PIXEL_UM)
    assert rig.run(RunRequest(tracking=TrackingPart(fit="off"))).status()["fitted_frames"] is None
    assert rig.run(RunRequest(tracking=TrackingPart(preset="published"))).status()["fitted_frames"] is None
    assert rig.run().status()["fitted_frames"] == dict.fromkeys(DEGREES, 0)


def test_a_run_without_a_psf_is_fitted_from_a_model_with_one_on(rig: Rig) -> None:
    run = rig.run(RunRequest(record=True), analysis_queue=1000, record_queue=1000)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 10)
    assert run.status()["fitted_frames"] is None
    with_psf = DotLocalizer()
    with_psf.image_model = image_model(PIXEL_UM)
    run.swap_model(AnalysisModel(with_psf, replace(dot_model(), id="with-psf")))
    wait_for(lambda: sum((run.status()["fitted_frames"] or {"none": 0}).values()) >= 10)
    counts = finish(run)
    fitted = rig.store.runs.get(run.id).fitted_frames
    assert fitted is not None
    assert 10 <= sum(fitted.values()) < counts.analysed

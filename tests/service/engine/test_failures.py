"""How a run, or only a part of it, ends when a part fails with an unforeseen error; and the ledger afterwards."""

from __future__ import annotations

import ast
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

import service
import service.engine
from hardware.microscope import CameraSettings, MicroscopeError, Roi
from hardware.movies import open_movie
from hardware.replay import ReplayMicroscope
from models.metrics import Region
from models.tracking import Tracker
from service.analysis.frame_localizer import FrameLocalizer
from service.analysis.frame_tracker import FrameTracker
from service.engine.accuracy import LiveScore
from service.engine.analysis_batch import AnalysisBatch, AnalysisModel
from service.engine.catch_up import CatchUp
from service.engine.result_writer import _PATIENCE_S
from service.engine.run import _STORE_BATCHES, Run, RunRequest
from service.engine.tracking_thread import BATCH_S
from service.store.database import Database
from service.store.errors import StoreError
from service.store.store import Store
from tests.service.engine.test_catch_up import dot_frames
from tests.service.engine.test_run import Rig, wait_for
from tests.service.engine_samples import PIXEL_UM, SHAPE, DotLocalizer, dot_model

ROOMY = {"analysis_queue": 1000, "record_queue": 1000}
"""Queues that a busy machine does not fill."""


class Unforeseen(KeyError):
    """An exception that no stage expects."""


def unforeseen(*_: Any, **__: Any) -> Any:
    raise Unforeseen("an unforeseen error")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


def stored_numbers(rig: Rig, run: Run) -> list[int]:
    return [number for batch in rig.store.frames.analysed(run.id) for number in batch.frames.numbers.tolist()]


def ended_truly(rig: Rig, run: Run) -> Any:
    """The run in the database, when it has ended with a ledger that says what is in the database."""
    assert run.wait(60)
    item, counts = rig.store.runs.get(run.id), run.ledger.counts()
    assert counts.balances
    assert counts.in_flight == 0
    assert item.ledger == counts.as_dict()
    assert item.state == run.state
    assert len(stored_numbers(rig, run)) == len(set(stored_numbers(rig, run))) == counts.analysed
    assert rig.store.frames.count(run.id) == counts.recorded
    assert counts.recorded + counts.unrecorded == (counts.grabbed if run.request.record else 0)
    return item


# ---- threads ----


def test_no_thread_of_the_service_can_end_unseen() -> None:
    """All threads come from the base that reports what ended them."""
    folder = Path(service.__file__).parent
    bare = []
    for path in sorted(folder.rglob("*.py")):
        if path.name == "worker_thread.py" or path.is_relative_to(folder / "bench"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            name = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
            if name in ("threading.Thread", "Thread"):
                bare.append(f"{path.relative_to(folder)}:{node.lineno}")
    assert bare == []


def test_no_worker_takes_a_name_that_the_thread_below_needs() -> None:
    """An attribute `_stop`, for one, would break `is_alive` of that thread."""
    of_threads = set(dir(threading.Thread()))
    taken = []
    for path in sorted(Path(service.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and {ast.unparse(base) for base in node.bases} & {
                "WorkerThread",
                "Worker",
            }:
                own = {
                    item.attr
                    for item in ast.walk(node)
                    if isinstance(item, ast.Attribute) and is_assigned_to_self(item)
                }
                own |= {item.name for item in node.body if isinstance(item, ast.FunctionDef)} - {"__init__"}
                taken += [f"{path.name}: {node.name}.{name}" for name in sorted(own & of_threads)]
    assert taken == []


def is_assigned_to_self(node: ast.Attribute) -> bool:
    return isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self"


def break_append(rig: Rig, run: Run) -> None:
    rig.store.append = unforeseen  # type: ignore[method-assign]


def break_commit(rig: Rig, run: Run) -> None:
    rig.store.frames.commit = unforeseen  # type: ignore[method-assign]


def break_publishing(topic: str) -> Callable[[Rig, Run], None]:
    def break_it(rig: Rig, run: Run) -> None:
        send = rig.live.send
        rig.live.send = lambda to, message: unforeseen() if to == topic else send(to, message)  # type: ignore[method-assign]

    return break_it


def break_recorder(rig: Rig, run: Run) -> None:
    assert run._recorder is not None
    run._recorder._written = unforeseen


def break_localizer(rig: Rig, run: Run) -> None:
    rig.localizer.failure = Unforeseen("an unforeseen error")


@pytest.mark.parametrize(
    ("break_it", "what", "record"),
    [
        (break_append, "Storing the results", False),
        (break_append, "Storing the results", True),
        (break_commit, "The log of the recording", True),
        (break_publishing("tracks"), "Publishing the tracks", False),
        (break_publishing("preview"), "The preview", True),
        (break_recorder, "The recorder", True),
        (break_localizer, "The analysis", False),
        (break_localizer, "The analysis", True),
    ],
)
def test_a_thread_that_fails_ends_the_run_with_the_reason(
    rig: Rig, break_it: Callable[[Rig, Run], None], what: str, record: bool
) -> None:
    run = rig.run(RunRequest(record=record), **ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    break_it(rig, run)
    if record and break_it is break_localizer:  # the frames are kept for later, so the camera goes on
        wait_for(lambda: run.ledger.counts().deferred >= 20)
        run.stop_camera()
    item = ended_truly(rig, run)
    assert item.state == "failed"
    assert f"{what} stopped (Unforeseen: 'an unforeseen error')" in (item.problem or "")
    assert not rig.microscope.is_running
    assert rig.ended == [run]
    left = item.ledger["grabbed"] - item.ledger["analysed"]
    if break_it in (break_append, break_localizer):
        assert item.ledger["deferred" if record else "skipped"] == left > 0
        assert rig.store.catch_ups.waiting() == ([run.id] if record else [])


def test_scoring_that_fails_loses_no_result(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    assert run.accuracy()
    assert run._score is not None
    run._score._score._truth = unforeseen
    wait_for(lambda: run.accuracy() is None)
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed + 20)
    run.stop_camera()
    item = ended_truly(rig, run)
    assert item.state == "finished"
    assert item.accuracy is None
    assert "The accuracy is not known, because scoring stopped" in (item.problem or "")
    assert item.ledger["analysed"] == item.ledger["grabbed"]


def test_a_truth_that_cannot_be_told_in_a_region_leaves_the_accuracy_unknown(tmp_path: Path) -> None:
    """A movie with a table of the truth and without a pixel size, played in a region of interest."""
    movie = tmp_path / "movie.tif"
    rows, columns = SHAPE
    whole = np.random.default_rng(5).integers(90, 900, (20, rows + 8, columns + 8), np.uint16)
    tifffile.imwrite(movie, whole, metadata={"axes": "TYX"})
    rig = Rig(tmp_path)
    rig.microscope.close()
    rig.microscope = ReplayMicroscope(
        open_movie(movie), fps=200.0, loop=True, truth={n: np.array([[0.0, 20.0, 12.0, 30.0]]) for n in range(20)}
    )
    rig.microscope.apply_camera(CameraSettings(0.005, Roi(4, 4, columns, rows)))
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 50)
    run.stop_camera()
    item = ended_truly(rig, run)
    assert (item.state, item.accuracy) == ("finished", None)
    assert "The accuracy is not known: The truth of" in (item.problem or "")
    assert "pixel size is not known" in (item.problem or "")
    assert item.ledger["analysed"] == item.ledger["grabbed"]
    rig.close()


def test_after_a_swap_the_score_has_the_depth_range_of_the_new_model() -> None:
    shallow = replace(dot_model(), z_range_um=(0.0, 10.0))
    assert not Region(z_um=shallow.z_range_um).contains(np.array([[0.0, 0.0, 30.0]]))
    score = LiveScore(lambda _: np.array([[0.0, 10 * PIXEL_UM, 20 * PIXEL_UM, 30.0]]), SHAPE)
    localizer = DotLocalizer()
    tracker = FrameTracker(Tracker(), localizer)
    found = FrameLocalizer(localizer).localize(dot_frames(6))
    results = tuple(tracker.track(replace(its, found=its.found.select([]))) for its in found)
    score.add(AnalysisBatch(results[:2], dot_model()))
    assert score.result()["fn"] == 2
    score.add(AnalysisBatch(results[2:], shallow))
    assert score.result()["fn"] == 2  # the truth lies deeper than this model sees
    assert score.result()["frames"] == 6


def test_a_run_swaps_the_model_of_its_batches(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 10)
    run.swap_model(AnalysisModel(rig.localizer, replace(dot_model(), id="shallow", z_range_um=(0.0, 10.0))))
    wait_for(lambda: any(batch.model_id == "shallow" for batch in rig.store.frames.analysed(run.id)))
    counted = run.accuracy()["tp"]
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed + 20)
    run.stop_camera()
    ended_truly(rig, run)
    # The dot is 30 µm deep: with the second model neither hit nor miss. A batch may be scored after it was counted.
    later = sum(len(b.frames) for b in rig.store.frames.analysed(run.id) if b.model_id == "shallow")
    assert run.accuracy()["frames"] - run.accuracy()["tp"] == later
    assert run.accuracy()["tp"] >= counted


# ---- the camera ----


def test_image_numbers_that_restart_stop_the_camera(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    fetch = rig.microscope.next_frame
    rig.microscope.next_frame = lambda timeout_s: (  # type: ignore[method-assign]
        None if (frame := fetch(timeout_s)) is None else replace(frame, index=0)
    )
    item = ended_truly(rig, run)
    assert item.state == "failed"
    assert "they must rise" in (item.problem or "")
    assert not rig.microscope.is_running
    assert not run.microscope_failed
    del rig.microscope.next_frame  # type: ignore[method-assign]
    again = rig.run(**ROOMY)
    again.start()
    wait_for(lambda: again.ledger.counts().analysed >= 5)
    again.stop_camera()
    assert ended_truly(rig, again).state == "finished"


def test_a_camera_that_does_not_stop_is_opened_again(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    rig.microscope.stop_sequence = unforeseen  # type: ignore[method-assign]
    run.stop_camera()
    item = ended_truly(rig, run)
    assert item.state == "failed"
    assert "Unforeseen" in (item.problem or "")
    assert run.microscope_failed
    del rig.microscope.stop_sequence  # type: ignore[method-assign]


@pytest.mark.parametrize("failure", [Unforeseen("no trigger"), MicroscopeError("x", "No trigger.", "Look.")])
def test_a_camera_that_does_not_start_ends_the_run_whatever_it_raises(rig: Rig, failure: Exception) -> None:
    run = rig.run(RunRequest(record=True))

    def fail() -> None:
        raise failure

    rig.microscope.start_sequence = fail  # type: ignore[method-assign]
    with pytest.raises(MicroscopeError, match=r"[Nn]o trigger"):
        run.start()
    item = ended_truly(rig, run)
    assert item.state == "failed"
    assert "o trigger" in (item.problem or "")
    assert run.microscope_failed
    assert rig.ended == [run]


@pytest.mark.parametrize("name", ["finish", "store", "record", "grab"])
def test_a_thread_that_cannot_be_had_ends_the_run(rig: Rig, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    run = rig.run(RunRequest(record=True), **ROOMY)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run.start()
    item = ended_truly(rig, run)
    assert item.state == "failed"
    assert "can't start new thread" in (item.problem or "")
    assert not rig.microscope.is_running


def test_an_interrupted_run_says_why(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    run.interruption = "The service was ended by SIGHUP."
    run.stop_camera()
    item = ended_truly(rig, run)
    assert (item.state, item.problem) == ("interrupted", "The service was ended by SIGHUP.")


# ---- the database ----


@pytest.fixture
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """A rig whose database, and whose patience with it, take a thousandth of the time."""
    monkeypatch.setattr("service.engine.result_writer._PAUSE_S", 0.01)
    monkeypatch.setattr("service.engine.result_writer._PATIENCE_S", 0.3)
    monkeypatch.setattr("service.engine.result_writer._END_PATIENCE_S", 0.1)
    rig = Rig(tmp_path)
    rig.store.close()
    rig.store = Store(Database(tmp_path / "bathyscope.db", busy_timeout_s=0.02))
    yield rig
    rig.close()


def lock(rig: Rig) -> sqlite3.Connection:
    other = sqlite3.connect(rig.folder / "bathyscope.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    return other


def catch_up_with(rig: Rig, messages: list[str] | None = None) -> list[str]:
    """Let the engine's catch-up do what is to be done; the kinds of its events, and in `messages` what they say."""
    kinds: list[str] = []

    def add_event(kind: str, message: str, run_id: str | None) -> None:
        kinds.append(kind)
        if messages is not None:
            messages.append(message)

    catch_up = CatchUp(rig.store, rig.folder, lambda _: rig.localizer, batch=8, add_event=add_event)
    catch_up.start()
    catch_up.wake()
    wait_for(lambda: catch_up.idle)
    catch_up.close()
    return kinds


def test_results_that_could_not_be_stored_are_computed_again(quick: Rig) -> None:
    run = quick.run(RunRequest(record=True), recording="dots.ome.zarr", **ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    other = lock(quick)
    wait_for(lambda: run.ledger.counts().deferred >= 20)
    counts = run.ledger.counts()
    assert counts.balances
    tracked = run._tracking.frames
    assert tracked > counts.analysed  # what was analysed and is not stored does not count
    wait_for(lambda: run._tracking.frames > tracked + 10)  # and the live analysis goes on
    other.execute("ROLLBACK")
    other.close()
    wait_for(lambda: run.ledger.counts().analysed > counts.analysed)
    run.stop_camera()
    item = ended_truly(quick, run)
    assert item.state == "finished"
    assert "could not be stored" in (item.problem or "")
    assert item.ledger["deferred"] >= 20
    assert item.ledger["skipped"] == 0
    assert catch_up_with(quick) == ["run_caught_up"]
    item = quick.store.runs.get(run.id)
    assert item.revision == 2
    assert item.ledger["analysed"] == item.ledger["recorded"] == item.ledger["grabbed"]
    numbers = quick.store.frames.recorded(run.id).frames.numbers
    assert len(numbers) == item.ledger["exposed"] - item.ledger["lost"]
    assert sorted(stored_numbers(quick, run)) == sorted(numbers.tolist())


def test_the_ledger_balances_at_every_moment_of_an_outage(quick: Rig) -> None:
    run = quick.run(RunRequest(record=True), **ROOMY)
    wrong, over = [], threading.Event()

    def look() -> None:
        while not over.is_set():
            counts = run.ledger.counts()
            if not counts.balances:
                wrong.append(counts)

    watcher = threading.Thread(target=look)
    run.start()
    watcher.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    other = lock(quick)
    wait_for(lambda: run.ledger.counts().deferred >= 10)
    other.execute("ROLLBACK")
    other.close()
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed)
    run.stop_camera()
    assert run.wait(30)
    over.set()
    watcher.join()
    assert wrong == []


def test_without_a_recording_unstored_results_are_skipped_frames(quick: Rig) -> None:
    run = quick.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    other = lock(quick)
    wait_for(lambda: run.ledger.counts().skipped >= 10)
    other.execute("ROLLBACK")
    other.close()
    run.stop_camera()
    item = ended_truly(quick, run)
    assert item.ledger["skipped"] >= 10
    assert item.ledger["deferred"] == 0
    assert quick.store.catch_ups.waiting() == []


def test_a_database_that_comes_back_in_time_loses_nothing(rig: Rig) -> None:
    """Refused connections fail at once, so patience counts time and not tries."""
    run = rig.run(**ROOMY)
    real, refused = rig.store.append, []

    def away(*arguments: Any, **named: Any) -> None:
        if len(refused) < 8:
            refused.append(arguments)
            raise StoreError("The database cannot be used: connection refused.", "Start the server.")
        real(*arguments, **named)

    rig.store.append = away  # type: ignore[method-assign]
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    run.stop_camera()
    item = ended_truly(rig, run)
    assert item.problem is None
    assert item.ledger["analysed"] == item.ledger["grabbed"]


def test_the_end_of_a_run_waits_once_for_all_that_is_unstored(quick: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that stays: however many batches wait, the end is as patient as for one of them."""
    monkeypatch.setattr("service.engine.result_writer._PATIENCE_S", 60.0)
    run = quick.run(**ROOMY)
    tried: set[float] = set()

    def refuse(*arguments: Any, **_: Any) -> None:
        tried.add(arguments[1].t_s[0])
        raise StoreError("The database is locked.", "Wait.")

    quick.store.append = refuse  # type: ignore[method-assign]
    run.start()
    wait_for(lambda: run.stages()["store"]["depth"] >= 4)
    run.stop_camera()
    item = ended_truly(quick, run)
    assert len(tried) == 1
    assert item.ledger["skipped"] == item.ledger["grabbed"]
    assert "could not be stored: The database is locked" in (item.problem or "")


def test_a_commit_whose_answer_is_lost_is_not_made_twice(quick: Rig) -> None:
    run = quick.run(**ROOMY)
    real, calls = quick.store.append, []

    def lose_the_answer(*arguments: Any, **named: Any) -> None:
        real(*arguments, **named)
        calls.append(arguments)
        if len(calls) % 2:
            raise StoreError("The database cannot be used: the connection was closed.", "Look at the server.")

    quick.store.append = lose_the_answer  # type: ignore[method-assign]
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 50)
    run.stop_camera()
    item = ended_truly(quick, run)
    assert item.problem is None
    assert item.ledger["analysed"] == item.ledger["grabbed"]


def test_an_end_that_is_stored_late_leaves_no_word_of_it(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    real, tries = rig.store.runs.finish, []

    def locked_at_first(*arguments: Any, **named: Any) -> Any:
        tries.append(arguments)
        if len(tries) == 1:
            raise StoreError("The database is locked.", "Wait.")
        return real(*arguments, **named)

    rig.store.runs.finish = locked_at_first  # type: ignore[method-assign]
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    run.stop_camera()
    item = ended_truly(rig, run)
    assert len(tries) == 2
    assert (item.state, item.problem) == ("finished", None)


def test_an_end_that_cannot_be_stored_is_told_and_frees_the_microscope(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    rig.store.runs.finish = unforeseen  # type: ignore[method-assign]
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    run.stop_camera()
    assert run.wait(30)
    assert rig.ended == [run]
    assert "The end could not be stored: 'an unforeseen error'" in (run.problem or "")


def test_a_run_that_is_deleted_under_way_fails(rig: Rig) -> None:
    run = rig.run(**ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 5)
    with sqlite3.connect(rig.folder / "bathyscope.db", timeout=30) as other:
        for table in ("track_points", "tracks", "localization_batches", "analysed_frames", "recorded_frames", "runs"):
            other.execute(f"DELETE FROM {table}")
    other.close()
    wait_for(lambda: not rig.microscope.is_running)
    run.stop_camera()
    assert run.wait(60)
    assert run.state == "failed"
    assert "There is no run" in (run.problem or "")
    assert run.ledger.counts().balances


# ---- the recording ----


@pytest.mark.parametrize("moved", [True, False])
def test_a_recording_whose_folder_is_taken_away_is_not_recorded(rig: Rig, moved: bool) -> None:
    run = rig.run(RunRequest(record=True), **ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().recorded >= 32)
    folder = rig.folder / "dots.ome.zarr"
    elsewhere = folder.rename(rig.folder / "elsewhere")
    if not moved:
        shutil.rmtree(elsewhere)
    wait_for(lambda: run.recorder_state == "stopped")
    assert not folder.exists()
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed)
    run.stop_camera()
    item = ended_truly(rig, run)
    assert item.state == "finished"
    assert item.ledger["recorded"] == 0
    assert item.ledger["unrecorded"] == item.ledger["grabbed"]
    assert item.ledger["deferred"] == 0
    assert "was moved or deleted" in (item.problem or "")
    assert "frames cannot be read any more" in (item.problem or "")
    ((kind, _),) = rig.events
    assert kind == "recording_stopped"


def test_one_file_that_vanishes_is_withdrawn_with_its_deferred_frames(rig: Rig) -> None:
    run = rig.run(RunRequest(record=True), batch=1, analysis_queue=1, record_queue=1000)
    rig.localizer.gate.clear()
    run.start()
    wait_for(lambda: run.ledger.counts().recorded >= 48)
    (rig.folder / "dots.ome.zarr" / "0" / "c" / "1" / "0" / "0").unlink()
    run.stop_camera()
    rig.localizer.gate.set()
    item = ended_truly(rig, run)
    assert item.ledger["unrecorded"] == 16
    assert item.ledger["recorded"] == item.ledger["grabbed"] - 16
    # The first frames were analysed, those of the second shard came too late and are nowhere now.
    assert item.ledger["skipped"] == 16
    assert item.ledger["deferred"] == item.ledger["grabbed"] - item.ledger["analysed"] - 16
    assert "16 recorded frames cannot be read any more" in (item.problem or "")


def test_a_file_that_vanishes_later_is_told_and_not_taken_for_dark_frames(quick: Rig) -> None:
    run = quick.run(RunRequest(record=True), recording="dots.ome.zarr", batch=1, analysis_queue=1, record_queue=1000)
    quick.localizer.gate.clear()
    run.start()
    wait_for(lambda: run.ledger.counts().recorded >= 48)
    run.stop_camera()
    quick.localizer.gate.set()
    before = ended_truly(quick, run)
    (quick.folder / "dots.ome.zarr" / "0" / "c" / "1" / "0" / "0").unlink()
    messages: list[str] = []
    assert catch_up_with(quick, messages) == ["catch_up_failed"]
    assert "A file of the recording is missing" in messages[0]
    item = quick.store.runs.get(run.id)
    assert item.revision == 1
    numbers = stored_numbers(quick, run)
    assert not set(numbers) & set(range(16, 32))
    assert item.ledger["analysed"] == len(numbers) >= before.ledger["analysed"]


def test_a_failing_catch_up_thread_is_told(quick: Rig) -> None:
    quick.store.catch_ups.waiting = unforeseen  # type: ignore[method-assign]
    assert catch_up_with(quick) == ["catch_up_failed"]


def test_a_run_that_the_database_cannot_give_does_not_hold_up_the_others(
    quick: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.engine.catch_up._RETRY_S", 0.01)
    looked: list[str] = []
    healed = threading.Event()

    def examine(run_id: str, smooth: bool) -> bool:
        looked.append(run_id)
        if run_id == "damaged" and not healed.is_set():
            healed.set()
            raise StoreError("A list of 3 frames has 7 bytes.", "It is damaged: restore a backup.")
        return False

    quick.store.catch_ups.waiting = lambda: ["damaged", "whole"]  # type: ignore[method-assign]
    quick.store.catch_ups.examine = examine  # type: ignore[method-assign]
    quick.store.runs.get = lambda _: SimpleNamespace(settings={})  # type: ignore[method-assign, assignment, return-value]
    assert catch_up_with(quick) == []
    assert looked == ["damaged", "whole"] * 2


def test_the_stage_before_the_store_holds_what_one_batch_is_tried_for() -> None:
    assert _STORE_BATCHES * BATCH_S >= _PATIENCE_S

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hardware.microscope import Frame
from models.tables import Localizations, Tracks
from models.tracking import Tracker, smoothed_tracks, track_table
from service.analysis.analyzer import Analyzer
from service.engine.catch_up import CatchUp
from service.engine.ledger import LedgerCounts
from service.engine.recorder import Recording
from service.store.catch_ups import _corrected_ledger
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.store import Store
from service.store.tracks import TrackQuery
from service.tracking_settings import TrackingPart
from tests.models.image_samples import image_model
from tests.service.engine_samples import PIXEL_UM, SHAPE, DividingLocalizer, DotLocalizer, DotScene

FRAMES = 60
BATCH = 4
SHARD = 16


def dot_frames(count: int = FRAMES) -> list[Frame]:
    """A dot at 100 frames a second; every tenth image number was lost."""
    scene = DotScene()
    numbers = [number for number in range(2 * count) if number % 10 != 3][:count]
    return [
        Frame(scene.render(n / 100, 0.01, 0.0).astype(np.uint16) + 100, n, 500.0 + n / 100, "simulation", 0.0)
        for n in numbers
    ]


class Past:
    """A data directory with runs that ended with frames recorded and not analysed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = Store.open(folder / "bathyscope.db")
        self.store.migrate()
        self.localizer = DotLocalizer()
        self.loaded: list[str] = []
        self.events: list[tuple[str, str, str]] = []
        self.all = dot_frames()

    def run(
        self,
        late: Callable[[int], bool],
        state: Any = "finished",
        models: tuple[str, ...] = ("dots",),
        tracking: TrackingPart | None = None,
        analysis: dict[str, str] | None = None,
    ) -> str:
        """A run whose frames of rank n are deferred where `late(n)`; its batches are of the models in turn."""
        name = f"run-{len(self.store.runs.list().items)}"
        recording = Recording(self.folder / f"{name}.ome.zarr", SHAPE, PIXEL_UM, 0.01, SHARD, {})
        for first in range(0, FRAMES, SHARD):
            shard = self.all[first : first + SHARD]
            recording.append([frame.pixels for frame in shard], times_of(shard))
        settings: dict[str, Any] = {} if tracking is None else {"tracking": tracking.record()}
        settings |= {} if analysis is None else {"analysis": analysis}
        self.store.runs.create(
            run_id=name, model_id="dots", record=True, recording=f"{name}.ome.zarr", settings=settings
        )
        self.store.frames.commit(name, [(0, times_of(self.all))])
        part_of = tracking or TrackingPart()
        analyzer = Analyzer(self.localizer, part_of.tracker(), part_of.candidates_from)
        live = [frame for rank, frame in enumerate(self.all) if not late(rank)]
        ledger = self.ledger(0, FRAMES - len(live))
        for place, first in enumerate(range(0, len(live), 10)):
            part = live[first : first + 10]
            results = list(analyzer.analyze(part))
            ledger = self.ledger(first + len(part), FRAMES - len(live))
            self.store.append(
                name,
                ResultBatch(
                    Localizations.concatenate(result.found for result in results),
                    Tracks.concatenate(result.state.rows() for result in results),
                    (results[0].state.t_s, results[-1].state.t_s),
                    analysed=times_of(part),
                    model_id=models[place % len(models)],
                ),
                ledger,
            )
        if state == "finished":
            self.store.runs.finish(name, ledger=ledger, smooth=tracking is not None and tracking.smooths)
        self.localizer.batches.clear()
        return name

    def ledger(self, analysed: int, deferred: int) -> dict[str, int]:
        exposed = self.all[-1].index + 1
        return LedgerCounts(
            exposed=exposed, grabbed=FRAMES, lost=exposed - FRAMES, recorded=FRAMES, analysed=analysed,
            deferred=deferred, in_flight=FRAMES - analysed - deferred,
        ).as_dict()  # fmt: skip

    def load(self, model_id: str) -> DotLocalizer:
        self.loaded.append(model_id)
        return self.localizer

    def catch_up(self) -> CatchUp:
        catch_up = CatchUp(
            self.store, self.folder, self.load, batch=BATCH, add_event=lambda *event: self.events.append(event)
        )
        catch_up.start()
        return catch_up

    def catch_all_up(self) -> None:
        catch_up = self.catch_up()
        catch_up.wake()
        wait_for(lambda: catch_up.idle)
        catch_up.close()
        assert not catch_up.is_alive()


def times_of(frames: list[Frame]) -> FrameTimes:
    return FrameTimes.of((frame.index for frame in frames), (frame.time_s for frame in frames))


def wait_for(condition: Any, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


@pytest.fixture
def past(tmp_path: Path) -> Iterator[Past]:
    past = Past(tmp_path)
    yield past
    past.store.close()


def tracks_of(past: Past, run: str, revision: int | None = None) -> Tracks:
    query = TrackQuery(revision=revision)
    return past.store.tracks.read(past.store.tracks.select(run, query))


def caught_up(past: Past, run: str) -> None:
    """All frames are analysed once, and the newest tracks are those of a run that was fast enough."""
    item = past.store.runs.get(run)
    assert item.ledger == past.ledger(FRAMES, 0)
    assert past.store.catch_ups.waiting() == []
    numbers = [number for batch in past.store.frames.analysed(run) for number in batch.frames.numbers.tolist()]
    assert sorted(numbers) == [frame.index for frame in past.all]
    found = past.store.localizations.read(run)
    assert found.frame.tolist() == sorted(numbers)
    assert item.revision == 2
    # Blobs are of single precision, so the table is taken from them.
    tracker = Tracker()
    expected = Tracks.concatenate(
        tracker.step(frame.time_s - 500.0, frame.index, found.select(found.frame == frame.index)).rows()
        for frame in past.all
    )
    tracks = tracks_of(past, run)
    assert len(tracks) > FRAMES / 2
    for name, column in expected.columns().items():
        np.testing.assert_allclose(tracks.columns()[name], column, atol=1e-9)


@pytest.mark.parametrize("late", [lambda n: n % 3 == 1, lambda n: n > 20, lambda n: n < 20, lambda _: True])
def test_deferred_frames_are_analysed_and_tracked_as_revision_2(past: Past, late: Callable[[int], bool]) -> None:
    run = past.run(late)
    before = tracks_of(past, run).columns()
    deferred = past.store.runs.get(run).ledger["deferred"]
    assert deferred
    past.catch_all_up()
    if not late(0):
        caught_up(past, run)
    assert past.store.runs.get(run).revision == 2
    assert sum(past.localizer.batches) == deferred
    assert max(past.localizer.batches) == BATCH
    for name, column in tracks_of(past, run, 1).columns().items():
        np.testing.assert_array_equal(column, before[name])
    ((kind, message, of),) = past.events
    assert (kind, of) == ("run_caught_up", run)
    assert "revision 2" in message


class Light:
    """Keeps the frames that it is given, and removes nothing."""

    in_use = True

    def __init__(self) -> None:
        self.begun: list[Any] = []
        self.followed: list[Any] = []

    def begin_with(self, frames: Any, count: int) -> None:
        self.begun += list(frames)
        assert len(self.begun) == count

    def follow(self, frames: Any) -> list[None]:
        self.followed += list(frames)
        return [None] * len(frames)


@pytest.mark.parametrize("mode", ["auto", "off"])
def test_the_static_light_of_deferred_frames_begins_with_their_recording(past: Past, mode: str) -> None:
    light: Any = Light()
    past.localizer.light = light
    run = past.run(lambda n: n % 3 == 1, analysis={"static_light": mode})
    past.catch_all_up()
    assert past.store.runs.get(run).revision == 2
    if mode == "off":
        assert light.begun == light.followed == []
        return
    np.testing.assert_array_equal(light.begun, [frame.pixels for frame in past.all])
    np.testing.assert_array_equal(light.followed, [frame.pixels for frame in past.all[1::3]])


@pytest.mark.parametrize("fit", ["auto", "off"])
def test_the_images_of_deferred_frames_are_fitted(past: Past, fit: Literal["auto", "off"]) -> None:
    run = past.run(lambda n: n % 3 == 1, tracking=TrackingPart(fit=fit))  # live, without time for a fit
    past.localizer.image_model = image_model(PIXEL_UM)
    past.catch_all_up()
    assert past.store.runs.get(run).revision == 2, past.events
    found = past.store.localizations.read(run)
    fitted = {int(frame) for frame in found.frame[np.isfinite(found.chi2)]}
    late = {frame.index for frame in past.all[1::3]}
    assert fitted <= late
    assert bool(fitted) == (fit == "auto")


def test_nothing_happens_without_deferred_frames(past: Past) -> None:
    run = past.run(lambda _: False)
    past.catch_all_up()
    assert past.store.runs.get(run).revision == 1
    assert past.loaded == past.events == []


def test_a_pause_lets_the_step_end_and_no_other_begin(past: Past) -> None:
    run = past.run(lambda n: n % 2 == 1)
    past.localizer.gate.clear()
    catch_up = past.catch_up()
    catch_up.wake()
    wait_for(lambda: past.loaded)
    paused = threading.Thread(target=catch_up.pause)
    paused.start()
    paused.join(0.05)
    assert paused.is_alive()  # the batch before the gate is waited for
    past.localizer.gate.set()
    paused.join(30)
    assert past.localizer.batches == [BATCH]
    catch_up.wake()
    time.sleep(0.05)
    assert past.localizer.batches == [BATCH]
    assert not catch_up.idle
    catch_up.resume()
    wait_for(lambda: catch_up.idle)
    catch_up.close()
    caught_up(past, run)


def smoothed(past: Past, run: str) -> Tracks:
    """The tracks of a run whose frames were all analysed, smoothed as a table."""
    times_s = {frame.index: frame.time_s - 500.0 for frame in past.all}
    return smoothed_tracks(past.store.localizations.read(run), times_s=times_s)


def assert_same(found: Tracks, expected: Tracks) -> None:
    assert len(found) == len(expected) > FRAMES / 2
    order = np.lexsort((expected.track_id, expected.frame))
    mine = np.lexsort((found.track_id, found.frame))
    for name, column in expected.columns().items():
        np.testing.assert_allclose(found.columns()[name][mine], column[order], atol=1e-9, err_msg=name)


@pytest.mark.parametrize(
    ("late", "kinds"), [(lambda _: False, ["run_smoothed"]), (lambda n: n % 3 == 1, ["run_caught_up"])]
)
def test_a_run_is_smoothed_when_it_has_ended(past: Past, late: Callable[[int], bool], kinds: list[str]) -> None:
    tracking = TrackingPart(step_um=0.5)
    run = past.run(late, tracking=tracking)
    live = tracks_of(past, run, 1)
    past.catch_all_up()
    item = past.store.runs.get(run)
    assert item.revision == 2
    ((made,),) = (item.revisions,)
    assert (made["revision"], made["form"], made["model_ids"]) == (2, "smoothed", ["dots"])
    assert TrackingPart.of_record(made["tracking"]) == tracking
    assert made["version"]
    assert made["made_at"].endswith("+00:00")
    assert [event[0] for event in past.events] == kinds
    assert past.events[0][1].endswith("revision 2, 1 track.")
    found = tracks_of(past, run)
    times_s = {frame.index: frame.time_s - 500.0 for frame in past.all}
    assert_same(
        found, smoothed_tracks(past.store.localizations.read(run), None, tracking.tracker_settings, times_s=times_s)
    )
    seen = live.select(live.observed == 1)
    assert {*zip(seen.track_id, seen.frame, strict=True)} <= {*zip(found.track_id, found.frame, strict=True)}
    assert len(found) > len(live)
    for name, column in tracks_of(past, run, 1).columns().items():
        np.testing.assert_array_equal(column, live.columns()[name])
    past.catch_all_up()
    assert past.store.runs.get(run).revision == 2


@pytest.mark.parametrize("tracking", [TrackingPart(smooth_after_run=False), TrackingPart(preset="published")])
def test_a_run_that_is_not_to_be_smoothed(past: Past, tracking: TrackingPart) -> None:
    run = past.run(lambda _: False, tracking=tracking)
    past.catch_all_up()
    assert past.store.runs.get(run).revision == 1
    late = past.run(lambda n: n > 50, tracking=tracking)
    past.catch_all_up()
    item = past.store.runs.get(late)
    assert [(made["form"], made["tracking"]) for made in item.revisions] == [("as live", tracking.record())]
    found = past.store.localizations.read(late)
    times_s = {frame.index: frame.time_s - 500.0 for frame in past.all}
    known = tracking.tracker_settings, tracking.preset
    assert_same(
        tracks_of(past, late), track_table(found, None, *known, times_s=times_s, lag_frames=tracking.lag_frames)
    )


@pytest.mark.parametrize("smooth", [True, False])
def test_the_next_revision_has_events_of_its_own(past: Past, smooth: bool) -> None:
    past.localizer = DividingLocalizer()
    run = past.run(lambda n: n > 40, tracking=TrackingPart(smooth_after_run=smooth))
    assert len(past.store.track_events.list(run).events) == 0
    past.catch_all_up()
    page = past.store.track_events.list(run)
    assert (page.revision, page.events.kind.tolist(), page.events.frame.tolist()) == (2, ["split"], [35])
    assert {page.events.track_id[0], page.events.other_id[0]} == set(tracks_of(past, run).track_id)


class Killed(BaseException):
    """Stands for the death of the process at a call of the store."""


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("call", "times", "after"),
    [
        ("append", 2, False), ("append", 2, True), ("append", 7, True), ("add_tracks", 0, True),
        ("complete", 0, False), ("examine", 0, True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tracking", [None, TrackingPart()])
def test_a_killed_process_goes_on_where_it_was(
    past: Past, monkeypatch: pytest.MonkeyPatch, tracking: TrackingPart | None, call: str, times: int, after: bool
) -> None:
    run = past.run(lambda n: n % 2 == 1, tracking=tracking)
    real, calls = getattr(past.store.catch_ups, call), []

    def deadly(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) <= times:
            return real(*arguments)
        if after:
            real(*arguments)
        raise Killed

    monkeypatch.setattr(past.store.catch_ups, call, deadly)
    catch_up = past.catch_up()
    catch_up.wake()
    catch_up.join(30)
    assert not catch_up.is_alive()
    assert len(calls) == times + 1
    assert past.store.runs.get(run).revision == 1
    with pytest.raises(UnknownItem, match="no revision 2"):  # what is not complete is not shown
        tracks_of(past, run, 2)
    monkeypatch.undo()
    past.catch_all_up()
    if tracking is None:
        caught_up(past, run)
    else:
        assert_same(tracks_of(past, run, 2), smoothed(past, run))


def test_a_killed_run_is_completed_from_what_it_recorded(past: Past) -> None:
    run = past.run(lambda n: n >= 30, state="running")
    ledger = past.store.runs.get(run).ledger
    # The last ledger is of the 20th frame; of the 12 that were on their way then, two are nowhere.
    ledger |= {
        "exposed": past.all[19].index + 1, "grabbed": 22, "recorded": 16, "analysed": 10, "deferred": 0, "in_flight": 12
    }  # fmt: skip
    ledger["lost"] = ledger["exposed"] - 22
    past.store.append(
        run,
        ResultBatch(Localizations.empty(), Tracks.empty(), (9.0, 9.0), analysed=FrameTimes.of([2000], [509.0])),
        ledger,
    )
    assert past.store.runs.interrupt_open() == [run]
    past.catch_all_up()
    item = past.store.runs.get(run)
    counts = LedgerCounts(**item.ledger)
    assert counts.balances
    assert (counts.analysed, counts.deferred, counts.recorded) == (FRAMES + 1, 0, FRAMES)
    assert counts.exposed == 2001
    assert counts.in_flight == 2
    assert item.revision == 2
    assert item.state == "interrupted"


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["lost", "grabbed"]), st.booleans(), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 40), st.integers(0, 5), st.booleans(),
)  # fmt: skip
def test_a_settled_ledger_balances(frames: Any, counted: int, slack: int, killed: bool) -> None:
    """Frames by number: lost or grabbed, analysed, recorded; the ledger knows the first `counted` of them, or fewer."""
    known = [n for n, (fate, analysed, _) in enumerate(frames) if fate == "grabbed" and analysed]
    recorded = [n for n, (fate, _, kept) in enumerate(frames) if fate == "grabbed" and kept]
    if not (known or recorded):
        return
    before = frames[:counted] if killed else frames
    grabbed = sum(fate == "grabbed" for fate, _, _ in before)
    out = sum(n < len(before) for n in known[: max(len(known) - slack, 0) if killed else None])
    skipped = 0 if killed else grabbed - len({*known, *recorded})
    ledger = LedgerCounts(
        exposed=len(before), grabbed=grabbed, lost=len(before) - grabbed, analysed=out, skipped=skipped,
        deferred=0 if killed else grabbed - out - skipped, in_flight=grabbed - out if killed else 0,
    )  # fmt: skip
    assert ledger.balances
    late = np.setdiff1d(recorded, known).astype(np.int64)
    settled = _corrected_ledger(
        ledger.as_dict(), np.array(recorded, np.int64), np.array(known, np.int64), late, killed=killed
    )
    counts = LedgerCounts(**settled)
    assert counts.balances
    assert (counts.recorded, counts.analysed, counts.deferred) == (len(recorded), len(known), len(late))
    assert counts.in_flight == 0 or killed
    if not killed:
        assert (counts.exposed, counts.lost, counts.skipped) == (ledger.exposed, ledger.lost, ledger.skipped)


def test_each_frame_is_localized_with_the_model_of_its_neighbours(past: Past) -> None:
    run = past.run(lambda n: n % 2 == 1, models=("first", "second", "third"))
    past.catch_all_up()
    assert past.loaded == ["first", "second", "third"]
    models = {
        number: batch.model_id for batch in past.store.frames.analysed(run) for number in batch.frames.numbers.tolist()
    }
    assert [models[frame.index] for frame in past.all] == ["first"] * 20 + ["second"] * 20 + ["third"] * 20
    # The dot is one, and each model has a track of its own.
    assert len(past.store.tracks.query(run, TrackQuery()).items) == 3


def test_a_run_that_cannot_be_read_does_not_hold_up_the_others(past: Past) -> None:
    lost, other = past.run(lambda n: n > 50), past.run(lambda n: n > 50)
    shutil.rmtree(past.folder / f"{lost}.ome.zarr")
    past.catch_all_up()
    caught_up_run = past.store.runs.get(other)
    assert caught_up_run.revision == 2
    assert [(kind, run) for kind, _, run in past.events] == [("catch_up_failed", lost), ("run_caught_up", other)]
    item = past.store.runs.get(lost)
    assert item.revision == 1
    assert item.ledger["deferred"] == 9
    assert past.store.catch_ups.waiting() == [lost]


def test_a_model_that_is_gone_is_told(past: Past) -> None:
    run = past.run(lambda n: n > 50)

    def load(model_id: str) -> DotLocalizer:
        raise UnknownItem(f"There is no model {model_id!r}.", "See /api/v1/models.")

    past.load = load
    past.catch_all_up()
    ((kind, message, of),) = past.events
    assert (kind, of) == ("catch_up_failed", run)
    assert "no model 'dots'" in message


def test_a_run_that_is_deleted_meanwhile_is_left_alone(past: Past) -> None:
    run = past.run(lambda n: n > 50)
    computed: list[str | None] = []

    def delete(_: str) -> DotLocalizer:
        computed.append(catch_up.run_id)
        past.store.removals.request(run)
        raise OSError("a file of the recording is gone")

    past.load = delete
    catch_up = past.catch_up()
    catch_up.wake()
    wait_for(lambda: catch_up.idle)
    catch_up.close()
    assert computed == [run]
    assert catch_up.run_id is None
    assert past.events == []


def test_a_database_that_does_not_answer_is_waited_for(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    run = past.run(lambda n: n > 50)
    monkeypatch.setattr("service.engine.catch_up._RETRY_S", 0.01)
    real, calls = past.store.catch_ups.append, []

    def locked_twice(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) < 3:
            raise StoreError("The database is locked.", "Wait.")
        return real(*arguments)

    monkeypatch.setattr(past.store.catch_ups, "append", locked_twice)
    past.catch_all_up()
    caught_up(past, run)

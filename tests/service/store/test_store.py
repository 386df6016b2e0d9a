from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from models.errors import DataError
from models.tables import Localizations, Tracks
from service.store.blobs import pack, unpack
from service.store.database import Database
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.runs import Run, RunFigures
from service.store.schema import metadata
from service.store.store import Store
from service.store.tracks import Bounds, TrackQuery
from tests.conftest import need
from tests.service.store_samples import (
    assert_one_revision,
    fill_first_tables,
    frame_times,
    migrate_to,
    sample_batch,
    sample_ledger,
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    yield store
    store.close()


def filled_run(store: Store, batches: int = 5) -> Run:
    run = store.runs.create(model_id="reference", record=False, name="beads")
    for batch in range(batches):
        store.append(run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    return store.runs.get(run.id)


def test_tables_are_those_of_the_schema(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    store.migrate()  # a second start finds everything done
    store.close()
    database = Database(tmp_path / "bathyscope.db")
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_database_of_a_newer_version_is_refused(store: Store, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(StoreError, match=r"newer version.*9999.*Install that version"):
        store.migrate()


def test_failed_migration_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "bathyscope.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE events (other INTEGER)")  # in the way of the last table
    connection.close()
    store = Store.open(path)
    with pytest.raises(StoreError, match="events"):
        store.migrate()
    store.close()
    with sqlite3.connect(path) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    connection.close()
    assert tables == ["events"]


def test_the_first_tables_are_upgraded_with_what_is_in_them(tmp_path: Path) -> None:
    database = Database(tmp_path / "bathyscope.db")
    migrate_to(database, "0001")
    fill_first_tables(database)
    store = Store(database)
    store.migrate()
    assert store.runs.get("old").ledger == {"deferred": 3}
    np.testing.assert_array_equal(np.sort(store.localizations.read("old").x_um), np.sort(sample_batch(0)[0].x_um))
    assert store.frames.count("old") == len(store.frames.committed("old")) == 0
    assert store.frames.analysed("old") == []
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    store.close()


def test_run_lives_and_ends(store: Store) -> None:
    run = store.runs.create(
        model_id="reference", record=True, recording="recordings/a.ome.zarr", duration_s=2.5, settings={"a": 1}
    )
    assert run.state == "running"
    assert run.started_at.tzinfo == UTC
    assert run.id.startswith(f"{run.started_at:%Y%m%dT%H%M%S}-")
    store.append(
        run.id,
        ResultBatch(*sample_batch(0), frame_times(0)),
        sample_ledger(0),
        RunFigures(latency_ms={"tracked": {"p50": 12.0, "max": float("nan")}}, fps=99.5),
    )
    during = store.runs.get(run.id)
    assert during.ledger == sample_ledger(0)
    assert during.fps == 99.5
    assert during.latency_ms == {"tracked": {"p50": 12.0, "max": None}}  # an undefined figure is null
    ended = store.runs.finish(run.id, ledger=sample_ledger(1), accuracy={"jaccard": 0.9}, figures=RunFigures(fps=100.0))
    assert (ended.state, ended.ledger, ended.accuracy, ended.fps) == (
        "finished", sample_ledger(1), {"jaccard": 0.9}, 100.0,
    )  # fmt: skip
    assert ended.ended_at is not None
    assert store.runs.finish(run.id, "failed", problem="too late") == ended


def test_runs_are_listed_newest_first_in_pages(store: Store) -> None:
    ids = [store.runs.create(model_id="m", record=False).id for _ in range(5)]
    first = store.runs.list(limit=2)
    store.runs.create(model_id="m", record=False)  # must not shift the pages below
    second = store.runs.list(limit=2, cursor=first.next)
    third = store.runs.list(limit=2, cursor=second.next)
    assert [run.id for page in (first, second, third) for run in page.items] == ids[::-1]
    assert third.next is None


@pytest.mark.parametrize(
    "cursor", ["x", "-1", "1.5", "9" * 30, "", "²", "9223372036854775808", "9" * 5000, "1.2.3", "+1", " 1"]
)
def test_cursor_that_no_list_gave_is_refused(store: Store, cursor: str) -> None:
    for ask in (store.runs.list, store.events.list):
        with pytest.raises(DataError, match="not one that a list returned"):
            ask(cursor=cursor)


@pytest.mark.parametrize(
    "cursor", ["x", "1", "1.2.3.4", "1..2", "1.", "1.9223372036854775808", "1.-2", "", "1.²", "1.2.x"]
)
def test_cursor_of_tracks_that_no_list_gave_is_refused(store: Store, cursor: str) -> None:
    run = filled_run(store, batches=1)
    with pytest.raises(DataError, match="not one that a list returned"):
        store.tracks.query(run.id, cursor=cursor)
    with pytest.raises(DataError, match="not one that a list returned"):
        store.tracks.get(run.id, 1, cursor=cursor)


def test_open_runs_are_interrupted_at_their_last_commit(store: Store) -> None:
    run = filled_run(store)
    finished = store.runs.finish(store.runs.create(model_id="m", record=False).id)
    assert store.runs.interrupt_open() == [run.id]
    interrupted = store.runs.get(run.id)
    assert interrupted.state == "interrupted"
    assert interrupted.problem is not None
    assert interrupted.ended_at is not None
    assert interrupted.ended_at >= interrupted.started_at
    assert interrupted.ledger == sample_ledger(4)  # the last committed account stands
    assert store.runs.get(finished.id) == finished
    assert store.runs.interrupt_open() == []


@pytest.mark.parametrize("run_id", ["20260101T000000-0000", "", "a b", "x" * 100, "\0", "ü", "'; DROP TABLE runs"])
def test_unknown_run(store: Store, run_id: str) -> None:
    with pytest.raises(UnknownItem, match="There is no run"):
        store.runs.get(run_id)
    with pytest.raises(UnknownItem):
        store.append(run_id, ResultBatch(*sample_batch(0), (0, 0)), {})
    with pytest.raises(UnknownItem):
        store.tracks.query(run_id)
    with pytest.raises(UnknownItem):
        store.localizations.read(run_id)


def test_localizations_come_back(store: Store) -> None:
    run = filled_run(store)
    found = store.localizations.read(run.id)
    expected = Localizations.concatenate(sample_batch(batch)[0] for batch in range(5))
    assert len(found) == len(expected)
    order = np.argsort(expected.frame, kind="stable")
    for name, column in found.columns().items():
        np.testing.assert_array_equal(column, expected.select(order).columns()[name])
    window = store.localizations.read(run.id, t_from_s=0.15, t_to_s=0.22)
    assert set(window.frame.tolist()) == set(range(10, 30))  # whole batches


def test_localizations_of_a_stream_are_those_of_its_beginning(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catch-up that writes batches meanwhile is left out, whole."""
    monkeypatch.setattr("service.store.localizations._ROWS_AT_ONCE", 60)
    run = filled_run(store)
    stream = store.localizations.stream(run.id)
    parts = [next(stream)]
    for batch in (5, 6):
        store.append(run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    parts += stream
    assert [len(part) for part in parts] == [60, 60, 30]
    assert max(part.frame.max() for part in parts) == 49
    assert len(store.localizations.read(run.id)) == 210


def test_pages_of_localizations_are_bounded_by_their_rows(store: Store) -> None:
    run = filled_run(store)
    pages, cursor = [], None
    while True:
        page = store.localizations.list(run.id, cursor=cursor, most_rows=70)
        pages.append([batch.sequence for batch in page.items])
        cursor = page.next
        if cursor is None:
            break
    assert pages == [[4, 3], [2, 1], [0]]
    assert [batch.sequence for batch in store.localizations.list(run.id, most_rows=1).items] == [4]


def test_deferred_localizations_are_read_in_their_place(store: Store) -> None:
    run = store.runs.create(model_id="m", record=True)
    for batch in (0, 2, 1):
        store.append(run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    assert (np.diff(store.localizations.read(run.id).frame) >= 0).all()
    assert [batch.frame_from for batch in store.localizations.list(run.id).items] == [10, 20, 0]


def test_batch_knows_its_model_and_frames_without_rows(store: Store) -> None:
    run = store.runs.create(model_id="first", record=False)
    nothing = Localizations.empty(), Tracks.empty()
    store.append(run.id, ResultBatch(*nothing, frame_times(0), frames=(0, 9)), sample_ledger(0))
    store.append(run.id, ResultBatch(*sample_batch(1), frame_times(1), model_id="second"), sample_ledger(1))
    newest, oldest = store.localizations.list(run.id).items
    assert (oldest.model_id, oldest.frame_from, oldest.frame_to, len(oldest.localizations)) == ("first", 0, 9, 0)
    assert (newest.model_id, newest.frame_from, newest.frame_to, len(newest.localizations)) == ("second", 10, 19, 30)
    with pytest.raises(DataError, match="does not state its frames"):
        store.append(run.id, ResultBatch(*nothing, (0, 0)), {})


def test_tracks_come_back(store: Store) -> None:
    run = filled_run(store)
    page = store.tracks.query(run.id)
    assert [track.track_id for track in page.items] == [3, 2, 1]
    assert page.items[0].points == 50
    assert (page.items[0].frame_from, page.items[0].frame_to) == (0, 49)
    assert (page.items[0].t_from_s, page.items[0].t_to_s) == (0.0, 0.49)
    points = store.tracks.read(store.tracks.select(run.id))
    assert len(points) == 150
    np.testing.assert_array_equal(points.track_id, np.repeat([1, 2, 3], 50))
    np.testing.assert_array_equal(points.frame, np.tile(np.arange(50), 3))
    np.testing.assert_array_equal(points.x_um, 10.0 * points.track_id + points.frame)
    assert points.observed.dtype == np.int64


def test_some_columns_of_tracks(store: Store) -> None:
    run = filled_run(store)
    selection = store.tracks.select(run.id, TrackQuery(t_from_s=0.1, t_to_s=0.2))
    whole = store.tracks.read(selection)
    found = store.tracks.read_columns(selection, ("z_um", "observed"))
    assert list(found) == ["track_id", "z_um", "observed"]
    for name, column in found.items():
        np.testing.assert_array_equal(column, whole.columns()[name])
        assert column.dtype == whole.columns()[name].dtype
    none = store.tracks.read_columns(store.tracks.select(run.id, TrackQuery(t_from_s=100.0)), ("frame", "x_um"))
    assert {name: (len(column), column.dtype.kind) for name, column in none.items()} == {
        "track_id": (0, "i"),
        "frame": (0, "i"),
        "x_um": (0, "f"),
    }


def test_tracks_by_time_place_and_length(store: Store) -> None:
    run = filled_run(store)
    store.append(run.id, ResultBatch(*sample_batch(5, (4,)), frame_times(5)), sample_ledger(5))

    def found(query: TrackQuery) -> Tracks:
        return store.tracks.read(store.tracks.select(run.id, query))

    window = found(TrackQuery(t_from_s=0.195, t_to_s=0.225))
    assert set(window.frame.tolist()) == {20, 21, 22}
    assert set(window.track_id.tolist()) == {1, 2, 3}
    assert set(found(TrackQuery(t_from_s=0.5)).track_id.tolist()) == {4}
    assert len(found(TrackQuery(t_from_s=100.0))) == 0
    box = found(TrackQuery(bounds=Bounds(x_min_um=30, x_max_um=40, z_min_um=30, z_max_um=50)))
    assert set(box.track_id.tolist()) == {2}
    assert (box.x_um.min(), box.x_um.max()) == (30, 40)
    assert set(found(TrackQuery(min_length=11)).track_id.tolist()) == {1, 2, 3}
    with pytest.raises(UnknownItem, match=r"no revision 2.*newest is 1"):
        found(TrackQuery(revision=2))


def test_pages_of_tracks(store: Store) -> None:
    run = filled_run(store)
    first = store.tracks.query(run.id, limit=2)
    assert ([track.track_id for track in first.items], first.next) == ([3, 2], "1.2")
    last = store.tracks.query(run.id, limit=2, cursor=first.next)
    assert ([track.track_id for track in last.items], last.next) == ([1], None)
    # A page is cut before its points are too many, and is never empty.
    lengths = {most: len(store.tracks.query(run.id, most_points=most).items) for most in (1, 50, 99, 100, 150)}
    assert lengths == {1: 1, 50: 1, 99: 1, 100: 2, 150: 3}


def test_pages_and_streams_stay_on_their_revision(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_revision(store, monkeypatch)


def test_revision_that_is_not_there(store: Store) -> None:
    run = filled_run(store)
    _, tracks = sample_batch(0)
    store.catch_ups.add_tracks(run.id, tracks)  # being written: not there yet
    asks: list[Callable[[], object]] = [
        lambda: store.tracks.query(run.id, TrackQuery(revision=2)),
        lambda: store.tracks.query(run.id, cursor="2.3"),
        lambda: store.tracks.get(run.id, 1, 2),
        lambda: store.tracks.get(run.id, 1, cursor="2.1.5"),
    ]
    for ask in asks:
        with pytest.raises(UnknownItem, match=r"no revision 2.*newest is 1.*states its newest"):
            ask()
    store.catch_ups.complete(run.id)
    with pytest.raises(DataError, match=r"revision is 2, and the cursor is of revision 1"):
        store.tracks.query(run.id, TrackQuery(revision=2), cursor="1.3")
    with pytest.raises(DataError, match="not of track 1"):
        store.tracks.get(run.id, 1, cursor="1.2.5")


def test_run_that_is_deleted_is_no_short_one(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key may be given to the next run, whose tracks are not those that were asked for."""
    monkeypatch.setattr("service.store.tracks._POINTS_AT_ONCE", 40)
    monkeypatch.setattr("service.store.localizations._ROWS_AT_ONCE", 30)
    run = filled_run(store)
    tracks, localizations = store.tracks.stream(store.tracks.select(run.id)), store.localizations.stream(run.id)
    next(tracks)
    next(localizations)
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("DELETE FROM runs")
    connection.close()
    filled_run(store)
    with pytest.raises(UnknownItem, match="deleted meanwhile"):
        list(tracks)
    with pytest.raises(UnknownItem, match="There is no run"):
        list(localizations)


@pytest.mark.parametrize("limit", [1, 2, 1000])
@pytest.mark.parametrize("most_points", [1, 7, 50, 51, 100, 149, 1000])
@pytest.mark.parametrize(
    "query", [TrackQuery(), TrackQuery(0.1, 0.3), TrackQuery(bounds=Bounds(x_min_um=40, x_max_um=55))]
)
def test_pages_hold_every_point_once(store: Store, query: TrackQuery, most_points: int, limit: int) -> None:
    run = filled_run(store)
    parts, cursor = [], None
    for _ in range(200):
        page = store.tracks.query(run.id, query, limit, cursor, most_points=most_points)
        assert len(page.items) <= limit
        parts.append(store.tracks.read(page.selection))
        assert len(parts[-1]) <= most_points
        cursor = page.next
        if cursor is None:
            break
    assert cursor is None
    found, expected = Tracks.concatenate(parts), store.tracks.read(store.tracks.select(run.id, query))
    assert len(expected) > 0
    places = [sorted(zip(its.track_id.tolist(), its.frame.tolist(), strict=True)) for its in (found, expected)]
    assert places[0] == places[1]


def test_pages_of_one_track(store: Store) -> None:
    run = filled_run(store)
    frames, cursor = [], None
    while True:
        page = store.tracks.get(run.id, 2, None, cursor, most_points=20)
        points = store.tracks.read(page.selection)
        assert set(points.track_id.tolist()) == {2}
        frames.append(points.frame.tolist())
        cursor = page.next
        if cursor is None:
            break
    assert frames == [[*range(20)], [*range(20, 40)], [*range(40, 50)]]


def test_many_tracks_are_streamed_without_a_list_of_them(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.tracks._TRACKS_AT_ONCE", 2)
    run = filled_run(store)
    parts = list(store.tracks.stream(store.tracks.select(run.id, TrackQuery(t_to_s=0.05))))
    assert np.unique(Tracks.concatenate(parts).track_id).tolist() == [1, 2, 3]
    assert sum(len(part) for part in parts) == 18


def test_a_long_track_is_streamed_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.tracks._POINTS_AT_ONCE", 40)
    run = filled_run(store)
    parts = list(store.tracks.stream(store.tracks.select(run.id)))
    assert [len(part) for part in parts] == [40, 10] * 3
    assert len(Tracks.concatenate(parts)) == 150


def test_one_track(store: Store) -> None:
    run = filled_run(store)
    page = store.tracks.get(run.id, 2)
    assert [(track.track_id, track.points) for track in page.items] == [(2, 50)]
    assert set(store.tracks.read(page.selection).track_id.tolist()) == {2}
    with pytest.raises(UnknownItem, match=r"no track 9.*lists its tracks"):
        store.tracks.get(run.id, 9)


def test_undefined_numbers_come_back(store: Store) -> None:
    run = store.runs.create(model_id="m", record=False)
    _, tracks = sample_batch(0, (1,))
    tracks.sigma_z_um[3] = np.nan
    store.append(run.id, ResultBatch(Localizations.empty(), tracks, frame_times(0)), sample_ledger(0))
    points = store.tracks.read(store.tracks.select(run.id))
    np.testing.assert_array_equal(np.isnan(points.sigma_z_um), np.arange(10) == 3)


def test_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    run = filled_run(store, batches=1)
    with pytest.raises(StoreError, match="these rows already"):
        store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(7))
    assert store.runs.get(run.id).ledger == sample_ledger(0)
    assert len(store.localizations.list(run.id).items) == 1
    assert store.tracks.query(run.id).items[0].points == 10


def test_committed_frames_are_in_the_order_of_planes(store: Store) -> None:
    run = store.runs.create(model_id="m", record=True)
    first, second = FrameTimes.of([0, 2, 5], [1.0, 1.5, 2.0]), FrameTimes.of([6, 7], [2.5, 3.0])
    store.frames.commit(run.id, [(3, second)])
    store.frames.commit(run.id, [(0, first), (3, second)])  # a repeated entry is the same entry
    assert store.frames.committed(run.id).tolist() == [0, 2, 5, 6, 7]
    assert store.frames.times_s(run.id).tolist() == [1.0, 1.5, 2.0, 2.5, 3.0]
    assert store.frames.recorded(run.id).planes.tolist() == [0, 1, 2, 3, 4]
    assert store.frames.count(run.id) == 5
    other = store.runs.create(model_id="m", record=True)
    assert store.frames.count(other.id) == 0
    for ask in (store.frames.committed, store.frames.count, store.frames.analysed):
        with pytest.raises(UnknownItem):
            ask("nothing")


def test_analysed_frames_are_known_without_rows(store: Store) -> None:
    run = store.runs.create(model_id="m", record=True)
    nothing = Localizations.empty(), Tracks.empty()
    store.append(
        run.id, ResultBatch(*nothing, (0.0, 0.3), analysed=FrameTimes.of([4, 5, 9], [100.0, 100.1, 100.3])), {}
    )
    store.append(
        run.id, ResultBatch(*nothing, (0.4, 0.4), analysed=FrameTimes.of([10], [100.4]), model_id="second"), {}
    )
    first, second = store.frames.analysed(run.id)
    assert first.frames.numbers.tolist() == [4, 5, 9]
    assert first.frames.times_s.tolist() == [100.0, 100.1, 100.3]
    assert (first.model_id, second.model_id) == ("m", "second")
    assert first.start_s == second.start_s == pytest.approx(100.0)
    newest = store.localizations.list(run.id).items[-1]
    assert (newest.frame_from, newest.frame_to) == (4, 9)


@pytest.mark.parametrize(
    "damage",
    [
        "ledger = '{'",
        "ledger = 'null'",
        "settings = '[]'",
        "started_at = 'yesterday'",
        "started_at = 1e300",
        "ended_at = 9e99",
    ],
)
def test_damaged_row_does_not_hide_the_others(store: Store, tmp_path: Path, damage: str) -> None:
    ids = [store.runs.create(model_id="m", record=False).id for _ in range(3)]
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute(f"UPDATE runs SET {damage} WHERE id = ?", (ids[1],))
    connection.close()
    assert [run.id for run in store.runs.list().items] == [ids[2], ids[0]]
    page = store.runs.list(limit=2)  # ends with the damaged one
    assert [run.id for run in (*page.items, *store.runs.list(cursor=page.next).items)] == [ids[2], ids[0]]
    with pytest.raises(StoreError, match=rf"row of run {ids[1]} .* is damaged.*Restore a backup"):
        store.runs.get(ids[1])


@pytest.mark.parametrize("damage", ["details = '{'", "details = '3'", "occurred_at = 'x'", "occurred_at = -1e300"])
def test_damaged_event_does_not_hide_the_others(store: Store, tmp_path: Path, damage: str) -> None:
    ids = [store.events.add("x", "y") for _ in range(3)]
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute(f"UPDATE events SET {damage} WHERE id = ?", (ids[1],))
    connection.close()
    assert [event.id for event in store.events.list().items] == [ids[2], ids[0]]


def test_points_without_values(store: Store, tmp_path: Path) -> None:
    run = filled_run(store, batches=1)
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute("UPDATE track_points SET observed = NULL, x_um = NULL WHERE track_id = 2 AND frame = 3")
    connection.close()
    points = store.tracks.read(store.tracks.get(run.id, 2).selection)
    assert (points.observed.tolist(), np.isnan(points.x_um).tolist()) == (
        [1, 1, 1, 0, 1, 1, 1, 1, 1, 1], [frame == 3 for frame in range(10)],
    )  # fmt: skip


def test_value_beyond_the_database_is_the_caller_s_fault(store: Store) -> None:
    with pytest.raises(DataError, match="does not fit into the database"):
        store.runs.list(limit=2**63)
    with pytest.raises(DataError, match="does not fit into the database"):
        store.runs.create(model_id="\ud800", record=False)


def test_text_that_no_database_takes_is_kept_without_it(store: Store) -> None:
    run = store.runs.create(model_id="m", record=False, name="a\0b\ud800", settings={"a": "\udcff"})
    store.events.add("x", "driver said \udcff\0", details={"text": "\udcff"})
    assert (store.runs.get(run.id).name, store.runs.get(run.id).settings) == ("a?b?", {"a": "?"})
    event = store.events.list().items[0]
    assert (event.message, event.details) == ("driver said ??", {"text": "?"})


def test_text_of_earlier_versions_with_halves_of_characters(store: Store, tmp_path: Path) -> None:
    store.events.add("x", "y")
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute("""UPDATE events SET details = '{"a": "\\ud800 \\ud83d\\ude00"}'""")
    connection.close()
    assert store.events.list().items[0].details == {"a": "? \N{GRINNING FACE}"}


def test_damaged_list_of_frames(store: Store, tmp_path: Path) -> None:
    run = store.runs.create(model_id="m", record=True)
    store.frames.commit(run.id, [(0, FrameTimes.of([0, 1], [1.0, 2.0]))])
    with sqlite3.connect(tmp_path / "bathyscope.db") as connection:
        connection.execute("UPDATE recorded_frames SET data = x'00'")
    connection.close()
    with pytest.raises(StoreError, match=r"2 frames has 1 bytes, and 32 were expected.*damaged"):
        store.frames.committed(run.id)


def test_events(store: Store) -> None:
    ids = [store.events.add("camera_lost", f"Loss {n}", run_id="r", details={"n": n}) for n in range(3)]
    store.events.add("other", "Something", occurred_at=0.0)
    page = store.events.list(limit=2, kind="camera_lost")
    assert [event.id for event in page.items] == [ids[2], ids[1]]
    assert page.items[0].details == {"n": 2}
    assert [event.id for event in store.events.list(cursor=page.next, run_id="r").items] == [ids[0]]
    assert store.events.list().items[0].occurred_at.year == 1970


def test_blob_round_trip_and_damage() -> None:
    found, _ = sample_batch(0)
    blob = pack(found)
    assert len(blob) == 16 + 48 * len(found)
    np.testing.assert_array_equal(unpack(blob).x_um, found.x_um)
    assert len(unpack(pack(Localizations.empty()))) == 0
    for damaged in (b"", blob[:-1], b"XXXX" + blob[4:], blob[:4] + b"\x07" + blob[5:]):
        with pytest.raises(StoreError, match="cannot be read"):
            unpack(damaged)


def test_locked_database_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "bathyscope.db"
    store = Store(Database(path, busy_timeout_s=0.05))
    store.migrate()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match=r"locked by another process.*Try again"):
        store.events.add("x", "y")
    assert store.events.list().items == []  # readers do not wait for a writer
    holder.execute("ROLLBACK")
    holder.close()
    store.events.add("x", "y")
    store.close()


def test_writers_take_turns(store: Store) -> None:
    runs = [store.runs.create(model_id="m", record=False).id for _ in range(4)]

    def write(run_id: str) -> None:
        for batch in range(10):
            store.append(run_id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))

    writers = [threading.Thread(target=write, args=(run_id,)) for run_id in runs]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [store.tracks.query(run_id).items[0].points for run_id in runs] == [100] * 4


@pytest.mark.parametrize(
    ("where", "problem"),
    [
        ("mysql://host/name", "only SQLite and PostgreSQL"),
        ("://", "not understood"),
        ("oracle://host/name", "only SQLite and PostgreSQL"),
        ("postgresql://user:secret@host:port/name", "not understood"),
    ],
)
def test_url_that_cannot_be_used(where: str, problem: str) -> None:
    with pytest.raises(StoreError, match=problem):
        Store.open(where)


def test_missing_driver_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"pip install 'bathyscope\[postgres\]'"):
        Store.open("postgresql://user:secret@host/name")


def test_missing_folder_and_missing_tables(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"cannot be made.*folder exists"):
        Store.open(tmp_path / "nowhere" / "bathyscope.db").migrate()
    (tmp_path / "bathyscope.db").touch()
    empty = Store.open(tmp_path / "bathyscope.db")
    with pytest.raises(StoreError, match="no tables yet"):
        empty.check()
    empty.close()


def test_password_is_not_shown() -> None:
    need("psycopg")
    store = Store.open("postgresql://user:secret@host/name")
    assert "secret" not in store.location
    assert "host" in store.location


def test_path_with_odd_characters(tmp_path: Path) -> None:
    folder = tmp_path / "100% café?#"
    folder.mkdir()
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    store.check()
    store.close()
    assert (folder / "bathyscope.db").exists()


_WRITER = """
import sys
from pathlib import Path
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.store_samples import frame_times, sample_batch, sample_ledger

store = Store.open(Path(sys.argv[1]))
run = store.runs.create(model_id="m", record=False)
print(run.id, flush=True)
for batch in range(100_000):
    store.append(run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    print(batch, flush=True)
"""


@pytest.mark.parametrize("committed", [1, 7, 23])
def test_what_was_committed_survives_kill_9(tmp_path: Path, committed: int) -> None:
    path = tmp_path / "bathyscope.db"
    store = Store.open(path)
    store.migrate()
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        run_id = writer.stdout.readline().strip()
        for _ in range(committed):
            writer.stdout.readline()
        writer.kill()
        said = committed + len(writer.stdout.readlines())

    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()
    assert store.runs.interrupt_open() == [run_id]
    run = store.runs.get(run_id)
    batches = (run.ledger["analysed"] or 0) // 10
    # The process may die between a commit and saying so, never the other way round.
    assert batches in (said, said + 1)
    assert len(store.localizations.list(run_id, limit=1000).items) == batches
    points = store.tracks.read(store.tracks.select(run_id))
    assert len(points) == 30 * batches
    assert len(store.localizations.read(run_id)) == 30 * batches
    store.close()

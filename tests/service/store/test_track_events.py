"""Merges and splits in the database: pages, parts, revisions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.errors import DataError
from models.tables import Localizations, TrackEvents, Tracks
from service.store.errors import UnknownItem
from service.store.result_batch import ResultBatch
from service.store.store import Store
from tests.service.store_samples import recompute, sample_batch, sample_events


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    yield store
    store.close()


def _run(store: Store, *batches: TrackEvents) -> str:
    run = store.runs.create(model_id="reference", record=False).id
    for number, events in enumerate(batches):
        nothing = Localizations.empty(), Tracks.empty()
        store.append(run, ResultBatch(*nothing, (0.0, 0.1), frames=(number, number), events=events), {})
    return run


def assert_same(found: TrackEvents, expected: TrackEvents) -> None:
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(found.columns()[name], column)


def test_events_are_listed_newest_first_in_pages(store: Store) -> None:
    run = _run(store, sample_events(2), TrackEvents.empty(), sample_events(3, first=2))
    every = sample_events(5)
    first = store.track_events.list(run, 3)
    assert (first.revision, first.ids, first.next) == (1, [4, 3, 2], "1.2")
    assert_same(first.events, every.select(np.array([4, 3, 2])))
    rest = store.track_events.list(run, 3, first.next)
    assert (rest.ids, rest.next) == ([1, 0], None)
    assert_same(rest.events, every.select(np.array([1, 0])))
    assert store.track_events.list(_run(store)).ids == []


def test_a_stream_has_all_events_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.track_events._ROWS_AT_ONCE", 2)
    run = _run(store, sample_events(5))
    parts = list(store.track_events.stream(run, 1))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert_same(TrackEvents.concatenate(parts), sample_events(5))
    assert list(store.track_events.stream(_run(store), 1)) == []


def test_each_revision_has_its_own_events(store: Store) -> None:
    run = _run(store, sample_events(3))
    store.catch_ups.add_tracks(run, sample_batch(0)[1], sample_events(1, first=7))
    first = store.track_events.list(run, 2)
    assert first.revision == 1  # the next one is being written
    store.catch_ups.complete(run)
    newest = store.track_events.list(run)
    assert newest.revision == 2
    assert_same(newest.events, sample_events(1, first=7))
    assert store.track_events.list(run, 2, first.next).ids == [0]
    assert store.track_events.list(run, revision=1).ids == [2, 1, 0]
    with pytest.raises(DataError, match="revision is 2, and the cursor is of revision 1"):
        store.track_events.list(run, 2, first.next, revision=2)
    with pytest.raises(UnknownItem, match="no revision 3"):
        store.track_events.list(run, revision=3)
    with pytest.raises(UnknownItem, match="no revision 3"):
        next(store.track_events.stream(run, 3))


def test_events_of_an_attempt_that_was_cut_off_are_deleted(store: Store) -> None:
    run = _run(store, sample_events(1))
    store.catch_ups.add_tracks(run, sample_batch(0)[1], sample_events(4))
    while store.catch_ups.discard_tracks(run):
        pass
    recompute(store, run, 0.0, (1,), 1)
    assert store.track_events.list(run).ids == []
    assert store.track_events.list(run, revision=1).ids == [0]


@pytest.mark.parametrize("cursor", ["4", "1.2.3", "a.b"])
def test_cursors_of_other_lists_are_refused(store: Store, cursor: str) -> None:
    with pytest.raises(DataError, match="is not one that a list returned"):
        store.track_events.list(_run(store), 1, cursor)


def test_a_run_that_is_not_there(store: Store) -> None:
    with pytest.raises(UnknownItem):
        store.track_events.list("none")

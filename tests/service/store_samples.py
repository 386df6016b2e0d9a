"""Rows for the tests of store and API: a few tracks on known paths."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import text

import service.store
from models.tables import Localizations, TrackEvents, Tracks
from service.store.blobs import pack
from service.store.database import Database
from service.store.result_batch import ResultBatch
from service.store.store import Store

_MIGRATIONS = Path(service.store.__file__).parent / "migrations"

FPS = 100.0
FRAMES_PER_BATCH = 10


def frame_times(batch: int) -> tuple[float, float]:
    """Times of the first and last frame of a batch, s."""
    first = batch * FRAMES_PER_BATCH
    return first / FPS, (first + FRAMES_PER_BATCH - 1) / FPS


def sample_batch(batch: int, track_ids: tuple[int, ...] = (1, 2, 3)) -> tuple[Localizations, Tracks]:
    """Batch number `batch`: track k moves along x from 10 k µm at 1 µm a frame, at y = k and z = 20 k µm."""
    frames = np.arange(batch * FRAMES_PER_BATCH, (batch + 1) * FRAMES_PER_BATCH)
    ids = np.repeat(np.array(track_ids, np.int64), len(frames))
    frame = np.tile(frames, len(track_ids))
    x, y, z = 10.0 * ids + frame, ids.astype(float), 20.0 * ids
    one = np.ones(len(ids))
    found = {
        "frame": frame, "x_um": x, "y_um": y, "z_um": z, "photons": 1e4 * one, "background": 2 * one,
        "probability": 0.75 * one, "sigma_x_um": 0.25 * one, "sigma_y_um": 0.25 * one, "sigma_z_um": 0.5 * one,
        "chi2": np.nan * one,
    }  # fmt: skip
    tracks = {
        "track_id": ids, "frame": frame, "t_s": frame / FPS, "x_um": x, "y_um": y, "z_um": z, "vx_um_s": FPS * one,
        "vy_um_s": 0 * one, "vz_um_s": 0 * one, "sigma_x_um": 0.25 * one, "sigma_y_um": 0.25 * one,
        "sigma_z_um": 0.5 * one, "observed": one, "probability": 0.875 * one,
    }  # fmt: skip
    return Localizations.from_columns(found), Tracks.from_columns(tracks)


def sample_events(count: int, first: int = 0) -> TrackEvents:
    """Merges and splits in turn, numbered from `first` on: each number is in every column."""
    numbers = np.arange(first, first + count)
    columns = dict.fromkeys(TrackEvents.names(), numbers + 0.5)
    columns |= dict.fromkeys(("frame", "track_id", "other_id"), numbers)
    return TrackEvents.from_columns(columns | {"kind": np.where(numbers % 2, "split", "merge")})


def sample_ledger(batch: int) -> dict[str, int]:
    """The account after batch number `batch`: nothing lost."""
    seen = (batch + 1) * FRAMES_PER_BATCH
    return {
        "exposed": seen, "grabbed": seen, "lost": 0, "recorded": 0, "unrecorded": 0, "analysed": seen, "deferred": 0,
        "skipped": 0, "in_flight": 0,
    }  # fmt: skip


def migrate_to(database: Database, revision: str) -> None:
    """The tables of an older version."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def fill_first_tables(database: Database) -> None:
    """A run of the first version with one batch, as that version wrote it; the tables are those of revision 0001."""
    found, _ = sample_batch(0)
    with database.writing() as connection:
        connection.execute(
            text(
                "INSERT INTO runs (key, id, name, notes, state, started_at, model_id, record, revision, ledger, "
                "latency_ms, settings) VALUES (1, 'old', 'beads', '', 'finished', 1e9, 'reference', :no, 1, "
                ":ledger, '{}', '{}')"
            ),
            {"no": False, "ledger": '{"deferred": 3}'},
        )
        connection.execute(
            text("INSERT INTO localization_batches VALUES (1, 0, 0, 9, 0.0, 0.09, 'reference', :rows, :data)"),
            {"rows": len(found), "data": pack(found)},
        )


def recompute(store: Store, run_id: str, shift_um: float, track_ids: tuple[int, ...], batches: int) -> int:
    """The next revision of a run's tracks: the same paths, shifted along x. Return its number."""
    for batch in range(batches):
        _, tracks = sample_batch(batch, track_ids)
        tracks.x_um[:] += shift_um
        store.catch_ups.add_tracks(run_id, tracks)
    return store.catch_ups.complete(run_id)


def assert_one_revision(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A catch-up completes while a list is paged, a page is read and a file is streamed: all stay as they began."""
    monkeypatch.setattr("service.store.tracks._POINTS_AT_ONCE", 10)
    run = store.runs.create(model_id="m", record=False).id
    for batch in range(2):
        store.append(run, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    first = store.tracks.query(run, limit=2)
    whole = store.tracks.select(run)
    one = store.tracks.get(run, 2, most_points=15)
    stream = store.tracks.stream(whole)
    parts = [next(stream)]

    assert recompute(store, run, 1000.0, (2, 3, 4), 2) == 2
    second = store.tracks.query(run, limit=2, cursor=first.next)
    assert (first.revision, second.revision, one.revision, whole.revision) == (1, 1, 1, 1)
    assert [track.track_id for track in (*first.items, *second.items)] == [3, 2, 1]
    live = Tracks.concatenate([*parts, *stream])
    for found in (live, store.tracks.read(first.selection), store.tracks.read(second.selection)):
        np.testing.assert_array_equal(found.x_um, 10.0 * found.track_id + found.frame)
    assert np.unique(live.track_id, return_counts=True)[1].tolist() == [20, 20, 20]
    rest = store.tracks.get(run, 2, cursor=one.next, most_points=15)
    points = Tracks.concatenate([store.tracks.read(one.selection), store.tracks.read(rest.selection)])
    assert (rest.revision, rest.next, points.frame.tolist()) == (1, None, [*range(20)])
    assert points.x_um.max() < 1000

    newest = store.tracks.query(run)
    assert (newest.revision, [track.track_id for track in newest.items]) == (2, [4, 3, 2])
    assert store.tracks.read(newest.selection).x_um.min() > 1000

"""The same store on a real PostgreSQL server, started for these tests in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

from models.tables import Localizations, Tracks
from service.store.database import Database
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.schema import metadata
from service.store.store import Store
from service.store.tracks import Bounds, TrackQuery
from tests.conftest import missing, need
from tests.service.store_samples import fill_first_tables, frame_times, migrate_to, sample_batch, sample_ledger


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    psycopg = need("psycopg")
    programs = need("postgresql")
    folder = Path(tempfile.mkdtemp(prefix="bathyscope-pg-"))
    prefix: list[str] = []
    if os.geteuid() == 0:  # PostgreSQL does not run as root
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            shutil.rmtree(folder)
            missing("there is no user postgres to run the server as")
        os.chown(folder, user.pw_uid, user.pw_gid)
        prefix = ["runuser", "-u", "postgres", "--"]

    def run(program: str, *arguments: str) -> None:
        subprocess.run(
            [*prefix, str(programs / program), "-D", str(folder / "data"), *arguments],
            check=True, cwd=folder, stdout=subprocess.DEVNULL,
        )  # fmt: skip

    run("initdb", "-U", "tester", "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    try:
        with psycopg.connect(f"host={folder} user=tester dbname=postgres") as connection:
            assert connection.info.server_version > 0
        yield str(folder)
    finally:
        run("pg_ctl", "stop", "-w", "-m", "immediate")
        shutil.rmtree(folder)


@pytest.fixture
def url(server: str) -> str:
    import psycopg

    name = f"db_{uuid.uuid4().hex}"
    with psycopg.connect(f"host={server} user=tester dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
    return f"postgresql://tester@/{name}?host={server}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store.open(url)
    store.migrate()
    yield store
    store.close()


def test_tables_are_those_of_the_schema(store: Store, url: str) -> None:
    store.migrate()
    database = Database(url)
    with database.reading() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    database.close()


def test_the_first_tables_are_upgraded_with_what_is_in_them(url: str) -> None:
    database = Database(url)
    migrate_to(database, "0001")
    fill_first_tables(database)
    store = Store(database)
    store.migrate()
    assert store.runs.get("old").ledger == {"deferred": 3}
    assert len(store.localizations.read("old")) == len(sample_batch(0)[0])
    assert store.frames.count("old") == 0
    store.close()


def test_frames_committed_and_analysed(store: Store) -> None:
    run = store.runs.create(model_id="m", record=True)
    first, second = FrameTimes.of([0, 2], [1.0, 1.5]), FrameTimes.of([3], [2.0])
    store.frames.commit(run.id, [(0, first)])
    store.frames.commit(run.id, [(0, first), (2, second)])
    assert store.frames.committed(run.id).tolist() == [0, 2, 3]
    assert store.frames.times_s(run.id).tolist() == [1.0, 1.5, 2.0]
    assert store.frames.count(run.id) == 3
    store.append(run.id, Localizations.empty(), Tracks.empty(), {}, (0.0, 0.5), analysed=first)
    (batch,) = store.frames.analysed(run.id)
    assert (batch.frames.numbers.tolist(), batch.start_s) == ([0, 2], 1.0)


def test_a_run_from_start_to_end(store: Store) -> None:
    run = store.runs.create(model_id="m", record=False, settings={"exposure_s": 0.009})
    for batch in range(5):
        found, tracks = sample_batch(batch)
        tracks.sigma_z_um[0] = np.nan
        ledger = sample_ledger(batch)
        store.append(run.id, found, tracks, ledger, frame_times(batch), latency_ms={"tracked": {"p99": float("nan")}})
    assert store.runs.get(run.id).latency_ms == {"tracked": {"p99": None}}
    assert store.runs.interrupt_open() == [run.id]
    ended = store.runs.get(run.id)
    assert (ended.state, ended.ledger, ended.settings) == ("interrupted", sample_ledger(4), {"exposure_s": 0.009})

    query = TrackQuery(t_from_s=0.1, t_to_s=0.29, bounds=Bounds(z_max_um=50))
    points = store.tracks.read(run.id, query, store.tracks.query(run.id, query).items)
    assert (len(points), set(points.track_id.tolist())) == (40, {1, 2})
    summary, track = store.tracks.get(run.id, 1)
    assert (summary.points, len(track), np.isnan(track.sigma_z_um).sum()) == (50, 50, 5)
    found = store.localizations.read(run.id)
    expected = Localizations.concatenate(sample_batch(batch)[0] for batch in range(5))
    np.testing.assert_array_equal(np.sort(found.x_um), np.sort(expected.x_um))


def test_lists_and_events(store: Store) -> None:
    ids = [store.runs.create(model_id="m", record=False).id for _ in range(3)]
    page = store.runs.list(limit=2)
    assert [run.id for run in page.items] == ids[:0:-1]
    assert [run.id for run in store.runs.list(cursor=page.next).items] == ids[:1]
    store.events.add("x", "y", details={"n": 1})
    assert store.events.list().items[0].details == {"n": 1}
    with pytest.raises(UnknownItem):
        store.runs.get("\0")


def test_batch_is_written_whole_or_not_at_all(store: Store) -> None:
    run = store.runs.create(model_id="m", record=False)
    store.append(run.id, *sample_batch(0), sample_ledger(0), frame_times(0))
    with pytest.raises(StoreError, match="these rows already"):
        store.append(run.id, *sample_batch(0), sample_ledger(7), frame_times(0))
    assert store.runs.get(run.id).ledger == sample_ledger(0)
    assert len(store.localizations.list(run.id).items) == 1


def test_database_of_a_newer_version_is_refused(store: Store, url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        store.migrate()


def test_server_that_is_away_is_an_error_with_a_remedy(server: str) -> None:
    store = Store.open(f"postgresql://tester@/nothing?host={server}")
    with pytest.raises(StoreError, match="nothing"):
        store.check()
    away = Store.open("postgresql://tester@/nothing?host=/nowhere")
    with pytest.raises(StoreError, match=r"cannot be used.*server runs"):
        away.check()

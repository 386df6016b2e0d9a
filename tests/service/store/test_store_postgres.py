"""The same store on a real PostgreSQL server, started for these tests in a folder of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text

from models.errors import DataError
from models.tables import Localizations, Tracks
from service.settings import Settings
from service.store.database import Database
from service.store.errors import StoreError, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.run_query import RunQuery
from service.store.runs import RunFigures
from service.store.schema import metadata
from service.store.store import Store
from service.store.tracks import Bounds, TrackQuery
from tests.conftest import missing, need
from tests.service.api_peer import Server, link
from tests.service.store_samples import (
    assert_one_revision,
    fill_first_tables,
    frame_times,
    migrate_to,
    sample_batch,
    sample_ledger,
)


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
    rules = folder / "data" / "pg_hba.conf"
    rules.write_text(f"local all locked scram-sha-256\n{rules.read_text()}")
    run("pg_ctl", "start", "-w", "-l", str(folder / "log"), "-o", f"-k {folder} -c listen_addresses='' -c fsync=off")
    try:
        with psycopg.connect(f"host={folder} user=tester dbname=postgres") as connection:
            connection.execute("CREATE ROLE locked LOGIN PASSWORD 'another'")
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
    store.append(run.id, ResultBatch(Localizations.empty(), Tracks.empty(), (0.0, 0.5), analysed=first), {})
    (batch,) = store.frames.analysed(run.id)
    assert (batch.frames.numbers.tolist(), batch.start_s) == ([0, 2], 1.0)


def test_a_run_from_start_to_end(store: Store) -> None:
    run = store.runs.create(model_id="m", record=False, settings={"exposure_s": 0.009})
    for batch in range(5):
        found, tracks = sample_batch(batch)
        tracks.sigma_z_um[0] = np.nan
        ledger = sample_ledger(batch)
        store.append(
            run.id,
            ResultBatch(found, tracks, frame_times(batch)),
            ledger,
            RunFigures(latency_ms={"tracked": {"p99": float("nan")}}),
        )
    assert store.runs.get(run.id).latency_ms == {"tracked": {"p99": None}}
    assert store.runs.interrupt_open() == [run.id]
    ended = store.runs.get(run.id)
    assert (ended.state, ended.ledger, ended.settings) == ("interrupted", sample_ledger(4), {"exposure_s": 0.009})

    query = TrackQuery(t_from_s=0.1, t_to_s=0.29, bounds=Bounds(z_max_um=50))
    points = store.tracks.read(store.tracks.select(run.id, query))
    assert (len(points), set(points.track_id.tolist())) == (40, {1, 2})
    page = store.tracks.get(run.id, 1)
    track = store.tracks.read(page.selection)
    assert (page.items[0].points, len(track), np.isnan(track.sigma_z_um).sum()) == (50, 50, 5)
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
    store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    with pytest.raises(StoreError, match="these rows already"):
        store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(7))
    assert store.runs.get(run.id).ledger == sample_ledger(0)
    assert len(store.localizations.list(run.id).items) == 1


def test_database_of_a_newer_version_is_refused(store: Store, url: str) -> None:
    import psycopg

    with psycopg.connect(url) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(StoreError, match="newer version"):
        store.migrate()


def test_runs_are_searched_ordered_and_deleted(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.removals._ROWS_PER_STEP", 7)
    ids = {name: store.runs.create(model_id="m", record=False, name=name).id for name in ("b 1", "A 100 %", "c")}
    for batch in range(2):
        store.append(ids["b 1"], ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch))
    for run in ids.values():
        store.runs.finish(run)

    def names(**query: Any) -> list[str]:
        return [run.name for run in store.runs.list(query=RunQuery(**query)).items]

    assert names(order="name") == ["A 100 %", "b 1", "c"]
    assert names(search="100 %") == ["A 100 %"]
    assert names(recorded=False, order="oldest") == ["b 1", "A 100 %", "c"]
    first = store.runs.list(1, query=RunQuery(order="longest"))
    rest = store.runs.list(5, first.next, RunQuery(order="longest"))
    assert {run.name for run in (*first.items, *rest.items)} == set(ids)
    assert store.runs.describe(ids["c"], notes="n\0µ").notes == "n?µ"

    removal = store.removals.request(ids["b 1"])
    assert names(order="name") == ["A 100 %", "c"]
    assert store.removals.pending() == [removal]
    steps = 0
    while store.removals.step(removal):
        steps += 1
    assert steps > 60 // 7
    assert store.removals.pending() == []
    with pytest.raises(UnknownItem):
        store.runs.get(ids["b 1"])
    store.audit.add("Bo", "administer", "10.0.0.9", "DELETE", "/api/v1/runs/x", None, 204)
    assert [(line.who, line.status) for line in store.audit.list().items] == [("Bo", 204)]


def test_server_that_is_away_is_an_error_with_a_remedy() -> None:
    away = Store.open("postgresql://tester@/nothing?host=/nowhere")
    with pytest.raises(StoreError, match=r"does not respond.*server runs"):
        away.check()


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("tester@/nothing?host={server}", r"is not there.*nothing.*createdb"),
        ("nobody@/postgres?host={server}", r"refuses this user.*nobody.*Correct user and password"),
        ("locked@/postgres?host={server}", r"refuses this user.*Correct user and password"),
        ("locked:secret@/postgres?host={server}", r"refuses this user.*Correct user and password"),
        ("tester@no-such-host.invalid/name", r"unknown host.*no-such-host.invalid.*Correct the host"),
        ("tester@127.0.0.1:9/name", r"does not respond.*refused.*server runs"),
        ("tester@/postgres?host={server}&colour=red", r"driver refuses.*colour.*postgresql://user"),
    ],
)
def test_wrong_url_names_the_value_and_the_remedy(server: str, address: str, words: str) -> None:
    store = Store.open(f"postgresql://{address.format(server=server)}")
    for ask in (store.check, store.migrate):
        with pytest.raises(StoreError, match=words) as caught:
            ask()
        assert "secret" not in str(caught.value)
        assert "no tables" not in str(caught.value)


def test_database_without_tables(url: str) -> None:
    store = Store.open(url)
    with pytest.raises(StoreError, match="no tables yet"):
        store.check()
    store.close()


# ---- waits have limits ----


def test_locked_table_is_an_error_with_a_remedy(store: Store, url: str) -> None:
    import psycopg

    patient = Store(Database(url, busy_timeout_s=0.2))
    with psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE runs, events IN ACCESS EXCLUSIVE MODE")
        for ask in (patient.check, patient.runs.interrupt_open, lambda: patient.events.add("x", "y")):
            with pytest.raises(StoreError, match=r"locked by another process.*Try again"):
                ask()
    patient.check()
    patient.close()


def test_statement_without_end_is_ended_by_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.store.postgres._STATEMENT_TIMEOUT_S", 0.2)
    database = Database(url)
    with pytest.raises(StoreError, match=r"too slowly.*statement timeout"), database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    with database.migrating() as connection:  # a migration may take longer
        connection.execute(text("SELECT pg_sleep(0.5)"))
    with pytest.raises(StoreError, match="too slowly"), database.reading() as connection:
        connection.execute(text("SELECT pg_sleep(60)"))
    database.close()


@contextmanager
def frozen(server: str) -> Iterator[None]:
    """All processes of the server stand still while the block runs."""
    main = psutil.Process(int((Path(server) / "data" / "postmaster.pid").read_text().split()[0]))
    processes = [main, *main.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in reversed(processes):
            process.resume()


def test_server_that_stands_still_is_not_waited_for(
    store: Store, server: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from service.store.postgres import BoundedConnection

    run = store.runs.create(model_id="m", record=False)
    monkeypatch.setattr(BoundedConnection, "reply_timeout_s", 0.5)
    monkeypatch.setattr("service.store.postgres._CONNECT_TIMEOUT_S", 2)  # the least that the driver takes
    new = Store.open(url)
    with frozen(server):
        asks: list[Callable[[], None]] = [
            lambda: store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0)),
            new.check,
        ]
        for ask in asks:
            with pytest.raises(StoreError, match=r"does not respond.*goes on by itself"):
                ask()
    monkeypatch.undo()
    store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    assert store.runs.get(run.id).ledger == sample_ledger(0)


def test_status_never_waits_behind_heavy_reads(store: Store, url: str, tmp_path: Path) -> None:
    """A table is locked, and more reads wait for it than there are threads: everything else answers."""
    import psycopg

    run = store.runs.create(model_id="m", record=False)
    store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    with link() as address, psycopg.connect(url) as holder:
        holder.execute("LOCK TABLE tracks IN ACCESS EXCLUSIVE MODE")
        server = Server(Settings(data_dir=tmp_path, database_url=url), address, store, Path("none"))

        client = httpx.Client(base_url=f"http://{server.host}", timeout=120)

        def read(_: int) -> httpx.Response:
            return client.get(f"/api/v1/runs/{run.id}/tracks")

        with client, ThreadPoolExecutor(40) as readers:
            waiting = [readers.submit(read, number) for number in range(40)]
            wait(waiting, return_when="FIRST_COMPLETED")  # some were refused at once, so all places are taken
            for path in ("api/v1/system", "api/v1/models", "api/v1/runs", f"api/v1/runs/{run.id}", "api/v1/events"):
                assert client.get(f"/{path}").status_code == 200
            assert "engine does not respond" in client.get("/readyz").text
            assert sum(answer.done() for answer in waiting) < len(waiting)
            holder.rollback()
            answers = [answer.result() for answer in waiting]
        server.close()
    assert {answer.status_code for answer in answers} == {200, 503}
    for answer in answers:
        if answer.status_code == 503:
            assert answer.headers["retry-after"]
            assert "Try again" in answer.json()["remedy"]


# ---- odd values ----


def test_text_that_no_database_takes_is_kept_without_it(store: Store) -> None:
    run = store.runs.create(
        model_id="m", record=False, name="a\0b\ud800", notes="x" * 100_000, settings={"a": "\udcff\0"}
    )
    store.runs.finish(run.id, "failed", problem="camera \udce9\0")
    store.events.add("x", "driver said \udcff\0", details={"text": "\udcff"})
    kept = store.runs.get(run.id)
    assert (kept.name, kept.problem, len(kept.notes), kept.settings) == ("a?b?", "camera ??", 100_000, {"a": "?\0"})
    assert (store.events.list().items[0].message, store.events.list().items[0].details) == (
        "driver said ??",
        {"text": "?"},
    )


def test_value_beyond_the_database_is_the_caller_s_fault(store: Store) -> None:
    with pytest.raises(DataError, match="does not fit into the database"):
        store.runs.list(limit=2**63)


def test_pages_and_streams_stay_on_their_revision(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_one_revision(store, monkeypatch)

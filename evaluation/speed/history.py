"""Queries of a long run in the database, while results are written: latency, rate of writing, memory, size.

The run has one hour at 100 frames/s with 50 tracks in view, unless asked
otherwise. It is written in batches of 100 ms, as the engine writes it. Then
the real API process answers queries while another process writes a second run
at a multiple of the live rate.
"""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx
import numpy as np
import psutil
from sqlalchemy import create_engine, text

from evaluation.speed.api import api_running
from evaluation.speed.history_rows import FRAMES_PER_BATCH, HistoryRows
from models.errors import DataError
from service.commands.waiting import interruptible
from service.process.children import ignore_signals
from service.process.machine import machine
from service.settings import Settings
from service.store.database import Database
from service.store.store import Store

__all__ = ["HISTORY_SEED", "HistoryBench", "measure_history"]

HISTORY_SEED = 1

_RESPONSE_LIMIT_S = 60.0
_WARM_UP = 3
"""Queries of each kind that are not counted."""

_PAGE_POINTS = 1000
"""Points of a page of one track: ten seconds at 100 frames/s."""

_POSITIONS = ("frame", "x_um", "y_um", "z_um")
"""Columns that a program asks for to draw tracks."""

_PARQUET = "application/vnd.apache.parquet"
_MB = 1e6

Advance = Callable[..., None]

_Query = tuple[str, dict[str, Any], dict[str, str]]
"""Path, parameters and headers of a request."""


@dataclass(frozen=True, slots=True)
class HistoryBench:
    """Size of the run and of the measurement.

    Attributes
    ----------
    minutes : length of the run
    fps : frames a second
    tracks : tracks in view
    write_factor : rate of the writer while queries are answered, in multiples of the live rate
    queries : number of queries of each kind
    window_s : length of the queried windows of time, s
    """

    minutes: float = 60.0
    fps: float = 100.0
    tracks: int = 50
    write_factor: float = 3.0
    queries: int = 100
    window_s: float = 10.0

    @property
    def batches(self) -> int:
        """Batches of the run, one at least."""
        return max(round(60 * self.minutes * self.fps / FRAMES_PER_BATCH), 1)

    @property
    def name(self) -> str:
        """Name of the run; a database that has a run of this name is not filled again."""
        return f"history: {self.minutes:g} min, {self.fps:g} frames/s, {self.tracks} tracks"

    @property
    def seconds(self) -> float:
        """Length of the run, s."""
        return self.batches * FRAMES_PER_BATCH / self.fps


def measure_history(settings: Settings, bench: HistoryBench, advance: Advance) -> dict[str, Any]:
    """Write the run, query it while a second one is written, and measure.

    Parameters
    ----------
    settings : Settings
        With a data directory, or the URL of an empty PostgreSQL database.
    bench : HistoryBench
        A database that has such a run already is not filled again.
    advance : callable
        Takes the share that is done, from 0 to 1.

    Returns
    -------
    dict
        ``rows`` (points, batches), ``fill`` (batches/s, ms per batch, size of the database; None when the run was
        there), ``queries`` (kind to ms, processor time of the API, and size), ``writer`` (rate and ms per batch while
        reading), ``api_rss_mb`` (first and last tenth, highest).

    Raises
    ------
    DataError
        When the API does not start, a query fails, or the writer fails.
    """
    rows = HistoryRows(bench.fps, bench.tracks)
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database)
    try:
        store.migrate()
        run, filled = _written_before(store, bench), None
        if run is None:
            run = store.runs.create(model_id="reference", record=False, name=bench.name).id
            filled = _fill(store, run, rows, bench.batches, advance)
            filled["database_mb"] = round(_database_mb(settings), 1)
            store.runs.finish(run)
    finally:
        store.close()
    with interruptible(), api_running(settings) as api, _Writer(settings, bench) as writer:
        queries, rss_mb = _query(api.port, api.process, run, bench, advance)
        written = writer.finish()
    points = bench.batches * FRAMES_PER_BATCH * bench.tracks
    if filled is not None:
        filled["bytes_per_point"] = round(filled["database_mb"] * _MB / points, 1)
    return {
        "database": "SQLite" if settings.database_url is None else "PostgreSQL",
        "rows": {"points": points, "batches": bench.batches, "seconds": bench.seconds},
        "fill": filled,
        "queries": queries,
        "writer": written,
        "api_rss_mb": rss_mb,
        "settings": asdict(bench),
        "machine": machine(),
    }


def _written_before(store: Store, bench: HistoryBench) -> str | None:
    """The run of an earlier measurement in a database that was kept; None when there is none."""
    found = [run.id for run in store.runs.list().items if run.name == bench.name and run.state == "finished"]
    return found[0] if found else None


def _fill(store: Store, run: str, rows: HistoryRows, batches: int, advance: Advance) -> dict[str, Any]:
    spent_s = np.empty(batches)
    begin_s = time.monotonic()
    for number in range(batches):
        batch = rows.batch(number)
        before_s = time.perf_counter()
        store.append(run, batch, rows.ledger(number + 1))
        spent_s[number] = time.perf_counter() - before_s
        if number % 100 == 0:
            advance(0.7 * number / batches, f"writing {number} of {batches} batches")
    wall_s = time.monotonic() - begin_s
    return {"batches_per_s": round(batches / wall_s, 1), "batch_ms": _quantiles_ms(spent_s)}


# ---- queries ----


def _query(
    port: int, process: psutil.Process, run: str, bench: HistoryBench, advance: Advance
) -> tuple[dict[str, Any], dict[str, float]]:
    """Send queries one after another, the kinds in turns; windows and tracks are spread over the whole run."""
    draw = np.random.default_rng(HISTORY_SEED)
    kinds: dict[str, Callable[[], _Query]] = {
        "window": lambda: _window(run, bench, draw),
        "window, first 20 tracks": lambda: _window(run, bench, draw, limit=20),
        "window, frames and positions": lambda: _window(run, bench, draw, columns=_POSITIONS),
        "window, Parquet": lambda: _window(run, bench, draw, form=_PARQUET),
        "window, quarter of the field": lambda: _window(run, bench, draw, quarter=True),
        f"one track, page of {_PAGE_POINTS} points": lambda: _track(run, bench, draw, {"limit": _PAGE_POINTS}),
        "one track": lambda: _track(run, bench, draw, {}),
    }
    spent_s: dict[str, list[float]] = {kind: [] for kind in kinds}
    size: dict[str, list[int]] = {kind: [] for kind in kinds}
    cpu_s = dict.fromkeys(kinds, 0.0)
    rss_mb: list[float] = []
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=_RESPONSE_LIMIT_S, trust_env=False) as client:
        for turn, (kind, draw_query) in itertools.product(range(-_WARM_UP, bench.queries), kinds.items()):
            path, query, headers = draw_query()
            before_cpu_s, before_s = _cpu_s(process), time.perf_counter()
            response = client.get(path, params=query, headers=headers)
            taken_s = time.perf_counter() - before_s
            if response.status_code != httpx.codes.OK:
                raise DataError(f"{kind}: {response.status_code} {response.text[:200]}", "See the log of the API.")
            if turn >= 0:
                spent_s[kind].append(taken_s)
                cpu_s[kind] += _cpu_s(process) - before_cpu_s
                size[kind].append(len(response.content))
                rss_mb.append(process.memory_info().rss / _MB)
                advance(0.7 + 0.3 * turn / bench.queries, f"query {turn} of {bench.queries}")
    found = {
        kind: {
            **_quantiles_ms(np.array(times)),
            "cpu": round(1e3 * cpu_s[kind] / len(times), 1),
            "kb": round(float(np.median(size[kind])) / 1e3, 1),
        }
        for kind, times in spent_s.items()
    }
    tenth = max(len(rss_mb) // 10, 1)
    memory = {
        "first": round(float(np.median(rss_mb[:tenth])), 1),
        "last": round(float(np.median(rss_mb[-tenth:])), 1),
        "highest": round(max(rss_mb), 1),
    }
    return found, memory


def _cpu_s(process: psutil.Process) -> float:
    spent = process.cpu_times()
    return float(spent.user + spent.system)


def _window(
    run: str,
    bench: HistoryBench,
    draw: np.random.Generator,
    *,
    limit: int | None = None,
    quarter: bool = False,
    columns: tuple[str, ...] = (),
    form: str = "application/json",
) -> _Query:
    begin_s = float(draw.uniform(0, max(bench.seconds - bench.window_s, 0)))
    query: dict[str, Any] = {"t_from_s": begin_s, "t_to_s": begin_s + bench.window_s}
    if limit is not None:
        query["limit"] = limit
    if columns:
        query["columns"] = list(columns)
    if quarter:
        query |= {"x_min_um": 0.0, "x_max_um": 165.0, "y_min_um": 0.0, "y_max_um": 165.0}
    return f"/runs/{run}/tracks", query, {"Accept": form}


def _track(run: str, bench: HistoryBench, draw: np.random.Generator, query: Mapping[str, Any]) -> _Query:
    # The first tracks of the run exist whatever its length.
    lives = max(int(bench.seconds // 60), 1)
    track = int(draw.integers(1, lives * bench.tracks + 1))
    return f"/runs/{run}/tracks/{track}", dict(query), {"Accept": "application/json"}


# ---- the writer ----


class _Writer:
    """A process that writes a second run at a steady rate, from the begin of the block until `finish`."""

    def __init__(self, settings: Settings, bench: HistoryBench) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_write, args=(settings, bench, theirs), name="bathyscope-writer")
        self._process.start()
        theirs.close()

    def finish(self) -> dict[str, Any]:
        """End the process and return its figures.

        Raises
        ------
        DataError
            When it failed.
        """
        self._pipe.send(None)
        try:
            found: dict[str, Any] = self._pipe.recv()
        except EOFError:
            raise DataError("The writer of the benchmark failed.", "Its message is above.") from None
        return found

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join()


def _write(settings: Settings, bench: HistoryBench, parent: Connection) -> None:
    ignore_signals()
    ending = threading.Event()

    def follow() -> None:
        with contextlib.suppress(EOFError):
            parent.recv()
        ending.set()

    threading.Thread(target=follow, daemon=True).start()
    rows = HistoryRows(bench.fps, bench.tracks)
    period_s = FRAMES_PER_BATCH / bench.fps / bench.write_factor
    store = Store.open(settings.database)
    try:
        run = store.runs.create(model_id="reference", record=False, name="writer").id
        spent_s: list[float] = []
        begin_s = time.monotonic()
        while not ending.wait(max(begin_s + len(spent_s) * period_s - time.monotonic(), 0.0)):
            before_s = time.perf_counter()
            store.append(run, rows.batch(len(spent_s)), rows.ledger(len(spent_s) + 1))
            spent_s.append(time.perf_counter() - before_s)
        wall_s = time.monotonic() - begin_s
        store.runs.finish(run)
    finally:
        store.close()
    points = len(spent_s) * FRAMES_PER_BATCH * bench.tracks
    parent.send(
        {
            "seconds": round(wall_s, 1),
            "points_per_s": round(points / wall_s),
            "asked_points_per_s": round(bench.write_factor * bench.fps * bench.tracks),
            "batch_ms": _quantiles_ms(np.array(spent_s)),
        }
    )


def _quantiles_ms(times_s: np.ndarray[Any, Any]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(1e3 * times_s, [50, 95, 99])
    return {"p50": round(p50, 1), "p95": round(p95, 1), "p99": round(p99, 1), "max": round(1e3 * times_s.max(), 1)}


def _database_mb(settings: Settings) -> float:
    """Size of the database, MB."""
    if settings.database_url is None:
        path = settings.data_dir / "bathyscope.db"
        return sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) / _MB
    engine = create_engine(Database(settings.database_url).url)
    try:
        with engine.connect() as connection:
            return float(connection.scalar(text("SELECT pg_database_size(current_database())")) or 0) / _MB
    finally:
        engine.dispose()

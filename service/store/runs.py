"""Runs: model, times, state, and the ledger of all frames."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, case, func, insert, select, update

from service.store.database import Database
from service.store.errors import UnknownItem
from service.store.pages import Page
from service.store.recording_copy import RecordingCopy, copy_of
from service.store.rows import damaged_row, moment, page_of
from service.store.run_query import RunQuery, RunState, is_kept, rows_of_runs
from service.store.schema import LIVE_REVISION, runs

__all__ = ["LEDGER_KEYS", "Run", "RunFigures", "RunState", "Runs", "new_run_id", "run_key"]

LEDGER_KEYS = (
    "exposed", "grabbed", "lost", "recorded", "unrecorded", "analysed", "deferred", "skipped", "in_flight",
)  # fmt: skip
"""Counts of the frames of a run."""

_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z-]{0,63}")


@dataclass(frozen=True, slots=True)
class Run:
    """One run.

    Attributes
    ----------
    id : sortable by start time, for example ``20261122T011500-ab12``
    started_at, ended_at : UTC; `ended_at` of an interrupted run is its last commit
    recording : path relative to the data directory; None without one, and when it was deleted. Its local files may be
        freed, when there is a verified copy
    recording_copy : its copy at another place; None without one
    duration_s : requested duration, s; None: until stopped
    fps : frames analysed per second at the last commit
    revision : newest complete revision of the tracks; the live one is 1
    revisions : what made each revision but the live one: `revision`, `made_at` (ISO 8601, UTC), `form` (`as live` or
        `smoothed`), `model_ids`, `tracking` (the settings), `version` (of Bathyscope)
    ledger : frames by what became of them (`LEDGER_KEYS`)
    latency_ms : stage to p50, p95, p99 and max, ms from mid-exposure
    stages : stage to depth, capacity, highest depth, dropped, age of its oldest item (s), at the last commit
    fitted_frames : analysed frames by how much of the fit of their image was made: `full`, `steps` or `none`;
        None where images are not fitted
    accuracy : scores against the truth, where it is known
    settings : the settings of the run
    problem : why it was interrupted or failed
    """

    id: str
    name: str
    notes: str
    state: RunState
    started_at: datetime
    ended_at: datetime | None
    model_id: str
    record: bool
    recording: str | None
    recording_copy: RecordingCopy | None
    duration_s: float | None
    fps: float | None
    revision: int
    revisions: list[dict[str, Any]]
    ledger: dict[str, int | None]
    latency_ms: dict[str, dict[str, float | None]]
    stages: dict[str, dict[str, float]]
    fitted_frames: dict[str, int] | None
    accuracy: dict[str, Any] | None
    settings: dict[str, Any]
    problem: str | None


@dataclass(frozen=True, slots=True)
class RunFigures:
    """Speed and latencies of a run so far; None leaves a figure as it is in the database.

    Attributes
    ----------
    latency_ms : stage to p50, p95, p99 and max, ms from mid-exposure
    stages : stage to depth, capacity, highest depth, dropped, age of its oldest item (s)
    fps : frames analysed per second
    fitted_frames : frames by the degree of their fit
    """

    latency_ms: Mapping[str, Any] | None = None
    stages: Mapping[str, Any] | None = None
    fps: float | None = None
    fitted_frames: Mapping[str, int] | None = None

    def given(self) -> dict[str, Any]:
        """The figures that are not None, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def new_run_id(started_at: float | None = None) -> str:
    """An id for a run that starts at `started_at` (Unix seconds; default: now)."""
    moment = datetime.fromtimestamp(time.time() if started_at is None else started_at, UTC)
    return f"{moment:%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"


class Runs:
    """The table of runs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self,
        *,
        name: str = "",
        notes: str = "",
        model_id: str,
        record: bool,
        recording: str | None = None,
        duration_s: float | None = None,
        settings: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        started_at: float | None = None,
    ) -> Run:
        """Begin a run; `started_at` in Unix seconds, now by default."""
        started_at = time.time() if started_at is None else started_at
        run_id = new_run_id(started_at) if run_id is None else run_id
        values = {
            "id": run_id,
            "name": name,
            "notes": notes,
            "state": "running",
            "started_at": started_at,
            "model_id": model_id,
            "record": record,
            "recording": recording,
            "duration_s": duration_s,
            "revision": LIVE_REVISION,
            "revisions": [],
            "ledger": dict.fromkeys(LEDGER_KEYS, 0),
            "latency_ms": {},
            "stages": {},
            "settings": dict(settings or {}),
        }
        with self._database.writing() as connection:
            connection.execute(insert(runs).values(values))
            return _get(connection, run_key(connection, run_id))

    def finish(
        self,
        run_id: str,
        state: RunState = "finished",
        *,
        problem: str | None = None,
        ledger: Mapping[str, int | None] | None = None,
        accuracy: Mapping[str, Any] | None = None,
        figures: RunFigures | None = None,
        smooth: bool = False,
    ) -> Run:
        """End a run with its last figures; what is None stays as the last batch left it.

        Ending an ended run changes nothing. With `smooth` its tracks are to be smoothed.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        given = {"problem": problem, "ledger": ledger, "accuracy": accuracy, **(figures or RunFigures()).given()}
        values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        values |= {"state": state, "ended_at": time.time()}
        if smooth:
            values["catch_up"] = "check"
        elif ledger is not None and (ledger.get("analysed") or 0) < (ledger.get("grabbed") or 0):
            # In any state: frames that are recorded and have no results are analysed next.
            values["catch_up"] = case((runs.c.record, "check"), else_=None)
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            connection.execute(update(runs).where(runs.c.key == key, runs.c.state == "running").values(values))
            return _get(connection, key)

    def interrupt_open(
        self,
        problem: str = "The engine ended while the run was on; what was committed until then is kept.",
        only: Collection[str] | None = None,
    ) -> list[str]:
        """Mark every run in the state running as interrupted, ended at its last commit; return their ids.

        Called before an engine starts: a run that is open then belongs to an
        engine that was killed. Later, `only` names those runs, because another
        engine may have begun one meanwhile.
        """
        with self._database.writing() as connection:
            ids = list(connection.scalars(select(runs.c.id).where(runs.c.state == "running")))
            ids = [run_id for run_id in ids if only is None or run_id in only]
            connection.execute(
                update(runs)
                .where(runs.c.id.in_(ids))
                .values(
                    state="interrupted",
                    problem=problem,
                    ended_at=func.coalesce(runs.c.committed_at, runs.c.started_at),
                )
            )
            # A killed process may have recorded more than its last ledger counts, and has smoothed nothing.
            connection.execute(update(runs).where(runs.c.id.in_(ids)).values(catch_up="check"))
        return ids

    def get(self, run_id: str) -> Run:
        """One run.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        with self._database.reading() as connection:
            return _get(connection, run_key(connection, run_id))

    def describe(self, run_id: str, *, name: str | None = None, notes: str | None = None) -> Run:
        """Change the name or the notes of a run, in any state; what is None stays.

        Raises
        ------
        UnknownItem
            When there is no such run.
        """
        values = {name: value for name, value in (("name", name), ("notes", notes)) if value is not None}
        with self._database.writing() as connection:
            key = run_key(connection, run_id)
            if values:
                connection.execute(update(runs).where(runs.c.key == key).values(values))
            return _get(connection, key)

    def list(self, limit: int = 100, cursor: str | None = None, query: RunQuery | None = None) -> Page[Run]:
        """At most `limit` runs of a selection, in its order; one whose row is damaged is left out.

        Raises
        ------
        DataError
            When no list returned `cursor`, or its run was deleted.
        """
        with self._database.reading() as connection:
            rows = rows_of_runs(connection, query or RunQuery(), limit + 1, cursor)
        return page_of(rows, limit, "key", _run)


def run_key(connection: Connection, run_id: str) -> int:
    """The integer key of a run.

    Raises
    ------
    UnknownItem
        When there is no such run.
    """
    key: int | None = None
    if _ID.fullmatch(run_id):
        key = connection.scalar(select(runs.c.key).where(runs.c.id == run_id, is_kept()))
    if key is None:
        raise UnknownItem(f"There is no run {run_id[:80]!r}.", "GET /api/v1/runs lists those of this data directory.")
    return key


def _get(connection: Connection, key: int) -> Run:
    return _run(connection.execute(select(runs).where(runs.c.key == key)).one())


def _run(row: Row[Any]) -> Run:
    values = {field.name: getattr(row, field.name) for field in fields(Run)}
    for name in ("ledger", "latency_ms", "stages", "settings"):
        if not isinstance(values[name], dict):
            raise damaged_row("run", row.id, name)
    if not isinstance(values["revisions"], list):
        raise damaged_row("run", row.id, "revisions")
    values["started_at"] = moment(row.started_at, "run", row.id)
    values["recording_copy"] = copy_of(row.recording_copy, row.id)
    if row.removal not in (None, "local"):
        values["recording"] = values["recording_copy"] = None
    values["ended_at"] = None if row.ended_at is None else moment(row.ended_at, "run", row.id)
    return Run(**values)

"""The parent of all processes of the service: starts them, watches them, restarts them, ends them in order.

The engine may hang or crash with a camera's driver; the API may be flooded.
Neither takes the other down. A child is watched by its heartbeat, while a run
is on by the age of the newest frame, and by how long the driver takes to open
or close the microscope, because a driver that hangs blocks its own process
only in parts. A child that exceeds a limit is killed and started again, the
first time almost at once, then after pauses that grow fourfold with each
failure in a row. After five failures the engine stays down, and says why
through the API, which goes on.

Children are spawned, never forked: forked threads and device drivers do not
survive. When the supervisor itself is killed they end by themselves; the next
one waits for them and clears up what was left.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import filelock
import structlog

from models.errors import DataError
from service.children import STOP, place_of, run_child, wait_for_orphans
from service.failure_record import FailureRecord, interrupted_runs
from service.link import LinkAddress
from service.settings import Settings
from service.store.errors import StoreError
from service.store.store import Store

__all__ = ["Supervisor"]

_FAILURES = 5
_FIRST_PAUSE_S = 0.1
_PAUSE_GROWTH = 4
_LONGEST_PAUSE_S = 30.0

_HEALTHY_S = 60.0
"""Longer than any fault takes that comes with every start."""

_START_LIMIT_S = 120.0
"""Longest until the first heartbeat: the imports of a cold start on a slow disk."""

_END_LIMIT_S = 10.0
"""Longest that a child may take to end."""

_RUN_END_LIMIT_S = 40.0
"""The same for an engine with a run, whose queues go to disk and database first."""

_POLL_S = 0.25

_HELD_UP_S = 2.0
"""When the supervisor has not looked for longer, it was held up itself (the machine slept, a debugger stopped it), and
silence says nothing about a child."""

_FOLDER_RECORD = ".link"
"""In the data directory: where the socket files are, for the supervisor that comes after one that was killed."""

_log = structlog.get_logger(__name__)

ChildState = Literal["starting", "running", "pausing", "down", "stopped"]


@dataclass
class _Child:
    """One child process through all its restarts."""

    name: str
    target: Callable[..., None]
    arguments: tuple[Any, ...]
    gives_up: bool
    state: ChildState = "stopped"
    process: SpawnProcess | None = None
    pipe: Connection | None = None
    started_s: float = 0.0
    beat_s: float | None = None
    beat: dict[str, Any] = field(default_factory=dict)
    failures: int = 0
    restarts: int = 0
    problem: str | None = None
    resume_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """What the API tells of it."""
        return {
            "state": self.state,
            "pid": None if self.process is None else self.process.pid,
            "restarts": self.restarts,
            "failures": self.failures,
            "problem": self.problem,
        }


class Supervisor:
    """Runs the service on one data directory, from `start` (or ``with``) until `stop`.

    Parameters
    ----------
    settings : Settings
    healthy_s : float
        A child that has lived this long has recovered, s: its failures are forgotten.

    Attributes
    ----------
    address : LinkAddress
        Where the engine's doors are.
    port : int
        Where the API listens; also when the settings leave the choice.
    """

    def __init__(self, settings: Settings, *, healthy_s: float = _HEALTHY_S) -> None:
        self._settings = settings
        self._healthy_s = healthy_s
        self._context = multiprocessing.get_context("spawn")
        self._lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False, thread_local=False)
        self._ending = threading.Event()
        self._watcher: threading.Thread | None = None
        self._children: list[_Child] = []
        self._store: Store | None = None
        self._failures: FailureRecord | None = None
        self._listener: socket.socket | None = None
        self.port = settings.port
        self.address: LinkAddress

    # ---- start and stop ----

    def start(self) -> None:
        """Lock the data directory, bring the database up to date, mark open runs, start the children.

        Raises
        ------
        DataError
            When the data directory is in use or cannot be written, or the port is taken.
        StoreError
            When the database cannot be used.
        """
        self._take_data_directory()
        try:
            killed = self._clear_up()
            self._listener = _listen(self._settings.host, self._settings.port)
            self.port = self._listener.getsockname()[1]
            self._store = Store.open(self._settings.database)
            self._store.migrate()
            interrupted = self._store.runs.interrupt_open()
            if killed or interrupted:
                message = "Bathyscope was killed before; it starts again."
                _log.warning("killed_before", runs=interrupted)
                self._store.events.add("killed_before", message, run_id=interrupted[0] if interrupted else None)
            self.address = LinkAddress.create()
            self._folder_record.write_text(self.address.folder, encoding="utf-8")
        except BaseException:
            self._release()
            raise
        self._failures = FailureRecord(self._store)
        self._failures.start()
        from service.api_child import api_process
        from service.engine_child import engine_process
        from service.jobs.runner import jobs_process

        self._children = [
            _Child("engine", engine_process, (self._settings, self.address), gives_up=True),
            _Child("api", api_process, (self._settings, self.address, self._listener), gives_up=False),
            _Child("jobs", jobs_process, (self._settings, self.address), gives_up=False),
        ]
        for child in self._children:
            self._launch(child)
        self._watcher = threading.Thread(target=self._watch, name="supervise", daemon=True)
        self._watcher.start()

    def stop(self) -> None:
        """End the run, recorder and database with the engine, then the API; release the data directory."""
        self._ending.set()
        if self._watcher is not None:
            self._watcher.join()
            self._watcher = None
        for child in self._children:
            self._end(child)
        self._children = []
        if self._failures is not None:
            self._failures.close()
            self._failures = None
        self._release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def processes(self) -> dict[str, dict[str, Any]]:
        """Name to ``{state, pid, restarts, failures, problem}``."""
        return {child.name: child.as_dict() for child in self._children}

    def _take_data_directory(self) -> None:
        folder = self._settings.data_dir
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout:
            raise DataError(
                f"The data directory {folder} is in use by another Bathyscope; each service needs its own.",
                "Stop the other one, or choose another folder with --data.",
            ) from None
        except OSError as error:
            raise DataError(
                f"The data directory {folder} cannot be written ({error.strerror}).",
                "Choose another folder with --data, or correct its permissions.",
            ) from error

    @property
    def _folder_record(self) -> Path:
        return self._settings.data_dir / _FOLDER_RECORD

    def _clear_up(self) -> bool:
        """Let what an earlier supervisor left behind come to its end; whether it was killed."""
        if name := wait_for_orphans(self._settings.data_dir):
            raise DataError(
                f"The {name} of an earlier Bathyscope still works in {self._settings.data_dir}.",
                f"End the process that holds {place_of(self._settings.data_dir, name)}, then start again.",
            )
        try:
            LinkAddress.remove(self._folder_record.read_text(encoding="utf-8"))
        except OSError:
            return False
        return True

    def _release(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        if self._store is not None:
            self._store.close()
            self._store = None
        if hasattr(self, "address"):
            LinkAddress.remove(self.address.folder)
            self._folder_record.unlink(missing_ok=True)
        self._lock.release()

    # ---- children ----

    def _launch(self, child: _Child) -> None:
        ours, theirs = self._context.Pipe()
        child.process = self._context.Process(
            target=run_child,
            args=(place_of(self._settings.data_dir, child.name), child.target, *child.arguments, theirs),
            name=f"bathyscope-{child.name}",
        )
        with _signals_held():
            child.process.start()
        theirs.close()
        child.pipe, child.beat_s, child.beat = ours, None, {}
        child.started_s = time.monotonic()
        child.state = "starting"
        self._write_record()

    def _watch(self) -> None:
        now_s = time.monotonic()
        while not self._ending.is_set():
            before_s, now_s = now_s, time.monotonic()
            if now_s - before_s > _HELD_UP_S:
                self._forgive(now_s - before_s)
            watched: list[Any] = [child.pipe for child in self._children if child.pipe is not None]
            for ready in wait(watched, _POLL_S) if watched else (self._ending.wait(_POLL_S),):
                child = next((child for child in self._children if child.pipe is ready), None)
                if child is not None:
                    self._hear(child)
            for child in self._children:
                # Judged by the time before it was listened to: what came since is no silence.
                self._look_after(child, now_s)

    def _forgive(self, held_s: float) -> None:
        for child in self._children:
            child.started_s += held_s
            if child.beat_s is not None:
                child.beat_s += held_s

    def _hear(self, child: _Child) -> None:
        if child.pipe is None:
            return
        try:
            while child.pipe.poll():
                child.beat, child.beat_s = child.pipe.recv(), time.monotonic()
        except (EOFError, OSError):
            child.pipe.close()
            child.pipe = None
        if child.state == "starting" and child.beat_s is not None:
            child.state = "running"
            self._write_record()

    def _look_after(self, child: _Child, now_s: float) -> None:
        if child.state in ("down", "stopped"):
            return
        if child.state == "pausing":
            if time.monotonic() >= child.resume_s:
                child.restarts += 1
                self._launch(child)
            return
        reason = self._fault(child, now_s)
        if reason is not None:
            self._fail(child, reason)
        elif child.failures and now_s - child.started_s > self._healthy_s:
            child.failures, child.problem = 0, None
            self._write_record()

    def _fault(self, child: _Child, now_s: float) -> str | None:
        """Why a child has to be started again; None while it is well."""
        process = child.process
        if process is None or not process.is_alive():
            return _manner_of_death(None if process is None else process.exitcode)
        if child.beat_s is None:
            waited_s = now_s - child.started_s
            return f"it did not start within {_START_LIMIT_S:g} s" if waited_s > _START_LIMIT_S else None
        silence_s = now_s - child.beat_s
        if silence_s > self._settings.engine.heartbeat_limit_s:
            return f"it was silent for {silence_s:.0f} s"
        age_s, limit_s = child.beat.get("frame_age_s"), child.beat.get("frame_age_limit_s")
        if age_s is not None and limit_s is not None and age_s > limit_s:
            return f"the camera gave no frame for {age_s:.0f} s"
        call = child.beat.get("driver_call")
        if call is not None and call["age_s"] > call["limit_s"]:
            return f"the driver was busy {call['name']} for {call['age_s']:.0f} s"
        return None

    def _fail(self, child: _Child, reason: str) -> None:
        self._kill(child)
        run_id = child.beat.get("run_id")
        child.failures += 1
        child.problem = reason
        if child.gives_up and child.failures >= _FAILURES:
            child.state = "down"
            message = f"The {child.name} stays down after {child.failures} failures in a row: {reason}."
        else:
            pause_s = min(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (child.failures - 1), _LONGEST_PAUSE_S)
            child.state, child.resume_s = "pausing", time.monotonic() + pause_s
            message = f"The {child.name} is restarted in {pause_s:g} s: {reason}."
        self._write_record()
        _log.warning("child_failed", child=child.name, reason=reason, failures=child.failures, state=child.state)
        if self._store is not None and self._failures is not None:
            kind = f"{child.name}_down" if child.state == "down" else f"{child.name}_restarted"
            runs = interrupted_runs(self._store, run_id) if child.name == "engine" else ()
            self._failures.add(kind, message, runs, f"The engine ended during the run: {reason}.")

    def _end(self, child: _Child) -> None:
        """Ask, wait, and insist."""
        if child.pipe is not None:
            with contextlib.suppress(OSError):
                child.pipe.send(STOP)
        if child.process is not None and child.state not in ("pausing", "down"):
            limit_s = time.monotonic() + (_RUN_END_LIMIT_S if child.beat.get("run_id") else _END_LIMIT_S)
            while child.process.is_alive() and time.monotonic() < limit_s:
                child.process.join(_POLL_S)
                self._hear(child)  # a full pipe would hold the child up
            if child.process.is_alive():
                _log.warning("child_killed", child=child.name, reason="it did not end in time")
        self._kill(child)
        child.state = "stopped"
        if child.name == "engine" and self._store is not None:
            with contextlib.suppress(StoreError):
                self._store.runs.interrupt_open("The engine did not end the run in time when the service stopped.")

    def _kill(self, child: _Child) -> None:
        if child.process is not None:
            if child.process.is_alive():
                child.process.kill()
            child.process.join()
            child.process.close()
            child.process = None
        if child.pipe is not None:
            child.pipe.close()
            child.pipe = None

    def _write_record(self) -> None:
        """Tell the other processes, complete or not at all."""
        record = self.address.record
        aside = record.with_suffix(".new")
        aside.write_text(json.dumps(self.processes), encoding="utf-8")
        os.replace(aside, record)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """Hold the signals that end the supervisor while a child is started.

    A child inherits what is held, so Ctrl-C, which reaches the whole group of
    processes, does not hit it before it has begun to ignore signals.
    """
    if sys.platform == "win32":
        yield
        return
    # Begun with the first child otherwise, it would let the signals go before that child is there.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket, held through all restarts of the API, so that nobody takes the port meanwhile."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DataError(f"The address {host} cannot be used ({error}).", "Choose another with --host.") from error
    if sys.platform != "win32":  # there it means that two services may share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise DataError(
            f"Port {port} at {host} cannot be used ({error.strerror}); one program listens at a port.",
            "Stop the other program, or choose another port with --port (0 takes a free one).",
        ) from error
    return listener


def _manner_of_death(exit_code: int | None) -> str:
    if exit_code is None or exit_code == 0:
        return "it ended by itself"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"it was ended by {name}"
    return f"it ended with exit status {exit_code}"

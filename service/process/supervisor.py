"""The parent of all processes of the service: starts them, watches them, restarts them, ends them in order.

The engine may hang or crash with a camera's driver; the API may be flooded.
Neither takes the other down. A child is watched by its heartbeat, while a run
is on by the age of the newest frame, and by how long the driver takes to open
or close the microscope, because a driver that hangs blocks its own process
only in parts. A child that exceeds a limit is killed and started again, the
first time almost at once, then after pauses that grow fourfold with each
failure in a row. After five failures the engine stays down, and says why
through the API, which goes on.

No exception ends the watch. Where the system gives no process, no memory or
no disk to look after a child, that child is tried again with growing pauses,
the trouble is told (event, log, ``/readyz``), and the others are looked after
meanwhile.

When the supervisor itself is killed its children end by themselves; the next
one waits for them and clears up what was left.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import filelock
import structlog

from models.errors import DataError
from service.process.children import STOP, Stop, place_of, wait_for_orphans
from service.process.failure_record import FailureRecord
from service.process.signals import Ending
from service.process.storage import Storage, StorageWatch
from service.process.watched_child import WatchedChild
from service.protocol.addresses import LinkAddress
from service.settings import Settings
from service.store.store import Store
from service.worker_thread import WorkerThread

__all__ = ["Supervisor"]

_FAILURES = 5
_FIRST_PAUSE_S = 0.1
_PAUSE_GROWTH = 4
_LONGEST_PAUSE_S = 30.0

_HEALTHY_S = 60.0
"""Longer than any fault takes that comes with every start."""

_END_LIMIT_S = 10.0
"""Longest that a child may take to end."""

_RUN_END_LIMIT_S = 35.0
"""The same for an engine with a run, whose queues go to disk and database first. With the API after it and the record
of failures, all is over within the 60 s that service managers wait."""

_POLL_S = 0.25

_HELD_UP_S = 2.0
"""When the supervisor has not looked for longer, it was held up itself (the machine slept, a debugger stopped it), and
silence says nothing about a child."""

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0
"""Pauses before what the supervisor could not do is tried again; they double."""

_RECORD_S = 1.0
"""Time between two records for the other processes; a change is written at once."""

_FOLDER_RECORD = ".link"
"""In the data directory: where the socket files are, for the supervisor that comes after one that was killed."""

_log = structlog.get_logger(__name__)


class _Retry:
    """What failed last at one thing, and when it is tried again."""

    def __init__(self) -> None:
        self.count = 0
        self._due_s = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_s

    def put_off(self) -> float:
        """Count a failure; the pause that follows, s."""
        pause_s: float = min(_FIRST_RETRY_S * 2**self.count, _LONGEST_RETRY_S)
        self.count += 1
        self._due_s = time.monotonic() + pause_s
        return pause_s

    def succeed(self) -> None:
        self.count, self._due_s = 0, 0.0


class _Watch(WorkerThread):
    """Takes one round after another; what fails in one does not keep the next from coming."""

    def __init__(self, one_round: Callable[[], None], ending: threading.Event) -> None:
        super().__init__("supervise", failed=lambda _: None)
        self._round = one_round
        self._ending = ending

    def work(self) -> None:
        """Go round until the end."""
        while not self._ending.is_set():
            try:
                self._round()
            except Exception:  # noqa: BLE001  without its watch the service would stay as it is for ever
                with suppress(Exception):
                    _log.exception("watch_failed")
                self._ending.wait(_POLL_S)


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
        self._lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False, thread_local=False)
        self._ending = threading.Event()
        self._watch: _Watch | None = None
        self._looked_s = 0.0
        self._recorded: tuple[float, dict[str, Any]] = (0.0, {})
        self._record_failed = False
        self._retries: dict[str, _Retry] = {}
        self._children: list[WatchedChild] = []
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
            self.address = LinkAddress.create(self._settings.data_dir)
            self._folder_record.write_text(self.address.folder, encoding="utf-8")
        except BaseException:
            self._release()
            raise
        self._failures = FailureRecord(self._store)
        self._failures.start()
        StorageWatch(Storage(self._settings), self._ending, self._tell_of_storage).start()
        from service.jobs.runner import jobs_process
        from service.process.api_child import api_process
        from service.process.engine_child import engine_process

        one_thread = {"OMP_NUM_THREADS": "1"}
        threads = {"OMP_NUM_THREADS": str(self._settings.engine.torch_threads or 1)}
        self._children = [
            self._child("engine", engine_process, self.address, gives_up=True, environment=threads),
            self._child("api", api_process, self.address, self._listener, environment=one_thread),
            self._child("jobs", jobs_process, self.address),
        ]
        # The first start of each is a restart without a pause, so that it is tried again like any other.
        for child in self._children:
            child.state = "pausing"
            self._look_after(child, time.monotonic())
        self._write_record()
        self._looked_s = time.monotonic()
        self._watch = _Watch(self._round, self._ending)
        self._watch.start()

    def _tell_of_storage(self, kind: str, message: str) -> None:
        _log.warning(kind, message=message)
        if self._failures is not None:
            self._failures.add(kind, message)

    def stop(self, ending: Ending | None = None) -> None:
        """End the run, recorder and database with the engine, then the API; release the data directory.

        Parameters
        ----------
        ending : Ending, optional
            Why; a run that nobody wanted to end is told the reason.
        """
        self._ending.set()
        if self._watch is not None:
            self._watch.join(_END_LIMIT_S)
            self._watch = None
        stop = STOP
        if ending is not None and self._failures is not None:
            message = f"Bathyscope stops: {ending.reason}."
            self._failures.add("service_stopped", message)
            if not ending.wanted:
                stop = Stop(message)
        for together in (("engine", "jobs"), ("api",)):
            self._end([child for child in self._children if child.name in together], stop)
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
            left = self._folder_record.read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        except (OSError, UnicodeDecodeError) as error:
            _log.warning("link_not_read", path=str(self._folder_record), error=str(error))
            return True
        if not LinkAddress.remove(left):
            _log.warning("sockets_left", folder=left, reason="the folder does not look like one of Bathyscope")
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
            with suppress(OSError):  # the data directory may be gone
                self._folder_record.unlink(missing_ok=True)
        self._lock.release()

    # ---- children ----

    def _child(
        self, name: str, target: Callable[..., None], *arguments: Any, gives_up: bool = False, **more: Any
    ) -> WatchedChild:
        place = place_of(self._settings.data_dir, name)
        return WatchedChild(name, place, target, (self._settings, *arguments), gives_up=gives_up, **more)

    def _round(self) -> None:
        """Listen for a moment, look after each child, tell the other processes."""
        now_s = time.monotonic()
        if now_s - self._looked_s > _HELD_UP_S:
            for child in self._children:
                child.forgive(now_s - self._looked_s)
        self._looked_s = now_s
        pipes = [child.pipe for child in self._children if child.pipe is not None]
        try:
            wait(pipes, _POLL_S) if pipes else self._ending.wait(_POLL_S)
        except OSError as error:  # no descriptor to wait with
            _log.warning("cannot_wait", error=str(error))
            self._ending.wait(_POLL_S)
        for child in self._children:
            # Judged by the time before it was listened to: what came since is no silence.
            self._look_after(child, now_s)
        self._write_record()

    def _look_after(self, child: WatchedChild, now_s: float) -> None:
        """Hear, judge and restart one child; trouble with that is told, and tried again after a pause."""
        retry = self._retries.setdefault(child.name, _Retry())
        if not retry.is_due():
            return
        try:
            child.hear()
            self._judge(child, now_s)
        except Exception as error:  # noqa: BLE001  whatever it is, it must not reach the other children
            pause_s = retry.put_off()
            child.trouble = f"The {child.name} cannot be looked after: {type(error).__name__}: {error}."
            first = retry.count == 1
            if first and self._failures is not None:
                message = f"{child.trouble} It is tried again until it succeeds."
                self._failures.add(f"{child.name}_trouble", message)
            with suppress(Exception):  # what is lacking may be needed for the log, too
                _log.warning("child_trouble", child=child.name, error=str(error), retry_s=pause_s, exc_info=first)
        else:
            retry.succeed()
            child.trouble = None

    def _judge(self, child: WatchedChild, now_s: float) -> None:
        if child.state in ("down", "stopped"):
            return
        if child.state == "pausing":
            if time.monotonic() >= child.resume_s:
                child.launch()
                child.restarts += child.failures > 0
            return
        reason = child.fault(now_s, self._settings.engine.heartbeat_limit_s)
        if reason is not None:
            self._fail(child, reason)
        elif child.failures and child.age_s(now_s) > self._healthy_s:
            child.failures, child.problem = 0, None

    def _fail(self, child: WatchedChild, reason: str) -> None:
        child.kill()
        child.failures += 1
        child.problem = reason
        if child.gives_up and child.failures >= _FAILURES:
            child.state = "down"
            message = f"The {child.name} stays down after {child.failures} failures in a row: {reason}."
        else:
            pause_s = min(_FIRST_PAUSE_S * _PAUSE_GROWTH ** (child.failures - 1), _LONGEST_PAUSE_S)
            child.state, child.resume_s = "pausing", time.monotonic() + pause_s
            message = f"The {child.name} is restarted in {pause_s:g} s: {reason}."
        if self._failures is not None:
            kind = f"{child.name}_down" if child.state == "down" else f"{child.name}_restarted"
            is_engine = child.name == "engine"
            runs = self._failures.open_runs(child.beat.get("run_id")) if is_engine else ()
            self._failures.add(kind, message, runs, f"The engine ended during the run: {reason}.")
        _log.warning("child_failed", child=child.name, reason=reason, failures=child.failures, state=child.state)

    def _end(self, children: list[WatchedChild], stop: Stop) -> None:
        """Ask, wait, and insist."""
        begin_s = time.monotonic()
        for child in children:
            child.ask_to_end(stop)
        for child in children:
            limit_s = _RUN_END_LIMIT_S if child.beat.get("run_id") else _END_LIMIT_S
            while not (ended := child.wait(_POLL_S)) and time.monotonic() - begin_s < limit_s:
                pass
            if not ended:
                _log.warning("child_killed", child=child.name, reason="it did not end in time")
            try:
                child.kill()
            except Exception as error:  # noqa: BLE001  the others still have to be ended
                _log.error("child_not_ended", child=child.name, error=str(error))
            child.state = "stopped"
            if child.name == "engine" and self._failures is not None:
                problem = stop.interruption or "The engine did not end the run in time when the service stopped."
                self._failures.interrupt_all(problem)

    def _write_record(self) -> None:
        """Tell the other processes what has changed, and once a second that the watch goes on."""
        written_s, told = self._recorded
        now = self.processes
        if now == told and time.monotonic() - written_s < _RECORD_S:
            return
        try:
            self.address.record.write(now)
        except OSError as error:  # tried again in the next round
            if not self._record_failed:
                _log.warning("record_not_written", error=str(error))
            self._record_failed = True
        else:
            self._record_failed = False
            self._recorded = time.monotonic(), now


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

"""The parent of all processes of the service: it starts, checks, restarts and ends them.

The engine may hang or crash in a camera driver, and clients may overload the
API. Neither ends the other. The supervisor checks three things of a child:
its heartbeat, the age of the newest frame during a run, and how long the
driver takes to open or close the microscope. The heartbeat alone is not
enough, because a driver that hangs may block only one thread of its process.
A child that exceeds a limit is killed and started again. The first restart
comes almost at once; each further failure in a row makes the pause four times
as long. After five failures the engine stays down. The API continues and
reports the reason.

No exception ends the supervision. When the system lacks processes, memory or
disk space to check or restart a child, the supervisor repeats the step with
growing pauses, and reports the problem (event, log, ``/readyz``). The other
children are checked meanwhile.

When the supervisor is killed, its children end by themselves. The next
supervisor waits for them and removes the files that were left.
"""

from __future__ import annotations

import socket
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
from service.copies.places import open_place
from service.files.access_keys import AccessKeys
from service.process.children import STOP, Stop, place_of, wait_for_orphans
from service.process.failure_record import FailureRecord
from service.process.listener import listen
from service.process.signals import Ending
from service.process.storage import Storage, StorageWatch
from service.process.tls import check_tls
from service.process.watched_child import WatchedChild
from service.protocol.addresses import LinkAddress
from service.relay.link import load_nats
from service.settings import Settings
from service.store.store import Store
from service.worker_thread import WorkerThread

__all__ = ["Supervisor"]

_FAILURES = 5
_FIRST_PAUSE_S = 0.1
_PAUSE_GROWTH = 4
_LONGEST_PAUSE_S = 30.0

_HEALTHY_S = 60.0
"""Run time after which a child counts as healthy, s. Failures that come with every start occur sooner."""

_END_LIMIT_S = 10.0
"""Longest time that a child may take to end, s."""

_RUN_END_LIMIT_S = 35.0
"""The same for an engine with a run, which first writes its queues to disk and database. With the API and the record of
failures after it, the service ends within the 60 s that service managers wait."""

_POLL_S = 0.25

_GAP_S = 2.0
"""Longest time between two checks, s. After a longer gap the supervisor itself did not run, for example because the
machine slept or a debugger stopped it. A missing heartbeat then says nothing about a child."""

_FIRST_RETRY_S = 1.0
_LONGEST_RETRY_S = 30.0
"""Pauses before a failed step of the supervisor is repeated, s. They double with each failure."""

_RECORD_S = 1.0
"""Time between two process records for the other processes, s. A change is written at once."""

_FOLDER_RECORD = ".link"
"""File in the data directory with the path of the socket files. The supervisor after a killed one reads it."""

_log = structlog.get_logger(__name__)


class _Retry:
    """Counts the failures of one step, and sets the time of the next try."""

    def __init__(self) -> None:
        self.count = 0
        self._due_s = 0.0

    def is_due(self) -> bool:
        return time.monotonic() >= self._due_s

    def put_off(self) -> float:
        """Count a failure, and return the pause until the next try, s."""
        pause_s: float = min(_FIRST_RETRY_S * 2**self.count, _LONGEST_RETRY_S)
        self.count += 1
        self._due_s = time.monotonic() + pause_s
        return pause_s

    def succeed(self) -> None:
        self.count, self._due_s = 0, 0.0


class _Watch(WorkerThread):
    """Repeats the checks of the supervisor; an exception in one round does not prevent the next."""

    def __init__(self, one_round: Callable[[], None], ending: threading.Event) -> None:
        super().__init__("supervise", failed=lambda _: None)
        self._round = one_round
        self._ending = ending

    def work(self) -> None:
        """Repeat until the end."""
        while not self._ending.is_set():
            try:
                self._round()
            except Exception:  # noqa: BLE001  without it no child would be restarted any more
                with suppress(Exception):
                    _log.exception("watch_failed")
                self._ending.wait(_POLL_S)


class Supervisor:
    """Runs the service on one data directory, from `start` (or ``with``) to `stop`.

    Parameters
    ----------
    settings : Settings
    healthy_s : float
        Run time after which the failures of a child are reset to 0, s.

    Attributes
    ----------
    address : LinkAddress
        Addresses of the engine's sockets.
    port : int
        Port of the API, also when the settings ask for any free one.
    """

    def __init__(self, settings: Settings, *, healthy_s: float = _HEALTHY_S) -> None:
        self._settings = settings
        self._healthy_s = healthy_s
        self._lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False, thread_local=False)
        self._ending = threading.Event()
        self._watch: _Watch | None = None
        self._checked_s = 0.0
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
            When the data directory is in use or cannot be written, the port is taken, or the
            certificate or the access keys cannot be read, or NATS is asked for and not installed.
        RemoteAway
            When recordings are to be copied to an S3 server, and its client is not installed.
        StoreError
            When the database cannot be used.
        """
        self._lock_data_directory()
        try:
            check_tls(self._settings)
            AccessKeys(self._settings.data_dir).records()  # damaged keys are an error here, not in a child
            if self._settings.relay.nats is not None:
                load_nats()  # as above
            if self._settings.copy_off.url is not None:
                open_place(self._settings.copy_off.url)  # as above
            killed = self._clean_up()
            self._listener = listen(self._settings.host, self._settings.port)
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
        StorageWatch(Storage(self._settings), self._ending, self._report_storage).start()
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
        if self._settings.relay.nats is not None:
            from service.relay.publisher import publisher_process

            self._children.append(self._child("relay", publisher_process, self.address))
        if self._settings.copy_off.url is not None:
            from service.copies.process import copies_process

            self._children.append(self._child("copies", copies_process))
        # The first start is done like a restart without a pause, so that it is repeated when it fails.
        for child in self._children:
            child.state = "pausing"
            self._look_after(child, time.monotonic())
        self._write_record()
        self._checked_s = time.monotonic()
        self._watch = _Watch(self._round, self._ending)
        self._watch.start()

    def _report_storage(self, kind: str, message: str) -> None:
        _log.warning(kind, message=message)
        if self._failures is not None:
            self._failures.add(kind, message)

    def stop(self, ending: Ending | None = None) -> None:
        """End the run, recorder and database with the engine, then the API; release the data directory.

        Parameters
        ----------
        ending : Ending, optional
            The reason. It is written to the run when no user requested the end.
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
        for together in (("engine", "jobs", "copies"), ("api", "relay")):
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

    def _lock_data_directory(self) -> None:
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

    def _clean_up(self) -> bool:
        """Wait for children of an earlier supervisor, and remove its files. Return whether it was killed."""
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
        """Wait for heartbeats, check each child, and write the process record."""
        now_s = time.monotonic()
        if now_s - self._checked_s > _GAP_S:
            for child in self._children:
                child.exclude(now_s - self._checked_s)
        self._checked_s = now_s
        pipes = [child.pipe for child in self._children if child.pipe is not None]
        try:
            wait(pipes, _POLL_S) if pipes else self._ending.wait(_POLL_S)
        except OSError as error:  # no free file descriptor
            _log.warning("cannot_wait", error=str(error))
            self._ending.wait(_POLL_S)
        for child in self._children:
            # Checked with the time before the wait, so that a heartbeat that arrives meanwhile counts.
            self._look_after(child, now_s)
        self._write_record()

    def _look_after(self, child: WatchedChild, now_s: float) -> None:
        """Read the heartbeats of a child, check and restart it. A failure is reported and repeated after a pause."""
        retry = self._retries.setdefault(child.name, _Retry())
        if not retry.is_due():
            return
        try:
            child.receive()
            self._check(child, now_s)
        except Exception as error:  # noqa: BLE001  a failure with one child must not affect the others
            pause_s = retry.put_off()
            child.trouble = f"The {child.name} cannot be checked or restarted: {type(error).__name__}: {error}."
            first = retry.count == 1
            if first and self._failures is not None:
                message = f"{child.trouble} It is tried again until it succeeds."
                self._failures.add(f"{child.name}_trouble", message)
            with suppress(Exception):  # the log may need the same resource that is missing
                _log.warning("child_trouble", child=child.name, error=str(error), retry_s=pause_s, exc_info=first)
        else:
            retry.succeed()
            child.trouble = None

    def _check(self, child: WatchedChild, now_s: float) -> None:
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
        """Ask children to end, wait, and kill those that do not end in time."""
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
            except Exception as error:  # noqa: BLE001  the other children must still be ended
                _log.error("child_not_ended", child=child.name, error=str(error))
            child.state = "stopped"
            if child.name == "engine" and self._failures is not None:
                problem = stop.interruption or "The engine did not end the run in time when the service stopped."
                self._failures.interrupt_all(problem)

    def _write_record(self) -> None:
        """Write the states of the children for the other processes: at each change, and once a second."""
        written_s, written = self._recorded
        now = self.processes
        if now == written and time.monotonic() - written_s < _RECORD_S:
            return
        try:
            self.address.record.write(now)
        except OSError as error:  # repeated in the next round
            if not self._record_failed:
                _log.warning("record_not_written", error=str(error))
            self._record_failed = True
        else:
            self._record_failed = False
            self._recorded = time.monotonic(), now

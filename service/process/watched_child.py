"""One child process of the supervisor: how it is started, checked, restarted and ended.

The supervisor decides when to do each step. A step may fail when the system
lacks processes, memory, files or disk space. The child then stays in its
previous state, and the step can be repeated.

Children are spawned, never forked: threads and device drivers do not work in
a forked process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Literal

from service.process.children import Stop, run_child
from service.process.signals import ENDING_SIGNALS

__all__ = ["ChildState", "WatchedChild"]

ChildState = Literal["starting", "running", "pausing", "down", "stopped"]

_START_LIMIT_S = 120.0
"""Longest time until the first heartbeat, s: the imports of a cold start on a slow disk."""

_KILL_LIMIT_S = 2.0
"""Longest time that one call waits for the end of a killed process, s. A driver may delay it for longer."""

_START = threading.Lock()
"""Held while a child starts, because it inherits environment variables of the whole process."""


class WatchedChild:
    """A child of the supervisor. Used by one thread at a time.

    Parameters
    ----------
    name : str
        ``"engine"``, ``"api"``, ``"jobs"`` or ``"relay"``.
    place : Path
        Lock that the process holds while it runs.
    target, arguments : callable, tuple
        Function of the process. Its end of the pipe is added to the arguments.
    gives_up : bool
        Whether it stays down after repeated failures.
    environment : mapping
        Environment variables that are added for the process.

    Attributes
    ----------
    state : ChildState
    beat : dict
        Its newest heartbeat; empty before the first one.
    failures, restarts : int
        Failures in a row, and restarts since the service was started.
    problem : str or None
        Reason of the last failure, as a clause.
    trouble : str or None
        Why the supervisor cannot check or restart it, as a sentence.
    resume_s : float
        Time of the next start, on the monotonic clock, while its state is ``pausing``.
    """

    def __init__(
        self,
        name: str,
        place: Path,
        target: Callable[..., None],
        arguments: tuple[Any, ...],
        *,
        gives_up: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.gives_up = gives_up
        self.state: ChildState = "stopped"
        self.beat: dict[str, Any] = {}
        self.failures = 0
        self.restarts = 0
        self.problem: str | None = None
        self.trouble: str | None = None
        self.resume_s = 0.0
        self.pipe: Connection | None = None
        self._place = place
        self._target = target
        self._arguments = arguments
        self._environment = dict(environment or {})
        self._process: SpawnProcess | None = None
        self._started_s = 0.0
        self._beat_s: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """State of the child, for the API."""
        process = self._process
        return {
            "state": self.state,
            "pid": None if process is None else process.pid,
            "restarts": self.restarts,
            "failures": self.failures,
            "problem": self.problem,
            "trouble": self.trouble,
        }

    def launch(self) -> None:
        """Start the process.

        Raises
        ------
        OSError
            When the system has no free process, pipe or memory.
        """
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        try:
            process = context.Process(
                target=run_child,
                args=(self._place, self._target, *self._arguments, theirs),
                name=f"bathyscope-{self.name}",
            )
            with _START, _environment(self._environment), _blocked_signals():
                process.start()
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._process, self.pipe = process, ours
        self.beat, self._beat_s = {}, None
        self._started_s = time.monotonic()
        self.state = "starting"

    def receive(self) -> None:
        """Read the heartbeats that have arrived."""
        if self.pipe is None:
            return
        try:
            while self.pipe.poll():
                self.beat, self._beat_s = self.pipe.recv(), time.monotonic()
        except (EOFError, OSError):
            self._close_pipe()
        if self.state == "starting" and self._beat_s is not None:
            self.state = "running"

    def exclude(self, held_s: float) -> None:
        """Exclude a time from all limits in which the supervisor did not run, s."""
        self._started_s += held_s
        if self._beat_s is not None:
            self._beat_s += held_s

    def age_s(self, now_s: float) -> float:
        """Time since the start of the process, s."""
        return now_s - self._started_s

    def fault(self, now_s: float, heartbeat_limit_s: float) -> str | None:
        """Why the process must be restarted, as a clause; None when it works."""
        process = self._process
        if process is None or not process.is_alive():
            return _exit_reason(None if process is None else process.exitcode)
        if self._beat_s is None:
            waited_s = now_s - self._started_s
            return f"it did not start within {_START_LIMIT_S:g} s" if waited_s > _START_LIMIT_S else None
        silence_s = now_s - self._beat_s
        if silence_s > heartbeat_limit_s:
            return f"it was silent for {silence_s:.0f} s"
        age_s, limit_s = self.beat.get("frame_age_s"), self.beat.get("frame_age_limit_s")
        if age_s is not None and limit_s is not None and age_s > limit_s:
            return f"the camera gave no frame for {age_s:.0f} s"
        call = self.beat.get("driver_call")
        if call is not None and call["age_s"] > call["limit_s"]:
            return f"the driver was busy {call['name']} for {call['age_s']:.0f} s"
        return None

    def ask_to_end(self, stop: Stop) -> None:
        """Send it a `Stop`. Nothing is sent to a process that has ended."""
        if self.pipe is not None:
            with contextlib.suppress(OSError):
                self.pipe.send(stop)

    def wait(self, timeout_s: float) -> bool:
        """Wait for its end; return whether it has ended. Its messages are read, because a full pipe would block it."""
        if self._process is None:
            return True
        self._process.join(timeout_s)
        self.receive()
        return not self._process.is_alive()

    def kill(self) -> None:
        """Kill the process.

        Raises
        ------
        RuntimeError
            When it still runs after `_KILL_LIMIT_S`: the system cannot end a process that waits within a device driver.
        """
        if self._process is not None:
            if self._process.is_alive():
                self._process.kill()
                self._process.join(_KILL_LIMIT_S)
            if self._process.is_alive():
                raise RuntimeError(
                    f"process {self._process.pid} was killed and is still there; "
                    "a device driver may hold it within the system"
                )
            self._process.join()
            self._process.close()
            self._process = None
        self._close_pipe()

    def _close_pipe(self) -> None:
        if self.pipe is not None:
            self.pipe.close()
            self.pipe = None


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables while a child is started: libraries read them before any code of the child runs."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _blocked_signals() -> Iterator[None]:
    """Block the signals that end the supervisor while a child is started.

    A child inherits the blocked signals. A signal of the terminal, which goes
    to the whole process group, therefore cannot end the child before it
    ignores signals.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
    try:
        # Python would otherwise start the resource tracker with the first child, and then unblock some signals before
        # that child runs. The tracker survives a closed terminal, because it inherits the blocked signals.
        resource_tracker.ensure_running()
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _exit_reason(exit_code: int | None) -> str:
    if exit_code is None or exit_code == 0:
        return "it ended by itself"
    if exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"it was ended by {name}"
    return f"it ended with exit status {exit_code}"

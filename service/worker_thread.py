"""The base of all threads of engine and supervisor: every exception that ends one is reported.

A subclass implements its loop in `work`. An exception that leaves `work` is
kept, logged with its traceback and reported to the owner of the thread; then
`drain` accounts for later items, so that no other thread waits forever.
"""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable
from contextlib import suppress

import structlog

__all__ = ["Worker", "WorkerThread"]

_log = structlog.get_logger(__name__)


class WorkerThread(threading.Thread):
    """A daemon thread that reports the exception that ended its work.

    Parameters
    ----------
    name : str
        Of the thread, in logs and stack traces.
    failed : callable
        Receives the exception that left `work`, once, on this thread.

    Attributes
    ----------
    failure : the exception that ended `work`; None while it runs and after an orderly end
    """

    def __init__(self, name: str, failed: Callable[[Exception], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._failed = failed
        self.failure: Exception | None = None

    @abstractmethod
    def work(self) -> None:
        """Do the work of the thread; return at its end."""

    def drain(self) -> None:
        """Account for items that come after a failure, until their source has ended."""

    def run(self) -> None:
        """Work; report a failure and drain."""
        try:
            self.work()
        except Exception as error:  # noqa: BLE001  the one place where an unexpected exception of a thread ends
            self.failure = error
            self._after_failure(_log.exception, "thread_failed", thread=self.name)
            self._after_failure(self._failed, error)
            self._after_failure(self.drain)

    def _after_failure(self, step: Callable[..., object], *arguments: object, **named: object) -> None:
        """Do one step; when it fails too, log that and go on with the next one."""
        try:
            step(*arguments, **named)
        except Exception:  # noqa: BLE001  a failed report must not keep the thread from draining
            with suppress(Exception):  # not even a log that cannot be written
                _log.exception("thread_failed_again", thread=self.name)


class Worker(WorkerThread):
    """A `WorkerThread` whose work is one function.

    Parameters
    ----------
    name : str
        Of the thread, in logs and stack traces.
    work : callable
        Does the work of the thread.
    failed : callable
        Receives the exception that left `work`, once, on this thread.
    """

    def __init__(self, name: str, work: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        super().__init__(name, failed)
        self._work = work

    def work(self) -> None:
        """Call the function."""
        self._work()

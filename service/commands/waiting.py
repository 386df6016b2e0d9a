"""Wait until a service is ready, or until a signal ends the command."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Literal

from service.process.signals import Ending, ending_of, handle_ending_signals

__all__ = ["Interrupted", "interruptible", "readiness", "web_address"]

_ANY = ("0.0.0.0", "::", "")  # noqa: S104  names of "all addresses", replaced by the address of this machine

Pause = Callable[[float | None], None]


class Interrupted(Exception):
    """A signal has requested the end of the command.

    Attributes
    ----------
    ending : Ending
        The signal, and whether a user requested the end.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@contextmanager
def interruptible() -> Iterator[Pause]:
    """Turn signals that request the end into the exception `Interrupted`.

    Yields a function that waits for a number of seconds (None: without limit)
    and raises `Interrupted` after a signal. A signal interrupts nothing else,
    so that a second signal cannot interrupt the stopping of the service.
    """
    received = threading.Event()

    first: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        first.append(number)
        received.set()

    def pause(seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        # Short waits, because on Windows Python handles no signal while it waits for a lock.
        while deadline is None or time.monotonic() < deadline:
            left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
            if received.wait(max(left, 0.0)):
                break
        if received.is_set():
            raise Interrupted(ending_of(first[0]))

    before = handle_ending_signals(remember)
    try:
        yield pause
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def web_address(host: str, port: int, scheme: Literal["http", "https"] = "http") -> str:
    """Address of the service for a browser on this machine."""
    name = "127.0.0.1" if host in _ANY else host
    return f"{scheme}://[{name}]:{port}" if ":" in name else f"{scheme}://{name}:{port}"


def readiness(host: str, port: int) -> str | None:
    """None when /readyz returns 200, else the reason."""
    connection = http.client.HTTPConnection("127.0.0.1" if host in _ANY else host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        if response.status == http.client.OK:
            return None
        problem: Any = json.loads(response.read())
        return str(problem.get("detail") or problem.get("title") or problem)
    except (OSError, http.client.HTTPException, ValueError):
        return "The API does not respond yet."
    finally:
        connection.close()

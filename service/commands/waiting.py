"""Waiting for a service: until it is ready, until it is interrupted."""

from __future__ import annotations

import http.client
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from service.process.signals import Ending, answer_ending_signals, ending_of

__all__ = ["Interrupted", "interruptible", "readiness", "web_address"]

_ANY = ("0.0.0.0", "::", "")  # noqa: S104  names of "all addresses", shown as this machine

Pause = Callable[[float | None], None]


class Interrupted(Exception):
    """A signal asked for the end.

    Attributes
    ----------
    ending : Ending
        Which, and whether somebody wanted the end.
    """

    def __init__(self, ending: Ending) -> None:
        super().__init__(ending.reason)
        self.ending = ending


@contextmanager
def interruptible() -> Iterator[Pause]:
    """Turn the signals that ask for the end into an orderly one.

    Yields a function that waits so many seconds (None: for ever) and raises
    `Interrupted` when a signal has come. A signal interrupts nothing else,
    so that stopping is never stopped half way.
    """
    called = threading.Event()

    first: list[int] = []

    def remember(number: int, _frame: FrameType | None) -> None:
        first.append(number)
        called.set()

    def pause(seconds: float | None) -> None:
        deadline = None if seconds is None else time.monotonic() + seconds
        # Short waits, because on Windows a lock that is waited for keeps the signal from being seen.
        while deadline is None or time.monotonic() < deadline:
            left = 0.2 if deadline is None else min(0.2, deadline - time.monotonic())
            if called.wait(max(left, 0.0)):
                break
        if called.is_set():
            raise Interrupted(ending_of(first[0]))

    before = answer_ending_signals(remember)
    try:
        yield pause
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def web_address(host: str, port: int) -> str:
    """Where a browser on this machine finds the service."""
    name = "127.0.0.1" if host in _ANY else host
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def readiness(host: str, port: int) -> str | None:
    """None when /readyz says 200, else the reason."""
    connection = http.client.HTTPConnection("127.0.0.1" if host in _ANY else host, port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        if answer.status == http.client.OK:
            return None
        said: Any = json.loads(answer.read())
        return str(said.get("detail") or said.get("title") or said)
    except (OSError, http.client.HTTPException, ValueError):
        return "The API does not answer yet."
    finally:
        connection.close()

"""What all commands share at the terminal: progress, notes, errors and exit status.

Standard output is for results, standard error for everything a person reads
on the way. On a terminal long work shows a progress bar; elsewhere plain
lines, so that logs stay readable.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

__all__ = ["cancel", "note", "progress", "result"]

Advance = Callable[..., None]

_cancelled = threading.Event()


def cancel() -> NoReturn:
    """End the command: now, or at its next progress when the exception is lost.

    A signal may arrive within a callback from C, as while a function is
    compiled, and what is raised there goes nowhere.
    """
    _cancelled.set()
    sys.unraisablehook = _tell_but_cancellation
    raise KeyboardInterrupt


def _tell_but_cancellation(lost: sys.UnraisableHookArgs) -> None:
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)


def note(text: str) -> None:
    """One line for the person, on standard error."""
    print(text, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """A result, on standard output."""
    print(text, flush=True)


@contextmanager
def progress(label: str, total: float, unit: str = "") -> Iterator[Advance]:
    """Show how far long work has come.

    Yields a function ``advance(done, detail="")`` that takes the absolute
    amount done, of `total`, and a short text beside it. Without a unit, per
    cent are shown; with an integer as total, whole numbers. Work that was cancelled ends at its next call.
    """
    scale, of = (100 / total, "%") if not unit else (1.0, unit)
    digits = 0 if isinstance(total, int) or not unit else 1
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(f"{{task.completed:.{digits}f}}/{{task.total:.{digits}f}} {of}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task(label, total=scale * total, detail="")

            def advance(done: float, detail: str = "") -> None:
                _end_if_cancelled()
                bar.update(task, completed=scale * done, detail=detail)

            yield advance
        _end_if_cancelled()
        return

    last = time.monotonic()

    def advance_plain(done: float, detail: str = "") -> None:
        nonlocal last
        _end_if_cancelled()
        now = time.monotonic()
        if now - last >= 5 or done >= total:
            last = now
            note(f"{label}: {scale * done:.{digits}f}/{scale * total:.{digits}f} {of} {detail}".rstrip())

    yield advance_plain
    _end_if_cancelled()


def _end_if_cancelled() -> None:
    if _cancelled.is_set():
        raise KeyboardInterrupt

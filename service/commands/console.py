"""What all commands share at the terminal: progress, notes, errors and exit status.

Standard output is for results, standard error for everything a person reads
on the way. On a terminal long work shows a progress bar; elsewhere plain
lines, so that logs stay readable.

No text and no terminal ends the work: letters that the terminal's encoding
lacks are written in others, and when the terminal or the program behind a pipe
is gone, what would have been shown is dropped.
"""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TextIO

__all__ = ["cancel", "is_cancelled", "note", "printable", "progress", "protect_streams", "result"]

Advance = Callable[..., None]

_cancelled = threading.Event()

_SUBSTITUTES = {
    "µ": "u",
    "μ": "u",
    "±": "+-",
    "×": "x",
    "−": "-",
    "–": "-",
    "—": "-",
    "’": "'",
    "“": '"',
    "”": '"',
    "…": "...",
    "•": "*",
    "σ": "sigma",
    "²": "2",
    "³": "3",
    "°": "deg",
}
"""Letters of the commands' texts that not every terminal has; others are shown by their number."""

_READER_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})
"""The reader of a pipe has ended, or the terminal was closed."""


def protect_streams() -> None:
    """Let standard output and error of this process take any text, and outlive their reader.

    A standard error that takes nothing more, as on a full disk, never ends the work either; a result that cannot be
    written does.
    """
    codecs.register_error("bathyscope", _readable)
    sys.stdout = _protected(sys.stdout, sys.__stdout__, forgiven=_READER_GONE)
    sys.stderr = _protected(sys.stderr, sys.__stderr__, forgiven=None)


def printable(text: str) -> str:
    """The text with control characters, which a path may hold, shown by their number."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else _numbered(letter) for letter in text)


def is_cancelled() -> bool:
    """Whether `cancel` was called."""
    return _cancelled.is_set()


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
    print(printable(text), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """A result, on standard output."""
    print(printable(text), flush=True)


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


class _LastingFile(io.FileIO):
    """A descriptor that takes what is written to it also when nobody reads it any more."""

    def __init__(self, descriptor: int, forgiven: frozenset[int] | None) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._forgiven = forgiven

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError as error:
            if self._forgiven is not None and error.errno not in self._forgiven:
                raise
            return size
        return size if written is None else written


def _protected(stream: TextIO | None, original: TextIO | None, forgiven: frozenset[int] | None) -> TextIO:
    """A stream to write to instead of `stream`."""
    if stream is None:  # started without any, as by a desktop
        return open(os.devnull, "w", encoding="utf-8")
    if stream is original and sys.platform != "win32" and isinstance(stream, io.TextIOWrapper):
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            return open(os.devnull, "w", encoding="utf-8")
        raw = io.BufferedWriter(_LastingFile(descriptor, forgiven))
        return io.TextIOWrapper(raw, stream.encoding, "bathyscope", line_buffering=True)
    if isinstance(stream, io.TextIOWrapper):  # the console of Windows, or a test's
        stream.reconfigure(errors="bathyscope")
    return stream


def _readable(error: UnicodeError) -> tuple[str, int]:
    """Write letters that an encoding lacks in others."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(letter) or _numbered(letter) for letter in letters), error.end


def _numbered(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else f"\\x{ord(letter):02x}"

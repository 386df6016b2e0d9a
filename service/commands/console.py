"""Output of all commands: progress, notes, results, and cancellation.

Results go to standard output. Progress and notes go to standard error. Long
work shows a progress bar on a terminal, and plain lines elsewhere, so that
logs stay readable.

A problem with the output does not end the work. Characters that the
terminal's encoding lacks are replaced. When the terminal or the program that
reads a pipe has ended, further output is dropped.
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
"""Replacements for characters that some terminals lack. Other characters are shown by their code."""

_READER_GONE = frozenset({errno.EPIPE, errno.EIO, errno.EBADF, errno.ENXIO})
"""Error numbers of a pipe whose reader has ended, and of a closed terminal."""


def protect_streams() -> None:
    """Make standard output and error accept any text, also when their reader has ended.

    Failed writes to standard error are ignored, for example on a full disk. A result that cannot be written to
    standard output on a full disk is an error.
    """
    codecs.register_error("bathyscope", _substitutes)
    sys.stdout = _protected(sys.stdout, sys.__stdout__, ignored=_READER_GONE)
    sys.stderr = _protected(sys.stderr, sys.__stderr__, ignored=None)


def printable(text: str) -> str:
    """The text with control characters, which a path may contain, replaced by their codes."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else _numbered(letter) for letter in text)


def is_cancelled() -> bool:
    """Whether `cancel` was called."""
    return _cancelled.is_set()


def cancel() -> NoReturn:
    """End the command: now, or at its next progress report when the exception is lost.

    A signal may arrive within a callback from C, for example while a function
    is compiled. Python discards an exception that is raised there.
    """
    _cancelled.set()
    sys.unraisablehook = _report_except_cancellation
    raise KeyboardInterrupt


def _report_except_cancellation(lost: sys.UnraisableHookArgs) -> None:
    if lost.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(lost)


def note(text: str) -> None:
    """Print one line for the user, on standard error."""
    print(printable(text), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Print a result, on standard output."""
    print(printable(text), flush=True)


@contextmanager
def progress(label: str, total: float, unit: str = "") -> Iterator[Advance]:
    """Show the progress of long work.

    Yields a function ``advance(done, detail="")``. It takes the amount done so
    far, out of `total`, and a short text. Without a unit the progress is shown
    in per cent; with an integer `total` it is shown in whole numbers. After
    `cancel`, the next call of ``advance`` raises `KeyboardInterrupt`.
    """
    scale, unit_text = (100 / total, "%") if not unit else (1.0, unit)
    digits = 0 if isinstance(total, int) or not unit else 1
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn(f"{{task.completed:.{digits}f}}/{{task.total:.{digits}f}} {unit_text}"),
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
            note(f"{label}: {scale * done:.{digits}f}/{scale * total:.{digits}f} {unit_text} {detail}".rstrip())

    yield advance_plain
    _end_if_cancelled()


def _end_if_cancelled() -> None:
    if _cancelled.is_set():
        raise KeyboardInterrupt


class _LastingFile(io.FileIO):
    """A file descriptor whose writes succeed also when its reader has ended."""

    def __init__(self, descriptor: int, ignored: frozenset[int] | None) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._ignored = ignored

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            written = super().write(data)
        except OSError as error:
            if self._ignored is not None and error.errno not in self._ignored:
                raise
            return size
        return size if written is None else written


def _protected(stream: TextIO | None, original: TextIO | None, ignored: frozenset[int] | None) -> TextIO:
    """A stream that replaces `stream`; write errors with these numbers are ignored (None: all of them)."""
    if stream is None:  # a process that a desktop starts may have none
        return open(os.devnull, "w", encoding="utf-8")
    if stream is original and sys.platform != "win32" and isinstance(stream, io.TextIOWrapper):
        try:
            descriptor = stream.fileno()
        except (OSError, ValueError):
            return open(os.devnull, "w", encoding="utf-8")
        raw = io.BufferedWriter(_LastingFile(descriptor, ignored))
        return io.TextIOWrapper(raw, stream.encoding, "bathyscope", line_buffering=True)
    if isinstance(stream, io.TextIOWrapper):  # the console of Windows, or the stream of a test
        stream.reconfigure(errors="bathyscope")
    return stream


def _substitutes(error: UnicodeError) -> tuple[str, int]:
    """Replacement for characters that an encoding lacks, and the position after them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letters = error.object[error.start : error.end]
    return "".join(_SUBSTITUTES.get(letter) or _numbered(letter) for letter in letters), error.end


def _numbered(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else f"\\x{ord(letter):02x}"

"""Equal lines of the log are counted, not repeated.

A client that fails a thousand times a second must not fill the disk with
equal lines. The first line is written, and the next equal one after a minute,
with the number of those between.
"""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable, Hashable

__all__ = ["CountRepeats", "Repeats"]

_EVERY_S = 60.0
_MOST_KEYS = 64
"""Kinds of lines that are counted separately; all further kinds share one line a minute."""


class Repeats:
    """Selection of the lines to write among many equal ones.

    Parameters
    ----------
    every_s : float
        Shortest time between two equal lines, s.
    most : int
        Kinds of lines that are counted separately.
    clock : callable
        Seconds that never go back.
    """

    def __init__(
        self, every_s: float = _EVERY_S, most: int = _MOST_KEYS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._every_s = every_s
        self._most = most
        self._clock = clock
        self._seen: dict[Hashable, tuple[float, int]] = {}

    def held_back(self, key: Hashable) -> int | None:
        """None when a line of the kind `key` is not to be written now, or else how many were not since the last one."""
        now_s = self._clock()
        if key not in self._seen and len(self._seen) >= self._most:
            self._forget(now_s)
            key = key if len(self._seen) < self._most else None
        written_s, count = self._seen.get(key, (-self._every_s, 0))
        if now_s - written_s < self._every_s:
            self._seen[key] = (written_s, count + 1)
            return None
        self._seen[key] = (now_s, 0)
        return count

    def _forget(self, now_s: float) -> None:
        """Drop the kinds whose next line would be written anyway and has no count to report."""
        self._seen = {
            key: (written_s, count)
            for key, (written_s, count) in self._seen.items()
            if count or now_s - written_s < self._every_s
        }


class CountRepeats(logging.Filter):
    """Keeps libraries from writing equal lines again and again; add it to a logger."""

    def __init__(self, repeats: Repeats | None = None) -> None:
        super().__init__()
        self._repeats = repeats or Repeats()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written; the number of equal lines before it is added to its text."""
        held_back = self._repeats.held_back((record.levelno, str(record.msg).partition("\n")[0], _place(record)))
        if held_back:
            record.msg = f"{record.getMessage()} ({held_back} equal lines before this one were not written)"
            record.args = ()
        return held_back is not None


def _place(record: logging.LogRecord) -> Hashable:
    """Where the exception of a line was raised: equal messages about different failures are different lines."""
    if not record.exc_info or record.exc_info[1] is None:
        return None
    error = record.exc_info[1]
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return (type(error).__name__, *((frame.filename, frame.lineno) for frame in last))

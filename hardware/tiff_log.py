"""Warnings and errors that tifffile logs while it reads.

tifffile reads what it can reach of a broken file, fills the rest with zeros
and only logs it. Here the log records are collected, so that a reader can
refuse the file or pass the warning on as a note.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hardware.reading import refusal

__all__ = ["BROKEN_TAG", "HARMLESS", "MORE_PAGES", "collect_warnings", "remarks_of"]

HARMLESS = ("display settings", "comments", "index map")
"""Parts of a Micro-Manager file that are often incomplete (tifffile's own notes) and that images do not need."""

MORE_PAGES = "frames, got"
"""Words of tifffile's warning about a file with more pages than planes."""

BROKEN_TAG = "<TiffTag.fromfile>"
"""Mark of tifffile's warning about a broken tag. If pixels need the tag, reading fails later."""

_PLANES_LOST = ("zeroed", "missing", "expected", "truncated", "corrupted", "failed to read")
"""Words of tifffile's warnings about planes that it cannot reach."""


class _Collector(logging.Handler):
    """Keeps log records."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record."""
        self.records.append(record)


@contextmanager
def collect_warnings() -> Iterator[list[logging.LogRecord]]:
    """Collect the log records of tifffile within the block, instead of showing them."""
    collector = _Collector()
    logger = logging.getLogger("tifffile")
    propagate, level = logger.propagate, logger.level
    logger.addHandler(collector)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield collector.records
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
        logger.setLevel(level)


def remarks_of(path: Path, records: Sequence[logging.LogRecord], harmless: Sequence[str]) -> list[str]:
    """Warnings of tifffile as notes, but for those with `harmless` words.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: a warning states that planes are missing.
    """
    remarks = []
    for record in records:
        text = re.sub(r"<(tifffile\.)?\w+(\.\w+)?( '[^']*')?>\s*", "", " ".join(record.getMessage().split()))
        if any(words in text.lower() for words in harmless):
            continue
        if any(words in text.lower() for words in _PLANES_LOST):
            raise refusal(
                f"{path} announces planes that it does not hold ({text}).",
                "The file, or one of a set of files, is missing or incomplete: copy or record it again.",
            )
        remarks.append(f"The reader warns: {text}")
    return list(dict.fromkeys(remarks))

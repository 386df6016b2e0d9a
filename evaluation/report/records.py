"""Records of the performance page: result files kept in `docs/performance`, and sections of its history.

A record is the JSON file of a `bench` or `reproduce` command as it was
written, in ``records/<topic>/<case>-<date>.json``; ``title`` and ``remarks``
may be added by hand. Of each topic and case the newest record is on the page.
A section of the history is a Markdown file in ``history/`` whose first lines
state date, commit, machine and topics.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import DataError

__all__ = ["Record", "Section", "newest", "read_records", "read_sections", "superseded"]

_NAME = re.compile(r"(?P<case>.+)-(?P<date>\d{4}-\d{2}-\d{2})")
_FIELDS = ("date", "title", "commit", "machine", "topics")
_FENCE = "---"


@dataclass(frozen=True, slots=True)
class Record:
    """A result with its place on the page.

    Attributes
    ----------
    topic, case : str
        Section of the page, and what distinguishes the results of a section.
    date : str
        ISO 8601, day.
    path : Path
    result : mapping
        Contents of the file; ``provenance`` is among them.
    """

    topic: str
    case: str
    date: str
    path: Path
    result: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Name of the case on the page."""
        return str(self.result.get("title", self.case))

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Origin of the figures (`evaluation.runs.provenance.Provenance`)."""
        known: Mapping[str, Any] = self.result["provenance"]
        return known

    @property
    def remarks(self) -> Sequence[str]:
        """Text below the figures."""
        return list(self.result.get("remarks", ()))


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the history.

    Attributes
    ----------
    date, title, commit, machine : str
    topics : tuple of str
    path : Path
    """

    date: str
    title: str
    commit: str
    machine: str
    topics: tuple[str, ...]
    path: Path


def read_records(folder: Path) -> list[Record]:
    """All records of a folder, by topic, case and date.

    Raises
    ------
    DataError
        When a file is no result with provenance, or its name states no date.
    """
    return [_record(path) for path in sorted(folder.glob("*/*.json"))]


def newest(records: Sequence[Record]) -> list[Record]:
    """Newest record of each topic and case, in the order of the files."""
    latest: dict[tuple[str, str], Record] = {}
    for record in sorted(records, key=lambda record: record.date):
        latest[record.topic, record.case] = record
    return [record for record in records if latest[record.topic, record.case] is record]


def superseded(records: Sequence[Record]) -> list[Record]:
    """Records of which there is a newer one."""
    current = newest(records)
    return [record for record in records if record not in current]


def read_sections(folder: Path) -> list[Section]:
    """Sections of the history in the reversed order of their names, which begin with the date: the newest first.

    Raises
    ------
    DataError
        When a file does not begin with its fields.
    """
    return [_section(path) for path in sorted(folder.glob("*.md"), reverse=True)]


def _record(path: Path) -> Record:
    name = _NAME.fullmatch(path.stem)
    if name is None:
        raise DataError(f"{path} does not end with a date.", "Name it CASE-YYYY-MM-DD.json.")
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        stated = {"command", "commit", "date", "machine"} <= set(result["provenance"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is no result with provenance ({error!r}).", "Write it by `bathyscope bench`."
        ) from error
    if not stated:
        raise DataError(f"The provenance of {path} is not complete.", "Write it by `bathyscope bench`.")
    return Record(path.parent.name, name["case"], name["date"], path, result)


def _section(path: Path) -> Section:
    first, *lines = path.read_text(encoding="utf-8").splitlines() or [""]
    stated = lines[: lines.index(_FENCE)] if first == _FENCE and _FENCE in lines else []
    fields = {name: value.strip('"') for name, _, value in (line.partition(": ") for line in stated)}
    missing = [name for name in _FIELDS if name not in fields]
    if missing:
        raise DataError(f"{path} does not state its {', '.join(missing)}.", "State them between two lines of `---`.")
    topics = tuple(fields["topics"].split(", "))
    return Section(fields["date"], fields["title"], fields["commit"], fields["machine"], topics, path)

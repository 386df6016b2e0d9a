"""Which files of a recording are at the place of its copy, verified: the record with which a copy is continued."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from service.files.outputs import explain_full_disk

__all__ = ["CopyJournal", "VerifiedFile"]


@dataclass(frozen=True, slots=True)
class VerifiedFile:
    """A file whose digest was read back.

    Attributes
    ----------
    name : relative to the folder of the recording, with ``/``
    size, mtime_ns : of the local file when it was sent
    sha256 : of both
    """

    name: str
    size: int
    mtime_ns: int
    sha256: str


class CopyJournal:
    """A file with one line of JSON for each verified file. A line that was cut by a kill is left out.

    Parameters
    ----------
    path : Path
    url : str
        Of the copy. The record of a copy at another place is not used.
    """

    def __init__(self, path: Path, url: str) -> None:
        self._path = path
        self._url = url
        self._files: dict[str, VerifiedFile] = {}
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if not lines or _url_of(lines[0]) != url:
            path.parent.mkdir(parents=True, exist_ok=True)
            with explain_full_disk(path):
                path.write_text(json.dumps({"url": url}) + "\n", encoding="utf-8")
            return
        for line in lines[1:]:
            try:
                file = VerifiedFile(**json.loads(line))
            except (ValueError, TypeError):
                continue
            self._files[file.name] = file

    def find(self, name: str, local: os.stat_result) -> VerifiedFile | None:
        """The record of a file; None when there is none, or the local file has changed since."""
        file = self._files.get(name)
        same = file is not None and (file.size, file.mtime_ns) == (local.st_size, local.st_mtime_ns)
        return file if same else None

    def add(self, file: VerifiedFile) -> None:
        """Append a record.

        Raises
        ------
        DataError
            When the disk is full.
        """
        with explain_full_disk(self._path), self._path.open("a", encoding="utf-8") as opened:
            opened.write("\n" + json.dumps(asdict(file)))  # begins a new line also after one that was cut
        self._files[file.name] = file

    def remove(self) -> None:
        """Delete the file, when the copy is complete."""
        self._path.unlink(missing_ok=True)


def _url_of(line: str) -> object:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values.get("url") if isinstance(values, dict) else None

"""Copying one recording: every file sent, read back, and its digest compared; last the list of all digests.

The list stands beside the copy as ``NAME.sha256``, in the form that
``sha256sum -c`` reads. It is written when all files are verified, so a copy
with a list is complete. A file that is there with the same digest is not sent
again, so a copy that was interrupted in any way is continued.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from models.errors import DataError
from service.copies.journal import CopyJournal, VerifiedFile
from service.copies.places import CopyPlace
from service.files.archives import file_sha256

__all__ = ["CopyProgress", "CopyStopped", "copy_recording", "files_of", "list_name", "unlike"]

_ATTEMPTS = 3
"""How often a file is sent whose digest differs when it is read back."""

_ROOT = "zarr.json"
_UNFINISHED = ".partial"
"""Suffix of what the recorder was writing when it was killed."""


class CopyStopped(Exception):
    """The copy was asked to stop; it is continued by the next call."""


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is.

    Attributes
    ----------
    files, bytes : of the recording
    done_files, done_bytes : verified so far
    sent_bytes : sent by this call; less than verified when files were there already
    """

    files: int
    bytes: int
    done_files: int = 0
    done_bytes: int = 0
    sent_bytes: int = 0


def list_name(recording: str) -> str:
    """Name of the list of digests of a recording."""
    return f"{recording}.sha256"


def files_of(recording: Path) -> dict[str, os.stat_result]:
    """The files of a recording by their names relative to it, metadata of the whole image last.

    Raises
    ------
    DataError
        When it is not there or has no image.
    """
    found = {}
    for place, _, names in os.walk(recording):
        for name in names:
            path = Path(place) / name
            if path.suffix != _UNFINISHED and path.is_file() and not path.is_symlink():
                found[path.relative_to(recording).as_posix()] = path.stat()
    if _ROOT not in found:
        raise DataError(f"There is no recording {recording}.", "Put its folder back, or delete the recording.")
    return dict(sorted(found.items(), key=lambda item: (item[0] == _ROOT, item[0])))


def copy_recording(
    recording: Path,
    place: CopyPlace,
    journal: CopyJournal,
    report: Callable[[CopyProgress], None],
    stopped: Callable[[], bool] = lambda: False,
) -> CopyProgress:
    """Copy a finished recording, or what is missing of it, and verify all of it.

    Parameters
    ----------
    recording : Path
        Its folder.
    place : CopyPlace
    journal : CopyJournal
        What was verified before.
    report : callable
        Receives the progress after each file.
    stopped : callable
        Asked before each file.

    Raises
    ------
    CopyStopped
    RemoteAway
        When the place cannot be reached or used now.
    DataError
        When a local file cannot be read or changes, or the digest of a file differs from what was sent.
    """
    place.check()
    files, there = files_of(recording), place.sizes(recording.name)
    progress = CopyProgress(len(files), sum(stat.st_size for stat in files.values()))
    digests = {}
    for name, stat in files.items():
        if stopped():
            raise CopyStopped
        target = f"{recording.name}/{name}"
        file = journal.find(name, stat)
        if file is None or there.get(target) != stat.st_size:
            file, sent = _copy_file(recording / name, name, stat, place, target, there.get(target))
            journal.add(file)
            progress = replace(progress, sent_bytes=progress.sent_bytes + sent)
        digests[target] = file.sha256
        progress = replace(progress, done_files=progress.done_files + 1, done_bytes=progress.done_bytes + stat.st_size)
        report(progress)
    _write_list(place, list_name(recording.name), digests)
    return progress


def unlike(recording: Path, place: CopyPlace) -> str | None:
    """The first difference between a recording and its copy by names and sizes, as a clause; None when there is none.

    Raises
    ------
    RemoteAway
    DataError
        When the recording is not there.
    """
    place.check()
    there = place.sizes(recording.name)
    if place.size(list_name(recording.name)) is None:
        return f"{list_name(recording.name)} is missing there"
    for name, stat in files_of(recording).items():
        size = there.get(f"{recording.name}/{name}")
        if size != stat.st_size:
            return f"{name} has {'no copy there' if size is None else f'{size} bytes there'}, and {stat.st_size} here"
    return None


def _copy_file(
    source: Path, name: str, stat: os.stat_result, place: CopyPlace, target: str, there: int | None
) -> tuple[VerifiedFile, int]:
    """Send a file unless it is there; its record, and how many bytes were sent."""
    try:
        digest = file_sha256(source)
        sent, verified = 0, there == stat.st_size and place.sha256(target) == digest
        for _ in range(_ATTEMPTS):
            if verified:
                break
            place.send(source, target)
            sent += stat.st_size
            verified = place.sha256(target) == digest
        now = source.stat()
    except OSError as error:
        raise DataError(
            f"A file of the recording cannot be read: {source} ({error.strerror}).", "Check the local disk."
        ) from error
    if (now.st_size, now.st_mtime_ns) != (stat.st_size, stat.st_mtime_ns):
        raise DataError(f"{source} changed while it was copied.", "Let no other program write to recordings.")
    if not verified:
        raise DataError(
            f"{target} was sent {_ATTEMPTS} times to {place.url}, and what is read back differs each time.",
            "Check the disk of the place, and the network.",
        )
    return VerifiedFile(name, stat.st_size, stat.st_mtime_ns, digest), sent


def _write_list(place: CopyPlace, name: str, digests: dict[str, str]) -> None:
    content = "".join(f"{digest}  {target}\n" for target, digest in digests.items()).encode()
    place.write(name, content)
    if place.sha256(name) != hashlib.sha256(content).hexdigest():
        raise DataError(f"{name} at {place.url} differs from what was written.", "Check the disk of the place.")

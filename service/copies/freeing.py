"""Why the local files of a recording may not be deleted yet, although its copy was verified once."""

from __future__ import annotations

from pathlib import Path

from bathyscope_errors import BathyscopeError
from service.copies.copying import unlike
from service.copies.places import open_place
from service.store.recording_copy import RecordingCopy

__all__ = ["why_not_freed"]


def why_not_freed(recording: Path, copy: RecordingCopy | None) -> str | None:
    """A clause, or None when the local files may be deleted.

    All digests were compared when the copy was made. Here the place is asked once more whether each file is still
    there with its size, because weeks may lie between the two.
    """
    if copy is None or copy.state != "verified":
        return "its recording has no verified copy yet"
    try:
        difference = unlike(recording, open_place(copy.url.rpartition("/")[0]))
    except BathyscopeError as error:
        return f"its copy cannot be looked at: {error.problem}"
    return None if difference is None else f"its copy at {copy.url} is not complete any more: {difference}"

"""The copy of a recording at another place, as a run states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, get_args

from service.store.rows import damaged_row, moment

__all__ = ["CopyState", "RecordingCopy", "copy_of"]

CopyState = Literal["waiting", "copying", "verified", "failed"]


@dataclass(frozen=True, slots=True)
class RecordingCopy:
    """The copy of a recording.

    Attributes
    ----------
    url : of the copy: s3://BUCKET/FOLDER/RUN.ome.zarr, or its folder
    state : `waiting` (not begun, or its place is away), `copying`, `verified` (all digests read back and equal), or
        `failed` (tried again later)
    files, bytes : of the recording
    done_files, done_bytes : of these, verified
    verified_at : UTC; None before
    freed_at : UTC, when the local files were deleted; None while they are kept
    problem : why it waits or failed
    """

    url: str
    state: CopyState
    files: int = 0
    bytes: int = 0
    done_files: int = 0
    done_bytes: int = 0
    verified_at: datetime | None = None
    freed_at: datetime | None = None
    problem: str | None = None


def copy_of(values: object, run_id: str) -> RecordingCopy | None:
    """The copy in the column of a run, whose times are Unix seconds.

    Raises
    ------
    StoreError
        When it cannot be read.
    """
    if values is None:
        return None
    if not isinstance(values, Mapping) or values.get("state") not in get_args(CopyState):
        raise damaged_row("run", run_id, "recording_copy")
    given: dict[str, Any] = dict(values)
    for name in ("verified_at", "freed_at"):
        if given.get(name) is not None:
            given[name] = moment(given[name], "run", run_id)
    try:
        return RecordingCopy(**given)
    except TypeError:
        raise damaged_row("run", run_id, "recording_copy") from None

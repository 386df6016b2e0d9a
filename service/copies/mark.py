"""A mark at the place of the copies, by which a share that is not mounted is told from one without copies.

Where a share is not mounted, its folder is often there and empty. Copies would then fill the system disk, and the local
files would be deleted in favour of them. So the first copy leaves a file at the place, and later ones look for it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hardware.remote import RemoteAway
from service.copies.places import CopyPlace
from service.files.outputs import write_json

__all__ = ["MARK", "check_mark"]

MARK = ".bathyscope-copies"
_TEXT = b"Copies of recordings of Bathyscope. Keep this file: without it the place counts as not mounted.\n"
_KNOWN = "places.json"


def check_mark(place: CopyPlace, folder: Path) -> None:
    """Leave a mark at a new place; refuse one that lost it.

    Parameters
    ----------
    place : CopyPlace
    folder : Path
        Where this data directory keeps the places that it knows.

    Raises
    ------
    RemoteAway
        When the mark is missing, or the place cannot be used.
    DataError
        When the local disk is full.
    """
    known = _read(folder / _KNOWN)
    place.check()
    if place.size(MARK) is not None:
        if place.url in known:
            return
    elif place.url in known:
        raise RemoteAway(
            f"{place.url} has no file {MARK}, which an earlier copy left there.",
            f"Mount its share, or correct the URL; if it was emptied on purpose, delete {folder / _KNOWN}.",
        )
    else:
        place.write(MARK, _TEXT)
    write_json(folder / _KNOWN, {**known, place.url: True})


def _read(path: Path) -> dict[str, Any]:
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}

"""The tracks that are exported: those of a run, or those of a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

from models.errors import DataError
from models.table_files import Note, read_table
from models.tables import Tracks
from service.export.blocks import sorted_blocks
from service.export.origin import Origin
from service.files.library import Library
from service.store.errors import UnknownItem
from service.store.store import Store
from service.store.tracks import TrackQuery

__all__ = ["TrackSource", "tracks_of_run", "tracks_of_table"]


@dataclass(frozen=True, slots=True)
class TrackSource:
    """Tracks to export.

    Attributes
    ----------
    origin : where they come from
    tracks, points : how many there are
    blocks : the points by track, then by frame; can be read once
    """

    origin: Origin
    tracks: int
    points: int
    blocks: Iterator[Tracks]


def tracks_of_run(store: Store, library: Library, run_id: str, revision: int | None = None) -> TrackSource:
    """The tracks of a run in one revision; None: the newest complete one. Points are read while `blocks` advances.

    Raises
    ------
    UnknownItem
        When there is no such run, or it has no such revision.
    """
    run = store.runs.get(run_id)
    page = store.tracks.query(run_id, TrackQuery(revision=revision))
    origin = Origin(
        source=run.id,
        name=run.name,
        revision=page.revision,
        model_id=run.model_id,
        pixel_size_um=_pixel_size_um(library, run.model_id),
        started_at=run.started_at.astimezone(UTC).isoformat(timespec="milliseconds"),
    )
    points = sum(track.points for track in page.items)
    return TrackSource(origin, len(page.items), points, store.tracks.stream(page.selection))


def tracks_of_table(path: Path, pixel_size_um: float | None = None, note: Note | None = None) -> TrackSource:
    """The tracks of a table.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    pixel_size_um : float, optional
        Camera pixel at the sample, µm.
    note : callable, optional
        As of `models.table_files.read_table`.

    Raises
    ------
    DataError
        When it cannot be read as a table of tracks.
    """
    table = read_table(path, Tracks, note)
    origin = Origin(source=path.name, pixel_size_um=pixel_size_um)
    return TrackSource(origin, len(set(table.track_id.tolist())), len(table), sorted_blocks(table))


def _pixel_size_um(library: Library, model_id: str) -> float | None:
    """The pixel size that the model was made for, to which the camera had to fit; None when the model is gone."""
    try:
        size = library.models.description(model_id).get("pixel_size_um")
    except (UnknownItem, DataError):
        return None
    return float(size) if isinstance(size, int | float) else None

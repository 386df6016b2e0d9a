"""The tracks that are exported: those of a run, or those of a table."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC
from pathlib import Path

import numpy as np

from models.errors import DataError
from models.measures import Sightings, TrackMeasures, measure
from models.memory import require_memory
from models.table_files import Note, read_table
from models.tables import Localizations, Tracks
from service.export.blocks import located, sorted_blocks
from service.export.measured import Measured
from service.export.origin import Origin
from service.files.library import Library
from service.store.errors import UnknownItem
from service.store.store import Store
from service.store.tracks import TrackQuery, TrackSummary

__all__ = ["TrackSource", "tracks_of_run", "tracks_of_table"]

_BYTES_PER_POINT = 2_000
"""Of a track point that is measured: its columns, its localization, and the grid of likelihoods."""


@dataclass(frozen=True, slots=True)
class TrackSource:
    """Tracks to export.

    Attributes
    ----------
    origin : where they come from
    tracks, points : how many there are
    blocks : the points by track, then by frame; can be read once
    measured : figures of the tracks; None: they were not asked for
    """

    origin: Origin
    tracks: int
    points: int
    blocks: Iterator[Tracks]
    measured: Measured | None = None


def tracks_of_run(
    store: Store,
    library: Library,
    run_id: str,
    revision: int | None = None,
    *,
    tracks: Collection[int] | None = None,
    measures: bool = False,
    exposure_s: float = 0.0,
) -> TrackSource:
    """The tracks of a run in one revision; None: the newest complete one. Points are read while `blocks` advances.

    `tracks` are the ids of those that are wanted; None: all. With `measures` these tracks and their localizations are
    read first; `exposure_s` as of `models.measures.measure`.

    Raises
    ------
    UnknownItem
        When there is no such run, or it has no such revision or track.
    DataError
        When the tracks are to be measured and do not fit into the memory, or the exposure is too long.
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
    items = page.items
    if tracks is not None:
        wanted = set(tracks)
        items = [track for track in page.items if track.track_id in wanted]
        _require_all(run_id, page.revision, tracks, items)
    points = sum(track.points for track in items)

    def blocks() -> Iterator[Tracks]:
        return _only(store.tracks.stream(page.selection), tracks)

    measured = _measured_run(store, run_id, blocks(), points, exposure_s) if measures else None
    return TrackSource(origin, len(items), points, blocks(), measured)


def _require_all(run_id: str, revision: int, wanted: Collection[int], found: list[TrackSummary]) -> None:
    missing = sorted(set(wanted) - {track.track_id for track in found})
    if missing:
        raise UnknownItem(
            f"Run {run_id} has no track {missing[0]} in revision {revision}.",
            "Numbers of tracks are those of one revision; export the revision that they were read from.",
        )


def _only(blocks: Iterator[Tracks], wanted: Collection[int] | None) -> Iterator[Tracks]:
    """Points of the wanted tracks; None: of all."""
    if wanted is None:
        yield from blocks
        return
    ids = np.fromiter(wanted, np.int64, len(wanted))
    for block in blocks:
        kept = block.select(np.isin(block.track_id, ids))
        if len(kept):
            yield kept


def _measured_run(store: Store, run_id: str, blocks: Iterator[Tracks], count: int, exposure_s: float) -> Measured:
    require_memory(count * _BYTES_PER_POINT, "Measuring this many tracks", "Export without measures.")
    points = Tracks.concatenate(located(blocks))
    if not len(points):
        return Measured.of(TrackMeasures.empty())
    parts = (
        part.select(Sightings.rows_of(points, part))
        for part in store.localizations.stream(run_id, float(points.t_s.min()), float(points.t_s.max()))
    )
    found = Localizations.concatenate(parts)
    # Runs whose localizations were not kept have only the points.
    stored = 2 * Sightings.of(points, found).counts.sum() > np.count_nonzero(points.observed)
    return Measured.of(measure(points, found if stored else None, exposure_s).tracks)


def tracks_of_table(
    path: Path,
    pixel_size_um: float | None = None,
    note: Note | None = None,
    *,
    measures: bool = False,
    localizations: Path | None = None,
    exposure_s: float = 0.0,
) -> TrackSource:
    """The tracks of a table.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    pixel_size_um : float, optional
        Camera pixel at the sample, µm.
    note : callable, optional
        As of `models.table_files.read_table`.
    measures : bool
        Whether the tracks are measured.
    localizations : Path, optional
        Table of the localizations that the tracks were made from, to measure diffusion on.
    exposure_s : float
        As of `models.measures.measure`.

    Raises
    ------
    DataError
        When a table cannot be read, or the exposure is too long.
    """
    table = read_table(path, Tracks, note)
    origin = Origin(source=path.name, pixel_size_um=pixel_size_um)
    measured = None
    if measures:
        found = None if localizations is None else read_table(localizations, Localizations, note)
        known = Tracks.concatenate(located([table]))
        measured = Measured.of(measure(known, found, exposure_s).tracks if len(known) else TrackMeasures.empty())
    return TrackSource(origin, len(set(table.track_id.tolist())), len(table), sorted_blocks(table), measured)


def _pixel_size_um(library: Library, model_id: str) -> float | None:
    """The pixel size that the model was made for, to which the camera had to fit; None when the model is gone."""
    try:
        size = library.models.description(model_id).get("pixel_size_um")
    except (UnknownItem, DataError):
        return None
    return float(size) if isinstance(size, int | float) else None

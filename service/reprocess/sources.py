"""What can be reprocessed: a recorded run of a data directory, or a recording by its path or URL."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from models.background.mode import StaticLightMode
from models.errors import DataError
from models.localization import Localizer
from models.tables import Tracks
from service.analysis.live_tracks import StoredLiveTracks
from service.files.library import Library
from service.files.recording import RecordedImage, place_of_recording
from service.jobs.reprocess_request import asked_tracking, check_reprocessing
from service.reprocess.recipe import BLOCK_FRAMES, Recipe, blocks_of, frames_digest, in_order, model_digest
from service.store.frames import RecordedFrames
from service.store.store import Store
from service.tracking_settings import TrackingPart
from service.version import installed_version

__all__ = ["Source", "recording_source", "run_source"]

_LIVE_PART_S = 10.0
"""Live tracks are copied in parts of this time, so that a part of them can be read."""


@dataclass(frozen=True, slots=True)
class Source:
    """A recording with all that its reprocessing needs.

    Attributes
    ----------
    recipe : Recipe
    recorded : RecordedFrames
        In the order of the frames.
    live : iterator of Tracks
        Live tracks in parts, in the order of time.
    """

    recipe: Recipe
    recorded: RecordedFrames
    live: Iterator[Tracks]


def run_source(
    store: Store,
    library: Library,
    data_dir: Path,
    request: Mapping[str, Any],
    *,
    model: Path | None = None,
    device: str = "auto",
    least: int = BLOCK_FRAMES,
) -> Source:
    """A recorded run of a data directory.

    Parameters
    ----------
    store : Store
    library : Library
    data_dir : Path
        The paths of recordings are relative to it.
    request : mapping
        ``run``; ``model``, the id of a model, None for that of the run; ``tracking``, a `TrackingRequest`, over the
        run's settings.
    model : Path, optional
        Folder of a model, instead of that of the request.
    device : str
    least : int
        Least number of planes of a block.

    Raises
    ------
    InUse, DataError
        As `check_reprocessing`, and when the recording or the model is damaged or the model needs a fit that is off.
    UnknownItem
        When there is no such run or model.
    """
    run = store.runs.get(str(request["run"]))
    tracking = asked_tracking(run, dict(request))
    check_reprocessing(store, run, tracking)
    chosen = model or library.models.folder(request["model"] or run.model_id)
    recorded, analysed = in_order(store.frames.recorded(run.id)), store.frames.analysed(run.id)
    times_s = recorded.frames.times_s
    start_s = analysed[0].start_s if analysed else float(times_s[0]) if len(times_s) else 0.0
    static_light = (run.settings.get("analysis") or {}).get("static_light", "off")
    recipe = _recipe(
        run.id, place_of_recording(data_dir, run), chosen, tracking, static_light, device, start_s, recorded, least
    )
    live = _live(store, run.id, float(times_s[-1]) - start_s if len(times_s) else 0.0)
    return Source(recipe, recorded, live)


def recording_source(
    place: Path | str, model: Path, tracking: TrackingPart, static_light: StaticLightMode, *, device: str = "auto",
    least: int = BLOCK_FRAMES,
) -> Source:  # fmt: skip
    """A recording by its path, or by its URL on an S3 server, which no database needs to know.

    Raises
    ------
    DataError
        When it or the model cannot be read, or the tracking has no smoothing.
    RemoteAway
        When the server does not respond.
    """
    if tracking.preset == "published":
        raise DataError("The published tracker has no smoothing.", "Choose the preset 'default' in the settings.")
    image = RecordedImage(place)
    recorded = in_order(image.recorded())
    start_s = float(recorded.frames.times_s[0]) if len(recorded.planes) else 0.0
    recipe = _recipe(image.name, place, model, tracking, static_light, device, start_s, recorded, least)
    return Source(recipe, recorded, iter(()))


def _recipe(
    run: str,
    recording: Path | str,
    model: Path,
    tracking: TrackingPart,
    static_light: StaticLightMode,
    device: str,
    start_s: float,
    recorded: RecordedFrames,
    least: int,
) -> Recipe:
    localizer = Localizer.load(model, device)
    localizer.check_finds(fits=tracking.fits and localizer.image_model is not None)
    return Recipe(
        run=run,
        recording=str(recording.absolute() if isinstance(recording, Path) else recording),
        model=str(model.absolute()),
        model_id=localizer.card.id,
        model_sha256=model_digest(model),
        tracking=tracking.record(),
        static_light=static_light,
        device=device,
        start_s=start_s,
        frames_sha256=frames_digest(recorded),
        blocks=blocks_of(recorded.planes, RecordedImage(recording).shard_frames, least),
        version=installed_version(),
    )


def _live(store: Store, run_id: str, end_s: float) -> Iterator[Tracks]:
    live = StoredLiveTracks(store, run_id)
    # The window before the first frame is empty; the last one has the points after the last frame too.
    edges = [*np.arange(-_LIVE_PART_S, end_s + _LIVE_PART_S, _LIVE_PART_S), end_s + 2 * _LIVE_PART_S]
    for begin, end in pairwise(edges):
        part = live.within(float(begin), float(np.nextafter(end, -np.inf)))
        if len(part):
            yield part

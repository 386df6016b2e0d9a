"""Tracks of a recorded run computed again from its frames, as its next revision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from hardware.microscope import Frame
from models.background.static_light import FIRST_FRAMES
from models.localization import Localizer
from models.tracking.image_tracker import one_thread
from service.analysis.frame_localizer import FrameCandidates, FrameLocalizer
from service.analysis.smoothed_run import SmoothedRun
from service.files.library import Library
from service.files.recording import RecordedImage
from service.jobs.reprocess_request import asked_tracking, check_reprocessing
from service.store.frames import RecordedFrames
from service.store.runs import Run
from service.store.store import Store
from service.tracking_settings import TrackingPart
from service.version import installed_version

__all__ = ["reprocess"]

_BATCH = 8


def reprocess(
    store: Store, library: Library, data_dir: Path, request: dict[str, Any], report: Callable[[int, int], None]
) -> dict[str, Any]:
    """Compute the tracks of a run from its recorded frames: each image is fitted fully, and all are smoothed.

    Parameters
    ----------
    store : Store
    library : Library
    data_dir : Path
        The paths of recordings are relative to it.
    request : dict
        ``run``; ``model``, None for that of the run; ``tracking``, a `TrackingRequest`, over the run's settings.
    report : callable
        Receives the numbers of frames that are done, and of all.

    Returns
    -------
    dict
        ``run``, its new ``revision``, and the number of ``frames``.

    Raises
    ------
    InUse, DataError
        As `check_reprocessing`, and when the model is damaged or needs a fit that is off.
    UnknownItem
        When there is no such run or model.
    """
    run = store.runs.get(request["run"])
    tracking = asked_tracking(run, request)
    check_reprocessing(store, run, tracking)
    model_id = request["model"] or run.model_id
    localizer = Localizer.load(library.models.folder(model_id), "auto")
    images = localizer.image_model if tracking.fits else None
    localizer.check_finds(fits=images is not None)
    while store.catch_ups.discard_tracks(run.id):
        pass
    smoothed = SmoothedRun(store, run.id, tracking, images)
    recorded, start_s = _recorded(store, run)
    with one_thread():
        for done, candidates in enumerate(_candidates(data_dir, run, localizer, tracking, recorded), 1):
            t_s = candidates.frame.time_s - start_s
            if images is None:
                smoothed.step(t_s, candidates.frame.index, candidates.found)
            else:
                smoothed.step_image(t_s, candidates)
            if done % _BATCH == 0:
                _store(store, run.id, smoothed)
                report(done, len(recorded.frames))
        smoothed.end_all()
    _store(store, run.id, smoothed)
    made = {
        "form": "smoothed",
        "model_ids": [model_id],
        "tracking": tracking.record(),
        "version": installed_version(),
    }
    revision = store.catch_ups.complete(run.id, made)
    return {"run": run.id, "revision": revision, "frames": len(recorded.frames)}


def _recorded(store: Store, run: Run) -> tuple[RecordedFrames, float]:
    """Recorded frames, and the time from which those of tracks count, s."""
    recorded, analysed = store.frames.recorded(run.id), store.frames.analysed(run.id)
    return recorded, analysed[0].start_s if analysed else float(recorded.frames.times_s[0])


def _candidates(
    data_dir: Path, run: Run, localizer: Localizer, tracking: TrackingPart, recorded: RecordedFrames
) -> Iterator[FrameCandidates]:
    """Frames of a recording in their order, with their candidates."""
    image = RecordedImage(data_dir / str(run.recording))
    static_light = (run.settings.get("analysis") or {}).get("static_light", "off")
    frames = FrameLocalizer(localizer, tracking.candidates_from, static_light)
    order = np.argsort(recorded.frames.numbers)
    planes = recorded.planes[order]
    frames.begin_with((image.plane(int(plane)) for plane in planes[:FIRST_FRAMES]), min(len(planes), FIRST_FRAMES))
    numbers, times_s = recorded.frames.numbers[order], recorded.frames.times_s[order]
    for first in range(0, len(order), _BATCH):
        part = slice(first, first + _BATCH)
        yield from frames.localize(
            [
                Frame(image.plane(int(plane)), int(number), float(time_s), "recording", 0.0)
                for plane, number, time_s in zip(planes[part], numbers[part], times_s[part], strict=True)
            ]
        )


def _store(store: Store, run_id: str, smoothed: SmoothedRun) -> None:
    for _ in store.catch_ups.add_in_steps(run_id, *smoothed.take()):
        pass

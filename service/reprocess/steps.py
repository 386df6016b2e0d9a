"""The steps of a reprocessing, each a function of the work folder: the same in this process and in a Dask worker.

`follow_light` goes through the blocks of a run in their order, because the map
of the static light depends on the frames before. `localize` runs for many
blocks at the same time. `link` runs once for each run, over all frames in
their order, when all blocks are localized. A step that is done is left out, so
each may be called any number of times.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from hardware.microscope import Frame
from models.background.frame_light import FrameLight
from models.background.static_light import FIRST_FRAMES
from models.errors import DataError
from models.localization import Localizer
from models.tables import Localizations, TrackEvents, Tracks
from models.tracking.image_tracker import kept, one_thread
from service.analysis.frame_localizer import FrameCandidates, FrameLocalizer
from service.analysis.smoothed_run import SmoothedRun
from service.files.recording import RecordedImage
from service.reprocess.columns import read_rows, rows_file
from service.reprocess.recipe import Block, Recipe, model_digest
from service.reprocess.work_folder import LINK, WorkFolder, light_step, localize_step
from service.store.frames import RecordedFrames
from service.tracking_settings import TrackingPart
from service.version import installed_version

__all__ = ["Note", "follow_light", "link", "load_localizer", "localize"]

Note: TypeAlias = Callable[[int], None]
"""Receives how many frames of a step are done."""

_BATCH = 8
"""Frames that are localized at once."""

_STORED_FRAMES = 64
"""Frames after which finished points are written."""

_NOTED_S = 1.0


def follow_light(path: str, number: int, _note: Note | None = None) -> None:
    """Follow the static light of the frames of a block; the block before is done.

    Raises
    ------
    DataError
        When a file of the recording or the model is missing or damaged.
    """
    folder = WorkFolder(Path(path))
    if folder.record(light_step(number)) is not None:
        return
    recipe, recorded = folder.recipe(), folder.recorded()
    localizer, image = load_localizer(recipe), RecordedImage(recipe.recording)
    light = localizer.static_light(recipe.static_light)
    if light is None:
        raise ValueError("the static light is off")
    block = recipe.blocks[number]
    with folder.computing(light_step(number), block.rows) as aside:
        if number:
            light.resume(folder.state_after(number - 1))
        else:
            first = recorded.planes[:FIRST_FRAMES]
            light.begin_with((image.plane(int(plane)) for plane in first), len(first))
        lights: list[FrameLight | None] = []
        for plane in recorded.planes[block.part]:
            lights += light.follow(image.plane(int(plane))[None])
        folder.write_lights(aside, number, lights)
        folder.write_state(number, light.state())
    if number:
        folder.forget_state(number - 1)


def localize(path: str, number: int, note: Note | None = None) -> None:
    """Find the candidates of emitters in the frames of a block; its static light is known.

    Raises
    ------
    DataError
        As `follow_light`.
    """
    folder = WorkFolder(Path(path))
    if folder.record(localize_step(number)) is not None:
        return
    recipe, recorded = folder.recipe(), folder.recorded()
    localizer, block = load_localizer(recipe), recipe.blocks[number]
    tracking = TrackingPart.of_record(recipe.tracking)
    finder = FrameLocalizer(localizer, tracking.candidates_from)
    image, lights = RecordedImage(recipe.recording), _lights(folder, recipe, block, localizer)
    with folder.computing(localize_step(number), block.rows) as aside:
        found: list[Localizations] = []
        for first in range(0, block.rows, _BATCH):
            part = slice(first, first + _BATCH)
            frames = list(_frames(image, recorded, block, part))
            found += [candidates.found for candidates in finder.localize_in(lights[part], frames)]
            if note is not None:
                note(first + len(frames))
        with rows_file(aside / f"{localize_step(number)}.parquet", Localizations) as add:
            add(Localizations.concatenate(found))


def link(path: str, _number: int, note: Note | None = None) -> None:
    """Link the tracks of all frames, and smooth them; all blocks are localized.

    Raises
    ------
    DataError
        As `follow_light`.
    """
    folder = WorkFolder(Path(path))
    if folder.record(LINK) is not None:
        return
    recipe = folder.recipe()
    localizer, tracking = load_localizer(recipe), TrackingPart.of_record(recipe.tracking)
    images = localizer.image_model if tracking.fits else None
    smoothed = SmoothedRun(_KeptTracks(folder), tracking, images)
    noted_s, done = time.monotonic(), 0
    with (
        one_thread(),
        folder.computing(LINK, recipe.frames) as aside,
        rows_file(aside / "tracks.parquet", Tracks) as add_tracks,
        rows_file(aside / "events.parquet", TrackEvents) as add_events,
        rows_file(aside / "localizations.parquet", Localizations) as add_localizations,
    ):
        for block in recipe.blocks:
            shown: list[Localizations] = []
            for candidates in _candidates(folder, recipe, block, localizer, with_images=images is not None):
                t_s, found = candidates.frame.time_s - recipe.start_s, candidates.found
                if images is None:
                    state = smoothed.step(t_s, candidates.frame.index, found)
                else:
                    state, found = smoothed.step_image(t_s, candidates)
                shown.append(kept(found, state, localizer.threshold)[0])
                done += 1
                if done % _STORED_FRAMES == 0:
                    points, events = smoothed.take()
                    add_tracks(points)
                    add_events(events)
                if time.monotonic() - noted_s > _NOTED_S:
                    noted_s = time.monotonic()
                    (note or folder.note_linked)(done)
            add_localizations(Localizations.concatenate(shown))
        smoothed.end_all()
        points, events = smoothed.take()
        add_tracks(points)
        add_events(events)


def load_localizer(recipe: Recipe) -> Localizer:
    """The localizer of a recipe; it stays in the memory of the process.

    Raises
    ------
    DataError
        When the model is missing, damaged or another one, or this process has another version of Bathyscope.
    """
    here = installed_version()
    if here != recipe.version:
        raise DataError(
            f"A worker has Bathyscope {here}, and the reprocessing was started with {recipe.version}.",
            "Install the same version for all workers.",
        )
    return _loaded(recipe.model, recipe.model_sha256, recipe.device)


@lru_cache(maxsize=2)
def _loaded(folder: str, sha256: str, device: str) -> Localizer:
    found = model_digest(Path(folder))
    if found != sha256:
        raise DataError(
            f"The model in {folder} has the digest {found[:12]}, and the reprocessing began with {sha256[:12]}.",
            "Put the model back, or start the reprocessing again.",
        )
    localizer = Localizer.load(Path(folder), device)
    localizer.use_threads(1)
    return localizer


class _KeptTracks:
    """The live tracks in the work folder; see `LiveTracks`."""

    def __init__(self, folder: WorkFolder) -> None:
        self._folder = folder
        self.last = folder.last_live

    def within(self, from_s: float, to_s: float) -> Tracks:
        return self._folder.live(from_s, to_s)


def _lights(folder: WorkFolder, recipe: Recipe, block: Block, localizer: Localizer) -> list[FrameLight | None]:
    return [None] * block.rows if recipe.static_light == "off" else folder.lights(block.number, localizer.camera)


def _frames(image: RecordedImage, recorded: RecordedFrames, block: Block, part: slice) -> Iterator[Frame]:
    """Some of the frames of a block."""
    rows = slice(block.first + part.start, min(block.first + part.stop, block.first + block.rows))
    frames = recorded.frames
    for plane, number, time_s in zip(recorded.planes[rows], frames.numbers[rows], frames.times_s[rows], strict=True):
        yield Frame(image.plane(int(plane)), int(number), float(time_s), "recording", 0.0)


def _candidates(
    folder: WorkFolder, recipe: Recipe, block: Block, localizer: Localizer, *, with_images: bool
) -> Iterator[FrameCandidates]:
    """The frames of a block with their candidates; without images when they are not fitted."""
    recorded = folder.recorded()
    found = read_rows(folder.path / f"{localize_step(block.number)}.parquet", Localizations)
    lights = _lights(folder, recipe, block, localizer)
    numbers = recorded.frames.numbers[block.part]
    begins, ends = np.searchsorted(found.frame, numbers), np.searchsorted(found.frame, numbers + 1)
    if with_images:
        frames = _frames(RecordedImage(recipe.recording), recorded, block, slice(0, block.rows))
    else:
        none, times_s = np.empty((0, 0), np.uint16), recorded.frames.times_s[block.part]
        frames = (
            Frame(none, int(number), float(time_s), "recording", 0.0)
            for number, time_s in zip(numbers, times_s, strict=True)
        )
    for frame, light, begin, end in zip(frames, lights, begins, ends, strict=True):
        yield FrameCandidates(frame, found.select(slice(int(begin), int(end))), light, localizer)

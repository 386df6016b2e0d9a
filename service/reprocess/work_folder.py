"""The folder of one reprocessing: what is to be done, and what is done.

    manifest.json            the recipe and its digest
    frames.npz               numbers, times and planes of the frames
    live.parquet             live tracks of the run, whose numbers are kept
    light-000003.npz         static light of the frames of a block
    found-000003.parquet     candidates of emitters in the frames of a block
    tracks.parquet, events.parquet, localizations.parquet    of all frames
    <step>.json              record of a step: its files with their digests; written last

Files are written under another name and renamed. A step whose record exists is
done, and is not computed again: after a lost worker, a lost scheduler or a
second start, the work goes on with what is missing. Several workers may write
the same step at the same time; its content is the same.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from models.background.frame_light import FrameLight, LightMap
from models.camera import CameraModel
from models.errors import DataError
from models.tables import Tracks
from service.files.archives import file_sha256
from service.files.outputs import explain_full_disk, write_json
from service.reprocess.columns import read_rows, rows_file, stream_rows
from service.reprocess.recipe import Recipe
from service.store.frames import FrameTimes, RecordedFrames

__all__ = ["LINK", "Record", "WorkFolder", "is_finished", "light_step", "localize_step"]

LINK = "tracks"
"""Name of the last step of a run."""

_MANIFEST, _KIND = "manifest.json", "bathyscope reprocessing"
_PROGRESS = "linked.json"
_FRAMES, _LIVE = "frames.npz", "live.parquet"


def light_step(block: int) -> str:
    """Name of the step that follows the static light of a block."""
    return f"light-{block:06d}"


def localize_step(block: int) -> str:
    """Name of the step that localizes a block."""
    return f"found-{block:06d}"


@dataclass(frozen=True, slots=True)
class Record:
    """A step that is done.

    Attributes
    ----------
    step : its name
    files : SHA-256 digest of each of its files
    frames : number of frames that it took
    seconds, cpu_seconds : how long it took, and the time of the processor in it
    process : host and number of the process that computed it
    """

    step: str
    files: dict[str, str]
    frames: int
    seconds: float
    cpu_seconds: float
    process: str


class WorkFolder:
    """The folder of one reprocessing. Used by several processes.

    Parameters
    ----------
    path : Path
        All workers see it at this path.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, recipe: Recipe, recorded: RecordedFrames, live: Iterable[Tracks]) -> bool:
        """Make the folder ready; whether it has work of an earlier start.

        Work of another recipe is removed.

        Parameters
        ----------
        recipe : Recipe
        recorded : RecordedFrames
            In the order of the frames.
        live : iterable of Tracks
            Live tracks in parts, in the order of time.

        Raises
        ------
        DataError
            When the folder cannot be written.
        """
        manifest = _manifest(self.path)
        if manifest is not None and manifest.get("digest") == recipe.digest:
            # The recording or the model may be in another place now.
            write_json(self.path / _MANIFEST, _manifest_values(recipe))
            return True
        if self.path.exists() and manifest is None and any(self.path.iterdir()):
            raise DataError(
                f"{self.path} exists and is no work of a reprocessing.", "Move it away, or choose another folder."
            )
        shutil.rmtree(self.path, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)
        with explain_full_disk(self.path):
            np.savez(
                self.path / _FRAMES,
                numbers=recorded.frames.numbers,
                times_s=recorded.frames.times_s,
                planes=recorded.planes,
            )
            with rows_file(self.path / _LIVE, Tracks) as add:
                for part in live:
                    add(part)
        write_json(self.path / _MANIFEST, _manifest_values(recipe))
        return False

    # ---- read ----

    def recipe(self) -> Recipe:
        """What is to be done.

        Raises
        ------
        DataError
            When there is no manifest.
        """
        manifest = _manifest(self.path)
        if manifest is None:
            raise DataError(
                f"{self.path} has no {_MANIFEST} that can be read.",
                "Every worker must see this folder at the same path; a folder of one machine only is not enough.",
            )
        return Recipe.of_values(manifest["recipe"])

    def recorded(self) -> RecordedFrames:
        """The frames, in their order."""
        with np.load(self.path / _FRAMES) as held:
            return RecordedFrames(held["planes"], FrameTimes(held["numbers"], held["times_s"]))

    @property
    def last_live(self) -> int:
        """Highest number of a live track; 0 when there is none."""
        return max((int(part.track_id.max()) for part in stream_rows(self.path / _LIVE, Tracks)), default=0)

    def live(self, from_s: float, to_s: float) -> Tracks:
        """Points of live tracks in a window of time, s."""
        return read_rows(self.path / _LIVE, Tracks, (from_s, to_s))

    def record(self, step: str) -> Record | None:
        """The record of a step that is done; None when it is not, or when one of its files is missing or damaged."""
        try:
            values = json.loads((self.path / f"{step}.json").read_text(encoding="utf-8"))
            record = Record(**values)
            sound = all(file_sha256(self.path / name) == digest for name, digest in record.files.items())
        except (OSError, ValueError, TypeError):
            return None
        return record if sound else None

    def lights(self, block: int, camera: CameraModel) -> list[FrameLight | None]:
        """Static light of each frame of a block."""
        with np.load(self.path / f"{light_step(block)}.npz") as held:
            maps = [
                LightMap(light_e, camera, float(doubt_e2))
                for light_e, doubt_e2 in zip(held["maps"], held["doubts_e2"], strict=True)
            ]
            return [
                None if chosen < 0 else FrameLight(maps[chosen], float(factor))
                for chosen, factor in zip(held["chosen"], held["factors"], strict=True)
            ]

    def state_after(self, block: int) -> dict[str, NDArray[Any]]:
        """What the static light of the next block depends on.

        Raises
        ------
        DataError
            When the file is missing.
        """
        try:
            with np.load(self._state_path(block)) as held:
                return {name: held[name] for name in held.files}
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self._state_path(block)} is missing or damaged.", f"Delete the folder {self.path}, and start again."
            ) from error

    def linked(self) -> int:
        """Number of frames whose tracks are linked, a second ago or less."""
        try:
            return int(json.loads((self.path / _PROGRESS).read_text(encoding="utf-8"))["done"])
        except (OSError, ValueError, LookupError, TypeError):
            return 0

    # ---- write ----

    @contextmanager
    def computing(self, step: str, frames: int) -> Iterator[Path]:
        """Yield a folder for the files of a step; they are renamed, and the record is written, after the block.

        Raises
        ------
        DataError
            When the disk is full.
        """
        begin_s, cpu_s = time.monotonic(), time.thread_time()
        process = f"{socket.gethostname()}:{os.getpid()}"
        aside = self.path / f".{step}.{uuid4().hex}"
        try:
            with explain_full_disk(self.path):
                aside.mkdir()
                yield aside
                files = {path.name: file_sha256(path) for path in sorted(aside.iterdir())}
                for name in files:
                    os.replace(aside / name, self.path / name)
            took_s = round(time.monotonic() - begin_s, 3), round(time.thread_time() - cpu_s, 3)
            write_json(self.path / f"{step}.json", asdict(Record(step, files, frames, *took_s, process)))
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def write_lights(self, folder: Path, block: int, lights: list[FrameLight | None]) -> None:
        """Write the static light of the frames of a block into the folder of `computing`."""
        places: dict[int, int] = {}
        maps: list[LightMap] = []
        chosen, factors = np.full(len(lights), -1), np.ones(len(lights))
        for n, light in enumerate(lights):
            if light is not None:
                if id(light.light) not in places:
                    places[id(light.light)] = len(maps)
                    maps.append(light.light)
                chosen[n], factors[n] = places[id(light.light)], light.factor
        kept = np.stack([each.light_e for each in maps]) if maps else np.empty((0, 0, 0), np.float32)
        doubts_e2 = np.array([each.doubt_e2 for each in maps])
        path = folder / f"{light_step(block)}.npz"
        np.savez(path, maps=kept, doubts_e2=doubts_e2, chosen=chosen, factors=factors)

    def write_state(self, block: int, state: dict[str, NDArray[Any]]) -> None:
        """Keep what the static light of the next block depends on."""
        aside = self.path / f".{uuid4().hex}.npz"
        with explain_full_disk(self.path):
            np.savez(aside, **state)  # type: ignore[arg-type]  # the stubs take the names for options
            os.replace(aside, self._state_path(block))

    def forget_state(self, block: int) -> None:
        """Remove a state that no later block needs."""
        self._state_path(block).unlink(missing_ok=True)

    def note_linked(self, done: int) -> None:
        """Keep the number of frames whose tracks are linked."""
        write_json(self.path / _PROGRESS, {"done": done})

    def finish(self, steps: Iterable[str]) -> None:
        """Join the records of all steps to one manifest, and remove what only they needed."""
        records = [record for step in steps if (record := self.record(step)) is not None]
        values = _manifest_values(self.recipe()) | {"finished": True, "steps": [asdict(record) for record in records]}
        write_json(self.path / _MANIFEST, values)
        for record in records:
            (self.path / f"{record.step}.json").unlink()
            for name in record.files if record.step != LINK else ():
                (self.path / name).unlink(missing_ok=True)
        for name in (_FRAMES, _LIVE, _PROGRESS):
            (self.path / name).unlink(missing_ok=True)
        for path in self.path.glob("light-state-*"):
            path.unlink()

    def remove(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _state_path(self, block: int) -> Path:
        return self.path / f"light-state-{block:06d}.npz"


def is_finished(folder: Path, digest: str | None = None) -> bool:
    """Whether a folder has the complete tables of a reprocessing, of the recipe with this digest."""
    manifest = _manifest(folder)
    return manifest is not None and manifest.get("finished") is True and digest in (None, manifest.get("digest"))


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == _KIND else None


def _manifest_values(recipe: Recipe) -> dict[str, Any]:
    return {"kind": _KIND, "digest": recipe.digest, "finished": False, "recipe": recipe.values()}

"""A movie of the reference scene with its truth: a source without rendering time while it is played.

The simulated microscope renders each frame when it is exposed, which takes
processor time from the analysis. So the same scene is rendered beforehand, in
a process of its own, and replayed from memory by the clock. As with a camera,
frames that are not fetched in time are lost.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SCENE_SEED", "SceneMovie", "render_movie"]

SCENE_SEED = 1
"""Of scene and noise, unless another is given."""

_FRAMES = 400
"""Four seconds at 100 fps; played back and forth the same frame comes again after at most eight."""

_FEWEST_FRAMES = 32
_MOST_BYTES = 256e6
"""The movie lies in the engine's memory; larger frames have to do with a shorter one."""


@dataclass(frozen=True, slots=True)
class SceneMovie:
    """Where movie (OME-TIFF) and truth (Parquet) are."""

    movie: Path
    truth: Path


def render_movie(
    folder: Path,
    shape: tuple[int, int],
    emitters: int,
    fps: float,
    *,
    frames: int | None = None,
    seed: int = SCENE_SEED,
) -> SceneMovie:
    """Render the reference scene, exposed all the time, through the reference camera.

    Parameters
    ----------
    folder : Path
        Where the files go.
    shape : (int, int)
        Rows and columns.
    emitters : int
        In view.
    fps : float
        Frames a second; each is exposed for its whole period.
    frames : int, optional
        How many; absent: as many as fit in 256 MB, between 32 and 400.
    seed : int
        Of scene and noise.
    """
    count = frames or int(min(max(_MOST_BYTES / (2 * shape[0] * shape[1]), _FEWEST_FRAMES), _FRAMES))
    # Another process, so that the optics do not stay in the memory of the one whose cost is measured.
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as elsewhere:
        return elsewhere.submit(_render, folder, shape, emitters, fps, count, seed).result()


def _render(folder: Path, shape: tuple[int, int], emitters: int, fps: float, count: int, seed: int) -> SceneMovie:
    import numpy as np
    import tifffile

    from models.scene import reference_camera, reference_scene
    from models.table_files import write_table
    from models.tables import Truth

    scene, camera = reference_scene(shape, emitters, seed), reference_camera()
    period_s = 1.0 / fps
    frames = np.empty((count, *shape), np.uint16)
    truth = []
    for index in range(count):
        middle_s = (index + 0.5) * period_s
        frames[index] = camera.expose(scene.render(middle_s, period_s, 0.0), seed + index)
        truth.append(scene.truth(middle_s, 0.0))
    found = SceneMovie(folder / "scene.ome.tif", folder / "scene.truth.parquet")
    tifffile.imwrite(
        found.movie,
        frames,
        photometric="minisblack",
        metadata={
            "axes": "TYX",
            "PhysicalSizeX": scene.pixel_size_um,
            "PhysicalSizeY": scene.pixel_size_um,
            "TimeIncrement": period_s,
        },
    )
    rows = np.concatenate(truth)
    numbers = np.repeat(np.arange(count), [len(its) for its in truth])
    table = Truth(numbers, rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 0].astype(np.int64))
    write_table(found.truth, table)
    return found

"""Data for the examples, from the simulated microscope: a z-sweep of beads, and a movie whose truth is known.

At your microscope these are files that you recorded. The simulated optics are
a 10x/0.45 objective in air with 0.65 µm per pixel.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

import bathyscope
from hardware.simulated import SimulatedMicroscope
from models.scene import reference_camera, reference_scene, slide_scene

PIXEL_SIZE_UM = 0.65
FPS = 50.0


def record_sweep(path: Path) -> None:
    """Sweep four beads on a slide through focus, and save the planes (Z, Y, X) as OME-TIFF.

    Depth grows by 2 µm from plane to plane, from -6 to 24 µm. The drive moves the objective: moving it
    down by 2 µm puts the beads 2 µm deeper.
    """
    slide = slide_scene((160, 160), emitters=4)
    microscope = SimulatedMicroscope(slide, reference_camera(), exposure_s=0.003)
    planes = []
    for depth_um in range(-6, 25, 2):
        microscope.move_stage(-depth_um)
        planes.append(microscope.snap().pixels)
    microscope.close()
    lengths = {"PhysicalSizeX": PIXEL_SIZE_UM, "PhysicalSizeY": PIXEL_SIZE_UM, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, np.stack(planes), ome=True, metadata={"axes": "ZYX", **lengths})


def record_movie(path: Path, frames: int = 40) -> bathyscope.Truth:
    """Save a movie (T, Y, X) of six emitters that move through 100 µm of depth; return where they were.

    The frames are drawn one after the other and not by the clock, so a slow computer loses none.
    """
    scene, camera = reference_scene((160, 160), emitters=6), reference_camera()
    counts, truth = [], []
    for frame in range(frames):
        time_s = frame / FPS
        counts.append(camera.expose(scene.render(time_s, exposure_s=0.01, stage_um=0.0), seed=frame))
        number, x_um, y_um, z_um = scene.truth(time_s, stage_um=0.0).T
        columns = {"x_um": x_um, "y_um": y_um, "z_um": z_um, "track_id": number}
        truth.append(bathyscope.Truth.from_columns({"frame": np.full(len(number), frame), **columns}))
    lengths = {"PhysicalSizeX": PIXEL_SIZE_UM, "PhysicalSizeY": PIXEL_SIZE_UM}
    tifffile.imwrite(path, np.stack(counts), ome=True, metadata={"axes": "TYX", **lengths})
    return bathyscope.Truth.concatenate(truth)

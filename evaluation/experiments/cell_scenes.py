"""Scenes of the experiment `cells`: cells in a vessel over tissue that fluoresces.

The publication shows few cells in view, at one time some five in a field of this size, and reports no numbers of
photons and no autofluorescence. So three scenes are measured: sparse, as it always was here, and dense.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from evaluation.experiments.moving_points import FPS, movie_truth
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, Frames, Photons, expose
from models.motion import PulsatileFlow
from models.synthesis import PatternTable
from models.tables import Truth

__all__ = [
    "DIAMETER_UM",
    "QUICK_SCENES",
    "SCENES",
    "CellImages",
    "CellMovie",
    "CellScene",
    "autofluorescence",
    "cell_movie",
]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

DIAMETER_UM = 5.0
_SECONDS, _QUICK_FRAMES = 1.5, 10
_SPEED_UM_S = 75.0
_BEAT_HZ, _PULSATION = 2.5, 0.5
_LIGHT = Photons(3e4, 5.0)
_STRUCTURE_E = 25.0
_ELONGATION = 1.25
_POINTS = 48
"""Points in a cell: 1.4 µm apart on average, near the resolution of the optics in focus."""

_VESSEL_RADIUS_UM = 12.0


@dataclass(frozen=True, slots=True)
class CellScene:
    """A name, and how many cells are in the vessel."""

    name: str
    cells: int


SCENES = (CellScene("sparse", 5), CellScene("as it is", 15), CellScene("dense", 40))
QUICK_SCENES = (CellScene("as it is", 6),)


@dataclass(frozen=True, slots=True)
class CellMovie:
    """A movie of a scene.

    Attributes
    ----------
    scene : CellScene
    frames : Frames
    truth : Truth
        With the numbers of passages: a cell that enters again has a new one.
    structure_e : ndarray of float32, shape (H, W)
        The tissue, photo-electrons.
    """

    scene: CellScene
    frames: Frames
    truth: Truth
    structure_e: F32


class CellImages:
    """Draws each emitter as a cell; emitters are the centres.

    Rendered from a table of quarter-pixel shifts, whose error is far below
    the extent of a cell.

    Parameters
    ----------
    optics : BenchmarkOptics
    seed : int
        Of the cells' shapes.
    """

    def __init__(self, optics: BenchmarkOptics, seed: int) -> None:
        self._optics = optics
        self._table = PatternTable(optics.psf)
        self._seed = seed

    def render(self, emitters: F64, image: F32) -> None:
        """Add cells (N, 4), centres in µm and photo-electrons, to an image (H, W), in place."""
        points = []
        for index, emitter in enumerate(emitters):
            cloud = _cell(np.random.default_rng([self._seed, index]))
            share = np.full(len(cloud), emitter[3] / len(cloud))
            points.append(np.column_stack([emitter[:3] + cloud, share]))
        self._table.render(self._optics.apparent(np.concatenate(points)), image)


def _cell(rng: np.random.Generator) -> F64:
    """Points in an ellipsoid with the volume of a 5-µm sphere, any direction, shape (48, 3), µm."""
    direction = rng.standard_normal((_POINTS, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    inside = direction * (DIAMETER_UM / 2 * rng.random(_POINTS) ** (1 / 3))[:, None]
    stretch = _ELONGATION ** rng.uniform(-1, 1, 2)
    axes, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    cloud = (inside * np.append(stretch, 1 / stretch.prod())) @ axes.T
    centred: F64 = cloud - cloud.mean(axis=0)
    return centred


def autofluorescence(shape: tuple[int, int], rng: np.random.Generator) -> F32:
    """Static structured light: blurred blotches and fibres, mean 25 photo-electrons per pixel, shape (H, W)."""
    blotches = sum(
        weight * ndimage.gaussian_filter(rng.standard_normal(shape), size) * size
        for size, weight in ((24, 1.0), (8, 0.6), (3, 0.3))
    )
    along = np.linspace(0, 1, 400)
    fibres = np.zeros(shape)
    for _ in range(8):
        ends = rng.random((3, 2)) * shape
        path = (
            np.outer((1 - along) ** 2, ends[0])
            + np.outer(2 * along * (1 - along), ends[1])
            + np.outer(along**2, ends[2])
        )
        row, column = np.clip(path.astype(int), 0, np.array(shape) - 1).T
        np.add.at(fibres, (row, column), rng.uniform(0.3, 1.0))
    fibres = ndimage.gaussian_filter(fibres, 2.0)
    light = np.exp(0.5 * blotches) + 6 * fibres
    even: F32 = (_STRUCTURE_E * light / light.mean()).astype(np.float32)
    return even


def cell_movie(
    optics: BenchmarkOptics, images: CellImages, scene: CellScene, rng: np.random.Generator, seed: int, *, quick: bool
) -> CellMovie:
    """Cells that a vessel carries through the field and the depths; 1.5 s at 100 frames/s."""
    low, high = optics.depths_um
    width = FRAME_SHAPE[1] * optics.pixel_size_um
    deep = low + (high - low) * np.array([0.25, 0.55, 0.75])
    centreline = np.column_stack([width * np.array([0.05, 0.5, 0.95]), width * np.array([0.3, 0.6, 0.4]), deep])
    radius = min(_VESSEL_RADIUS_UM, 0.2 * (high - low))
    # The mean speed over the cross-section is half of that on the centreline (Poiseuille).
    flow = PulsatileFlow(
        centreline, radius, scene.cells, seed, peak_um_s=2 * _SPEED_UM_S, beat_hz=_BEAT_HZ, pulsation=_PULSATION
    )
    count = _QUICK_FRAMES if quick else round(_SECONDS * FPS)
    brightness = rng.uniform(0.5, 1.0, scene.cells)
    # The quick movie covers the whole time in few frames: the minimum over time needs cells that have moved on.
    times = np.linspace(0, _SECONDS, count, endpoint=False)
    emitters = [np.column_stack([flow.positions(float(t)), brightness]) for t in times]
    structure = autofluorescence(FRAME_SHAPE, rng)
    frames = expose(images, emitters, _LIGHT, FRAME_SHAPE, rng, structure=structure)
    return CellMovie(scene, frames, movie_truth(frames), structure)

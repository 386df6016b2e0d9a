"""Truth as in an experiment: positions of beads from a deconvolved focal stack of the same volume (simulated).

The stack is exposed plane by plane through the same optics and camera,
binned, and deconvolved by the algorithm of Richardson and Lucy as
scikit-image implements it, with the true pattern, which favours the truth. Maxima of
the result, refined by their centre of mass, are the beads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import Frames

__all__ = ["available", "retrieved_truth"]

F64 = NDArray[np.float64]

_STEP_UM = 2.0
_BEYOND_UM = 6.0
_BIN, _QUICK_BIN = 2, 4
_ITERATIONS, _QUICK_ITERATIONS = 30, 15
_PATTERN_UM = 40.0
"""Defocus to which the pattern is used; farther away a bead is too faint and wide to locate."""

_FAINTEST = 0.04
"""Share of the brightest maximum that is still a bead: intensities are U(0.1, 1)."""

_APART_PX = 2


def available() -> bool:
    """Whether scikit-image is installed."""
    try:
        import skimage.restoration  # noqa: F401
    except ImportError:
        return False
    return True


def retrieved_truth(
    optics: BenchmarkOptics, frames: Frames, rng: np.random.Generator, *, quick: bool
) -> list[F64] | None:
    """Beads of each frame as a deconvolved stack shows them; x, y, z in µm and relative brightness, shape (N, 4).

    None when scikit-image is not installed.
    """
    if not available():
        return None
    binning = _QUICK_BIN if quick else _BIN
    pattern = _pattern(optics, binning)
    return [
        _places(_deconvolve(_stack(optics, each, frames, rng, binning), pattern, quick=quick), optics, binning)
        for each in frames.emitters
    ]


def _planes_um(optics: BenchmarkOptics) -> F64:
    low, high = optics.depths_um
    planes: F64 = np.arange(low - _BEYOND_UM, high + _BEYOND_UM + 0.1, _STEP_UM)
    return planes


def _stack(optics: BenchmarkOptics, emitters: F64, frames: Frames, rng: np.random.Generator, binning: int) -> F64:
    """Background-free planes of photo-electrons, shape (Z, H / binning, W / binning)."""
    planes = []
    for focus in _planes_um(optics):
        image = np.full(frames.shape, float(frames.background_e[0]), np.float32)
        moved = emitters.copy()
        # On the near side of focus the pattern is taken to be that of the far side.
        moved[:, 2] = np.abs(moved[:, 2] - focus)
        optics.render(moved[moved[:, 2] <= optics.depths_um[1]], image)
        electrons = frames.camera.to_electrons(frames.camera.expose(image, int(rng.integers(2**62))))
        planes.append(_bin(electrons, binning) - float(frames.background_e[0]) * binning**2)
    stack: F64 = np.maximum(np.array(planes, np.float64), 0)
    return stack


def _bin(image: NDArray[np.float32], binning: int) -> NDArray[np.float32]:
    height, width = (side // binning * binning for side in image.shape)
    blocks = image[:height, :width].reshape(height // binning, binning, width // binning, binning)
    summed: NDArray[np.float32] = blocks.sum(axis=(1, 3))
    return summed


def _pattern(optics: BenchmarkOptics, binning: int) -> F64:
    """The microscope's three-dimensional pattern on the grid of the stack, symmetric about focus, of unit sum."""
    reach = min(_PATTERN_UM, optics.depths_um[1])
    depths = np.arange(-reach, reach + 0.1, _STEP_UM)
    half = int(np.ceil(float(optics.limits.radius_px(np.array([reach]))[0]) / binning)) + 1
    side = 2 * half + 1
    pixel = optics.pixel_size_um
    planes = []
    for depth in depths:
        image = np.zeros((side * binning, side * binning), np.float32)
        # The middle of the middle bin.
        middle = (side * binning - 1) / 2 * pixel
        optics.render(np.array([[middle, middle, abs(depth), 1.0]]), image)
        planes.append(_bin(image, binning))
    pattern: F64 = np.array(planes, np.float64)
    pattern /= pattern.sum()
    return pattern


def _deconvolve(stack: F64, pattern: F64, *, quick: bool) -> F64:
    from skimage import restoration

    richardson_lucy: Any = restoration.richardson_lucy  # scikit-image publishes only a part of its types
    edge = pattern.shape[1] // 2
    padded = np.pad(stack, ((0, 0), (edge, edge), (edge, edge)), mode="edge")
    scale = padded.max() or 1.0
    sharp = richardson_lucy(
        (padded / scale).astype(np.float32),
        pattern.astype(np.float32),
        num_iter=_QUICK_ITERATIONS if quick else _ITERATIONS,
        clip=False,
        filter_epsilon=1e-6,
    )
    inner: F64 = np.asarray(sharp[:, edge:-edge, edge:-edge], np.float64) * scale
    return inner


def _places(sharp: F64, optics: BenchmarkOptics, binning: int) -> F64:
    from skimage import feature

    peak_local_max: Any = feature.peak_local_max
    peaks = peak_local_max(
        sharp, min_distance=_APART_PX, threshold_abs=_FAINTEST * float(sharp.max()), exclude_border=False
    )
    beads = []
    for peak in peaks:
        window = tuple(slice(max(at - _APART_PX, 0), at + _APART_PX + 1) for at in peak)
        light = sharp[window]
        total = float(light.sum())
        grid = np.meshgrid(
            *(np.arange(part.start, part.start + length) for part, length in zip(window, light.shape, strict=True)),
            indexing="ij",
        )
        plane, row, column = (float((axis * light).sum()) / total for axis in grid)
        # A bin's centre lies between its pixels.
        x, y = ((at * binning + (binning - 1) / 2) * optics.pixel_size_um for at in (column, row))
        beads.append([x, y, float(_planes_um(optics)[0]) + plane * _STEP_UM, total])
    return np.array(beads, np.float64).reshape(-1, 4)

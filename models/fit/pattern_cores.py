"""How far from its centre a pattern needs small pixels: the cores of a PSF by depth.

A defocused pattern has its finest fringes near its axis, where waves from opposite edges of the pupil interfere, and
coarse ones near its edge. Sums over larger pixels keep nearly all of the photons' information, but blur fine fringes,
which carry much of the information about position: squares of 4 x 4 pixels alone double the sigma of x at 100 µm.
So the middle of a pattern is evaluated on camera pixels, a ring around it on 2 x 2, and the rest on 4 x 4 pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.pattern_spline import PatternSpline, render_pattern

__all__ = ["core_radii"]

Array = NDArray[np.float64]

_SIDES = (1, 2, 4)
"""Sides of the squares, camera pixels."""
_BLOCK = 4
_LEAST_SCALE = 1e-30
_EVERY_PLANE = 4
"""Planes between those at which radii are found."""
_PHASE_PX = (0.7, 1.6)
"""Position of the emitter in its block: neither in the middle nor at an edge."""


def core_radii(spline: PatternSpline, loss: float) -> Array:
    """Radii within which a pattern is evaluated on camera pixels and on 2 x 2 pixels.

    The cheapest pair of radii (fewest cells) whose sigmas of x, y and z, with photons and background fitted too, exceed
    those on camera pixels by at most `loss`. The background is as bright as the mean light of the pattern, so the
    result does not depend on photons.

    Parameters
    ----------
    spline : PatternSpline
        PSF on camera pixels.
    loss : float
        Permitted relative increase of a sigma, above 0.

    Returns
    -------
    ndarray of float64, shape (Z, 2)
        Half sides of the squares on camera pixels and on 2 x 2 pixels, for each plane, camera pixels; 0 where none is
        needed.
    """
    planes = len(spline.psf.z_um)
    chosen = np.unique(np.append(np.arange(0, planes, _EVERY_PLANE), planes - 1))
    radii = np.array([_radii_of_plane(spline, int(plane), loss) for plane in chosen])
    # Rather too large between two of them.
    after = np.searchsorted(chosen, np.arange(planes))
    larger: Array = np.maximum(radii[after], radii[np.maximum(after - 1, 0)])
    exact = chosen[after] == np.arange(planes)
    larger[exact] = radii[after[exact]]
    return larger


def _radii_of_plane(spline: PatternSpline, plane: int, loss: float) -> tuple[float, float]:
    radius = float(spline.radius_px[plane])
    half = int(np.ceil(radius / _BLOCK)) * _BLOCK
    side = 2 * half
    # Between planes: at focus, and at the last plane, the derivative with respect to z vanishes.
    index = min(plane, len(spline.psf.z_um) - 2) + 0.5
    information = {each: _information(spline, half, index, each) for each in _SIDES}
    blocks = np.arange(side // _BLOCK) * _BLOCK + (_BLOCK - 1) / 2 - half
    ring = np.maximum(np.abs(blocks[:, None]), np.abs(blocks[None, :])).ravel() + _BLOCK / 2
    steps = np.append(0.0, np.unique(ring))
    # Sums of the blocks inside each radius.
    inside = (ring[None, :] <= steps[:, None]).astype(np.float64)
    within = {each: np.tensordot(inside, information[each], 1) for each in _SIDES}
    least = _sigmas(within[1][-1])
    fine, middle = np.meshgrid(np.arange(len(steps)), np.arange(len(steps)), indexing="ij")
    middle = np.maximum(fine, middle)
    whole = within[1][fine] + (within[2][middle] - within[2][fine]) + (within[4][-1] - within[4][middle])
    good = (_sigmas(whole) <= (1 + loss) * least).all(axis=-1)
    cells = inside.sum(axis=1)
    cost = np.where(good, 16 * cells[fine] + 4 * (cells[middle] - cells[fine]) - cells[middle], np.inf)
    best = np.unravel_index(int(cost.argmin()), cost.shape)
    return float(steps[fine[best]]), float(steps[middle[best]] if middle[best] > fine[best] else 0.0)


def _information(spline: PatternSpline, half: int, z_index: float, side: int) -> Array:
    """Fisher information of x, y, z, photons and background in each block on squares of `side`, shape (B, 5, 5)."""
    psf, size = spline.psf, 2 * half
    pattern = np.empty((4, size, size), np.float32)
    place = half + np.array(_PHASE_PX) - _BLOCK / 2
    box = np.array([0, size, 0, size])
    render_pattern(spline.coefficients, place[0], place[1], z_index, psf.z_step_um, psf.oversampling, box, pattern)
    pattern[0] = np.maximum(pattern[0], 0)
    background = pattern[0].sum(dtype=np.float64) / np.count_nonzero(pattern[0] > 0) if pattern[0].any() else 1.0
    slopes = np.concatenate([pattern[1:], pattern[:1], np.ones((1, size, size), np.float32)]).astype(np.float64)
    model = pattern[0] + background
    blocks = size // _BLOCK
    part = _BLOCK // side

    def cells(values: Array) -> Array:
        shaped = values.reshape(*values.shape[:-2], blocks, part, side, blocks, part, side)
        summed: Array = np.moveaxis(shaped.sum(axis=(-4, -1)), -3, -2)
        return summed.reshape(*values.shape[:-2], blocks * blocks, part * part)

    slopes = cells(slopes)
    information: Array = np.einsum("abc,dbc->bad", slopes / cells(np.asarray(model, np.float64)), slopes)
    return information


def _sigmas(information: Array) -> Array:
    """Sigmas of x, y and z from (..., 5, 5), shape (..., 3)."""
    scale = np.sqrt(np.diagonal(information, axis1=-2, axis2=-1))
    scale = np.maximum(scale, _LEAST_SCALE)
    scaled = information / (scale[..., :, None] * scale[..., None, :])
    inverse = np.linalg.inv(scaled + 1e-9 * np.eye(5))
    sigmas: Array = np.sqrt(np.diagonal(inverse, axis1=-2, axis2=-1))[..., :3] / scale[..., :3]
    return sigmas

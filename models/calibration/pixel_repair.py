"""Replace hot pixels and cosmic rays in a sweep by the median of their neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.checked_sweep import CheckedSweep
from models.calibration.sweep import Sweep
from models.errors import DataError

__all__ = ["repaired"]

# A hot pixel stands out by this many noise deviations in every plane,
_HOT_SIGMAS = 8.0
# by about the same (lowest tenth of the planes over highest tenth; a bead changes with focus),
_HOT_STEADY = 0.5
# and alone: its neighbours have less than this share of it. A pattern of light is wider than a pixel somewhere in z.
_HOT_ALONE = 0.25
# A cosmic ray stands out by this many noise deviations, in one exposure and one pixel: its neighbours in the image and
# in the planes before and after have less than this share of it.
_RAY_SIGMAS = 25.0
_RAY_ALONE = 0.1
# A bead that is one pixel wide in focus has this share of its light in the planes before and after; a ray has none.
_RAY_LIGHT = 0.25
# With more hot pixels than this share, the sweep is rejected.
_MOST_HOT_SHARE = 0.01


def repaired(sweep: Sweep) -> CheckedSweep:
    """The sweep with hot pixels replaced by the median of their neighbours.

    A hot pixel has the same light at every plane, in one pixel alone. A bead changes with focus.

    Raises
    ------
    DataError
        When more pixels are hot than a camera has.
    """
    without_rays = _without_rays(sweep)
    sweep, notes = without_rays.sweep, without_rays.notes
    hot = _hot_pixels(sweep)
    count = int(hot.sum())
    if count == 0:
        return without_rays
    if count > _MOST_HOT_SHARE * hot.size:
        raise DataError(
            f"{count} pixels ({count / hot.size:.1%}) have the same light at every plane, in one pixel alone: "
            f"hot pixels; at most {_MOST_HOT_SHARE:.0%} may be.",
            "Cool the camera, shorten the exposure, or switch on the camera's correction of hot pixels, and sweep "
            "again.",
        )
    planes = sweep.planes.copy()
    ring = np.ones((3, 3), bool)
    for exposure in planes.reshape(-1, *sweep.shape):
        # Twice: the first median still has a hot neighbour of a hot pixel in it.
        for _ in range(2):
            exposure[hot] = ndimage.median_filter(exposure, footprint=ring)[hot]
    note = (
        f"{count} hot pixels (the same light at every plane, in one pixel alone) are replaced by the median of their "
        "neighbours."
    )
    return CheckedSweep(replace(sweep, planes=planes), (*notes, note))


def _without_rays(sweep: Sweep) -> CheckedSweep:
    """The sweep with cosmic rays replaced by the median of their neighbours."""
    found: list[tuple[int, int, int, int, int]] = []
    exposures = sweep.planes
    for z, r in np.ndindex(exposures.shape[:2]):
        around = [exposures[side, r] for side in (z - 1, z + 1) if 0 <= side < len(exposures)]
        around += [exposures[z, other] for other in range(exposures.shape[1]) if other != r]
        beside = np.max(around, axis=0).astype(np.float32)
        flash = exposures[z, r] - beside
        noise = 1.4826 * float(np.median(np.abs(flash - np.median(flash))))
        for row, column in np.argwhere(flash > _RAY_SIGMAS * max(noise, 1.0)).tolist():
            area = slice(max(row - 1, 0), row + 2), slice(max(column - 1, 0), column + 2)
            near = np.sort(exposures[z, r][area], axis=None)
            level = float(np.median(near[:-1]))
            excess = float(exposures[z, r, row, column]) - level
            alone = max(float(near[-2]), float(beside[row, column])) - level < _RAY_ALONE * excess
            if alone and max(_light_at(plane, row, column) for plane in around) < _RAY_LIGHT * excess:
                found.append((z, r, row, column, round(level)))
    if not found:
        return CheckedSweep(sweep)
    planes = exposures.copy()
    z, r, row, column, level = np.array(found).T
    planes[z, r, row, column] = level
    many = "1 pixel that flashes" if len(found) == 1 else f"{len(found)} pixels that flash"
    note = f"{many} in one exposure alone (cosmic rays): replaced by the median around."
    return CheckedSweep(replace(sweep, planes=planes), (note,))


def _light_at(plane: NDArray[np.uint16], row: int, column: int) -> float:
    """Light around a pixel above the level of the surroundings, ADU."""
    near, wide = (
        plane[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] for half in (3, 7)
    )
    return float((near - np.median(wide)).sum())


def _hot_pixels(sweep: Sweep) -> NDArray[np.bool_]:
    """Pixels that stand out alone, by the same amount at every plane, shape (H, W)."""
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    chosen = np.unique(np.linspace(0, len(sweep.planes) - 1, 24).round().astype(int))
    excess = np.empty((len(chosen), *sweep.shape), np.float32)
    lean = np.zeros(sweep.shape, bool)
    for row, index in enumerate(chosen):
        plane = sweep.mean_plane(int(index))
        around = ndimage.median_filter(plane, footprint=ring)
        excess[row] = plane - around
        noise = 1.4826 * float(np.median(np.abs(excess[row] - np.median(excess[row]))))
        next_highest = ndimage.percentile_filter(plane, 90, footprint=ring) - around
        lean |= (excess[row] < _HOT_SIGMAS * max(noise, 0.5)) | (
            next_highest > _HOT_ALONE * excess[row] + _HOT_SIGMAS * noise
        )
    if lean.all():
        return np.zeros(sweep.shape, bool)
    low, high = np.percentile(excess[:, ~lean], [10, 90], axis=0)
    hot = ~lean
    hot[~lean] = low > _HOT_STEADY * high
    return hot

"""Find the beads of a sweep, and measure the radius of their patterns by depth.

Beads are found in the planes around focus, where they are brightest. A rejected
candidate keeps the reason, and the report shows it, so that the user can prepare
a better sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, spatial

__all__ = ["Bead", "Cone", "crowding", "find_beads", "measure_cone", "profile_background"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Peaks must be this many noise deviations above their surroundings, and reach this share of the typical bead.
_DETECTION_SIGMAS = 8.0
_DETECTION_SHARE = 0.1
# Two peaks are two beads when the dip between them is deeper than this share of the fainter one.
_DIP = 0.15
# Farther apart than this, two peaks are two beads in any case, pixels.
_HILL_PX = 12.0
# Largest radius of a pattern, pixels.
_WIDEST = 110
# The pattern ends where its profile falls to this share of the mean inside half its radius.
_EDGE_SHARE = 0.02
# This part of a profile lies beyond even the widest pattern. A larger part would overlap wide patterns, and their slope
# would count as noise.
_BEYOND_PERCENT = 20


@dataclass(frozen=True, slots=True)
class Bead:
    """One candidate of the sweep, accepted or rejected.

    Attributes
    ----------
    x_px, y_px : float
        Position in focus, pixels.
    photons : float
        Photo-electrons per frame near focus (median over planes).
    reason : str
        Why it is rejected; empty when it is used.
    height_um : float
        Depth when the mean bead is in focus, µm; NaN when not fitted.
    axial_scale : float
        Growth of its pattern with depth, relative to the mean bead; NaN when not fitted.
    misfit : float
        RMS difference from the mean pattern over RMS of the pattern; NaN when not fitted.
    residual_um : float
        Standard deviation of its apparent depth about its own line, µm; NaN when not fitted.
    """

    x_px: float
    y_px: float
    photons: float
    reason: str = ""
    height_um: float = float("nan")
    axial_scale: float = float("nan")
    misfit: float = float("nan")
    residual_um: float = float("nan")

    @property
    def used(self) -> bool:
        """Whether the bead is part of the mean pattern."""
        return not self.reason


@dataclass(frozen=True, slots=True)
class Cone:
    """Radius of a pattern as a function of depth: never under `focus_px`, growing by `slope_px` per µm on either side.

    Attributes
    ----------
    focus_px : float
        Radius in focus, pixels.
    intercept_px, slope_px : float
        Radius far from focus is `intercept_px + slope_px * |z|`.
    """

    focus_px: float
    intercept_px: float
    slope_px: float

    def at(self, z_um: F64 | float) -> F64:
        """Radius at depth z, pixels."""
        return np.maximum(self.focus_px, self.intercept_px + self.slope_px * np.abs(np.asarray(z_um, np.float64)))


def find_beads(planes: F32, mask: NDArray[np.bool_] | None = None) -> F64:
    """Positions of the bead candidates.

    Parameters
    ----------
    planes : ndarray of float32, shape (P, H, W)
        Planes around focus.
    mask : ndarray of bool, shape (H, W), optional
        True where beads may be used.

    Returns
    -------
    ndarray of float64, shape (N, 2)
        x, y of the centres, pixels; brightest first.
    """
    smooth = np.stack([ndimage.gaussian_filter(plane, 1.0) for plane in planes]).max(axis=0)
    wide = ndimage.median_filter(smooth[::2, ::2], 21, mode="nearest")
    base = ndimage.zoom(wide, (smooth.shape[0] / wide.shape[0], smooth.shape[1] / wide.shape[1]), order=1)
    rise = smooth - base
    noise = 1.4826 * float(np.median(np.abs(rise - np.median(rise))))
    peaks = rise[(ndimage.maximum_filter(rise, 5) == rise) & (rise > max(_DETECTION_SIGMAS * noise, 1e-6))]
    if len(peaks) == 0:
        return np.empty((0, 2))
    # Upper quartile: noise or dirt may give many faint peaks.
    threshold = max(_DETECTION_SIGMAS * noise, _DETECTION_SHARE * float(np.percentile(peaks, 75)))
    rows, columns = np.nonzero((ndimage.maximum_filter(rise, 5) == rise) & (rise > threshold))
    order = np.argsort(-rise[rows, columns], kind="stable")
    summits: list[tuple[int, int]] = []
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if not any(_same_hill(rise, (row, column), summit) for summit in summits):
            summits.append((row, column))
    kept = [_centre(rise, row, column) for row, column in summits if mask is None or mask[row, column]]
    return np.array(kept, np.float64).reshape(-1, 2)


def _same_hill(image: F32, peak: tuple[int, int], summit: tuple[int, int]) -> bool:
    """Whether a peak is a shoulder of a brighter one: near, and no dip on the way."""
    length = float(np.hypot(peak[0] - summit[0], peak[1] - summit[1]))
    if length > _HILL_PX:
        return False
    along = np.linspace(0, 1, int(2 * length) + 2)
    rows = peak[0] + along * (summit[0] - peak[0])
    columns = peak[1] + along * (summit[1] - peak[1])
    lowest = float(ndimage.map_coordinates(image, [rows, columns], order=1).min())
    return lowest > (1 - _DIP) * float(image[peak])


def _centre(image: F32, row: int, column: int, radius: int = 3) -> tuple[float, float]:
    """Centre of mass of the brighter part of the peak, (x, y)."""
    top, left = max(row - radius, 0), max(column - radius, 0)
    window = image[top : row + radius + 1, left : column + radius + 1]
    weight = np.maximum(window - 0.3 * image[row, column], 0.0)
    total = float(weight.sum())
    if total <= 0:
        return float(column), float(row)
    rows, columns = np.indices(window.shape)
    return float((weight * columns).sum() / total + left), float((weight * rows).sum() / total + top)


def profile_background(profile: F64) -> float:
    """Level of a radial profile beyond its pattern: the lowest tenth."""
    return float(np.percentile(profile, 10))


def measure_cone(stack_planes: F32, positions: F64, z_um: F64) -> Cone:
    """Radius of the patterns by depth, measured on the median radial profile of all beads.

    The median over beads removes the light of neighbours. The radius at each plane is where the profile falls to 2 % of
    the pattern's mean level, or to the noise. A straight line is fitted through the planes far from focus, as geometric
    optics predicts.

    Parameters
    ----------
    stack_planes : ndarray of float32, shape (Z, H, W)
        Photo-electrons.
    positions : ndarray of float64, shape (N, 2)
        x, y of the beads, pixels.
    z_um : ndarray of float64, shape (Z,)
        Depth of the planes from focus, µm.
    """
    height, width = stack_planes.shape[1:]
    reach = int(min(_WIDEST, max(height, width) // 2))
    rings = []
    for x, y in positions[:200]:
        row, column = round(y), round(x)
        top, bottom = max(row - reach, 0), min(row + reach + 1, height)
        left, right = max(column - reach, 0), min(column + reach + 1, width)
        rows, columns = np.ogrid[top:bottom, left:right]
        radius = np.sqrt((rows - y) ** 2 + (columns - x) ** 2)
        index = np.minimum(radius.round().astype(np.intp), reach + 1).ravel()
        count = np.bincount(index, minlength=reach + 2)[: reach + 1]
        block = stack_planes[:, top:bottom, left:right].reshape(len(stack_planes), -1)
        sums = np.stack([np.bincount(index, plane, reach + 2)[: reach + 1] for plane in block])
        with np.errstate(invalid="ignore", divide="ignore"):
            rings.append(np.where(count > 0, sums / count, np.nan))
    with np.errstate(invalid="ignore"):
        typical = np.nanmedian(np.stack(rings), axis=0)
    radii = np.array([_profile_radius(profile) for profile in typical])
    distance = np.abs(z_um)
    near = distance <= max(np.median(np.abs(np.diff(z_um))) * 1.5, 0.03 * distance.max())
    focus = float(np.median(radii[near])) if near.any() else float(radii.min())
    far = distance > 0.25 * distance.max()
    slope, intercept = _robust_line(distance[far], radii[far])
    if slope <= 0:
        slope, intercept = 0.0, float(np.percentile(radii, 90))
    return Cone(focus + 1.0, intercept + 1.0, slope)


def _profile_radius(profile: F64) -> float:
    """Radius where a radial profile ends."""
    finite = np.isfinite(profile)
    values = profile[finite]
    level = profile_background(values)
    rise = values - level
    lower = rise[rise <= np.percentile(rise, _BEYOND_PERCENT)]
    noise = float(np.std(lower)) if len(lower) > 2 else 0.0
    limit = max(_EDGE_SHARE * float(rise[:2].max()), 3 * noise)
    beyond = np.nonzero(rise < limit)[0]
    edge = float(beyond[0]) if len(beyond) else float(len(rise) - 1)
    inner = float(rise[: max(int(edge / 2), 1)].mean())
    limit = max(_EDGE_SHARE * inner, 3 * noise)
    beyond = np.nonzero(rise < limit)[0]
    return float(beyond[0]) if len(beyond) else float(len(rise) - 1)


def _robust_line(x: F64, y: F64) -> tuple[float, float]:
    keep = np.ones(len(x), bool)
    slope, intercept = 0.0, float(np.median(y))
    for _ in range(4):
        slope, intercept = (float(v) for v in np.polyfit(x[keep], y[keep], 1))
        rest = np.abs(y - slope * x - intercept)
        spread = 1.4826 * float(np.median(rest)) + 0.25
        keep = rest < 3 * spread
        if keep.sum() < 3:
            break
    return slope, intercept


def crowding(positions: F64) -> F64:
    """Distance of each bead to its nearest neighbour, pixels; infinite for a single bead."""
    if len(positions) < 2:
        return np.full(len(positions), np.inf)
    distance, _ = spatial.cKDTree(positions).query(positions, k=2)
    return np.asarray(distance[:, 1], np.float64)

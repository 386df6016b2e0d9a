"""Regions around detections: as large as the pattern at their depth, with splines cropped alike.

A pattern is a few pixels wide near focus and more than a hundred at the far
end, so one size of region does not do: too small and the rim that tells the
depth is cut off, too large and neighbours fill it. Depths are divided into
groups within which the size changes little; each has a spline of its own, of
its planes and its size. The spline reaches farther than the region, because
an emitter need not sit in its middle, and because regions at the edge of the
frame are shifted inward (and, right at the edge, made smaller) rather than
given up.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.fitting.engines import SpotEngine
from models.pattern_spline import PatternSpline

__all__ = ["Regions", "binned"]

Array = NDArray[np.float64]

_GROWTH = 1.3
"""Largest over smallest radius within a group."""

_SPARE_UM = 4.0
"""Depths on either side of a group that its spline covers too: half the distance of two valleys of the likelihood."""

_ROUND = 2
"""Bins around the largest pattern of the group, where the background shows."""

_MARGIN_BINS = 8
"""How far from its region's middle an emitter may be fitted."""

_LEAST_HALF = 4
"""Half width of the smallest region, bins."""

_FEWEST_PLANES = 5

_PHASES = 32
"""Places of the knots per pixel and axis, where patterns are sharp. A camera undersamples them, so a spline between
pixels errs by several bounds of a bright emitter; at its knots it is exact. So a spline with its knots next to the
emitter is made for each fit, and again, since its slopes are not exact and pull in the wrong measure at first."""

_PASSES = 3
"""Fits of one such emitter: depths near focus at 30 dB come from 2.3 to 1.0 of the bound with the third."""

_SHARP_HALF = 26
"""Half width of the largest region, pixels, whose patterns are sharper than the pixels sample."""


@dataclass(frozen=True)
class _Group:
    """Depths that share a spline and a size of region."""

    engine: SpotEngine
    pattern: PatternSpline
    planes: slice
    half: int
    binning: int
    fine: bool
    splines: dict[tuple[int, int], Any] = field(default_factory=dict)

    @property
    def first_um(self) -> float:
        """Depth of the spline's first plane."""
        return float(self.pattern.psf.z_um[self.planes][0])

    @property
    def last_index(self) -> int:
        """Index of the spline's last plane."""
        return len(self.pattern.psf.z_um[self.planes]) - 1

    @cached_property
    def phases(self) -> int:
        """Sub-pixel places, along each axis, that have splines of their own."""
        return _PHASES if self.fine and self.half <= _SHARP_HALF else 1

    def spline(self, phase: tuple[int, int]) -> Any:
        """The engine's spline with its knots at a sub-pixel place (x, y), in phases; kept where there is only one."""
        if phase not in self.splines:
            psf = self.pattern.psf
            reach = (self.half + _MARGIN_BINS) * self.binning + self.binning // 2
            steps = np.arange(-reach, reach + 1 - (self.binning + 1) % 2) + ((self.binning + 1) % 2) / 2
            x_um, y_um = ((steps - each / self.phases * self.binning) * psf.pixel_size_um for each in phase)
            depths = psf.z_um[self.planes]
            pixels = psf.evaluate(x_um[None, None, :], y_um[None, :, None], depths[:, None, None])
            side = len(steps) // self.binning
            bins = pixels.reshape(len(depths), side, self.binning, side, self.binning).sum(axis=(2, 4))
            if self.phases > 1:
                # A thousand places: each is asked for once.
                return self.engine.prepare(bins)
            self.splines[phase] = self.engine.prepare(bins)
        return self.splines[phase]


class Regions:
    """Cuts regions out of a frame and fits them, by groups of depth.

    Parameters
    ----------
    pattern : PatternSpline
        Of the calibrated PSF, on the side of focus that is answered.
    engine : SpotEngine
    largest_bins : int, optional
        Patterns whose radius is more are fitted on binned pixels, by two, four and so on, to find the valley quickly;
        None fits all at full resolution.
    """

    def __init__(self, pattern: PatternSpline, engine: SpotEngine, largest_bins: int | None = None) -> None:
        self._engine = engine
        self._pattern = pattern
        self._groups: list[_Group] = []
        radius, z_um = pattern.radius_px, pattern.psf.z_um
        self._group_of = np.zeros(len(z_um), np.int64)
        first = 0
        for end in range(1, len(z_um) + 1):
            grown = end < len(z_um) and radius[first : end + 1].max() > _GROWTH * radius[first : end + 1].min()
            if end == len(z_um) or (grown and end - first >= _FEWEST_PLANES):
                self._group_of[first:end] = len(self._groups)
                self._groups.append(self._made(first, end, largest_bins))
                first = end

    def _made(self, first: int, end: int, largest_bins: int | None) -> _Group:
        psf = self._pattern.psf
        spare = int(np.ceil(_SPARE_UM / psf.z_step_um))
        start = max(min(first - spare, len(psf.z_um) - _FEWEST_PLANES), 0)
        planes = slice(start, min(max(end + spare, start + _FEWEST_PLANES), len(psf.z_um)))
        radius = float(self._pattern.radius_px[first:end].max())
        binning = 1
        while largest_bins is not None and radius > largest_bins * binning:
            binning *= 2
        half = int(np.ceil(radius / binning)) + _ROUND
        return _Group(self._engine, self._pattern, planes, half, binning, largest_bins is None)

    def fit(self, data: NDArray[np.float32], starts: Array) -> Array:
        """Fit every start by itself.

        Parameters
        ----------
        data : ndarray of float32, shape (H, W)
            Photo-electrons, with the read variance added (Huang et al., Nature Methods 10, 653, 2013).
        starts : ndarray of float64, shape (K, 5)
            x and y (pixels), z (µm), photons, background per pixel.

        Returns
        -------
        ndarray of float64, shape (K, 5)
            The same columns; NaN where a fit failed, left its region or ran to the end of the group's depths.
        """
        answers = np.full(starts.shape, np.nan)
        psf = self._pattern.psf
        plane = np.clip(np.round((starts[:, 2] - psf.z_um[0]) / psf.z_step_um).astype(int), 0, len(psf.z_um) - 1)
        images: dict[int, NDArray[np.float32]] = {}
        for number, group in enumerate(self._groups):
            rows = np.flatnonzero(self._group_of[plane] == number)
            if len(rows) == 0:
                continue
            image = images.setdefault(group.binning, binned(data, group.binning))
            answers[rows] = self._fit_group(group, image, starts[rows])
            for _ in range(_PASSES - 1 if group.phases > 1 else 0):
                rows = rows[np.isfinite(answers[rows, 0])]
                again = self._fit_group(group, image, answers[rows])
                better = np.isfinite(again[:, 0])
                answers[rows[better]] = again[better]
        return answers

    def _fit_group(self, group: _Group, image: NDArray[np.float32], starts: Array) -> Array:
        psf = self._pattern.psf
        area = group.binning**2
        place = (starts[:, :2] + 0.5) / group.binning - 0.5
        limit = np.array(image.shape[::-1]) - 1
        nearest = np.clip(np.round(place), 0, limit).astype(int)
        # What is left of the frame on the nearer side, in both directions.
        room = np.minimum(nearest, limit - nearest).min(axis=1)
        half = np.minimum(group.half, np.maximum(room + _MARGIN_BINS - 1, _LEAST_HALF))
        half = np.minimum(half, int(limit.min()) // 2)
        phase = np.round(np.clip(place - nearest, -0.5, 0.5) * group.phases).astype(int)
        answers = np.full(starts.shape, np.nan)
        for size, right, down in np.unique(np.column_stack([half, phase]), axis=0):
            rows = np.flatnonzero((half == size) & (phase == [right, down]).all(axis=1))
            offset = np.array([right, down]) / group.phases
            middle = np.clip(nearest[rows], size, limit - size)
            span = np.arange(-size, size + 1)
            rois = image[middle[:, 1, None, None] + span[:, None], middle[:, 0, None, None] + span[None, :]]
            start = np.column_stack(
                [
                    place[rows] - middle - offset,
                    (starts[rows, 2] - group.first_um) / psf.z_step_um,
                    starts[rows, 3],
                    starts[rows, 4] * area,
                ]
            )
            spline = group.spline((int(right), int(down)))
            found = self._engine.fit(spline, np.ascontiguousarray(rois, np.float32), start)
            astray = np.abs(found[:, :2]).max(axis=1) > size + _MARGIN_BINS
            ends = (found[:, 2] <= 0) | (found[:, 2] >= group.last_index)
            found[astray | self._beside(group, ends, found[:, 2]) | ~(found[:, 3] > 0)] = np.nan
            answers[rows] = np.column_stack(
                [
                    (found[:, :2] + offset + middle + 0.5) * group.binning - 0.5,
                    group.first_um + found[:, 2] * psf.z_step_um,
                    found[:, 3],
                    found[:, 4] / area,
                ]
            )
        return answers

    def _beside(self, group: _Group, ends: NDArray[np.bool_], index: Array) -> NDArray[np.bool_]:
        """Which fits ran to an end of the group that is not an end of the PSF, where another group goes on."""
        at_low = ends & (index <= 0) & (group.planes.start > 0)
        at_high = ends & (index > 0) & (group.planes.stop < len(self._pattern.psf.z_um))
        beside: NDArray[np.bool_] = at_low | at_high
        return beside


def binned(image: NDArray[Any], binning: int) -> NDArray[Any]:
    """Sums over squares of pixels, rows and columns that do not fill one left out."""
    rows, columns = (side // binning for side in image.shape)
    squares = image[: rows * binning, : columns * binning].reshape(rows, binning, columns, binning)
    return np.asarray(squares.sum(axis=(1, 3)), image.dtype)

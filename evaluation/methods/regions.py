"""Regions around detections: as large as the pattern at their depth, with splines cropped alike.

A pattern is a few pixels wide near focus and more than a hundred at the far
end, so one size of region does not fit all. If it is too small, the rim that
carries the depth is cut off; if it is too large, it contains neighbours.
Depths are divided into groups within which the size changes little; each has a
spline of its own, of its planes and its size. The spline reaches farther than
the region, because an emitter need not sit in its middle, and because regions
at the edge of the frame are shifted inward (and, right at the edge, made
smaller) rather than skipped.

For bright isolated emitters the spline limits the fit. A camera undersamples
the patterns, above all sharp ones, and between its knots a spline errs by
several Cramér-Rao bounds of a bright emitter; at the knots it is exact. So
`fit_closely` makes a spline for each emitter, of the planes around its depth,
with knots next to it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.published_fitters import SpotEngine
from models.binning import whole_bins
from models.pattern_spline import PatternSpline

__all__ = ["Regions"]

Array = NDArray[np.float64]

_GROWTH = 1.3
"""Largest over smallest radius within a group."""

_SPARE_UM = 4.0
"""Depths on either side of a group that its spline covers too: half the distance of two local optima."""

_ROUND = 2
"""Bins around the largest pattern of the group, where the background shows."""

_MARGIN_BINS = 8
"""How far from its region's middle an emitter may be fitted."""

_LEAST_HALF = 4
"""Half width of the smallest region, bins."""

_FEWEST_PLANES = 5

_REACH_UM = 3.0
"""Depths on either side that a spline for one emitter covers; with planes 1 µm apart, two more than its cubic needs."""

_REACH_OF_DEPTH = 0.05
"""The same as a share of depth: patterns scale with it."""

_PASSES = 3
"""Most fits of one emitter, each with knots next to the place that the one before found. Slopes there are not exact,
so the first fits are pulled a little: depths near focus at 30 dB come from 2.3 to 1.0 of the bound by three."""

_PHASES = 32
"""Knots move in these parts of a pixel; a fit that ends within one of them is not made again."""


@dataclass(frozen=True)
class _Group:
    """Depths that share a size of region, and in the search a spline."""

    engine: SpotEngine
    pattern: PatternSpline
    planes: slice
    half: int
    binning: int

    @property
    def first_um(self) -> float:
        """Depth of the spline's first plane."""
        return float(self.pattern.psf.z_um[self.planes][0])

    @property
    def last_index(self) -> int:
        """Index of the spline's last plane."""
        return len(self.pattern.psf.z_um[self.planes]) - 1

    @cached_property
    def spline(self) -> Any:
        """The engine's spline with its knots at the middles of bins around an emitter in the middle of one."""
        return _spline(self.engine, self.pattern, self.planes, self.half + _MARGIN_BINS, self.binning)


class Regions:
    """Cuts regions out of a frame and fits them, by groups of depth.

    Parameters
    ----------
    pattern : PatternSpline
        Of the calibrated PSF, on the side of focus of the depth range.
    engine : SpotEngine
    largest_bins : int, optional
        Patterns whose radius is more are fitted on binned pixels, by two, four and so on, to find the optimum quickly;
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
                self._groups.append(self._make_group(first, end, largest_bins))
                first = end

    def _make_group(self, first: int, end: int, largest_bins: int | None) -> _Group:
        psf = self._pattern.psf
        planes = _around(len(psf.z_um), first, end, int(np.ceil(_SPARE_UM / psf.z_step_um)))
        radius = float(self._pattern.radius_px[first:end].max())
        binning = 1
        while largest_bins is not None and radius > largest_bins * binning:
            binning *= 2
        half = int(np.ceil(radius / binning)) + _ROUND
        return _Group(self._engine, self._pattern, planes, half, binning)

    def fit(self, data: NDArray[np.float32], starts: Array) -> Array:
        """Fit every start by itself, those of one group with one spline.

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
        fitted = np.full(starts.shape, np.nan)
        groups = self._group_of[self._plane(starts[:, 2])]
        images: dict[int, NDArray[np.float32]] = {}
        for number in np.unique(groups):
            rows, group = np.flatnonzero(groups == number), self._groups[number]
            image = images.setdefault(group.binning, whole_bins(data, group.binning))
            fitted[rows] = self._fit_group(group, image, starts[rows])
        return fitted

    def fit_closely(self, data: NDArray[np.float32], starts: Array) -> Array:
        """Fit every start with a spline of its own, whose knots lie next to it; see `fit`, and the module's text.

        Starts are within a pixel and a micrometre or two of their optima, as `fit` returns them.
        """
        fitted = np.full(starts.shape, np.nan)
        for row, start in enumerate(starts):
            fit = start
            knots = None
            for _ in range(_PASSES):
                here = np.round(fit[:3] * [_PHASES, _PHASES, 1 / self._pattern.psf.z_step_um])
                if knots is not None and (here == knots).all():
                    break
                knots = here
                fit = self._fit_one(data, fit)
                if not np.isfinite(fit[0]):
                    break
                fitted[row] = fit
        return fitted

    def _plane(self, z_um: Array) -> NDArray[np.int64]:
        psf = self._pattern.psf
        plane: NDArray[np.int64] = np.round((z_um - psf.z_um[0]) / psf.z_step_um).astype(np.int64)
        return plane.clip(0, len(psf.z_um) - 1)

    def _fit_one(self, data: NDArray[np.float32], start: Array) -> Array:
        psf = self._pattern.psf
        plane = int(self._plane(start[2:3])[0])
        half = self._groups[self._group_of[plane]].half
        reach_um = max(_REACH_UM, _REACH_OF_DEPTH * abs(start[2]))
        planes = _around(len(psf.z_um), plane, plane + 1, int(np.ceil(reach_um / psf.z_step_um)))
        nearest, size, middle = _cut(data.shape, start[None, :2], half)
        offset = np.round((start[:2] - nearest[0]).clip(-0.5, 0.5) * _PHASES) / _PHASES
        # As far as the region reaches from the knots in the middle.
        reach = int(size[0] + np.abs(nearest - middle).max()) + 2
        spline = _spline(self._engine, self._pattern, planes, reach, 1, offset)
        first_um = float(psf.z_um[planes][0])
        here = np.array([*(start[:2] - middle[0] - offset), (start[2] - first_um) / psf.z_step_um, *start[3:]])
        roi = _regions(data, middle, int(size[0]))
        x, y, index, photons, background = self._engine.fit(spline, roi, here[None])[0]
        last = planes.stop - planes.start - 1
        left = max(abs(x), abs(y)) > size[0] + _MARGIN_BINS
        if left or not photons > 0 or _beside(planes, len(psf.z_um), np.array([index]), last)[0]:
            return np.full(5, np.nan)
        place = np.array([x, y]) + offset + middle[0]
        return np.array([*place, first_um + index * psf.z_step_um, photons, background])

    def _fit_group(self, group: _Group, image: NDArray[np.float32], starts: Array) -> Array:
        psf = self._pattern.psf
        area = group.binning**2
        place = (starts[:, :2] + 0.5) / group.binning - 0.5
        _, half, middles = _cut(image.shape, place, group.half)
        fitted = np.full(starts.shape, np.nan)
        for size in np.unique(half):
            rows = np.flatnonzero(half == size)
            middle = middles[rows]
            start = np.column_stack(
                [
                    place[rows] - middle,
                    (starts[rows, 2] - group.first_um) / psf.z_step_um,
                    starts[rows, 3],
                    starts[rows, 4] * area,
                ]
            )
            found = self._engine.fit(group.spline, _regions(image, middle, int(size)), start)
            outside = np.abs(found[:, :2]).max(axis=1) > size + _MARGIN_BINS
            beside = _beside(group.planes, len(psf.z_um), found[:, 2], group.last_index)
            found[outside | beside | ~(found[:, 3] > 0)] = np.nan
            fitted[rows] = np.column_stack(
                [
                    (found[:, :2] + middle + 0.5) * group.binning - 0.5,
                    group.first_um + found[:, 2] * psf.z_step_um,
                    found[:, 3],
                    found[:, 4] / area,
                ]
            )
        return fitted


def _around(planes: int, first: int, end: int, spare: int) -> slice:
    """Planes from first to end and some on either side, as many as a spline needs at least."""
    start = max(min(first - spare, planes - _FEWEST_PLANES), 0)
    return slice(start, min(max(end + spare, start + _FEWEST_PLANES), planes))


def _spline(
    engine: SpotEngine, pattern: PatternSpline, planes: slice, reach: int, binning: int, offset: Array | None = None
) -> Any:
    """Spline of some planes, `reach` bins to every side of the emitter, which sits `offset` pixels from a knot."""
    psf = pattern.psf
    odd = binning % 2
    fine = reach * binning + binning // 2
    steps = np.arange(-fine, fine + odd) + (1 - odd) / 2
    x_um, y_um = ((steps - by) * psf.pixel_size_um for by in (np.zeros(2) if offset is None else offset))
    depths = psf.z_um[planes]
    pixels = psf.evaluate(x_um[None, None, :], y_um[None, :, None], depths[:, None, None])
    side = len(steps) // binning
    return engine.prepare(pixels.reshape(len(depths), side, binning, side, binning).sum(axis=(2, 4)))


def _cut(
    shape: tuple[int, ...], place: Array, half: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Where regions around places (K, 2) lie: nearest pixel (K, 2), half width (K,) and middle pixel (K, 2)."""
    limit = np.array(shape[::-1]) - 1
    nearest = np.clip(np.round(place), 0, limit).astype(np.int64)
    # What is left of the frame on the nearer side, in both directions.
    room = np.minimum(nearest, limit - nearest).min(axis=1)
    size = np.minimum(half, np.maximum(room + _MARGIN_BINS - 1, _LEAST_HALF))
    size = np.minimum(size, int(limit.min()) // 2)
    return nearest, size, np.clip(nearest, size[:, None], limit - size[:, None])


def _regions(image: NDArray[np.float32], middle: NDArray[np.int64], size: int) -> NDArray[np.float32]:
    span = np.arange(-size, size + 1)
    cut = image[middle[:, 1, None, None] + span[:, None], middle[:, 0, None, None] + span[None, :]]
    return np.ascontiguousarray(cut, np.float32)


def _beside(planes: slice, of_psf: int, index: Array, last: int) -> NDArray[np.bool_]:
    """Which fits ran to an end of the planes that is not an end of the PSF, where other planes go on."""
    beside: NDArray[np.bool_] = ((index <= 0) & (planes.start > 0)) | ((index >= last) & (planes.stop < of_psf))
    return beside

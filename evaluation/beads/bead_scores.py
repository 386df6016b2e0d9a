"""Depth errors on a real sweep of beads, against the positions of the focus drive.

All beads of the sweep lie on one slide, so at each plane each bead's true
depth is known up to the tilt of the slide and the focus: a plane through the
field, the same at all depths, is fitted to the errors and removed (a common
tilt), and the mean error before that is reported as bias. Beads that were
part of the calibration and beads that were not are scored separately. A few
beads do not determine the tilt, so it can be fitted to a larger group.

`correlate_depths` is the simplest method that uses the whole pattern, with x
and y given: a lower limit for networks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.tables import Localizations

__all__ = [
    "BeadLocalizations",
    "BeadScore",
    "Localize",
    "correlate_depths",
    "localize_bead_sweep",
    "score_depths",
]

F64 = NDArray[np.float64]
Localize = Callable[[NDArray[np.uint16], NDArray[np.int64]], Localizations]

# A localization counts as found within this distance in depth, µm (README of the bead data), and laterally, µm.
_FOUND_UM = 5.0
_LATERAL_UM = 5.0
_BATCH = 8
# Fewer beads do not separate the tilt of the slide from their own differences.
_BEADS_FOR_TILT = 6
# A pixel belongs to a pattern when it has this share of the brightest one: low enough to contain the dark rim.
_COVERED = 0.005


@dataclass(frozen=True, slots=True)
class BeadScore:
    """Depth errors of a sweep.

    Attributes
    ----------
    expected : int
        Beads times planes (times repeats) in the range.
    answered : float
        Share that has a localization near its x, y.
    found : float
        Share within 5 µm of the true depth, bias and tilt removed.
    sigma_um : float or None
        Standard deviation of the found ones' errors, bias and tilt removed.
    sigma_untilted_um : float or None
        The same with only the mean removed.
    bias_um : float or None
        Mean error before anything is removed.
    slope : float or None
        Estimated against true depth, of the found ones.
    gross : float
        Share of the localizations that are off by more than 5 µm, bias and tilt removed.
    lateral_um : float or None
        RMS lateral error per axis of the found ones, mean removed.
    tilt_um : (float, float)
        Removed tilt in x and y, µm across the larger extent of the beads.
    """

    expected: int
    answered: float
    found: float
    sigma_um: float | None
    sigma_untilted_um: float | None
    bias_um: float | None
    slope: float | None
    gross: float
    lateral_um: float | None
    tilt_um: tuple[float, float]


@dataclass(frozen=True)
class BeadLocalizations:
    """Localizations of the beads of a sweep.

    Attributes
    ----------
    depth_um : ndarray of float64, shape (T, N)
        Depth per frame and bead; NaN where there is none.
    truth_um : ndarray of float64, shape (T,)
        Depth of the slide at each frame.
    positions_um : ndarray of float64, shape (N, 2)
        x, y of the beads.
    lateral_um : ndarray of float64, shape (T, N, 2)
        Lateral errors.
    """

    depth_um: F64
    truth_um: F64
    positions_um: F64
    lateral_um: F64

    def score(self, chosen: NDArray[np.bool_], tilted: NDArray[np.bool_] | None = None) -> BeadScore:
        """Score of some beads, with the tilt fitted to the beads `tilted` (the same beads when not given)."""
        return score_depths(
            self.depth_um[:, chosen],
            self.truth_um,
            self.positions_um[chosen],
            self.lateral_um[:, chosen],
            None if tilted is None else (self.depth_um[:, tilted], self.positions_um[tilted]),
        )


def localize_bead_sweep(
    localize: Localize,
    sweep: Sweep,
    positions_um: F64,
    *,
    focus_um: float,
    z_range_um: tuple[float, float],
    sign: int = 1,
    axial_scale: float = 1.0,
    repeats: int | None = None,
) -> BeadLocalizations:
    """Localize every plane of a sweep, and assign the localizations to beads.

    Parameters
    ----------
    localize : callable
        (B, H, W) frames of uint16 and their numbers to `Localizations`, as `Localizer.localize`.
    sweep : Sweep
        Beads on one slide.
    positions_um : ndarray of float64, shape (N, 2)
        x, y in focus of all known beads, µm, so that a localization is not assigned to a neighbour.
    focus_um, sign, axial_scale
        How sweep positions become depth.
    z_range_um : (low, high)
        Depths that are scored.
    repeats : int, optional
        Number of repeats used; all when not given.
    """
    z_um = sign * axial_scale * (sweep.z_um - focus_um)
    chosen = np.nonzero((z_um >= z_range_um[0]) & (z_um <= z_range_um[1]))[0]
    count = sweep.planes.shape[1] if repeats is None else min(repeats, sweep.planes.shape[1])
    frames = np.concatenate([sweep.planes[chosen, repeat] for repeat in range(count)])
    truth = np.tile(z_um[chosen], count)
    depth = np.full((len(frames), len(positions_um)), np.nan)
    lateral = np.full((*depth.shape, 2), np.nan)
    for start in range(0, len(frames), _BATCH):
        numbers = np.arange(start, min(start + _BATCH, len(frames)), dtype=np.int64)
        found = localize(frames[numbers], numbers)
        for number in numbers:
            rows = found.select(found.frame == number)
            _assign(rows, positions_um, truth[number], depth[number], lateral[number])
    return BeadLocalizations(depth, truth, positions_um, lateral)


def _assign(rows: Localizations, positions_um: F64, z_um: float, depth: F64, lateral: F64) -> None:
    """Assign localizations to beads, each used once: laterally within the gate and, among these, nearest in depth."""
    if len(rows) == 0 or len(positions_um) == 0:
        return
    from scipy.optimize import linear_sum_assignment

    offset = np.stack([rows.x_um, rows.y_um], axis=1)[None] - positions_um[:, None]
    distance = np.hypot(offset[..., 0], offset[..., 1])
    # Depth decides among localizations in the gate, but is clipped, so that gross errors are not hidden.
    cost = distance + np.minimum(np.abs(rows.z_um - z_um), 2 * _FOUND_UM)[None]
    far = distance > _LATERAL_UM
    beads, localizations = linear_sum_assignment(np.where(far, 1e6, cost))
    for bead, localization in zip(beads, localizations, strict=True):
        if not far[bead, localization]:
            depth[bead] = rows.z_um[localization]
            lateral[bead] = offset[bead, localization]


def score_depths(
    depth_um: F64,
    truth_um: F64,
    positions_um: F64,
    lateral_um: F64 | None = None,
    tilt_from: tuple[F64, F64] | None = None,
) -> BeadScore:
    """Score of depths per frame and bead.

    Parameters
    ----------
    depth_um : ndarray of float64, shape (T, N)
        Localized depths; NaN where there is none.
    truth_um : ndarray of float64, shape (T,)
        Depth of the slide at each frame.
    positions_um : ndarray of float64, shape (N, 2)
        x, y of the beads.
    lateral_um : ndarray of float64, shape (T, N, 2), optional
        Lateral errors.
    tilt_from : (depth_um (T, M), positions_um (M, 2)), optional
        Beads to which the tilt of the slide is fitted; the same beads when not given.
    """
    expected = int(depth_um.size)
    error = depth_um - truth_um[:, None]
    localized = np.isfinite(error)
    if not localized.any():
        return BeadScore(expected, 0.0, 0.0, None, None, None, None, 0.0, None, (0.0, 0.0))
    depths, where = tilt_from or (depth_um, positions_um)
    half = max(float(np.ptp(where, axis=0).max()) / 2, 1e-9)
    place = (positions_um - where.mean(axis=0)) / half
    solution = _common_plane(depths - truth_um[:, None], (where - where.mean(axis=0)) / half)
    plane = solution[0] + place @ solution[1:]
    flat = error - plane[None, :]
    good = localized & (np.abs(flat) <= _FOUND_UM)
    offset = error - np.median(error[localized])
    near = localized & (np.abs(offset) <= _FOUND_UM)
    truth = np.broadcast_to(truth_um[:, None], error.shape)
    slope = float(np.polyfit(truth[good], truth[good] + flat[good], 1)[0]) if good.sum() > 2 else None
    lateral = None
    if lateral_um is not None and good.any():
        shifts = lateral_um[good]
        lateral = float(np.sqrt(((shifts - shifts.mean(axis=0)) ** 2).mean()))
    return BeadScore(
        expected,
        float(localized.mean()),
        float(good.mean()),
        float(flat[good].std()) if good.any() else None,
        float(offset[near].std()) if near.any() else None,
        float(error[localized].mean()),
        slope,
        float((localized & ~good).sum() / localized.sum()),
        lateral,
        (float(2 * solution[1]), float(2 * solution[2])),
    )


def _common_plane(error: F64, place: F64) -> F64:
    """Robust plane through the beads' errors, the same for all frames: its value at the origin and its slopes."""
    with np.errstate(all="ignore"):
        middle = np.array(
            [np.median(column[np.isfinite(column)]) if np.isfinite(column).any() else np.nan for column in error.T]
        )
    known = np.isfinite(middle)
    plane: F64 = np.zeros(3)
    if not known.any():
        return plane
    columns = 3 if known.sum() >= _BEADS_FOR_TILT else 1
    design = np.column_stack([np.ones(len(place)), place])[known, :columns]
    weight = np.ones(int(known.sum()))
    for _ in range(20):
        plane[:columns] = np.linalg.lstsq(design * weight[:, None], middle[known] * weight, rcond=None)[0]
        rest = np.abs(middle[known] - design @ plane[:columns])
        weight = np.sqrt(1 / (1 + (rest / max(3 * float(np.median(rest)), 1e-9)) ** 2))
    return plane


def _normalize(patterns: F64) -> tuple[F64, F64]:
    """For each depth, the pixels that its pattern covers (1 or 0), and the pattern there with mean 0 and norm 1.

    Only covered pixels count, so that neighbours farther away have no effect.
    """
    near = (patterns > _COVERED * patterns.max(axis=1, keepdims=True)).astype(np.float64)
    mean = (patterns * near).sum(axis=1, keepdims=True) / near.sum(axis=1, keepdims=True)
    flat = (patterns - mean) * near
    return near, flat / np.linalg.norm(flat, axis=1, keepdims=True)


def _widen(z_range_um: tuple[float, float]) -> tuple[float, float]:
    """The range with a margin that does not cross focus, where a symmetric pattern has no information on the side."""
    low, high = z_range_um
    wide_low, wide_high = low - _FOUND_UM, high + _FOUND_UM
    return (max(wide_low, 0.0) if low >= 0 else wide_low, min(wide_high, 0.0) if high <= 0 else wide_high)


def correlate_depths(
    calibration: Calibration,
    frames: NDArray[np.uint16],
    positions_um: F64,
    *,
    z_range_um: tuple[float, float] | None = None,
    step_um: float = 0.5,
    walk_um: F64 | None = None,
) -> F64:
    """Depth of each bead by normalized correlation of its surroundings with the calibrated pattern.

    Parameters
    ----------
    calibration : Calibration
        Whose PSF is the pattern.
    frames : ndarray of uint16, shape (T, H, W)
        Camera counts.
    positions_um : ndarray of float64, shape (N, 2)
        x, y of the beads, µm.
    z_range_um : (low, high), optional
        Depths that are tried; the calibration's with a margin of 5 µm on its side of focus when not given.
    step_um : float
        Distance of the tried depths; the best one is refined by a parabola.
    walk_um : ndarray of float64, shape (T, 2), optional
        Sideways walk of each frame, followed to whole pixels.

    Returns
    -------
    ndarray of float64, shape (T, N)
        Depths, µm.
    """
    psf = calibration.psf
    pixel = psf.pixel_size_um
    low, high = z_range_um or _widen(calibration.z_range_um)
    low, high = max(low, float(psf.z_um[0])), min(high, float(psf.z_um[-1]))
    tried = np.arange(low, high + 1e-9, step_um)
    radius = int(psf.radius_px)
    electrons = calibration.camera.to_electrons(frames)
    walk = np.zeros((len(frames), 2)) if walk_um is None else walk_um
    depth_um = np.full((len(frames), len(positions_um)), np.nan)
    offsets = np.arange(-radius, radius + 1)
    for bead, (x, y) in enumerate(positions_um / pixel):
        column, row = round(x), round(y)
        rows, columns = row + offsets, column + offsets
        inside_rows = (rows >= 0) & (rows < frames.shape[1])
        inside_columns = (columns >= 0) & (columns < frames.shape[2])
        pattern = psf.evaluate(
            ((columns[inside_columns] - x) * pixel)[None, None, :],
            ((rows[inside_rows] - y) * pixel)[None, :, None],
            tried[:, None, None],
        )
        near, flat = _normalize(pattern.reshape(len(tried), -1))
        pixels = near.sum(axis=1)
        shifted = np.round(walk / pixel).astype(int)
        for frame in range(len(frames)):
            rr = np.clip(rows[inside_rows] + shifted[frame, 1], 0, frames.shape[1] - 1)
            cc = np.clip(columns[inside_columns] + shifted[frame, 0], 0, frames.shape[2] - 1)
            window = electrons[frame][np.ix_(rr, cc)].ravel().astype(np.float64)
            window -= np.median(window)
            spread = near @ window**2 - (near @ window) ** 2 / pixels
            score = flat @ window / np.sqrt(np.maximum(spread, 1e-9))
            best = int(score.argmax())
            shift = 0.0
            if 0 < best < len(tried) - 1:
                before, at, after = score[best - 1 : best + 2]
                bend = before - 2 * at + after
                shift = 0.5 * (before - after) / bend if bend < 0 else 0.0
            depth_um[frame, bead] = tried[best] + shift * step_um
    return depth_um

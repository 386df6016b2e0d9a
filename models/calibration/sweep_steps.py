"""Check the steps of a sweep: the focus drive moved evenly and one way, and the planes are in order.

The change from one plane to another is the covariance of neighbouring pixels
in their difference. Noise is independent from pixel to pixel, so it does not
contribute, and only the change by the optics is left. In a proper sweep this
change varies smoothly along z, and two steps change about four times as much as
one (the change grows with the square of the distance). A drive that stood still,
a plane from another place, and a sweep that turns back each break this rule.

Around focus a symmetric pattern looks the same on both sides, so the rule does
not hold there. The checks that use it leave out the sharpest planes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.plane_names import named_planes, runs
from models.calibration.sweep import Sweep, fine_detail
from models.calibration.sweep_light import light_of_planes, unsteady_light_notes
from models.errors import DataError

__all__ = ["check_steps"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# Planes are scaled to the same light, those with less than this share of it as if they had this share.
_FAINTEST = 0.005
# Largest ratio by which planes are scaled to each other, after correction for the lamp.
_LARGEST_SCALE = 1.5
# A change is clear when it exceeds the error from noise by this factor, and absent within three errors.
_SEEN_SIGMAS = 20.0
_ABSENT_SIGMAS = 3.0
# A step changed nothing when its neighbours changed the image at least this many times as much.
_STILL_RATIO = 8.0
# Two steps change four times as much as one; 2.8 to 12 times in good sweeps with steps up to the depth of field.
_TWO_STEPS_RATIO = 1.6
# The change of a step over the larger of its neighbours'; up to 2.2 in good sweeps, 4 where one plane is missing.
_JUMP_RATIO = 3.0
_END_JUMP_RATIO = 8.0
_NEAR_FOCUS = 0.5
# Faults of the drive or of the order of planes appear in most of the field, weighted by its usual changes. A bead that
# comes off or drifting dirt appears in a part of it, and is rejected with the beads.
_TILES = 5
_MOST_OF_FIELD = 0.5
# A symmetric pattern is equal on both sides of focus: planes above this share of the greatest sharpness may be equal.
_FOLD_SHARE = 0.8
# With a larger shift between neighbouring planes, pixels, the sample moved.
_MOVED_PX = 1.5


def check_steps(sweep: Sweep) -> tuple[str, ...]:
    """Reject a sweep in which the drive stood still, jumped or turned back, or planes are out of order.

    Returns
    -------
    tuple of str
        Notes on light that is not steady.

    Raises
    ------
    DataError
        With the numbers of the planes, from 0, and the fault.
    """
    planes = sweep.mean_planes()
    light = light_of_planes(planes)
    even = planes / np.maximum(light, _FAINTEST).astype(np.float32)[:, None, None]
    sharpness = np.array([fine_detail(plane) for plane in even])
    sharpness /= max(float(sharpness.max()), 1e-12)
    steps = _changes(even, 1)
    _check_copies(sweep, sharpness)
    _check_still(steps, sharpness)
    usual = _usual_changes(even)
    _check_order(even, steps, _changes(even, 2).change, usual, sharpness)
    _check_jumps(even, steps, usual, sharpness, sweep.pixel_size_um)
    return unsteady_light_notes(light)


@dataclass(frozen=True, slots=True)
class _Changes:
    """Changes between planes some steps apart; all of shape (Z - steps,), ADU².

    Attributes
    ----------
    change : ndarray of float64
        Mean product of each pixel of the difference with its neighbours.
    error : ndarray of float64
        Standard deviation of it from white noise.
    scatter : ndarray of float64
        Standard deviation from the scatter of the products; it includes that bright pixels are noisier and that there
        are few beads.
    """

    change: F64
    error: F64
    scatter: F64


def _changes(planes: F32, apart: int) -> _Changes:
    """Changes between planes that are `apart` steps from each other.

    White noise of variance v in N pixels gives zero with the standard deviation v / sqrt(2 N): there are 2 N pairs of
    neighbours. The planes are scaled to equal brightness first, by the ratio of these products.
    """
    found = np.empty((3, len(planes) - apart))
    for index in range(found.shape[1]):
        difference = _difference(planes[index], planes[index + apart])
        squares = difference**2
        found[:, index] = (
            _neighbour_product(difference, difference),
            squares.mean() / np.sqrt(2 * squares.size),
            np.sqrt(_neighbour_product(squares, squares) / (2 * squares.size)),
        )
    return _Changes(*found)


def _difference(one: F32, two: F32) -> F64:
    """Difference of two planes that are scaled to equal brightness."""
    first, second = (plane - np.float64(plane.mean()) for plane in (one, two))
    own, shared = _neighbour_product(first, first), _neighbour_product(first, second)
    ratio = shared / own if own > 0 and shared > 0 else 1.0
    scale = np.sqrt(np.clip(ratio, 1 / _LARGEST_SCALE, _LARGEST_SCALE))
    return np.asarray(second / scale - first * scale, np.float64)


def _tile_changes(one: F32, two: F32) -> F64:
    """Change between two planes in each part of the field, shape (tiles,)."""
    rows = np.array_split(_difference(one, two), _TILES, axis=0)
    return np.array([_neighbour_product(tile, tile) for row in rows for tile in np.array_split(row, _TILES, axis=1)])


def _usual_changes(planes: F32) -> F64:
    """Change of a step in each part of the field, as a share of all, shape (tiles,)."""
    chosen = np.unique(np.linspace(0, len(planes) - 2, 12).astype(int)).tolist()
    usual = np.median([_tile_changes(planes[index], planes[index + 1]) for index in chosen], axis=0).clip(0)
    return np.asarray(usual / max(float(usual.sum()), 1e-12), np.float64)


def _neighbour_product(one: F64, two: F64) -> float:
    """Mean product of pixels of `one` with the next pixels of `two`, down and across."""
    down = np.mean(one[1:] * two[:-1]) + np.mean(one[:-1] * two[1:])
    across = np.mean(one[:, 1:] * two[:, :-1]) + np.mean(one[:, :-1] * two[:, 1:])
    return float(down + across) / 4


def _check_copies(sweep: Sweep, sharpness: F64) -> None:
    """Reject planes that are equal in every pixel: noise makes exposures differ."""
    seen: dict[bytes, int] = {}
    noisy = _is_noisy(sweep)
    for index, plane in enumerate(sweep.planes):
        key = plane.tobytes()
        first = seen.setdefault(key, index)
        # Without noise, planes on both sides of focus may be equal.
        mirrored = abs(first + index - 2 * int(sharpness.argmax())) <= 1
        if first == index or (mirrored and not noisy):
            continue
        raise DataError(
            f"Planes {first} and {index} are equal in every pixel, which two exposures never are.",
            "One of them is a copy: save the sweep again, or check that the camera gives a new frame at each plane.",
        )


def _is_noisy(sweep: Sweep) -> bool:
    """Whether pixels between the beads differ from plane to plane."""
    middle = len(sweep.planes) // 2
    one, two = sweep.planes[middle - 1, 0], sweep.planes[middle, 0]
    between = one <= np.median(one)
    return float((one != two)[between].mean()) > 0.2


def _check_still(steps: _Changes, sharpness: F64) -> None:
    change, scatter = steps.change, steps.scatter
    for first, last in runs(change < _ABSENT_SIGMAS * scatter):
        beside = [change[index] for index in (first - 1, last + 1) if 0 <= index < len(change)]
        most = float((change[first : last + 1] + 2 * scatter[first : last + 1]).max())
        folded = last - first < 2 and sharpness[first : last + 2].min() > _FOLD_SHARE
        if not beside or min(beside) < _STILL_RATIO * most or folded:
            continue
        raise DataError(
            f"Planes {first} to {last + 1} show the same image, while the steps beside them change it more than "
            f"{min(beside) / most:.0f} times as much: the focus drive stood still.",
            "Check the drive, its limits and the wait after each move, and sweep again.",
        )


def _check_order(planes: F32, steps: _Changes, two_steps: F64, usual: F64, sharpness: F64) -> None:
    smaller = np.minimum(steps.change[:-1], steps.change[1:])
    clear = steps.change > _SEEN_SIGMAS * steps.error
    wrong = clear[:-1] & clear[1:] & (two_steps < _TWO_STEPS_RATIO * smaller)
    sharpest = int(sharpness.argmax())
    middle = np.arange(1, len(sharpness) - 1)
    fold = (np.abs(middle - sharpest) <= 1) | (sharpness[1:-1] > _FOLD_SHARE)
    wrong &= ~fold
    for index in middle[wrong].tolist():
        before, here, after = (planes[index + step] for step in (-1, 0, 1))
        single = np.minimum(_tile_changes(before, here), _tile_changes(here, after))
        folded = _tile_changes(before, after) < _TWO_STEPS_RATIO * single
        wrong[index - 1] = float(usual[folded].sum()) > _MOST_OF_FIELD
    if not wrong.any():
        return
    found = middle[wrong]
    ratio = float((two_steps / smaller)[wrong].min())
    beside = named_planes(found, "plane", be=False)
    raise DataError(
        f"The planes are not in the order of their positions: beside {beside}, two planes "
        f"that are two steps apart differ {max(ratio, 0.0):.1f} times as much as two that are one step apart (4 times "
        "in a sweep that goes one way).",
        "A sweep goes one way through one field. Check the order of the planes in the file, that none comes from "
        "another place or position, and that the drive did not turn back.",
    )


def _check_jumps(planes: F32, steps: _Changes, usual: F64, sharpness: F64, pixel_size_um: float) -> None:
    change, error = steps.change, steps.error
    for index in range(len(change)):
        sides = [side for side in (index - 1, index + 1) if 0 <= side < len(change)]
        beside = max(change[side] + 3 * error[side] for side in sides)
        # At an end there is one neighbouring step only, and changes decrease toward focus.
        ratio = _JUMP_RATIO if len(sides) == 2 else _END_JUMP_RATIO
        if change[index] < max(ratio * beside, _SEEN_SIGMAS * error[index]):
            continue
        if len(sides) == 1 and sharpness[sides[0] : sides[0] + 2].max() > _NEAR_FOCUS:
            continue
        around = np.max([_tile_changes(planes[side], planes[side + 1]) for side in sides], axis=0)
        jumped = _tile_changes(planes[index], planes[index + 1]) > ratio * around
        if float(usual[jumped].sum()) < _MOST_OF_FIELD:
            continue
        if sharpness[index : index + 2].min() > _FOLD_SHARE:
            continue
        way = _shift(planes[index], planes[index + 1])
        if np.hypot(*way) > _MOVED_PX:
            raise DataError(
                f"The object moved during the sweep: between planes {index} and {index + 1} it jumped by "
                f"{way[1] * pixel_size_um:.1f} µm in x and {way[0] * pixel_size_um:.1f} µm in y (at most "
                f"{_MOVED_PX * pixel_size_um:.1f}).",
                "Use beads that stick to the glass, let the drive settle, and sweep again.",
            )
        raise DataError(
            f"Between planes {index} and {index + 1} the image changes {change[index] / beside:.0f} times as much as "
            "at the steps beside: the focus drive jumped, or planes are missing.",
            "Check that the file has every plane and none from elsewhere, that the drive makes even steps, and that it "
            "has arrived before the first exposure, and sweep again.",
        )


def _shift(one: F32, two: F32) -> tuple[int, int]:
    """Displacement (rows, columns) of `two` from `one`, pixels: the peak of their correlation."""
    details = [ndimage.gaussian_filter(plane, 1.0) - ndimage.gaussian_filter(plane, 6.0) for plane in (one, two)]
    spectra = [np.fft.rfft2(detail) for detail in details]
    match = np.fft.irfft2(np.conj(spectra[0]) * spectra[1], one.shape)
    row, column = (int(v) for v in np.unravel_index(int(match.argmax()), match.shape))
    return (
        row - one.shape[0] * (row > one.shape[0] // 2),
        column - one.shape[1] * (column > one.shape[1] // 2),
    )

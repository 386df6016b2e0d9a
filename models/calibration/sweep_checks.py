"""Did every step of a sweep do what is stated: light on, picture changed, planes in order, nothing displaced.

All of it is read off the planes themselves. The change from one plane to
another is the covariance of neighbouring pixels in their difference: noise is
independent from pixel to pixel, so it drops out, and what remains is what the
optics changed. In a proper sweep this change varies smoothly along z, and two
steps change about four times as much as one (the change grows with the square
of the way). A drive that stood still, a plane from another place and a sweep
that turns back break this rule, each in its own way.

Around focus a symmetric pattern looks the same on both sides, so the rule does
not hold there, and checks that rest on it leave out the sharpest planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.sweep import Sweep, fine_detail
from models.errors import DataError
from models.quantities import SWEEP_PLANES

__all__ = ["CheckedSweep", "check_steps", "dark_planes", "light_of_planes", "repaired", "trimmed_to_light"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Light is compared at a scale beyond the patterns, which defocus leaves alone: blocks of pixels, and blur in blocks.
_BLOCK_PX = 4
_BLUR_BLOCKS = 2.0
# Neighbouring planes with light on are alike at that scale: a correlation of 0.9 and more, 0 in noise alone.
_ALIKE = 0.5
# A dark plane has less than this share of the sweep's light, and less than `_DROP` of that of the next lit plane:
# light that fades slowly (bleaching, patterns that outgrow the field) is no dark plane.
_DARK_SHARE = 0.1
_DROP = 0.25
# Planes are scaled to the same light, those with less than this share of it as if they had so much.
_FAINTEST = 0.005
# Planes that differ more in brightness than this, once the light of the lamp is out, are not scaled to each other.
_LARGEST_SCALE = 1.5
# A change is clear when it exceeds the error from noise by this factor, and absent within three errors.
_SEEN_SIGMAS = 20.0
_ABSENT_SIGMAS = 3.0
# A step changed nothing when its neighbours changed the picture this many times as much as it can have.
_STILL_RATIO = 8.0
# Two steps change four times as much as one; 2.8 to 12 times in good sweeps with steps up to the depth of field.
_TWO_STEPS_RATIO = 1.6
# The change of a step over the larger of its neighbours'; up to 2.2 in good sweeps, 4 where one plane is missing.
_JUMP_RATIO = 3.0
_END_JUMP_RATIO = 8.0
_NEAR_FOCUS = 0.5
# What the drive or the order of the planes did shows in most of the field, weighted by what usually changes there; a
# bead that comes off or something that drifts by shows in a part of it, and is judged with the beads.
_TILES = 5
_MOST_OF_FIELD = 0.5
# A symmetric pattern folds at focus: planes with this share of the greatest sharpness may equal their neighbours.
_FOLD_SHARE = 0.8
# Farther than this between neighbouring planes, the sample moved, pixels.
_MOVED_PX = 1.5

# Light that changes more than this from plane to plane is told; lamps keep 2 %.
_STEADY_SHARE = 0.05

# A hot pixel stands out by this many noise deviations in every plane,
_HOT_SIGMAS = 8.0
# by about the same (lowest tenth of the planes over highest tenth; a bead changes with focus),
_HOT_STEADY = 0.5
# and alone: its neighbours have less than this share of it. A pattern of light is wider than a pixel somewhere in z.
_HOT_ALONE = 0.25
# A cosmic ray stands out by this many noise deviations, in one exposure and one pixel: what is beside it, in the
# picture and in the planes before and after, has less than this share of it.
_RAY_SIGMAS = 25.0
_RAY_ALONE = 0.1
# A bead that is one pixel wide in focus leaves its light, spread out, in the planes before and after; a ray nothing.
_RAY_LIGHT = 0.25
# More hot pixels than this share are another fault.
_MOST_HOT_SHARE = 0.01


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep without planes and pixels that show no light of the sample.

    Attributes
    ----------
    sweep : Sweep
    notes : tuple of str
        What was left out or repaired.
    """

    sweep: Sweep
    notes: tuple[str, ...] = ()


# ---- pixels ----


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
    """The sweep with pixels that flash in one exposure alone replaced by the median of their neighbours."""
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
    """Light in the place around a pixel over that of its surroundings, ADU."""
    near, wide = (
        plane[max(row - half, 0) : row + half + 1, max(column - half, 0) : column + half + 1] for half in (3, 7)
    )
    return float((near - np.median(wide)).sum())


def _hot_pixels(sweep: Sweep) -> NDArray[np.bool_]:
    """Pixels that stand out alone and by the same at every plane, shape (H, W)."""
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


# ---- light ----


def light_of_planes(planes: F32) -> F64:
    """Light of the sample at each plane, relative to the brightest plane, shape (Z,); 1 everywhere where none is seen.

    Parameters
    ----------
    planes : ndarray of float32, shape (Z, H, W)
        Means over the repeats, ADU.
    """
    coarse = np.stack([_coarse(plane) for plane in planes])
    pattern = coarse.mean(axis=0)
    light = np.einsum("kij,ij->k", coarse, pattern) / max(float((pattern**2).sum()), 1e-12)
    light /= max(float(light.max()), 1e-12)
    lit = light >= _DARK_SHARE
    lengths = np.sqrt(np.einsum("kij,kij->k", coarse, coarse))
    alike = np.einsum("kij,kij->k", coarse[:-1], coarse[1:]) / np.maximum(lengths[:-1] * lengths[1:], 1e-12)
    both = alike[lit[:-1] & lit[1:]]
    if len(both) == 0 or np.median(both) < _ALIKE:
        return np.ones(len(planes))
    return np.asarray(light, np.float64)


def _coarse(plane: F32) -> F64:
    """A plane at a scale beyond the patterns, without its mean."""
    height, width = (extent // _BLOCK_PX * _BLOCK_PX for extent in plane.shape)
    blocks = plane[:height, :width].reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
    smooth = ndimage.gaussian_filter(blocks.mean(axis=(1, 3), dtype=np.float64), _BLUR_BLOCKS)
    return np.asarray(smooth - smooth.mean(), np.float64)


def dark_planes(light: F64) -> NDArray[np.bool_]:
    """Planes without light, shape (Z,), of planes with `light` (Z,)."""
    dark = light < _DARK_SHARE
    if dark.all():
        return np.zeros_like(dark)
    for first, last in _runs(dark):
        beside = [light[index] for index in (first - 1, last + 1) if 0 <= index < len(light)]
        if light[first : last + 1].max() > _DROP * min(beside):
            dark[first : last + 1] = False
    return dark


def trimmed_to_light(sweep: Sweep) -> CheckedSweep:
    """The sweep without dark planes at its ends.

    Raises
    ------
    DataError
        When planes in between are dark, or too few are left.
    """
    light = light_of_planes(_means(sweep))
    dark = dark_planes(light)
    if not dark.any():
        return CheckedSweep(sweep)
    lit = np.flatnonzero(~dark)
    inner = dark[lit[0] : lit[-1] + 1]
    dark_share = float(light[dark].max())
    if inner.any() or len(lit) < SWEEP_PLANES.low:
        raise DataError(
            f"{_named(np.flatnonzero(dark))} dark: {'they have' if dark.sum() > 1 else 'it has'} less than "
            f"{max(dark_share, 0.01):.0%} of the light of the others, so the light was off.",
            "Check shutter, lamp and trigger, and sweep again; dark planes may only be at the ends.",
        )
    note = (
        f"{_named(np.flatnonzero(dark))} dark (less than {max(dark_share, 0.01):.0%} of the light of the others) "
        f"and left out; check when the shutter opens and closes."
    )
    kept = slice(int(lit[0]), int(lit[-1]) + 1)
    return CheckedSweep(replace(sweep, planes=sweep.planes[kept], z_um=sweep.z_um[kept]), (note,))


# ---- steps ----


def check_steps(sweep: Sweep) -> tuple[str, ...]:
    """Refuse a sweep in which the drive stood still, jumped or turned back, or planes are out of order.

    Returns
    -------
    tuple of str
        Notes on light that is not steady.

    Raises
    ------
    DataError
        With the planes (counted from 0) and what they show.
    """
    planes = _means(sweep)
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
    return _unsteady(light)


def _means(sweep: Sweep) -> F32:
    return np.stack([sweep.mean_plane(index) for index in range(len(sweep.planes))])


@dataclass(frozen=True, slots=True)
class _Changes:
    """How much planes differ from those some steps later; all of shape (Z - steps,), ADU².

    Attributes
    ----------
    change : ndarray of float64
        Mean product of each pixel of the difference with its neighbours.
    error : ndarray of float64
        What white noise adds to it, as a standard deviation.
    scatter : ndarray of float64
        The same from the scatter of the products, which takes in that bright places are noisier, and that few beads
        are seen.
    """

    change: F64
    error: F64
    scatter: F64


def _changes(planes: F32, apart: int) -> _Changes:
    """How much planes differ from those `apart` steps later.

    White noise of variance v in N pixels gives zero with the standard deviation v / sqrt(2 N): there are 2 N pairs of
    neighbours. What is brighter as a whole in one of the two is scaled first, by the ratio of these products for which
    both are equal.
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
    """What differs between two planes beside their brightness as a whole."""
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
    """Refuse planes that are equal to the last bit: noise alone makes exposures differ."""
    seen: dict[bytes, int] = {}
    noisy = _is_noisy(sweep)
    for index, plane in enumerate(sweep.planes):
        key = plane.tobytes()
        first = seen.setdefault(key, index)
        # A camera without noise sees the same at both sides of focus.
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
    for first, last in _runs(change < _ABSENT_SIGMAS * scatter):
        beside = [change[index] for index in (first - 1, last + 1) if 0 <= index < len(change)]
        most = float((change[first : last + 1] + 2 * scatter[first : last + 1]).max())
        folded = last - first < 2 and sharpness[first : last + 2].min() > _FOLD_SHARE
        if not beside or min(beside) < _STILL_RATIO * most or folded:
            continue
        raise DataError(
            f"Planes {first} to {last + 1} show the same picture, while the steps beside them change it more than "
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
    raise DataError(
        f"The planes are not in the order of their positions: beside {_named(found, 'plane', be=False)}, two planes "
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
        # At an end there is one step to compare with, and toward focus steps change less and less by themselves.
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
            f"Between planes {index} and {index + 1} the picture changes {change[index] / beside:.0f} times as much as "
            "at the steps beside: the focus drive jumped, or planes are missing.",
            "Check that the file has every plane and none from elsewhere, that the drive makes even steps, and that it "
            "has arrived before the first exposure, and sweep again.",
        )


def _shift(one: F32, two: F32) -> tuple[int, int]:
    """By how many pixels (rows, columns) `two` is displaced from `one`, the peak of their correlation."""
    details = [ndimage.gaussian_filter(plane, 1.0) - ndimage.gaussian_filter(plane, 6.0) for plane in (one, two)]
    spectra = [np.fft.rfft2(detail) for detail in details]
    match = np.fft.irfft2(np.conj(spectra[0]) * spectra[1], one.shape)
    row, column = (int(v) for v in np.unravel_index(int(match.argmax()), match.shape))
    return (
        row - one.shape[0] * (row > one.shape[0] // 2),
        column - one.shape[1] * (column > one.shape[1] // 2),
    )


def _unsteadiness(light: F64) -> float:
    """Relative deviation of the light of a plane from that of its neighbours, as a standard deviation."""
    middle = (light[:-2] + light[2:]) / 2
    departure = light[1:-1] / np.maximum(middle, _DARK_SHARE) - 1
    # A plane minus the mean of two others has 1.5 times the variance of one.
    # About zero, not about the median: light that alternates has two values.
    spread = 1.4826 * float(np.median(np.abs(departure)))
    return spread / math.sqrt(1.5)


def _unsteady(light: F64) -> tuple[str, ...]:
    share = _unsteadiness(light)
    if share < _STEADY_SHARE:
        return ()
    return (
        f"The light is not steady: it changes by {share:.0%} from plane to plane (down to "
        f"{light.min():.2f} of the brightest). The pattern is not affected, but check the lamp.",
    )


def _runs(flags: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """First and last index of each run of true values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(last) - 1) for first, last in zip(edges[::2], edges[1::2], strict=True)]


def _named(indices: NDArray[np.intp], noun: str = "plane", *, be: bool = True) -> str:
    """Planes by number: "Planes 3 to 6 and 9 are"; without verb and capital when `be` is false."""
    flags = np.zeros(int(indices.max()) + 1, bool)
    flags[indices] = True
    parts = [f"{first}" if first == last else f"{first} to {last}" for first, last in _runs(flags)]
    text = f"{noun}{'s' if len(indices) > 1 else ''} {', '.join(parts[:8])}{' and others' if len(parts) > 8 else ''}"
    if not be:
        return text
    return text[0].upper() + text[1:] + (" are" if len(indices) > 1 else " is")

"""From a sweep to a calibration: find the beads, align them, join them, and say what was seen.

The order of the work: check the sweep, know the camera, find focus and beads,
measure how wide the patterns grow, fit one pattern through all beads (see
`alignment`), with what the field does to it (see `field`) taken out of the
beads before they are joined; then read off what the fit knows: which beads
differ and are left out, the sideways walk, the light, the map of the field,
how beads differ beside it, and how well depth comes back from one bead at a
time.

Two conventions. The mean pattern is that of the median bead: heights have
median zero and every bead has the same weight. A single bead that is larger
than the median looks deeper than it is, most of all near focus (its size adds
in quadrature to the defocus), less and less farther away. And the pattern is
centred by its centre of mass at every depth, so a sideways walk of the drive
or the beam, or coma, does not appear in x and y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.alignment import (
    BeadFit,
    BeadStack,
    Pattern,
    fit_planes,
    pattern_weights,
    refine_beads,
    solve_pattern,
    subtract_neighbours,
)
from models.beads import Bead, Cone, crowding, find_beads, measure_cone
from models.calibration import Calibration
from models.camera import CameraModel
from models.errors import DataError
from models.evidence import Evidence
from models.field_fit import BeadDepths, FieldFit, fit_field
from models.identity import new_id
from models.photon_transfer import estimate_camera
from models.psf import Psf
from models.sweep import FocusCurve, Sweep, fit_peak

__all__ = ["calibrate"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Progress = Callable[[float, str], None]

# Beads that give two samples per pixel in each direction enough equations: two for each of the four sub-pixel phases.
_BEADS_FOR_OVERSAMPLING = 8
# Pixels of all cut-outs together; beyond it, beads are left out. 1e8 float32 are 0.4 GB, and three such arrays exist.
_MOST_SAMPLES = 75_000_000
# Planes kept on either side of the asked range, when the sweep has them, µm.
_MARGIN_UM = 6.0
# A bead whose pattern's signal-to-noise (matched filter, median plane) is lower is dim.
_DIM_SNR = 10.0
# A bead is unlike the others when its misfit exceeds their median by this many robust deviations (and by a half).
_MISFIT_SIGMAS = 6.0
# A bead has moved when it strays from the common walk by more than this, pixels, and by 5 times the others' median.
_STRAY_PX = 0.75
# A bead that was left out is where the pattern fits it, when that is no farther from its brightest place, pixels.
_ASTRAY_PX = 3.0
# The object moved when the common walk exceeds this share of the sweep's length, or jumps by this many pixels.
_WALK_SHARE = 0.25
_JUMP_PX = 1.5
# Where a pattern that tells both sides of focus is sharp: this share of its greatest sharpness.
_SHARP = 0.5
# Planes nearest to focus that define where a bead is in focus.
_FOCUS_PLANES = 7
# Turns of aligning and joining; heights settle to a hundredth of a step within these.
_ROUNDS = 6


def calibrate(
    sweep: Sweep,
    *,
    z_range_um: tuple[float, float] | None = None,
    focus_um: float | None = None,
    camera: CameraModel | None = None,
    sign: int = 1,
    axial_scale: float = 1.0,
    mask: NDArray[np.bool_] | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Learn PSF, focus, field and variation from a sweep of beads.

    Parameters
    ----------
    sweep : Sweep
        Beads at many focus positions.
    z_range_um : (low, high), optional
        Depths to be told apart later, µm from focus; the larger side of the sweep when not given.
    focus_um : float, optional
        Focus in sweep coordinates; found when not given.
    camera : CameraModel, optional
        Estimated from the sweep when not given.
    sign, axial_scale : int, float
        ``z_um = sign * axial_scale * (sweep position - focus)``.
    mask : ndarray of bool, shape (H, W), optional
        Places whose beads may be used. Beads elsewhere still count as neighbours.
    progress : callable, optional
        Called with the share done (0..1) and what is being done.

    Returns
    -------
    Calibration
        With `evidence` for the report.

    Raises
    ------
    DataError
        When the sweep cannot teach this; the message says why.
    """
    tell = progress or (lambda done, what: None)
    notes: list[str] = []
    _check_request(z_range_um, focus_um, sign, axial_scale, mask, sweep)
    tell(0.0, "checking the sweep")
    sweep.check_exposure()
    # Before the camera is estimated: where nothing is to be seen, that is what the user must hear.
    curve = sweep.focus_curve()
    if camera is None:
        measured = estimate_camera(sweep)
        camera = measured.camera
        notes += measured.notes
    tell(0.1, "finding beads")
    planes = camera.to_electrons(np.stack([sweep.mean_plane(index) for index in range(len(sweep.planes))]))
    variance = (camera.read_noise_e**2 + camera.electrons_per_adu**2 / 12) / sweep.planes.shape[1]
    near = np.nonzero(curve.sharpness > 0.5)[0]
    both_sides = z_range_um is not None and z_range_um[0] < 0 < z_range_um[1]
    # The brightest of a cross of two line foci is its arms; in the mean of both it is the middle.
    positions = find_beads(planes[near].mean(axis=0, keepdims=True) if both_sides else planes[near])
    if len(positions) == 0:
        raise DataError(
            "No bead was found around focus: nothing stands 8 noise deviations above its surroundings.",
            "Check light, exposure and focus range, and that beads do not crowd; a calibration needs at least one "
            "bright isolated bead.",
        )
    focus = focus_um if focus_um is not None else _bead_focus(planes, positions, sweep.z_um, curve, both_sides)
    z_um = sign * axial_scale * (sweep.z_um - focus)
    wanted = _wanted_range(z_um, z_range_um, focus, sweep, curve, given=focus_um is not None)
    keep = _kept_planes(z_um, wanted)
    order = np.argsort(z_um[keep])
    planes, z_um, kept = planes[keep][order], z_um[keep][order], np.nonzero(keep)[0][order]
    cone = measure_cone(planes, positions, z_um)
    beads = _first_verdicts(positions, planes, sweep, kept, cone, z_um, mask)
    tell(0.2, f"{sum(b.used for b in beads)} of {len(beads)} beads to be aligned")
    _require_beads(beads)
    fitted = _fit(planes, z_um, beads, cone, variance, sweep.pixel_size_um, wanted, tell)
    beads, stack, pattern, fit, used = fitted
    tell(0.9, "joining")
    return _conclude(
        sweep,
        planes,
        kept,
        beads,
        stack,
        pattern,
        fit,
        used,
        cone,
        camera,
        curve,
        focus,
        sign,
        axial_scale,
        wanted,
        tuple(notes),
    )


def _check_request(
    z_range_um: tuple[float, float] | None,
    focus_um: float | None,
    sign: int,
    axial_scale: float,
    mask: NDArray[np.bool_] | None,
    sweep: Sweep,
) -> None:
    if z_range_um is not None and not (np.isfinite(z_range_um).all() and z_range_um[0] < z_range_um[1]):
        raise DataError(
            f"The z-range is {z_range_um[0]} to {z_range_um[1]} µm; both must be finite, "
            "and its low end must be below its high end.",
            "Give --z-range-um LOW HIGH, for example 3 55.",
        )
    if focus_um is not None and not np.isfinite(focus_um):
        raise DataError(f"The focus is {focus_um} µm; it must be a number.", "Leave --focus-um out to have it found.")
    if sign not in (-1, 1) or not np.isfinite(axial_scale) or axial_scale <= 0:
        raise DataError(
            f"The direction is {sign} and the axial scale {axial_scale}; the first is 1 or -1, the second positive.",
            "The axial scale is sample index over immersion index: 1 in air, about 1.33 from air into water.",
        )
    if mask is not None and mask.shape != sweep.shape:
        raise DataError(
            f"The mask has shape {mask.shape}, the sweep's planes {sweep.shape}; both must be alike.",
            "Make the mask for the whole field.",
        )


def _bead_focus(planes: F32, positions: F64, sweep_um: F64, curve: FocusCurve, both_sides: bool) -> float:
    """Median over beads of where each is most concentrated, sweep coordinates, µm."""
    found = []
    for x, y in positions[:200]:
        row, column = round(y), round(x)
        window = planes[:, max(row - 3, 0) : row + 4, max(column - 3, 0) : column + 4]
        ring = planes[:, max(row - 6, 0) : row + 7, max(column - 6, 0) : column + 7]
        level = np.median(ring, axis=(1, 2), keepdims=True)
        light = np.clip(window - level, 0, None)
        # Brightest four pixels over the light in the window: independent of bleaching, insensitive to neighbours.
        flat = np.sort(light.reshape(len(planes), -1), axis=1)
        sharpness = flat[:, -4:].sum(axis=1).astype(np.float64)
        sharpness = np.convolve(np.pad(sharpness, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
        near = curve.sharpness > 0.3
        sharpness = np.where(near, sharpness, 0.0)
        found.append(_focus_of(sweep_um, sharpness / max(sharpness.max(), 1e-9), both_sides))
    return float(np.median(found))


def _focus_of(z_um: F64, sharpness: F64, both_sides: bool) -> float:
    """Focus of a sharpness curve whose maximum is 1, µm.

    A pattern that tells both sides of focus is engineered: an astigmatic one
    has a sharp line on either side, and focus is in the middle of both.
    """
    if not both_sides:
        return fit_peak(z_um, sharpness)
    sharp = np.flatnonzero(sharpness >= _SHARP)
    ends = []
    for inner, outer in ((sharp[0], sharp[0] - 1), (sharp[-1], sharp[-1] + 1)):
        if not 0 <= outer < len(z_um):
            return fit_peak(z_um, sharpness)
        share = (sharpness[inner] - _SHARP) / (sharpness[inner] - sharpness[outer])
        ends.append(float(z_um[inner] + share * (z_um[outer] - z_um[inner])))
    return sum(ends) / 2


def _wanted_range(
    z_um: F64, z_range_um: tuple[float, float] | None, focus: float, sweep: Sweep, curve: FocusCurve, *, given: bool
) -> tuple[float, float]:
    low, high = float(z_um.min()), float(z_um.max())
    if curve.at_end and not given:
        raise DataError(
            f"The sharpest plane is at the end of the sweep ({curve.focus_um:g} µm), so focus cannot be found.",
            "Sweep past the focus by a few µm, or state it with --focus-um.",
        )
    step = abs(float(np.diff(z_um).mean()))
    if z_range_um is None:
        if high >= -low:
            return (min(3 * step, high / 2), high)
        return (low, max(-3 * step, low / 2))
    tolerance = 0.51 * step
    if z_range_um[0] < low - tolerance or z_range_um[1] > high + tolerance:
        mirrored = -z_range_um[1] >= low - tolerance and -z_range_um[0] <= high + tolerance
        hint = (
            "The other side of focus is covered: if the sweep ran the other way, say so with --flip-z. "
            if mirrored
            else ""
        )
        raise DataError(
            f"The z-range {z_range_um[0]:g} to {z_range_um[1]:g} µm is not covered: with focus at {focus:.1f} µm the "
            "sweep "
            f"({sweep.z_um[0]:g} to {sweep.z_um[-1]:g} µm) reaches from {low:.1f} to {high:.1f} µm.",
            hint + "Choose a range inside, or sweep farther.",
        )
    return (float(z_range_um[0]), float(z_range_um[1]))


def _kept_planes(z_um: F64, wanted: tuple[float, float]) -> NDArray[np.bool_]:
    """The wanted range with a margin, and the other side of focus as far as it mirrors the range.

    Samples have emitters on the wrong side too, so training needs their pattern; and both sides together show focus.
    """
    low, high = wanted[0] - _MARGIN_UM, wanted[1] + _MARGIN_UM
    reach = max(abs(wanted[0]), abs(wanted[1]))
    return (z_um >= min(low, -reach)) & (z_um <= max(high, reach))


def _first_verdicts(
    positions: F64,
    planes: F32,
    sweep: Sweep,
    kept: NDArray[np.intp],
    cone: Cone,
    z_um: F64,
    mask: NDArray[np.bool_] | None,
) -> list[Bead]:
    """What can be said of each candidate before the patterns are fitted."""
    height, width = sweep.shape
    distance = crowding(positions)
    reach = float(cone.at(z_um).max())
    top = sweep.saturation_adu
    centre_plane = int(np.abs(z_um).argmin())
    first, last = max(centre_plane - 2, 0), centre_plane + 3
    beads = []
    for (x, y), nearest in zip(positions, distance, strict=True):
        row, column = round(y), round(x)
        edge = min(x, y, width - 1 - x, height - 1 - y)
        size = int(np.ceil(cone.focus_px))
        rows, columns = slice(max(row - size, 0), row + size + 1), slice(max(column - size, 0), column + size + 1)
        block = planes[first:last, rows, columns]
        photons = float(np.median((block - np.median(planes[first:last], axis=(1, 2), keepdims=True)).sum(axis=(1, 2))))
        reason = ""
        if mask is not None and not mask[min(row, height - 1), min(column, width - 1)]:
            reason = "outside the places chosen for calibration"
        elif edge < 0.5 * reach:
            reason = f"at the edge: {edge:.0f} px from it, the pattern grows to a radius of {reach:.0f} px"
        elif nearest < 2 * cone.focus_px:
            reason = f"touching: the next bead is {nearest:.1f} px away, {2 * cone.focus_px:.1f} are needed in focus"
        elif int(sweep.planes[kept][:, :, rows, columns].max()) >= top:
            reason = f"saturated: pixels reach {top} counts"
        beads.append(Bead(float(x), float(y), photons, reason))
    return _limit_number(beads, distance, reach, len(z_um))


def _limit_number(beads: list[Bead], distance: F64, reach: float, planes: int) -> list[Bead]:
    width = 2 * _crop_radius(reach) + 1
    most = max(int(_MOST_SAMPLES / (planes * width**2)), 4)
    usable = [index for index, bead in enumerate(beads) if bead.used]
    if len(usable) <= most:
        return beads
    lonely = set(sorted(usable, key=lambda index: -distance[index])[:most])
    return [
        replace(bead, reason="not needed: enough beads that stand more alone")
        if bead.used and i not in lonely
        else bead
        for i, bead in enumerate(beads)
    ]


def _require_beads(beads: list[Bead]) -> None:
    if any(bead.used for bead in beads):
        return
    reasons: dict[str, int] = {}
    for bead in beads:
        name = bead.reason.split(":")[0]
        reasons[name] = reasons.get(name, 0) + 1
    listed = ", ".join(f"{count} {name}" for name, count in sorted(reasons.items(), key=lambda item: -item[1]))
    raise DataError(
        f"None of the {len(beads)} beads found can be used ({listed}); at least one is needed.",
        "Prepare a thinner sample with beads apart from each other and from the edge; expose less if beads saturate.",
    )


def _crop_radius(reach: float) -> int:
    return int(np.ceil(1.2 * reach)) + 4


def _fit(
    planes: F32,
    z_um: F64,
    beads: list[Bead],
    cone: Cone,
    variance: float,
    pixel_size_um: float,
    wanted: tuple[float, float],
    tell: Progress,
) -> tuple[list[Bead], BeadStack, Pattern, BeadFit, NDArray[np.bool_]]:
    """One pattern through all beads: positions, heights, light, walk, the field's part and the spline, in turn."""
    used = np.array([bead.used for bead in beads])
    stack, data, apart = _cut(planes, z_um, beads, cone)
    stack = _first_light(stack, beads, used, apart, cone)
    oversampling = 2 if used.sum() >= _BEADS_FOR_OVERSAMPLING else 1
    pattern = _empty_pattern(z_um, stack.width, oversampling)
    flat = np.where(used[:, None], 1.0, 0.0) * np.ones_like(stack.light)
    pattern = _trim(solve_pattern(replace(stack, seen=apart), pattern, flat, 3, from_scratch=True), cone)
    fit: BeadFit | None = None
    for index in range(_ROUNDS):
        tell(0.2 + 0.7 * index / _ROUNDS, "aligning")
        model = stack.model(pattern)
        stack = subtract_neighbours(stack, model, data)
        weight, place = pattern_weights(stack, fit, variance, used, model)
        before = stack
        stack, fit = refine_beads(stack, pattern, place, heights=index >= 1)
        stack = _settle(stack, fit, pattern, used)
        if index >= 2:
            beads = _later_verdicts(beads, stack, fit, model, variance)
            used = np.array([bead.used for bead in beads])
            _require_beads(beads)
            depths = _bead_depths(before, fit, used, pixel_size_um)
            extent_um = (planes.shape[2] * pixel_size_um, planes.shape[1] * pixel_size_um)
            mapped = fit_field(depths, extent_um, wanted, _focal_depth(pattern))
            stack = replace(stack, bend=_bend(stack, mapped, pixel_size_um, wanted))
        weight, _ = pattern_weights(stack, fit, variance, used, model)
        pattern = _trim(solve_pattern(stack, pattern, weight, 4 if index < _ROUNDS - 1 else 12), cone)
    model = stack.model(pattern)
    stack = subtract_neighbours(stack, model, data)
    fit, _, _ = fit_planes(stack, pattern)
    return beads, stack, pattern, fit, used


def _cut(planes: F32, z_um: F64, beads: list[Bead], cone: Cone) -> tuple[BeadStack, F32, NDArray[np.uint8]]:
    """Cut-outs, the data as recorded, and a mask without the pixels that neighbours reach."""
    radius = _crop_radius(float(cone.at(z_um).max()))
    width = 2 * radius + 1
    count = len(beads)
    padded = np.pad(planes, ((0, 0), (radius, radius), (radius, radius)))
    inside = np.pad(np.ones(planes.shape[1:], np.uint8), radius)
    data = np.empty((count, len(planes), width, width), np.float32)
    seen = np.empty(data.shape, np.uint8)
    corner = np.empty((count, 2), np.int64)
    x = np.array([bead.x_px for bead in beads])
    y = np.array([bead.y_px for bead in beads])
    for index in range(count):
        row, column = round(y[index]), round(x[index])
        corner[index] = row - radius, column - radius
        data[index] = padded[:, row : row + width, column : column + width]
        seen[index] = inside[row : row + width, column : column + width]
    apart = seen.copy()
    reach = cone.at(z_um) + 1
    for index in range(count):
        rows = np.arange(width)[:, None] + corner[index, 0]
        columns = np.arange(width)[None, :] + corner[index, 1]
        for other in range(count):
            gap = np.hypot(x[other] - x[index], y[other] - y[index])
            if other == index or gap > radius * np.sqrt(2) + reach.max():
                continue
            near = np.hypot(rows - y[other], columns - x[other])
            apart[index][near[None] < reach[:, None, None]] = 0
    light = np.ones((count, len(planes)))
    stack = BeadStack(
        data.copy(),
        seen,
        corner,
        x,
        y,
        np.zeros(count),
        z_um.copy(),
        np.zeros((len(planes), 2)),
        light,
        np.zeros_like(light),
        np.zeros((count, len(planes), 3)),
    )
    return stack, data, apart


def _first_light(
    stack: BeadStack, beads: list[Bead], used: NDArray[np.bool_], apart: NDArray[np.uint8], cone: Cone
) -> BeadStack:
    """First figures: background beside each pattern, light of the beads that stand alone, walk of their centres."""
    count, planes = stack.light.shape
    reach = cone.at(stack.z_um)
    rows, columns = np.indices((stack.width, stack.width))
    background = np.zeros((count, planes))
    share = np.zeros((count, planes))
    sums = np.zeros((count, planes))
    centre = np.zeros((count, planes, 2))
    for b in range(count):
        dx = columns + stack.corner[b, 1] - stack.x_px[b]
        dy = rows + stack.corner[b, 0] - stack.y_px[b]
        distance = np.hypot(dx, dy)
        for k in range(planes):
            pixels = stack.data[b, k]
            ring = (distance > reach[k] + 1) & (apart[b, k] > 0)
            valid = stack.seen[b, k] > 0
            background[b, k] = np.median(pixels[ring]) if ring.sum() >= 20 else np.percentile(pixels[valid], 20)
            own = distance <= reach[k]
            share[b, k] = (apart[b, k] > 0)[own].mean()
            light = (pixels - background[b, k]) * own
            sums[b, k] = light.sum()
            centre[b, k] = (light * dx).sum(), (light * dy).sum()
    # Where backgrounds could not be measured beside the pattern, the plane's median stands in.
    bare = share < 0.3
    background = np.where(bare, np.median(background, axis=0, keepdims=True), background)
    brightness = np.maximum(np.array([bead.photons for bead in beads]), 1e-6)
    relative = np.ones(planes)
    walk = np.zeros((planes, 2))
    for k in range(planes):
        lonely = used & (share[:, k] >= np.sort(share[used, k])[-max(int(used.sum()) // 3, min(int(used.sum()), 3))])
        relative[k] = max(float(np.median(sums[lonely, k] / brightness[lonely])), 1e-6)
        with np.errstate(divide="ignore", invalid="ignore"):
            walk[k] = np.nanmedian(
                centre[lonely, k] / np.where(sums[lonely, k] > 0, sums[lonely, k], np.nan)[:, None], axis=0
            )
    walk = np.nan_to_num(walk) - np.nan_to_num(walk[np.abs(stack.z_um).argmin()])
    smooth = np.stack([_smooth(stack.z_um, walk[:, axis]) for axis in range(2)], axis=1)
    return replace(stack, light=brightness[:, None] * relative[None, :], background=background, walk_px=smooth)


def _smooth(z_um: F64, values: F64, degree: int = 3) -> F64:
    """Robust low-order polynomial through `values`, zero in focus."""
    scale = float(np.abs(z_um).max())
    basis = np.stack([(z_um / scale) ** power for power in range(degree + 1)], axis=1)
    weight: F64 = np.ones(len(values))
    solution: F64 = np.zeros(degree + 1)
    for _ in range(8):
        solution = np.asarray(np.linalg.lstsq(basis * weight[:, None], values * weight, rcond=None)[0], np.float64)
        rest = np.abs(values - basis @ solution)
        weight = np.asarray(np.sqrt(1 / (1 + (rest / max(1.5 * float(np.median(rest)), 1e-6)) ** 2)), np.float64)
    return np.asarray(basis @ solution - solution[0], np.float64)


def _empty_pattern(z_um: F64, width: int, oversampling: int) -> Pattern:
    step = float(np.diff(z_um).mean())
    first = (np.floor(z_um.min() / step) - 2) * step
    count = int(np.ceil((z_um.max() - first) / step)) + 3
    half = (width // 2 + 1) * oversampling
    return Pattern(np.zeros((count, 2 * half + 1, 2 * half + 1), np.float32), first, step, oversampling)


def _taper(pattern: Pattern, cone: Cone) -> F32:
    """1 inside the cone, 0 well outside, a cosine in between, shape (K, N, N)."""
    half = pattern.coefficients.shape[1] // 2
    rows, columns = np.ogrid[-half : half + 1, -half : half + 1]
    distance = np.hypot(rows, columns)[None] / pattern.oversampling
    inner = (1.08 * cone.at(pattern.z_um) + 0.5)[:, None, None]
    outer = (1.2 * cone.at(pattern.z_um) + 2.5)[:, None, None]
    phase = np.clip((distance - inner) / (outer - inner), 0, 1)
    return (0.5 + 0.5 * np.cos(np.pi * phase)).astype(np.float32)


def _trim(pattern: Pattern, cone: Cone) -> Pattern:
    """The pattern without what lies outside its cone, normalized."""
    return replace(pattern, coefficients=pattern.coefficients * _taper(pattern, cone)).normalized()


def _settle(stack: BeadStack, fit: BeadFit, pattern: Pattern, used: NDArray[np.bool_]) -> BeadStack:
    """Fix what the fit leaves open: median height zero, and a walk that is zero in focus and centres the pattern."""
    height = stack.height_um - np.median(stack.height_um[used])
    # A height beyond the pattern's planes means that the bead found no place; the verdict comes later.
    limit = 0.25 * float(np.ptp(stack.z_um))
    jitter = np.clip(np.median(fit.shift[used, :, :2], axis=0), -1, 1)
    jitter = jitter - np.median(jitter, axis=0)
    centre = _centres(pattern)
    at = (stack.z_um - pattern.z_first_um) / pattern.z_step_um
    drift = np.stack([np.interp(at, np.arange(len(centre)), centre[:, axis]) for axis in range(2)], axis=1)
    walk = stack.walk_px + jitter + np.clip(drift, -1, 1)
    # The planes next to focus together say where focus is: one plane alone has jitter of its own.
    focus = np.median(walk[np.argsort(np.abs(stack.z_um))[:_FOCUS_PLANES]], axis=0)
    return replace(
        stack,
        x_px=stack.x_px + focus[0],
        y_px=stack.y_px + focus[1],
        height_um=np.clip(height, -limit, limit),
        walk_px=walk - focus,
    )


def _centres(pattern: Pattern) -> F64:
    """Centre of mass of each plane of the pattern (x, y), pixels, shape (K, 2)."""
    half = pattern.coefficients.shape[1] // 2
    places = np.arange(-half, half + 1) / pattern.oversampling
    # The faint rim is mostly noise with a long lever: it is left out.
    bright = np.maximum(pattern.coefficients - 0.1 * pattern.coefficients.max(axis=(1, 2), keepdims=True), 0)
    total = np.maximum(bright.sum(axis=(1, 2), dtype=np.float64), 1e-12)
    x = np.einsum("kij,j->k", bright, places, dtype=np.float64) / total
    y = np.einsum("kij,i->k", bright, places, dtype=np.float64) / total
    return np.stack([x, y], axis=1)


def _bead_depths(stack: BeadStack, fit: BeadFit, used: NDArray[np.bool_], pixel_size_um: float) -> BeadDepths:
    """How the used beads appear beside the mean pattern: `fit` is that of `stack`."""
    apparent = stack.height_um[:, None] + stack.bend[:, :, 2] + fit.shift[:, :, 2]
    # A linear step that is longer than the pattern's own detail says nothing.
    step = float(np.diff(stack.z_um).mean())
    apparent = np.where(np.abs(fit.shift[:, :, 2]) < 10 * step, apparent, np.nan)[used]
    sideways = (stack.bend[:, :, :2] + fit.shift[:, :, :2])[used]
    sideways = (sideways - np.median(sideways, axis=0)) * pixel_size_um
    sideways = np.where(np.abs(sideways) < 10 * pixel_size_um, sideways, np.nan)
    x_um, y_um = stack.x_px[used] * pixel_size_um, stack.y_px[used] * pixel_size_um
    return BeadDepths(x_um, y_um, stack.z_um, apparent, sideways)


def _placed(bead: Bead, x_px: float, y_px: float) -> Bead:
    """A bead that was left out, where the pattern fits it, unless the fit went astray."""
    return replace(bead, x_px=x_px, y_px=y_px) if np.hypot(x_px - bead.x_px, y_px - bead.y_px) < _ASTRAY_PX else bead


def _bend(stack: BeadStack, mapped: FieldFit, pixel_size_um: float, wanted: tuple[float, float]) -> F64:
    """What the map adds at each bead and plane beyond the bead's height, shape (B, Z, 3): pixels, pixels, µm."""
    bend = np.zeros_like(stack.bend)
    field = mapped.field
    if field is None:
        return bend
    x_um, y_um = stack.x_px[:, None] * pixel_size_um, stack.y_px[:, None] * pixel_size_um
    z_um = stack.z_um[None, :]
    x_shift, y_shift = field.shift_at(x_um, y_um, z_um)
    middle = np.array([(field.z_um[0] + field.z_um[-1]) / 2])
    deeper = field.depth_error_at(x_um, y_um, z_um) - field.depth_error_at(x_um, y_um, middle)
    bend[:] = np.stack([x_shift / pixel_size_um, y_shift / pixel_size_um, deeper], axis=2)
    # The map says nothing of the other side of focus, so it is led to zero in between.
    nearest = min(field.z_um, key=abs)
    if wanted[0] >= 0 or wanted[1] <= 0:
        bend *= np.clip(stack.z_um / nearest, 0, 1)[None, :, None]
    return bend


def _focal_depth(pattern: Pattern) -> float:
    """Half of the depth at which the pattern has lost half of its concentration, µm."""
    concentration = (pattern.coefficients.astype(np.float64) ** 2).sum(axis=(1, 2))
    # The knots at the ends lie beyond the planes.
    inner = concentration[2:-2]
    z_um = pattern.z_um[2:-2]
    wide = np.abs(z_um - z_um[inner.argmax()])[inner < 0.5 * inner.max()]
    return max(float(wide.min()) / 2 if len(wide) else float(np.ptp(z_um)), pattern.z_step_um)


def _later_verdicts(beads: list[Bead], stack: BeadStack, fit: BeadFit, model: F32, variance: float) -> list[Bead]:
    """Leave out beads that are dim, moved, or unlike the others."""
    used = np.array([bead.used for bead in beads])
    energy = np.sqrt(np.einsum("bzij,bzij->bz", model, model, dtype=np.float64))
    snr = np.median(stack.light * energy / np.sqrt(variance + np.maximum(stack.background, 0) + 1e-12), axis=1)
    common = np.median(fit.shift[used, :, :2], axis=0)
    stray = np.sqrt(np.median(((fit.shift[:, :, :2] - common) ** 2).sum(axis=2), axis=1))
    usual_stray = float(np.median(stray[used]))
    misfit = np.median(fit.misfit, axis=1)
    centre = float(np.median(misfit[used]))
    spread = 1.4826 * float(np.median(np.abs(misfit[used] - centre)))
    limit = max(centre + _MISFIT_SIGMAS * spread, 1.5 * centre, 0.05)
    out = []
    for index, bead in enumerate(beads):
        reason = bead.reason
        if not reason:
            if snr[index] < _DIM_SNR:
                reason = f"dim: signal-to-noise {snr[index]:.1f}, at least {_DIM_SNR:.0f} is needed"
            elif stray[index] > max(_STRAY_PX, 5 * usual_stray):
                reason = f"moved: strays {stray[index]:.2f} px from the common walk, others {usual_stray:.2f}"
            elif misfit[index] > limit:
                reason = f"unlike the others: differs by {misfit[index]:.0%} of its signal, others by {centre:.0%}"
        out.append(replace(bead, reason=reason))
    return out


def _conclude(
    sweep: Sweep,
    planes: F32,
    kept: NDArray[np.intp],
    beads: list[Bead],
    stack: BeadStack,
    pattern: Pattern,
    fit: BeadFit,
    used: NDArray[np.bool_],
    cone: Cone,
    camera: CameraModel,
    curve: FocusCurve,
    focus: float,
    sign: int,
    axial_scale: float,
    wanted: tuple[float, float],
    notes: tuple[str, ...],
) -> Calibration:
    """Read off the fit what the calibration says."""
    pixel = sweep.pixel_size_um
    both_sides = wanted[0] < 0 < wanted[1]
    psf, focus_shift = _psf(pattern, stack, cone, pixel, refine=not curve.at_end, both_sides=both_sides)
    z_um = stack.z_um - focus_shift
    focus = focus + sign * focus_shift / axial_scale
    walk_um = stack.walk_px * pixel
    _check_walk(walk_um, z_um, pixel)

    inside = (z_um >= wanted[0]) & (z_um <= wanted[1]) & (cone.at(z_um) > 1.1 * cone.focus_px)
    if inside.sum() < 4:
        inside = (z_um >= wanted[0]) & (z_um <= wanted[1])
    step = abs(psf.z_step_um)
    extent = (sweep.shape[1] * pixel, sweep.shape[0] * pixel)
    depths = replace(_bead_depths(stack, fit, used, pixel), z_um=z_um)
    mapped = fit_field(depths, extent, wanted, _focal_depth(pattern))
    residual = np.where(inside[None, :], mapped.left_um - mapped.own_um[:, :1], np.nan)
    errors = _scatter(z_um, residual)
    rows = np.cumsum(used) - 1
    judged = tuple(
        replace(
            bead,
            x_px=float(stack.x_px[i]),
            y_px=float(stack.y_px[i]),
            height_um=float(mapped.height_um[rows[i]]),
            axial_scale=float(1 + mapped.own_um[rows[i], 1]),
            misfit=float(np.median(fit.misfit[i])),
            residual_um=float(errors[rows[i]]),
        )
        if bead.used
        else _placed(bead, float(stack.x_px[i]), float(stack.y_px[i]))
        for i, bead in enumerate(beads)
    )
    relative = stack.light[used] / np.median(stack.light[used], axis=1, keepdims=True)
    light = np.median(relative, axis=0)
    in_time = light[np.argsort(kept)]
    ends = max(len(light) // 10, 1)
    report: dict[str, Any] = {
        "beads_found": len(beads),
        "beads_used": int(used.sum()),
        "beads": [_bead_row(bead, pixel) for bead in judged],
        "oversampling": pattern.oversampling,
        "pattern_radius_px": {
            "in_focus": cone.focus_px,
            "per_um": cone.slope_px,
            "at_range_end": float(cone.at(max(map(abs, wanted)))),
        },
        "light_end_over_start": float(np.median(in_time[-ends:]) / np.median(in_time[:ends])),
        "walk_um": {"x": float(np.ptp(walk_um[:, 0])), "y": float(np.ptp(walk_um[:, 1]))},
        "field": mapped.report,
        "variation": {
            "height_um": _spread(mapped.own_um[:, 0]),
            "axial_scale": _spread(mapped.own_um[:, 1]),
            "near_um2": _spread(mapped.own_um[:, 2]),
            "focal_depth_um": _focal_depth(pattern),
        },
        "height_residual_um": float(np.nanmedian(errors)),
        "misfit": float(np.median(fit.misfit[used])),
        "noise_floor_e": camera.read_noise_e,
        "photons_median": float(np.median(stack.light[used])),
        "photons_range": [float(np.percentile(stack.light[used], q)) for q in (5, 95)],
        "background_e": float(np.median(stack.background[used])),
        "focus_at_end": curve.at_end,
        "notes": list(notes),
    }
    evidence = Evidence(
        planes[np.abs(z_um) <= max(2 * step, 0.05 * float(np.abs(z_um).max()))].max(axis=0)
        if (np.abs(z_um) <= 2 * step).any()
        else planes[int(np.abs(z_um).argmin())],
        judged,
        *_thumbnails(stack, z_um),
        curve,
        sweep.z_um[kept],
        z_um,
        light,
        walk_um,
        residual,
        notes,
    )
    return Calibration(
        id=new_id(),
        psf=psf,
        z_range_um=wanted,
        camera=camera,
        field=mapped.field,
        focus_um=focus,
        sweep_z_um=sweep.z_um,
        axial_scale=axial_scale,
        sign=sign,
        size_variation=_spread(mapped.own_um[:, 1]),
        report=report,
        evidence=evidence,
    )


def _psf(
    pattern: Pattern, stack: BeadStack, cone: Cone, pixel_size_um: float, *, refine: bool, both_sides: bool
) -> tuple[Psf, float]:
    """The pattern at its knots, as far as the sweep covers it; and by how much focus differs from depth zero, µm."""
    values = pattern.samples() * _taper(pattern, cone)
    step = pattern.z_step_um
    covered = (pattern.z_um >= stack.z_um.min() - 0.5 * step) & (pattern.z_um <= stack.z_um.max() + 0.5 * step)
    values, z_um = values[covered], pattern.z_um[covered]
    values = values * (pattern.oversampling**2 / values.sum(axis=(1, 2), keepdims=True))
    shift = 0.0
    concentration = (values.astype(np.float64) ** 2).sum(axis=(1, 2))
    best = int(concentration.argmax())
    if refine and 2 <= best < len(values) - 2:
        shift = _focus_of(z_um, concentration / concentration.max(), both_sides)
    # Beyond the widest pattern there is only taper.
    half = values.shape[1] // 2
    need = min(int(np.ceil((1.2 * float(cone.at(z_um).max()) + 2.5) * pattern.oversampling)), half)
    cut = slice(half - need, half + need + 1)
    return Psf(
        np.ascontiguousarray(values[:, cut, cut], np.float32), z_um - shift, pixel_size_um, pattern.oversampling
    ), shift


def _check_walk(walk_um: F64, z_um: F64, pixel_size_um: float) -> None:
    reach = float(np.hypot(np.ptp(walk_um[:, 0]), np.ptp(walk_um[:, 1])))
    limit = max(_WALK_SHARE * float(np.ptp(z_um)), 3 * pixel_size_um)
    jump = float(np.abs(np.diff(walk_um, axis=0)).max())
    if reach > limit or jump > _JUMP_PX * pixel_size_um:
        raise DataError(
            f"The object moved during the sweep: it walked {reach:.1f} µm sideways (at most {limit:.1f}), "
            f"with a largest jump of {jump:.1f} µm between planes (at most {_JUMP_PX * pixel_size_um:.1f}).",
            "Use beads that stick to the glass, let the drive settle, and sweep again.",
        )


def _scatter(z_um: F64, residual: F64) -> F64:
    """Robust scatter of each bead's depth residuals about their straight line, shape (B,)."""
    errors = np.full(len(residual), np.nan)
    for index, row in enumerate(residual):
        good = np.isfinite(row)
        if good.sum() < 4:
            continue
        slope, offset = np.polyfit(z_um[good], row[good], 1)
        rest = row[good] - offset - slope * z_um[good]
        errors[index] = 1.4826 * float(np.median(np.abs(rest - np.median(rest))))
    return errors


def _spread(values: F64) -> float:
    """Robust standard deviation over beads; 0 when there are too few to differ."""
    return 1.4826 * float(np.median(np.abs(values - np.median(values)))) if len(values) > 2 else 0.0


def _bead_row(bead: Bead, pixel_size_um: float) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "x_um": bead.x_px * pixel_size_um,
        "y_um": bead.y_px * pixel_size_um,
        "photons": number(bead.photons),
        "used": bead.used,
        "reason": bead.reason,
        "height_um": number(bead.height_um),
        "axial_scale": number(bead.axial_scale),
        "misfit": number(bead.misfit),
        "residual_um": number(bead.residual_um),
    }


def _thumbnails(stack: BeadStack, z_um: F64) -> tuple[F32, tuple[float, ...]]:
    chosen = [0, int(np.abs(z_um).argmin()), len(z_um) - 1]
    return stack.data[:, chosen].copy(), tuple(float(z_um[index]) for index in chosen)

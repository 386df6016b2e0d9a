"""From the joint fit of all beads to a calibration."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration.bead_rejection import at_fitted_position
from models.calibration.bead_stack import BeadStack
from models.calibration.beads import Bead, Cone
from models.calibration.calibration import Calibration
from models.calibration.depth_axis import DepthAxis
from models.calibration.evidence import Evidence
from models.calibration.field_fit import fit_field
from models.calibration.joint_pattern import JointPattern, bead_depths
from models.calibration.pattern import Pattern, focal_depth, taper
from models.calibration.pupil import ZERNIKES
from models.calibration.pupil_pattern import PupilPattern
from models.calibration.sweep import Sweep
from models.calibration.sweep_focus import KeptPlanes, SweepFocus, focus_of
from models.camera import CameraModel
from models.errors import DataError
from models.identity import new_id
from models.psf import Psf

__all__ = ["assemble_calibration"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# The object moved when the common drift exceeds this share of the length of the sweep, or jumps by this many pixels.
_WALK_SHARE = 0.25
_JUMP_PX = 1.5


def assemble_calibration(
    sweep: Sweep,
    kept: KeptPlanes,
    joint: JointPattern,
    cone: Cone,
    camera: CameraModel,
    first_focus: SweepFocus,
    axis: DepthAxis,
    wanted: tuple[float, float],
    notes: tuple[str, ...],
) -> Calibration:
    """Calibration from the joint fit of all beads.

    Parameters
    ----------
    sweep : Sweep
    kept : KeptPlanes
    joint : JointPattern
    cone : Cone
    camera : CameraModel
    first_focus : SweepFocus
    axis : DepthAxis
    wanted : (low, high)
        Depths of later localizations, µm.
    notes : tuple of str
        For the user.

    Raises
    ------
    DataError
        When the object moved during the sweep.
    """
    stack, pattern, fit, used = joint.stack, joint.pattern, joint.fit, joint.used
    pixel = sweep.pixel_size_um
    both_sides = wanted[0] < 0 < wanted[1]
    curve = first_focus.curve
    # An engineered pattern may be sharpest anywhere, so a stated focus is not refined.
    refine = not curve.at_end and not (first_focus.stated and both_sides)
    psf, focus_shift = _psf(pattern, stack, cone, pixel, refine=refine, both_sides=both_sides)
    z_um = stack.z_um - focus_shift
    walk_um = stack.walk_px * pixel
    _check_walk(walk_um, z_um, pixel)

    inside = (z_um >= wanted[0]) & (z_um <= wanted[1]) & (cone.at(z_um) > 1.1 * cone.focus_px)
    if inside.sum() < 4:
        inside = (z_um >= wanted[0]) & (z_um <= wanted[1])
    step = abs(psf.z_step_um)
    extent = (sweep.shape[1] * pixel, sweep.shape[0] * pixel)
    depths = replace(bead_depths(stack, fit, used, pixel), z_um=z_um)
    mapped = fit_field(depths, extent, wanted, focal_depth(pattern))
    # The pattern is that of the median bead; depth 0 of the map is the mean over the field.
    middle = 0.0 if not refine else float(np.median(mapped.own_um[:, 0]))
    z_um = z_um + middle
    focus = axis.stage(focus_shift - middle, first_focus.focus_um)
    residual = np.where(inside[None, :], mapped.left_um - mapped.own_um[:, :1], np.nan)
    errors = _scatter(z_um, residual)
    rows = np.cumsum(used) - 1
    beads = tuple(
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
        else at_fitted_position(bead, float(stack.x_px[i]), float(stack.y_px[i]))
        for i, bead in enumerate(joint.beads)
    )
    relative = stack.light[used] / np.median(stack.light[used], axis=1, keepdims=True)
    light = np.median(relative, axis=0)
    in_time = light[np.argsort(kept.numbers)]
    ends = max(len(light) // 10, 1)
    report: dict[str, Any] = {
        "beads_found": len(joint.beads),
        "beads_used": int(used.sum()),
        "beads": [_bead_row(bead, pixel) for bead in beads],
        "oversampling": pattern.oversampling,
        "pattern_radius_px": {
            "in_focus": cone.focus_px,
            "per_um": cone.slope_px,
            "at_range_end": float(cone.at(max(map(abs, wanted)))),
        },
        "light_end_over_start": float(np.median(in_time[-ends:]) / np.median(in_time[:ends])),
        "walk_um": {"x": float(np.ptp(walk_um[:, 0])), "y": float(np.ptp(walk_um[:, 1]))},
        "field": mapped.report,
        "pupil": None if joint.pupil_pattern is None else _pupil_row(joint.pupil_pattern),
        "variation": {
            "height_um": _spread(mapped.own_um[:, 0]),
            "axial_scale": _spread(mapped.own_um[:, 1]),
            "near_um2": _spread(mapped.own_um[:, 2]),
            "focal_depth_um": focal_depth(pattern),
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
        kept.planes[np.abs(z_um) <= max(2 * step, 0.05 * float(np.abs(z_um).max()))].max(axis=0)
        if (np.abs(z_um) <= 2 * step).any()
        else kept.planes[int(np.abs(z_um).argmin())],
        beads,
        *_thumbnails(stack, z_um),
        curve,
        sweep.z_um[kept.numbers],
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
        axial_scale=axis.axial_scale,
        sign=axis.sign,
        size_variation=_spread(mapped.own_um[:, 1]),
        report=report,
        evidence=evidence,
    )


def _psf(
    pattern: Pattern, stack: BeadStack, cone: Cone, pixel_size_um: float, *, refine: bool, both_sides: bool
) -> tuple[Psf, float]:
    """The pattern at the knots that the sweep covers, and the depth of the focus on them, µm."""
    # Noise in dark places may be negative; light is not.
    values = np.maximum(pattern.samples() * taper(pattern, cone), 0)
    step = pattern.z_step_um
    covered = (pattern.z_um >= stack.z_um.min() - 0.5 * step) & (pattern.z_um <= stack.z_um.max() + 0.5 * step)
    values, z_um = values[covered], pattern.z_um[covered]
    values = values * (pattern.oversampling**2 / values.sum(axis=(1, 2), keepdims=True))
    shift = 0.0
    concentration = (values.astype(np.float64) ** 2).sum(axis=(1, 2))
    best = int(concentration.argmax())
    if refine and 2 <= best < len(values) - 2:
        shift = focus_of(z_um, concentration / concentration.max(), both_sides)
    # Beyond the widest pattern the taper is 0.
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
            f"The object moved during the sweep: it drifted {reach:.1f} µm sideways (at most {limit:.1f}), "
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
    """Robust standard deviation over beads; 0 for fewer than three."""
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


def _pupil_row(fitted: PupilPattern) -> dict[str, Any]:
    pupil = fitted.pupil
    names = [f"Z{n}{m:+d}" if m else f"Z{n}0" for n, m in ZERNIKES]
    # The scale of the pupil's pattern is arbitrary: light is a parameter of the beads.
    scale = np.einsum("kij,kij->k", fitted.residual, fitted.computed) / np.einsum(
        "kij,kij->k", fitted.computed, fitted.computed
    )
    rest, prior = (
        np.einsum("kij,kij->k", part, part, dtype=np.float64)
        for part in (fitted.residual - scale[:, None, None] * fitted.computed, fitted.computed)
    )
    return {
        "sine": pupil.sine,
        "wavelength_um": 1 / pupil.waves_per_um,
        "bead_um": pupil.bead_um,
        "waves": dict(zip(names, pupil.zernike_waves, strict=True)),
        "unexplained": float(np.sqrt(np.median(rest / prior))),
    }


def _thumbnails(stack: BeadStack, z_um: F64) -> tuple[F32, tuple[float, ...]]:
    chosen = [0, int(np.abs(z_um).argmin()), len(z_um) - 1]
    return stack.data[:, chosen].copy(), tuple(float(z_um[index]) for index in chosen)

"""Joint fit of one pattern to all beads.

Positions, heights and light of the beads, the lateral drift, the field map and
the pattern are fitted alternately, in rounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.alignment import fit_planes, pattern_weights, refine_beads, solve_pattern
from models.calibration.bead_cutouts import cut_beads, first_light
from models.calibration.bead_rejection import reject_after_fit, require_beads
from models.calibration.bead_stack import BeadFit, BeadStack, subtract_neighbours
from models.calibration.beads import Bead, Cone
from models.calibration.field_fit import BeadDepths, FieldFit, fit_field
from models.calibration.pattern import Pattern, bright_centres, empty_pattern, focal_depth, trimmed
from models.calibration.pupil_pattern import (
    PupilPattern,
    centred,
    first_pupil_pattern,
    halved_pattern,
    refine_pupil_pattern,
)

__all__ = ["JointPattern", "bead_depths", "fit_joint_pattern"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Progress = Callable[[float, str], None]

# Two samples per pixel in each direction need this many beads: two for each of the four sub-pixel phases.
_BEADS_FOR_OVERSAMPLING = 8
# Planes nearest to focus that define the lateral position of a bead in focus.
_FOCUS_PLANES = 7
# Rounds of alignment and fit; heights converge to a hundredth of a step within these.
_ROUNDS = 7
# Rounds with a spline only, before a pupil is fitted.
_SPLINE_ROUNDS = 2


@dataclass(frozen=True)
class JointPattern:
    """Result of the joint fit of all beads.

    Attributes
    ----------
    beads : list of Bead
        Accepted and rejected ones.
    stack : BeadStack
        Cut-outs of all beads, neighbours subtracted, with the fitted positions.
    pattern : Pattern
    fit : BeadFit
        Fit of every bead at every plane with that pattern.
    used : ndarray of bool, shape (B,)
        Accepted beads.
    pupil_pattern : PupilPattern or None
        The pupil and the residual that make up the pattern; None when no pupil fits.
    """

    beads: list[Bead]
    stack: BeadStack
    pattern: Pattern
    fit: BeadFit
    used: NDArray[np.bool_]
    pupil_pattern: PupilPattern | None


def fit_joint_pattern(
    planes: F32,
    z_um: F64,
    beads: list[Bead],
    cone: Cone,
    variance: float,
    pixel_size_um: float,
    wanted: tuple[float, float],
    report: Progress,
) -> JointPattern:
    """Fit one pattern to all beads.

    Parameters
    ----------
    planes : ndarray of float32, shape (Z, H, W)
        Photo-electrons.
    z_um : ndarray of float64, shape (Z,)
        Depths of the planes from about focus, increasing.
    beads : list of Bead
        All candidates, after `reject_before_fit`.
    cone : Cone
        Radius of the patterns by depth.
    variance : float
        Camera noise of a pixel in a plane, photo-electrons squared.
    pixel_size_um : float
    wanted : (low, high)
        Depths of later localizations, µm.
    report : callable
        Progress.

    Raises
    ------
    DataError
        When all beads are rejected.
    """
    used = np.array([bead.used for bead in beads])
    stack, data, apart = cut_beads(planes, z_um, beads, cone)
    stack = first_light(stack, beads, used, apart, cone)
    oversampling = 2 if used.sum() >= _BEADS_FOR_OVERSAMPLING else 1
    pattern = empty_pattern(z_um, stack.width, oversampling)
    flat = np.where(used[:, None], 1.0, 0.0) * np.ones_like(stack.light)
    pattern = trimmed(solve_pattern(replace(stack, seen=apart), pattern, flat, 3, from_scratch=True), cone)
    fit: BeadFit | None = None
    pupil_pattern: PupilPattern | None = None
    for index in range(_ROUNDS):
        report(0.2 + 0.7 * index / _ROUNDS, "aligning")
        model = stack.model(pattern)
        stack = subtract_neighbours(stack, model, data)
        weight, place = pattern_weights(stack, fit, variance, used, model)
        before = stack
        stack, fit = refine_beads(stack, pattern, place, heights=index >= 1)
        stack = _settle(stack, fit, None if pupil_pattern else pattern, used)
        if index >= 2:
            beads = reject_after_fit(beads, stack, fit, model, variance)
            used = np.array([bead.used for bead in beads])
            require_beads(beads)
            depths = bead_depths(before, fit, used, pixel_size_um)
            extent_um = (planes.shape[2] * pixel_size_um, planes.shape[1] * pixel_size_um)
            mapped = fit_field(depths, extent_um, wanted, focal_depth(pattern))
            stack = replace(stack, bend=_bend(stack, mapped, pixel_size_um, wanted))
        weight, _ = pattern_weights(stack, fit, variance, used, model)
        if pupil_pattern is not None:
            pupil_pattern = refine_pupil_pattern(pupil_pattern, stack, weight, cone, pixel_size_um)
        elif index == _SPLINE_ROUNDS:
            pupil_pattern = first_pupil_pattern(pattern, stack.z_um, cone, pixel_size_um)
        if pupil_pattern is not None:
            pattern = pupil_pattern.pattern()
        elif index < _ROUNDS - 1:
            pattern = trimmed(solve_pattern(stack, pattern, weight, 4), cone)
        else:
            pattern = halved_pattern(stack, pattern, weight, 12, cone)
    if pupil_pattern is not None:
        pattern, centre = centred(pupil_pattern, pixel_size_um)
        stack = _from_focus(stack, _at_planes(centre, stack, pattern))
    model = stack.model(pattern)
    stack = subtract_neighbours(stack, model, data)
    fit, _, _ = fit_planes(stack, pattern)
    return JointPattern(beads, stack, pattern, fit, used, pupil_pattern)


def _settle(stack: BeadStack, fit: BeadFit, pattern: Pattern | None, used: NDArray[np.bool_]) -> BeadStack:
    """Fix the degrees of freedom of the fit: median height 0; drift 0 in focus, and such that it centres `pattern`."""
    height = stack.height_um - np.median(stack.height_um[used])
    # A height beyond the planes of the pattern means a failed fit; such a bead is rejected later.
    limit = 0.25 * float(np.ptp(stack.z_um))
    jitter = np.clip(np.median(fit.shift[used, :, :2], axis=0), -1, 1)
    jitter = jitter - np.median(jitter, axis=0)
    drift = jitter if pattern is None else jitter + np.clip(_at_planes(bright_centres(pattern), stack, pattern), -1, 1)
    return _from_focus(replace(stack, height_um=np.clip(height, -limit, limit)), drift)


def _at_planes(centre_px: F64, stack: BeadStack, pattern: Pattern) -> F64:
    """Centres (K, 2) of a pattern's planes at the planes of the sweep, shape (Z, 2)."""
    columns = [np.interp(stack.z_um, pattern.z_um, column) for column in centre_px.T]
    return np.stack(columns, axis=1)


def _from_focus(stack: BeadStack, drift_px: F64) -> BeadStack:
    """The stack with `drift_px` (Z, 2) added to its drift, and positions such that the drift is 0 in focus."""
    walk = stack.walk_px + drift_px
    # The planes next to focus together say where focus is: one plane alone has jitter of its own.
    focus = np.median(walk[np.argsort(np.abs(stack.z_um))[:_FOCUS_PLANES]], axis=0)
    return replace(
        stack,
        x_px=stack.x_px + focus[0],
        y_px=stack.y_px + focus[1],
        walk_px=walk - focus,
    )


def bead_depths(stack: BeadStack, fit: BeadFit, used: NDArray[np.bool_], pixel_size_um: float) -> BeadDepths:
    """Depths and lateral shifts of the accepted beads relative to the mean pattern; `fit` is that of `stack`."""
    apparent = stack.height_um[:, None] + stack.bend[:, :, 2] + fit.shift[:, :, 2]
    # A linear step that is longer than the detail of the pattern is invalid.
    step = float(np.diff(stack.z_um).mean())
    apparent = np.where(np.abs(fit.shift[:, :, 2]) < 10 * step, apparent, np.nan)[used]
    sideways = (stack.bend[:, :, :2] + fit.shift[:, :, :2])[used]
    sideways = (sideways - np.median(sideways, axis=0)) * pixel_size_um
    sideways = np.where(np.abs(sideways) < 10 * pixel_size_um, sideways, np.nan)
    x_um, y_um = stack.x_px[used] * pixel_size_um, stack.y_px[used] * pixel_size_um
    return BeadDepths(x_um, y_um, stack.z_um, apparent, sideways)


def _bend(stack: BeadStack, mapped: FieldFit, pixel_size_um: float, wanted: tuple[float, float]) -> F64:
    """Shift by the field map at each bead and plane, without the bead's height, shape (B, Z, 3): pixels, pixels, µm."""
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
    # The map is not valid on the other side of focus; it decreases to 0 at focus.
    nearest = min(field.z_um, key=abs)
    if wanted[0] >= 0 or wanted[1] <= 0:
        bend *= np.clip(stack.z_um / nearest, 0, 1)[None, :, None]
    return bend

"""One pattern through all beads: positions, heights, light, walk, the field's part and the pattern, in turn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.alignment import fit_planes, pattern_weights, refine_beads, solve_pattern
from models.calibration.bead_cutouts import cut_beads, first_light
from models.calibration.bead_rejection import later_verdicts, require_beads
from models.calibration.bead_stack import BeadFit, BeadStack, subtract_neighbours
from models.calibration.beads import Bead, Cone
from models.calibration.field_fit import BeadDepths, FieldFit, fit_field
from models.calibration.pattern import Pattern, bright_centres, empty_pattern, focal_depth, trimmed
from models.calibration.pupil_pattern import Explanation, centred, explain, explain_better, halved_pattern

__all__ = ["Joined", "bead_depths", "join_beads"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Progress = Callable[[float, str], None]

# Beads that give two samples per pixel in each direction enough equations: two for each of the four sub-pixel phases.
_BEADS_FOR_OVERSAMPLING = 8
# Planes nearest to focus that define where a bead is in focus.
_FOCUS_PLANES = 7
# Turns of aligning and joining; heights settle to a hundredth of a step within these.
_ROUNDS = 7
# Turns with a mere spline, before a pupil is looked for.
_SPLINE_ROUNDS = 2


@dataclass(frozen=True)
class Joined:
    """What the beads say together.

    Attributes
    ----------
    beads : list of Bead
        With their verdicts.
    stack : BeadStack
        Cut-outs of all beads, neighbours subtracted, and where the beads are.
    pattern : Pattern
    fit : BeadFit
        Of every bead at every plane with that pattern.
    used : ndarray of bool, shape (B,)
    known : Explanation or None
        The pupil behind the pattern; None where none explains it.
    """

    beads: list[Bead]
    stack: BeadStack
    pattern: Pattern
    fit: BeadFit
    used: NDArray[np.bool_]
    known: Explanation | None


def join_beads(
    planes: F32,
    z_um: F64,
    beads: list[Bead],
    cone: Cone,
    variance: float,
    pixel_size_um: float,
    wanted: tuple[float, float],
    tell: Progress,
) -> Joined:
    """One pattern through all beads: positions, heights, light, walk, the field's part and the pattern, in turn.

    Parameters
    ----------
    planes : ndarray of float32, shape (Z, H, W)
        Photo-electrons.
    z_um : ndarray of float64, shape (Z,)
        Depths of the planes from about focus, increasing.
    beads : list of Bead
        All that were found, with first verdicts.
    cone : Cone
        How wide patterns are.
    variance : float
        Of the camera's noise in a pixel of a plane, photo-electrons².
    pixel_size_um : float
    wanted : (low, high)
        Depths to be told apart later, µm.
    tell : callable
        Progress.

    Raises
    ------
    DataError
        When no bead is left.
    """
    used = np.array([bead.used for bead in beads])
    stack, data, apart = cut_beads(planes, z_um, beads, cone)
    stack = first_light(stack, beads, used, apart, cone)
    oversampling = 2 if used.sum() >= _BEADS_FOR_OVERSAMPLING else 1
    pattern = empty_pattern(z_um, stack.width, oversampling)
    flat = np.where(used[:, None], 1.0, 0.0) * np.ones_like(stack.light)
    pattern = trimmed(solve_pattern(replace(stack, seen=apart), pattern, flat, 3, from_scratch=True), cone)
    fit: BeadFit | None = None
    known: Explanation | None = None
    for index in range(_ROUNDS):
        tell(0.2 + 0.7 * index / _ROUNDS, "aligning")
        model = stack.model(pattern)
        stack = subtract_neighbours(stack, model, data)
        weight, place = pattern_weights(stack, fit, variance, used, model)
        before = stack
        stack, fit = refine_beads(stack, pattern, place, heights=index >= 1)
        stack = _settle(stack, fit, None if known else pattern, used)
        if index >= 2:
            beads = later_verdicts(beads, stack, fit, model, variance)
            used = np.array([bead.used for bead in beads])
            require_beads(beads)
            depths = bead_depths(before, fit, used, pixel_size_um)
            extent_um = (planes.shape[2] * pixel_size_um, planes.shape[1] * pixel_size_um)
            mapped = fit_field(depths, extent_um, wanted, focal_depth(pattern))
            stack = replace(stack, bend=_bend(stack, mapped, pixel_size_um, wanted))
        weight, _ = pattern_weights(stack, fit, variance, used, model)
        if known is not None:
            known = explain_better(known, stack, weight, cone, pixel_size_um)
        elif index == _SPLINE_ROUNDS:
            known = explain(pattern, stack.z_um, cone, pixel_size_um)
        if known is not None:
            pattern = known.pattern()
        elif index < _ROUNDS - 1:
            pattern = trimmed(solve_pattern(stack, pattern, weight, 4), cone)
        else:
            pattern = halved_pattern(stack, pattern, weight, 12, cone)
    if known is not None:
        pattern, centre = centred(known, pixel_size_um)
        stack = _from_focus(stack, _at_planes(centre, stack, pattern))
    model = stack.model(pattern)
    stack = subtract_neighbours(stack, model, data)
    fit, _, _ = fit_planes(stack, pattern)
    return Joined(beads, stack, pattern, fit, used, known)


def _settle(stack: BeadStack, fit: BeadFit, pattern: Pattern | None, used: NDArray[np.bool_]) -> BeadStack:
    """Fix what the fit leaves open: median height zero, and a walk that is zero in focus and centres `pattern`."""
    height = stack.height_um - np.median(stack.height_um[used])
    # A height beyond the pattern's planes means that the bead found no place; the verdict comes later.
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
    """The stack with `drift_px` (Z, 2) added to its walk, and places such that the walk is zero in focus."""
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

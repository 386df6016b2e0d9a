"""The pattern as the sum of a pupil's computed pattern and a residual, both fitted to the beads.

A spline through the beads is unbiased, but it contains the noise of the beads,
and its interpolation is wrong between planes that are half a period of the rings
apart. Where a pupil (see `pupil`) fits the spline, its computed pattern replaces
it. The residual of the beads is then small and smooth in depth, which a spline
interpolates well. Two halves of the beads have the same residual and different
noise, by which the noise is removed (see `shrinkage`). Without a pupil that fits,
the pattern is a spline alone.

While a pupil is fitted, the lateral position of the pattern is that of the
optics: with coma it changes with depth. Other lateral drift is that of the
drive. `centred` reiterations to a pattern that is centred at every depth.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.alignment import solve_pattern
from models.calibration.bead_stack import BeadStack
from models.calibration.beads import Cone
from models.calibration.pattern import Pattern, taper
from models.calibration.pupil import Pupil, render_pupil
from models.calibration.pupil_fit import MeasuredPlane, fit_pupil
from models.calibration.pupil_secant import Round, next_start
from models.calibration.shrinkage import shrunk_mean
from models.psf import plane_centres

__all__ = ["PupilPattern", "centred", "first_pupil_pattern", "halved_pattern", "refine_pupil_pattern"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_EXPLAINED = 0.35
"""A pupil is used when the median over the planes of the RMS difference, over the RMS of the plane, is below this; for
a uniform disc of the right width it is about 0.5."""

_LADDER = 1.4
"""Ratio of the depths of the planes that a pupil is fitted to."""

_RUNGS = 11
_PLANES_PER_PERIOD = 4.7
"""Planes to the shortest axial period: cubic interpolation between them then errs by 0.1 %."""

_ITERATIONS = 3
"""Steps of the conjugate gradient for the residual; it is mostly noise, which more steps would amplify."""


@dataclass(frozen=True)
class PupilPattern:
    """A pupil, its pattern, and the residual of the beads.

    Attributes
    ----------
    pupil : Pupil
    computed : ndarray of float32, shape (K, N, N)
        The pupil's pattern at the knots.
    residual : ndarray of float32, shape (K, N, N)
        Pattern of the beads minus `computed`, with the noise removed.
    z_um : ndarray of float64, shape (K,)
        Depths of the knots, µm.
    oversampling : int
        Knots per camera pixel.
    round : Round or None
        Round that led to the pupil; None for the first guess.
    """

    pupil: Pupil
    computed: F32
    residual: F32
    z_um: F64
    oversampling: int
    round: Round | None = None

    def pattern(self) -> Pattern:
        """The sum of both as a spline."""
        return Pattern.of_samples(self.computed + self.residual, self.z_um, self.oversampling)


def first_pupil_pattern(pattern: Pattern, z_um: F64, cone: Cone, pixel_um: float) -> PupilPattern | None:
    """First guess of the pupil, from a pattern and the depths `z_um` of the sweep; None when no pupil fits.

    A pattern that does not grow with depth gives no first guess of the aperture.
    """
    if cone.slope_px <= 0:
        return None
    planes = _measured(pattern.samples(), pattern.z_um, z_um, cone, pattern.oversampling)
    step_um = pixel_um / pattern.oversampling
    fit = fit_pupil(planes, step_um, pixel_um, cone.slope_px * pixel_um)
    if float(np.median(fit.misfit)) > _EXPLAINED:
        return None
    finer = max(int(np.ceil(pattern.z_step_um * _PLANES_PER_PERIOD / fit.pupil.axial_period_um)), 1)
    count = (len(pattern.z_um) - 1) * finer + 1
    knots: F64 = pattern.z_first_um + pattern.z_step_um / finer * np.arange(count, dtype=np.float64)
    half = pattern.coefficients.shape[1] // 2
    prior = _rendered(fit.pupil, knots, half, pixel_um, pattern.oversampling)
    return PupilPattern(fit.pupil, prior, np.zeros_like(prior), knots, pattern.oversampling)


def refine_pupil_pattern(
    known: PupilPattern, stack: BeadStack, weights: F64, cone: Cone, pixel_um: float
) -> PupilPattern:
    """Fit the pupil and the residual again, to beads that were aligned with the pattern of the round before.

    Parameters
    ----------
    known : PupilPattern
        Of the round before.
    stack : BeadStack
        Neighbours subtracted.
    weights : ndarray of float64, shape (B, Z)
        Weight of each bead at each plane; 0 leaves it out.
    """
    prior = Pattern.of_samples(known.computed, known.z_um, known.oversampling)
    left = stack.data - stack.light[:, :, None, None].astype(np.float32) * stack.model(prior)
    empty = replace(prior, coefficients=np.zeros_like(prior.coefficients))
    halves = _halves(replace(stack, data=left), empty, weights, _ITERATIONS)
    together = np.asarray(known.computed + (halves[0] + halves[1]) / 2, np.float32)
    planes = _measured(together, known.z_um, stack.z_um, cone, known.oversampling)
    fit = fit_pupil(planes, pixel_um / known.oversampling, pixel_um, 0.0, start=known.pupil)
    last = Round(known.pupil, fit.pupil)
    pupil = next_start(known.round, last)
    now = _rendered(pupil, known.z_um, prior.coefficients.shape[1] // 2, pixel_um, known.oversampling)
    moved = known.computed - now
    inside = taper(prior, cone)
    rest = shrunk_mean((halves[0] + moved) * inside, (halves[1] + moved) * inside)
    return PupilPattern(pupil, now, rest, known.z_um, known.oversampling, last)


def halved_pattern(stack: BeadStack, pattern: Pattern, weights: F64, iterations: int, cone: Cone) -> Pattern:
    """The pattern without a pupil, from two halves of the beads, with the noise removed."""
    inside = taper(pattern, cone)
    first, second = (half * inside for half in _halves(stack, pattern, weights, iterations))
    return Pattern.of_samples(shrunk_mean(first, second), pattern.z_um, pattern.oversampling)


def _halves(stack: BeadStack, start: Pattern, weights: F64, iterations: int) -> tuple[F32, F32]:
    """Patterns of every second bead and of the others, at the knots; a single bead gives the same pattern twice."""
    used = np.flatnonzero((weights > 0).any(axis=1))
    samples = []
    for rows in (used[::2], used[1::2] if len(used) > 1 else used):
        chosen = np.zeros_like(weights)
        chosen[rows] = weights[rows]
        samples.append(solve_pattern(stack, start, chosen, iterations, from_scratch=True).samples())
    return samples[0], samples[1]


def centred(known: PupilPattern, pixel_um: float) -> tuple[Pattern, F64]:
    """The pattern centred at every depth, and the centres (x, y) that it had before, pixels, (K, 2)."""
    centre = plane_centres(known.computed + known.residual) / known.oversampling
    half = known.computed.shape[1] // 2
    prior = _rendered(known.pupil, known.z_um, half, pixel_um, known.oversampling, centre * pixel_um)
    rest = np.stack(
        [
            ndimage.shift(plane, -known.oversampling * at[::-1], order=3, mode="constant")
            for plane, at in zip(known.residual, centre, strict=True)
        ]
    )
    return Pattern.of_samples(prior + rest, known.z_um, known.oversampling), centre


def _rendered(
    pupil: Pupil, z_um: F64, half: int, pixel_um: float, oversampling: int, centre_um: F64 | None = None
) -> F32:
    places = np.zeros((len(z_um), 2)) if centre_um is None else centre_um
    return np.stack(
        [
            render_pupil(pupil, float(z), half, pixel_um / oversampling, pixel_um, (-float(x), -float(y)))
            for z, (x, y) in zip(z_um, places, strict=True)
        ]
    )


def _measured(samples: F32, knots_um: F64, seen_um: F64, cone: Cone, oversampling: int) -> list[MeasuredPlane]:
    """Planes on both sides of focus within the sweep, closer to each other near focus."""
    rungs = float(np.abs(seen_um).max()) * _LADDER ** -np.arange(_RUNGS, dtype=np.float64)
    asked = np.concatenate([-rungs, [0.0], rungs])
    asked = asked[(asked >= seen_um.min() - 1e-6) & (asked <= seen_um.max() + 1e-6)]
    chosen = np.unique([int(np.abs(knots_um - z).argmin()) for z in asked])
    middle = samples.shape[1] // 2
    planes = []
    for index in chosen:
        half = min(int(np.ceil((1.1 * float(cone.at(knots_um[index])) + 1) * oversampling)), middle)
        cut = slice(middle - half, middle + half + 1)
        planes.append(MeasuredPlane(float(knots_um[index]), samples[index, cut, cut]))
    return planes

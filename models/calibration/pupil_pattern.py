"""The pattern as a pupil's pattern and what is left of it, both learned from the beads.

A spline through the beads is right on average, but it has the beads' noise,
and between planes that lie as far apart as half a turn of the rings it
guesses. A pupil (see `pupil`) that explains the spline takes its place: what
is then still in the beads is small and smooth in depth, so that a spline holds
it well, and what two halves of the beads do not agree on is noise (see
`shrinkage`). The sum is the pattern. The better the pupil, the less is left to
the spline; without one the spline holds all.

While a pupil is fitted, the sideways place of the pattern is the optics' own:
coma makes it walk with depth as it does in truth, and the rest of the walk is
the drive's. `centred` goes back to patterns that are centred at every depth.
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
from models.calibration.pupil_secant import Turn, next_start
from models.calibration.shrinkage import shrunk_mean
from models.psf import plane_centres

__all__ = ["Explanation", "centred", "explain", "explain_better", "halved_pattern"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

_EXPLAINED = 0.35
"""A pupil is used when half of the planes differ from it by less than this share of their light (root mean square);
a mere disc of the right width differs by about 0.5."""

_LADDER = 1.4
"""Ratio of the depths of the planes that a pupil is fitted to."""

_RUNGS = 11
_PLANES_PER_PERIOD = 4.7
"""Planes to the shortest axial period: cubic interpolation between them then errs by 0.1 %."""

_TURNS = 3
"""Steps of the conjugate gradient for what is left: mostly noise, which more of them would sharpen."""


@dataclass(frozen=True)
class Explanation:
    """A pattern and the pupil behind it.

    Attributes
    ----------
    pupil : Pupil
    prior : ndarray of float32, shape (K, N, N)
        The pupil's pattern at the knots.
    rest : ndarray of float32, shape (K, N, N)
        What the beads show beside it, without noise.
    z_um : ndarray of float64, shape (K,)
        Depths of the knots.
    oversampling : int
    turn : Turn or None
        That led to the pupil; None for the first guess.
    """

    pupil: Pupil
    prior: F32
    rest: F32
    z_um: F64
    oversampling: int
    turn: Turn | None = None

    def pattern(self) -> Pattern:
        """The sum of both as a spline."""
        return Pattern.of_samples(self.prior + self.rest, self.z_um, self.oversampling)


def explain(pattern: Pattern, z_um: F64, cone: Cone, pixel_um: float) -> Explanation | None:
    """First guess of the pupil from a pattern whose planes `z_um` were seen; None where none explains it.

    A pattern that does not grow with depth has no aperture to begin with.
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
    return Explanation(fit.pupil, prior, np.zeros_like(prior), knots, pattern.oversampling)


def explain_better(known: Explanation, stack: BeadStack, weights: F64, cone: Cone, pixel_um: float) -> Explanation:
    """The pupil and the rest once more, from beads `stack` that were aligned with the pattern known so far.

    Parameters
    ----------
    known : Explanation
    stack : BeadStack
        Neighbours subtracted.
    weights : ndarray of float64, shape (B, Z)
        Weight of each bead at each plane; 0 leaves it out.
    """
    prior = Pattern.of_samples(known.prior, known.z_um, known.oversampling)
    left = stack.data - stack.light[:, :, None, None].astype(np.float32) * stack.model(prior)
    empty = replace(prior, coefficients=np.zeros_like(prior.coefficients))
    halves = _halves(replace(stack, data=left), empty, weights, _TURNS)
    together = np.asarray(known.prior + (halves[0] + halves[1]) / 2, np.float32)
    planes = _measured(together, known.z_um, stack.z_um, cone, known.oversampling)
    fit = fit_pupil(planes, pixel_um / known.oversampling, pixel_um, 0.0, start=known.pupil)
    turn = Turn(known.pupil, fit.pupil)
    pupil = next_start(known.turn, turn)
    now = _rendered(pupil, known.z_um, prior.coefficients.shape[1] // 2, pixel_um, known.oversampling)
    moved = known.prior - now
    inside = taper(prior, cone)
    rest = shrunk_mean((halves[0] + moved) * inside, (halves[1] + moved) * inside)
    return Explanation(pupil, now, rest, known.z_um, known.oversampling, turn)


def halved_pattern(stack: BeadStack, pattern: Pattern, weights: F64, turns: int, cone: Cone) -> Pattern:
    """The pattern that two halves of the beads agree on, without any pupil."""
    inside = taper(pattern, cone)
    first, second = (half * inside for half in _halves(stack, pattern, weights, turns))
    return Pattern.of_samples(shrunk_mean(first, second), pattern.z_um, pattern.oversampling)


def _halves(stack: BeadStack, start: Pattern, weights: F64, turns: int) -> tuple[F32, F32]:
    """Samples of the patterns of every other bead and of the rest; of one bead, twice the same."""
    used = np.flatnonzero((weights > 0).any(axis=1))
    samples = []
    for rows in (used[::2], used[1::2] if len(used) > 1 else used):
        chosen = np.zeros_like(weights)
        chosen[rows] = weights[rows]
        samples.append(solve_pattern(stack, start, chosen, turns, from_scratch=True).samples())
    return samples[0], samples[1]


def centred(known: Explanation, pixel_um: float) -> tuple[Pattern, F64]:
    """The pattern with its centre on the axis at every depth, and where the centres were (x, y), pixels, (K, 2)."""
    centre = plane_centres(known.prior + known.rest) / known.oversampling
    half = known.prior.shape[1] // 2
    prior = _rendered(known.pupil, known.z_um, half, pixel_um, known.oversampling, centre * pixel_um)
    rest = np.stack(
        [
            ndimage.shift(plane, -known.oversampling * at[::-1], order=3, mode="constant")
            for plane, at in zip(known.rest, centre, strict=True)
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
    """Planes on both sides of focus, denser near it, as far as the sweep reaches."""
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

"""Motions of emitters in simulated scenes: the truth for localizations and tracks.

A motion gives the positions of all emitters at a time t. Motions that are
functions of time (directed, wandering, flow without diffusion) take times in
any order. Brownian motion has memory: its times must not decrease, but steps
may have any length without changing the statistics. Motions with random parts
are seeded: equal seeds give equal motions.

A periodic beat on a vessel's Poiseuille profile is the simplest flow with the
difficulties of tracking in vivo: neighbouring particles with different speeds,
and an acceleration that all share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from models.errors import DataError

__all__ = ["Brownian", "Directed", "Motion", "PulsatileFlow", "Wandering", "reflect", "wandering"]

Array = NDArray[np.float64]
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


class Motion(Protocol):
    """Positions of a set of emitters as a function of time."""

    def positions(self, time_s: float) -> Array:
        """Positions of all emitters at `time_s`; float64, shape (N, 3), µm."""


def reflect(xyz_um: Array, box_um: Box) -> Array:
    """Fold positions, shape (N, 3), back into a box with reflecting walls ((x low, x high), (y …), (z …))."""
    low, high = _corners(box_um)
    width = high - low
    folded: Array = low + width - np.abs((xyz_um - low) % (2 * width) - width)
    return folded


class Directed:
    """Straight lines at constant velocity, reflected by the walls of a box when there is one.

    Parameters
    ----------
    start_um : ndarray, shape (N, 3)
        Positions at time 0, µm.
    velocity_um_s : ndarray, shape (N, 3) or (3,)
        Velocities, µm/s.
    box_um : Box, optional
        Reflecting walls.
    """

    def __init__(self, start_um: NDArray[Any], velocity_um_s: NDArray[Any], box_um: Box | None = None) -> None:
        self._start = _positions(start_um)
        self._velocity = np.broadcast_to(np.asarray(velocity_um_s, np.float64), self._start.shape)
        self._box = box_um

    def positions(self, time_s: float) -> Array:
        """Positions at any time, shape (N, 3), µm."""
        free = self._start + self._velocity * time_s
        return free if self._box is None else reflect(free, self._box)


class Brownian:
    """Free diffusion, optionally carried along, optionally confined by reflecting walls.

    Parameters
    ----------
    start_um : ndarray, shape (N, 3)
        Positions at time 0, µm.
    diffusion_um2_s : float
        Diffusion coefficient: the mean square step along an axis in time t is 2 D t. A 1-µm bead in water at
        20 °C has 0.43 µm²/s (Stokes and Einstein).
    seed : int
        Seed of the steps.
    drift_um_s : ndarray, shape (3,), optional
        Common velocity, µm/s.
    box_um : Box, optional
        Reflecting walls.
    """

    def __init__(
        self,
        start_um: NDArray[Any],
        diffusion_um2_s: float,
        seed: int,
        drift_um_s: NDArray[Any] | None = None,
        box_um: Box | None = None,
    ) -> None:
        if not 0 <= diffusion_um2_s < np.inf:
            raise DataError(
                f"The diffusion coefficient is {diffusion_um2_s} µm²/s; it must be finite and not negative.",
                "Give it in µm²/s.",
            )
        self._now = _positions(start_um)
        self._time_s = 0.0
        self._diffusion = diffusion_um2_s
        self._drift = np.zeros(3) if drift_um_s is None else np.asarray(drift_um_s, np.float64)
        self._box = box_um
        self._random = np.random.default_rng(seed)

    def positions(self, time_s: float) -> Array:
        """Positions at a time not before that of the last call, shape (N, 3), µm."""
        step_s = time_s - self._time_s
        if not step_s >= 0:
            raise DataError(
                f"Brownian positions were requested at {time_s} s after {self._time_s} s; times must not decrease.",
                "Request positions in order of time.",
            )
        if step_s > 0:
            self._time_s = time_s
            kick = self._random.normal(0.0, np.sqrt(2 * self._diffusion * step_s), self._now.shape)
            free = self._now + self._drift * step_s + kick
            self._now = free if self._box is None else reflect(free, self._box)
        return self._now.copy()


class PulsatileFlow:
    """Particles carried through a curved vessel by a beating Poiseuille flow.

    The centreline is a cubic spline through given points, parametrized by its
    length. A particle stays on its streamline: at distance r from the
    centreline it moves along it with the speed

        v(r, t) = peak (1 - r²/R²) (1 + A sin 2πft).

    A particle that leaves at the end enters again at the beginning, so their
    number is constant.

    Parameters
    ----------
    centreline_um : ndarray, shape (K, 3), K at least 2
        Points along the vessel, µm.
    radius_um : float
        Radius R of the vessel, µm.
    emitters : int
        Number of particles, uniform in the vessel.
    seed : int
        Seed of their positions.
    peak_um_s : float
        Mean speed on the centreline, µm/s.
    beat_hz : float
        Frequency f of the beat; 2 to 3 Hz in the young zebrafish.
    pulsation : float
        Relative amplitude A; above 1 the flow turns back for a part of each beat.
    """

    # Samples per centreline from which its length and direction are interpolated.
    _SAMPLES = 512

    def __init__(
        self,
        centreline_um: NDArray[Any],
        radius_um: float,
        emitters: int,
        seed: int,
        peak_um_s: float = 500.0,
        beat_hz: float = 2.5,
        pulsation: float = 0.8,
    ) -> None:
        points = _positions(centreline_um)
        spans = np.linalg.norm(np.diff(points, axis=0), axis=1)
        if len(points) < 2 or (spans == 0).any() or not 0 < radius_um < np.inf:
            raise DataError(
                f"A vessel of radius {radius_um} µm through {len(points)} points was given; the radius must be "
                "positive, and there must be at least two points, no two neighbours equal.",
                "Correct the vessel.",
            )
        curve = CubicSpline(np.concatenate([[0.0], np.cumsum(spans)]), points)
        knots = np.linspace(0, spans.sum(), self._SAMPLES)
        samples = curve(knots)
        self._along = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(samples, axis=0), axis=1))])
        self._centre = CubicSpline(self._along, samples)
        self._sideways = CubicSpline(self._along, _parallel_transport_normals(self._centre(self._along, 1)))
        random = np.random.default_rng(seed)
        # Uniform over the cross-section: the square of the radius is uniform.
        self._radial = radius_um * np.sqrt(random.random(emitters))
        self._angle = random.uniform(0, 2 * np.pi, emitters)
        self._start = random.uniform(0, self._along[-1], emitters)
        self._speed = peak_um_s * (1 - (self._radial / radius_um) ** 2)
        self._beat = 2 * np.pi * beat_hz
        self._pulsation = pulsation

    @property
    def length_um(self) -> float:
        """Length of the centreline, µm."""
        return float(self._along[-1])

    def positions(self, time_s: float) -> Array:
        """Positions at any time, shape (N, 3), µm."""
        # The integral of 1 + A sin 2πft from 0.
        beats = time_s + (self._pulsation * (1 - np.cos(self._beat * time_s)) / self._beat if self._beat else 0.0)
        place = (self._start + self._speed * beats) % self._along[-1]
        tangent = self._centre(place, 1)
        tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
        first = self._sideways(place)
        first -= (first * tangent).sum(axis=1, keepdims=True) * tangent
        first /= np.linalg.norm(first, axis=1, keepdims=True)
        second = np.cross(tangent, first)
        across = np.cos(self._angle)[:, None] * first + np.sin(self._angle)[:, None] * second
        where: Array = self._centre(place) + self._radial[:, None] * across
        return where


@dataclass(frozen=True)
class Wandering:
    """Smooth bounded motion inside a box: along each axis a sum of three sinusoids.

    Attributes
    ----------
    centre_um : ndarray of float64, shape (N, 3)
        Mean position of each emitter, µm.
    amplitude_um : ndarray of float64, shape (3, N, 3)
        Amplitude of each sinusoid, µm.
    angular_hz : ndarray of float64, shape (3, N, 3)
        Angular frequencies, rad/s; their ratios are not rational, so that the paths do not close.
    phase : ndarray of float64, shape (3, N, 3)
        Phases at time 0, rad.
    """

    centre_um: Array
    amplitude_um: Array
    angular_hz: Array
    phase: Array

    def positions(self, time_s: float) -> Array:
        """Positions at any time, shape (N, 3), µm."""
        waves = self.amplitude_um * np.sin(self.angular_hz * time_s + self.phase)
        where: Array = self.centre_um + waves.sum(axis=0)
        return where


def wandering(emitters: int, box_um: Box, seed: int, speed_um_s: float = 30.0) -> Wandering:
    """Emitters that wander through a box and never leave it.

    Parameters
    ----------
    emitters : int
        Their number.
    box_um : Box
        ((x low, x high), (y low, y high), (z low, z high)), µm.
    seed : int
        Seed of positions, amplitudes, frequencies and phases.
    speed_um_s : float
        Root of the mean squared speed, µm/s, of all emitters together.

    Returns
    -------
    Wandering
    """
    low, high = _corners(box_um)
    random = np.random.default_rng(seed)
    # The amplitude takes at most half of the range; the centre lies in the rest.
    reach = random.uniform(0.15, 0.5, (emitters, 3)) * (high - low)
    centre = low + reach + random.random((emitters, 3)) * (high - low - 2 * reach)
    shares = random.dirichlet((4.0, 2.0, 1.0), (emitters, 3))
    amplitude = np.moveaxis(shares, -1, 0) * reach
    # Powers of the golden ratio are badly approximated by fractions, so the paths do not close.
    golden = (1 + np.sqrt(5)) / 2
    angular = golden ** np.arange(3)[:, None, None] * random.uniform(0.7, 1.3, (1, emitters, 3))
    mean_square = (amplitude**2 * angular**2 / 2).sum(axis=(0, 2)).mean() if emitters else 1.0
    angular = angular * (speed_um_s / np.sqrt(mean_square))
    return Wandering(centre, amplitude, angular, random.uniform(0, 2 * np.pi, (3, emitters, 3)))


def _parallel_transport_normals(tangents: Array) -> Array:
    """A unit normal at each sample that turns no more than the curve makes it (parallel transport)."""
    unit = tangents / np.linalg.norm(tangents, axis=1, keepdims=True)
    start = np.eye(3)[np.argmin(np.abs(unit[0]))]
    normals = [start]
    for tangent in unit:
        carried = normals[-1] - (normals[-1] @ tangent) * tangent
        normals.append(carried / np.linalg.norm(carried))
    return np.array(normals[1:])


def _corners(box_um: Box) -> tuple[Array, Array]:
    low, high = np.asarray(box_um, np.float64).T
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (high > low).all()):
        raise DataError(f"The box {box_um} was given; its bounds must be finite and increase.", "Correct the box.")
    return low, high


def _positions(xyz_um: NDArray[Any]) -> Array:
    xyz = np.array(xyz_um, np.float64)
    if xyz.ndim != 2 or xyz.shape[1] != 3 or not np.isfinite(xyz).all():
        raise DataError(f"Positions of shape {xyz.shape} were given; they are (N, 3) and finite.", "Correct them.")
    return xyz

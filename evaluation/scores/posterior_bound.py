"""Posterior Cramér-Rao bound of the positions of moving emitters: what all frames together hold.

Each emitter moves by a linear model, and each frame adds the Fisher information
of its joint fit. The information matrix of all emitters together follows the
recursion of Tichavský, Muravchik and Nehorai (IEEE Transactions on Signal
Processing 46, 1386, 1998, equation 21), which for linear motion is

    J(k+1) = (Q + F J(k)⁻¹ Fᵀ)⁻¹ + H(k+1),

with F the motion, Q its noise and H the information of a frame. The bound of
the frames until then is the inverse of J(k). That of all frames is the
smoothed covariance of Rauch, Tung and Striebel (AIAA Journal 3, 1445, 1965),
which depends on nothing else.

The number of emitters and their identity are known to the bound, and so is the
motion model. The information is taken at the true positions of one movie and
not averaged over paths.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

__all__ = ["MotionModel", "PosteriorBound", "brownian_model", "directed_model", "posterior_bound"]

F64 = NDArray[np.float64]

_AXES = 3
_MEASURED = 4
"""x, y, z and relative intensity: what a frame has information on."""

_PRIOR_POSITION_UM = 30.0
"""That of a uniform distribution over 100 µm is 29 µm."""

_PRIOR_INTENSITY = 1.0
_INTENSITY_STEP = 0.01
"""Relative change of an emitter's intensity from frame to frame; the light of a movie is steady."""


@dataclass(frozen=True, slots=True)
class MotionModel:
    """Linear motion of one emitter from frame to frame.

    The state begins with x, y, z (µm) and the relative intensity.

    Attributes
    ----------
    transition : ndarray of float64, shape (S, S)
        State of the next frame from that of this one.
    noise : ndarray of float64, shape (S, S)
        Covariance that a step adds.
    prior : ndarray of float64, shape (S, S)
        Covariance before the first frame.
    """

    transition: F64
    noise: F64
    prior: F64


@dataclass(frozen=True, slots=True)
class PosteriorBound:
    """Least standard deviations of the positions.

    Attributes
    ----------
    filtered_um : ndarray of float64, shape (T, N, 3)
        From the frames until then.
    smoothed_um : ndarray of float64, shape (T, N, 3)
        From all frames.
    """

    filtered_um: F64
    smoothed_um: F64


def brownian_model(diffusion_um2_s: float, frame_s: float) -> MotionModel:
    """Free diffusion: a variance of 2 D t along each axis."""
    step = 2 * diffusion_um2_s * frame_s
    return MotionModel(
        np.eye(_MEASURED),
        np.diag([step] * _AXES + [_INTENSITY_STEP**2]),
        np.diag([_PRIOR_POSITION_UM**2] * _AXES + [_PRIOR_INTENSITY**2]),
    )


def directed_model(speed_um_s: float, acceleration_um2_s3: float, frame_s: float) -> MotionModel:
    """Constant velocity of unknown direction, disturbed by white acceleration.

    Parameters
    ----------
    speed_um_s : float
        The velocity along each axis has the prior standard deviation speed / √3.
    acceleration_um2_s3 : float
        Spectral density of the acceleration.
    frame_s : float
    """
    size = _MEASURED + _AXES
    transition, noise = np.eye(size), np.zeros((size, size))
    for axis in range(_AXES):
        both = np.array([axis, _MEASURED + axis])
        transition[axis, _MEASURED + axis] = frame_s
        noise[np.ix_(both, both)] = acceleration_um2_s3 * np.array(
            [[frame_s**3 / 3, frame_s**2 / 2], [frame_s**2 / 2, frame_s]]
        )
    noise[_AXES, _AXES] = _INTENSITY_STEP**2
    prior = [_PRIOR_POSITION_UM**2] * _AXES + [_PRIOR_INTENSITY**2] + [speed_um_s**2 / 3] * _AXES
    return MotionModel(transition, noise, np.diag(prior))


def posterior_bound(information: Sequence[F64], model: MotionModel) -> PosteriorBound:
    """Bound of all emitters in all frames.

    Parameters
    ----------
    information : sequence of T ndarrays of float64, shape (4 N, 4 N)
        Fisher matrix of each frame for x, y, z (µm) and relative intensity of each emitter, in the same order in all
        frames; 0 for an emitter that is not seen.
    model : MotionModel

    Returns
    -------
    PosteriorBound

    Raises
    ------
    DataError
        When frames have different numbers of emitters.
    """
    sizes = {matrix.shape for matrix in information}
    if len(sizes) != 1:
        raise DataError(
            f"Fisher matrices of {len(sizes)} different shapes were given; all frames have the same emitters.",
            "Give one matrix (4 N, 4 N) for each frame.",
        )
    states = len(model.prior)
    emitters = len(information[0]) // _MEASURED
    whole = _Blocks(emitters, states)
    transition, noise = whole.of_each(model.transition), whole.of_each(model.noise)
    predicted, filtered = [whole.of_each(model.prior)], []
    for matrix in information:
        # (P⁻¹ + H)⁻¹ without the inverse of P, which may be singular.
        gained = np.linalg.solve(np.eye(len(predicted[-1])) + predicted[-1] @ whole.measured(matrix), predicted[-1])
        filtered.append((gained + gained.T) / 2)
        predicted.append(transition @ filtered[-1] @ transition.T + noise)
    smoothed = [filtered[-1]]
    for now, ahead in zip(filtered[-2::-1], predicted[-2:0:-1], strict=True):
        gain = np.linalg.solve(ahead, transition @ now).T
        smoothed.append(now + gain @ (smoothed[-1] - ahead) @ gain.T)
    return PosteriorBound(whole.position_sigmas(filtered), whole.position_sigmas(smoothed[::-1]))


@dataclass(frozen=True, slots=True)
class _Blocks:
    """Places of the states of N emitters in the matrices of all."""

    emitters: int
    states: int

    def of_each(self, matrix: F64) -> F64:
        """The same matrix for each emitter, independent of the others."""
        whole: F64 = np.asarray(np.kron(np.eye(self.emitters), matrix), np.float64)
        return whole

    def measured(self, information: F64) -> F64:
        """Information of a frame on all states."""
        at = (self.states * np.arange(self.emitters)[:, None] + np.arange(_MEASURED)).ravel()
        full = np.zeros((self.emitters * self.states,) * 2)
        full[np.ix_(at, at)] = information
        return full

    def position_sigmas(self, covariances: Sequence[F64]) -> F64:
        """Standard deviations of x, y, z, shape (T, N, 3)."""
        variances = np.array([np.diagonal(each).reshape(self.emitters, self.states) for each in covariances])
        sigmas: F64 = np.sqrt(np.maximum(variances[..., :_AXES], 0.0))
        return sigmas

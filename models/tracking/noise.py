"""Process noise of a run, estimated while the localizations come.

The bank has five motion models. Their noise is the length of a random step (or
of a change of the step, for directed models) between two frames, so that the
same bank fits any frame rate. After each frame the lengths move along the
gradient of the likelihood of the innovations, divided by the Fisher
information so far (natural gradient; Mehra, IEEE Transactions on Automatic
Control 15, 175, 1970, for innovations as the measure of the noise). Each
innovation counts for each model with the probability of the model. The shares
of the models are the mean probabilities of the models over sure tracks.

What is special about one track is in the probabilities of its models: they
weight the five noises for this track alone.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.tracking.motion_models import Bank, Gaussians

__all__ = ["ProcessNoise"]

F64 = NDArray[np.float64]

_DIRECTED = np.array([False, False, False, True, True])

_START_STEPS = np.array([0.05, 0.2, 0.7, 0.02, 0.5])
"""Stationary, diffusive twice, directed twice; in units of the expected displacement between frames."""

_LEAST_STEPS = np.array([0.05, 0.1, 0.3, 0.003, 0.1])
_MOST_STEPS = np.array([0.05, 0.4, 5.0, 0.1, 3.0])
"""Limits of the estimates, which keep the five models apart."""

_BIRTH_SPEEDS = np.array([1.0, 1.0, 1.0, 1.0, 6.0])
"""Standard deviation of the velocity of a new track, in units of the expected displacement per frame."""

_FORGOTTEN_SPEED = 0.6
"""The same of a velocity that a model without velocity has forgotten."""

_SENSITIVITY = np.where(_DIRECTED, 0.25, 0.5)
"""Exponent with which the predicted variance grows with the variance of the process noise in the steady state, where
the errors are large beside the steps: P² = QR of a random walk, and P⁴ = QR³ of a velocity that changes."""

_LEAST_SHARE = 0.02
_PRIOR_INFORMATION = 2.0
"""Of the start about the logarithm of a variance: a standard deviation of 0.7, or a factor of 1.4 of a step."""

_MEMORY_NOISE, _MEMORY_SHARES = 3000.0, 5000.0
"""Innovations after which an old one counts 1/e."""


class ProcessNoise:
    """Step lengths and shares of the motion models of a run.

    Parameters
    ----------
    step_um : float
        Expected displacement between frames, µm: the scale of all lengths before there are data.
    adapt : bool
        Whether lengths are estimated; shares always are.

    Attributes
    ----------
    frame_s : float
        Time between frames, s: a running mean.
    shares : ndarray of float64, shape (M,)
        Probability of each model after a change of model.
    """

    flow_model = 3
    """The directed model that begins with the velocity of the neighbours."""

    def __init__(self, step_um: float, adapt: bool) -> None:
        self._scale_um = step_um
        self._adapt = adapt
        self._steps_um = _START_STEPS * step_um
        self._gradient_information = np.zeros(len(_DIRECTED))
        self._occupied = np.full(len(_DIRECTED), 20.0)
        self.shares: F64 = np.full(len(_DIRECTED), 1 / len(_DIRECTED))
        self.frame_s = 0.01
        self._timed = False

    def __len__(self) -> int:
        return len(_DIRECTED)

    @property
    def steps_um(self) -> F64:
        """Length of a random step of each model between two frames, shape (M,), µm."""
        return self._steps_um.copy()

    def time(self, step_s: float, frames: int) -> None:
        """Take the time between two frames whose numbers differ by `frames`."""
        each = step_s / frames
        self.frame_s = self.frame_s + 0.05 * (each - self.frame_s) if self._timed else each
        self._timed = True

    def bank(self) -> Bank:
        """The motion models with the noise of now."""
        frame_s, steps = self.frame_s, self._steps_um
        return Bank(
            diffusion_um2_s=np.where(_DIRECTED, 0.0, steps**2 / (2 * frame_s)),
            acceleration_um2_s3=np.where(_DIRECTED, (steps / frame_s) ** 2 / frame_s, 0.0),
            directed=_DIRECTED,
            memory_s=2 * frame_s,
            speed_um_s=_FORGOTTEN_SPEED * self._scale_um / frame_s,
        )

    def birth_speeds_um_s(self) -> F64:
        """Standard deviation of the velocity of a new track under each model, shape (M,), µm/s."""
        return _BIRTH_SPEEDS * self._scale_um / self.frame_s

    def birth_shares(self) -> F64:
        """Probability of each model for a new track, shape (M,)."""
        return 0.5 * self.shares + 0.5 / len(_DIRECTED)

    def learn(self, gaussians: Gaussians, after: F64, measured_um: F64, variance_um2: F64) -> None:
        """Take the innovations of sure tracks.

        Parameters
        ----------
        gaussians : ndarray, shape (5, M, 3, N)
            Predictions.
        after : ndarray of float64, shape (M, N)
            Probabilities of the models after the measurement.
        measured_um, variance_um2 : ndarray of float64, shape (3, N)
        """
        count = after.shape[1]
        if count == 0:
            return
        self._occupied = self._occupied * np.exp(-count / _MEMORY_SHARES) + after.sum(axis=1)
        share = self._occupied / self._occupied.sum()
        self.shares = _LEAST_SHARE + (1 - _LEAST_SHARE * len(share)) * share
        if not self._adapt:
            return
        arrays = (np.ascontiguousarray(part) for part in (gaussians, after, measured_um, variance_um2))
        gradient, information = _slopes(*arrays)
        gradient, information = _SENSITIVITY * gradient, _SENSITIVITY**2 * information
        self._gradient_information = self._gradient_information * np.exp(-count / _MEMORY_NOISE) + information
        change = gradient / (self._gradient_information + _PRIOR_INFORMATION)
        steps = self._steps_um * np.exp(0.5 * change)
        self._steps_um = np.clip(steps, _LEAST_STEPS * self._scale_um, _MOST_STEPS * self._scale_um)


@numba.njit(cache=True, nogil=True)
def _slopes(gaussians: Any, after: Any, measured: Any, variance: Any) -> Any:
    """Gradient of the log-likelihood by the logarithm of the predicted variance, and its information, (M,) each."""
    _, models, axes, count = gaussians.shape
    gradient, information = np.zeros(models), np.zeros(models)
    for m in range(models):
        for axis in range(axes):
            for n in range(count):
                innovation = gaussians[2, m, axis, n] + variance[axis, n]
                away = measured[axis, n] - gaussians[0, m, axis, n]
                # An outlier of many sigmas is another motion or a wrong assignment, not noise: its weight is limited.
                excess = min(away * away / innovation - 1, 8.0)
                # Derivative of log S by the logarithm of the predicted variance.
                slope = gaussians[2, m, axis, n] / innovation
                gradient[m] += 0.5 * after[m, n] * slope * excess
                information[m] += 0.5 * after[m, n] * slope * slope
    return gradient, information

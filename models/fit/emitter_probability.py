"""Probability of each emitter from the network's probability and the fit.

Neither is sufficient alone. At few photons the network has learned the
appearance of noise; at many photons the fit is better, but in a crowd it
explains an inexact neighbour by a faint emitter beside it that is as
significant as a real one. The log odds are a weighted sum of three regressors:

- the logarithm of the significance: the amplitude over its standard deviation.
  The variance is that of noise times the local chi2, plus the light that
  neighbours may cause by PSF model errors. Without the latter, errors of the
  calibration would give every bright emitter faint companions;
- the logarithm of the amplitude over the standard deviation of noise alone:
  for bright emitters with many neighbours the first is small for true and
  false ones, and this separates them;
- the network's log odds.

Weights come from a logistic regression on frames with known truth
(docs/refinement.md), so the result is a probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.pattern_spline import ENERGY, PatternSpline

__all__ = ["EmitterProbability", "log_odds", "probability"]

Array = NDArray[np.float64]

# Logistic regression: constant, log significance, the network's log odds, log of the amplitude over its noise.
_WEIGHTS = (-5.8, 2.2, 0.6, 1.6)
_STRONG = 100.0
"""Significance and amplitude over noise are clipped to this."""
_NOISE_ALONE = 4.0
"""The amplitude over noise is clipped to so many times the squared significance: where neighbours may cause all of it,
its size is no evidence."""
_NOT_PROPOSED = -2.0
"""Log odds of emitters without a network detection: below most detections."""
_LEAST_SIGNIFICANCE = 0.1
_FALL_OFF_POWER = 3
"""Power of the distance with which light falls off outside a pattern, as for any sharp aperture."""
_SAME_PLACE = 1e-6
_CLIP = 1e-3
"""Probabilities are clipped to [0.001, 0.999] before taking log odds."""


def log_odds(probability: Array) -> Array:
    """Log odds of clipped probabilities."""
    inside = np.clip(probability, _CLIP, 1 - _CLIP)
    odds: Array = np.log(inside / (1 - inside))
    return odds


def probability(odds: Array) -> Array:
    """Probabilities of log odds."""
    value: Array = 1 / (1 + np.exp(-odds))
    return value


class EmitterProbability:
    """Probabilities of the emitters of one fit, or of a subset, by logistic regression.

    Parameters
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x and y (pixels), z (µm), photons.
    spline : PatternSpline
        For the radii of the patterns.
    network : ndarray of float64, shape (N,)
        Log odds of the network; NaN for emitters that it did not detect.
    misfit : ndarray of float64, shape (N,)
        Chi2 of each pattern; below 1 it counts as 1.
    overlap : ndarray of float64, shape (N, N)
        Photons that the emitter of the row takes for each photon of the column's emitter missing in the model.
    pattern_error : ndarray of float64, shape (N,)
        PSF model error of each, as a share of its light.
    """

    def __init__(
        self,
        emitters: Array,
        spline: PatternSpline,
        network: Array,
        misfit: Array,
        overlap: Array,
        pattern_error: Array,
    ) -> None:
        radius = spline.radius_at_px(emitters[:, 2])
        self._network = network
        self._misfit = np.maximum(misfit, 1.0)
        inside = overlap * pattern_error[None, :]
        # The light outside the crop of a pattern is spread over the area around it and falls off with distance.
        area = np.minimum((radius[:, None] / radius[None, :]) ** 2, 1.0)
        apart = np.hypot(*(emitters[:, None, :2] - emitters[None, :, :2]).transpose(2, 0, 1))
        reach = (radius[:, None] + radius[None, :]) / np.maximum(apart, _SAME_PLACE)
        outside = (1 - ENERGY) * area * np.minimum(reach, 1.0) ** _FALL_OFF_POWER
        self._spill = np.where(spline.touching(emitters), np.maximum(inside, outside), outside)
        np.fill_diagonal(self._spill, 0.0)

    @classmethod
    def of(cls, fit: JointFit, spline: PatternSpline, network: Array) -> EmitterProbability:
        """Estimator for the emitters of a fit; `network`: log odds, shape (N,), as above."""
        return cls(fit.emitters, spline, network, fit.chi2, fit.overlap, fit.pattern_error)

    def log_odds(self, photons: Array, variance: Array, alive: NDArray[np.bool_] | None = None) -> Array:
        """Log odds of each, shape (N,), if only the emitters `alive` exist; undefined for the others.

        Parameters
        ----------
        photons, variance : ndarray of float64, shape (N,)
            Amplitudes and their variances.
        alive : ndarray of bool, shape (N,), optional
        """
        odds: Array = self.regressors(photons, variance, alive) @ np.array(_WEIGHTS)
        return odds

    def spilled(self, photons: Array) -> Array:
        """Variance of the photons of each emitter by PSF model errors of its neighbours, shape (N,)."""
        variance: Array = (self._spill**2) @ np.maximum(photons, 0.0) ** 2
        return variance

    def regressors(self, photons: Array, variance: Array, alive: NDArray[np.bool_] | None = None) -> Array:
        """Regressors of each emitter, in the order of the weights; shape (N, 4)."""
        light = np.maximum(photons if alive is None else np.where(alive, photons, 0.0), 0.0)
        spilled = self.spilled(light)
        noise = variance * self._misfit
        significance = np.maximum(photons, 0.0) / np.sqrt(noise + spilled)
        over_noise = np.minimum(np.maximum(photons, 0.0) / np.sqrt(noise), _NOISE_ALONE * significance**2)
        return np.column_stack(
            [
                np.ones(len(photons)),
                np.log(np.clip(significance, _LEAST_SIGNIFICANCE, _STRONG)),
                np.where(np.isnan(self._network), _NOT_PROPOSED, self._network),
                np.log(np.clip(over_noise, _LEAST_SIGNIFICANCE, _STRONG)),
            ]
        )

    def prune(self, photons: Array, covariance: Array, least: float, most: int) -> tuple[NDArray[np.bool_], Array]:
        """Remove the least probable emitters one by one until all are probable enough.

        The change of the other emitters' photons is predicted from the covariance, so that one fit serves several
        removals: overlapping emitters get brighter and their variance falls.

        Parameters
        ----------
        photons : ndarray of float64, shape (N,)
        covariance : ndarray of float64, shape (N, N)
            Of the photons.
        least : float
            Log odds that an emitter needs to stay.
        most : int
            Largest number of removals; the prediction is linear and fails beyond.

        Returns
        -------
        alive : ndarray of bool, shape (N,)
        photons : ndarray of float64, shape (N,)
            Predicted photons after the removals.
        """
        photons, covariance = photons.copy(), covariance.copy()
        alive = np.ones(len(photons), bool)
        for _ in range(min(most, len(photons))):
            variance = np.where(alive, np.diagonal(covariance), 1.0)
            odds = np.where(alive, self.log_odds(photons, np.maximum(variance, 1e-9), alive), np.inf)
            weakest = int(odds.argmin())
            if odds[weakest] >= least:
                break
            shared = covariance[:, weakest] / max(covariance[weakest, weakest], 1e-9)
            photons -= shared * photons[weakest]
            covariance -= np.outer(shared, covariance[weakest])
            alive[weakest] = False
        return alive, photons

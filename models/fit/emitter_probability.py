"""Is it an emitter? What the network believed and what the fit found, in one probability.

Neither knows enough alone. Where photons are few the network has seen what
noise looks like; where they are many the fit has, but in a crowd it explains
a neighbour that is a little off with a faint emitter beside it, as
significant as real ones. So the log odds are a weighted sum of few things:

- the amplitude in its standard deviations: those of noise, times the root of
  the misfit where its light lies, for what cannot be explained makes nothing
  significant, and what neighbours may put there because their patterns are
  known to a few per cent only. Without the latter every bright emitter has
  companions that explain the errors of its calibration;
- the amplitude in standard deviations of that noise alone: where light is
  plenty and neighbours many, the first is small for all, and this tells them
  apart;
- the network's log odds.

Weights come from a logistic regression on frames whose truth is known
(docs/refinement.md says which), so the result is a probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.pattern_spline import ENERGY, PatternSpline

__all__ = ["EmitterProbability", "log_odds", "probability"]

Array = NDArray[np.float64]

# Of the regression: constant, log of the significance, the network's log odds, log of the amplitude over its noise.
_WEIGHTS = (-5.8, 2.2, 0.6, 1.6)
_STRONG = 100.0
"""Significance, and amplitude over noise, beyond which more of it tells nothing more."""
_NOISE_ALONE = 4.0
"""The amplitude over noise counts up to so many times the squared significance: where neighbours may have put all of it
there, that it is plenty says nothing."""
_NOT_PROPOSED = -2.0
"""Log odds of what the network never proposed: less than most of what it does."""
_LEAST_SIGNIFICANCE = 0.1
_FALL_OFF_POWER = 3
"""Power of the distance with which light falls off beyond the rim of a pattern, as that of any sharp aperture does."""
_SAME_PLACE = 1e-6
_CLIP = 1e-3
"""Network probabilities nearer to 0 or 1 are taken for this far from them."""


def log_odds(probability: Array) -> Array:
    """Of a probability, kept finite."""
    inside = np.clip(probability, _CLIP, 1 - _CLIP)
    odds: Array = np.log(inside / (1 - inside))
    return odds


def probability(odds: Array) -> Array:
    """Of log odds."""
    value: Array = 1 / (1 + np.exp(-odds))
    return value


class EmitterProbability:
    """Log odds of the emitters of one fit, for any part of them.

    Parameters
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x and y (pixels), z (µm), photons.
    spline : PatternSpline
        Tells how far patterns reach.
    network : ndarray of float64, shape (N,)
        Log odds of the network; NaN where it proposed nothing.
    misfit : ndarray of float64, shape (N,)
        Chi2 of each pattern; below 1 it counts as 1.
    overlap : ndarray of float64, shape (N, N)
        Photons that the emitter of the row would take of a photon of the column that the model lacks.
    pattern_error : ndarray of float64, shape (N,)
        Share of its light by which the pattern of each is wrong.
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
        # What lies outside the crop of a pattern is spread over the area around it, and thins out.
        area = np.minimum((radius[:, None] / radius[None, :]) ** 2, 1.0)
        apart = np.hypot(*(emitters[:, None, :2] - emitters[None, :, :2]).transpose(2, 0, 1))
        reach = (radius[:, None] + radius[None, :]) / np.maximum(apart, _SAME_PLACE)
        outside = (1 - ENERGY) * area * np.minimum(reach, 1.0) ** _FALL_OFF_POWER
        self._spill = np.where(spline.touching(emitters), np.maximum(inside, outside), outside)
        np.fill_diagonal(self._spill, 0.0)

    @classmethod
    def of(cls, fit: JointFit, spline: PatternSpline, network: Array) -> EmitterProbability:
        """That of the emitters of a fit with this pattern, (N,) log odds of the network as above."""
        return cls(fit.emitters, spline, network, fit.chi2, fit.overlap, fit.pattern_error)

    def log_odds(self, photons: Array, variance: Array, alive: NDArray[np.bool_] | None = None) -> Array:
        """Log odds of each, shape (N,), when only those `alive` are there; meaningless for the others.

        Parameters
        ----------
        photons, variance : ndarray of float64, shape (N,)
            Amplitudes and their variances.
        alive : ndarray of bool, shape (N,), optional
        """
        odds: Array = self.regressors(photons, variance, alive) @ np.array(_WEIGHTS)
        return odds

    def regressors(self, photons: Array, variance: Array, alive: NDArray[np.bool_] | None = None) -> Array:
        """What is weighed, one row for each, in the order of the weights; shape (N, 4)."""
        light = np.maximum(photons if alive is None else np.where(alive, photons, 0.0), 0.0)
        doubted = (self._spill**2) @ light**2
        noise = variance * self._misfit
        significance = np.maximum(photons, 0.0) / np.sqrt(noise + doubted)
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
        """Take away the least plausible, one after the other, until all are plausible enough.

        What a removal does to the light of the others is foretold from their covariance, so that one fit serves many
        removals: those that shared its light get brighter and surer.

        Parameters
        ----------
        photons : ndarray of float64, shape (N,)
        covariance : ndarray of float64, shape (N, N)
            Of the photons.
        least : float
            Log odds that an emitter needs to stay.
        most : int
            Removals; beyond them the foretelling is no longer trusted.

        Returns
        -------
        alive : ndarray of bool, shape (N,)
        photons : ndarray of float64, shape (N,)
            As they are expected to be afterwards.
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

"""Measured position of each emitter in one image without its prior, and the evidence for its existence.

The fit combines the image with the prior. The prior is removed again along
each axis: of Gaussians, the information of the image is that of the posterior
minus that of the prior, and likewise for means times information. The result
still depends on the priors of the neighbours.

The likelihood ratio of the image with and without an emitter is that of
Bayesian model choice, by Laplace's approximation: the gain of log-likelihood
at the maximum, minus the cost of moving away from the mean of the prior, minus
the logarithm of how much the image reduced the standard deviations (the Occam
factor; MacKay, Neural Computation 4, 415, 1992). Without the emitter, all
neighbours may take its light.

Errors of the PSF model count as noise: of the emitter itself (chi2) and of the
light of its neighbours (`models.fit.emitter_probability`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.fit.emitter_probability import EmitterProbability
from models.fit.prior_fit import PriorFit
from models.fit.table import LOOKS_LIKE_A_MOVE
from models.pattern_spline import PatternSpline

__all__ = ["ImageEvidence"]

F64 = NDArray[np.float64]

_LARGEST_PATTERN_ERROR = 0.05
"""As in models.fit.joint_fit."""

_LEAST_INFORMATION = 1e-9
_MOST_RATIO, _MOST_AGAINST = 6.0, 6.0
"""Most evidence of one image for and against an emitter, in log odds: errors of the model repeat in the next images."""


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """Measurements of N emitters in one image, without their priors.

    Attributes
    ----------
    measured, variance : ndarray of float64, shape (N, 3)
        x, y (pixels), z (µm), and their variances, without the prior.
    log_ratio : ndarray of float64, shape (N,)
        Log-likelihood ratio of the image with and without the emitter.
    significance : ndarray of float64, shape (N,)
        Photons by the image alone, in their standard deviations.
    first_log_odds : ndarray of float64, shape (N,)
        Of existence, for emitters without a track: from the fit and the localizer.
    chi2 : ndarray of float64, shape (N,)
        Misfit of each pattern, at least 1.
    """

    measured: F64
    variance: F64
    log_ratio: F64
    significance: F64
    first_log_odds: F64
    chi2: F64

    @classmethod
    def of(cls, fit: PriorFit, spline: PatternSpline, network: F64) -> Self:
        """Evidence of a fit.

        Parameters
        ----------
        fit : PriorFit
        spline : PatternSpline
            On camera pixels.
        network : ndarray of float64, shape (N,)
            Log odds of the localizer; NaN for emitters that it did not find.
        """
        prior, emitters, evaluation = fit.prior, fit.emitters, fit.evaluation
        chi2, unexplained = evaluation.misfit
        error = np.minimum(unexplained, _LARGEST_PATTERN_ERROR)
        chi2 = np.maximum(chi2, 1.0)
        posterior = np.diagonal(fit.blocks, axis1=1, axis2=2)
        information = np.maximum(1 / posterior[:, :3] - prior.weight[:, :3], _LEAST_INFORMATION)
        pulled = emitters[:, :3] / posterior[:, :3] - prior.weight[:, :3] * prior.mean[:, :3]
        diagonal = np.diagonal(evaluation.equations[0])[:-1].reshape(-1, 4)
        of_place = np.maximum(diagonal[:, :3], _LEAST_INFORMATION)
        shift = error[:, None] * emitters[:, 3:] * np.sqrt(diagonal[:, 3:] / of_place)
        variance = chi2[:, None] / information + (LOOKS_LIKE_A_MOVE * shift) ** 2

        estimator = EmitterProbability(emitters, spline, network, chi2, evaluation.overlap(), error)
        spilled = estimator.spilled(emitters[:, 3])
        light = np.maximum(fit.light_information, _LEAST_INFORMATION)
        alone = emitters[:, 3] + prior.weight[:, 3] * (emitters[:, 3] - prior.mean[:, 3]) / light
        effective = 1 / (chi2 / light + spilled)
        gain = 0.5 * effective * (alone**2 - (alone - emitters[:, 3]) ** 2)
        moved = -0.5 * (prior.weight * (emitters - prior.mean) ** 2).sum(axis=1)
        narrowed = 0.5 * (np.linalg.slogdet(fit.blocks)[1] + np.log(prior.weight).sum(axis=1))
        low, high = fit.bounds
        return cls(
            np.clip(pulled / information, low, high),
            variance,
            np.clip(gain + moved + narrowed, -_MOST_AGAINST, _MOST_RATIO),
            alone * np.sqrt(effective),
            estimator.log_odds(emitters[:, 3], np.maximum(posterior[:, 3], _LEAST_INFORMATION)),
            chi2,
        )

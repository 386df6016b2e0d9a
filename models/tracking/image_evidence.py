"""What one image says of each emitter, apart from what was known before.

A fit with priors mixes both. The prior is taken out again along each axis:
of Gaussians, the information of the image is that of the posterior less that
of the prior, and likewise for the means. What is left depends on the
neighbours, whose light is known from earlier images too.

The likelihood ratio of the image with and without an emitter is that of
Bayesian model choice, by Laplace's approximation: the gain of likelihood at
the maximum, less what position and light moved away from the prior, less what
the image narrowed them (MacKay, Neural Computation 4, 415, 1992). All
neighbours may take the light that the emitter leaves.

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
"""Evidence of one image is limited to this, in log odds: errors of the model repeat from image to image."""


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """What an image says of N emitters.

    Attributes
    ----------
    measured, variance : ndarray of float64, shape (N, 3)
        x, y (pixels), z (µm), and their variances, without the prior.
    log_ratio : ndarray of float64, shape (N,)
        Log-likelihood ratio of the image with and without the emitter.
    significance : ndarray of float64, shape (N,)
        Photons that the image alone says, in their standard deviations.
    first_log_odds : ndarray of float64, shape (N,)
        Of emitters without a history: from the fit and the localizer.
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
        chi2, unexplained = evaluation.misfit()
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
        # Information of the photons at a fixed position, neighbours fitted too, without their prior.
        own = np.linalg.inv(fit.blocks)[:, 3, 3] if len(emitters) else np.zeros(0)
        light = np.maximum(own - prior.weight[:, 3], _LEAST_INFORMATION)
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

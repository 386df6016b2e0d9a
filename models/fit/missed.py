"""Emitters that a fit has missed: peaks of its residual that pass the score test."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.fitted_image import FitOptics
from models.fit.image_levels import BLOCK
from models.fit.level_scores import score_places
from models.fit.prior_fit import PriorFit
from models.fit.residual_search import MatchedFilter, search_depths, strongest

__all__ = ["NO_PLACES", "MissedEmitters"]

Array = NDArray[np.float64]

NO_PLACES: Array = np.zeros((0, 5))

_DEPTH_STEP_UM = 1.5
_PEAK, _SIGNIFICANT = 3.0, 5.0
"""Least significance of a peak in the filter, to be tested, and in the score test, to be an emitter."""
_MOST_TESTED, _MOST_FOUND = 40, 4
_OF_BEST, _APART = 0.25, 0.2
"""As in models.fit.refiner: one missed emitter causes several peaks."""

_LOG_ODDS, _PER_SIGMA = -1.0, 0.5
"""Log odds of a place with the least significance, and the increase with each further standard deviation."""


class MissedEmitters:
    """Search of the residual of a fit, on blocks of 4 x 4 pixels; filters are computed once for each size of image.

    Parameters
    ----------
    optics : FitOptics
    depths_um : (low, high)
        Depths to search.
    """

    def __init__(self, optics: FitOptics, depths_um: tuple[float, float]) -> None:
        self._spline = optics.splines[-1]
        self._depths = search_depths(*depths_um, _DEPTH_STEP_UM)
        self._filters: dict[tuple[int, int], MatchedFilter] = {}

    def find(self, fit: PriorFit) -> Array:
        """Places that pass the test, the most significant first.

        Returns
        -------
        ndarray of float64, shape (K, 5)
            x, y (pixels), z (µm), photons, log odds that it is an emitter. Positions are those of the filter's grid: a
            fit has to follow.
        """
        evaluation = fit.evaluation.compiled()
        residual, variance = evaluation.residual()
        shape = (residual.shape[0], residual.shape[1])
        if shape not in self._filters:
            self._filters[shape] = MatchedFilter(self._spline, shape, self._depths, 0.0)
        chi2, _ = evaluation.misfit
        variance *= np.float32(max(1.0, float(np.median(chi2)) if len(chi2) else 1.0))
        peaks = self._filters[shape].peaks(residual, variance, _PEAK)[:_MOST_TESTED]
        if not len(peaks):
            return NO_PLACES
        places = peaks[:, :3].copy()
        places[:, :2] = places[:, :2] * BLOCK + (BLOCK - 1) / 2
        photons, significance = score_places(evaluation, places)
        peaks[:, 3], peaks[:, 4] = photons, significance
        order = np.argsort(-significance, kind="stable")
        peaks, places = peaks[order], places[order]
        passed = peaks[:, 4] >= _SIGNIFICANT
        chosen = strongest(np.column_stack([peaks[passed], places[passed]])[:, :6], _OF_BEST, _APART)[:_MOST_FOUND]
        found = np.empty((len(chosen), 5))
        found[:, :2] = chosen[:, :2] * BLOCK + (BLOCK - 1) / 2
        found[:, 2:4] = chosen[:, 2:4]
        found[:, 4] = _LOG_ODDS + _PER_SIGMA * (chosen[:, 4] - _SIGNIFICANT)
        return found

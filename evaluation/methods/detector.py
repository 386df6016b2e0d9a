"""Where fits of single emitters start: local maxima of matched filters at many scales.

The baselines get the best detector for single frames without a network and
without a model of the other emitters: the calibrated pattern of each depth
with its own background term, which makes it a band-pass filter. For one
Gaussian scale this is the difference-of-Gaussians detector of localization
microscopy. Here depth takes the place of scale, and the calibrated patterns
fit better than Gaussians.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.pattern_bank import PatternBank, depth_steps
from models.psf import Psf

__all__ = ["Detector"]

Array = NDArray[np.float64]

_CORRELATION = 0.1
"""Least correlation of a start, so that noise alone is not fitted; the fit decides about the rest."""


class Detector:
    """Finds starts in frames; pattern banks are prepared once for each size of frame.

    Parameters
    ----------
    psf : Psf
        On the side of focus of the depth range.
    significance : float
        Least amplitude in its standard deviations.
    depth_step_um : float
        Spacing of the depths near focus; it grows with depth as the patterns do.
    most : int
        Largest number of starts in 256 x 256 pixels, the most significant first.
    """

    def __init__(self, psf: Psf, significance: float, depth_step_um: float, most: int) -> None:
        self._psf = psf
        self._significance = significance
        self._depths = depth_steps(psf, depth_step_um)
        self._most = most
        self._banks: dict[tuple[int, int], PatternBank] = {}

    def starts(self, data: NDArray[np.float32]) -> Array:
        """Starts for fits.

        Parameters
        ----------
        data : ndarray of float32, shape (H, W)
            Photo-electrons, read variance added.

        Returns
        -------
        ndarray of float64, shape (K, 5)
            x and y (pixels), z (µm), photons and background per pixel, the most significant first.
        """
        shape = (data.shape[0], data.shape[1])
        if shape not in self._banks:
            self._banks[shape] = PatternBank(self._psf, shape, self._depths)
        found = self._banks[shape].peaks(data, _CORRELATION, self._significance)
        found = found[np.argsort(-found[:, 6], kind="stable")][: max(round(self._most * data.size / 256**2), 1)]
        return np.column_stack([found[:, :4], np.maximum(found[:, 4], 0.0)])

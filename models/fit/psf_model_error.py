"""Estimate the PSF model error that all emitters of a frame have in common.

Patterns of real beads differ from the calibrated one by bead size, dirt and
position in the field. With many photons such an error is many standard
deviations; a search of the residual would explain it by faint emitters beside
every bright one, which would bias its position. A missed emitter raises the
misfit of its neighbours only, a PSF model error raises that of all emitters. So
the misfit of the better fitted ones is taken for the PSF model error, and peaks
of the residual must exceed it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit

__all__ = ["common_psf_error", "error_variance"]

_FEWEST = 8
"""Fewest emitters for an estimate."""

_BETTER = 0.25
"""Quantile of the emitters' errors that is taken as common; in a crowd the worse ones have missed neighbours."""

_USUAL = 0.04
"""Calibrations of simulated optics stay below this share; the rest of the fit allows for it."""

_ALIKE = 3.0
"""Correlation length of the errors, pixels: over such an area they add up instead of averaging out."""


def common_psf_error(fit: JointFit) -> float:
    """PSF model error common to all patterns, as a share of their light; 0 if it is usual or there are few emitters."""
    if len(fit.unexplained) < _FEWEST:
        return 0.0
    share = float(np.quantile(fit.unexplained, _BETTER))
    return share if share > _USUAL else 0.0


def error_variance(fit: JointFit, share: float, read_variance: float) -> NDArray[np.float32]:
    """Variance of each pixel from a PSF model error of this `share` of the light, shape (H, W)."""
    light = fit.expected - np.float32(fit.background + read_variance)
    variance: NDArray[np.float32] = np.square(np.float32(_ALIKE * share) * light)
    return variance

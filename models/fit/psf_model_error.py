"""By how much the calibrated pattern is wrong for all emitters of a frame.

Real beads differ from the pattern that was calibrated: by their size, by dirt,
by where they lie in the field. With plenty of light such an error is many
standard deviations, and a search of the residual would explain it with faint
emitters beside every bright one, which then pull at its place. An emitter that
was missed spoils the fit of its neighbours; an error of the pattern spoils
the fit of all. So what even the better fitted ones leave unexplained is taken
for the pattern's, and what is searched must exceed it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit

__all__ = ["common_psf_error", "error_variance"]

_FEWEST = 8
"""Emitters that can tell what they have in common."""

_BETTER = 0.25
"""Share of the emitters that fit better than this; in a crowd the others have neighbours that were missed."""

_USUAL = 0.04
"""Calibrations of simulated optics leave less in frames that are explained; so much is allowed for elsewhere."""

_ALIKE = 3.0
"""Errors of neighbouring pixels are alike over about three pixels each way, so a pattern sees their sum, not their
average."""


def common_psf_error(fit: JointFit) -> float:
    """Share of its light by which every pattern is wrong; 0 where that is not more than usual, or cannot be told."""
    if len(fit.unexplained) < _FEWEST:
        return 0.0
    share = float(np.quantile(fit.unexplained, _BETTER))
    return share if share > _USUAL else 0.0


def error_variance(fit: JointFit, share: float, read_variance: float) -> NDArray[np.float32]:
    """Variance of each pixel from patterns that are wrong by a `share` of their light, shape (H, W)."""
    light = fit.expected - np.float32(fit.background + read_variance)
    variance: NDArray[np.float32] = np.square(np.float32(_ALIKE * share) * light)
    return variance

"""A joint fit as a table of localizations."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.pattern_spline import PatternSpline
from models.tables import Localizations

__all__ = ["LOOKS_LIKE_A_MOVE", "localizations_of"]

_NEIGHBOURS = 24.0
"""Number of overlapping patterns that doubles the variance of a position: some neighbours are missing or wrong, which
biases it by more than noise. Measured in scenes of 4 to 64 points (docs/refinement.md)."""

LOOKS_LIKE_A_MOVE = np.array([0.12, 0.12, 0.08])
"""Share of the PSF model error that acts like a shift of the emitter in x, y and z: calibration errors are grains and
rings that nearly cancel over a pattern; less so laterally, because its centre is known less well than its size.
Measured with isolated emitters of the hidden optics (docs/refinement.md)."""


def localizations_of(
    fit: JointFit,
    frame: int,
    probability: NDArray[np.float64],
    *,
    spline: PatternSpline,
    reported_um: tuple[float, float],
    fitted_um: tuple[float, float],
) -> Localizations:
    """Table of the emitters of a fit that lie in the frame and in the reported depths.

    Parameters
    ----------
    fit : JointFit
        On the pixels of the camera.
    frame : int
        Number of the frame.
    probability : ndarray of float64, shape (N,)
        Of each emitter of the fit.
    spline : PatternSpline
        The fitted PSF.
    reported_um, fitted_um : (low, high)
        Depths. At focus the bound of z diverges; its sigma is limited to the range of fitted depths.
    """
    shape = fit.expected.shape
    x_px, y_px, z_um, photons = fit.emitters.T
    pixel_um = spline.psf.pixel_size_um
    crowding = 1 + spline.touching(fit.emitters).sum(axis=1) / _NEIGHBOURS
    noise = fit.sigma[:, :3] * np.sqrt(np.maximum(fit.chi2, 1.0) * crowding)[:, None]
    sigma_x, sigma_y, sigma_z = np.hypot(noise, LOOKS_LIKE_A_MOVE * fit.psf_error_shift).T
    low, high = reported_um
    count = len(z_um)
    everything = Localizations(
        frame=np.full(count, frame, np.int64),
        x_um=x_px * pixel_um,
        y_um=y_px * pixel_um,
        z_um=z_um,
        photons=photons,
        background=np.full(count, fit.background),
        probability=probability,
        sigma_x_um=sigma_x * pixel_um,
        sigma_y_um=sigma_y * pixel_um,
        sigma_z_um=np.minimum(sigma_z, fitted_um[1] - fitted_um[0]),
        chi2=fit.chi2,
    )
    inside = (x_px >= -0.5) & (x_px < shape[1] - 0.5) & (y_px >= -0.5) & (y_px < shape[0] - 0.5)
    return everything.select(inside & (z_um >= low) & (z_um <= high))

"""Recognize emitters at negative defocus by their pattern, and fit them there.

The patterns on both sides of focus differ by aberrations only, so the network
and the matched filter place an emitter at negative defocus at about the
opposite depth. Where the calibration covers both sides, each emitter near
enough to focus is fitted on both, with all others fixed (`local_fit`). One that
fits clearly better at negative defocus moves there: it stays in the fit, so
that no other emitter explains its light, and is left out of the reported
localizations. Of several overlapping emitters only the one that gains most
moves at a time, because their patterns mask each other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.fit.local_fit import LocalView
from models.fit.move_selection import select_moves
from models.fit.psf_model_error import common_psf_error
from models.fit.scale import FitScale

__all__ = ["SIDE_ROUNDS", "move_across_focus"]

Array = NDArray[np.float64]

SIDE_ROUNDS = 4
"""Most successive rounds of the test."""

_GAIN = 6.0
"""Log-likelihood by which negative defocus must be better; the prior favours positive defocus, where samples are."""

_EXPLAINED = 0.1
"""Share of the misfit at positive defocus that negative defocus must explain; a PSF model error affects both."""

_EXPLAINED_BADLY = 0.5
"""The same when the PSF model error is larger than usual: then any change of the model explains a little."""

_NEAREST_UM = 1.0
"""Nearer to focus the sides are not compared."""

_STARTS = (0.9, 1.15)
"""Starting depths, as a share of the opposite depth."""


def move_across_focus(data: NDArray[np.float32], fit: JointFit, scale: FitScale, first: int = 0) -> Array:
    """Move emitters that fit clearly better there to negative defocus.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        The fitted data, read variance included.
    fit : JointFit
    scale : FitScale
    first : int
        Emitters before this row are not tested.

    Returns
    -------
    ndarray of float64, shape (N, 4)
        x, y (pixels), z (µm), photons; equal to those of the fit where positive defocus is as good. Of several
        overlapping emitters only the one that gains most moves.
    """
    emitters = fit.emitters.copy()
    gains = np.zeros(len(emitters))
    if scale.negative_defocus_um is None:
        return emitters
    farthest = scale.negative_defocus_um[0]
    explained = _EXPLAINED_BADLY if common_psf_error(fit) else _EXPLAINED
    near = (emitters[:, 2] > _NEAREST_UM) & (emitters[:, 2] * _STARTS[0] < -farthest)
    near[:first] = False
    for row in np.flatnonzero(near):
        view = LocalView.of(data, fit, [int(row)], scale)
        if view is None:
            continue
        here = view.fit(view.emitters)
        needed = _GAIN + explained * view.misfit(here.expected)
        for share in _STARTS:
            there = view.fit(view.emitters * [1, 1, -share, 1])
            if there.cost < here.cost - needed:
                needed = gains[row] = here.cost - there.cost
                emitters[row] = view.to_frame_pixels(there)[0]
    stays = ~select_moves(fit.emitters, gains, scale.spline.radius_at_px(fit.emitters[:, 2]))
    emitters[stays] = fit.emitters[stays]
    return emitters

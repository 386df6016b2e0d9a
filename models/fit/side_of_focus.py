"""Emitters on the side of focus that is not answered: tell them by their pattern, and fit them there.

Both sides of focus look alike but for the aberrations, so the network and the
matched filter take an emitter on the wrong side for one on the right side, at
about the opposite depth. Where the calibration knows both sides, each emitter
near enough is fitted on both, in its place (`local_fit`). One that is clearly
explained better on the wrong side is fitted there from then on: it takes part,
so that nobody else explains its light, and is left out of the answers. Of
several that share their light only the one that gains most goes at a time:
while they stand on this side they hide each other.
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
"""Most times in a row that a fit asks who is explained better on the other side."""

_GAIN = 6.0
"""Log-likelihood by which the other side must be better: the right one is where samples are."""

_EXPLAINED = 0.1
"""Share of what this side leaves over that the other side must explain: errors of a pattern are on both."""

_EXPLAINED_BADLY = 0.5
"""The same where all patterns are wrong by more than usual: then a little of anything explains something."""

_NEAREST_UM = 1.0
"""Nearer to focus both sides are one."""

_STARTS = (0.9, 1.15)
"""Of the opposite depth."""


def move_across_focus(data: NDArray[np.float32], fit: JointFit, scale: FitScale, first: int = 0) -> Array:
    """The emitters of a fit, those moved to the other side of focus that are explained better there.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        What was fitted.
    fit : JointFit
    scale : FitScale
    first : int
        Emitters before this row are left as they are.

    Returns
    -------
    ndarray of float64, shape (N, 4)
        x, y (pixels), z (µm), photons; equal to those of the fit where this side is as good. Of several that share
        their light only the one that gains most moves.
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

"""Two emitters fitted by one: find it out, and put two in its place.

Two emitters nearer than the width of their rings are proposed by the network
as one, and fitted well enough by one that nothing stands out of the residual
as a pattern of its own. What stands out is the difference between two patterns
and one, which is the second derivative of the pattern in the direction in
which they lie apart. So the residual is correlated with that, in a few
directions, clear of what moving the emitter or changing its light could
explain, and where it answers two are fitted (`local_fit`).

Two are better than one when they gain more than noise could, and when they
explain a good part of what the one leaves over: errors of a calibrated pattern
leave much over, but little of that tried like two emitters.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import JointFit
from models.fit.local_fit import LocalView, render_emitter
from models.fit.scale import FitScale

__all__ = ["find_splits"]

Array = NDArray[np.float64]

_GAIN = (15.0, 3.0, -6.0, -12.0)
"""Log-likelihood that two must gain over one, over two that are there, over three, and over four and more, which have
more parameters to explain noise with: four of them gain 2, in some hundred emitters seldom 12."""

_MANY = 3
"""So many together are looked at however well they explain the data: two may do it as well."""

_EXPLAINED = 0.45
"""Share of what one leaves over that two must explain."""

_EXPECTED_SHARE = 0.3
"""Share of the required gain that the correlation must expected_gain; it knows the gain only roughly."""

_FAINTEST = 0.05
"""Share of the light that the fainter one must have: less is an error of the brighter one's pattern."""

_TOGETHER_UM = (4.0, 4.0, 4.0)
"""Emitters nearer than this in x, y and z are tried again together: what one left over, others beside it may have been
put to explain."""

_LEFTOVER = 5.0
"""Least misfit that is worth a look, in standard deviations of the emitter's light: half its square is about what there
is to gain."""

_NOTHING = 1e-30

_MOST_TRIED = 8
"""Places of a frame that are looked at of either kind, alone and of many, those that leave most over."""

# Half the distances that are tried: sideways in four directions, and in depth.
_SIDEWAYS_UM = 0.8
_DEPTH_UM = (1.5, 3.0)


def find_splits(data: NDArray[np.float32], fit: JointFit, scale: FitScale) -> list[tuple[list[int], Array]]:
    """Emitters of a fit in whose place two explain the data better.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        What was fitted.
    fit : JointFit
    scale : FitScale

    Returns
    -------
    list of (rows, emitters)
        Rows of the fit, and the two emitters (2, 4) that take their place. No row is in two of them.
    """
    leftover = fit.unexplained * fit.emitters[:, 3] / fit.sigma[:, 3]
    pixel_um = scale.spline.psf.pixel_size_um
    apart = np.abs(fit.emitters[:, None, :3] - fit.emitters[None, :, :3]) * [pixel_um, pixel_um, 1]
    together = np.all(apart < _TOGETHER_UM, axis=2)
    many = together.sum(axis=1) >= _MANY
    worth = np.flatnonzero((many | (leftover >= _LEFTOVER)) & (fit.emitters[:, 2] >= scale.depths_um[0]))
    seen: set[int] = set()
    found = []
    tried = {True: 0, False: 0}
    for first in worth[np.argsort(-leftover[worth])]:
        if first in seen or tried[bool(many[first])] == _MOST_TRIED:
            continue
        tried[bool(many[first])] += 1
        rows = np.flatnonzero(together[first])
        rows = rows[np.argsort(apart[first, rows].sum(axis=1))].tolist()
        view = None if seen.intersection(rows) else LocalView.of(data, fit, rows, scale)
        seen.update(rows)
        pair = None if view is None else _fit_pair(view)
        if pair is not None:
            found.append((rows, pair))
    return found


def _fit_pair(view: LocalView) -> Array | None:
    """Two emitters that explain a view better than those which are there, in pixels of the frame."""
    count = len(view.emitters)
    needed = _GAIN[min(count, len(_GAIN)) - 1]
    if count == 1:
        needed += _EXPLAINED * view.misfit(view.expected)
        # What two might gain is estimated first, as most emitters expected_gain nothing.
        expected_gains = _expected_gains(view, view.emitters[0], view.expected)
        if max(expected_gain for _, expected_gain in expected_gains) < _EXPECTED_SHARE * needed:
            return None
        one = present = view.fit(view.emitters)
    else:
        present = view.fit(view.emitters)
        light = view.emitters[:, 3:]
        one = view.fit(np.append((view.emitters[:, :3] * light).sum(axis=0) / light.sum(), light.sum())[None])
        expected_gains = _expected_gains(view, one.emitters[0], one.expected)
    best, cost = None, present.cost - needed
    for half_um, expected_gain in expected_gains:
        if expected_gain < _EXPECTED_SHARE * (one.cost - cost):
            continue
        half = np.append(half_um / _units(view), 0.0)
        middle = one.emitters[0] * [1, 1, 1, 0.5]
        two = view.fit(np.stack([middle - half, middle + half]))
        if two.cost < cost and two.emitters[:, 3].min() >= _FAINTEST * two.emitters[:, 3].sum():
            best, cost = two, two.cost
    return None if best is None else view.to_frame_pixels(best)


def _expected_gains(view: LocalView, emitter: Array, expected: NDArray[np.float32]) -> list[tuple[Array, float]]:
    """Half distances (3,), µm, and the gain that the residual expected_gains: the best sideways, the best in depth."""
    shape = (view.data.shape[0], view.data.shape[1])
    own = render_emitter(view.scale, emitter, shape)
    root = (1 / np.sqrt(expected)).ravel()
    basis, _ = np.linalg.qr((own.reshape(4, -1) * root).T)
    residual = (view.data - expected).ravel() * root

    def expected_gain(half_um: Array) -> float:
        half = np.append(half_um / _units(view), 0.0)
        around = sum(render_emitter(view.scale, emitter + sign * half, shape)[0] for sign in (-1.0, 1.0))
        bend = (0.5 * around - own[0]).ravel() * root
        bend -= basis @ (basis.T @ bend)
        pull = float(residual @ bend)
        return pull * abs(pull) / (2 * float(bend @ bend) + _NOTHING)

    turns = np.arange(4) * np.pi / 4
    sideways = [_SIDEWAYS_UM * np.array([np.cos(turn), np.sin(turn), 0.0]) for turn in turns]
    behind = [np.array([0.0, 0.0, half]) for half in _DEPTH_UM]
    return [max(((way, expected_gain(way)) for way in ways), key=lambda each: each[1]) for ways in (sideways, behind)]


def _units(view: LocalView) -> Array:
    """µm in the unit of x, y (pixels) and z (µm), shape (3,)."""
    pixel_um = view.scale.spline.psf.pixel_size_um
    return np.array([pixel_um, pixel_um, 1.0])

"""Split emitters that were fitted to two close ones.

The network detects two emitters nearer than the width of their rings as one,
and one emitter explains them so well that the residual shows no pattern. What
remains is the difference between two patterns and one: the second derivative of
the pattern along the line between them. So the residual is correlated with
second derivatives in a few directions, orthogonal to the effect of moving the
emitter or changing its photons. Where the correlation is high, two emitters are
fitted (`local_fit`).

Two replace one when they gain more log-likelihood than noise could and explain
a large share of the misfit of one. PSF model errors leave a large misfit, but
two emitters explain little of it.
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
"""Log-likelihood that two must gain over one, two, three, and four or more present emitters. Three and more have more
parameters to explain noise with: four parameters gain 2 on average, seldom 12 among some hundred emitters."""

_MANY = 3
"""Groups of so many close emitters are always tested: two may explain the data as well."""

_EXPLAINED = 0.45
"""Share of the misfit of one that two must explain."""

_EXPECTED_SHARE = 0.3
"""Share of the required gain that the correlation must predict; its prediction is rough."""

_FAINTEST = 0.05
"""Least share of the fainter one's light: less may be a PSF model error of the brighter one."""

_TOGETHER_UM = (4.0, 4.0, 4.0)
"""Emitters nearer than this in x, y and z are tested together: the search may have added some to explain the misfit of
one."""

_LEFTOVER = 5.0
"""Least misfit for a test, in standard deviations of the photons: half its square is about the possible gain."""

_NOTHING = 1e-30

_MOST_TRIED = 8
"""Most tests per frame, for single emitters and for groups; those with the largest misfit first."""

# Half distances that are tried: sideways in four directions, and in depth.
_SIDEWAYS_UM = 0.8
_DEPTH_UM = (1.5, 3.0)


def find_splits(data: NDArray[np.float32], fit: JointFit, scale: FitScale) -> list[tuple[list[int], Array]]:
    """Find emitters, or groups of close emitters, that two emitters explain better.

    Parameters
    ----------
    data : ndarray of float32, shape (H, W)
        The fitted data, read variance included.
    fit : JointFit
    scale : FitScale

    Returns
    -------
    list of (rows, emitters)
        Rows of the fit, and the two emitters (2, 4) that replace them. No row occurs twice.
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
    """Two emitters that explain a window better than the present ones, in pixels of the frame, or None."""
    count = len(view.emitters)
    needed = _GAIN[min(count, len(_GAIN)) - 1]
    if count == 1:
        needed += _EXPLAINED * view.misfit(view.expected)
        # The gain is estimated first, because most emitters need no fit of two.
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
    """Half distances (3,), µm, and gains predicted by the residual: the best sideways, the best in depth."""
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
    """µm per unit of x, y (pixels) and z (µm), shape (3,)."""
    pixel_um = view.scale.spline.psf.pixel_size_um
    return np.array([pixel_um, pixel_um, 1.0])

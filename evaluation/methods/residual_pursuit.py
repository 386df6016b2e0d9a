"""Pursuit of emitters in the residual of a joint fit, starting from an empty frame.

A matched filter adds the peaks of the residual, all emitters so far are fitted
jointly, emitters at a local optimum are relocated, and emitters that are not
significant are removed, one change at a time, until no change is worthwhile.
Close pairs and the side of focus are tested as in the refinement of a
network's localizations (`splitting`, `side_of_focus`). Without a network,
significance alone decides which emitters stay in the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit.joint_fit import JointFit
from models.fit.residual_search import strongest
from models.fit.scale import FitScale, fit_range_um, negative_defocus_um
from models.fit.side_of_focus import SIDE_ROUNDS, move_across_focus
from models.fit.splitting import find_splits
from models.pattern_spline import ENERGY, PatternSpline
from models.psf import Psf

__all__ = ["PursuitSettings", "ResidualPursuit"]

Array = NDArray[np.float64]

# Most steps of a fit between moves.
_ROUGH_ITERATIONS = 12

# Most rounds of splitting.
_SPLIT_ROUNDS = 2

# Emitters that are added together: share of the best significance, and distance as a share of the radius.
_OF_BEST, _APART = 0.5, 0.7


@dataclass(frozen=True, slots=True)
class PursuitSettings:
    """Limits of the pursuit.

    Attributes
    ----------
    z_range_um : (low, high)
        Depths of the localizations. The fit extends as far as the PSF, so that emitters beyond are recognized and
        left out; also to the other side of focus where the PSF is asymmetric.
    iterations : int
        Most steps of the last joint fits.
    rounds : int
        Most changes: emitters relocated, removed or added.
    add_significance : float
        A pattern in the residual is added when its amplitude exceeds so many of its standard deviations.
    keep_significance : float
        An emitter is kept when its photons exceed so many of their standard deviations in the joint fit.
    depth_step_um : float
        Spacing of the depths that the matched filter tries, near focus; it grows with depth as the patterns do.
    relocation_gain : float
        An emitter is relocated to another local optimum when that gains so much squared signal-to-noise ratio.
    """

    z_range_um: tuple[float, float]
    iterations: int = 30
    rounds: int = 400
    add_significance: float = 6.0
    keep_significance: float = 5.0
    depth_step_um: float = 1.5
    relocation_gain: float = 16.0


@dataclass(frozen=True, slots=True)
class _Move:
    """Emitters to fit next, and what kind of change it is."""

    emitters: Array
    adds: bool = False
    relocates: bool = False


class ResidualPursuit:
    """Finds the emitters of frame after frame with one PSF and one camera; tables are prepared once.

    Parameters
    ----------
    psf : Psf
        Pattern of one emitter.
    camera : CameraModel
        Its read noise enters the likelihood.
    settings : PursuitSettings

    Raises
    ------
    DataError
        When the depths asked for are not those of the PSF.
    """

    def __init__(self, psf: Psf, camera: CameraModel, settings: PursuitSettings) -> None:
        self.settings = settings
        depths_um = fit_range_um(psf, settings.z_range_um)
        self._scale = FitScale(psf, 1, depths_um, camera, negative_defocus_um(psf, settings.z_range_um))

    @property
    def spline(self) -> PatternSpline:
        """The pattern that is fitted."""
        return self._scale.spline

    def fit(self, frame_electrons: NDArray[np.float32]) -> JointFit:
        """All emitters of a frame (H, W), photo-electrons with the offset removed, wherever they lie."""
        data = np.ascontiguousarray(frame_electrons, np.float32) + np.float32(self._scale.read_variance)
        # Most pixels of a sparse frame are background; light only adds to it.
        background = float(np.percentile(frame_electrons, 25))
        fit = self._fit(data, np.zeros((0, 4)), background, precise=False)
        settled = False
        for _ in range(self.settings.rounds):
            move = self._next_move(data, fit, settled)
            if move is None:
                break
            after = self._fit(data, move.emitters, fit.background, precise=False)
            if move.relocates and after.cost >= fit.cost:
                settled = True
                continue
            settled = settled and not move.adds
            if move.adds:
                after = self._retry_side_of_focus(data, after, first=len(fit.emitters))
            fit = after
        fit = self._retry_side_of_focus(data, self._fit_precisely(data, fit))
        for _ in range(_SPLIT_ROUNDS):
            pairs = find_splits(data, fit, self._scale)
            if not pairs:
                break
            rows = [row for replaced, _ in pairs for row in replaced]
            emitters = np.concatenate([np.delete(fit.emitters, rows, axis=0), *(pair for _, pair in pairs)])
            fit = self._fit_precisely(data, self._fit(data, emitters, fit.background, precise=False))
        return fit

    def _fit_precisely(self, data: NDArray[np.float32], fit: JointFit) -> JointFit:
        """Fit precisely, and remove emitters that are not significant."""
        while True:
            fit = self._fit(data, fit.emitters, fit.background, precise=True)
            kept = self._significant(fit)
            if kept.all():
                return fit
            fit = self._fit(data, fit.emitters[kept], fit.background, precise=False)

    def _retry_side_of_focus(self, data: NDArray[np.float32], fit: JointFit, first: int = 0) -> JointFit:
        """Move emitters that fit better there to the other side of focus: from row `first` on, then any."""
        for _ in range(SIDE_ROUNDS):
            emitters = move_across_focus(data, fit, self._scale, first)
            if (emitters[:, 2] == fit.emitters[:, 2]).all():
                break
            fit = self._fit(data, emitters, fit.background, precise=True)
            first = 0
        return fit

    def _fit(self, data: NDArray[np.float32], emitters: Array, background: float, precise: bool) -> JointFit:
        iterations = self.settings.iterations if precise else _ROUGH_ITERATIONS
        return self._scale.fit(data, emitters, background, iterations, precise=precise)

    def _next_move(self, data: NDArray[np.float32], fit: JointFit, settled: bool) -> _Move | None:
        """The most promising change: remove insignificant emitters, else add emitters or relocate some.

        `settled`: the last relocation did not improve the fit.
        """
        kept = np.flatnonzero(self._significant(fit))
        if len(kept) < len(fit.emitters):
            return _Move(fit.emitters[kept])
        missed = self._search_residual(data, fit)
        together = np.concatenate([fit.emitters, missed[:, :4]])
        missed = missed[~self._too_faint(together)[len(fit.emitters) :]]
        relocated, gain = fit.emitters, 0.0
        if not settled:
            relocated, gain = self._scale.depth_relocation.relocate(data, fit, self.settings.relocation_gain)
        if gain > (missed[:, 4] ** 2).max(initial=0.0):
            return _Move(relocated, relocates=True)
        if len(missed):
            return _Move(np.concatenate([fit.emitters, missed[:, :4]]), adds=True)
        return None

    def _significant(self, fit: JointFit) -> NDArray[np.bool_]:
        """Which emitters to keep. Of several that overlap only the weakest is removed at a time."""
        significance = fit.emitters[:, 3] / fit.sigma[:, 3]
        weak = (significance < self.settings.keep_significance) | self._too_faint(fit.emitters)
        radius = self._scale.spline.radius_at_px(fit.emitters[:, 2])
        gone: list[int] = []
        for row in np.argsort(significance):
            apart = np.hypot(*(fit.emitters[gone, :2] - fit.emitters[row, :2]).T)
            if weak[row] and (apart >= np.minimum(radius[gone], radius[row])).all():
                gone.append(int(row))
        kept = np.ones(len(significance), bool)
        kept[gone] = False
        return kept

    def _too_faint(self, emitters: Array) -> NDArray[np.bool_]:
        """Which emitters have less light than a neighbour, in reach of its pattern, has outside its crop."""
        radius = self._scale.spline.radius_at_px(emitters[:, 2])
        apart = np.hypot(*(emitters[:, None, :2] - emitters[None, :, :2]).transpose(2, 0, 1))
        neighbours = np.where(apart < radius[:, None] + radius[None, :], emitters[None, :, 3], 0.0)
        faint: NDArray[np.bool_] = emitters[:, 3] < (1 - ENERGY) * neighbours.max(axis=1, initial=0.0)
        return faint

    def _search_residual(self, data: NDArray[np.float32], fit: JointFit) -> Array:
        places = self._scale.filter(data.shape, self.settings.depth_step_um).peaks(
            data - fit.expected, fit.expected, self.settings.add_significance
        )
        return strongest(places, _OF_BEST, _APART)

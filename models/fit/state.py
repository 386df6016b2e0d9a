"""State of a refinement while emitters are selected: positions, priors, network log odds and work done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.fit.prior import Prior

__all__ = ["FitState"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FitState:
    """Emitters in the pixels of one scale, with prior, network log odds and background.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x, y (pixels), z (µm), photons.
    prior : Prior
        Position prior.
    network : ndarray of float64, shape (N,)
        Log odds of the network; NaN for emitters found in the residual.
    background : float
        Photo-electrons per pixel.
    work : int
        Patterns computed so far.
    """

    emitters: Array
    prior: Prior
    network: Array
    background: float
    work: int = 0

    def select(self, rows: NDArray[np.bool_]) -> FitState:
        """The emitters marked in `rows`, shape (N,)."""
        prior = Prior(self.prior.place[rows], self.prior.weight[rows])
        return replace(self, emitters=self.emitters[rows], prior=prior, network=self.network[rows])

    def with_new(self, emitters: Array) -> FitState:
        """With additional emitters (K, 4) without prior."""
        nothing = Prior.none(len(emitters))
        return replace(
            self,
            emitters=np.concatenate([self.emitters, emitters]),
            prior=Prior(
                np.concatenate([self.prior.place, nothing.place]), np.concatenate([self.prior.weight, nothing.weight])
            ),
            network=np.append(self.network, np.full(len(emitters), np.nan)),
        )

    def with_pairs(self, pairs: Sequence[tuple[list[int], Array]]) -> FitState:
        """With pairs instead of one or more emitters; the first keeps the network's log odds, neither has a prior."""
        emitters, weight, network = self.emitters.copy(), self.prior.weight.copy(), self.network.copy()
        stays = np.ones(len(emitters), bool)
        for rows, pair in pairs:
            stays[rows[1:]] = False
            emitters[rows[0]], weight[rows[0]] = pair[0], 0.0
            network[rows[0]] = np.fmax.reduce(network[rows])
        here = replace(self, emitters=emitters, prior=Prior(self.prior.place, weight), network=network)
        return here.select(stays).with_new(np.array([pair[1] for _, pair in pairs]))

    def with_moved_across_focus(self, emitters: Array) -> FitState:
        """With emitters that changed the side of focus; these lose their prior and the network's log odds."""
        over = np.sign(emitters[:, 2]) != np.sign(self.emitters[:, 2])
        prior = Prior(self.prior.place, np.where(over[:, None], 0.0, self.prior.weight))
        return replace(self, emitters=emitters, prior=prior, network=np.where(over, np.nan, self.network))

    def rescaled(self, old: int, new: int) -> FitState:
        """The same on pixels of `new` instead of `old` camera pixels."""

        def places(values: Array) -> Array:
            moved = values.copy()
            moved[:, :2] = (moved[:, :2] * old + (old - 1) / 2 - (new - 1) / 2) / new
            return moved

        ratio = new / old
        weight = self.prior.weight * np.array([ratio**2, ratio**2, 1])
        prior = Prior(places(self.prior.place), weight)
        return replace(self, emitters=places(self.emitters), prior=prior, background=self.background * ratio**2)

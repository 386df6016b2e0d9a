"""Gaussian prior of emitter positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Prior"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Prior:
    """Gaussian position prior of each emitter.

    Attributes
    ----------
    place : ndarray of float64, shape (N, 3)
        x (pixels), y (pixels), z (µm).
    weight : ndarray of float64, shape (N, 3)
        One over the variance of each; 0 without a prior.
    """

    place: Array
    weight: Array

    @classmethod
    def none(cls, count: int) -> Prior:
        """No prior for `count` emitters."""
        return cls(np.zeros((count, 3)), np.zeros((count, 3)))

    def cost(self, emitters: Array) -> float:
        """Negative logarithm of the prior, up to a constant."""
        return 0.5 * float((self.weight * (emitters[:, :3] - self.place) ** 2).sum())

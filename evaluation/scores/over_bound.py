"""Errors of isolated emitters in units of the Cramér-Rao bound, and in units of the sigmas that a method reports.

Each frame has one emitter. It is paired with the most probable localization of
the frame, without a gate: a fit that converged to a local optimum counts with
its whole error. A few such localizations dominate a root mean square, so the
figure of record is the median of the absolute ratios times 1.4826, which is
the standard deviation for a normal distribution. With n emitters it is
known to 1.17/√n axially and, from two axes, 0.82/√n laterally.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.frames import Frames
from evaluation.scores.bounds import FrameBounds
from evaluation.scores.scoring import Row
from models.tables import Localizations

__all__ = ["NEAREST_UM", "IsolatedErrors", "isolated_errors", "spread"]

F64 = NDArray[np.float64]

NEAREST_UM = 3.0
"""The bound diverges at focus for a symmetric pattern; ratios to it are taken from here on."""

_NORMAL = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""


@dataclass(frozen=True, slots=True)
class IsolatedErrors:
    """Errors of a method on frames with one emitter each.

    Attributes
    ----------
    frames : int
    surplus : int
        Localizations beyond the first of each frame.
    error_um : ndarray of float64, shape (N, 3)
        Of the emitters that were localized, in x, y and z.
    bound_um : ndarray of float64, shape (N, 3)
        Their Cramér-Rao bounds.
    sigma_um : ndarray of float64, shape (N, 3)
        Their standard deviations as the method reports them; not finite where it reports none.
    """

    frames: int
    surplus: int
    error_um: F64
    bound_um: F64
    sigma_um: F64

    def columns(self) -> Row:
        """Figures for a table; None where there is nothing to take them from."""
        ratio = self.error_um / self.bound_um
        known = (np.isfinite(self.sigma_um) & (self.sigma_um > 0)).all(axis=1)
        normalized = self.error_um[known] / self.sigma_um[known]
        return {
            "found": len(ratio) / self.frames if self.frames else None,
            "surplus": self.surplus / self.frames if self.frames else None,
            "lateral_over_bound": spread(ratio[:, :2]),
            "axial_over_bound": spread(ratio[:, 2]),
            "lateral_over_bound_rms": _rms(ratio[:, :2]),
            "axial_over_bound_rms": _rms(ratio[:, 2]),
            "lateral_over_sigma": _deviation(normalized[:, :2]),
            "axial_over_sigma": _deviation(normalized[:, 2:]),
            "lateral_over_sigma_median": _robust_deviation(normalized[:, :2]),
            "axial_over_sigma_median": _robust_deviation(normalized[:, 2:]),
            "axial_bias_um": _median(self.error_um[:, 2]),
            "axial_bias_mean_um": float(self.error_um[:, 2].mean()) if len(ratio) else None,
            "bound_lateral_um": _median(self.bound_um[:, :2]),
            "bound_axial_um": _median(self.bound_um[:, 2]),
        }


def isolated_errors(
    found: Localizations, frames: Frames, bounds: Sequence[FrameBounds], nearest_um: float = NEAREST_UM
) -> IsolatedErrors:
    """Errors of the localizations in frames with one emitter each.

    Parameters
    ----------
    found : Localizations
        Of frames that count from 0.
    frames : Frames
    bounds : sequence of FrameBounds
        Of at least as many frames.
    nearest_um : float
        Frames whose emitter is nearer to focus are left out.
    """
    order = np.lexsort((-found.probability, found.frame))
    numbers, first, counts = np.unique(found.frame[order], return_index=True, return_counts=True)
    best = dict(zip(numbers.tolist(), zip(order[first].tolist(), counts.tolist(), strict=True), strict=True))
    errors, limits, sigmas = [], [], []
    count = surplus = 0
    for number, (truth, bound) in enumerate(zip(frames.emitters, bounds, strict=False)):
        if truth[0, 2] < nearest_um:
            continue
        count += 1
        if number not in best:
            continue
        row, localized = best[number]
        surplus += localized - 1
        errors.append(found.xyz_um[row] - truth[0, :3])
        limits.append(bound.sigma[0, :3])
        sigmas.append(found.sigma_um[row])
    shaped = (np.array(each, np.float64).reshape(-1, 3) for each in (errors, limits, sigmas))
    return IsolatedErrors(count, surplus, *shaped)


def spread(ratios: F64) -> float | None:
    """Standard deviation about zero, from the median of the absolute values; None of nothing."""
    return _NORMAL * float(np.median(np.abs(ratios))) if ratios.size else None


def _rms(ratios: F64) -> float | None:
    return float(np.sqrt(np.mean(ratios**2))) if ratios.size else None


def _median(values: F64) -> float | None:
    return float(np.median(values)) if values.size else None


def _deviation(ratios: F64) -> float | None:
    """Standard deviation of each axis about its mean, the axes (N, A) joined; None of fewer than two."""
    return float(np.sqrt(ratios.var(axis=0, ddof=1).mean())) if len(ratios) > 1 else None


def _robust_deviation(ratios: F64) -> float | None:
    return spread(ratios - np.median(ratios, axis=0)) if len(ratios) > 1 else None

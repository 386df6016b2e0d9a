"""Accelerate the convergence of the pupil: the secant through the last two rounds.

A round aligns the beads and then fits the pupil. It corrects only a fraction of
the pupil's error, because positions and drift of the beads follow the pupil one
round later. The fraction follows from two rounds, and the third round starts at
the extrapolated pupil (Anderson, Journal of the ACM 12, 547, 1965, with a memory
of one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.pupil import Pupil
from models.calibration.pupil_fit import LONGEST_STEP

__all__ = ["Round", "next_start"]

F64 = NDArray[np.float64]

_FARTHEST = 3.0
"""Longest extrapolation, in distances between the last two results: where steps hardly shrink, the secant is
ill-conditioned."""


@dataclass(frozen=True, slots=True)
class Round:
    """Pupil before and after one round.

    Attributes
    ----------
    start, answer : Pupil
    """

    start: Pupil
    result: Pupil

    @property
    def step(self) -> F64:
        """Change of the pupil, in units of `LONGEST_STEP`."""
        change: F64 = (self.result.as_vector() - self.start.as_vector()) / LONGEST_STEP
        return change


def next_start(before: Round | None, last: Round) -> Pupil:
    """The pupil with which the next round starts.

    Parameters
    ----------
    before : Round or None
        Round before the last; None: the result of the last round is used as it is.
    last : Round
    """
    if before is None:
        return last.result
    change = last.step - before.step
    length = float(change @ change)
    back = float(last.step @ change) / length if length > 0 else 0.0
    way = last.result.as_vector() - before.result.as_vector()
    beyond = float(np.clip(-back, -1.0, _FARTHEST))
    return last.result.moved_to(last.result.as_vector() + beyond * way)

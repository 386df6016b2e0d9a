"""Where turns that each bring a pupil nearer to its answer will end: the secant through the last two of them.

A turn of aligning and joining the beads moves the pupil by some share of what
is still missing, since beads and walk follow the pupil only at the next turn.
Two turns tell this share, and the third starts where they point to (Anderson,
Journal of the ACM 12, 547, 1965, with a memory of one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.calibration.pupil import Pupil
from models.calibration.pupil_fit import LONGEST_STEP

__all__ = ["Turn", "next_start"]

F64 = NDArray[np.float64]

_FARTHEST = 3.0
"""Longest way beyond an answer, in distances between the last two answers: where steps hardly shrink, the secant points
anywhere."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: the pupil that it began with, and the one that it answered.

    Attributes
    ----------
    start, answer : Pupil
    """

    start: Pupil
    answer: Pupil

    @property
    def step(self) -> F64:
        """What it changed, in units of what a figure may change at once."""
        change: F64 = (self.answer.as_vector() - self.start.as_vector()) / LONGEST_STEP
        return change


def next_start(before: Turn | None, last: Turn) -> Pupil:
    """The pupil to begin the next turn with.

    Parameters
    ----------
    before : Turn or None
        The turn before the last one; the answer is taken as it is without one.
    last : Turn
    """
    if before is None:
        return last.answer
    change = last.step - before.step
    length = float(change @ change)
    back = float(last.step @ change) / length if length > 0 else 0.0
    way = last.answer.as_vector() - before.answer.as_vector()
    beyond = float(np.clip(-back, -1.0, _FARTHEST))
    return last.answer.moved_to(last.answer.as_vector() + beyond * way)

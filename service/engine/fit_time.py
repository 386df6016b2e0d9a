"""How much of the fit of a frame there is time for.

Network and tracker always run. The fit of the image comes in degrees, from all
of it to none, and each frame gets the highest one that is expected to end
before the next frame is due. What a degree costs is measured before the run,
and followed while it goes on: mean and deviation, as a network protocol
follows the time of an answer (Jacobson, Congestion avoidance and control,
1988). A degree that is too slow now is cheaper in the estimate after each
frame that could not use it, so it is tried again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from models.tracking.compilation import REHEARSED_EMITTERS
from models.tracking.image_filter import FULL, Effort

__all__ = ["DEGREES", "MEASURED_DEGREES", "FitTime"]

DEGREES = ("full", "steps", "part", "none")
"""Degrees of the fit, from the highest on: all of it; one step and no search for missed emitters; that for the most
probable emitters only; none."""

MEASURED_DEGREES: Mapping[str, Effort] = {
    "full": FULL,
    "steps": Effort(steps=1, search=False),
    "part": Effort(steps=1, search=False, emitters=1),
}
"""Those whose time is measured, the part with one emitter."""

_FIXED_EMITTERS = 15.0
"""The cost of a fit without emitters, in emitters: preparing the image, and its model on all pixels. Where it was not
measured, that of 256 x 256 pixels."""
_FEWEST_FIXED, _MOST_FIXED = 3.0, 1000.0

_FIRST_COST_S: Mapping[str, float] = {"full": 4e-4, "steps": 2e-4}
"""Cost per emitter where none was measured before the run, s."""

_WEIGHT = 0.125
_DEVIATIONS = 2.0
_FORGET = 0.99
"""Factor on the estimate of a degree after a frame that could not use it."""

_FEWEST = 2
"""A fit of fewer emitters is not worth its fixed cost."""

_SHARE = 0.9
"""Share of the time between two frames that may be used."""

_MOST_WAITING = 1
"""With more waiting frames nothing is fitted. One may come early."""


@dataclass(slots=True)
class _Cost:
    """Cost of a degree per emitter, s."""

    mean_s: float
    deviation_s: float = 0.0

    @property
    def expected_s(self) -> float:
        return self.mean_s + _DEVIATIONS * self.deviation_s

    def note(self, cost_s: float) -> None:
        error_s = cost_s - self.mean_s
        self.mean_s += _WEIGHT * error_s
        self.deviation_s += _WEIGHT * (abs(error_s) - self.deviation_s)

    def forget(self) -> None:
        self.mean_s *= _FORGET
        self.deviation_s *= _FORGET


class FitTime:
    """Chooses the degree of the fit of each frame, and counts the frames of each degree.

    Parameters
    ----------
    measured_s : mapping of str to float, optional
        Time of a fit of `REHEARSED_EMITTERS` emitters by degree, measured before the run, s.

    Attributes
    ----------
    counts : dict of str to int
        Number of frames by degree.
    """

    def __init__(self, measured_s: Mapping[str, float] | None = None) -> None:
        self.counts = dict.fromkeys(DEGREES, 0)
        self._fixed = _FIXED_EMITTERS
        self._costs = {name: _Cost(cost_s) for name, cost_s in _FIRST_COST_S.items()}
        self.begin_with(measured_s)
        self._last_s: float | None = None
        self._due_s = 0.0

    def begin_with(self, measured_s: Mapping[str, float] | None) -> None:
        """Begin with the measured times of another model; None: with the present estimate."""
        if measured_s is None:
            return
        all_s, one_s = measured_s["steps"], measured_s["part"]
        emitter_s = max(all_s - one_s, 0.0) / (REHEARSED_EMITTERS - 1)
        most_s = _MOST_FIXED * emitter_s
        self._fixed = max((one_s - emitter_s) / emitter_s, _FEWEST_FIXED) if one_s < most_s else _MOST_FIXED
        for name in self._costs:
            self._costs[name] = _Cost(measured_s[name] / (self._fixed + REHEARSED_EMITTERS))

    def begin(self, time_s: float, taken_s: float, frames: int = 1, gather_s: float = 0.0) -> None:
        """Begin with a batch of frames.

        Parameters
        ----------
        time_s : float
            Mid-exposure of its newest frame, on the monotonic clock.
        taken_s : float
            When the batch was taken for analysis, on the same clock.
        frames : int
            Its number of frames.
        gather_s : float
            Time for which the next frames are gathered to a batch.
        """
        # The time to the second frame is not known yet; there are hardly any tracks to be late.
        period_s = math.inf if self._last_s is None else (time_s - self._last_s) / frames
        self._last_s = time_s
        # All frames of the batch share the time of one: those that have waited are not to wait longer.
        self._due_s = taken_s + max(_SHARE * period_s, gather_s)

    def choose(self, emitters: int, now_s: float, frames: int = 1, waiting: int = 0) -> tuple[str, Effort | None]:
        """Degree and effort of the next frame of the batch.

        Parameters
        ----------
        emitters : int
            Expected number of emitters in its fit.
        now_s : float
        frames : int
            Number of frames of the batch that are not tracked yet.
        waiting : int
            Number of frames that wait for the next batch.
        """
        left_s = (self._due_s - now_s) / frames if waiting <= _MOST_WAITING else 0.0
        name, effort = self._affordable(emitters, left_s)
        for degree, cost in self._costs.items():
            if degree == name or (degree, name) == ("steps", "part"):
                break
            cost.forget()
        self.counts[name] += 1
        return name, effort

    def _affordable(self, emitters: int, left_s: float) -> tuple[str, Effort | None]:
        for name, cost in self._costs.items():
            if cost.expected_s * (self._fixed + emitters) <= left_s:
                return name, MEASURED_DEGREES[name]
        part = math.floor(left_s / self._costs["steps"].expected_s - self._fixed)
        if part < _FEWEST:
            return "none", None
        return "part", Effort(steps=1, search=False, emitters=part)

    def note(self, degree: str, effort: Effort | None, emitters: int, taken_s: float) -> None:
        """Take the time that a frame took in its degree."""
        if effort is None:
            return
        fitted = min(emitters, effort.emitters)
        self._costs["steps" if degree == "part" else degree].note(taken_s / (self._fixed + fitted))

"""How much of the fit of a frame there is time for.

Network and tracker always run, in threads of their own. The fit of the image
comes in degrees, from all of it to none. All of it is made where every frame
has time for it. Few steps are made where there is time on average: time that
frames did not use is saved for later ones, so that a fit that takes longer than
a frame is made for one frame in two or three. A frame that is late is not fitted.
While frames are missing the fit gets less and less of the time: it takes processor
time from the camera's thread too.

What a degree costs is measured before the run, and followed while it goes on as
a running mean. A degree that is too slow now is cheaper in the estimate after
each frame that could not use it, so it is tried again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from models.tracking.image_filter import FULL, Effort

__all__ = ["DEGREES", "EFFORTS", "FitCost", "FitTime"]

DEGREES = ("full", "steps", "none")
"""Degrees of the fit, from the highest on: all of it; few steps, and the search for missed emitters in one of four
frames; none."""

EFFORTS: Mapping[str, Effort] = {
    "full": FULL,
    "steps": Effort(steps=0, rough_steps=1, search_every=4, fine=False),
}
"""Those in which something is fitted."""

_FEWEST_FIXED, _MOST_FIXED = 3.0, 1000.0
"""Limits of the cost of a fit without emitters, in emitters."""

_WEIGHT = 0.125
_FORGET = 0.9995
"""Factor on the estimate of a degree after a frame that could not use it."""

_SHARE, _LEAST_SHARE = 0.75, 0.05
"""Share of the time between two frames that may be used."""
_LOSS, _RECOVERY = 0.7, 0.75 / 1000
"""Factor on the share when frames are missing, and its increase with each frame when none is."""

_SAVED_PERIODS = 4.0
"""Most time that is saved, in times between two frames."""

_LONGEST_WAIT = 2.0
"""A frame that waited for its fit for longer, in times between two frames, is not fitted. Several frames come at once
when the network has localized them together."""
_MOST_WAITING = 6
"""With more frames waiting for the network nothing is fitted: the fit takes processor time from it."""


@dataclass(frozen=True, slots=True)
class FitCost:
    """Time that a fit takes, by degree: ``fixed_s + emitters * emitter_s``.

    Attributes
    ----------
    fixed_emitters : float
        Cost of a fit without emitters, in emitters: preparing the image, and its model on all cells.
    emitter_s : mapping of str to float
        Cost of an emitter by degree, s.
    """

    fixed_emitters: float = 15.0
    emitter_s: Mapping[str, float] = field(default_factory=lambda: {"full": 4e-4, "steps": 2e-4})

    @classmethod
    def of(cls, measured_s: Mapping[str, float], emitters: int, alone_s: float) -> FitCost:
        """Cost from measurements.

        Parameters
        ----------
        measured_s : mapping of str to float
            Time of a fit of `emitters` emitters by degree, s.
        emitters : int
        alone_s : float
            Time of a fit of one emitter in the degree ``"steps"``, s.
        """
        emitter_s = max(measured_s["steps"] - alone_s, 0.0) / (emitters - 1)
        most_s = _MOST_FIXED * emitter_s
        fixed = max((alone_s - emitter_s) / emitter_s, _FEWEST_FIXED) if alone_s < most_s else _MOST_FIXED
        return cls(fixed, {degree: taken_s / (fixed + emitters) for degree, taken_s in measured_s.items()})


class FitTime:
    """Chooses the degree of the fit of each frame, and counts the frames of each degree.

    Parameters
    ----------
    cost : FitCost, optional
        Measured before the run; absent: the usual one.

    Attributes
    ----------
    counts : dict of str to int
        Number of frames by degree.
    """

    def __init__(self, cost: FitCost | None = None) -> None:
        self.counts = dict.fromkeys(DEGREES, 0)
        self._last_s: float | None = None
        self._saved_s = 0.0
        self._share = _SHARE
        self.begin_with(cost or FitCost())

    def begin_with(self, cost: FitCost | None) -> None:
        """Begin with the cost of another model; None: go on with the present estimate."""
        if cost is not None:
            self._fixed = cost.fixed_emitters
            self._emitter_s = dict(cost.emitter_s)

    def choose(
        self, time_s: float, emitters: int, waited_s: float = 0.0, waiting: int = 0, missing: int = 0
    ) -> tuple[str, Effort | None]:
        """Degree and effort of the next frame.

        Parameters
        ----------
        time_s : float
            Its mid-exposure, on the monotonic clock.
        emitters : int
            Expected number of emitters in its fit.
        waited_s : float
            How long it has waited for its fit, longer than frames are gathered on purpose.
        waiting : int
            Number of frames that wait for the network.
        missing : int
            Number of frames between the one before and this one, which were lost or are not analysed now.
        """
        self._share = max(_LOSS * self._share, _LEAST_SHARE) if missing else min(self._share + _RECOVERY, _SHARE)
        # The time to the second frame is not known yet; there are hardly any tracks to be late.
        period_s = math.inf if self._last_s is None else time_s - self._last_s
        self._last_s = time_s
        share_s = self._share * period_s
        self._saved_s = min(self._saved_s + share_s, _SAVED_PERIODS * share_s)
        late = waiting > _MOST_WAITING or waited_s > _LONGEST_WAIT * period_s
        allowed_s = {} if late else {"full": min(share_s, self._saved_s), "steps": self._saved_s}
        chosen = "none"
        for degree, limit_s in allowed_s.items():
            if self._expected_s(degree, emitters) <= limit_s:
                chosen = degree
                break
            self._emitter_s[degree] *= _FORGET
        self.counts[chosen] += 1
        return chosen, EFFORTS.get(chosen)

    def note(self, degree: str, emitters: int, taken_s: float) -> None:
        """Take the time that a frame took in its degree."""
        self._saved_s -= taken_s
        if degree in EFFORTS:
            cost_s = taken_s / (self._fixed + emitters)
            self._emitter_s[degree] += _WEIGHT * (cost_s - self._emitter_s[degree])

    def _expected_s(self, degree: str, emitters: int) -> float:
        return self._emitter_s[degree] * (self._fixed + emitters)

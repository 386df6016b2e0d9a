"""Refinement of live localizations, within the time that is left before the next frame.

The joint fit costs time for every emitter, so it runs only when nothing waits
for analysis, on the newest frames first, and only while the fit of one more
frame is expected to be over in time. What is refined has a `chi2`; how many
frames were is counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from hardware.microscope import Frame
from models.tables import Localizations

__all__ = ["SparePolish"]

_REMEMBERED = 32
"""Fits whose slowest sets the expectation: a third of a second of frames."""

_FIRST_GUESS_S = 0.02
"""Per emitter, before the first fit."""


class SparePolish:
    """Refines as many frames as there is time for.

    Parameters
    ----------
    refine : callable
        Gets a frame and what was found in it, and returns it refined, in a bounded number of iterations.
    """

    def __init__(self, refine: Callable[[Frame, Localizations], Localizations]) -> None:
        self._refine = refine
        self._costs_s: deque[float] = deque([_FIRST_GUESS_S], maxlen=_REMEMBERED)
        self.frames = 0

    def polish(self, frames: Sequence[Frame], found: Sequence[Localizations], until_s: float) -> list[Localizations]:
        """What was found in each frame, refined where that is expected to be over by `until_s` (monotonic)."""
        polished = list(found)
        for n in reversed(range(len(frames))):
            emitters = len(polished[n])
            if not emitters:
                continue
            begin_s = time.monotonic()
            if begin_s + emitters * max(self._costs_s) > until_s:
                break
            polished[n] = self._refine(frames[n], polished[n])
            self._costs_s.append((time.monotonic() - begin_s) / emitters)
            self.frames += 1
        return polished

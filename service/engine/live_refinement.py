"""Refinement of live localizations, within the time before the next frame.

The joint fit takes time for every emitter. So it runs only when no frame waits
for analysis, on the newest frames first, and only while the fit of one more
frame is expected to end in time. Refined localizations have a `chi2`; the
refined frames are counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from hardware.microscope import Frame
from models.background.frame_light import FrameLight
from models.tables import Localizations

__all__ = ["LiveRefinement"]

_REMEMBERED = 32
"""Number of recent fits, the slowest of which is the expected duration: a third of a second of frames."""

_FIRST_GUESS_S = 0.02
"""Expected duration per emitter before the first fit, s."""


class LiveRefinement:
    """Refines as many frames as the time allows.

    Parameters
    ----------
    refine : callable
        Receives a frame, its localizations and its static light, and returns the localizations refined, in a bounded
        number of iterations.
    """

    def __init__(self, refine: Callable[[Frame, Localizations, FrameLight | None], Localizations]) -> None:
        self._refine = refine
        self._costs_s: deque[float] = deque([_FIRST_GUESS_S], maxlen=_REMEMBERED)
        self.frames = 0

    def refine(
        self,
        frames: Sequence[Frame],
        found: Sequence[Localizations],
        lights: Sequence[FrameLight | None],
        until_s: float,
    ) -> list[Localizations]:
        """Localizations of each frame, refined where the fit is expected to end by `until_s` (monotonic clock)."""
        refined = list(found)
        for n in reversed(range(len(frames))):
            emitters = len(refined[n])
            if not emitters:
                continue
            begin_s = time.monotonic()
            if begin_s + emitters * max(self._costs_s) > until_s:
                break
            refined[n] = self._refine(frames[n], refined[n], lights[n])
            self._costs_s.append((time.monotonic() - begin_s) / emitters)
            self.frames += 1
        return refined

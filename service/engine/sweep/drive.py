"""Moves of the focus drive during a sweep: within the greatest step, and always from below.

The drive arrives at every position of a sweep from the same side, so backlash
does not change the distance between planes. `Check` is called before each move
and during each wait; it may raise an exception to end the sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from hardware.microscope import Microscope

__all__ = ["ROUNDING_UM", "Check", "Progress", "approach", "go", "settle"]

Check = Callable[[], None]

Progress = Callable[[float, str], None]
"""Receives the fraction done and the present step, before every move and exposure; may raise to end the sweep."""

ROUNDING_UM = 1e-6
"""Rounding of positions in double precision, far below the resolution of any drive, µm."""

_BACKLASH_UM = 5.0
"""Distance below a position from which the drive approaches it, µm: more than the backlash of focus drives."""

_LOOK_S = 0.05
"""Time between two checks while waiting, s."""


def go(microscope: Microscope, target_um: float, check: Check = lambda: None) -> float:
    """Move to a position in steps that the limits allow; return the position read back, µm."""
    longest = microscope.stage_limits.max_step_um
    position = microscope.stage_um
    while abs(target_um - position) > longest:
        check()
        position = microscope.move_stage(position + float(np.sign(target_um - position)) * longest)
    check()
    return microscope.move_stage(target_um)


def approach(microscope: Microscope, target_um: float, check: Check) -> None:
    """Go below the target, as far as the limits allow, so that the drive then arrives from below."""
    go(microscope, max(target_um - _BACKLASH_UM, microscope.stage_limits.low_um), check)


def settle(settle_s: float, check: Check) -> None:
    """Wait, with a check every 50 ms."""
    end_s = time.monotonic() + settle_s
    while (left_s := end_s - time.monotonic()) > 0:
        check()
        time.sleep(min(left_s, _LOOK_S))

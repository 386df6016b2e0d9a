"""Waiting until a stage of the Micro-Manager core has arrived."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from hardware.microscope import MicroscopeError

__all__ = ["arrived"]

_SETTLE_POLL_S = 0.005
"""Pause between two readings of a stage that has not yet arrived, s."""


def arrived(
    core: Any, stage: str, target_um: Sequence[float], read: Callable[[], Sequence[float]], tolerance_um: float
) -> Sequence[float]:
    """The position that a stage reports when it is there, one number for each axis, µm.

    Some stages report that they are done before they are, so the position is read until it fits, for as long as the
    core waits for the stage.

    Raises
    ------
    MicroscopeError
        ``"not_arrived"`` when the stage stands elsewhere.
    """
    settle_s = time.monotonic() + float(core.get_device_timeout_ms(stage)) / 1000
    while True:
        reported = read()
        if all(abs(here - there) <= tolerance_um for here, there in zip(reported, target_um, strict=True)):
            return reported
        if time.monotonic() > settle_s:
            raise MicroscopeError(
                "not_arrived",
                f"{stage} was sent to {_text(target_um)} µm and reports {_text(reported)} µm; "
                f"the tolerance is {tolerance_um:g} µm.",
                "Check that the drive is not blocked or moved by hand, or set a greater tolerance.",
            )
        time.sleep(_SETTLE_POLL_S)


def _text(position: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in position)

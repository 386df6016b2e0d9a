"""A sweep that was cleaned, with notes on what was left out or repaired."""

from __future__ import annotations

from dataclasses import dataclass

from models.calibration.sweep import Sweep

__all__ = ["CheckedSweep"]


@dataclass(frozen=True)
class CheckedSweep:
    """A sweep without planes and pixels that show no light of the sample.

    Attributes
    ----------
    sweep : Sweep
    notes : tuple of str
        What was left out or repaired.
    """

    sweep: Sweep
    notes: tuple[str, ...] = ()

"""Settings of the tracker, each declared once with its unit, range and help.

Nothing here describes the motion: process noise, shares of the motion models,
detection probability and density of emitters are estimated while the run goes
on. What is left are the scale to start from and the thresholds on
probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import numpy as np

from models.errors import DataError

__all__ = ["PRESETS", "Preset", "TrackerSettings"]

Preset = Literal["default", "published"]
PRESETS: tuple[Preset, ...] = ("default", "published")


def _setting(default: Any, low: float, high: float, unit: str, text: str) -> Any:
    return field(default=default, metadata={"low": low, "high": high, "unit": unit, "help": text})


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of the tracker; the metadata of each field has its lowest and highest value, unit and help.

    Raises
    ------
    DataError
        When a value is outside its range.
    """

    least_probability: float = _setting(
        0.05, 0.001, 0.999, "1", "Localizations with a lower probability are not given to the tracker."
    )
    most_probability: float = _setting(
        0.95, 0.5, 0.999, "1", "A single localization is never taken as more certain than this."
    )
    confirm_probability: float = _setting(
        0.95, 0.5, 0.999999, "1", "A track is confirmed, and gets its number, when it is this probable."
    )
    show_probability: float = _setting(
        0.5, 0.0, 0.999, "1", "A confirmed track is left out of a frame while it is less probable than this."
    )
    end_probability: float = _setting(0.01, 1e-6, 0.5, "1", "A track ends when it is less probable than this.")
    survival: float = _setting(
        0.999, 0.5, 1.0, "1", "Probability that an emitter is still there one frame later; 0.999 is 1,000 frames."
    )
    coast_frames: int = _setting(
        100, 0, 100_000, "frames", "A track ends when it was not seen for more frames than this."
    )
    show_sigma_um: float = _setting(
        4.0, 0.01, 1000.0, "µm", "An unseen track is left out while its position is less certain than this."
    )
    step_um: float = _setting(
        1.0, 0.001, 1000.0, "µm", "Expected displacement between frames, to start from; a factor of 3 is near enough."
    )
    adapt: bool = _setting(True, 0, 1, "", "Whether the process noise is estimated from the data.")
    keep_model: float = _setting(
        0.98, 0.5, 0.9999, "1", "Probability that an emitter keeps its kind of motion from frame to frame."
    )
    gate_probability: float = _setting(
        0.9999, 0.5, 0.999999, "1", "Share of the right localizations inside a track's gate."
    )
    sigma_floor_um: float = _setting(0.05, 1e-6, 100.0, "µm", "Sigmas of localizations are raised to this.")
    sigma_inflation: float = _setting(1.0, 0.01, 100.0, "1", "Factor on the sigmas of localizations.")
    resolution_um: float = _setting(
        2.0, 0.01, 1000.0, "µm", "Two emitters nearer than this laterally are one localization: for merges and splits."
    )
    axial_resolution_um: float = _setting(6.0, 0.01, 1000.0, "µm", "The same along the optical axis.")

    def __post_init__(self) -> None:
        """Refuse values outside their ranges."""
        for each in fields(self):
            value, rule = getattr(self, each.name), each.metadata
            if not (np.isfinite(value) and rule["low"] <= value <= rule["high"]):
                raise DataError(
                    f"The tracker's {each.name} is {value}; it must be from {rule['low']:g} to {rule['high']:g}.",
                    "Correct the setting.",
                )

    @cached_property
    def gate(self) -> float:
        """Largest squared Mahalanobis distance of a continuation (chi-square with 3 degrees of freedom)."""
        # scipy.stats has the quantile too, and takes 0.4 s to import. Whoever only reads settings needs neither.
        from scipy.special import chdtri

        return float(chdtri(3, 1 - self.gate_probability))

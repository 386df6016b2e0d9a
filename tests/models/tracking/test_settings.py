"""Each setting of the tracker is bounded, and a value outside is refused with the rule."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from models.errors import DataError
from models.tracking import TrackerSettings


@pytest.mark.parametrize("setting", fields(TrackerSettings), ids=lambda each: each.name)
def test_every_setting_has_a_range(setting: object) -> None:
    name, rule = setting.name, setting.metadata  # type: ignore[attr-defined]
    assert rule["help"].endswith(".")
    for value in (rule["low"], rule["high"]):
        TrackerSettings(**{name: value})
    for value in (rule["low"] - 1, rule["high"] + 1, np.nan, np.inf):
        with pytest.raises(DataError, match=f"The tracker's {name} is .*; it must be from "):
            TrackerSettings(**{name: value})


def test_the_gate_of_three_dimensions() -> None:
    assert TrackerSettings(gate_probability=0.999).gate == pytest.approx(16.266, abs=1e-3)

"""Values that no microscope has are refused, with the slip that they look like."""

from __future__ import annotations

import math
import re

import pytest

from models import quantities
from models.errors import DataError
from models.quantities import Quantity

DECLARED = [value for name in quantities.__all__ if isinstance(value := getattr(quantities, name), Quantity)]


@pytest.mark.parametrize("quantity", DECLARED, ids=lambda quantity: quantity.name)
def test_every_quantity_keeps_its_range(quantity: Quantity) -> None:
    assert quantity.low < quantity.high
    for value in (quantity.low, quantity.high):
        assert quantity.check(value) == value
    step = max(abs(quantity.high), 1.0)
    for value in (quantity.low - step, quantity.high + step, math.nan, math.inf, -math.inf):
        with pytest.raises(DataError, match=re.escape(f"{quantity.low:g} to {quantity.high:g}")) as refused:
            quantity.check(value)
        assert refused.value.remedy


@pytest.mark.parametrize(
    ("quantity", "value", "says"),
    [
        (quantities.PIXEL_SIZE_UM, 6.5, "pixel of the camera itself"),
        (quantities.PIXEL_SIZE_UM, 108.0, "108 nm are 0.108 µm"),
        (quantities.PIXEL_SIZE_UM, 650.0, "650 nm are 0.65 µm"),
        (quantities.PIXEL_SIZE_UM, 1.08e-7, "metres"),
        (quantities.Z_STEP_UM, 50.0, "50 nm are 0.05 µm"),
        (quantities.Z_STEP_UM, 500.0, "500 nm are 0.5 µm"),
        (quantities.SWEEP_PLANES, 65_000_000, "step given in µm"),
        (quantities.EXPOSURE_S, 100.0, "100 ms are 0.1 s"),
        (quantities.TRAINING_MINUTES, 1e-300, "for example 10"),
    ],
)
def test_the_message_guesses_the_slip(quantity: Quantity, value: float, says: str) -> None:
    with pytest.raises(DataError, match=re.escape(says)) as refused:
        quantity.check(value, "--flag")
    assert f"{value:g}" in refused.value.problem
    assert "--flag" in refused.value.problem

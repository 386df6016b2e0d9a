"""Sign and scale of depth follow from what the drive moves and from refraction."""

from __future__ import annotations

import numpy as np
import pytest

from models.calibration.depth_axis import depth_axis
from models.errors import DataError


def test_a_sample_that_moves_away_gains_depth() -> None:
    axis = depth_axis("sample", 1.0, 1.0)
    assert np.diff(axis.depth(np.array([0.0, 1.0]), 5.0)) == pytest.approx([1.0])


def test_an_objective_that_moves_in_takes_depth() -> None:
    axis = depth_axis("objective", 1.0, 1.0)
    assert np.diff(axis.depth(np.array([0.0, 1.0]), 5.0)) == pytest.approx([-1.0])


def test_air_into_water_stretches_depth() -> None:
    assert depth_axis("sample", 1.0, 1.33).axial_scale == pytest.approx(1.33)
    assert depth_axis("sample", 1.33, 1.33).axial_scale == pytest.approx(1.0)


@pytest.mark.parametrize("moves", ["sample", "objective"])
def test_stage_and_depth_are_inverse(moves: str) -> None:
    axis = depth_axis(moves, 1.0, 1.33)  # type: ignore[arg-type]
    assert axis.depth(axis.stage(12.0, 3.0), 3.0) == pytest.approx(12.0)


@pytest.mark.parametrize(
    ("moves", "immersion", "sample"), [(None, 1.0, 1.0), ("sample", 0.5, 1.0), ("sample", 1.0, float("nan"))]
)
def test_missing_facts_are_refused(moves: str | None, immersion: float, sample: float) -> None:
    with pytest.raises(DataError):
        depth_axis(moves, immersion, sample)  # type: ignore[arg-type]

"""Process noise is found from the innovations, whatever it was at the start."""

from __future__ import annotations

import numpy as np
import pytest

from models.tables import Localizations
from models.tracking import Tracker, TrackerSettings


def _tracked(step_um: float, velocity_um: float, settings: TrackerSettings | None = None) -> Tracker:
    """A tracker after 80 frames of 30 points with random steps and a common displacement, µm per frame."""
    random = np.random.default_rng(3)
    places = random.uniform(0, 300, (30, 3))
    tracker = Tracker(settings)
    for frame in range(80):
        places = places + velocity_um + random.normal(0, step_um, places.shape)
        columns = {name: np.ones(30) for name in Localizations.names()}
        columns |= dict(zip(("x_um", "y_um", "z_um"), (places + random.normal(0, 0.1, places.shape)).T, strict=True))
        columns |= {f"sigma_{axis}_um": np.full(30, 0.1) for axis in "xyz"} | {"frame": np.full(30, frame)}
        tracker.step(frame / 100, frame, Localizations.from_columns(columns))
    return tracker


@pytest.mark.parametrize(("step_um", "model"), [(0.3, 1), (1.5, 2)])
def test_random_steps_are_measured(step_um: float, model: int) -> None:
    noise = _tracked(step_um, 0.0).noise
    assert noise.shares.argmax() == model
    # Within the share of steps that the other models explain.
    assert noise.steps_um[model] == pytest.approx(step_um, rel=0.15)


def test_straight_motion_is_found_straighter_than_at_the_start() -> None:
    noise = _tracked(0.0, 0.5).noise
    assert noise.shares.argmax() == noise.flow_model
    start = Tracker().noise.steps_um[noise.flow_model]
    assert noise.steps_um[noise.flow_model] < 0.3 * start


def test_noise_that_is_given_stays() -> None:
    fixed = _tracked(1.5, 0.0, TrackerSettings(adapt=False)).noise
    np.testing.assert_array_equal(fixed.steps_um, Tracker().noise.steps_um)

"""Process noise is found from the innovations, whatever it was at the start."""

from __future__ import annotations

import numpy as np
import pytest

from models.tables import Localizations
from models.tracking import Tracker, TrackerSettings
from models.tracking.noise import ProcessNoise


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


def test_one_step_along_the_gradient_is_the_formula() -> None:
    random = np.random.default_rng(5)
    noise = ProcessNoise(1.0, adapt=True)
    gaussians = random.uniform(0.5, 3.0, (5, len(noise), 3, 12))
    after = random.dirichlet(np.ones(len(noise)), 12).T
    measured, variance = random.uniform(0, 9, (3, 12)), random.uniform(0.1, 2, (3, 12))
    innovation = gaussians[2] + variance
    # The predicted variance grows with the square root of that of a random step, with the fourth root of a velocity's.
    sensitivity = np.array([0.5, 0.5, 0.5, 0.25, 0.25])[:, None, None]
    slope = sensitivity * gaussians[2] / innovation
    excess = np.minimum((measured - gaussians[0]) ** 2 / innovation - 1, 8.0)
    gradient = (0.5 * after[:, None] * slope * excess).sum(axis=(1, 2))
    information = (0.5 * after[:, None] * slope**2).sum(axis=(1, 2))
    before = noise.steps_um
    noise.learn(gaussians, after, measured, variance)
    moved = before * np.exp(0.5 * gradient / (information + 2.0))
    inside = np.array([1, 2, 3, 4])  # the stationary model is held at its limit
    np.testing.assert_allclose(noise.steps_um[inside], moved[inside], rtol=1e-12)

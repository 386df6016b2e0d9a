"""Gates of tracks against the formulas, one track after the other."""

from __future__ import annotations

import numpy as np
import pytest

from models.tracking.gates import gates, reflected

GATE, LARGEST_UM2 = 21.1, 4.0


def test_a_ball_holds_the_ellipsoids_of_all_models_that_are_possible() -> None:
    random = np.random.default_rng(1)
    gaussians = random.uniform(1, 30, (5, 3, 3, 8))
    weights = random.dirichlet(np.ones(3), 8).T
    weights[2, 0] = 1e-4  # so improbable that its gate does not count
    centre, reach = gates(gaussians, weights, GATE, LARGEST_UM2)
    for track in range(8):
        position, spread = gaussians[0, :, :, track], gaussians[2, :, :, track]
        middle = weights[:, track] @ position
        np.testing.assert_allclose(centre[:, track], middle, rtol=1e-12)
        radii = np.sqrt(GATE * (spread.max(axis=1) + LARGEST_UM2)) + np.abs(position - middle).max(axis=1)
        assert reach[track] == pytest.approx(radii[weights[:, track] > 2e-4].max(), rel=1e-12)
    assert reach[0] < gates(gaussians, np.maximum(weights, 1e-3), GATE, LARGEST_UM2)[1][0]


def test_a_localization_across_focus_is_of_a_track_only_within_the_gate_of_its_likeliest_model() -> None:
    gaussians = np.ones((5, 2, 3, 1))
    gaussians[0, :, 2, 0] = 2.0, 1.0  # depths
    gaussians[2, :, 2, 0] = 100.0, 1.0  # the other model could be anywhere
    weights = np.array([[0.3], [0.7]])
    depths = np.array([-1.0, -9.0, 9.0])
    found = reflected(gaussians, weights, GATE, np.array([1.3]), np.zeros(3, np.int64), depths, np.ones(3))
    assert found.tolist() == [False, True, False]

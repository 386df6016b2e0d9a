"""New tracks begin with the velocity of their neighbours, where there are some."""

from __future__ import annotations

import numpy as np

from models.tracking.births import Flow, new_tracks
from models.tracking.noise import ProcessNoise


def test_the_velocity_of_the_neighbours_is_taken() -> None:
    noise = ProcessNoise(1.0, adapt=True)
    flow = Flow(np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]]), np.tile([900.0, 0.0, -300.0], (3, 1)))
    places = np.array([[1.0, 500.0], [1.0, 500.0], [0.0, 0.0]])
    gaussians, weights = new_tracks(places, np.full((3, 2), 0.25), noise, flow)
    directed = gaussians[:, noise.flow_model]
    np.testing.assert_allclose(directed[1, :, 0], [900.0, 0.0, -300.0])
    # The far one has no neighbours, and the other models begin at rest.
    assert not directed[1, :, 1].any()
    assert not np.delete(gaussians[1], noise.flow_model, axis=0).any()
    np.testing.assert_allclose(gaussians[0], np.broadcast_to(places, gaussians[0].shape))
    np.testing.assert_allclose(weights.sum(axis=0), 1.0)


def test_neighbours_of_different_speeds_widen_the_guess() -> None:
    places = np.array([[0.0, 0, 0], [5, 0, 0], [0, 5, 0]])
    alike = Flow(places, np.tile([100.0, 0, 0], (3, 1))).at(places[:1])[1]
    apart = Flow(places, np.array([[100.0, 0, 0], [900, 0, 0], [-700, 0, 0]])).at(places[:1])[1]
    assert apart[0, 0] > 10 * alike[0, 0]


def test_neighbours_are_weighted_by_their_distance() -> None:
    random = np.random.default_rng(2)
    flow = Flow(random.uniform(0, 20, (6, 3)), random.normal(0, 300, (6, 3)))
    place = np.array([[10.0, 8.0, 9.0]])
    weights = np.exp(-0.5 * ((place - flow.position_um) ** 2).sum(axis=1) / 12.0**2)
    weights /= weights.sum()
    expected = weights @ flow.velocity_um_s
    spread = weights @ flow.velocity_um_s**2 - expected**2
    mean, variance, known = flow.at(place)
    assert known.all()
    np.testing.assert_allclose(mean[0], expected, rtol=1e-9)
    np.testing.assert_allclose(variance[0], spread + 60.0**2 + 0.3**2 * (expected**2).sum(), rtol=1e-9)

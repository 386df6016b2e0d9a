"""The bank of models against filterpy, and against the formulas where filterpy is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from filterpy.common import Q_continuous_white_noise
from filterpy.kalman import IMMEstimator, KalmanFilter
from numpy.typing import NDArray
from scipy.stats import norm

from models.tracking.motion_models import (
    Bank,
    combined,
    log_likelihood,
    mix,
    pair_likelihoods,
    posterior,
    predict,
    update,
)

DIRECTED = Bank(np.array([0.0]), np.array([200.0]), np.array([True]), 0.02, 60.0)
SHARES = np.array([0.7, 0.3])
BANK = Bank(np.array([5.0, 0.0]), np.array([0.0, 5000.0]), np.array([False, True]), 0.02, 60.0)
STAY = 0.9


def _start(count: int, models: int, random: np.random.Generator) -> NDArray[np.float64]:
    gaussians = np.zeros((5, models, 3, count))
    gaussians[0] = random.uniform(0, 100, (3, count))
    gaussians[1] = random.normal(0, 30, (3, count))
    gaussians[2], gaussians[4] = 1.0, 900.0
    return gaussians


def _axis(gaussians: NDArray[np.float64], model: int, axis: int, track: int) -> tuple[Any, Any]:
    """Mean (2,) and covariance (2, 2) of one axis."""
    p, v, pp, pv, vv = gaussians[:, model, axis, track]
    return np.array([p, v]), np.array([[pp, pv], [pv, vv]])


def test_one_model_agrees_with_filterpy_over_hundreds_of_steps_with_misses() -> None:
    random = np.random.default_rng(8)
    count = 4
    state = _start(count, 1, random)
    oracles = {}
    for track in range(count):
        oracle = KalmanFilter(dim_x=6, dim_z=3)
        oracle.x = np.concatenate([state[0, 0, :, track], state[1, 0, :, track]])
        oracle.P = np.diag([1.0] * 3 + [900.0] * 3)
        oracle.H = np.eye(3, 6)
        oracles[track] = oracle
    for _ in range(300):
        step_s = random.uniform(0.005, 0.03)
        state = predict(state, DIRECTED, step_s)
        noise = Q_continuous_white_noise(dim=2, dt=step_s, spectral_density=200.0, block_size=3, order_by_dim=False)
        measured = state[0, 0] + random.normal(0, 1, (3, count))
        variance = random.uniform(0.01, 9, (3, count))
        seen = np.flatnonzero(random.random(count) < 0.7)
        state[..., seen] = update(state[..., seen], measured[:, seen], variance[:, seen])
        for track, oracle in oracles.items():
            oracle.predict(F=np.kron([[1, step_s], [0, 1]], np.eye(3)), Q=noise)
            if track in seen:
                oracle.update(measured[:, track], R=np.diag(variance[:, track]))
            np.testing.assert_allclose(state[:2, 0, :, track].ravel(), oracle.x, rtol=1e-9, atol=1e-9)
            for axis in range(3):
                block = oracle.P[np.ix_([axis, axis + 3], [axis, axis + 3])]
                np.testing.assert_allclose(_axis(state, 0, axis, track)[1], block, rtol=1e-9, atol=1e-9)


def _imm(start: NDArray[np.float64], step_s: float) -> IMMEstimator:
    """filterpy's interacting models along x; the other axes are certain and do not move."""
    filters = []
    for model in range(2):
        one = KalmanFilter(dim_x=2, dim_z=1)
        one.x, one.P = (part.copy() for part in _axis(start, model, 0, 0))
        one.H = np.array([[1.0, 0.0]])
        kept = np.exp(-step_s / BANK.memory_s)
        one.F = np.array([[1, step_s], [0, 1]]) if BANK.directed[model] else np.diag([1.0, kept])
        one.Q = (
            Q_continuous_white_noise(dim=2, dt=step_s, spectral_density=float(BANK.acceleration_um2_s3[model]))
            if BANK.directed[model]
            else np.diag([2 * BANK.diffusion_um2_s[model] * step_s, BANK.speed_um_s**2 * (1 - kept**2)])
        )
        filters.append(one)
    change = STAY * np.eye(2) + (1 - STAY) * SHARES
    return IMMEstimator(filters, np.array([0.5, 0.5]), change)


def test_interacting_models_agree_with_filterpy_while_all_is_seen() -> None:
    random = np.random.default_rng(3)
    state, weights, step_s = _start(1, 2, random), np.full((2, 1), 0.5), 0.01
    # Equal likelihoods along y and z: their axes do not distinguish the models.
    oracle = _imm(state, step_s)
    x = state[0, 0, 0, 0]
    for step in range(300):
        x += 0.75 if step // 60 % 2 else random.normal(0, 0.3)
        state, weights = mix(state, weights, STAY, SHARES)
        state = predict(state, BANK, step_s)
        measured, variance = np.array([[x + random.normal(0, 0.5)], [0.0], [0.0]]), np.array([[0.25], [1e18], [1e18]])
        logs = log_likelihood(state[0], state[2], measured, variance)
        state, weights = update(state, measured, variance), posterior(weights, logs)
        oracle.predict()
        for each in oracle.filters:
            each.R = np.array([[0.25]])
        oracle.update(measured[0])
        np.testing.assert_allclose(weights[:, 0], oracle.mu, rtol=1e-9, atol=1e-9)
        moments = combined(state, weights)
        np.testing.assert_allclose(moments[:2, 0, 0], oracle.x, rtol=1e-9, atol=1e-9)
        block = [[moments[2, 0, 0], moments[3, 0, 0]], [moments[3, 0, 0], moments[4, 0, 0]]]
        np.testing.assert_allclose(block, oracle.P, rtol=1e-9, atol=1e-9)


def test_a_miss_leaves_the_predicted_shares_of_the_models() -> None:
    """filterpy scores a zero residual with the last innovation covariance then; the formula is μ Π."""
    random = np.random.default_rng(4)
    weights = random.dirichlet(np.ones(2), 5).T
    _, after = mix(_start(5, 2, random), weights, STAY, SHARES)
    np.testing.assert_allclose(after, (STAY * np.eye(2) + (1 - STAY) * SHARES).T @ weights, rtol=1e-12)


def test_mixing_is_the_formula_of_blom_and_bar_shalom() -> None:
    random = np.random.default_rng(5)
    state, weights = _start(3, 2, random), random.dirichlet(np.ones(2), 3).T
    state[:2] += random.normal(0, 3, state[:2].shape)
    state[3] = random.uniform(-5, 5, state[3].shape)
    mixed, _ = mix(state, weights, STAY, SHARES)
    change = STAY * np.eye(2) + (1 - STAY) * SHARES
    for track in range(3):
        part = change * weights[:, track, None]
        part /= part.sum(axis=0)
        for to in range(2):
            for axis in range(3):
                means, covariances = zip(*(_axis(state, model, axis, track) for model in range(2)), strict=True)
                mean = sum(part[model, to] * means[model] for model in range(2))
                away = [each - mean for each in means]
                expected = sum(
                    part[model, to] * (covariances[model] + np.outer(away[model], away[model])) for model in range(2)
                )
                found_mean, found = _axis(mixed, to, axis, track)
                np.testing.assert_allclose(found_mean, mean, rtol=1e-12)
                np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("bank", [DIRECTED, BANK])
def test_two_short_steps_are_one_long_step(bank: Bank) -> None:
    state = _start(3, len(bank), np.random.default_rng(6))
    twice = predict(predict(state, bank, 0.004), bank, 0.006)
    np.testing.assert_allclose(twice, predict(state, bank, 0.01), rtol=1e-9, atol=1e-9)
    each = predict(state, bank, np.array([0.01, 0.02, 0.03]))
    np.testing.assert_allclose(each[..., 1], predict(state, bank, 0.02)[..., 1], rtol=1e-12)


def test_a_step_back_returns_the_mean() -> None:
    state = _start(3, 1, np.random.default_rng(7))
    back = predict(predict(state, DIRECTED, 0.01), DIRECTED, -0.01)
    np.testing.assert_allclose(back[:2], state[:2], rtol=1e-9)
    assert (back[2] > state[2]).all()


def test_pairs_have_the_likelihood_of_their_track_and_localization() -> None:
    random = np.random.default_rng(9)
    state, weights = _start(4, 2, random), random.dirichlet(np.ones(2), 4).T
    state[0] += random.normal(0, 2, state[0].shape)
    state[2] = random.uniform(0.5, 4, state[2].shape)
    measured, variance = random.uniform(0, 100, (3, 5)), random.uniform(0.1, 9, (3, 5))
    tracks, hits = np.array([0, 0, 3, 2]), np.array([4, 1, 1, 0])
    logs, density = pair_likelihoods(state, weights, tracks, measured, variance, hits)
    sigma = np.sqrt(state[2][..., tracks] + variance[:, hits])
    expected = norm.logpdf(measured[:, hits], state[0][..., tracks], sigma).sum(axis=1)
    np.testing.assert_allclose(logs, expected, rtol=1e-12)
    np.testing.assert_allclose(density, np.logaddexp(*(np.log(weights[:, tracks]) + expected)), rtol=1e-12)
    alone = log_likelihood(state[0][..., tracks], state[2][..., tracks], measured[:, hits], variance[:, hits])
    np.testing.assert_allclose(alone, logs, rtol=1e-15)

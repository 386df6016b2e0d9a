"""The batched filter against filterpy, target by target, and against its own statistics."""

from __future__ import annotations

import numpy as np
import pytest
from filterpy.common import Q_discrete_white_noise
from filterpy.kalman import KalmanFilter
from scipy.stats import chi2

from models.kalman import constant_velocity, mahalanobis, predict, update


@pytest.mark.parametrize("step_s", [0.001, 0.01, 0.0123, 1.7])
def test_process_noise_is_filterpys(step_s: float) -> None:
    transition, noise = constant_velocity(step_s, 30.0)
    expected = Q_discrete_white_noise(dim=2, dt=step_s, var=900.0, block_size=3, order_by_dim=False)
    np.testing.assert_allclose(noise, expected, rtol=1e-12, atol=1e-18)
    np.testing.assert_array_equal(
        transition @ [1, 2, 3, 10, 20, 30], np.array([1, 2, 3, 10, 20, 30]) + step_s * np.array([10, 20, 30, 0, 0, 0])
    )


def test_agrees_with_filterpy_over_hundreds_of_steps_with_misses() -> None:
    random = np.random.default_rng(8)
    count, steps = 7, 300
    start = random.uniform(0, 100, (count, 6))
    state, covariance = start.copy(), np.tile(np.diag([1.0, 1, 4, 900, 900, 900]), (count, 1, 1))
    oracles = []
    for target in range(count):
        oracle = KalmanFilter(dim_x=6, dim_z=3)
        oracle.x = start[target].copy()
        oracle.P = covariance[target].copy()
        oracle.H = np.eye(3, 6)
        oracles.append(oracle)
    for _ in range(steps):
        step_s = random.uniform(0.005, 0.03)
        transition, noise = constant_velocity(step_s, 200.0)
        state, covariance = predict(state, covariance, transition, noise)
        seen = np.flatnonzero(random.random(count) < 0.7)
        measured = state[:, :3] + random.normal(0, 1, (count, 3))
        variance = random.uniform(0.01, 9, (count, 3))
        state[seen], covariance[seen] = update(state[seen], covariance[seen], measured[seen], variance[seen])
        for target, oracle in enumerate(oracles):
            oracle.predict(F=transition, Q=noise)
            if target in seen:
                oracle.update(measured[target], R=np.diag(variance[target]))
            np.testing.assert_allclose(state[target], oracle.x, rtol=1e-9, atol=1e-9)
            np.testing.assert_allclose(covariance[target], oracle.P, rtol=1e-9, atol=1e-9)
    np.testing.assert_array_equal(covariance, covariance.swapaxes(1, 2))
    assert np.linalg.eigvalsh(covariance).min() > 0


def test_mahalanobis_is_the_solved_system() -> None:
    random = np.random.default_rng(2)
    root = random.normal(size=(50, 3, 3))
    covariance = root @ root.swapaxes(1, 2) + 0.1 * np.eye(3)
    innovation = random.normal(size=(50, 3))
    square, log_determinant = mahalanobis(innovation, covariance)
    expected = np.einsum("ni,ni->n", innovation, np.linalg.solve(covariance, innovation[:, :, None])[:, :, 0])
    np.testing.assert_allclose(square, expected, rtol=1e-9)
    np.testing.assert_allclose(log_determinant, np.linalg.slogdet(covariance)[1], rtol=1e-9, atol=1e-9)


def test_errors_are_as_large_as_the_filter_says() -> None:
    """Consistency after Bar-Shalom: the mean normalized squares of error and innovation lie in their 99.9 % bounds."""
    random = np.random.default_rng(12)
    count, steps, step_s, acceleration = 200, 60, 0.01, 500.0
    transition, noise = constant_velocity(step_s, acceleration)
    sigma = np.array([0.3, 0.3, 1.0])
    start_covariance = np.diag([*(sigma**2), 900.0, 900.0, 900.0])
    truth = random.normal(0, 30, (count, 6))
    state = truth + random.multivariate_normal(np.zeros(6), start_covariance, count)
    covariance = np.tile(start_covariance, (count, 1, 1))
    error_squares, innovation_squares = [], []
    for _ in range(steps):
        kick = random.normal(0, acceleration, (count, 3))
        truth = truth @ transition.T + np.hstack([kick * step_s**2 / 2, kick * step_s])
        measured = truth[:, :3] + random.normal(0, sigma, (count, 3))
        state, covariance = predict(state, covariance, transition, noise)
        variance = np.tile(sigma**2, (count, 1))
        innovation = measured - state[:, :3]
        innovation_squares.append(mahalanobis(innovation, covariance[:, :3, :3] + np.diag(sigma**2))[0])
        state, covariance = update(state, covariance, measured, variance)
        error = truth - state
        error_squares.append(np.einsum("ni,nij,nj->n", error, np.linalg.inv(covariance), error))
    # Innovations are independent in time; errors are not, so theirs are judged at one step.
    low, high = chi2.ppf([0.0005, 0.9995], df=3 * count * steps) / (count * steps)
    assert low < np.mean(innovation_squares) < high
    low, high = chi2.ppf([0.0005, 0.9995], df=6 * count) / count
    assert low < np.mean(error_squares[-1]) < high

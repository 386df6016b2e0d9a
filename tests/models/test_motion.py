"""Motions: their statistics, their speed and their bounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.motion import Box, Brownian, Directed, Motion, PulsatileFlow, reflect, wandering

BOX: Box = ((0.0, 100.0), (10.0, 60.0), (5.0, 95.0))


def _inside(xyz: Any, box: Box = BOX) -> bool:
    low, high = np.array(box).T
    return bool(((xyz >= low - 1e-9) & (xyz <= high + 1e-9)).all())


@settings(derandomize=True, deadline=None)
@given(st.floats(-1e4, 1e4))
def test_reflection_stays_in_the_box_and_keeps_what_is_inside(value: float) -> None:
    xyz = np.full((1, 3), value)
    folded = reflect(xyz, BOX)
    assert _inside(folded)
    np.testing.assert_allclose(reflect(folded, BOX), folded, atol=1e-9)
    if _inside(xyz):
        np.testing.assert_allclose(folded, xyz, atol=1e-9)


def test_reflection_at_a_wall() -> None:
    np.testing.assert_allclose(reflect(np.array([[-3.0, 62.0, 95.0]]), BOX), [[3.0, 58.0, 95.0]])


def test_directed() -> None:
    motion = Directed(np.array([[0.0, 10, 5]]), np.array([10.0, 0, 1]))
    np.testing.assert_allclose(motion.positions(3.0), [[30, 10, 8]])
    walled = Directed(np.array([[95.0, 10, 5]]), np.array([10.0, 0, 0]), BOX)
    np.testing.assert_allclose(walled.positions(1.0), [[95, 10, 5]])


@pytest.mark.parametrize("steps", [1, 7])
def test_brownian_spreads_as_2dt_whatever_the_steps(steps: int) -> None:
    motion = Brownian(np.zeros((20000, 3)), 0.5, seed=3, drift_um_s=np.array([2.0, 0, 0]))
    for time_s in np.linspace(0, 4.0, steps + 1):
        xyz = motion.positions(float(time_s))
    np.testing.assert_allclose(xyz.mean(axis=0), [8, 0, 0], atol=0.06)  # 4 standard errors
    np.testing.assert_allclose(xyz.var(axis=0), 2 * 0.5 * 4.0, rtol=0.04)  # 4 standard errors


def test_brownian_in_a_box_fills_it_evenly() -> None:
    motion = Brownian(np.tile([[50.0, 35.0, 50.0]], (5000, 1)), 100.0, seed=1, box_um=BOX)
    xyz = motion.positions(1000.0)
    assert _inside(xyz)
    low, high = np.array(BOX).T
    np.testing.assert_allclose(((xyz - low) / (high - low)).std(axis=0), 1 / np.sqrt(12), rtol=0.04)


def test_brownian_is_seeded_and_refuses_earlier_times() -> None:
    first, second = (Brownian(np.zeros((4, 3)), 1.0, seed=9) for _ in range(2))
    np.testing.assert_array_equal(first.positions(1.0), second.positions(1.0))
    np.testing.assert_array_equal(first.positions(1.0), second.positions(1.0))
    with pytest.raises(DataError, match=r"at 0\.5 s after 1\.0 s"):
        first.positions(0.5)
    with pytest.raises(DataError, match="diffusion coefficient is -1"):
        Brownian(np.zeros((4, 3)), -1, seed=9)


def test_straight_vessel_is_poiseuille_times_beat() -> None:
    axis = np.array([[0.0, 0, 50], [5000, 0, 50], [10000, 0, 50]])
    flow = PulsatileFlow(axis, radius_um=20, emitters=400, seed=2, peak_um_s=500, beat_hz=2.5, pulsation=0.8)
    assert flow.length_um == pytest.approx(10000)
    now, step = 0.1, 1e-4
    before, after = flow.positions(now), flow.positions(now + step)
    radius = np.hypot(before[:, 1], before[:, 2] - 50)
    assert radius.max() <= 20
    assert np.mean(radius < 20 / np.sqrt(2)) == pytest.approx(0.5, abs=0.1)
    speed = (after - before)[:, 0] / step
    on_the_way = speed > -1e4  # one that re-enters jumps back
    expected = 500 * (1 - (radius / 20) ** 2) * (1 + 0.8 * np.sin(2 * np.pi * 2.5 * (now + step / 2)))
    np.testing.assert_allclose(speed[on_the_way], expected[on_the_way], rtol=1e-3, atol=0.1)
    np.testing.assert_allclose((after - before)[:, 1:], 0, atol=1e-9)


def test_curved_vessel_keeps_its_radius() -> None:
    angle = np.linspace(0, np.pi, 9)
    arc = np.column_stack([200 * np.cos(angle), 200 * np.sin(angle), 50 + 10 * angle])
    flow = PulsatileFlow(arc, radius_um=15, emitters=300, seed=5)
    dense = np.linspace(0, np.pi, 4000)
    line = np.column_stack([200 * np.cos(dense), 200 * np.sin(dense), 50 + 10 * dense])
    for time_s in (0.0, 0.37, 2.0):
        distance = np.linalg.norm(flow.positions(time_s)[:, None] - line[None], axis=2).min(axis=1)
        assert distance.max() < 15.2  # the spline leaves the true arc by a fraction of a µm
    np.testing.assert_array_equal(flow.positions(0.3), flow.positions(0.3))


def test_flow_without_beat() -> None:
    flow = PulsatileFlow(np.array([[0.0, 0, 0], [1000, 0, 0]]), 10, emitters=3, seed=1, beat_hz=0.0)
    assert np.isfinite(flow.positions(1.0)).all()


def test_wandering_stays_moves_smoothly_and_needs_no_steps() -> None:
    motion: Motion = wandering(20, BOX, seed=7, speed_um_s=30)
    times = np.linspace(0, 60, 6001)
    path = np.stack([motion.positions(float(t)) for t in times])
    assert _inside(path)
    velocity = np.diff(path, axis=0) / np.diff(times)[:, None, None]
    speed = np.linalg.norm(velocity, axis=2)
    assert np.sqrt((speed**2).mean()) == pytest.approx(30, rel=0.15)
    assert speed.max() < 150
    acceleration = np.diff(velocity, axis=0) / 0.01
    assert np.abs(acceleration).max() < 400
    span = np.ptp(path, axis=0)
    assert (span > 0.2 * np.ptp(np.array(BOX), axis=1)).all()
    np.testing.assert_array_equal(motion.positions(12.34), wandering(20, BOX, seed=7).positions(12.34))
    assert wandering(0, BOX, seed=7).positions(1.0).shape == (0, 3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: wandering(3, ((0, 1), (1, 1), (0, 1)), seed=1), "its bounds must be finite and increase"),
        (lambda: Directed(np.zeros((3, 2)), np.zeros(3)), r"they are \(N, 3\) and finite"),
        (lambda: PulsatileFlow(np.zeros((2, 3)), 10, 5, seed=1), "no two neighbours equal"),
        (lambda: PulsatileFlow(np.eye(3), 0, 5, seed=1), "the radius must be positive"),
    ],
)
def test_impossible_motions(make: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        make()

"""Mean, peak and heart rate from the speeds of tracks."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.scores.flow import flow_of


def test_the_flow_is_found_from_tracks_of_different_speed_and_length() -> None:
    rng = np.random.default_rng(1)
    ids, times, speeds = [], [], []
    for number, (constant, first, last) in enumerate(((40, 0, 150), (90, 20, 90), (140, 60, 150))):
        t_s = np.arange(first, last) / 100
        ids.append(np.full(len(t_s), number))
        times.append(t_s)
        speeds.append(constant * (1 + 0.5 * np.sin(2 * np.pi * 2.5 * t_s)) + rng.normal(0, 2, len(t_s)))
    flow = flow_of(np.concatenate(ids), np.concatenate(times), np.concatenate(speeds))
    assert flow is not None
    mean = (40 * 150 + 90 * 70 + 140 * 90) / 310
    assert flow.mean_um_s == pytest.approx(mean, rel=0.02)
    assert flow.peak_um_s == pytest.approx(1.5 * mean, rel=0.03)
    assert flow.beat_hz == pytest.approx(2.5, abs=0.03)


def test_few_points_have_no_flow() -> None:
    assert flow_of(np.arange(20), np.arange(20) / 100, np.full(20, 5.0)) is None

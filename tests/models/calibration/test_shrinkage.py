"""Two halves with the same signal and noise of their own: the signal stays, the noise goes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibration.shrinkage import shrunk_mean

ROWS, COLUMNS = np.indices((81, 81)) - 40.0
DISTANCE = np.hypot(COLUMNS - 0.4, ROWS + 0.2)
RINGS = np.where(DISTANCE < 32, 1 + np.cos(DISTANCE), 0.0)
"""Rings six knots apart, a little beside the axis."""

LOBES = sum(
    np.exp(-((COLUMNS - x) ** 2 + (ROWS - y) ** 2) / 8)
    for x, y in ((30.0, 2.0), (-30.0, -2.0), (3.0, 29.0), (0.0, 0.0))
)
"""Spots far from the axis: no few angular orders hold them."""


def _error(image: NDArray[np.float32], truth: NDArray[np.float64]) -> float:
    return float(np.linalg.norm(image - truth) / np.linalg.norm(truth))


@pytest.mark.parametrize(("signal", "gain"), [(RINGS, 2.0), (LOBES, 1.5)])
def test_noise_is_shrunk_and_the_signal_stays(signal: NDArray[np.float64], gain: float) -> None:
    rng = np.random.default_rng(4)
    planes = np.stack([signal] * 6)
    level = 0.2 * np.sqrt(np.mean(signal**2))
    first, second = ((planes + level * rng.standard_normal(planes.shape)).astype(np.float32) for _ in range(2))
    shrunk = shrunk_mean(first, second)
    assert _error(shrunk, planes) < _error((first + second) / 2, planes) / gain


def test_noise_alone_leaves_nearly_nothing() -> None:
    rng = np.random.default_rng(5)
    first, second = (rng.standard_normal((6, 61, 61)).astype(np.float32) for _ in range(2))
    assert np.std(shrunk_mean(first, second)) < 0.2 * np.std((first + second) / 2)


def test_what_has_no_noise_is_kept() -> None:
    planes = np.stack([RINGS] * 4).astype(np.float32)
    inner = (slice(None), slice(4, -4), slice(4, -4))
    assert _error(shrunk_mean(planes, planes)[inner], planes[inner]) < 0.01

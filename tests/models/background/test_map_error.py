"""The variance that stands for the error of a map: shared by 64 pixels, at least a share of the structure."""

from __future__ import annotations

import numpy as np
import pytest

from models.background.map_error import BENEATH_TRACKS, FROM_FRAMES, error_variance_e2


def _map(structure_e: float) -> np.ndarray:
    """Squares of 8 pixels, half of them brighter, half darker."""
    signs = np.where(np.arange(8) % 2, 1.0, -1.0)
    squares = 20 + structure_e * signs[:, None] * signs[None, :]
    return np.kron(squares, np.ones((8, 8))).astype(np.float32)


@pytest.mark.parametrize("share", [FROM_FRAMES, BENEATH_TRACKS])
def test_the_error_is_at_least_a_share_of_the_structure(share: float) -> None:
    assert error_variance_e2(_map(5.0), share) == pytest.approx(64 * (share * 5.0) ** 2)
    assert error_variance_e2(_map(5.0), share, _map(5.0)) == pytest.approx(64 * (share * 5.0) ** 2)


def test_the_error_is_the_change_where_that_is_larger() -> None:
    assert error_variance_e2(_map(5.0), BENEATH_TRACKS, _map(5.0) + 2) == pytest.approx(64 * 4)


def test_even_light_and_tiny_frames_have_no_error() -> None:
    assert error_variance_e2(_map(0.0), FROM_FRAMES) == 0
    assert error_variance_e2(np.ones((7, 90), np.float32), FROM_FRAMES) == 0

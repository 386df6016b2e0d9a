"""An uneven background is found despite missed emitters, and only where patterns are small."""

from __future__ import annotations

import numpy as np
import pytest

from models.fit.background import background_is_separable, uneven_background


def test_a_slow_background_is_found_beside_missed_emitters() -> None:
    rows, columns = np.mgrid[:260, :320]
    slow = 5 - 30 * ((rows - 130) / 160) ** 2 + 12 * (columns - 160) / 160
    rng = np.random.default_rng(1)
    residual = (slow + rng.normal(0, 38, slow.shape)).astype(np.float32)
    residual[40:70, 200:230] += 150
    found = uneven_background(residual)
    assert found.shape == residual.shape
    # Noise of a mean over 1300 cells of 64 pixels with six coefficients: 38 sqrt(6 / 83,200) = 0.3.
    assert np.abs(found - slow).max() < 2.5
    assert np.abs(found - slow).mean() < 0.7


def test_an_empty_residual_has_no_background() -> None:
    assert np.abs(uneven_background(np.zeros((64, 64), np.float32))).max() == pytest.approx(0, abs=1e-9)


def test_background_is_separable_in_wide_frames_only() -> None:
    assert background_is_separable((512, 512), 24.0)
    assert not background_is_separable((256, 256), 77.0)
    assert not background_is_separable((512, 300), 24.0)

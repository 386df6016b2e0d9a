"""Depths of faint beads are not biased by an uneven background, also one below the camera's offset."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit import refiner as refinement
from models.fit.refiner import RefinementSettings, Refiner
from models.optics import Objective, computed_psf
from models.tables import Localizations

PIXEL_UM = 1.6
DEPTH_UM = 20.0
READ_NOISE_E = 6.0


def depth_errors_um() -> NDArray[np.float64]:
    """Of nine beads on a background that falls from the middle of a frame to below zero at its corners, (9,)."""
    psf = computed_psf(Objective(0.45, 0.52, PIXEL_UM), np.arange(12.0, 27.0))
    places = np.array([(column, row) for row in (30.0, 150.0, 270.0) for column in (30.0, 150.0, 270.0)])
    rows, columns = np.mgrid[:301, :301] / 150.0 - 1
    background = 40 - 30 * (rows**2 + columns**2)
    image = np.maximum(background, 0) + sum(
        1.5e4 * psf.image(x * PIXEL_UM, y * PIXEL_UM, DEPTH_UM, (301, 301)) for x, y in places
    )
    rng = np.random.default_rng(5)
    electrons = rng.poisson(image) + np.minimum(background, 0) + rng.normal(0, READ_NOISE_E, image.shape)
    count = len(places)
    unknown, probability = np.full(count, np.nan), np.full(count, 0.9)
    start = Localizations(
        np.zeros(count, np.int64),
        *(places.T * PIXEL_UM),
        np.full(count, DEPTH_UM),
        np.full(count, 1.5e4),
        np.full(count, 30.0),
        probability,
        unknown,
        unknown,
        unknown,
        unknown,
    )
    refiner = Refiner(psf, CameraModel(0.0, 1.0, READ_NOISE_E), RefinementSettings(rounds=0))
    found = refiner.refine(electrons.astype(np.float32), start)
    assert len(found) == count
    nearest = np.hypot(found.x_um[:, None] / PIXEL_UM - places[:, 0], found.y_um[:, None] / PIXEL_UM - places[:, 1])
    errors: NDArray[np.float64] = found.z_um[nearest.argmin(axis=0)] - DEPTH_UM
    return errors


def test_depth_does_not_depend_on_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    corrected = depth_errors_um()
    monkeypatch.setattr(refinement, "background_is_separable", lambda shape, widest_px: False)
    uneven = depth_errors_um()
    # The bound of one bead here is about 0.15 µm.
    assert np.abs(corrected).max() < 0.6
    assert np.abs(uneven).max() > 2 * np.abs(corrected).max()

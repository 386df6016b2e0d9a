"""How right the localizations are while they are made, where the truth is known: with a simulated microscope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hardware.microscope import Microscope
from models.metrics import Region, Scorer
from service.engine.analyzer import FrameResult

__all__ = ["LiveScore", "truth_source"]

Truth = Callable[[int], NDArray[np.float64]]


def truth_source(microscope: Microscope) -> Truth | None:
    """What tells the truth of a frame, shape (N, 4): id, x_um, y_um, z_um; None for a real microscope."""
    driver = getattr(microscope, "inner", microscope)
    return getattr(driver, "truth", None)


class LiveScore:
    """Scores frame after frame. Truth outside the field or the model's depth range is ignored.

    Parameters
    ----------
    truth : callable
        Image number to truth.
    shape : (int, int)
        Rows and columns of the frame.
    pixel_size_um : float
    z_range_um : (float, float)
        Depths that the model covers.
    """

    def __init__(
        self, truth: Truth, shape: tuple[int, int], pixel_size_um: float, z_range_um: tuple[float, float]
    ) -> None:
        rows, columns = shape
        # The centre of the first pixel is 0, so the field begins half a pixel before it.
        x_um, y_um = (((-0.5) * pixel_size_um, (side - 0.5) * pixel_size_um) for side in (columns, rows))
        self._truth = truth
        self._scorer = Scorer(region=Region(x_um, y_um, z_range_um))
        self._frames = 0

    def add(self, result: FrameResult) -> None:
        """Score one frame."""
        self._scorer.add(result.found.xyz_um, self._truth(result.frame)[:, 1:4])
        self._frames += 1

    def result(self) -> dict[str, Any]:
        """The figures so far, None where undefined, and the number of frames they come from."""
        return {**self._scorer.result(), "frames": self._frames}

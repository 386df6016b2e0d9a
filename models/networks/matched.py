"""No network: emitters are found by the search of the image filter alone.

Such a model needs a calibration and no training. Tracks begin where the
residual of the fit has a peak of the matched filter (`models.fit.missed`), a few
in each frame, and are fitted from then on. Single frames cannot be localized
with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.camera import CameraModel
from models.networks.cascade_readout import Readout
from models.networks.recipe import Recipe
from models.synthesis import PatternTable, SceneSettings, TrainingFrame

__all__ = ["MatchedArchitecture"]


class MatchedArchitecture:
    """An architecture without weights, which finds no candidates."""

    sizes = ("filter",)
    finds_candidates = False
    recipe = Recipe(optimizer="adamw", learning_rate=0.0)
    stride = 1

    def __init__(self) -> None:
        self.module: nn.Module = nn.Identity()
        self.settings: dict[str, Any] = {}

    @classmethod
    def for_optics(cls, table: PatternTable, z_range_um: tuple[float, float], size: str) -> MatchedArchitecture:
        """The same for all optics: the image filter has the PSF."""
        return cls()

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> MatchedArchitecture:
        """There are no settings."""
        return cls()

    def adapt_scene(self, scene: SceneSettings) -> SceneSettings:
        """No frames are needed."""
        return scene

    def prepare(self, frames: list[TrainingFrame]) -> NoReturn:
        """Never called: there is no training."""
        raise NotImplementedError

    def loss(self, prepared: Any, rng: np.random.Generator) -> NoReturn:
        """Never called: there is no training."""
        raise NotImplementedError

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """No candidates."""
        return _NOTHING

    def detect_counts(self, counts: NDArray[np.uint16], camera: CameraModel) -> Readout:
        """No candidates."""
        return _NOTHING

    def fold(self, dtype: torch.dtype, bounds: dict[str, tuple[float, float]] | None = None) -> None:
        """There is nothing to simplify."""

    def measure(self, frames: Sequence[TrainingFrame]) -> None:
        """There is no int8 form."""


_NOTHING = Readout(np.empty(0, np.int64), *(np.empty(0) for _ in range(7)))

"""The cascade with its targets, loss and read-out, for training and localization."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.camera import CameraModel
from models.networks.cascade import Cascade, CascadeSettings
from models.networks.cascade_readout import Readout, read_out
from models.networks.cascade_targets import CascadeBatch, cascade_loss, make_batch
from models.networks.counts import CountStabilizer
from models.networks.quantized import Bounds, QuantizedCascade, measure_bounds
from models.networks.recipe import Recipe
from models.networks.stabilize import stabilize
from models.synthesis import PatternTable, SceneSettings, TrainingFrame

__all__ = ["CascadeArchitecture"]


@dataclass(frozen=True, slots=True)
class _Size:
    """One size of the network.

    Attributes
    ----------
    shape : settings of the network that do not depend on the optics
    radii_px : pattern radii (99 % of the light) that each presence map detects; neighbouring maps may overlap
    """

    shape: dict[str, Any]
    radii_px: tuple[tuple[float, float], ...]


_SIZES = {
    # 1.6 GMAC for a frame of 256 x 256
    "full": _Size({"down_blocks": (0, 1, 2, 3, 3)}, ((0.0, 24.0), (18.0, 46.0), (40.0, np.inf))),
    # 0.41 GMAC: a finest cell of 4 px saves the most expensive level, which deep patterns need least
    "live": _Size(
        {
            "first_cell_px": 4,
            "channels": (32, 64, 96, 128),
            "down_blocks": (1, 1, 2, 2),
            "up_convolutions": (1, 1, 2),
        },
        ((0.0, 32.0), (24.0, np.inf)),
    ),
}


class CascadeArchitecture:
    """`Cascade` with its targets, loss and read-out.

    Parameters
    ----------
    settings : CascadeSettings
    """

    sizes = tuple(_SIZES)
    """Names of the sizes: full for the best localization, live for 100 frames a second on a processor."""

    recipe = Recipe(optimizer="muon", learning_rate=2.5e-3)
    """Anneals a network within minutes."""

    def __init__(self, settings: CascadeSettings) -> None:
        self.module = Cascade(settings).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.stride = settings.cells_px[-1]
        self._dtype = torch.float32
        self._evaluated: Cascade | QuantizedCascade = self.module
        self._stabilizer = CountStabilizer(settings.first_cell_px, settings.binnings, torch.float32)

    @classmethod
    def for_optics(cls, table: PatternTable, z_range_um: tuple[float, float], size: str) -> CascadeArchitecture:
        """Network for a PSF: depth bands follow the measured width of the pattern, classes the range."""
        low, high = z_range_um
        depths = np.linspace(low, high, 401)
        radii = table.radius_at_px(depths)
        bands = []
        for smallest, largest in _SIZES[size].radii_px:
            inside = depths[(radii >= smallest) & (radii <= largest)]
            bands.append((float(inside.min()), float(inside.max())) if len(inside) else (high + 1.0, high + 1.0))
        # The number of classes does not depend on the range (2 µm each over 100 µm, as published), so that the shipped
        # weights of the outputs fit any optics.
        classes = CascadeSettings().classes
        window = 2.0 * (high - low) / classes
        return cls(
            CascadeSettings(
                **_SIZES[size].shape,
                bands_um=tuple(bands),
                classes=classes,
                z_range_um=(low, high),
                window_um=window,
                pixel_size_um=table.pixel_size_um,
            )
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> CascadeArchitecture:
        """Network of saved settings, weights not yet loaded."""
        return cls(CascadeSettings.from_dict(settings))

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values for model.json."""
        values: dict[str, Any] = self.module.settings.as_dict()
        return values

    def adapt_scene(self, scene: SceneSettings) -> SceneSettings:
        """Training frames are those of the scene."""
        return scene

    def prepare(self, frames: list[TrainingFrame]) -> CascadeBatch:
        """Frames and targets of one training step."""
        electrons: NDArray[np.float32] = np.stack([f.electrons for f in frames])
        read_noise = np.array([f.read_noise_e for f in frames], np.float32)
        return make_batch(electrons, read_noise, [f.emitters for f in frames], self.module.settings)

    def loss(self, prepared: CascadeBatch, rng: np.random.Generator) -> Tensor:
        """Loss of both stages."""
        device = next(self.module.parameters()).device
        electrons = prepared.electrons.to(device, non_blocking=True)
        features = self.module.features(self.inputs(electrons, prepared.read_noise_e.to(device, non_blocking=True)))
        return cascade_loss(self.module, features, prepared, rng)

    def inputs(self, electrons: Tensor, read_noise_e: Tensor) -> list[Tensor]:
        """Inputs of the module: frames (B, H, W) stabilized at its binnings, single pixels as channels."""
        settings = self.module.settings
        single, *binned = stabilize(electrons, read_noise_e, settings.binnings)
        cells = functional.pixel_unshuffle(single, settings.first_cell_px)
        return [cells.contiguous(memory_format=torch.channels_last), *binned]

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """Candidates of frames (B, H, W)."""
        maps = [part.to(self._dtype) for part in self.inputs(electrons, read_noise_e)]
        return read_out(self._evaluated, maps)

    def detect_counts(self, counts: NDArray[np.uint16], camera: CameraModel) -> Readout:
        """Candidates of frames (B, H, W) of counts, on a processor: as `detect`, in less time."""
        return read_out(self._evaluated, self._stabilizer(counts, camera))

    def fold(self, dtype: torch.dtype, bounds: Bounds | None = None) -> None:
        """Prepare for evaluation in `dtype`; int8 needs the `bounds` from `measure`."""
        code = None
        self._dtype = torch.float32 if dtype == torch.int8 else dtype
        self.module.fold(self._dtype)
        if dtype == torch.int8:
            if bounds is None:
                raise ValueError("int8 needs the bounds of the maps")
            self._evaluated = QuantizedCascade(self.module, bounds)
            code = self._evaluated.cells_code
        settings = self.module.settings
        self._stabilizer = CountStabilizer(settings.first_cell_px, settings.binnings, self._dtype, code)

    def measure(self, frames: Sequence[TrainingFrame]) -> Bounds | None:
        """Bounds of every map on `frames`, for evaluation in int8; None for the size `full`."""
        if self.module.settings.first_cell_px < _SIZES["live"].shape["first_cell_px"]:
            return None
        copy = CascadeArchitecture(self.module.settings)
        copy.module.load_state_dict(self.module.state_dict())
        copy.module.eval()
        copy.module.fold(torch.float32)
        batches = (
            copy.inputs(torch.from_numpy(frame.electrons)[None], torch.tensor([frame.read_noise_e])) for frame in frames
        )
        return measure_bounds(copy.module, batches)

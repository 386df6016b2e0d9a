"""The fully convolutional pair with its targets, losses and read-out, for training and localization.

It is trained on images of one bead, shifted and with noise: the frames of
`models.synthesis`, whole for the lateral network and as crops around emitters
for the axial one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from models.networks.cascade_readout import Readout
from models.networks.cascade_targets import add_peaks, focal_loss
from models.networks.depth_classes import (
    class_probabilities,
    class_radii_px,
    depth_labels,
    emitters_at,
    emitters_of_frames,
    find_peaks,
    read_depths,
)
from models.networks.fcn import CropDepth, FcnSettings, WholeImage
from models.networks.pair import NetworkPair
from models.networks.patches import cut_patches
from models.networks.recipe import Recipe
from models.networks.stabilize import stabilize
from models.synthesis import PatternTable, SceneSettings, TrainingFrame

__all__ = ["FcnArchitecture", "FcnBatch"]

_SIZES: dict[str, dict[str, Any]] = {
    "narrow": {},
    "wide": {
        "channels": (48, 64, 96, 128, 192),
        "width": 64,
        "crop_channels": (48, 64, 96, 128, 192),
        "hidden": 512,
    },
}

_STACKED_SHARE = 0.1
"""Share of the emitters placed above or below another one, which is rare by chance."""

_CROPS_PER_FRAME = 8

_EMPTY_SHARE = 0.2
"""Share of the crops at random positions, as negative examples."""

_SHAKE_PX = 1.0
"""Standard deviation of the shift of crops around emitters, since detections are not exact."""

_DEPTH_WEIGHT = 10.0
"""Weight of the axial loss, a mean over 50 classes, against the lateral one, a sum over an emitter's cells."""

_PLACES_PER_FRAME = 256


@dataclass(frozen=True, slots=True)
class FcnBatch:
    """Frames and targets of one step.

    Attributes
    ----------
    maps : inputs of the networks, float32 (B, 1, H, W)
    heat : target of the heat map, float32 (B, H / cell, W / cell)
    emitters : float64 (M, 5): frame of the batch, x, y, z (µm), photo-electrons
    """

    maps: Tensor
    heat: Tensor
    emitters: NDArray[np.float64]


class FcnArchitecture(NetworkPair):
    """Lateral and axial network with their targets, losses and read-out.

    Parameters
    ----------
    settings : FcnSettings
    """

    sizes = tuple(_SIZES)
    """Names of the sizes."""

    recipe = Recipe(batch=4, validation_frames=96)
    """AdamW and a cosine."""

    def __init__(self, settings: FcnSettings) -> None:
        self._settings = settings
        self.lateral = WholeImage(settings)
        self.axial = CropDepth(settings)
        super().__init__(settings, self.lateral, self.axial, settings.stride_px)

    @classmethod
    def for_optics(cls, table: PatternTable, z_range_um: tuple[float, float], size: str) -> FcnArchitecture:
        """Networks for a PSF: classes of 2 µm, crops that hold the widest pattern, 128 pixels at most."""
        low, high = z_range_um
        classes = max(2, round((high - low) / 2))
        radii = class_radii_px(table, z_range_um, classes)
        shape = dict(_SIZES[size])
        coarsest = 2 << (len(shape.get("crop_channels", FcnSettings().crop_channels)) - 1)
        crop = int(np.clip(coarsest * np.ceil(2 * max(radii) / coarsest), 2 * coarsest, 128))
        return cls(
            FcnSettings(
                **shape,
                crop_px=crop,
                z_range_um=(low, high),
                classes=classes,
                radii_px=radii,
                pixel_size_um=table.pixel_size_um,
            )
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> FcnArchitecture:
        """Networks of saved settings, weights not yet loaded."""
        return cls(FcnSettings.from_dict(settings))

    def adapt_scene(self, scene: SceneSettings) -> SceneSettings:
        """Frames of the scene, some of their emitters above each other."""
        return replace(scene, stacked_share=_STACKED_SHARE)

    def prepare(self, frames: list[TrainingFrame]) -> FcnBatch:
        """Frames and targets of one training step."""
        settings = self._settings
        electrons = torch.from_numpy(np.stack([f.electrons for f in frames]))
        noise = torch.tensor([f.read_noise_e for f in frames], dtype=torch.float32)
        cell = settings.cell_px
        heat = np.zeros((len(frames), electrons.shape[1] // cell, electrons.shape[2] // cell), np.float32)
        for target, frame in zip(heat, frames, strict=True):
            add_peaks(target, (frame.emitters[:, :2] / settings.pixel_size_um + 0.5) / cell - 0.5)
        return FcnBatch(stabilize(electrons, noise, (1,))[0], torch.from_numpy(heat), emitters_of_frames(frames))

    def loss(self, prepared: FcnBatch, rng: np.random.Generator) -> Tensor:
        """Focal loss of the heat map and binary cross-entropy of depth at crops."""
        settings = self._settings
        device = next(self.module.parameters()).device
        maps = prepared.maps.to(device, non_blocking=True)
        lateral = focal_loss(self.lateral(maps).float(), prepared.heat)
        centres = self._crop_centres(prepared, rng)
        inside = emitters_at(
            prepared.emitters, centres * [1, settings.pixel_size_um, settings.pixel_size_um], settings.label_um
        )
        labels = depth_labels(inside, prepared.emitters[:, 3], settings.z_range_um, settings.classes)
        batch, x, y = (torch.from_numpy(column).to(device) for column in centres.T)
        logits = self.axial(self._cut_crops(maps, batch.long(), x, y))
        axial = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).to(device))
        return lateral + _DEPTH_WEIGHT * axial

    def _crop_centres(self, prepared: FcnBatch, rng: np.random.Generator) -> NDArray[np.float64]:
        """Centres of the crops of a step: frame, x, y in pixels, shape (N, 3)."""
        frames, _, height, width = prepared.maps.shape
        count = frames * _CROPS_PER_FRAME
        centres = np.column_stack([rng.integers(0, frames, count), rng.random((count, 2)) * [width, height]])
        if len(prepared.emitters):
            chosen = prepared.emitters[rng.integers(0, len(prepared.emitters), count)]
            shaken = chosen[:, 1:3] / self._settings.pixel_size_um + rng.normal(0, _SHAKE_PX, (count, 2))
            full = rng.random(count) >= _EMPTY_SHARE
            centres[full] = np.column_stack([chosen[:, 0], shaken])[full]
        centres[:, 1] = np.clip(centres[:, 1], 0, width - 1)
        centres[:, 2] = np.clip(centres[:, 2], 0, height - 1)
        return centres

    def _cut_crops(self, maps: Tensor, batch: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
        side = self._settings.crop_px
        left, top = ((at - (side - 1) / 2).round().long() for at in (x_px, y_px))
        return cut_patches(maps, batch, left, top, side)

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """Candidates of frames (B, H, W)."""
        settings = self._settings
        maps = stabilize(electrons, read_noise_e, (1,))[0].to(self._dtype)
        places = find_peaks(torch.sigmoid(self.lateral(maps).float()), settings.cell_px, _PLACES_PER_FRAME)
        crops = self._cut_crops(maps, places.batch, places.x_px, places.y_px)
        classes = class_probabilities(self.axial, crops, settings.classes)
        return read_depths(
            places,
            classes,
            electrons,
            z_range_um=settings.z_range_um,
            radii_px=settings.radii_px,
            pixel_size_um=settings.pixel_size_um,
            sigma_lateral_um=settings.cell_px * settings.pixel_size_um / np.sqrt(12),
        )

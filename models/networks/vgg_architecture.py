"""The published pair of networks with its recipe, losses and read-out, for training and localization.

There are four sizes. ``narrow`` (an eighth of VGG-19's features) and
``quarter`` train on a processor, on pixels summed by two, which helps a short
training more than sharpness (docs/method.md). ``wide`` is VGG-19 in full.
These three have stable initial weights, batch normalization,
variance-stabilized frames and first blocks that windows share. ``printed`` has
the published initial weights, optimizer, dropout and number of samples, on the
frames of this project; its initial weights are far above a stable scale
(docs/method.md).

The losses are those of the authors' public code: hinge for detection, binary
cross-entropy for depth. Both networks are trained in the same steps, each on
its own patches.
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
from models.networks.depth_classes import (
    class_probabilities,
    class_radii_px,
    depth_labels,
    emitters_at,
    emitters_of_frames,
    find_peaks,
    read_depths,
)
from models.networks.pair import NetworkPair
from models.networks.patches import cut_patches, stretch_contrast
from models.networks.recipe import Recipe
from models.networks.stabilize import stabilize
from models.networks.vgg import Vgg, VggSettings
from models.synthesis import PatternTable, SceneSettings, TrainingFrame

__all__ = ["VggArchitecture", "VggBatch"]

_SIZES: dict[str, dict[str, Any]] = {
    "narrow": {"channels": (8, 16, 32, 64, 64), "hidden": 128, "cell_px": 2, "unpadded_blocks": 2},
    "quarter": {"channels": (16, 32, 64, 128, 128), "hidden": 256, "cell_px": 2, "unpadded_blocks": 2},
    "wide": {},
    "printed": {
        "unpadded_blocks": 0,
        "batch_norm": False,
        "contrast": True,
        "by_place": False,
        "forced_shares": (0.2, 0.0),
    },
}

_PRINTED_RECIPE = Recipe(
    optimizer="sgd",
    learning_rate=1e-3,
    weight_decay=0.0,
    momentum=0.9,
    rate_decay=5e-4,
    batch=8,
    samples=1_000_000,  # 5 epochs of 200,000
    longest_gradient=None,
    validation_frames=4,
)

_RECIPE = Recipe(learning_rate=2e-3, batch=4, samples_per_frame=64, validation_frames=64)
"""Windows share most of their cost, so many are taken from each frame."""

_FRAME_PATCHES = 2
"""Side of a training frame in patches: most windows reach beyond its edge, as in a camera frame."""

_CROWDING = 0.5
"""Share of the scene's highest density: where all patterns overlap, labels of windows carry little information."""

_STACKED_SHARE = 0.1
"""Share of the emitters placed above or below another one, which is rare by chance."""

_STEEPNESS = 2.5
"""Slope of the sigmoid from score to probability: the targets of the hinge loss, -1 and 1, become 0.08 and 0.92."""

_PLACES_PER_FRAME = 256


@dataclass(frozen=True, slots=True)
class VggBatch:
    """Frames of one step.

    Attributes
    ----------
    maps : inputs of the networks, float32 (B, 1, H, W)
    emitters : float64 (M, 5): frame of the batch, x, y, z (µm), photo-electrons
    """

    maps: Tensor
    emitters: NDArray[np.float64]


class VggArchitecture(NetworkPair):
    """Detection and depth network with their patches, losses and read-out.

    Parameters
    ----------
    settings : VggSettings
    """

    sizes = tuple(_SIZES)
    """Names of the sizes, from the smallest to the published one."""

    def __init__(self, settings: VggSettings) -> None:
        self._settings = settings
        self.lateral = Vgg(settings, 1)
        self.axial = Vgg(settings, settings.classes)
        super().__init__(settings, self.lateral, self.axial, settings.stride_px)

    @classmethod
    def for_optics(cls, table: PatternTable, z_range_um: tuple[float, float], size: str) -> VggArchitecture:
        """Networks for a PSF: depth classes of 2 µm, as published."""
        low, high = z_range_um
        classes = max(2, round((high - low) / 2))
        return cls(
            VggSettings(
                **_SIZES[size],
                z_range_um=(low, high),
                classes=classes,
                radii_px=class_radii_px(table, z_range_um, classes),
                pixel_size_um=table.pixel_size_um,
            )
        )

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> VggArchitecture:
        """Networks of saved settings, weights not yet loaded."""
        return cls(VggSettings.from_dict(settings))

    @property
    def recipe(self) -> Recipe:
        """The published recipe for `printed`; else AdamW and a cosine, fewer validation frames for wide networks."""
        if not self._settings.batch_norm:
            return _PRINTED_RECIPE
        narrower = _SIZES["narrow"]["channels"][0] / self._settings.channels[0]
        return replace(_RECIPE, validation_frames=max(4, round(narrower * _RECIPE.validation_frames)))

    def adapt_scene(self, scene: SceneSettings) -> SceneSettings:
        """Frames of two patches, up to half as dense as the scene's, some of their emitters above each other."""
        side = _FRAME_PATCHES * self._settings.patch_px
        most = max(scene.count[0], round(_CROWDING * scene.count[1] * side**2 / (scene.shape[0] * scene.shape[1])))
        return replace(scene, shape=(side, side), count=(scene.count[0], most), stacked_share=_STACKED_SHARE)

    def prepare(self, frames: list[TrainingFrame]) -> VggBatch:
        """Frames and emitters of one training step; `loss` selects the patches."""
        electrons = torch.from_numpy(np.stack([f.electrons for f in frames]))
        noise = torch.tensor([f.read_noise_e for f in frames], dtype=torch.float32)
        return VggBatch(self._maps(electrons, noise), emitters_of_frames(frames))

    def loss(self, prepared: VggBatch, rng: np.random.Generator) -> Tensor:
        """Hinge loss of detection and binary cross-entropy of depth, each on its own patches."""
        settings = self._settings
        maps = prepared.maps.to(next(self.module.parameters()).device, non_blocking=True)
        at, beside = settings.forced_shares
        cells, inside = self._select_windows(prepared, rng, at, beside)
        scores = self.lateral.classify_selected(maps, *cells)[:, 0]
        sign = torch.from_numpy(np.where(inside.any(1), 1.0, -1.0)).float().to(maps.device)
        hinge = functional.relu(1 - sign * scores).mean()

        cells, inside = self._select_windows(prepared, rng, 1.0, 0.0)
        logits = self.axial.classify_selected(maps, *cells)
        labels = depth_labels(inside, prepared.emitters[:, 3], settings.z_range_um, settings.classes)
        depth = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(labels).to(maps.device))
        return hinge + depth

    def _select_windows(
        self, prepared: VggBatch, rng: np.random.Generator, at: float, beside: float
    ) -> tuple[tuple[Tensor, Tensor, Tensor], NDArray[np.bool_]]:
        """Select windows: frame, row and column of each, and which emitters lie at their centres.

        The share `at` lies at an emitter, the share `beside` near one, the others anywhere.
        """
        settings = self._settings
        frames, _, height, width = prepared.maps.shape
        stride = settings.stride_px
        per_frame = self.recipe.samples_per_frame
        batch = np.repeat(np.arange(frames), per_frame)
        shape = np.array([width, height]) // settings.stride
        cells = rng.integers(0, shape, (len(batch), 2))
        kind = rng.random(len(batch))
        label_px = settings.label_um / settings.pixel_size_um
        for frame in range(frames):
            emitters = prepared.emitters[prepared.emitters[:, 0] == frame]
            rows = np.flatnonzero((batch == frame) & (kind < at + beside))
            if not len(emitters) or not len(rows):
                continue
            places = emitters[rng.integers(0, len(emitters), len(rows)), 1:3] / settings.pixel_size_um
            away = rng.uniform(1.5, 5.0, len(rows)) * label_px
            angle = rng.uniform(0, 2 * np.pi, len(rows))
            aside = (away * np.stack([np.cos(angle), np.sin(angle)])).T
            places += np.where((kind[rows] < at)[:, None], 0.0, aside)
            cells[rows] = np.clip(np.rint((places - (stride - 1) / 2) / stride), 0, shape - 1)
        centres = np.column_stack([batch, (cells * stride + (stride - 1) / 2) * settings.pixel_size_um])
        inside = emitters_at(prepared.emitters, centres, settings.label_um)
        device = next(self.module.parameters()).device
        frame_numbers, columns, rows_ = (torch.from_numpy(v).to(device) for v in (batch, cells[:, 0], cells[:, 1]))
        return (frame_numbers, rows_, columns), inside

    def _maps(self, electrons: Tensor, read_noise_e: Tensor) -> Tensor:
        """Inputs of the networks for frames (B, H, W); the background is 0."""
        if self._settings.contrast:
            return (electrons - electrons.flatten(1).median(1).values[:, None, None])[:, None]
        return stabilize(electrons, read_noise_e, (self._settings.cell_px,))[0]

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """Candidates of frames (B, H, W)."""
        settings = self._settings
        maps = self._maps(electrons, read_noise_e).to(self._dtype)
        scores = self.lateral.classify_windows(maps)[:, 0].float()
        places = find_peaks(torch.sigmoid(_STEEPNESS * scores), settings.stride_px, _PLACES_PER_FRAME)
        left, top = (
            ((at + 0.5) / settings.cell_px - settings.patch / 2).round().long() for at in (places.x_px, places.y_px)
        )
        patches = cut_patches(maps, places.batch, left, top, settings.patch)
        classes = class_probabilities(
            self.axial, stretch_contrast(patches) if settings.contrast else patches, settings.classes
        )
        return read_depths(
            places,
            classes,
            electrons,
            z_range_um=settings.z_range_um,
            radii_px=settings.radii_px,
            pixel_size_um=settings.pixel_size_um,
            sigma_lateral_um=settings.stride_px * settings.pixel_size_um / np.sqrt(12),
        )

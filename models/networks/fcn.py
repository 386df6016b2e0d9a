"""Fully convolutional localization: one network detects centres in the whole image, one classifies depth in crops.

The cascade of Moon, Son and Kim, "Three-dimensional localization of defocused
fluorescence based on deep learning". The lateral network narrows to coarse
maps, where wide patterns are seen whole, and adds their scores on finer maps
to those of finer features (Long, Shelhamer & Darrell, arXiv:1411.4038). The
axial network takes a square around each detection and predicts a probability
for each depth class. The classes are independent labels, so emitters above
each other give several.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.networks.pair import PlainSettings

__all__ = ["CropDepth", "FcnSettings", "WholeImage"]

_RARE = -4.6
"""Initial bias of the heat map: probability 0.01, since centres are rare."""


@dataclass(frozen=True, slots=True)
class FcnSettings(PlainSettings):
    """Shape of both networks and scale of their outputs.

    Attributes
    ----------
    cell_px : camera pixels to a cell of the heat map, each way
    channels : features of the lateral network at each level; each level has cells twice as wide
    convolutions : of each level
    width : features of the maps in which the levels are summed
    crop_px : side of a crop
    crop_channels : features of the axial network at each level; the finest has the cells of the heat map
    hidden : width of its fully connected layer
    label_um : largest distance from the centre of a crop, along each axis, of an emitter that counts as present
    z_range_um : labelled depths
    classes : number of depth classes over `z_range_um`
    radii_px : radius of the pattern at each class, for the estimate of its light
    pixel_size_um : camera pixel at the sample
    """

    cell_px: int = 2
    channels: tuple[int, ...] = (24, 32, 48, 64, 96)
    convolutions: int = 2
    width: int = 32
    crop_px: int = 128
    crop_channels: tuple[int, ...] = (24, 32, 48, 64, 96)
    hidden: int = 256
    label_um: float = 2.0
    z_range_um: tuple[float, float] = (0.0, 100.0)
    classes: int = 50
    radii_px: tuple[float, ...] = ()
    pixel_size_um: float = 0.65

    @property
    def stride_px(self) -> int:
        """Pixels to a cell of the coarsest level."""
        return self.cell_px << (len(self.channels) - 1)


def _convolutions(inputs: int, outputs: int, count: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for _ in range(count):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]
        inputs = outputs
    return layers


class WholeImage(nn.Module):
    """The lateral network.

    Parameters
    ----------
    settings : FcnSettings
    """

    def __init__(self, settings: FcnSettings) -> None:
        super().__init__()
        self.settings = settings
        inputs = (settings.cell_px**2, *settings.channels)
        self.down = nn.ModuleList(
            nn.Sequential(*_convolutions(before, after, settings.convolutions))
            for before, after in zip(inputs, settings.channels, strict=False)
        )
        self.side = nn.ModuleList(nn.Conv2d(channels, settings.width, 1) for channels in settings.channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(*_convolutions(settings.width, settings.width, 1)) for _ in settings.channels[1:]
        )
        self.heat = nn.Conv2d(settings.width, 1, 1)
        nn.init.constant_(self.heat.bias, _RARE)  # type: ignore[arg-type]
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, maps: Tensor) -> Tensor:
        """Logits of centres, shape (B, H / cell, W / cell), of maps (B, 1, H, W)."""
        x = functional.pixel_unshuffle(maps, self.settings.cell_px).contiguous(memory_format=torch.channels_last)
        levels = []
        for number, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if number else x)
            levels.append(x)
        x = self.side[-1](levels[-1])
        for number in reversed(range(len(levels) - 1)):
            wider = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.smooth[number](wider + self.side[number](levels[number]))
        logits: Tensor = self.heat(x)[:, 0]
        return logits

    def fold(self, dtype: torch.dtype) -> None:
        """Merge the normalization into the convolutions and go to `dtype`; for evaluation, in place."""
        _fold(self, dtype)


class CropDepth(nn.Module):
    """The axial network.

    Parameters
    ----------
    settings : FcnSettings
    """

    def __init__(self, settings: FcnSettings) -> None:
        super().__init__()
        self.settings = settings
        layers: list[nn.Module] = []
        inputs = settings.cell_px**2
        for number, channels in enumerate(settings.crop_channels):
            if number:
                layers.append(nn.MaxPool2d(2))
            layers += _convolutions(inputs, channels, 2)
            inputs = channels
        self.features = nn.Sequential(*layers)
        side = settings.crop_px // settings.cell_px >> (len(settings.crop_channels) - 1)
        self.head = nn.Sequential(
            nn.Linear(inputs * side**2, settings.hidden),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Linear(settings.hidden, settings.classes),
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, crops: Tensor) -> Tensor:
        """Logits of the depth classes, float32 (N, classes), of crops (N, 1, S, S)."""
        cells = functional.pixel_unshuffle(crops, self.settings.cell_px)
        features = self.features(cells.contiguous(memory_format=torch.channels_last))
        logits: Tensor = self.head(features.flatten(1).float())
        return logits

    def fold(self, dtype: torch.dtype) -> None:
        """Merge the normalization into the convolutions and go to `dtype`; for evaluation, in place."""
        _fold(self.features, dtype)


def _fold(module: nn.Module, dtype: torch.dtype) -> None:
    for parent in [module, *module.modules()]:
        if isinstance(parent, nn.Sequential):
            _merge(parent)
    module.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _merge(layers: nn.Sequential) -> None:
    for number, layer in enumerate(layers):
        if isinstance(layer, nn.BatchNorm2d):
            before: Any = layers[number - 1]
            layers[number - 1] = fuse_conv_bn_eval(before, layer)
            layers[number] = nn.Identity()

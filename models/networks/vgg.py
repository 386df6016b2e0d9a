"""The published networks: one detects an emitter at the centre of a patch, one classifies its depth.

Both are VGG-19 (Simonyan & Zisserman, arXiv:1409.1556) up to its last
convolution, followed by two fully connected layers on all places of the last
features, as in VGG-19. (The authors' public code takes the maximum of each
feature over the patch first. Then only the trace of the zero padding depends on
the position, although the task is to detect an emitter at the centre.)

The published form pads every convolution with zeros. The outputs of a layer
then depend on where the patch ends, so every window of a frame is computed
separately. Here the first blocks may go without padding: windows share their
features, and a frame costs a fraction of its windows
(`Vgg.classify_windows`), with the same outputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.networks.pair import PlainSettings
from models.networks.patches import cut_patches, stretch_contrast

__all__ = ["Vgg", "VggSettings"]

_PRINTED_SIGMA = 0.1
"""Standard deviation of the initial weights, as published."""

_WINDOWS_AT_ONCE = 1024
_PATCHES_AT_ONCE = 64
"""Small enough that their features nearly fit into the processor's cache."""


@dataclass(frozen=True, slots=True)
class VggSettings(PlainSettings):
    """Shape of the pair and scale of its outputs.

    Attributes
    ----------
    channels : features of each block
    convolutions : 3 x 3 convolutions of each block
    unpadded_blocks : blocks at the start without zero padding, whose features windows share; 0 as published
    batch_norm : normalization after each convolution, with initial weights that suit it; False: N(0, 0.1), as published
    contrast : scale each patch from 0 to 1, as in the authors' code; False: variance-stabilized frames, as the cascade
    by_place : whether the fully connected layers see every place of the last features; False: their maxima
    hidden : width of the first fully connected layer
    dropout : share of that layer that is left out in training
    cell_px : camera pixels, each way, that are summed to one cell of the input; 1 as published
    patch_px : side of a patch
    stride_px : pixels from window to window
    forced_shares : shares of the detection patches that are placed at an emitter, and beside one
    label_um : largest distance from the centre of a patch, along each axis, of an emitter that counts as present
    z_range_um : labelled depths
    classes : number of depth classes over `z_range_um`
    radii_px : radius of the pattern at each class, for the estimate of its light
    pixel_size_um : camera pixel at the sample
    """

    channels: tuple[int, ...] = (64, 128, 256, 512, 512)
    convolutions: tuple[int, ...] = (2, 2, 4, 4, 4)
    unpadded_blocks: int = 3
    batch_norm: bool = True
    contrast: bool = False
    by_place: bool = True
    hidden: int = 1024
    dropout: float = 0.5
    cell_px: int = 1
    patch_px: int = 128
    stride_px: int = 4
    forced_shares: tuple[float, float] = (0.4, 0.2)
    label_um: float = 2.0
    z_range_um: tuple[float, float] = (0.0, 100.0)
    classes: int = 50
    radii_px: tuple[float, ...] = ()
    pixel_size_um: float = 0.65

    @property
    def last_side(self) -> int:
        """Cells of the last features of a patch, each way."""
        side = self.patch
        for number, count in enumerate(self.convolutions):
            side = side // 2 if number else side
            side -= 2 * count if number < self.unpadded_blocks else 0
        return side

    @property
    def shares_features(self) -> bool:
        """Whether windows share features."""
        return self.unpadded_blocks > 0 and not self.contrast and self.stride % self.shared_cells == 0

    @property
    def patch(self) -> int:
        """Cells of a patch, each way."""
        return self.patch_px // self.cell_px

    @property
    def stride(self) -> int:
        """Cells from window to window."""
        return self.stride_px // self.cell_px

    @property
    def shared_cells(self) -> int:
        """Cells to one place of the features that windows share."""
        return 1 << max(self.unpadded_blocks - 1, 0)


class Vgg(nn.Module):
    """One network of the pair.

    Parameters
    ----------
    settings : VggSettings
    outputs : int
        1 for detection; the number of depth classes.
    """

    def __init__(self, settings: VggSettings, outputs: int) -> None:
        super().__init__()
        self.settings = settings
        blocks: list[nn.Module] = []
        inputs = 1
        for number, (channels, count) in enumerate(zip(settings.channels, settings.convolutions, strict=True)):
            layers: list[nn.Module] = []
            for _ in range(count):
                padding = 0 if number < settings.unpadded_blocks else 1
                layers.append(nn.Conv2d(inputs, channels, 3, padding=padding, bias=not settings.batch_norm))
                if settings.batch_norm:
                    layers.append(nn.BatchNorm2d(channels))
                layers.append(nn.ReLU(inplace=True))
                inputs = channels
            blocks.append(nn.Sequential(*layers))
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Sequential(
            nn.Linear(inputs * (settings.last_side**2 if settings.by_place else 1), settings.hidden),
            nn.ReLU(),
            nn.Dropout(settings.dropout),
            nn.Linear(settings.hidden, outputs),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                _initialize_weights(module, stable=settings.batch_norm)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, patches: Tensor) -> Tensor:
        """Outputs for patches (N, 1, S, S), shape (N, outputs), float32."""
        x = patches.contiguous(memory_format=torch.channels_last)
        for number in range(self.settings.unpadded_blocks):
            x = functional.max_pool2d(self.blocks[number](x), 2)
        return self.classify_features(x)

    def classify_features(self, x: Tensor) -> Tensor:
        """Outputs for the features of patches after the unpadded blocks."""
        padded = list(self.blocks)[self.settings.unpadded_blocks :]
        for number, block in enumerate(padded):
            x = block(x) if number == 0 else block(functional.max_pool2d(x, 2))
        # VGG-19's last pooling is left out: it would lose some of the few places, and the maximum over all includes it.
        outputs: Tensor = self.head((x.flatten(1) if self.settings.by_place else x.amax((2, 3))).float())
        return outputs

    def classify_windows(self, maps: Tensor) -> Tensor:
        """Outputs for every window of maps, with `stride` between them.

        Parameters
        ----------
        maps : Tensor, shape (B, 1, H, W)
            Cells; H and W multiples of `stride`.

        Returns
        -------
        float32 (B, outputs, H / stride, W / stride)
            Window n is centred at pixel ``n * stride_px + (stride_px - 1) / 2``.
        """
        frames, _, height, width = maps.shape
        rows, columns = height // self.settings.stride, width // self.settings.stride
        grid = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).to(maps.device)
        outputs = []
        for frame in torch.split(maps, 1):
            classify = (
                self._shared_classifier(frame)
                if self.settings.shares_features
                else partial(self._classify_patches, frame)
            )
            for cells in torch.split(grid, _WINDOWS_AT_ONCE if self.settings.shares_features else _PATCHES_AT_ONCE):
                outputs.append(classify(torch.zeros_like(cells[:, 0]), cells[:, 0], cells[:, 1]))
        return torch.cat(outputs).view(frames, rows, columns, -1).permute(0, 3, 1, 2)

    def classify_selected(self, maps: Tensor, batch: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Outputs for some windows of maps (B, 1, H, W), given by frame and cell, shape (N, outputs)."""
        classify = (
            self._shared_classifier(maps) if self.settings.shares_features else partial(self._classify_patches, maps)
        )
        return classify(batch, row, column)

    def _classify_patches(self, maps: Tensor, batch: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Outputs for windows, each computed as a separate patch."""
        stride, before = self.settings.stride, self._margin()
        patches = cut_patches(maps, batch, column * stride - before, row * stride - before, self.settings.patch)
        outputs: Tensor = self(stretch_contrast(patches) if self.settings.contrast else patches)
        return outputs

    def _shared_classifier(self, maps: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Run the unpadded blocks once for all windows: only their last pooling depends on where a window begins."""
        stride = self.settings.stride
        step, rows = stride // self.settings.shared_cells, maps.shape[2] // stride
        before = self._margin()
        after = self.settings.patch - stride - before
        x = functional.pad(maps, (before, after, before, after)).contiguous(memory_format=torch.channels_last)
        for number in range(self.settings.unpadded_blocks):
            x = self.blocks[number](functional.max_pool2d(x, 2) if number else x)
        pooled = functional.max_pool2d(x, 2, stride=1)
        _, channels, height, width = pooled.shape
        # One row for each place: any window is then a selection of rows.
        places_of_all = pooled.permute(0, 2, 3, 1).reshape(-1, channels)
        side = (height - (rows - 1) * step + 1) // 2
        offsets = 2 * torch.arange(side, device=maps.device)

        def classify(batch: Tensor, row: Tensor, column: Tensor) -> Tensor:
            y = (batch * height + row * step)[:, None] + offsets
            x = (column * step)[:, None] + offsets
            places = (y * width)[:, :, None] + x[:, None, :]
            windows = places_of_all.index_select(0, places.flatten()).view(len(batch), side, side, channels)
            return self.classify_features(windows.permute(0, 3, 1, 2))

        return classify

    def _margin(self) -> int:
        """Cells of the first window that lie before the frame."""
        return (self.settings.patch - self.settings.stride) // 2

    def fold(self, dtype: torch.dtype) -> None:
        """Merge the normalization into the convolutions, which go to `dtype`; for evaluation, in place."""
        for number, block in enumerate(self.blocks):
            layers = list(block)  # type: ignore[call-overload]
            merged: list[nn.Module] = []
            for layer in layers:
                if isinstance(layer, nn.BatchNorm2d):
                    merged[-1] = fuse_conv_bn_eval(merged[-1], layer)  # type: ignore[type-var]
                else:
                    merged.append(layer)
            self.blocks[number] = nn.Sequential(*merged)
        self.blocks.to(dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]


def _initialize_weights(module: nn.Conv2d | nn.Linear, *, stable: bool) -> None:
    if stable:
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    else:
        nn.init.normal_(module.weight, 0.0, _PRINTED_SIGMA)
    if module.bias is not None:
        nn.init.zeros_(module.bias)

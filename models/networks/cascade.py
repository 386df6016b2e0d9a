"""The cascade: lateral detection, then depth classification at the detections, on one shared trunk.

The image of an emitter at depth z is about z wide, so depth is scale. Stage
one is a feature pyramid: its presence maps detect shallow emitters on a fine
grid and deep ones on coarser grids, whose cells see the whole pattern.
Stage two runs at the detections only. A small perceptron takes the features
of all levels around a detection and predicts, for every depth class, the
probability of an emitter (multi-label: several emitters may share one lateral
position) and its offsets. Classes overlap: each covers a window of depths, so
its probability is that of a localization right to a few µm. Stage two can
reject proposals of stage one.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from models.networks.packed import PackedConvolution, can_pack

__all__ = ["Cascade", "CascadeSettings", "Proposals", "sample_features"]

OUTPUTS_PER_CLASS = 7
"""Per depth class: presence logit; x, y, z offset; log lateral sigma, log axial sigma; log10 photons."""


@dataclass(frozen=True, slots=True)
class CascadeSettings:
    """Shape of the network and scale of its outputs.

    Level n of the pyramid has ``first_cell_px * 2**n`` camera pixels to a cell.

    Attributes
    ----------
    first_cell_px : pixels, each way, of a cell of the finest level
    channels : features of each level
    down_blocks : residual blocks of each level on the way down
    up_convolutions : convolutions of each level but the coarsest on the way up; 2 are a residual block
    bands_um : labelled depths (low, high) of the presence maps, one map per level, finest level first
    classes : number of depth classes over `z_range_um`
    z_range_um : labelled depths
    window_um : half width of a class's window
    pixel_size_um : camera pixel at the sample
    hidden : width of stage two
    """

    first_cell_px: int = 2
    channels: tuple[int, ...] = (24, 48, 96, 128, 160)
    down_blocks: tuple[int, ...] = (0, 1, 1, 2, 2)
    up_convolutions: tuple[int, ...] = (1, 2, 2, 2)
    bands_um: tuple[tuple[float, float], ...] = ((0.0, 18.0), (14.0, 45.0), (38.0, 100.0))
    classes: int = 50
    z_range_um: tuple[float, float] = (0.0, 100.0)
    window_um: float = 4.0
    pixel_size_um: float = 0.65
    hidden: int = 256

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> CascadeSettings:
        """Read what `as_dict` wrote, after a trip through JSON."""
        return cls(
            first_cell_px=int(values["first_cell_px"]),
            channels=tuple(values["channels"]),
            down_blocks=tuple(values["down_blocks"]),
            up_convolutions=tuple(values["up_convolutions"]),
            bands_um=tuple((float(low), float(high)) for low, high in values["bands_um"]),
            classes=int(values["classes"]),
            z_range_um=(float(values["z_range_um"][0]), float(values["z_range_um"][1])),
            window_um=float(values["window_um"]),
            pixel_size_um=float(values["pixel_size_um"]),
            hidden=int(values["hidden"]),
        )

    @property
    def cells_px(self) -> tuple[int, ...]:
        """Camera pixels to a cell of each level, each way."""
        return tuple(self.first_cell_px << level for level in range(len(self.channels)))

    @property
    def binnings(self) -> tuple[int, ...]:
        """Scales at which the network sees a frame: single pixels, and binned to each level below the finest."""
        return (1, *self.cells_px[1:])

    @property
    def class_centres_um(self) -> Tensor:
        """Depth of each class, shape (classes,), µm."""
        low, high = self.z_range_um
        step = (high - low) / self.classes
        return low + step * (torch.arange(self.classes, dtype=torch.float32) + 0.5)


@dataclass(frozen=True, slots=True)
class Proposals:
    """Detections of stage one, N of them.

    Attributes
    ----------
    batch : int64 (N,), which frame
    x_px, y_px : float32 (N,), camera pixels
    score : float32 (N,), probability
    """

    batch: Tensor
    x_px: Tensor
    y_px: Tensor
    score: Tensor


class _Convolution(nn.Sequential):
    def __init__(self, inputs: int, outputs: int, stride: int = 1, size: int = 3) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first: nn.Module = _Convolution(channels, channels)
        self.second: nn.Module = nn.Sequential(
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False), nn.BatchNorm2d(channels)
        )
        # The block starts as the identity, so blocks can be added to a trained network.
        nn.init.zeros_(self.second[1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        inner = self.first(x)
        if isinstance(self.second, PackedConvolution):
            return self.second.add_to(x, inner)
        return functional.relu(x + self.second(inner), inplace=True)

    def pack(self) -> None:
        self.first = PackedConvolution(self.first[0], relu=True)  # type: ignore[index]
        self.second = PackedConvolution(self.second[0], relu=True)  # type: ignore[index]


class _Down(nn.Module):
    """Halve the resolution and add the binned frame: binning raises faint wide patterns above the noise."""

    def __init__(self, inputs: int, outputs: int, blocks: int) -> None:
        super().__init__()
        self.halve: nn.Module = nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False)
        self.binned: nn.Module = nn.Conv2d(1, outputs, 3, 1, 1, bias=False)
        self.norm: nn.Module = nn.BatchNorm2d(outputs)
        self.blocks = nn.Sequential(*[_Residual(outputs) for _ in range(blocks)])

    def forward(self, x: Tensor, binned: Tensor) -> Tensor:
        if isinstance(self.halve, PackedConvolution):
            return self.blocks(self.halve.add_to(self.binned(binned), x))  # type: ignore[no-any-return]
        return self.blocks(functional.relu(self.norm(self.halve(x) + self.binned(binned)), inplace=True))  # type: ignore[no-any-return]

    def fold(self) -> None:
        norm = self.norm
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # type: ignore[operator, arg-type]
        for convolution in (self.halve, self.binned):
            convolution.weight = nn.Parameter(convolution.weight * scale[:, None, None, None])  # type: ignore[operator]
        self.halve.bias = nn.Parameter(norm.bias - norm.running_mean * scale)  # type: ignore[operator]
        self.norm = nn.Identity()

    def pack(self) -> None:
        self.halve = PackedConvolution(self.halve, relu=True)  # type: ignore[arg-type]
        self.binned = PackedConvolution(self.binned, relu=False)  # type: ignore[arg-type]


class Cascade(nn.Module):
    """Trunk, presence maps and depth head.

    Parameters
    ----------
    settings : CascadeSettings
    """

    def __init__(self, settings: CascadeSettings) -> None:
        super().__init__()
        self.settings = settings
        channels = settings.channels
        steps = list(pairwise(channels))
        self.stem = nn.Sequential(
            _Convolution(settings.first_cell_px**2, channels[0]),
            *[_Residual(channels[0]) for _ in range(settings.down_blocks[0])],
        )
        self.down = nn.ModuleList(
            [_Down(fine, coarse, n) for (fine, coarse), n in zip(steps, settings.down_blocks[1:], strict=True)]
        )
        self.lateral = nn.ModuleList([nn.Conv2d(coarse, fine, 1) for fine, coarse in steps])
        self.up = nn.ModuleList(
            [
                _Residual(width) if count == 2 else _Convolution(width, width)
                for width, count in zip(channels, settings.up_convolutions, strict=False)
            ]
        )
        self.presence = nn.ModuleList([nn.Conv2d(width, 1, 1) for width in channels[: len(settings.bands_um)]])
        self.depth = nn.Sequential(
            nn.Linear(
                sum(width * len(_sampled_cells(level)) for level, width in enumerate(channels[:-1])), settings.hidden
            ),
            nn.ReLU(inplace=True),
            nn.Linear(settings.hidden, settings.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(settings.hidden, settings.classes * OUTPUTS_PER_CLASS),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # Emitters are rare: the initial probability is 0.01 everywhere (Lin et al., ICCV 2017, focal loss).
        for head in self.presence:
            nn.init.constant_(head.bias, -4.6)  # type: ignore[arg-type]
            nn.init.normal_(head.weight, 0, 0.01)  # type: ignore[arg-type]
        nn.init.normal_(self.depth[-1].weight, 0, 0.01)  # type: ignore[arg-type]

    def inner_weights(self) -> list[nn.Parameter]:
        """Matrices and kernels of the hidden layers: all but those that take pixels or give outputs."""
        ends = [
            self.stem[0][0],  # type: ignore[index]
            *[down.binned for down in self.down],
            *self.presence,
            self.depth[-1],
        ]
        inner = [m for m in self.modules() if isinstance(m, nn.Conv2d | nn.Linear) and m not in ends]
        return [module.weight for module in inner]  # type: ignore[misc]

    def features(self, frames: list[Tensor]) -> tuple[Tensor, ...]:
        """Feature maps of all levels but the coarsest, finest first.

        Parameters
        ----------
        frames : list of Tensor
            Frames stabilized at the `binnings` of the settings (see `models.networks.stabilize`), H and W
            multiples of the coarsest cell: single pixels as channels of the finest cells
            (B, first_cell_px**2, H / first_cell_px, W / first_cell_px), then (B, 1, H / binning, W / binning).
        """
        cells, *binned = frames
        x = self.stem(cells)
        sides = []
        for down, frame in zip(self.down, binned, strict=True):
            sides.append(x)
            x = down(x, frame)
        found: list[Tensor] = []
        for side, lateral, up in zip(sides[::-1], reversed(self.lateral), reversed(self.up), strict=True):
            x = up(side + _upsample(lateral(x)))
            found.append(x)
        return tuple(found[::-1])

    def presence_maps(self, features: tuple[Tensor, ...]) -> list[Tensor]:
        """Presence logits, one map for each band of depths, each of shape (B, H', W')."""
        return [head(f)[:, 0] for head, f in zip(self.presence, features, strict=False)]

    def classify_depths(self, features: tuple[Tensor, ...], batch: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
        """Stage two at given positions.

        Parameters
        ----------
        features : from `features`
        batch : int64 (N,), which frame
        x_px, y_px : float32 (N,), camera pixels

        Returns
        -------
        Tensor of shape (N, classes, OUTPUTS_PER_CLASS)
        """
        parts = [
            sample_features(feature, level, cell, batch, x_px, y_px)
            for level, (feature, cell) in enumerate(zip(features, self.settings.cells_px, strict=False))
        ]
        return self.classify_features(parts)

    def classify_features(self, parts: list[Tensor]) -> Tensor:
        """Stage two on the features that `sample_features` gave for each level; (N, classes, OUTPUTS_PER_CLASS)."""
        outputs = self.depth(torch.cat(parts, 1))
        return outputs.view(-1, self.settings.classes, OUTPUTS_PER_CLASS)  # type: ignore[no-any-return]

    def propose(self, maps: list[Tensor], threshold: float, most: int) -> Proposals:
        """Local maxima of the presence maps above a probability.

        Parameters
        ----------
        maps : presence logits
        threshold : lowest probability
        most : largest number of proposals for the whole batch; the most probable are kept
        """
        found: list[tuple[Tensor, ...]] = []
        for logits, cell in zip(maps, self.settings.cells_px, strict=False):
            probability = torch.sigmoid(logits.float())
            batch, row, column = torch.nonzero(probability > threshold, as_tuple=True)
            # Only the few cells above the threshold are compared with their neighbours.
            padded = functional.pad(probability, (1, 1, 1, 1))
            around = torch.stack([padded[batch, row + i, column + j] for i in range(3) for j in range(3)])
            peak = around[4] >= around.amax(0)
            batch, row, column = batch[peak], row[peak], column[peak]
            found.append(
                (
                    batch,
                    (column + 0.5) * cell - 0.5,
                    (row + 0.5) * cell - 0.5,
                    probability[batch, row, column],
                )
            )
        batch, x, y, score = (torch.cat(parts) for parts in zip(*found, strict=True))
        if len(batch) > most:
            keep = torch.topk(score, most).indices
            batch, x, y, score = batch[keep], x[keep], y[keep], score[keep]
        return Proposals(batch, x, y, score)

    def fold(self, dtype: torch.dtype) -> None:
        """Prepare for evaluation in `dtype`, in place: fold the normalization in, pack convolutions where possible.

        Call it on the final device. Input and output maps are of `dtype` afterwards.
        """
        for module in list(self.modules()):
            if isinstance(module, _Down):
                module.fold()
            elif isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
                module[0] = fuse_conv_bn_eval(module[0], module[1])  # type: ignore[type-var]
                module[1] = nn.Identity()
        self.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not can_pack(self.lateral[0].weight.device, dtype):  # type: ignore[arg-type]
            return
        for module in list(self.modules()):
            if isinstance(module, _Residual | _Down):
                module.pack()
        for steps in (self.stem, self.up):
            for n, step in enumerate(steps):
                if isinstance(step, _Convolution):
                    steps[n] = PackedConvolution(step[0], relu=True)  # type: ignore[arg-type]
        for n, lateral in enumerate(self.lateral):
            self.lateral[n] = PackedConvolution(lateral, relu=False)  # type: ignore[arg-type]


def _upsample(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2.0, mode="nearest")


_CENTRE = ((0, 0),)
_CROSS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
_CROSSED_LEVELS = 3
"""Levels whose features are sampled on the cross; on coarser levels one cell holds the whole pattern."""


def _sampled_cells(level: int) -> tuple[tuple[int, int], ...]:
    """Cells of a level that stage two samples, relative to that of the detection."""
    return _CROSS if level < _CROSSED_LEVELS else _CENTRE


def sample_features(feature: Tensor, level: int, cell_px: int, batch: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
    """Feature vectors at continuous positions and in the cells around them, bilinear, clamped at the border.

    One gather serves all corners, since the gradient of each gather fills a whole map. Features of 8 bits are
    weighted in float32.

    Returns
    -------
    Tensor of shape (N, sampled cells * C)
    """
    count, (channels, height, width) = len(x_px), feature.shape[1:]
    around = _sampled_cells(level)
    shift = torch.tensor(around, dtype=x_px.dtype, device=x_px.device)
    u = ((x_px + 0.5) / cell_px - 0.5)[:, None] + shift[:, 0]
    v = ((y_px + 0.5) / cell_px - 0.5)[:, None] + shift[:, 1]
    u, v = u.clamp(0, width - 1), v.clamp(0, height - 1)
    left = u.floor().clamp(max=width - 2)
    top = v.floor().clamp(max=height - 2)
    a, b = u - left, v - top
    corner = (batch[:, None] * height + top.long()) * width + left.long()
    corners = torch.stack([corner, corner + 1, corner + width, corner + width + 1], 2)
    dtype = feature.dtype if feature.is_floating_point() else torch.float32
    weights = torch.stack([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b], 2).to(dtype)
    rows = feature.permute(0, 2, 3, 1).reshape(-1, channels)
    values = rows.index_select(0, corners.flatten()).view(count, len(around), 4, channels)
    return (values.to(dtype) * weights[..., None]).sum(2).flatten(1)

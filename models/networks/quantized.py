"""The cascade's trunk in 8-bit integers: half the time of bfloat16, also on processors that have no bfloat16.

Every map is stored as 0..255 between two bounds, which training measures on
frames of its own kind, and every weight as -127..127 with one scale for each
output channel (Jacob et al., arXiv:1712.05877). The kernels are oneDNN's, as
PyTorch's own quantized models use them. The outputs are not rounded: presence
logits are float32, and stage two runs in float32 on the few rows that it
samples.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.networks.cascade import Cascade, Proposals, sample_features
from models.networks.levels import quantization_of, to_levels

__all__ = ["Bounds", "QuantizedCascade", "measure_bounds"]

Bounds = dict[str, tuple[float, float]]
"""Lowest and highest value of each map, by name."""

_CLIPPED_SHARE = 1e-4
"""Share of the values of a map that is clipped at each end; the brightest cores would take half of the levels."""


@dataclass(frozen=True, slots=True)
class _Convolution:
    """One convolution of a folded network and the name of its output map."""

    name: str
    module: nn.Conv2d
    relu: bool = False


class _Operations(Protocol):
    """Storage and computation of the maps of `_run_trunk`."""

    def store_input(self, name: str, values: Tensor) -> Any:
        """An input map."""

    def convolve(self, convolution: _Convolution, x: Any) -> Any:
        """The map that a convolution makes."""

    def add(self, convolution: _Convolution, other: Any, x: Any) -> Any:
        """The same added to another map, which may be overwritten."""


def _run_trunk(network: Cascade, maps: list[Tensor], operations: _Operations) -> list[Any]:
    """The trunk of a folded cascade as convolutions and sums: feature maps of all levels but the coarsest."""

    def residual(name: str, block: Any, x: Any) -> Any:
        inner = operations.convolve(_Convolution(f"{name}.first", block.first[0], relu=True), x)
        return operations.add(_Convolution(f"{name}.second", block.second[0], relu=True), x, inner)

    x = operations.store_input("cells", maps[0])
    stem: Any = network.stem
    x = operations.convolve(_Convolution("stem", stem[0][0], relu=True), x)
    for n, block in enumerate(stem[1:]):
        x = residual(f"stem.{n}", block, x)
    sides = []
    for level, (down, binned) in enumerate(zip(network.down, maps[1:], strict=True)):
        sides.append(x)
        halving: Any = down
        frame = operations.store_input(f"binned.{level}", binned)
        frame = operations.convolve(_Convolution(f"down.{level}.binned", halving.binned), frame)
        x = operations.add(_Convolution(f"down.{level}", halving.halve, relu=True), frame, x)
        for n, block in enumerate(halving.blocks):
            x = residual(f"down.{level}.{n}", block, x)
    found = []
    for level in reversed(range(len(sides))):
        # A 1 x 1 kernel commutes with the enlargement; applied after it, the sum is part of the convolution.
        wide = operations.add(_Convolution(f"lateral.{level}", network.lateral[level]), sides[level], _upsample(x))  # type: ignore[arg-type]
        up: Any = network.up[level]
        if hasattr(up, "first"):
            x = residual(f"up.{level}", up, wide)
        else:
            x = operations.convolve(_Convolution(f"up.{level}", up[0], relu=True), wide)
        found.append(x)
    return found[::-1]


def _upsample(x: Any) -> Any:
    values = x.values if isinstance(x, _QuantizedMap) else x
    larger = functional.interpolate(values, scale_factor=2.0, mode="nearest")
    return _QuantizedMap(larger, x.scale, x.zero) if isinstance(x, _QuantizedMap) else larger


class _BoundsRecorder:
    """Operations in float32 that record the bounds of every map."""

    def __init__(self) -> None:
        self.bounds: Bounds = {}

    def store_input(self, name: str, values: Tensor) -> Tensor:
        return self._record(name, values)

    def convolve(self, convolution: _Convolution, x: Tensor) -> Tensor:
        made = convolution.module(x)
        return self._record(convolution.name, functional.relu(made) if convolution.relu else made)

    def add(self, convolution: _Convolution, other: Tensor, x: Tensor) -> Tensor:
        made = other + convolution.module(x)
        return self._record(convolution.name, functional.relu(made) if convolution.relu else made)

    def _record(self, name: str, values: Tensor) -> Tensor:
        flat = values.flatten()
        clipped = max(1, int(_CLIPPED_SHARE * len(flat)))
        low = float(flat.kthvalue(clipped).values)
        high = float(flat.kthvalue(len(flat) - clipped + 1).values)
        before = self.bounds.get(name, (0.0, 0.0))
        self.bounds[name] = (min(low, before[0]), max(high, before[1]))
        return values


def measure_bounds(network: Cascade, batches: Iterable[list[Tensor]]) -> Bounds:
    """Bounds of every map of a network on batches of its input maps; the network is folded, in float32."""
    measuring = _BoundsRecorder()
    with torch.inference_mode():
        for maps in batches:
            _run_trunk(network, maps, measuring)
    return measuring.bounds


@dataclass(frozen=True, slots=True)
class _QuantizedMap:
    """A map as ``(values - zero) * scale``, values uint8 (B, C, H, W), channels last."""

    values: Tensor
    scale: float
    zero: int


class _IntegerConvolution:
    """A convolution with its weights rounded and arranged for the processor."""

    def __init__(self, convolution: _Convolution, x: _QuantizedMap) -> None:
        module = convolution.module
        weight = module.weight.detach().float()
        self.scales = weight.abs().amax((1, 2, 3)).clamp(min=1e-12) / 127
        rounded = (weight / self.scales[:, None, None, None]).round().to(torch.int8)
        self.geometry = ([*module.stride], [*module.padding], [1, 1], 1)
        self.weight = torch.ops.onednn.qconv_prepack(
            rounded, self.scales, x.scale, x.zero, *self.geometry, list(x.values.shape)
        )
        self.zeros = torch.zeros(len(weight), dtype=torch.int64)
        self.bias = None if module.bias is None else module.bias.detach().float()
        self.after = "relu" if convolution.relu else "none"


class _IntegerOperations:
    """Operations in 8-bit integers."""

    def __init__(self, bounds: Bounds) -> None:
        self._codes = {name: quantization_of(*limits) for name, limits in bounds.items()}
        self._packed: dict[str, _IntegerConvolution] = {}

    def store_input(self, name: str, values: Tensor) -> _QuantizedMap:
        scale, zero = self._codes[name]
        if values.dtype == torch.uint8:
            return _QuantizedMap(values, scale, zero)
        levels = to_levels(values, scale, zero)
        return _QuantizedMap(levels.contiguous(memory_format=torch.channels_last), scale, zero)

    def convolve(self, convolution: _Convolution, x: _QuantizedMap) -> _QuantizedMap:
        scale, zero = self._codes[convolution.name]
        made = self._apply(convolution, x, scale, zero, torch.uint8)
        return _QuantizedMap(made, scale, zero)

    def convolve_to_float(self, convolution: _Convolution, x: _QuantizedMap) -> Tensor:
        """A convolution whose output is float32."""
        return self._apply(convolution, x, 1.0, 0, torch.float32)

    def _apply(
        self, convolution: _Convolution, x: _QuantizedMap, scale: float, zero: int, dtype: torch.dtype
    ) -> Tensor:
        packed = self._pack(convolution, x)
        made: Tensor = torch.ops.onednn.qconv_pointwise(
            x.values, x.scale, x.zero, packed.weight, packed.scales, packed.zeros, packed.bias,
            *packed.geometry, scale, zero, dtype, packed.after, [], "",
        )  # fmt: skip
        return made

    def add(self, convolution: _Convolution, other: _QuantizedMap, x: _QuantizedMap) -> _QuantizedMap:
        packed = self._pack(convolution, x)
        scale, zero = self._codes[convolution.name]
        made = torch.ops.onednn.qconv2d_pointwise.binary(
            x.values, x.scale, x.zero, packed.weight, packed.scales, packed.zeros, other.values, packed.bias,
            *packed.geometry, scale, zero, torch.uint8, other.scale, other.zero, "sum", 1.0, packed.after, [], "",
        )  # fmt: skip
        return _QuantizedMap(made, scale, zero)

    def _pack(self, convolution: _Convolution, x: _QuantizedMap) -> _IntegerConvolution:
        # Packed for the first shape: other shapes work too, and the engine's frames all have one shape.
        if convolution.name not in self._packed:
            self._packed[convolution.name] = _IntegerConvolution(convolution, x)
        return self._packed[convolution.name]


class QuantizedCascade:
    """A folded cascade whose trunk runs in 8-bit integers; same interface as `Cascade`.

    Parameters
    ----------
    network : Cascade
        Folded, in float32.
    bounds : dict
        From `measure_bounds`.
    """

    def __init__(self, network: Cascade, bounds: Bounds) -> None:
        self._network = network
        self._integer_operations = _IntegerOperations(bounds)
        self.settings = network.settings
        self.cells_code = quantization_of(*bounds["cells"])

    def features(self, maps: list[Tensor]) -> tuple[_QuantizedMap, ...]:
        """Feature maps, 8 bits; see `Cascade.features`."""
        return tuple(_run_trunk(self._network, maps, self._integer_operations))

    def presence_maps(self, features: tuple[_QuantizedMap, ...]) -> list[Tensor]:
        """Presence logits, float32; see `Cascade.presence_maps`."""
        return [
            self._integer_operations.convolve_to_float(_Convolution(f"presence.{level}", head), feature)[:, 0]  # type: ignore[arg-type]
            for level, (head, feature) in enumerate(zip(self._network.presence, features, strict=False))
        ]

    def propose(self, maps: list[Tensor], threshold: float, most: int) -> Proposals:
        """See `Cascade.propose`."""
        return self._network.propose(maps, threshold, most)

    def classify_depths(self, features: tuple[_QuantizedMap, ...], batch: Tensor, x_px: Tensor, y_px: Tensor) -> Tensor:
        """See `Cascade.classify_depths`."""
        parts = [
            # Interpolation weights add up to 1, so levels are converted to values after the interpolation.
            (sample_features(feature.values, level, cell, batch, x_px, y_px) - feature.zero) * feature.scale
            for level, (feature, cell) in enumerate(zip(features, self.settings.cells_px, strict=False))
        ]
        return self._network.classify_features(parts)

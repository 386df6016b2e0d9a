"""Common parts of the two published pairs: a lateral and an axial network without an int8 form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.camera import CameraModel
from models.networks.cascade_readout import Readout
from models.synthesis import TrainingFrame

__all__ = ["NetworkPair", "PlainSettings"]


class PlainSettings:
    """Settings as plain values; a frozen dataclass of numbers, truth values and tuples of them inherits this."""

    __slots__ = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)  # type: ignore[call-overload, no-any-return]

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read what `as_dict` wrote, after a trip through JSON."""
        return cls(**{name: tuple(value) if isinstance(value, list) else value for name, value in values.items()})


class _Foldable(Protocol):
    def fold(self, dtype: torch.dtype) -> None: ...


class NetworkPair:
    """Weights, settings and evaluation of a lateral and an axial network.

    Parameters
    ----------
    settings : PlainSettings
    lateral, axial : nn.Module
        Each with ``fold(dtype)``.
    stride : int
        Frames are padded to multiples of this.
    """

    def __init__(self, settings: PlainSettings, lateral: nn.Module, axial: nn.Module, stride: int) -> None:
        self.module: nn.Module = nn.ModuleDict({"lateral": lateral, "axial": axial})
        self.stride = stride
        self._plain = settings
        self._folding: tuple[_Foldable, ...] = (lateral, axial)  # type: ignore[assignment]
        self._dtype = torch.float32

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values for model.json."""
        return self._plain.as_dict()

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """Candidates of frames (B, H, W)."""
        raise NotImplementedError

    def detect_counts(self, counts: NDArray[np.uint16], camera: CameraModel) -> Readout:
        """Candidates of frames (B, H, W) of counts, on a processor."""
        noise = torch.full((len(counts),), camera.read_noise_e)
        return self.detect(torch.from_numpy(camera.to_electrons(counts)), noise)

    def fold(self, dtype: torch.dtype, bounds: dict[str, tuple[float, float]] | None = None) -> None:
        """Merge normalization into the convolutions and go to `dtype`, in place; there is no int8 form."""
        if dtype == torch.int8 or bounds is not None:
            raise ValueError(f"{type(self).__name__} has no int8 form")
        self._dtype = dtype
        for network in self._folding:
            network.fold(dtype)

    def measure(self, frames: Sequence[TrainingFrame]) -> None:
        """None: there is no int8 form."""

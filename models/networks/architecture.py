"""The interface of a network to training and localization, and the registry of architectures.

A new architecture is one new class with these methods and one new line in the
registry; training and localization use nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from models.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from models.camera import CameraModel
    from models.networks.cascade_readout import Readout
    from models.networks.recipe import Recipe
    from models.synthesis import SceneSettings, TrainingFrame

__all__ = ["Architecture", "architecture_named", "architecture_names", "architecture_sizes", "pad_frames"]


class Architecture(Protocol):
    """One kind of network with its weights."""

    module: nn.Module
    """The weights."""

    stride: int
    """Frames are padded to multiples of this."""

    @property
    def recipe(self) -> Recipe:
        """Optimizer, learning rate and batch of its training."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """Plain values from which `from_settings` builds the same network."""
        ...

    def adapt_scene(self, scene: SceneSettings) -> SceneSettings:
        """Contents of the training frames for this architecture, derived from `scene`."""
        ...

    def prepare(self, frames: list[TrainingFrame]) -> Any:
        """Frames and targets of one training step; runs in a thread of its own."""
        ...

    def loss(self, prepared: Any, rng: np.random.Generator) -> Tensor:
        """Loss of one prepared batch."""
        ...

    def detect(self, electrons: Tensor, read_noise_e: Tensor) -> Readout:
        """Candidates in frames (B, H, W) of photo-electrons, with H and W multiples of `stride`."""
        ...

    def detect_counts(self, counts: NDArray[np.uint16], camera: CameraModel) -> Readout:
        """The same from a camera's counts, on a processor."""
        ...

    def fold(self, dtype: torch.dtype, bounds: dict[str, tuple[float, float]] | None = None) -> None:
        """Simplify the network for evaluation in `dtype`, in place; called once, on its device."""
        ...

    def measure(self, frames: Sequence[TrainingFrame]) -> dict[str, tuple[float, float]] | None:
        """Bounds of the network's maps, which `fold` needs for int8; None when there is no int8 form."""
        ...


def _cascade() -> Any:
    from models.networks.cascade_architecture import CascadeArchitecture

    return CascadeArchitecture


def _vgg() -> Any:
    from models.networks.vgg_architecture import VggArchitecture

    return VggArchitecture


def _fcn() -> Any:
    from models.networks.fcn_architecture import FcnArchitecture

    return FcnArchitecture


_REGISTRY: dict[str, Callable[[], Any]] = {"cascade": _cascade, "vgg": _vgg, "fcn": _fcn}
_SIZES: dict[str, tuple[str, ...]] = {
    "cascade": ("full", "live"),
    "vgg": ("narrow", "quarter", "wide", "printed"),
    "fcn": ("narrow", "wide"),
}
"""Sizes of each architecture; here, so that the command line lists them without importing torch."""


def architecture_names() -> tuple[str, ...]:
    """Names of all architectures."""
    return tuple(_REGISTRY)


def architecture_sizes(name: str) -> tuple[str, ...]:
    """Names of an architecture's sizes, the default first; torch is not imported.

    Raises
    ------
    DataError
        When there is none of that name.
    """
    _check(name)
    return _SIZES[name]


def architecture_named(name: str) -> Any:
    """Class of an architecture, with `sizes`, `for_optics(table, z_range_um, size)` and `from_settings(settings)`.

    Raises
    ------
    DataError
        When there is none of that name.
    """
    _check(name)
    return _REGISTRY[name]()


def _check(name: str) -> None:
    if name not in _REGISTRY:
        raise DataError(
            f"There is no architecture {name!r}; this version has {', '.join(_REGISTRY)}.",
            "Choose one of these with --architecture.",
        )


def pad_frames(counts: NDArray[np.uint16], stride: int) -> NDArray[np.uint16]:
    """Frames (B, H, W) padded right and below to multiples of `stride` by their mirror image.

    The mirror image keeps the noise statistics; repeating the last row would make streaks that look like light.
    """
    import numpy as np

    height, width = counts.shape[1:]
    down, right = -height % stride, -width % stride
    if not down and not right:
        return np.ascontiguousarray(counts)
    return np.pad(counts, ((0, 0), (0, down), (0, right)), mode="reflect")

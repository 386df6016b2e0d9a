"""Interface of a network to training and localization.

A new architecture is one class with these methods and one entry point, see
`models.networks.registry`; training and localization use nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from models.camera import CameraModel
    from models.networks.cascade_readout import Readout
    from models.networks.recipe import Recipe
    from models.synthesis import PatternTable, SceneSettings, TrainingFrame

__all__ = ["Architecture", "pad_frames"]


class Architecture(Protocol):
    """One kind of network with its weights."""

    sizes: ClassVar[tuple[str, ...]]
    """Names of its sizes, the default first."""

    module: nn.Module
    """The weights."""

    stride: int
    """Frames are padded to multiples of this."""

    @classmethod
    def for_optics(cls, table: PatternTable, z_range_um: tuple[float, float], size: str) -> Self:
        """Network of one of `sizes` for a PSF and a depth range (µm), with random weights."""
        ...

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> Self:
        """Network of saved `settings`, with random weights."""
        ...

    @property
    def recipe(self) -> Recipe:
        """Optimizer, learning rate and batch of its training; a class attribute will do."""
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

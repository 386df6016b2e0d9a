"""The camera as a noise model: from photo-electrons to counts.

A frame is ``offset + (Poisson(electrons) + read noise) / electrons_per_adu``.
All processing of frames (networks, fits, bounds) uses photo-electrons, so a
wrong gain or offset biases every result without an error. The description is
stored with calibration and model, and is checked there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.quantities import CAMERA_OFFSET_ADU, ELECTRONS_PER_ADU, READ_NOISE_E

__all__ = ["CameraModel", "contradicts_depth"]


@dataclass(frozen=True, slots=True)
class CameraModel:
    """Offset, gain and read noise of a camera, the same for all pixels.

    Attributes
    ----------
    offset_adu : float
        Count of a pixel without light, ADU.
    electrons_per_adu : float
        Photo-electrons per count.
    read_noise_e : float
        Standard deviation of the read noise, photo-electrons.
    bit_depth : int
        Bits of a count; saturation is at ``2**bit_depth - 1``.
    source : str
        Origin of the values: ``"given"``, ``"darks and flats"``, ``"estimated"``, ``"simulated"``.
    """

    offset_adu: float = 0.0
    electrons_per_adu: float = 1.0
    read_noise_e: float = 0.0
    bit_depth: int = 16
    source: str = "given"

    def __post_init__(self) -> None:
        """Reject impossible values."""
        figures = (self.offset_adu, self.electrons_per_adu, self.read_noise_e)
        if not all(np.isfinite(figures)) or self.electrons_per_adu <= 0 or self.read_noise_e < 0:
            raise DataError(
                f"The camera description states offset {self.offset_adu} ADU, {self.electrons_per_adu} e-/ADU, "
                f"read noise {self.read_noise_e} e-; the gain must be positive, the read noise not negative, "
                "and all finite.",
                "Give the camera's data sheet values, or measure them with `bathyscope camera`.",
            )
        for quantity, value in (
            (CAMERA_OFFSET_ADU, self.offset_adu),
            (ELECTRONS_PER_ADU, self.electrons_per_adu),
            (READ_NOISE_E, self.read_noise_e),
        ):
            quantity.check(value, "the camera description")
        if not 1 <= self.bit_depth <= 16:
            raise DataError(
                f"The camera description states {self.bit_depth} bits; frames hold 1 to 16.",
                "State the bit depth of the camera's counts.",
            )

    @property
    def saturation_adu(self) -> int:
        """The highest count."""
        return (1 << self.bit_depth) - 1

    def to_electrons(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Counts of any shape to photo-electrons, same shape."""
        scale = np.float32(self.electrons_per_adu)
        return (counts.astype(np.float32) - np.float32(self.offset_adu)) * scale

    def expose(self, electrons: NDArray[np.float32], seed: int) -> NDArray[np.uint16]:
        """One noisy exposure of the expected photo-electrons.

        Parameters
        ----------
        electrons : ndarray of float32, shape (H, W)
            Expected photo-electrons of each pixel.
        seed : int
            The same seed gives the same noise.

        Returns
        -------
        ndarray of uint16, shape (H, W)
            Counts, clipped to the bit depth.
        """
        from models.noise import detect_electrons  # loads numba

        detected = np.empty(electrons.shape, np.float32)
        detect_electrons(electrons, detected, np.uint64(seed), np.float32(self.read_noise_e))
        detected /= np.float32(self.electrons_per_adu)
        detected += np.float32(self.offset_adu + 0.5)
        return np.clip(detected, 0, self.saturation_adu).astype(np.uint16)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def contradicts_depth(of_camera: int, of_counts: int) -> bool:
    """Whether counts of a bit depth cannot come from a camera of another one.

    Parameters
    ----------
    of_camera : int
        Bits of the camera description; 16 may be only the type of the file that it was made from.
    of_counts : int
        Bits of the counts; 8 or 16 is only the type of the file; other values are those of the camera.
    """
    return of_counts < of_camera and (of_counts == 8 or of_camera != 16)

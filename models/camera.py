"""The camera as a noise model: what turns photo-electrons into counts.

A frame is ``offset + (Poisson(electrons) + read noise) / electrons_per_adu``.
Everything behind the camera (networks, fits, bounds) works in
photo-electrons, so a wrong gain or offset spoils every result quietly;
the description travels with calibration and model and is checked there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from models.errors import DataError

__all__ = ["CameraModel"]


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
        Where the figures came from: ``"given"``, ``"darks and flats"``, ``"estimated"``, ``"simulated"``.
    """

    offset_adu: float = 0.0
    electrons_per_adu: float = 1.0
    read_noise_e: float = 0.0
    bit_depth: int = 16
    source: str = "given"

    def __post_init__(self) -> None:
        """Refuse values that no camera has."""
        figures = (self.offset_adu, self.electrons_per_adu, self.read_noise_e)
        if not all(np.isfinite(figures)) or self.electrons_per_adu <= 0 or self.read_noise_e < 0:
            raise DataError(
                f"The camera description says offset {self.offset_adu} ADU, {self.electrons_per_adu} e-/ADU, "
                f"read noise {self.read_noise_e} e-; the gain must be positive, the read noise not negative, and all finite.",
                "Give the camera's data sheet values, or measure them with `bathyscope camera`.",
            )
        if not 1 <= self.bit_depth <= 16:
            raise DataError(
                f"The camera description says {self.bit_depth} bits; frames hold 1 to 16.",
                "State the bit depth of the camera's counts.",
            )

    @property
    def saturation_adu(self) -> int:
        """The highest count."""
        return 2**self.bit_depth - 1

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
        counts = np.empty(electrons.shape, np.uint16)
        _expose(
            electrons,
            counts,
            np.uint64(seed),
            np.float32(self.offset_adu),
            np.float32(1.0 / self.electrons_per_adu),
            np.float32(self.read_noise_e),
            np.float32(self.saturation_adu),
        )
        return counts

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@numba.njit(cache=True, nogil=True, fastmath=True)  # type: ignore[untyped-decorator]
def _expose(electrons, counts, seed, offset, adu_per_electron, read_noise, top):  # type: ignore[no-untyped-def]
    # Poisson counts above 4 expected electrons come from the square of a normal
    # deviate, (sqrt(m - 1/4) + g/2)^2, whose mean is m and whose variance is
    # m - 1/8 (Anscombe, Biometrika 35, 246, 1948, read backwards); below, by
    # inversion. Uniform deviates are splitmix64, normal ones Box-Muller in pairs.
    state = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019)
    to_unit = np.float32(1.0 / 16777216.0)
    two_pi = np.float32(6.283185307179586)
    rows, columns = electrons.shape
    for row in range(rows):
        for column in range(columns):
            state += np.uint64(0x9E3779B97F4A7C15)
            z = state
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
            u1 = (np.float32(z >> np.uint64(40)) + np.float32(0.5)) * to_unit
            u2 = np.float32(z & np.uint64(0xFFFFFF)) * to_unit
            radius = np.sqrt(np.float32(-2.0) * np.log(u1))
            g1 = radius * np.cos(two_pi * u2)
            g2 = radius * np.sin(two_pi * u2)
            mean = electrons[row, column]
            if mean > np.float32(4.0):
                root = np.sqrt(mean - np.float32(0.25)) + np.float32(0.5) * g1
                detected = np.floor(root * root + np.float32(0.5))
            elif mean > np.float32(0.0):
                # The bits between those of u1 and u2 are too few: draw again.
                state += np.uint64(0x9E3779B97F4A7C15)
                z = state
                z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                u = np.float32((z ^ (z >> np.uint64(31))) >> np.uint64(40)) * to_unit
                term = np.exp(-mean)
                total = term
                detected = np.float32(0.0)
                while u > total and detected < np.float32(40.0):
                    detected += np.float32(1.0)
                    term *= mean / detected
                    total += term
            else:
                detected = np.float32(0.0)
            count = np.floor(offset + (detected + read_noise * g2) * adu_per_electron + np.float32(0.5))
            counts[row, column] = np.uint16(min(max(count, np.float32(0.0)), top))

"""The point-spread function: the expected light of each pixel for an emitter at (x, y, z).

Measured PSFs (from a sweep) and computed ones (from an objective) have the
same form: a stack of planes, each the image of one emitter of one
photo-electron, integrated over the camera's pixel, on a lateral grid
`oversampling` times finer than the pixels. Cubic interpolation makes it
continuous in x, y and z. Oversampling matters because a wide-field camera
undersamples its optics: 10x/0.45 at 520 nm needs 0.29 µm, the reference
camera has 0.65.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from scipy import ndimage

from models.errors import DataError

__all__ = ["Psf", "plane_centres"]


@dataclass(frozen=True)
class Psf:
    """Image of an emitter of one photo-electron as a function of (x, y, z).

    Attributes
    ----------
    planes : ndarray of float32, shape (Z, N, N), N odd
        Share of the emitter's photo-electrons in a pixel that is centred on
        the grid point. The emitter is at the central grid point.
    z_um : ndarray of float64, shape (Z,)
        Depth of each plane from focus, increasing, evenly spaced, µm.
    pixel_size_um : float
        Camera pixel at the sample, µm.
    oversampling : int
        Grid points per camera pixel.
    """

    planes: NDArray[np.float32]
    z_um: NDArray[np.float64]
    pixel_size_um: float
    oversampling: int = 1

    def __post_init__(self) -> None:
        """Check shapes and the even spacing of the planes."""
        if self.planes.ndim != 3 or self.planes.shape[1] != self.planes.shape[2] or self.planes.shape[1] % 2 == 0:
            raise DataError(
                f"A PSF of shape {self.planes.shape} was given; it is (Z, N, N) with N odd.",
                "Crop the planes around the emitter.",
            )
        steps = np.diff(self.z_um)
        if len(self.z_um) != len(self.planes) or len(steps) < 3 or not np.allclose(steps, steps[0]) or steps[0] <= 0:
            raise DataError(
                f"{len(self.planes)} planes with depths {self.z_um} were given; "
                "a PSF has at least 4, evenly spaced, increasing.",
                "Resample the sweep at a constant step.",
            )

    @property
    def z_step_um(self) -> float:
        """Distance between planes, µm."""
        return float(self.z_um[1] - self.z_um[0])

    @property
    def radius_px(self) -> float:
        """Half width of the planes, camera pixels."""
        half: int = self.planes.shape[1] // 2
        return half / self.oversampling

    @cached_property
    def _coefficients(self) -> NDArray[np.float32]:
        return ndimage.spline_filter(self.planes, order=3, mode="mirror", output=np.float32)  # type: ignore[no-any-return]

    def evaluate(self, x_um: NDArray[Any], y_um: NDArray[Any], z_um: NDArray[Any]) -> NDArray[np.float64]:
        """Share of the photo-electrons in a pixel at (x, y) from an emitter at depth z.

        Parameters
        ----------
        x_um, y_um : ndarray
            Pixel centre minus emitter, µm; broadcast against each other and `z_um`.
        z_um : ndarray
            Depth of the emitter from focus, µm; beyond the planes, the nearest one.

        Returns
        -------
        ndarray of float64, the broadcast shape
            Zero outside the lateral extent.
        """
        x, y, z = np.broadcast_arrays(
            np.asarray(x_um, np.float64), np.asarray(y_um, np.float64), np.asarray(z_um, np.float64)
        )
        centre = self.planes.shape[1] // 2
        per_um = self.oversampling / self.pixel_size_um
        z_index = np.clip((z - self.z_um[0]) / self.z_step_um, 0, len(self.z_um) - 1)
        at = np.stack([z_index.ravel(), y.ravel() * per_um + centre, x.ravel() * per_um + centre])
        values = ndimage.map_coordinates(self._coefficients, at, order=3, mode="mirror", prefilter=False)
        inside = (np.abs(at[1] - centre) <= centre) & (np.abs(at[2] - centre) <= centre)
        return np.where(inside, values, 0.0).reshape(x.shape)

    def image(self, x_um: float, y_um: float, z_um: float, shape: tuple[int, int]) -> NDArray[np.float64]:
        """Image of one emitter at (x, y, z) µm on a frame of `shape` (H, W); the top-left pixel's centre is (0, 0)."""
        rows = np.arange(shape[0])[:, None] * self.pixel_size_um - y_um
        columns = np.arange(shape[1])[None, :] * self.pixel_size_um - x_um
        return self.evaluate(columns, rows, np.array(z_um))

    def one_sided(self, low_um: float, high_um: float) -> Psf:
        """The planes from the last at or below `low_um` to the first at or above `high_um`."""
        first = max(int(np.searchsorted(self.z_um, low_um + 1e-9)) - 1, 0)
        last = min(int(np.searchsorted(self.z_um, high_um - 1e-9)), len(self.z_um) - 1)
        return Psf(self.planes[first : last + 1], self.z_um[first : last + 1], self.pixel_size_um, self.oversampling)

    def save(self, path: Path) -> None:
        """Write as a Zarr array with its scale in the attributes."""
        array = zarr.create_array(
            str(path), shape=self.planes.shape, dtype="float32", chunks=(1, *self.planes.shape[1:]), overwrite=True
        )
        array[:] = self.planes
        array.attrs.update(
            {
                "z_um": [float(z) for z in self.z_um],
                "pixel_size_um": self.pixel_size_um,
                "oversampling": self.oversampling,
            }
        )

    @classmethod
    def load(cls, path: Path) -> Psf:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            When the folder is missing or damaged.
        """
        try:
            array = zarr.open_array(str(path), mode="r")
            attributes: dict[str, Any] = dict(array.attrs)
            planes = np.asarray(array[:], np.float32)
            return cls(
                planes,
                np.asarray(attributes["z_um"], np.float64),
                float(attributes["pixel_size_um"]),
                int(attributes["oversampling"]),
            )
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"The PSF at {path} cannot be read ({type(error).__name__}: {error}).",
                "Calibrate again, or restore the folder from a copy.",
            ) from error


def plane_centres(planes: NDArray[np.float32]) -> NDArray[np.float64]:
    """Reference position of the emitter in each image: the centroid weighted by the square of the light.

    For an image without an axis of symmetry the reference position is a convention. The square gives the faint rim
    with its long lever little weight, and needs no threshold, which noise would shift.

    Parameters
    ----------
    planes : ndarray of float32, shape (K, N, N), N odd
        Images on a grid.

    Returns
    -------
    ndarray of float64, shape (K, 2)
        x, y in grid points from the central one; zero for a dark image.
    """
    places = np.arange(planes.shape[1], dtype=np.float64) - planes.shape[1] // 2
    weights = np.square(planes, dtype=np.float64)
    across, down = weights.sum(axis=1), weights.sum(axis=2)
    total = np.maximum(across.sum(axis=1), np.finfo(np.float64).tiny)
    centres: NDArray[np.float64] = np.stack([across @ places, down @ places], axis=1) / total[:, None]
    return centres

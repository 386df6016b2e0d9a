"""One camera image on pixels of three sizes, for joint fits: sums over squares of 1, 2 and 4 pixels.

The image is divided in blocks of 4 x 4 pixels. Each block is compared with the model either as a whole or on cells of
2 x 2 or 1 x 1 pixels, wherever the core of an emitter needs them (models.fit.layout). Sums of Poisson variables are
Poisson variables, so no approximation is made of their noise.
"""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from models.binning import binned_psf
from models.camera import CameraModel
from models.errors import DataError
from models.fit.cell_model import cell_constants
from models.fit.pattern_cores import core_radii
from models.fit.scale import read_variance
from models.pattern_spline import PatternSpline
from models.psf import Psf

if TYPE_CHECKING:
    from models.fit.evaluation import Evaluation

__all__ = ["BLOCK", "LEVELS", "ImageOptics", "LevelImage", "Levels"]

Array = NDArray[np.float64]
Image = NDArray[np.float32]
Levels = tuple[Image, Image, Image]

LEVELS = (1, 2, 4)
"""Sides of the cells, camera pixels."""
BLOCK = LEVELS[-1]

PERMITTED_LOSS = 0.2
"""Permitted increase of sigmas by coarse cells."""
FINE_LOSS = 0.05
"""The same of fine cells. With the usual ones, errors of interpolated light exceed the sigmas of bright emitters."""
ROUGH_LOSS = 3.0
"""The same of rough cells, for the first steps of a fit."""


class ImageOptics:
    """A PSF on pixels of three sizes, with the cores of its patterns; made once for all images.

    Parameters
    ----------
    psf : Psf
        On camera pixels.
    camera : CameraModel
        For the read variance.
    loss : float
        Permitted relative increase of the sigmas of x, y and z by coarse cells; see `core_radii`.

    Attributes
    ----------
    splines : tuple of PatternSpline
        On pixels of side 1, 2 and 4.
    cores_px : ndarray of float64, shape (Z, 2)
        Half sides of the cores of each plane on cells of 1 and 2 pixels, camera pixels.
    read_variance : float
        Photo-electrons squared of a camera pixel.
    rough, fine : ImageOptics
        The same with smaller and with larger cores.

    Raises
    ------
    DataError
        When the loss is not above 0.
    """

    def __init__(self, psf: Psf, camera: CameraModel, loss: float = PERMITTED_LOSS) -> None:
        if not loss > 0:
            raise DataError(f"A loss of {loss} was asked for; it is above 0.", "Give a loss such as 0.2.")
        psfs = [psf]
        for _ in LEVELS[1:]:
            psfs.append(binned_psf(psfs[-1]))
        self.splines = tuple(PatternSpline(each) for each in psfs)
        self.cores_px = core_radii(self.splines[0], loss)
        self.read_variance = read_variance(camera)
        self._dark: dict[tuple[int, int], Levels] = {}
        self.rough = self if loss >= ROUGH_LOSS else self._with_loss(ROUGH_LOSS)
        self.fine = self if loss <= FINE_LOSS else self._with_loss(FINE_LOSS)
        for other in (self.rough, self.fine):
            other.rough, other.fine = self.rough, self.fine

    def _with_loss(self, loss: float) -> ImageOptics:
        other = copy(self)
        other.cores_px = core_radii(self.splines[0], loss)
        return other

    def dark(self, shape: tuple[int, int]) -> Levels:
        """Read variance of the cells of an image of (H, W) pixels; computed once for each size."""
        if shape not in self._dark:
            self._dark[shape] = _levels(_padded(np.full(shape, self.read_variance, np.float32)))
        return self._dark[shape]

    @property
    def psf(self) -> Psf:
        """On camera pixels."""
        return self.splines[0].psf

    def image(self, electrons: NDArray[np.float32], backdrop: NDArray[np.float32] | None = None) -> LevelImage:
        """Prepare an image for evaluations.

        Parameters
        ----------
        electrons : ndarray of float32, shape (H, W)
            Photo-electrons of each pixel.
        backdrop : ndarray of float32, shape (H, W), optional
            Expected light that is known, photo-electrons, beside the even background.

        Raises
        ------
        DataError
            When the shape of the backdrop differs from that of the image.
        """
        return LevelImage.of(self, electrons, backdrop)


@dataclass(frozen=True)
class LevelImage:
    """An image on cells of three sizes; arrays are padded to whole blocks.

    Attributes
    ----------
    optics : ImageOptics
    shape : (H, W)
        Of the camera image.
    data : tuple of ndarray of float32, shapes (4 h, 4 w), (2 h, 2 w), (h, w)
        Photo-electrons plus the read variance, summed over cells of 1, 2 and 4 pixels.
    fixed : tuple of ndarray of float32, same shapes
        Read variance and backdrop of each cell.
    """

    optics: ImageOptics
    shape: tuple[int, int]
    data: Levels
    fixed: Levels

    @classmethod
    def of(
        cls, optics: ImageOptics, electrons: NDArray[np.float32], backdrop: NDArray[np.float32] | None = None
    ) -> LevelImage:
        """See `ImageOptics.image`."""
        height, width = electrons.shape
        if backdrop is not None and backdrop.shape != electrons.shape:
            raise DataError(
                f"A backdrop of shape {backdrop.shape} was given for an image of shape {electrons.shape}.",
                "Give the known light of every pixel of the image.",
            )
        variance = np.float32(optics.read_variance)
        data = _levels(_padded(electrons + variance))
        fixed = optics.dark(electrons.shape) if backdrop is None else _levels(_padded(backdrop + variance))
        return cls(optics, (height, width), data, fixed)

    @cached_property
    def constants(self) -> tuple[Image, Image]:
        """Log-likelihood that a cell of 2 or 4 pixels lacks because its model is even inside, (2 h, 2 w) and (h, w).

        It makes costs on different cells comparable.
        """
        constants = np.empty_like(self.data[1]), np.empty_like(self.data[2])
        cell_constants(*self.data, np.float32(self.optics.read_variance), *constants)
        return constants

    def rough(self) -> LevelImage:
        """The same image, compared on coarser cells."""
        return replace(self, optics=self.optics.rough)

    def fine(self) -> LevelImage:
        """The same image, compared on finer cells."""
        return replace(self, optics=self.optics.fine)

    def evaluate(self, emitters: Array, background: float, before: Evaluation | None = None) -> Evaluation:
        """See `models.fit.evaluation.evaluate`."""
        from models.fit.evaluation import evaluate

        return evaluate(self, emitters, background, before=before)

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return (self.data[-1].shape[0], self.data[-1].shape[1])


def _padded(image: Image) -> Image:
    """Image of whole blocks, dark where it was extended."""
    height, width = image.shape
    missing = (-height % BLOCK, -width % BLOCK)
    return np.pad(image, ((0, missing[0]), (0, missing[1]))) if any(missing) else image


def _levels(image: Image) -> Levels:
    """The image and its sums over squares of 2 x 2 and of 4 x 4 pixels."""
    image = np.ascontiguousarray(image, np.float32)
    middle = _halved(image)
    return image, middle, _halved(middle)


def _halved(image: Image) -> Image:
    rows = image[::2] + image[1::2]
    return rows[:, ::2] + rows[:, 1::2]

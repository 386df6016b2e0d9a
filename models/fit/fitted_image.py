"""What a fit with priors needs of an image.

There are two forms: compiled (models.fit.image_levels) and as tensors (models.fit.tensor_image).
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.fit.evaluation import Evaluation
from models.pattern_spline import PatternSpline
from models.psf import Psf

__all__ = ["FitOptics", "FittedImage", "ImageEvaluation"]

Array = NDArray[np.float64]


class ImageEvaluation(Protocol):
    """Likelihood of an image at given emitters, and its normal equations; see `models.fit.evaluation.Evaluation`."""

    @property
    def emitters(self) -> Array:
        """Emitters, shape (N, 4)."""

    @property
    def background(self) -> float:
        """Photo-electrons per pixel."""

    @property
    def cost_on_cells(self) -> float:
        """Negative log-likelihood, compared on equal cells."""

    @property
    def image(self) -> FittedImage:
        """The image."""

    @property
    def equations(self) -> tuple[Array, Array]:
        """Fisher matrix, shape (4 N + 1, 4 N + 1), and minus the gradient of the cost."""

    @property
    def misfit(self) -> tuple[Array, Array]:
        """Chi2 of each pattern and the PSF model error that would explain it, shape (N,) each."""

    def overlap(self) -> Array:
        """Light that the emitter of a row takes when that of the column is missing, shape (N, N)."""

    def on_cells_of(self, other: Any) -> ImageEvaluation:
        """The same on the cells of another evaluation of this image, to compare costs."""

    def compiled(self) -> Evaluation:
        """The compiled form, for a search of the residual."""


class FittedImage(Protocol):
    """An image that can be evaluated."""

    def rough(self) -> FittedImage:
        """The same image, compared on coarser cells."""

    def fine(self) -> FittedImage:
        """The same image, compared on finer cells."""

    def evaluate(self, emitters: Array, background: float, before: Any = None) -> ImageEvaluation:
        """Likelihood at emitters (N, 4); `before`: an evaluation of the same emitters, before a step."""


class FitOptics(Protocol):
    """A PSF on cells of three sizes that makes images."""

    @property
    def splines(self) -> tuple[PatternSpline, ...]:
        """On cells of side 1, 2 and 4 pixels."""

    @property
    def read_variance(self) -> float:
        """Photo-electrons squared of a pixel."""

    @property
    def psf(self) -> Psf:
        """On camera pixels."""

    def image(self, electrons: NDArray[np.float32], backdrop: NDArray[np.float32] | None = None) -> FittedImage:
        """Prepare an image (H, W) for evaluations."""

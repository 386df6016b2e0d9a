"""The joint fit's equations as tensors, for a fit on CUDA: the same likelihood as `models.fit.evaluation`.

Here every pixel is compared, and the Fisher matrix is one product of matrices. On a processor the compiled form is many
times faster; it is the reference in the tests.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.fit.evaluation import Evaluation, light_overlap
from models.fit.image_levels import BLOCK, LEVELS, ImageOptics, LevelImage
from models.fit.layout import visible_outside
from models.fit.tensor_patterns import TensorSpline
from models.pattern_spline import PatternSpline
from models.psf import Psf

__all__ = ["TensorEvaluation", "TensorImage", "TensorOptics"]

Array = NDArray[np.float64]

_ROUGH_LEVEL = 1
"""Of `LEVELS`: the cells of the first steps of a fit."""
_LUCK = 2.0
"""As in models.fit.cell_misfit."""


class TensorOptics:
    """Optics whose images are fitted on a device; otherwise as `ImageOptics`.

    Parameters
    ----------
    optics : ImageOptics
    device : torch.device

    Attributes
    ----------
    optics, device
        As given.
    tensor_splines : tuple of TensorSpline
        On the cells of an image and of a rough one.
    """

    def __init__(self, optics: ImageOptics, device: torch.device) -> None:
        self.optics, self.device = optics, device
        self.tensor_splines = tuple(
            TensorSpline(optics.splines[level], LEVELS[level], device) for level in range(_ROUGH_LEVEL + 1)
        )

    @property
    def splines(self) -> tuple[PatternSpline, ...]:
        """As of `ImageOptics`."""
        return self.optics.splines

    @property
    def read_variance(self) -> float:
        """As of `ImageOptics`."""
        return self.optics.read_variance

    @property
    def psf(self) -> Psf:
        """On camera pixels."""
        return self.optics.psf

    def image(self, electrons: NDArray[np.float32], backdrop: NDArray[np.float32] | None = None) -> TensorImage:
        """Prepare an image for evaluations; arguments and errors as of `ImageOptics.image`."""
        return TensorImage(self, self.optics.image(electrons, backdrop), 0)


@dataclass(frozen=True)
class TensorImage:
    """An image on square cells of one size, on the device of its optics.

    Attributes
    ----------
    optics : TensorOptics
    cells : LevelImage
        The image for compiled evaluations.
    level : int
        Of `LEVELS`.
    """

    optics: TensorOptics
    cells: LevelImage
    level: int

    @cached_property
    def data(self) -> Tensor:
        """Photo-electrons plus the read variance of each cell, float64, flat."""
        return self._flat(self.cells.data[self.level])

    @cached_property
    def fixed(self) -> Tensor:
        """Read variance and backdrop of each cell, float64, flat."""
        return self._flat(self.cells.fixed[self.level])

    @cached_property
    def inside(self) -> Tensor:
        """Whether a cell is compared: those of whole blocks beyond the image are not. Flat."""
        height, width = self.cells.shape
        side = LEVELS[self.level]
        rows, columns = (torch.arange(count, device=self.optics.device) * side for count in self.shape)
        return ((rows < height)[:, None] & (columns < width)[None, :]).ravel()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of cells."""
        rows, columns = self.cells.data[self.level].shape
        return rows, columns

    def rough(self) -> TensorImage:
        """The same image on coarser cells."""
        return TensorImage(self.optics, self.cells, _ROUGH_LEVEL)

    def fine(self) -> TensorImage:
        """Itself: every pixel is compared."""
        return self

    def evaluate(
        self,
        emitters: Array,
        background: float,
        before: TensorEvaluation | None = None,
    ) -> TensorEvaluation:
        """Likelihood at emitters (N, 4); see `FittedImage`."""
        return self.evaluate_in(self._boxes(emitters, background), emitters, background)

    def evaluate_in(self, boxes: NDArray[np.int64], emitters: Array, background: float) -> TensorEvaluation:
        """Likelihood at emitters (N, 4), patterns cropped to boxes (N, 4) of cells."""
        shares = self.optics.tensor_splines[self.level].render(emitters, boxes, self.shape)
        photons = torch.from_numpy(np.ascontiguousarray(emitters[:, 3])).to(self.optics.device)
        area = LEVELS[self.level] ** 2
        wanted = torch.einsum("n,np->p", photons, shares[:, 0].double()) + self.fixed + area * background
        variance = area * self.optics.read_variance
        expected = wanted.clamp(min=0.5 * variance)
        counted = self.inside & (wanted > 0.5 * variance)
        reference = self.data.clamp(min=variance)
        ratio = expected / reference
        cost = reference * (ratio - 1 - torch.log(ratio)) + (reference - self.data) * torch.log(ratio)
        total = float(cost[self.inside].sum())
        return TensorEvaluation(emitters, background, total, self, boxes, shares, expected, counted)

    def _boxes(self, emitters: Array, background: float) -> NDArray[np.int64]:
        """Crops of whole blocks, as those of compiled patterns."""
        wide = visible_outside(self.cells, emitters, background)
        x, y, z, _ = emitters.T
        shift = (BLOCK - 1) / 2
        blocks = self.optics.splines[-1].boxes((x - shift) / BLOCK, (y - shift) / BLOCK, z, self.cells.blocks, wide)
        return blocks * (BLOCK // LEVELS[self.level])

    def _flat(self, cells: NDArray[np.float32]) -> Tensor:
        return torch.from_numpy(cells).to(self.optics.device).double().ravel()


@dataclass(frozen=True)
class TensorEvaluation:
    """Likelihood of an image at given emitters, and its normal equations; see `models.fit.evaluation.Evaluation`.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
    background : float
        Photo-electrons per pixel.
    cost_on_cells : float
        Negative log-likelihood, up to a constant of the image.
    image : TensorImage
    boxes : ndarray of int64, shape (N, 4)
        Crops of the patterns, cells.
    shares : Tensor of float32, shape (N, 4, P)
        Light and derivatives of a photon on the P cells.
    expected : Tensor of float64, shape (P,)
        Expected photo-electrons plus the read variance, which is also the variance.
    counted : Tensor of bool, shape (P,)
        Cells that are compared, and where the model is not clipped.
    """

    emitters: Array
    background: float
    cost_on_cells: float
    image: TensorImage
    boxes: NDArray[np.int64]
    shares: Tensor
    expected: Tensor
    counted: Tensor

    def on_cells_of(self, other: TensorEvaluation) -> TensorEvaluation:
        """The same evaluation with the crops of another one, to compare costs; itself where they are equal."""
        if np.array_equal(self.boxes, other.boxes):
            return self
        return self.image.evaluate_in(other.boxes, self.emitters, self.background)

    @cached_property
    def equations(self) -> tuple[Array, Array]:
        """Fisher matrix, shape (4 N + 1, 4 N + 1), and minus the gradient; order as of `Evaluation.equations`."""
        count = len(self.emitters)
        area = float(LEVELS[self.image.level] ** 2)
        weight = torch.where(self.counted, 1 / self.expected, 0.0)
        pull = torch.where(self.counted, self.image.data / self.expected - 1, 0.0)
        slopes = self.shares[:, [1, 2, 3, 0]].reshape(4 * count, len(weight))
        slopes = torch.cat([slopes, torch.full_like(weight, area, dtype=torch.float32)[None]])
        matrix = (slopes * weight.float()) @ slopes.T
        gradient = slopes.double() @ pull
        scale = np.ones((count, 4))
        scale[:, :3] = self.emitters[:, 3:]
        factor = np.append(scale.ravel(), 1.0)
        found: Array = matrix.double().cpu().numpy() * np.outer(factor, factor)
        return 0.5 * (found + found.T), gradient.cpu().numpy() * factor

    @cached_property
    def misfit(self) -> tuple[Array, Array]:
        """Chi2 of each pattern and the PSF model error that would explain it; see `Evaluation.misfit`."""
        light = torch.where(self.image.inside, self.shares[:, 0], 0.0).double()
        squares = (self.image.data - self.expected) ** 2 / self.expected
        total, whole, square, power = (
            each.cpu().numpy()
            for each in (light @ squares, light.sum(dim=1), (light**2).sum(dim=1), (light**3) @ (1 / self.expected))
        )
        chi2, error = np.ones(len(light)), np.zeros(len(light))
        lit = (whole > 0) & (power > 0)
        chi2[lit] = total[lit] / whole[lit]
        unexplained = np.maximum(total - whole - _LUCK * np.sqrt(2 * square), 0.0)
        error[lit] = np.sqrt(unexplained[lit] / power[lit]) / self.emitters[lit, 3]
        return chi2, error

    def overlap(self) -> Array:
        """See `Evaluation.overlap`."""
        return light_overlap(self.equations[0])

    def compiled(self) -> Evaluation:
        """The compiled evaluation at the same emitters, for a search of the residual."""
        return self.image.cells.evaluate(self.emitters, self.background)

"""One evaluation of the joint fit of an image: likelihood and Fisher normal equations at given emitters.

The likelihood is that of Poisson sums over cells of 1, 2 or 4 pixels, as fine as the patterns there need
(models.fit.layout). An evaluation takes a fraction of the time of one on camera pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.fit.cell_misfit import block_residual, misfit, removal_losses
from models.fit.cell_model import compare, constant_cost, model_light
from models.fit.image_levels import BLOCK, ImageOptics, LevelImage, Levels
from models.fit.layout import Layout
from models.fit.level_equations import assemble
from models.fit.level_patterns import LevelPatterns

__all__ = ["CellModel", "Evaluation", "compare_with", "evaluate", "light_overlap", "normal_equations", "warm_up"]

Array = NDArray[np.float64]

_LEAST_INFORMATION = 1e-12
"""Lower limit of the information, for emitters without light in the image."""


@dataclass(frozen=True, slots=True)
class CellModel:
    """The model of an image on its cells, compared with the data.

    Values of a level hold where the layout has its cells. Weights and pulls hold on coarser levels too: the effective
    ones, with light spread evenly over the finer cells (weights) or interpolated (pulls).

    Attributes
    ----------
    expected : three ndarrays of float32, shapes (4 h, 4 w), (2 h, 2 w), (h, w)
        Expected photo-electrons plus the read variance, which is also the variance.
    weight : three ndarrays of float32, same shapes
        1 / variance.
    pull : three ndarrays of float32, same shapes
        Derivative of the log-likelihood by the light of a cell.
    """

    expected: Levels
    weight: Levels
    pull: Levels


@dataclass(frozen=True)
class Evaluation:
    """Likelihood of an image at given emitters, and its normal equations.

    Attributes
    ----------
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    background : float
        Photo-electrons per pixel.
    cost_on_cells : float
        Negative log-likelihood, up to a constant of image and cells. It is compared on equal cells; see `on_cells_of`.
    image : LevelImage
    patterns : LevelPatterns
    model : CellModel
    """

    emitters: Array
    background: float
    cost_on_cells: float
    image: LevelImage
    patterns: LevelPatterns
    model: CellModel

    @property
    def layout(self) -> Layout:
        """Its cells and boxes."""
        return self.patterns.layout

    @cached_property
    def cost(self) -> float:
        """Negative log-likelihood, up to a constant of the image.

        Finer cells explain bright patterns better: compare on equal cells where a small difference matters.
        """
        return self.cost_on_cells + float(constant_cost(self.layout.level, *self.image.constants))

    def on_cells_of(self, other: Evaluation) -> Evaluation:
        """The same evaluation on the finer cells of both, to compare costs; itself if it has them already.

        A step from `now` is compared by ``trial = evaluate(..., before=now)``, whose cells are never coarser, and
        their `cost_on_cells` after ``now.on_cells_of(trial)``. Patterns are kept, so it costs a part of an evaluation.
        """
        if self.layout is other.layout:
            return self
        layout = self.layout.refined(other.layout.level)
        if layout is self.layout:
            return self
        return evaluate(self.image, self.emitters, self.background, before=self, layout=layout)

    @cached_property
    def misfit(self) -> tuple[Array, Array]:
        """Chi2 of each pattern, weighted by its light, and the PSF model error that would explain it; computed once.

        Returns
        -------
        chi2 : ndarray of float64, shape (N,)
            Mean of (data - model)² / variance where the pattern has its light; 1 without any light.
        unexplained : ndarray of float64, shape (N,)
            Error of the pattern, as a share of its light, that would explain the misfit beyond noise.
        """
        image, patterns = self.image, self.patterns
        chi2, unexplained = misfit(
            *image.data,
            patterns.layout.level,
            *image.shape,
            *self.model.expected,
            patterns.layout.boxes.reshape(-1, 4),
            patterns.offsets,
            patterns.share,
            np.ascontiguousarray(self.emitters[:, 3]),
        )
        return chi2, unexplained

    def overlap(self) -> Array:
        """Photons that the emitter of a row, fitted alone, takes for each photon of the column's emitter missing.

        Shape (N, N); 1 on the diagonal. The evaluation must have normal equations.
        """
        return light_overlap(self.equations[0])

    def compiled(self) -> Evaluation:
        """Itself; see `models.fit.tensor_image.TensorEvaluation`."""
        return self

    def residual(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Data minus model, and its variance, of each block of 4 x 4 pixels, shape (h, w)."""
        residual, variance = (np.empty(self.image.blocks, np.float32) for _ in range(2))
        block_residual(*self.image.data, self.layout.level, *self.image.shape, *self.model.expected, residual, variance)
        return residual, variance

    def removal_losses(self) -> Array:
        """Log-likelihood that is lost when one emitter is removed and all others are held fixed, shape (N,)."""
        image, patterns = self.image, self.patterns
        losses = np.empty(len(self.emitters))
        removal_losses(
            *image.data,
            patterns.layout.level,
            *image.shape,
            image.optics.read_variance,
            *self.model.expected,
            patterns.layout.boxes.reshape(-1, 4),
            patterns.offsets,
            patterns.share,
            patterns.detail,
            patterns.removed,
            np.ascontiguousarray(self.emitters[:, 3]),
            losses,
        )
        return losses

    @cached_property
    def equations(self) -> tuple[Array, Array]:
        """Fisher matrix, shape (4 N + 1, 4 N + 1), and minus the gradient of the cost; computed when first asked for.

        Parameters are x, y, z and photons of each emitter, and the background last.
        """
        return normal_equations(self.patterns, self.model, len(self.emitters))


def light_overlap(matrix: Array) -> Array:
    """What each emitter takes of the light of another one that is missing, by a Fisher matrix; see `Evaluation`."""
    light = matrix[3:-1:4, 3:-1:4]
    shares: Array = light / np.maximum(np.diagonal(light), _LEAST_INFORMATION)[:, None]
    return shares


def evaluate(
    image: LevelImage,
    emitters: Array,
    background: float,
    *,
    before: Evaluation | None = None,
    layout: Layout | None = None,
) -> Evaluation:
    """Likelihood and normal equations of an image.

    Parameters
    ----------
    image : LevelImage
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons; may be outside the image.
    background : float
        Photo-electrons per pixel, beside the backdrop of the image.
    before : Evaluation, optional
        One of the same emitters, before a step. Those that moved little keep their boxes, those that did not move their
        patterns, and cells do not become coarser. See `Evaluation.on_cells_of` to compare costs. Of another image only
        patterns are kept.
    layout : Layout, optional
        To evaluate at exactly this layout, made for the same emitters within 5 pixels.

    Raises
    ------
    DataError
        When a coordinate is not a finite number, or image and emitters do not fit the given layout or evaluation.
    """
    emitters = np.ascontiguousarray(emitters, np.float64)
    if before is not None and len(before.emitters) != len(emitters):
        raise DataError(
            f"{len(emitters)} emitters were given with an evaluation of {len(before.emitters)}.",
            "Leave the earlier evaluation out after emitters were added or removed.",
        )
    if layout is not None:
        layout.check(image, emitters)
    else:
        layout = Layout.of(image, emitters, background, before.layout if before and before.image is image else None)
    patterns = LevelPatterns.of(image, emitters, layout, None if before is None else before.patterns)
    model, cost = compare_with(image, patterns, np.ascontiguousarray(emitters[:, 3]), background)
    return Evaluation(emitters, background, cost, image, patterns, model)


def normal_equations(patterns: LevelPatterns, model: CellModel, fitted: int) -> tuple[Array, Array]:
    """Fisher matrix and minus the gradient of the cost; emitters from `fitted` on have no blocks with each other."""
    size = 4 * len(patterns) + 1
    matrix, gradient = np.zeros((size, size)), np.zeros(size)
    assemble(
        patterns.layout.boxes.reshape(-1, 4),
        patterns.offsets,
        patterns.share,
        patterns.removed,
        np.ascontiguousarray(patterns.emitters[:, 3]),
        fitted,
        *model.weight,
        *model.pull,
        matrix,
        gradient,
    )
    return matrix, gradient


def compare_with(
    image: LevelImage, patterns: LevelPatterns, photons: Array, background: float
) -> tuple[CellModel, float]:
    """Model of an image with `photons` (N,) for the patterns, and its cost."""
    layout = patterns.layout
    expected, weight, pull = (_empty(image), _empty(image), _empty(image))
    model_light(
        layout.level,
        layout.boxes.reshape(-1, 4),
        patterns.offsets,
        patterns.share,
        patterns.detail,
        patterns.removed,
        photons,
        *expected,
    )
    cost = compare(
        *image.data,
        *image.fixed,
        layout.level,
        *image.shape,
        background,
        image.optics.read_variance,
        *expected,
        *weight,
        *pull,
    )
    return CellModel(expected, weight, pull), cost


def _empty(image: LevelImage) -> Levels:
    fine, middle, coarse = image.data
    return np.empty_like(fine), np.empty_like(middle), np.empty_like(coarse)


def warm_up(optics: ImageOptics) -> None:
    """Compile everything that evaluations use, with a small dark image."""
    image = optics.image(np.zeros((BLOCK, BLOCK), np.float32))
    evaluation = evaluate(image, np.array([[0.0, 0.0, float(optics.psf.z_um[-1]), 1.0]]), 1.0)
    evaluation.misfit  # noqa: B018
    evaluation.residual()
    evaluation.removal_losses()
    evaluation.overlap()

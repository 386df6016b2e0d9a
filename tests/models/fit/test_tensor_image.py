"""The joint fit's equations as tensors, against the compiled ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.camera import CameraModel
from models.fit.image_levels import ImageOptics
from models.fit.prior_fit import EmitterPrior, fit_with_prior
from models.fit.tensor_image import TensorEvaluation, TensorOptics
from models.pattern_spline import PatternSpline, render_light
from tests.models.joint_fit_scenes import (
    BACKGROUND_E,
    CROWD,
    READ_NOISE_E,
    SMALL,
    expected_frame,
    nearby,
    noisy_frame,
    sharp_psf,
)

Array = NDArray[np.float64]

WITH_FAR = np.vstack([CROWD, [400.0, 400.0, 5.0, 1e3]])
"""The last one is so far outside that it has no light in the image."""
CAMERA = CameraModel(read_noise_e=READ_NOISE_E)
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(scope="module")
def optics() -> TensorOptics:
    return TensorOptics(ImageOptics(sharp_psf(), CAMERA), torch.device("cpu"))


def _image(shape: tuple[int, int]) -> NDArray[np.float32]:
    return noisy_frame(expected_frame(sharp_psf(), WITH_FAR, BACKGROUND_E, shape), 1)


class Plain:
    """The same evaluation by one product of matrices in double precision, with compiled patterns of all pixels."""

    def __init__(self, image: NDArray[np.float32], known: NDArray[np.float32], of: TensorEvaluation) -> None:
        spline, variance = PatternSpline(sharp_psf()), READ_NOISE_E**2
        height, width = image.shape
        indices = spline.z_index(of.emitters[:, 2])
        self.share = np.zeros((len(of.emitters), 4, height + 4, width + 4))
        for (x, y, _, _), index, box, goal in zip(of.emitters, indices, of.boxes, self.share, strict=True):
            pattern = np.empty((4, *np.maximum(box[1::2] - box[::2], 0)), np.float32)
            step = spline.psf.z_step_um
            render_light(spline.coefficients, 1, x, y, index, step, spline.psf.oversampling, box, pattern)
            goal[:, box[0] : box[1], box[2] : box[3]] = pattern
        self.share = self.share[:, :, :height, :width].reshape(len(of.emitters), 4, -1)
        photons = of.emitters[:, 3]
        self.data = image.ravel() + variance
        self.expected = photons @ self.share[:, 0] + known.ravel() + of.background + variance
        self.cost = float((self.expected - self.data * np.log(self.expected)).sum())
        scaled = self.share[:, [1, 2, 3, 0]] * np.where(np.arange(4) < 3, photons[:, None], 1.0)[:, :, None]
        slopes = np.vstack([scaled.reshape(-1, scaled.shape[-1]), np.ones(len(self.data))])
        self.matrix = (slopes / self.expected) @ slopes.T
        self.gradient = slopes @ (self.data / self.expected - 1)
        light = self.share[:, 0]
        with np.errstate(invalid="ignore"):
            self.chi2 = light @ ((self.data - self.expected) ** 2 / self.expected) / light.sum(axis=1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shape", [SMALL, (93, 94)])
def test_it_equals_a_plain_implementation(optics: TensorOptics, shape: tuple[int, int], device: str) -> None:
    backdrop = np.random.default_rng(3).uniform(0, 4, shape).astype(np.float32)
    image = TensorOptics(optics.optics, torch.device(device)).image(_image(shape), backdrop)
    evaluation = image.evaluate(nearby(WITH_FAR), 4.5)
    plain = Plain(_image(shape), backdrop, evaluation)
    matrix, gradient = evaluation.equations
    sigma = 1 / np.sqrt(np.maximum(np.diagonal(plain.matrix), 1e-12))
    both = np.outer(sigma, sigma)
    np.testing.assert_allclose(matrix * both, plain.matrix * both, atol=1e-5)
    np.testing.assert_allclose(gradient * sigma, plain.gradient * sigma, atol=1e-3, rtol=1e-5)
    np.testing.assert_allclose(evaluation.misfit[0][:-1], plain.chi2[:-1], rtol=1e-5)
    assert evaluation.misfit[0][-1] == 1
    other = image.evaluate(nearby(WITH_FAR, 6), 5.0, evaluation)
    now = evaluation.on_cells_of(other)
    expected = Plain(_image(shape), backdrop, now).cost - Plain(_image(shape), backdrop, other).cost
    assert now.cost_on_cells - other.cost_on_cells == pytest.approx(expected, abs=1e-3)


def test_it_agrees_with_the_compiled_form(optics: TensorOptics) -> None:
    """Coarse cells lose information, at most the share that is permitted, and make small errors of the model."""
    tensor = optics.image(_image(SMALL)).evaluate(nearby(WITH_FAR), 4.5)
    compiled = optics.optics.image(_image(SMALL)).evaluate(nearby(WITH_FAR), 4.5)
    shares = np.sqrt(np.diagonal(compiled.equations[0])[:24] / np.diagonal(tensor.equations[0])[:24])
    assert shares.min() > 0.8
    assert shares.max() < 1.01
    assert tensor.compiled().background == 4.5
    np.testing.assert_allclose(tensor.overlap()[:6, :6], compiled.overlap()[:6, :6], atol=0.1)


@pytest.mark.parametrize("level", [0, 1])
def test_the_gradient_is_that_of_the_cost(optics: TensorOptics, level: int) -> None:
    image = optics.image(_image(SMALL))
    image = image.rough() if level else image
    here = image.evaluate(nearby(WITH_FAR), 4.5)
    _, gradient = here.equations
    for column, change in enumerate((0.02, 0.02, 0.02, 20.0)):
        moved = [nearby(WITH_FAR) for _ in range(2)]
        for sign, emitters in zip((-1, 1), moved, strict=True):
            emitters[1, column] += sign * change
        costs = [image.evaluate_in(here.boxes, emitters, 4.5).cost_on_cells for emitters in moved]
        assert gradient[4 + column] == pytest.approx((costs[0] - costs[1]) / (2 * change), rel=0.02, abs=0.02)


def test_a_fit_on_fine_cells_is_that_on_all_pixels(optics: TensorOptics) -> None:
    """These emitters are so bright that interpolated light of the usual cells moves them by several sigmas."""
    weight = np.tile(1 / np.array([1.0, 1.0, 2.0, 1e4]) ** 2, (6, 1))
    prior = EmitterPrior(nearby(WITH_FAR)[:6], weight, known=6)
    bounds = np.array([-8.0, -8.0, 0.5]), np.array([104.0, 104.0, 28.0])
    tensors, fine, usual = (
        fit_with_prior(each, prior, 4.0, bounds, 6, 3)
        for each in (
            optics.image(_image(SMALL)).fine(),
            optics.optics.image(_image(SMALL)).fine(),
            optics.optics.image(_image(SMALL)),
        )
    )
    sigma = np.sqrt(np.diagonal(tensors.blocks, axis1=1, axis2=2))
    assert (np.abs(tensors.emitters - CROWD) / sigma).max() < 4
    assert (np.abs(fine.emitters - tensors.emitters) / sigma).max() < 1.5
    assert (np.abs(usual.emitters - tensors.emitters) / sigma).max() > 3


def test_no_emitters(optics: TensorOptics) -> None:
    evaluation = optics.image(_image((32, 32))).evaluate(np.zeros((0, 4)), 5.0)
    matrix, gradient = evaluation.equations
    assert matrix.shape == (1, 1)
    assert gradient.shape == (1,)
    assert all(len(each) == 0 for each in evaluation.misfit)

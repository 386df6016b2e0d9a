"""A PSF model error common to all emitters is distinguished from missed neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from models.fit.joint_fit import Convergence, FitFrame, JointFit, fit_jointly
from models.fit.psf_model_error import common_psf_error, error_variance
from models.optics import Objective, computed_psf
from models.pattern_spline import PatternSpline

READ_VARIANCE = 4.0


def fit_of(smaller: float, missed: int, beads: int = 9) -> JointFit:
    """A fit of beads, a share `smaller` of their light from a shallower pattern; `missed` have a missed neighbour."""
    psf = computed_psf(Objective(0.45, 0.52, 1.6), np.arange(8.0, 24.0))
    spline = PatternSpline(psf)
    rng = np.random.default_rng(3)
    places = np.array([(32.0 + 48 * (i % 3), 32.0 + 48 * (i // 3)) for i in range(beads)])
    emitters = np.column_stack([places, np.full(beads, 14.0), np.full(beads, 1e5)])
    image = np.full((160, 160), 10.0)
    for x, y, z, photons in emitters:
        own = psf.image(x * 1.6, y * 1.6, z, image.shape)
        image += photons * ((1 - smaller) * own + smaller * psf.image(x * 1.6, y * 1.6, z - 5, image.shape))
    for x, y, z, photons in emitters[:missed]:
        image += 0.5 * photons * psf.image((x + 5) * 1.6, y * 1.6, z - 4, image.shape)
    data = (rng.poisson(image) + READ_VARIANCE).astype(np.float32)
    bounds = ((0.0, 159.0), (0.0, 159.0), (8.0, 23.0))
    return fit_jointly(FitFrame(data, spline, READ_VARIANCE), emitters, 10.0, bounds, Convergence(8))


def test_an_exact_psf_has_no_error() -> None:
    assert common_psf_error(fit_of(0.0, missed=0)) == 0


def test_missed_neighbours_are_no_psf_model_error() -> None:
    assert common_psf_error(fit_of(0.0, missed=4)) == 0


def test_a_common_error_is_found_and_adds_variance() -> None:
    fit = fit_of(0.35, missed=0)
    share = common_psf_error(fit)
    assert 0.04 < share < 0.35
    variance = error_variance(fit, share, READ_VARIANCE)
    light = fit.expected - fit.background - READ_VARIANCE
    assert variance.max() == pytest.approx((3 * share * light.max()) ** 2, rel=1e-3)
    assert (error_variance(fit, 0.0, READ_VARIANCE) == 0).all()


def test_few_emitters_give_no_estimate() -> None:
    assert common_psf_error(fit_of(0.35, missed=0, beads=3)) == 0

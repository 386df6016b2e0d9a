"""The splines of the published fitters, made quickly."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.methods.splines import spline_coefficients
from tests.conftest import need


def test_splines_are_those_of_the_package() -> None:
    core = need("smappy.calibrate.core")
    planes = np.random.default_rng(0).random((5, 7, 9))
    np.testing.assert_allclose(spline_coefficients(planes), core.spline_coefficients(planes), rtol=1e-6, atol=1e-6)


def test_a_cubic_is_reproduced() -> None:
    z, y, x = np.meshgrid(np.arange(4.0), np.arange(5.0), np.arange(6.0), indexing="ij")
    coefficients = spline_coefficients(z**3 + y**2 * x).reshape(4, 4, 4, 3, 4, 5)
    # In the interval from (1, 2, 3), half a step on in each direction.
    powers = 0.5 ** np.arange(4)
    here = np.einsum("ijk,i,j,k->", coefficients[..., 1, 2, 3], powers, powers, powers)
    assert here == pytest.approx(1.5**3 + 2.5**2 * 3.5, rel=1e-6)

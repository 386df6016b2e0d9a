"""Computed PSFs: comparison with an independent propagator, with geometry and with each other."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from models.errors import DataError
from models.optics import REFERENCE_OPTICS, ExactImages, Objective, computed_psf

SMALL = Objective(numerical_aperture=0.45, wavelength_um=0.52, pixel_size_um=0.65)


def test_it_agrees_with_an_independent_propagator() -> None:
    from psf_generator.propagators.scalar_spherical_propagator import ScalarSphericalPropagator

    fine_nm, side, depth_um = 130.0, 151, 12.0
    # Two planes at -depth and +depth; n_i0 beside n_i sets the cone (the default is that of oil).
    propagator = ScalarSphericalPropagator(
        n_pix_pupil=401,
        n_pix_psf=side,
        wavelength=520,
        na=0.45,
        pix_size=fine_nm * side / (side - 1),
        defocus_step=depth_um * 1000,
        n_defocus=2,
        apod_factor=True,
        n_i=1.0,
        n_i0=1.0,
    )
    theirs = np.square(np.abs(propagator.compute_focus_field().numpy()[1, 0]))
    theirs = ndimage.uniform_filter(theirs, 5)
    psf = computed_psf(SMALL, np.arange(9.0, 15.0))
    at = (np.arange(side) - side // 2) * fine_nm / 1000
    ours = psf.evaluate(at[None, :], at[:, None], np.array(depth_um))
    inner = slice(6, -6)
    # The propagator samples points, `computed_psf` integrates the pixel: a 5-point mean over 0.65 µm leaves a percent.
    assert np.corrcoef(ours[inner, inner].ravel(), theirs[inner, inner].ravel())[0, 1] > 0.99


def test_the_disc_has_the_geometric_radius() -> None:
    psf = computed_psf(SMALL, np.arange(36.0, 42.0))
    centre = psf.planes.shape[1] // 2
    line = psf.planes[4, centre]
    # At the geometric edge diffraction leaves a quarter of the light of the open disc (Born & Wolf, section 8.7.3).
    inside = np.abs(np.arange(len(line)) - centre) / 2 * 0.65
    level = line[inside < 15].mean()
    rim = inside[line > level / 4].max()
    assert rim == pytest.approx(40 * SMALL.cone_tangent, rel=0.08)


def test_light_is_conserved_and_both_sides_are_alike_without_aberration() -> None:
    psf = computed_psf(SMALL, np.arange(-6.0, 7.0))
    shares = psf.planes[:, ::2, ::2].sum(axis=(1, 2))
    np.testing.assert_allclose(shares, 1.0, atol=0.03)
    np.testing.assert_allclose(psf.planes[0], psf.planes[-1], atol=1e-6)


def test_spherical_aberration_makes_the_sides_of_focus_differ() -> None:
    aberrated = Objective(0.45, 0.52, 0.65, spherical_waves=0.15)
    psf = computed_psf(aberrated, np.arange(-6.0, 7.0))
    centre = psf.planes.shape[1] // 2
    assert psf.planes[2, centre, centre] != pytest.approx(psf.planes[-3, centre, centre], rel=0.2)


def test_a_bead_is_wider_than_a_point_in_focus_and_hardly_far_from_it() -> None:
    z = np.arange(0.0, 13.0)
    point = computed_psf(SMALL, z)
    bead = computed_psf(Objective(0.45, 0.52, 0.65, bead_diameter_um=1.0), z)
    centre = point.planes.shape[1] // 2
    assert bead.planes[0, centre, centre] < 0.8 * point.planes[0, centre, centre]
    # Fine rings fade, but a disc 12 µm wide does not grow by a bead of 1 µm.
    radius = np.hypot(*np.indices(point.planes[12].shape) - centre)
    assert (bead.planes[12] * radius).sum() == pytest.approx((point.planes[12] * radius).sum(), rel=0.02)


def test_exact_images_agree_with_the_interpolated_psf() -> None:
    images = ExactImages(REFERENCE_OPTICS, (0.0, 12.0))
    psf = computed_psf(REFERENCE_OPTICS, np.arange(0.0, 13.0))
    exact = np.zeros((64, 64), np.float32)
    images.render(np.array([[20.21, 21.87, 6.4, 1000.0]]), exact)
    tabled = psf.image(20.21, 21.87, 6.4, (64, 64)) * 1000
    assert exact.sum() == pytest.approx(1000, rel=0.03)
    # 1-µm planes interpolated by cubic splines: fine rings differ by a few percent of the peak.
    assert np.abs(exact - tabled).max() < 0.05 * tabled.max()


def test_the_rim_of_a_shallow_image_is_not_cut_off() -> None:
    images = ExactImages(REFERENCE_OPTICS, (0.0, 40.0))
    psf = computed_psf(REFERENCE_OPTICS, np.arange(0.0, 48.0))
    exact = np.zeros((9, 9), np.float32)
    # From 18 to 24 µm beside it; the disc of that depth ends at 2.5 µm.
    images.render(np.array([[-18.0, 2.6, 5.0, 1e6]]), exact)
    assert exact.min() > 0
    assert exact.sum() == pytest.approx(psf.image(-18.0, 2.6, 5.0, (9, 9)).sum() * 1e6, rel=0.02)


@pytest.mark.parametrize(
    "arguments",
    [(1.2, 0.5, 0.65), (0.0, 0.5, 0.65), (0.45, -0.5, 0.65), (0.45, 0.5, 0.0)],
    ids=["aperture above index", "no aperture", "negative wavelength", "no pixel"],
)
def test_impossible_objectives_are_refused(arguments: tuple[float, float, float]) -> None:
    with pytest.raises(DataError):
        Objective(*arguments)

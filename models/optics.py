"""A computed PSF from the data of an objective.

The scalar Debye integral of a rotationally symmetric pupil, including the
spherical aberration of a refractive-index mismatch. Symmetry makes it a matrix
product over radii and depths, so the reference optics take a second, where a
general two-dimensional propagator takes minutes; the tests compare it with
one. A finite bead enters through its transfer function, the camera's pixel
by integration over its area.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import special

from models.errors import DataError
from models.psf import Psf

__all__ = ["REFERENCE_OPTICS", "ExactImages", "Objective", "computed_psf", "reference_psf"]

_PIXEL_POINTS = 6
"""Points per pixel side for the integral over the pixel: 0.11 µm apart where the Airy pattern is 0.6 µm wide."""


@dataclass(frozen=True, slots=True)
class Objective:
    """Properties of an objective and its camera, as in their data sheets.

    Attributes
    ----------
    numerical_aperture : float
    wavelength_um : float
        Emission wavelength in vacuum.
    pixel_size_um : float
        Camera pixel at the sample.
    refractive_index : float
        Medium in which the emitter defocuses.
    bead_diameter_um : float
        0 for a point.
    spherical_waves : float
        Root-mean-square coefficient of the primary spherical Zernike mode
        (Noll 11), in waves; 0 for an ideal objective, whose PSF is the same on
        both sides of focus.
    """

    numerical_aperture: float
    wavelength_um: float
    pixel_size_um: float
    refractive_index: float = 1.0
    bead_diameter_um: float = 0.0
    spherical_waves: float = 0.0

    def __post_init__(self) -> None:
        """Refuse impossible values."""
        if not 0 < self.numerical_aperture < self.refractive_index:
            raise DataError(
                f"Numerical aperture {self.numerical_aperture} in a medium of index {self.refractive_index}: "
                "it must be above 0 and below the index.",
                "Check the objective's engraving and the medium.",
            )
        if self.wavelength_um <= 0 or self.pixel_size_um <= 0 or self.bead_diameter_um < 0:
            raise DataError(
                f"Wavelength {self.wavelength_um} µm, pixel {self.pixel_size_um} µm, bead {self.bead_diameter_um} µm: "
                "the first two must be positive, the bead not negative.",
                "Give lengths in µm.",
            )

    @property
    def cone_tangent(self) -> float:
        """Radius of the geometric defocus disc per depth, tan(asin(NA/n))."""
        return float(np.tan(np.arcsin(self.numerical_aperture / self.refractive_index)))


REFERENCE_OPTICS = Objective(numerical_aperture=0.45, wavelength_um=0.52, pixel_size_um=0.65)
"""10x/0.45 in air with 6.5-µm sCMOS pixels (science.md), green emission."""


def computed_psf(objective: Objective, z_um: NDArray[np.float64], oversampling: int = 2) -> Psf:
    """PSF of an objective at the depths `z_um` (evenly spaced, µm).

    The lateral extent includes the geometric disc of the deepest plane and the
    diffraction around it. Planes are normalized to their energy within it.

    Source: scalar Debye integral with the sine condition, Born & Wolf, *Principles of
    Optics*, 7th ed., section 8.8; the bead's transfer function is that of a
    homogeneous sphere projected along z.
    """
    depth = float(np.abs(z_um).max())
    radius_um = _extent_um(objective, depth)
    radial = _radial_intensity(objective, z_um, radius_um * np.sqrt(2) + 2 * objective.pixel_size_um)
    half = int(np.ceil(radius_um / objective.pixel_size_um * oversampling))
    planes = np.zeros((len(z_um), 2 * half + 1, 2 * half + 1), np.float32)
    _integrate_pixels(radial[0], np.ascontiguousarray(radial[1].T), planes, objective.pixel_size_um, oversampling)
    # An emitter's photons spread over one pixel lattice, which is every oversampling-th grid point.
    planes *= (oversampling**2 / planes.sum(axis=(1, 2), dtype=np.float64)).astype(np.float32)[:, None, None]
    return Psf(planes, np.asarray(z_um, np.float64), objective.pixel_size_um, oversampling)


class ExactImages:
    """Images of point emitters directly from the integral, at any position and depth, for test frames.

    Nothing is tabulated on a lateral grid, so it shares no interpolation error
    with the PSFs of training frames and fits. Slower than a `PatternTable` by a factor of ten to a hundred.

    Parameters
    ----------
    objective : Objective
    z_range_um : (low, high)
        Depths that can be rendered; profiles are tabulated every 1/16 µm and interpolated. At 0.25 µm the axial
        errors of an exact fit at 30 dB grow by a fifth to a third beyond 25 µm.
    """

    _STEP_UM = 0.0625
    _RIM_UM = 8.0

    def __init__(self, objective: Objective, z_range_um: tuple[float, float]) -> None:
        low, high = z_range_um
        z_um = np.arange(low, high + 2 * self._STEP_UM, self._STEP_UM)
        self._objective = objective
        self._z_first_um = low
        # All images extend beyond the deepest pattern: if the faint rim of a shallow image is cut off, exact fits at
        # 30 dB are biased in depth by one to two of their standard deviations.
        self._reach_um = _extent_um(objective, float(np.abs(z_um).max())) + self._RIM_UM
        self._step_um, self._radial = _radial_intensity(objective, z_um, self._reach_um + 2 * objective.pixel_size_um)
        radii = np.arange(self._radial.shape[1]) * self._step_um
        energy = np.asarray(np.trapezoid(2 * np.pi * radii * self._radial, dx=self._step_um, axis=1))
        self._radial *= objective.pixel_size_um**2 / energy[:, None]

    def render(self, emitters: NDArray[np.float64], image: NDArray[np.float32]) -> None:
        """Add emitters (N, 4), x, y, z in µm and photo-electrons, to an image (H, W), in place."""
        _render_exactly(
            np.ascontiguousarray(emitters, np.float64),
            image,
            self._radial,
            self._reach_um,
            self._step_um,
            self._z_first_um,
            self._STEP_UM,
            self._objective.pixel_size_um,
        )


@cache
def reference_psf() -> Psf:
    """PSF of the reference optics from 6 µm on the near side of focus to 112 µm beyond it, in 1-µm planes."""
    return computed_psf(REFERENCE_OPTICS, np.arange(-6.0, 113.0))


def _extent_um(objective: Objective, depth_um: float) -> float:
    """Radius that holds the geometric disc of a depth and the diffraction around it, µm."""
    return depth_um * objective.cone_tangent * 1.12 + 6 * objective.wavelength_um / objective.numerical_aperture


def _radial_intensity(
    objective: Objective, z_um: NDArray[np.float64], radius_um: float
) -> tuple[float, NDArray[np.float64]]:
    """Step of the radii (µm) and intensity at each, shape (Z, R)."""
    index = objective.refractive_index
    wavenumber = 2 * np.pi * index / objective.wavelength_um
    aperture = np.arcsin(objective.numerical_aperture / index)
    # Nodes enough for four samples in each oscillation of the integrand.
    cycles = wavenumber * (radius_um * np.sin(aperture) + np.abs(z_um).max() * (1 - np.cos(aperture))) / (2 * np.pi)
    nodes, weights = np.polynomial.legendre.leggauss(int(4 * cycles) + 100)
    angle = (nodes + 1) / 2 * aperture
    weights = weights / 2 * aperture
    rho = np.sin(angle) / np.sin(aperture)
    spherical = np.sqrt(5) * (6 * rho**4 - 6 * rho**2 + 1) * objective.spherical_waves
    pupil = weights * np.sin(angle) * np.sqrt(np.cos(angle)) * np.exp(2j * np.pi * spherical)
    step = objective.wavelength_um / objective.numerical_aperture / 24
    radii = np.arange(0, radius_um + step, step)
    bessel = special.j0(wavenumber * np.outer(radii, np.sin(angle)))
    defocus = pupil[:, None] * np.exp(1j * wavenumber * np.outer(np.cos(angle), z_um))
    intensity = np.abs(bessel @ defocus.real + 1j * (bessel @ defocus.imag)).T ** 2
    if objective.bead_diameter_um > 0:
        intensity = _blur_with_sphere(objective, radii, intensity)
    return step, np.ascontiguousarray(intensity)


def _blur_with_sphere(
    objective: Objective, radii: NDArray[np.float64], intensity: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Convolve radial profiles, shape (Z, R), with a sphere's projection, by Hankel transforms."""
    cutoff = 2 * objective.numerical_aperture / objective.wavelength_um
    nodes, weights = np.polynomial.legendre.leggauss(int(4 * cutoff * radii[-1]) + 100)
    frequency = (nodes + 1) / 2 * cutoff
    weights = weights / 2 * cutoff
    kernel = special.j0(2 * np.pi * np.outer(frequency, radii))
    step = radii[1] - radii[0]
    spectrum = (intensity * radii * step) @ kernel.T
    u = np.pi * frequency * objective.bead_diameter_um
    sphere = 3 * (np.sin(u) - u * np.cos(u)) / u**3
    blurred = (spectrum * sphere * weights * frequency) @ kernel * (2 * np.pi) ** 2
    return np.maximum(blurred, 0.0)  # type: ignore[no-any-return]


@numba.njit(cache=True, nogil=True)
def _integrate_pixels(step: float, by_radius: Any, planes: Any, pixel_um: float, oversampling: int) -> None:
    # One octant is computed and mirrored: the profile depends on the radius alone. A radius is looked up for all
    # planes at once, `by_radius` having the shape (R, Z).
    half = planes.shape[1] // 2
    last = by_radius.shape[0] - 2
    total = np.empty(planes.shape[0], np.float64)
    for row in range(half + 1):
        for column in range(row, half + 1):
            total[:] = 0.0
            for i in range(_PIXEL_POINTS):
                y = (row / oversampling + (i + 0.5) / _PIXEL_POINTS - 0.5) * pixel_um
                for j in range(_PIXEL_POINTS):
                    x = (column / oversampling + (j + 0.5) / _PIXEL_POINTS - 0.5) * pixel_um
                    at = np.sqrt(x * x + y * y) / step
                    low = min(int(at), last)
                    part = at - low
                    near, far = by_radius[low], by_radius[low + 1]
                    for plane in range(total.shape[0]):
                        total[plane] += near[plane] * (1 - part) + far[plane] * part
            for y_sign in (-1, 1):
                for x_sign in (-1, 1):
                    planes[:, half + y_sign * row, half + x_sign * column] = total
                    planes[:, half + y_sign * column, half + x_sign * row] = total


@numba.njit(cache=True, nogil=True)
def _render_exactly(
    emitters: Any,
    image: Any,
    radial: Any,
    reach_um: float,
    step: float,
    z_first: float,
    z_step: float,
    pixel_um: float,
) -> None:
    height, width = image.shape
    last = radial.shape[1] - 2
    reach = reach_um / pixel_um
    for e in range(emitters.shape[0]):
        x0, y0 = emitters[e, 0] / pixel_um, emitters[e, 1] / pixel_um
        z = (emitters[e, 2] - z_first) / z_step
        plane = min(max(int(z), 0), radial.shape[0] - 2)
        upper = z - plane
        for row in range(max(0, int(y0 - reach)), min(height, int(y0 + reach) + 2)):
            for column in range(max(0, int(x0 - reach)), min(width, int(x0 + reach) + 2)):
                total = 0.0
                for i in range(_PIXEL_POINTS):
                    y = (row - y0 + (i + 0.5) / _PIXEL_POINTS - 0.5) * pixel_um
                    for j in range(_PIXEL_POINTS):
                        x = (column - x0 + (j + 0.5) / _PIXEL_POINTS - 0.5) * pixel_um
                        at = np.sqrt(x * x + y * y) / step
                        low = int(at)
                        if low > last:
                            continue
                        part = at - low
                        near = radial[plane, low] * (1 - part) + radial[plane, low + 1] * part
                        far = radial[plane + 1, low] * (1 - part) + radial[plane + 1, low + 1] * part
                        total += near * (1 - upper) + far * upper
                image[row, column] += np.float32(emitters[e, 3] * total / _PIXEL_POINTS**2)

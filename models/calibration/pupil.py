"""The pattern of a bead from a few parameters of the pupil: aperture, wavelength, aberrations, size of the bead.

A sweep has a million noisy pixels, and the optics have about twenty parameters.
Where a scalar pupil fits the beads, its pattern has far less noise than a mean
over beads, between the planes of the sweep, in dark rings and in the faint rim.
Where it does not fit, it is not used (see `pupil_pattern`).

An image depends on sin(α) = NA/n and n/λ only, so index, wavelength and aperture
in vacuum cannot be determined separately. The field in each plane is the Fourier
transform of the pupil with its defocus, on a grid that is just wide enough
for that depth; bead and camera pixel come in by their transfer functions.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft

__all__ = ["ZERNIKES", "Pupil", "render_pupil"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

ZERNIKES = (
    (2, -2),
    (2, 2),
    (3, -1),
    (3, 1),
    (4, 0),
    (3, -3),
    (3, 3),
    (4, -2),
    (4, 2),
    (5, -1),
    (5, 1),
    (6, 0),
    (4, -4),
    (4, 4),
)
"""(n, m) of the aberrations: primary and secondary astigmatism, coma and spherical aberration, trefoil, tetrafoil."""

_TAIL_RINGS = 7.0
"""Radius kept around the geometric disc, in units of λ/NA: beyond it is less than 1 % of the light."""

_DISC_MARGIN = 1.15
"""Aberrations and the finite aperture's rim reach this much farther than the geometric disc."""

_GRID_STEP = 32
_WIDEST = 3.0


@dataclass(frozen=True, slots=True)
class Pupil:
    """Parameters from which the pattern of a bead is computed.

    Attributes
    ----------
    sine : float
        NA / n.
    waves_per_um : float
        n / λ, 1/µm.
    focus_um : float
        Depth at which the pattern is in focus, µm.
    bead_um : float
        Diameter of the bead, a homogeneous sphere, µm.
    dimming : (float, float)
        Amplitude over the pupil: 1 + a ρ² + b ρ⁴.
    zernike_waves : tuple of float
        Root-mean-square wavefront error of each of `ZERNIKES`, waves.
    """

    sine: float
    waves_per_um: float
    focus_um: float = 0.0
    bead_um: float = 0.0
    dimming: tuple[float, float] = (0.0, 0.0)
    zernike_waves: tuple[float, ...] = (0.0,) * len(ZERNIKES)

    @property
    def cone_tangent(self) -> float:
        """Radius of the geometric disc per depth."""
        return float(self.sine / np.sqrt(1 - self.sine**2))

    @property
    def axial_period_um(self) -> float:
        """Shortest period along the axis that the pattern can have, µm."""
        return float(1 / (self.waves_per_um * (1 - np.sqrt(1 - self.sine**2))))

    def reach_um(self, z_um: float) -> float:
        """Radius that holds nearly all light at depth z, µm."""
        rings = _TAIL_RINGS / (self.waves_per_um * self.sine)
        return abs(z_um - self.focus_um) * self.cone_tangent * _DISC_MARGIN + rings + self.bead_um / 2

    def as_vector(self) -> F64:
        """All parameters, shape (6 + number of `ZERNIKES`,)."""
        head = [self.sine, self.waves_per_um, self.focus_um, self.bead_um, *self.dimming]
        return np.array([*head, *self.zernike_waves], np.float64)

    def moved_to(self, vector: F64) -> Pupil:
        """The pupil with the parameters of `as_vector`, clipped to physical values."""
        figures = [float(v) for v in vector]
        return replace(
            self,
            sine=min(max(figures[0], 0.02), 0.95),
            waves_per_um=max(figures[1], 0.1),
            focus_um=figures[2],
            bead_um=max(figures[3], 0.0),
            dimming=(figures[4], figures[5]),
            zernike_waves=tuple(figures[6:]),
        )


def render_pupil(
    pupil: Pupil,
    z_um: float,
    half: int,
    step_um: float,
    pixel_um: float,
    place_um: tuple[float, float] = (0.0, 0.0),
) -> F32:
    """Image of a bead at one depth.

    Parameters
    ----------
    pupil : Pupil
    z_um : float
        Depth, µm.
    half : int
        The image has 2 half + 1 samples along each edge.
    step_um : float
        Distance of the samples, µm.
    pixel_um : float
        Side of the camera's pixel, over which each sample is integrated, µm.
    place_um : (x, y)
        Of the bead, µm from the central sample.

    Returns
    -------
    ndarray of float32, shape (2 half + 1, 2 half + 1)
        Share of the light in a pixel centred on each sample: all samples of an image that is wide enough add up to
        (pixel_um / step_um)².
    """
    cutoff = pupil.waves_per_um * pupil.sine
    # Intensity has twice the bandwidth of the field; pixel and bead suppress its last tenth.
    finer = max(int(np.ceil(step_um * 4 * cutoff * 0.85)), 1)
    fine_um = step_um / finer
    # A bad first guess may reach far beyond the image; wrap-around at its edge does not matter then.
    reach = min(pupil.reach_um(z_um), _WIDEST * half * step_um) + pixel_um
    # In steps, so that neighbouring depths share the cached arrays of a grid.
    size = fft.next_fast_len(_GRID_STEP * int(np.ceil((2 * reach / fine_um + 2) / _GRID_STEP)))
    frequency = fft.fftfreq(size, fine_um)
    inside = np.flatnonzero(np.abs(frequency) <= cutoff + 1 / (size * fine_um))
    inside = inside[np.argsort(frequency[inside])]
    values = _pupil_values(pupil, np.sort(frequency[inside]) / cutoff, z_um)
    field = np.zeros((size, size), np.complex64)
    field[np.ix_(inside, inside)] = values
    # Empty columns need no transform.
    field[:, inside] = fft.ifft(field[:, inside], axis=0, overwrite_x=True)
    field = fft.ifft(field, axis=1, overwrite_x=True)
    intensity = np.square(field.real) + np.square(field.imag)
    blur = _blur(size, fine_um, pixel_um, pupil.bead_um)
    spectrum = fft.rfft2(intensity, overwrite_x=True) * blur
    if any(place_um):
        rows, columns = fft.fftfreq(size, fine_um), fft.rfftfreq(size, fine_um)
        turns = rows[:, None] * place_um[1] + columns[None, :] * place_um[0]
        spectrum *= np.exp(-2j * np.pi * turns).astype(np.complex64)
    light = fft.irfft2(spectrum, (size, size), overwrite_x=True)
    light *= (pixel_um / fine_um) ** 2 / light.sum()
    reached = min(half, (size // 2 - 1) // finer)
    index = np.arange(-reached, reached + 1) * finer
    image = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    centre = slice(half - reached, half + reached + 1)
    image[centre, centre] = light[np.ix_(index, index)]
    return image


def _pupil_values(pupil: Pupil, u: F64, z_um: float) -> NDArray[np.complex64]:
    """Field over the pupil at increasing, evenly spaced coordinates u x u (1 at the edge)."""
    aperture = _aperture(len(u), float(u[0]), float(u[1] - u[0]))
    square = aperture.square
    amplitude = aperture.inside * (1 + np.float32(pupil.dimming[0]) * square + np.float32(pupil.dimming[1]) * square**2)
    cosine = np.sqrt(1 - np.float32(pupil.sine**2) * square)
    # Whole waves are subtracted before the phase is converted to single precision.
    waves = pupil.waves_per_um * (z_um - pupil.focus_um) * (cosine.astype(np.float64) - 1)
    waves += np.tensordot(np.array(pupil.zernike_waves, np.float32), aperture.zernikes, 1)
    phase = (2 * np.pi * (waves - np.round(waves))).astype(np.float32)
    values = np.empty(phase.shape, np.complex64)
    values.real = amplitude * np.cos(phase)
    values.imag = amplitude * np.sin(phase)
    return values


@dataclass(frozen=True, slots=True)
class _Aperture:
    """Squared radius, share of each sample inside, (n, n) each, and the Zernike polynomials (T, n, n)."""

    square: F32
    inside: F32
    zernikes: F32


@lru_cache(maxsize=48)
def _aperture(count: int, first: float, spacing: float) -> _Aperture:
    u = first + spacing * np.arange(count)
    x, y = u[None, :], u[:, None]
    radius = np.hypot(x, y)
    # Samples on the rim are weighted by their share inside.
    inside = np.clip((1 - radius) / spacing + 0.5, 0, 1)
    rho, angle = np.minimum(radius, 1.0), np.arctan2(y, x)
    zernikes = np.stack([_zernike(n, m, rho, angle) for n, m in ZERNIKES])
    return _Aperture((rho**2).astype(np.float32), inside.astype(np.float32), zernikes.astype(np.float32))


@lru_cache(maxsize=48)
def _blur(size: int, step_um: float, pixel_um: float, bead_um: float) -> F32:
    """Transfer function of pixel and bead for a grid of size x size, shape (size, size // 2 + 1)."""
    rows, columns = fft.fftfreq(size, step_um), fft.rfftfreq(size, step_um)
    pixel = np.sinc(rows * pixel_um)[:, None] * np.sinc(columns * pixel_um)[None, :]
    sphere = _sphere_transfer(np.hypot(rows[:, None], columns[None, :]) * bead_um)
    return np.asarray(pixel * sphere, np.float32)


def _zernike(n: int, m: int, rho: F64, angle: F64) -> F64:
    """Zernike polynomial with root mean square 1 over the disc (Noll, J. Opt. Soc. Am. 66, 207, 1976)."""
    order = abs(m)
    radial = np.zeros_like(rho)
    factor = 1.0
    for k in range((n - order) // 2 + 1):
        if k > 0:
            half_sum, half_difference = (n + order) // 2, (n - order) // 2
            factor *= -(half_sum - k + 1) * (half_difference - k + 1) / (k * (n - k + 1))
        elif order < n:
            factor = float(np.prod(np.arange(1, n + 1, dtype=np.float64)))
            for part in ((n + order) // 2, (n - order) // 2):
                factor /= float(np.prod(np.arange(1, part + 1, dtype=np.float64)))
        radial += factor * rho ** (n - 2 * k)
    if m == 0:
        return np.asarray(np.sqrt(n + 1) * radial, np.float64)
    turning = np.cos(order * angle) if m > 0 else np.sin(order * angle)
    return np.asarray(np.sqrt(2 * (n + 1)) * radial * turning, np.float64)


def _sphere_transfer(u: F64) -> F64:
    """Transfer function of a homogeneous sphere projected along the axis, at frequency times diameter."""
    v = np.maximum(np.pi * u, 1e-3)
    return np.asarray(3 * (np.sin(v) - v * np.cos(v)) / v**3, np.float64)

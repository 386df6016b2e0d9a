"""Benchmark optics unknown to the methods: another PSF code, aberrations, a finite bead, a curved field.

Frames that are rendered with the code and the samples that a method fits with
give too good scores (the inverse crime). Here the pattern comes from an
independent package (psf-generator: scalar Richards-Wolf integral on a
Cartesian pupil, Zernike phases), the emitter is a bead of 1 µm, the magnitudes
of the aberrations are random and not given to methods, the focal plane is
curved, and places are continuous. Methods get only the calibration that
`calibrate` makes from `hidden_sweep`, a noisy sweep of several beads through
the same optics.

The pattern takes a minute to compute, so it is kept in the user's cache
folder under a digest of its parameters.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from models.errors import DataError
from models.optics import REFERENCE_OPTICS, Objective
from models.pattern_spline import PatternSpline, render_pattern
from models.psf import Psf

__all__ = [
    "FIELD_SHAPE",
    "HIDDEN_SEED",
    "MARGIN_UM",
    "HiddenImages",
    "HiddenOptics",
    "draw_hidden_optics",
    "hidden_psf",
]

F64 = NDArray[np.float64]

HIDDEN_SEED = 4_502_001
"""Of the aberrations. Sweeps, validation frames and test frames have seeds of their own."""

FIELD_SHAPE = (1024, 1024)
"""The camera's field, pixels; test frames are its top-left part, so that positions agree between them."""

_OVERSAMPLING = 3
"""Samples per pixel: 0.22 µm, where the pattern's cutoff λ/4NA asks for 0.29."""

_Z_STEPS_UM = (1.0, 0.5, 0.25, 0.125)
_SHARE_OF_PERIOD = 4.5
"""Planes in the shortest axial period λ/(n - √(n² - NA²)), for cubic splines: 4.9 µm of 10x/0.45 take 1-µm steps."""

MARGIN_UM = 12.0
"""How far the planes of the pattern extend beyond the benchmark depths on both sides."""

_PUPIL_SIZES = (256, 384, 512, 640, 768)
_FINEST_PUPIL_RAD = 0.5 * np.pi
"""Largest phase step between neighbouring pupil samples, two of which make a Nyquist pair."""

_SPHERICAL, _COMA, _ASTIGMATISM = 12, (7, 8), (3, 5)
"""OSA/ANSI indices of primary spherical aberration, coma and astigmatism in the two directions."""


@dataclass(frozen=True, slots=True)
class HiddenOptics:
    """True parameters of the simulated microscope.

    Attributes
    ----------
    objective : Objective
        Data sheet values, with the bead.
    spherical_waves : float
        Root-mean-square wavefront error of primary spherical aberration, waves.
    coma_waves, astigmatism_waves : (float, float)
        The same of the two directions of coma and astigmatism.
    curvature_um : float
        By how much the focal plane recedes from the field's centre to the middle of its edge, µm. Depth zero is the
        mean over the field, as in a calibration.
    """

    objective: Objective
    spherical_waves: float
    coma_waves: tuple[float, float]
    astigmatism_waves: tuple[float, float]
    curvature_um: float

    def digest(self) -> str:
        """Digest of the parameters, for cache names."""
        made_from = {"optics": asdict(self), "sampling": (_OVERSAMPLING, _z_step_um(self.objective), MARGIN_UM)}
        return hashlib.sha256(json.dumps(made_from, sort_keys=True).encode()).hexdigest()[:16]

    def curvature_at(self, x_um: F64, y_um: F64) -> F64:
        """How much deeper an emitter at (x, y) looks than it is, same shape, µm."""
        height, width = FIELD_SHAPE
        pixel = self.objective.pixel_size_um
        half = 0.5 * max(height, width) * pixel
        square = (x_um - 0.5 * width * pixel) ** 2 + (y_um - 0.5 * height * pixel) ** 2
        apparent: F64 = self.curvature_um * (square / half**2 - 2 / 3)
        return apparent


def draw_hidden_optics(
    seed: int = HIDDEN_SEED, bead_diameter_um: float = 1.0, objective: Objective = REFERENCE_OPTICS
) -> HiddenOptics:
    """Draw aberrations of a good but real objective: 0.03 to 0.08 waves of each kind, in any direction.

    Parameters
    ----------
    seed : int
    bead_diameter_um : float
        Of the emitters.
    objective : Objective
        Its data sheet.
    """
    rng = np.random.default_rng(seed)
    spherical, coma, astigmatism = rng.uniform(0.03, 0.08, 3)
    turn = rng.uniform(0, 2 * np.pi, 2)
    return HiddenOptics(
        replace(objective, bead_diameter_um=bead_diameter_um),
        float(spherical * rng.choice([-1, 1])),
        (float(coma * np.cos(turn[0])), float(coma * np.sin(turn[0]))),
        (float(astigmatism * np.cos(turn[1])), float(astigmatism * np.sin(turn[1]))),
        curvature_um=1.0,
    )


class HiddenImages:
    """Images of emitters through hidden optics at continuous places; see `models.optics.ExactImages`.

    Parameters
    ----------
    optics : HiddenOptics
    psf : Psf
        As `hidden_psf` computes it.

    Attributes
    ----------
    spline : PatternSpline
        Of the pattern.
    """

    def __init__(self, optics: HiddenOptics, psf: Psf) -> None:
        self._optics = optics
        self.spline = PatternSpline(psf)
        self._pixel_um = psf.pixel_size_um

    def render(self, emitters: F64, image: NDArray[np.float32]) -> None:
        """Add emitters (N, 4), x, y, z in µm and photo-electrons, to an image (H, W), in place."""
        spline = self.spline
        apparent = emitters[:, 2] + self._optics.curvature_at(emitters[:, 0], emitters[:, 1])
        x, y = emitters[:, 0] / self._pixel_um, emitters[:, 1] / self._pixel_um
        reach = np.minimum(1.15 * spline.radius_at_px(apparent) + 3, spline.radius_px.max() + 6)
        index = spline.z_index(apparent)
        for row in range(len(emitters)):
            box = np.array(
                [
                    max(0, np.ceil(y[row] - reach[row])),
                    min(image.shape[0], np.floor(y[row] + reach[row]) + 1),
                    max(0, np.ceil(x[row] - reach[row])),
                    min(image.shape[1], np.floor(x[row] + reach[row]) + 1),
                ],
                np.int64,
            )
            if box[1] <= box[0] or box[3] <= box[2]:
                continue
            pattern = np.empty((4, box[1] - box[0], box[3] - box[2]), np.float32)
            render_pattern(
                spline.coefficients,
                x[row],
                y[row],
                index[row],
                spline.psf.z_step_um,
                spline.psf.oversampling,
                box,
                pattern,
            )
            image[box[0] : box[1], box[2] : box[3]] += np.float32(emitters[row, 3]) * np.maximum(pattern[0], 0)


def hidden_psf(
    optics: HiddenOptics,
    z_range_um: tuple[float, float] = (0.0, 100.0),
    *,
    cache: Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> Psf:
    """Pattern of a bead through the hidden optics.

    Parameters
    ----------
    optics : HiddenOptics
    z_range_um : (low, high)
        Depths of the benchmark; the planes reach 12 µm farther on both sides.
    cache : Path, optional
        Folder in which the pattern is kept from one call to the next.
    progress : callable, optional
        Called with the share done, 0 to 1.

    Raises
    ------
    DataError
        When psf-generator is not installed.
    """
    kept = cache / f"hidden-psf-{optics.digest()}-{z_range_um[0]:g}-{z_range_um[1]:g}.zarr" if cache else None
    if kept is not None and kept.is_dir():
        return Psf.load(kept)
    step_um = _z_step_um(optics.objective)
    z_um = np.arange(z_range_um[0] - MARGIN_UM, z_range_um[1] + MARGIN_UM + 0.5 * step_um, step_um)
    psf = _compute(optics, z_um, progress or (lambda _done: None))
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        psf.save(kept)
    return psf


def _z_step_um(objective: Objective) -> float:
    index, aperture = objective.refractive_index, objective.numerical_aperture
    period_um = objective.wavelength_um / (index - np.sqrt(index**2 - aperture**2))
    return next((step for step in _Z_STEPS_UM if step * _SHARE_OF_PERIOD <= period_um), _Z_STEPS_UM[-1])


def _compute(optics: HiddenOptics, z_um: F64, progress: Callable[[float], None]) -> Psf:
    objective = optics.objective
    step_um = objective.pixel_size_um / _OVERSAMPLING
    halves = np.ceil(_reach_um(objective, z_um) / step_um).astype(int)
    planes = np.zeros((len(z_um), 2 * halves.max() + 1, 2 * halves.max() + 1), np.float32)
    sizes = np.array([_pupil_size(objective, z, half * step_um) for z, half in zip(z_um, halves, strict=True)])
    done = 0
    for size in np.unique(sizes):
        pupil = _Pupil(optics, int(size))
        for index in np.flatnonzero(sizes == size):
            half = int(halves[index])
            light = _blur(pupil.intensity(float(z_um[index]), 2 * half + 1, step_um), step_um, objective)
            centre = slice(halves.max() - half, halves.max() + half + 1)
            planes[index, centre, centre] = light * (_OVERSAMPLING**2 / light.sum())
            done += 1
            progress(done / len(z_um))
    return Psf(planes, z_um, objective.pixel_size_um, _OVERSAMPLING)


def _reach_um(objective: Objective, z_um: F64) -> F64:
    reach: F64 = (
        np.abs(z_um) * objective.cone_tangent * 1.12
        + 6 * objective.wavelength_um / objective.numerical_aperture
        + objective.bead_diameter_um
    )
    return reach


def _pupil_size(objective: Objective, z_um: float, reach_um: float) -> int:
    """Samples across the pupil that follow the phase of defocus and of the farthest place."""
    wavenumber = 2 * np.pi / objective.wavelength_um
    edge_rad = wavenumber * (
        abs(z_um) * objective.numerical_aperture * objective.cone_tangent + reach_um * objective.numerical_aperture
    )
    needed = 2 * edge_rad / _FINEST_PUPIL_RAD
    fitting = [size for size in _PUPIL_SIZES if size >= needed]
    return fitting[0] if fitting else int(needed) + 1


class _Pupil:
    """Pupil of psf-generator with its aberrations, and its transform to the planes of the sample."""

    def __init__(self, optics: HiddenOptics, samples: int) -> None:
        try:
            from psf_generator.propagators.scalar_cartesian_propagator import ScalarCartesianPropagator
            from psf_generator.utils.czt import custom_ifft2
        except ImportError as error:
            raise DataError(
                "The hidden optics need the package psf-generator, which is not installed.",
                'Install the extra: pip install "bathyscope[evaluation]"; or use --optics exact.',
            ) from error
        objective = optics.objective
        waves = np.zeros(_SPHERICAL + 1, np.float32)
        # The package's polynomials reach 1 at the edge; their root mean squares are 1/√5, 1/√8 and 1/√6.
        waves[_SPHERICAL] = np.sqrt(5) * optics.spherical_waves
        waves[list(_COMA)] = np.sqrt(8) * np.array(optics.coma_waves)
        waves[list(_ASTIGMATISM)] = np.sqrt(6) * np.array(optics.astigmatism_waves)
        propagator = ScalarCartesianPropagator(
            n_pix_pupil=samples,
            n_pix_psf=samples,
            wavelength=objective.wavelength_um * 1000,
            na=objective.numerical_aperture,
            pix_size=objective.pixel_size_um * 1000,
            apod_factor=True,
            n_i=objective.refractive_index,
            n_i0=objective.refractive_index,
            zernike_coefficients=2 * np.pi * waves,
        )
        self._transform: Any = custom_ifft2
        self._values: Any = propagator.get_pupil()[0, 0]
        self._samples = samples
        self._objective = objective
        sine = np.linspace(-1, 1, samples) * objective.numerical_aperture / objective.refractive_index
        self._cosine = np.sqrt(np.maximum(1 - sine[:, None] ** 2 - sine[None, :] ** 2, 1e-3))

    def intensity(self, z_um: float, side: int, step_um: float) -> F64:
        """Intensity of a point in a plane, shape (side, side), samples `step_um` apart, the middle one on the axis."""
        import torch

        objective = self._objective
        phase = 2 * np.pi * objective.refractive_index / objective.wavelength_um * self._cosine * z_um
        defocused = self._values * torch.from_numpy(np.exp(1j * phase).astype(np.complex64))
        # Phase per pupil sample at the outermost place, over π.
        zoom = 2 * objective.numerical_aperture / objective.wavelength_um * (side - 1) * step_um / (self._samples - 1)
        field = self._transform(
            defocused,
            shape_out=(side, side),
            k_start=-zoom * np.pi,
            k_end=zoom * np.pi,
            norm="forward",
            fftshift_input=True,
            include_end=True,
        )
        squared: F64 = np.square(np.abs(field.numpy())).astype(np.float64)
        return squared


def _blur(intensity: F64, step_um: float, objective: Objective) -> F64:
    """Convolve with the bead (a homogeneous sphere, projected) and the camera's pixel, by their transfer functions."""
    side = len(intensity)
    size = fft.next_fast_len(side + 2 * int(np.ceil((objective.bead_diameter_um + objective.pixel_size_um) / step_um)))
    rows = fft.fftfreq(size, step_um)[:, None]
    columns = fft.rfftfreq(size, step_um)[None, :]
    pixel = np.sinc(rows * objective.pixel_size_um) * np.sinc(columns * objective.pixel_size_um)
    u = np.maximum(np.pi * np.hypot(rows, columns) * objective.bead_diameter_um, 1e-3)
    sphere = 3 * (np.sin(u) - u * np.cos(u)) / u**3
    spectrum = fft.rfft2(intensity, (size, size)) * (pixel * sphere)
    blurred: F64 = np.maximum(fft.irfft2(spectrum, (size, size))[:side, :side], 0.0)
    return blurred

"""The pattern of an extended object from that of a point or a small bead.

A cell is many points, so its image is the mean of their patterns over its
volume: the PSF convolved with the object in three dimensions. Here the object
is a sphere that is labelled evenly. Its section at the height h from its centre
is a disc of radius sqrt(R² - h²), whose Fourier transform is known (the Airy
function 2 J1(u) / u), so planes are convolved in Fourier space, where the disc has no
pixels.

A calibration from beads already contains the bead. Second moments of
convolved patterns add, so the diameter still to be added is
sqrt(D² - d²) for an object of diameter D and beads of diameter d.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.special import j1

from models.errors import DataError
from models.psf import Psf
from models.quantities import OBJECT_DIAMETER_UM

__all__ = ["ObjectSize", "psf_of_sphere"]

_SECTION_UM = 0.5
"""Largest distance between sections of the sphere."""


@dataclass(frozen=True, slots=True)
class ObjectSize:
    """Diameter of the objects that are tracked, and of the beads that were calibrated with.

    Attributes
    ----------
    object_um, bead_um : float
        µm; beads of 0 µm are points.

    Raises
    ------
    DataError
        When a diameter is not plausible, or the object is smaller than the beads.
    """

    object_um: float
    bead_um: float = 0.0

    def __post_init__(self) -> None:
        """Check the diameters."""
        OBJECT_DIAMETER_UM.check(self.object_um, "--object-diameter-um")
        if self.bead_um != 0:
            OBJECT_DIAMETER_UM.check(self.bead_um, "--bead-diameter-um")
        if self.object_um < self.bead_um:
            raise DataError(
                f"The objects of {self.object_um:g} µm are smaller than the beads of {self.bead_um:g} µm.",
                "A pattern can be made wider, not narrower: calibrate with smaller beads.",
            )

    @property
    def missing_um(self) -> float:
        """Diameter of the sphere that the pattern of the beads lacks, µm."""
        return float(np.sqrt(self.object_um**2 - self.bead_um**2))


def psf_of_sphere(psf: Psf, diameter_um: float) -> Psf:
    """The pattern of an evenly labelled sphere.

    Parameters
    ----------
    psf : Psf
        Of a point.
    diameter_um : float
        0 gives the PSF itself.

    Returns
    -------
    Psf
        Same planes. Where the sphere extends beyond the first or last plane, that plane counts.
    """
    if diameter_um == 0:
        return psf
    radius = diameter_um / 2
    edges = np.linspace(-radius, radius, 1 + max(3, int(np.ceil(diameter_um / _SECTION_UM))))
    heights = (edges[:-1] + edges[1:]) / 2
    volume = np.diff(radius**2 * edges - edges**3 / 3)
    shares = (volume / volume.sum()).astype(np.float32)
    side = psf.planes.shape[1]
    grid_um = psf.pixel_size_um / psf.oversampling
    size = fft.next_fast_len(side + int(np.ceil(diameter_um / grid_um)) + 1, real=True)
    frequency = np.hypot(fft.fftfreq(size, grid_um)[:, None], fft.rfftfreq(size, grid_um)[None, :])
    radii = np.sqrt(radius**2 - heights**2)
    sections = [share * _disc(frequency, disc_um) for disc_um, share in zip(radii, shares, strict=True)]
    spectra = fft.rfft2(psf.planes, (size, size))
    last = len(spectra) - 1
    planes = np.empty_like(psf.planes)
    for index, plane in enumerate(planes):
        total = np.zeros_like(spectra[0])
        for height, section in zip(heights, sections, strict=True):
            at = float(np.clip(index + height / psf.z_step_um, 0, last))
            low = min(int(at), last - 1)
            above = np.float32(at - low)
            total += section * ((1 - above) * spectra[low] + above * spectra[low + 1])
        plane[:] = fft.irfft2(total, (size, size))[:side, :side]
    return Psf(planes, psf.z_um, psf.pixel_size_um, psf.oversampling)


def _disc(frequency: NDArray[np.float64], radius_um: float) -> NDArray[np.float32]:
    """Fourier transform of a disc of unit light, at frequencies in cycles per µm."""
    u = 2 * np.pi * frequency * radius_um
    at_zero = u == 0
    values: NDArray[np.float32] = np.where(at_zero, 1.0, 2 * j1(u) / np.where(at_zero, 1.0, u)).astype(np.float32)
    return values

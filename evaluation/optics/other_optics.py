"""Optics for which the shipped weights were not trained, from the second generator: aperture, colour, pixel, medium.

These are equal to the reference optics, so that figures can be compared: the
frame and the side of the volume in pixels, the number of points and the law of
their brightness, the SNR, the bead in pixels, and the seeding density, which
determines how much patterns overlap. The depth range is chosen for it, within
2 %: deeper where the cone is slender or the pixel large. A sweep has as many
planes. Tolerances are the same shares of the depth range: the published 10 µm
are a tenth of 100 µm.

Mounting medium. One of the optics is an air objective with a sample in water.
The calibration gets the ratio of the refractive indices (`axial_scale`), which
converts travel of the focus drive in air into depth in the sample. The
spherical aberration of the mismatch grows with depth and is in no sweep of
beads on a slide; it is in the frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from evaluation.optics.benchmark_optics import BenchmarkOptics, named_by_content
from evaluation.optics.frames import SCMOS_CAMERA, SIDE_UM
from evaluation.optics.hidden_optics import (
    FIELD_SHAPE,
    HIDDEN_SEED,
    MARGIN_UM,
    HiddenImages,
    HiddenOptics,
    draw_hidden_optics,
    hidden_psf,
)
from evaluation.optics.hidden_sweep import draw_sweep, sweep_calibration
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.optics import REFERENCE_OPTICS, Objective

__all__ = ["OTHER_OPTICS", "OtherOptics", "calibrate_sweep", "other_benchmark_optics", "simulate_sweep"]

Progress = Callable[[float, str], None]

_WATER = 1.33
_BEAD_UM = 1.0
"""In the reference optics."""

_SWEEP_SHARES = (-0.24, 1.06, 0.02)
"""First and last plane and step of a sweep, over the depth range: those of the reference optics."""

_BESIDE_UM = 4.0
"""More than tilt of the slide and curvature of the field add to a bead's depth."""

_QUICK_SHARE = 0.24
_QUICK_BEADS, _QUICK_FIELD = (3, 3), (224, 224)


@dataclass(frozen=True, slots=True)
class OtherOptics:
    """A microscope.

    Attributes
    ----------
    name : str
        In tables.
    objective : Objective
        Data sheet, in the medium between objective and sample.
    sample_index : float
        Refractive index in which emitters are.
    deepest_um : float
        Far end of the benchmark depths, for equal seeding density.
    seed : int
        Of the aberrations.
    """

    name: str
    objective: Objective
    sample_index: float
    deepest_um: float
    seed: int

    @property
    def axial_scale(self) -> float:
        """Depth in the sample for a travel of the focus drive."""
        return self.sample_index / self.objective.refractive_index

    @property
    def in_sample(self) -> Objective:
        """The objective as emitters in the sample see it."""
        return replace(self.objective, refractive_index=self.sample_index)

    def depths_um(self, *, quick: bool = False) -> tuple[float, float]:
        """Depths of the benchmark."""
        return (0.0, float(round(self.deepest_um * (_QUICK_SHARE if quick else 1.0))))

    @property
    def side_um(self) -> float:
        """Side of the volume, as many pixels as in the reference optics."""
        return SIDE_UM * self._pixels

    @property
    def _pixels(self) -> float:
        """Pixel over that of the reference optics."""
        return self.objective.pixel_size_um / REFERENCE_OPTICS.pixel_size_um

    def hidden(self) -> HiddenOptics:
        """True parameters in front of the sample, where the focus drive moves."""
        return draw_hidden_optics(self.seed, _BEAD_UM * self._pixels, self.objective)


OTHER_OPTICS = (
    OtherOptics("0.3 NA, 0.60 µm", Objective(0.30, 0.60, 0.65), 1.0, 145.0, HIDDEN_SEED + 11),
    OtherOptics("0.6 NA, 0.67 µm, 0.325 µm/px", Objective(0.60, 0.67, 0.325), 1.0, 29.0, HIDDEN_SEED + 12),
    OtherOptics("0.45 NA into water", Objective(0.45, 0.52, 0.65), _WATER, 157.0, HIDDEN_SEED + 13),
)


def simulate_sweep(other: OtherOptics, cache: Path | None, *, quick: bool = False) -> Sweep:
    """A noisy sweep of beads on a slide.

    Parameters
    ----------
    other : OtherOptics
    cache : Path or None
        Folder in which computed patterns are kept.
    quick : bool
        A shallow volume and a small field with few beads.
    """
    travel = other.depths_um(quick=quick)[1] / other.axial_scale
    first, last, step = (share * other.depths_um()[1] / other.axial_scale for share in _SWEEP_SHARES)
    if quick:
        first, last = 0.3 * first, travel + 3 * step
    hidden = other.hidden()
    # Planes reach a margin farther, part of which is for what beads and field add to a depth.
    low = min(0.0, float(np.floor(first)) + MARGIN_UM - _BESIDE_UM)
    psf = hidden_psf(hidden, (low, float(np.ceil(travel))), cache=cache)
    return draw_sweep(
        HiddenImages(hidden, psf),
        SCMOS_CAMERA,
        other.objective.pixel_size_um,
        z_um=np.arange(first, last + 0.5 * step, step),
        beads=_QUICK_BEADS if quick else (5, 4),
        shape=_QUICK_FIELD if quick else FIELD_SHAPE,
        seed=other.seed,
    )


def calibrate_sweep(other: OtherOptics, sweep: Sweep, progress: Progress, *, quick: bool = False) -> Calibration:
    """Calibration from the sweep by the usual procedure; `progress` gets the share done and what is being done."""
    depths = other.depths_um(quick=quick)
    learned = sweep_calibration(sweep, SCMOS_CAMERA, progress, z_range_um=depths, axial_scale=other.axial_scale)
    return named_by_content(learned)


def other_benchmark_optics(
    other: OtherOptics, calibration: Calibration, cache: Path | None, *, quick: bool = False
) -> BenchmarkOptics:
    """Benchmark optics: emitters in the sample, depth measured from the focus of the calibration."""
    depths = other.depths_um(quick=quick)
    hidden = other.hidden()
    in_sample = replace(
        hidden,
        objective=replace(other.in_sample, bead_diameter_um=hidden.objective.bead_diameter_um),
        curvature_um=hidden.curvature_um * other.axial_scale,
    )
    psf = hidden_psf(in_sample, depths, cache=cache)
    return BenchmarkOptics(
        "hidden",
        f"{other.name}, methods calibrated with a noisy sweep",
        calibration,
        HiddenImages(in_sample, psf),
        psf,
        depths,
        in_sample,
        cache,
        other.side_um,
    )

"""The optics of the benchmark, the calibration that methods get of them, and the physical limit.

`exact`: the reference optics, whose pattern methods know exactly; labelled as
an upper limit. `hidden`: methods know the optics only from a noisy sweep (see
`hidden_optics`).

Positions are defined as in an experiment. Depth is measured from the focus
that the calibration of the sweep found. An emitter is at the centre of its
pattern at its depth (`plane_centres`), so coma, which moves the pattern
sideways with depth, is not counted as an error of a method.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.frames import SCMOS_CAMERA, SIDE_UM, Box, Frames
from evaluation.optics.hidden_optics import MARGIN_UM, HiddenImages, HiddenOptics, draw_hidden_optics, hidden_psf
from evaluation.optics.hidden_sweep import draw_sweep, sweep_calibration
from evaluation.optics.images import ImageSource
from evaluation.scores.bounds import FrameBounds, IdealDetector, JointBounds
from models.calibration.calibration import Calibration
from models.calibration.sweep import Sweep
from models.model_card import REFERENCE_CALIBRATION
from models.optics import REFERENCE_OPTICS, ExactImages, reference_psf
from models.psf import Psf, plane_centres

__all__ = [
    "DEPTHS_UM",
    "BenchmarkOptics",
    "computed_calibration",
    "exact_optics",
    "hidden_benchmark_optics",
    "hidden_sweep",
    "named_by_content",
]

F64 = NDArray[np.float64]
Progress = Callable[[float, str], None]

DEPTHS_UM = (0.0, 100.0)

_BESIDE_FOCUS_UM = 4.0
"""More than curvature of the field and the calibration's focus add to a depth, in whole planes."""

_QUICK_DEPTHS_UM = (0.0, 24.0)
_NEAR_SIDE_UM = 16.0
"""How much farther than a margin the sweep begins before focus: to -24 µm, so that the calibration has
the patterns of emitters at negative defocus."""


@dataclass(frozen=True)
class BenchmarkOptics:
    """A simulated microscope of the benchmark.

    Attributes
    ----------
    name : str
        ``"exact"`` or ``"hidden"``.
    label : str
        For figures.
    calibration : Calibration
        Given to the methods.
    images : ExactImages or HiddenImages
    psf : Psf
        The true pattern, for the bounds.
    depths_um : (low, high)
        Depths of the benchmark.
    hidden : HiddenOptics or None
    cache : Path or None
        Folder in which computed patterns are kept.
    side_um : float
        Side of the volume in which emitters are, µm.
    """

    name: str
    label: str
    calibration: Calibration
    images: ExactImages | HiddenImages
    psf: Psf
    depths_um: tuple[float, float] = DEPTHS_UM
    hidden: HiddenOptics | None = None
    cache: Path | None = None
    side_um: float = SIDE_UM

    @property
    def pixel_size_um(self) -> float:
        """Camera pixel at the sample, µm."""
        return self.psf.pixel_size_um

    def render(self, emitters: F64, image: NDArray[np.float32]) -> None:
        """Add emitters (N, 4), depth measured from the calibration's focus, to an image (H, W), in place."""
        self.images.render(self._from_true_focus(emitters), image)

    @cached_property
    def limits(self) -> JointBounds:
        """Cramér-Rao bounds with the true pattern."""
        return JointBounds(self.psf, self.images.spline if isinstance(self.images, HiddenImages) else None)

    def bounds(self, frames: Frames, most: int | None = None) -> list[FrameBounds]:
        """Bounds of the first frames, at most `most`."""
        return [
            self.limits.of_frame(self.apparent(each), float(background), frames.read_noise_e, frames.shape)
            for each, background in list(zip(frames.emitters, frames.background_e, strict=True))[:most]
        ]

    def ideal_detector(self, box_um: Box) -> IdealDetector:
        """Matched filter over the volume in which emitters may be."""
        (left, right), (top, bottom), depths = box_um
        shape = (round((bottom - top) / self.pixel_size_um), round((right - left) / self.pixel_size_um))
        return self.limits.ideal_detector(depths, shape)

    def apparent(self, emitters: F64) -> F64:
        """Emitters (N, 4) at their apparent depths in the true pattern."""
        moved = self._from_true_focus(emitters)
        if self.hidden is not None:
            moved[:, 2] += self.hidden.curvature_at(moved[:, 0], moved[:, 1])
        return moved

    def reaching(self, farther_um: float) -> BenchmarkOptics:
        """The same microscope for emitters up to `farther_um` outside the benchmark depths too.

        Within the benchmark depths its images are the same. Beyond them the images of the original are not valid, so
        emitters at negative defocus need this one.
        """
        low, high = self.depths_um
        spare = farther_um + _BESIDE_FOCUS_UM
        if self.hidden is None:
            return replace(self, images=ExactImages(REFERENCE_OPTICS, (low - spare, high + spare)))
        spare -= MARGIN_UM
        psf = hidden_psf(self.hidden, (low - spare, high + spare), cache=self.cache)
        return replace(self, images=HiddenImages(self.hidden, psf), psf=psf)

    def _from_true_focus(self, emitters: F64) -> F64:
        """Emitters in the coordinates of the true pattern, curvature aside."""
        moved = np.array(emitters, np.float64)
        moved[:, 2] += self.calibration.axial_scale * self.calibration.focus_um
        if self.hidden is not None:
            depth = moved[:, 2] + self.hidden.curvature_at(moved[:, 0], moved[:, 1])
            for axis in range(2):
                moved[:, axis] -= np.interp(depth, self.psf.z_um, self._centres_um[:, axis])
        return moved

    @cached_property
    def _centres_um(self) -> F64:
        """Centre (x, y) of each plane, shape (Z, 2), µm."""
        return plane_centres(self.psf.planes) * (self.pixel_size_um / self.psf.oversampling)


def computed_calibration() -> Calibration:
    """The reference optics as their data sheet gives them, without any measurement."""
    return Calibration(
        id=REFERENCE_CALIBRATION,
        psf=reference_psf(),
        z_range_um=DEPTHS_UM,
        camera=SCMOS_CAMERA,
        field=None,
        focus_um=0.0,
        sweep_z_um=reference_psf().z_um,
        axial_scale=1.0,
        sign=1,
        size_variation=0.0,
        report={"notes": ["computed from the objective, not measured"]},
    )


def exact_optics() -> BenchmarkOptics:
    """Frames from the optical integral of optics that methods know exactly."""
    return BenchmarkOptics(
        "exact",
        "exact PSF known to the methods",
        computed_calibration(),
        ExactImages(REFERENCE_OPTICS, DEPTHS_UM),
        reference_psf(),
    )


def hidden_benchmark_optics(
    cache: Path | None = None,
    calibration: Path | None = None,
    progress: Progress | None = None,
    *,
    quick: bool = False,
) -> BenchmarkOptics:
    """Frames of the hidden optics, and the calibration from their sweep.

    Parameters
    ----------
    cache : Path, optional
        Folder in which the pattern is kept from one call to the next.
    calibration : Path, optional
        Folder of a calibration made from the hidden sweep; made when not given.
    progress : callable, optional
        Called with the share done (0 to 1) and what is being done.
    quick : bool
        A shallow volume and a small field with few beads: seconds instead of minutes, for continuous integration.
    """
    report = progress or (lambda _done, _what: None)
    depths = _QUICK_DEPTHS_UM if quick else DEPTHS_UM
    optics = draw_hidden_optics()
    # The sweep extends farther to negative defocus than the benchmark depths.
    drawn = (depths[0] - _near_side_um(quick=quick), depths[1])
    psf = hidden_psf(
        optics, drawn, cache=cache, progress=lambda done: report(0.5 * done, "pattern of the benchmark optics")
    )
    images = HiddenImages(optics, psf)
    if calibration is not None:
        learned = Calibration.load(calibration)
    else:
        sweep = hidden_sweep(images, depths, quick=quick)
        learned = named_by_content(
            sweep_calibration(sweep, SCMOS_CAMERA, lambda done, what: report(0.5 + 0.5 * done, what), z_range_um=depths)
        )
    label = "hidden optics, methods calibrated with a noisy sweep"
    return BenchmarkOptics("hidden", label, learned, images, psf, depths, optics, cache)


def named_by_content(calibration: Calibration) -> Calibration:
    """The same calibration with an id from its content, so that runs with equal calibrations can be merged."""
    digest = hashlib.sha256(np.ascontiguousarray(calibration.psf.planes).tobytes()).hexdigest()
    return replace(calibration, id=f"simulated-{digest[:12]}")


def hidden_sweep(images: ImageSource, depths_um: tuple[float, float] = DEPTHS_UM, *, quick: bool = False) -> Sweep:
    """The noisy sweep of beads through the hidden optics: from the near side of focus to 6 µm beyond the depths."""
    near = _near_side_um(quick=quick) + MARGIN_UM - _BESIDE_FOCUS_UM
    positions = np.arange(-near, depths_um[1] + 6.1, 2.0)
    if quick:
        return draw_sweep(
            images, SCMOS_CAMERA, REFERENCE_OPTICS.pixel_size_um, beads=(3, 3), shape=(224, 224), z_um=positions
        )
    return draw_sweep(images, SCMOS_CAMERA, REFERENCE_OPTICS.pixel_size_um, z_um=positions)


def _near_side_um(*, quick: bool) -> float:
    """Additional extent at negative defocus: far enough for networks to learn its patterns."""
    return 0.0 if quick else _NEAR_SIDE_UM

"""Shared parts of joint fits at one pixel size: depths, bounds, read noise and matched filters.

The refinement of network detections and the pursuit without a network fit the
same frames within the same limits. They differ in their start and their priors.
"""

from __future__ import annotations

import copy
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.binning import whole_bins
from models.camera import CameraModel
from models.errors import DataError
from models.fit.depth_relocation import DepthRelocation
from models.fit.joint_fit import Bounds, Convergence, FitFrame, JointFit, fit_jointly
from models.fit.prior import Prior
from models.fit.residual_search import MatchedFilter, search_depths
from models.pattern_spline import PatternSpline
from models.psf import Psf

__all__ = ["LEAST_READ_VARIANCE", "FitScale", "fit_range_um", "negative_defocus_um", "read_variance"]

Array = NDArray[np.float64]

LEAST_READ_VARIANCE = 0.01
"""Less than the read noise of any camera; it keeps the variance of a dark pixel above zero. Photo-electrons squared."""

_MARGIN_PX = 16.0
"""Emitters whose light falls into the frame are fitted up to so far outside it, camera pixels."""

_OFF_FOCUS_UM = 0.05
"""Least distance of a fit from the lower end of the depths: at focus the slope of the likelihood in z vanishes."""

_SIDE_SEEN_UM = 3.0
"""Nearer to focus the patterns of both sides are alike."""
_MIRROR_REACH_UM = 4.0
"""With aberrations the most similar patterns are not at exactly opposite depths."""
_SAME = 0.995
"""Patterns with a higher correlation differ by less than the error of a calibration."""

_ROUGH, _PRECISE = 1.0, 0.01
"""A fit ends when a step lowers the negative log-likelihood by less (one standard deviation is 0.5): during the search,
and at the end."""


def read_variance(camera: CameraModel) -> float:
    """Variance that read noise adds to a pixel, photo-electrons squared."""
    return max(camera.read_noise_e**2, LEAST_READ_VARIANCE)


def fit_range_um(psf: Psf, reported_um: tuple[float, float]) -> tuple[float, float]:
    """Depths that are fitted for given reported depths: as deep as the PSF, but not through focus.

    Raises
    ------
    DataError
        When the reported depths exceed those of the PSF.
    """
    first, last = float(psf.z_um[0]), float(psf.z_um[-1])
    low, high = reported_um
    if not first <= low < high <= last:
        raise DataError(
            f"Depths from {low:g} to {high:g} µm were asked for; the PSF covers {first:g} to {last:g} µm.",
            "Ask for depths that the calibration covers.",
        )
    return low + _OFF_FOCUS_UM, last


def negative_defocus_um(psf: Psf, reported_um: tuple[float, float]) -> tuple[float, float] | None:
    """Depths of negative defocus at which patterns differ from those of the reported depths.

    None when the PSF does not reach there, when depths on both sides are reported, or when both sides look the same, as
    without aberrations. Because of field curvature the reported depths may begin slightly before focus.
    """
    first, low = float(psf.z_um[0]), reported_um[0]
    if low < -_SIDE_SEEN_UM or first > -_SIDE_SEEN_UM:
        return None
    here = psf.planes[(psf.z_um >= 0) & (psf.z_um <= -first + _MIRROR_REACH_UM)]
    there = psf.planes[psf.z_um <= -_SIDE_SEEN_UM]
    here, there = (each.reshape(len(each), -1) / np.linalg.norm(each, axis=(1, 2))[:, None] for each in (here, there))
    alike = float(np.median((there @ here.T).max(axis=1)))
    return (first, min(low, 0.0) - _OFF_FOCUS_UM) if alike < _SAME else None


class FitScale:
    """Pattern, bounds, matched filters and depth relocation for one pixel size.

    Parameters
    ----------
    psf : Psf
        PSF on these pixels.
    binning : int
        Side of a pixel in camera pixels.
    depths_um : (low, high)
        Fitted depths.
    camera : CameraModel
    negative_defocus_um : (low, high), optional
        Fitted depths at negative defocus, see the function of this name.
    """

    def __init__(
        self,
        psf: Psf,
        binning: int,
        depths_um: tuple[float, float],
        camera: CameraModel,
        negative_defocus_um: tuple[float, float] | None = None,
    ) -> None:
        self.binning = binning
        self.negative_defocus_um = negative_defocus_um
        self.spline = PatternSpline(psf)
        self.depths_um = depths_um
        self.depth_relocation = DepthRelocation(self.spline, depths_um)
        self.read_variance = read_variance(camera) * binning**2
        # Farther outside, the smallest pattern would have no pixel in the frame.
        self._margin = min(_MARGIN_PX / binning, float(self.spline.radius_px.min()))
        self._filters: dict[tuple[int, int], MatchedFilter] = {}
        self._backdrop: NDArray[np.float32] | None = None

    def over(self, backdrop: NDArray[np.float32] | None) -> Self:
        """The same for a frame with static light: (H, W) in camera pixels, photo-electrons; all else is shared."""
        if backdrop is None:
            return self
        here = copy.copy(self)
        here._backdrop = np.ascontiguousarray(whole_bins(backdrop, self.binning))
        return here

    def bounds(self, shape: tuple[int, ...], z_um: Array | None = None) -> Bounds:
        """Bounds of emitters in a frame of `shape`: x, y (pixels) and z (µm), each (low, high).

        With starting depths `z_um` (N,) each emitter has its own bounds, so that none passes through focus.
        """
        height, width = shape
        low, high = self.depths_um
        depths: tuple[float | Array, float | Array] = (low, high)
        if self.negative_defocus_um is not None and z_um is not None:
            far = z_um <= self.negative_defocus_um[1]
            depths = (np.where(far, self.negative_defocus_um[0], low), np.where(far, self.negative_defocus_um[1], high))
        return (-self._margin, width - 1 + self._margin), (-self._margin, height - 1 + self._margin), depths

    def filter(self, shape: tuple[int, ...], depth_step_um: float) -> MatchedFilter:
        """Matched filter for frames of `shape` (H, W), computed once."""
        size = (shape[0], shape[1])
        if size not in self._filters:
            depths = search_depths(*self.depths_um, depth_step_um)
            self._filters[size] = MatchedFilter(self.spline, size, depths, self._margin)
        return self._filters[size]

    def frame(self, data: NDArray[np.float32]) -> FitFrame:
        """A frame (H, W), with the read variance added, and the PSF on its pixels."""
        return FitFrame(data, self.spline, self.read_variance, self._backdrop)

    def fit(
        self,
        data: NDArray[np.float32],
        emitters: Array,
        background: float,
        iterations: int,
        *,
        precise: bool,
        prior: Prior | None = None,
    ) -> JointFit:
        """Fit emitters (N, 4) and the background to a frame (H, W) with the read variance added; see `fit_jointly`."""
        return fit_jointly(
            self.frame(data),
            emitters,
            background,
            self.bounds(data.shape, emitters[:, 2]),
            Convergence(iterations, _PRECISE if precise else _ROUGH),
            prior,
            whole=precise,
        )

"""Fitting of single spots: the baselines MLE and least squares.

Matched filters at all scales detect candidates. A fit starts from every
maximum over position and depth, so that every local optimum of the likelihood
is tried. Of the fits that describe one emitter the best is kept. Where noise
limits it, it is fitted again at full resolution with knots next to the
emitter, because the search of wide patterns runs on binned pixels (binned by
two they lose a fifth to a third of the precision). The published packages
do the fits.

The remaining limit belongs to these methods: each fit models one emitter only,
so light of neighbours biases it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.detector import Detector
from evaluation.methods.published_fitters import engine_for
from evaluation.methods.regions import Regions
from evaluation.methods.spots import Spots, distinct, inside, score_fits
from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.fit.scale import read_variance
from models.pattern_spline import PatternSpline
from models.psf import Psf
from models.tables import Localizations

__all__ = ["SpotFitter", "one_sided_psf"]

Array = NDArray[np.float64]

_CORE = 0.9
"""Share of the light that the search looks at: the faint rings outside are where the neighbours are."""

_QUIET = 4.0
"""Mean squared residual over variance up to which noise, and not a neighbour's light, may be what limits a fit. For an
emitter alone the search leaves 1.0, at 30 dB and next to focus up to 8; among 20 at 30 dB the median is about 30."""

_AS_GOOD = 0.95
"""Share of the first fit's gain in likelihood that the second one must reach to take its place."""

_BEYOND_UM = 5.0
"""Patterns this far beyond the depth range are fitted too, so that emitters there are recognized and left out."""


class SpotFitter:
    """One emitter at a time; a method of the benchmark: counts and frame numbers to `Localizations`.

    Parameters
    ----------
    calibration : Calibration
        Source of the PSF and the depth range.
    camera : CameraModel
    estimator : {"mle", "ls"}
    threshold : float
        Localizations with a lower score are left out; 0.5 is an amplitude of six standard deviations of a perfect fit.
    package : str, optional
        ``"smappy-smlm"`` or ``"picassosr"``; the estimator's own when not given.
    significance : float
        Least significance of a start.
    largest_bins : int
        Radius in bins up to which the search does not bin (further).
    most_starts : int
        In 256 x 256 pixels.

    Raises
    ------
    DataError
        When the package is not installed.
    """

    def __init__(
        self,
        calibration: Calibration,
        camera: CameraModel,
        estimator: str = "mle",
        *,
        threshold: float = 0.5,
        package: str | None = None,
        significance: float = 5.0,
        depth_step_um: float = 1.5,
        largest_bins: int = 24,
        most_starts: int = 200,
    ) -> None:
        self.name = estimator
        self.threshold = threshold
        self._camera = camera
        self._z_range_um = calibration.z_range_um
        self._engine = engine_for(estimator, package)
        psf = one_sided_psf(calibration)
        whole, self._pattern = PatternSpline(psf), PatternSpline(psf, _CORE)
        self._read_variance = read_variance(camera)
        self._detector = Detector(self._pattern.psf, significance, depth_step_um, most_starts)
        self._search = Regions(self._pattern, self._engine, largest_bins)
        self._polish = Regions(whole, self._engine)

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Localizations of frames, (B, H, W) counts with numbers (B,), in the order of the frames, best first."""
        tables = []
        for frame, number in zip(counts, frame_numbers, strict=True):
            data = self._camera.to_electrons(frame) + np.float32(self._read_variance)
            tables.append(self._table(int(number), self.fit_frame(data)))
        return Localizations.concatenate(tables)

    def fit_frame(self, data: NDArray[np.float32]) -> Spots:
        """Distinct emitters above the threshold of one frame, (H, W) photo-electrons with the read variance added."""
        starts = self._detector.starts(data)
        rough = self._distinct(self._scored(data, self._search.fit(data, starts)))
        return self._distinct(self._refit(data, rough))

    def fit_at(self, data: NDArray[np.float32], starts: Array) -> Array:
        """Fit given starts at full resolution; see `Regions.fit_closely`. Without detection, for measuring the fits."""
        return self._polish.fit_closely(data, starts)

    def _refit(self, data: NDArray[np.float32], rough: Spots) -> Spots:
        """Fit spots that noise limits again, at full resolution on their whole pattern; the others stay."""
        quiet = np.flatnonzero(rough.chi2 < _QUIET)
        fits = self.fit_at(data, rough.fits[quiet])
        good = inside(fits, data.shape)
        again, quiet = self._scored(data, fits), quiet[good]
        # The score looks at the core only, where the first fit may be better by a little noise.
        better = again.gain >= _AS_GOOD * rough.gain[quiet]
        columns = [column.copy() for column in rough.columns]
        for old, new in zip(columns, again.columns, strict=True):
            old[quiet[better]] = new[better]
        return Spots(*columns)

    def _distinct(self, spots: Spots) -> Spots:
        spots = spots.select(spots.score >= self.threshold)
        x_px, y_px, z_um = spots.fits.T[:3]
        return spots.select(distinct(x_px, y_px, self._pattern.radius_at_px(z_um), spots.score))

    def _scored(self, data: NDArray[np.float32], fits: Array) -> Spots:
        return score_fits(data, self._pattern, self._read_variance, fits)

    def _table(self, number: int, spots: Spots) -> Localizations:
        low, high = self._z_range_um
        spots = spots.select((spots.fits[:, 2] >= low) & (spots.fits[:, 2] <= high))
        pixel_um = self._pattern.psf.pixel_size_um
        x_px, y_px, z_um, photons, background = spots.fits.T
        return Localizations(
            frame=np.full(len(z_um), number, np.int64),
            x_um=x_px * pixel_um,
            y_um=y_px * pixel_um,
            z_um=z_um,
            photons=photons,
            background=background - self._read_variance,
            probability=spots.score,
            sigma_x_um=spots.sigma[:, 0] * pixel_um,
            sigma_y_um=spots.sigma[:, 1] * pixel_um,
            sigma_z_um=np.minimum(spots.sigma[:, 2], high - low),
            chi2=spots.chi2,
        )


def one_sided_psf(calibration: Calibration) -> Psf:
    """Planes that are fitted: the depth range and a margin, but not the other side of focus.

    With a pattern that is symmetric about focus the fitted side would otherwise be random.
    """
    low, high = calibration.z_range_um
    return calibration.psf.one_sided(
        low if low >= 0 else low - _BEYOND_UM,
        high if high <= 0 else high + _BEYOND_UM,
    )

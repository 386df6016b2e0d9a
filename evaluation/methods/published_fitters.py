"""The two published spot fitters behind one interface.

smappy-smlm (the SMAP and fit3Dspline family, Li et al., Nature Methods 15,
367, 2018) and picassosr (a port of Gpufit, Przybylski et al., Scientific
Reports 7, 15722, 2017) fit one emitter in a square region with a cubic-spline
PSF. They are baselines, so they keep their own splines, optimizers and
stopping rules. This module only converts coordinates. The product needs
neither package, so both belong to the extra `evaluation` and are imported when
a fitter is made.
"""

from __future__ import annotations

import warnings
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.splines import spline_coefficients
from models.errors import DataError

__all__ = ["PackageMissing", "PicassoEngine", "SmappyEngine", "SpotEngine", "engine_for"]

Array = NDArray[np.float64]

_ITERATIONS = 30
"""More than either package needs from a good start (six to ten); fits that need more do not converge."""

_TOLERANCE = 1e-6
"""Of picassosr's relative change of chi-square: tighter than its own 1e-4 for several starts, so that the optimum is
reached to a small share of its standard deviation also where ten thousand pixels make chi-square large."""


class PackageMissing(DataError):
    """The package of a baseline is not installed. Only this method cannot run."""


class SpotEngine(Protocol):
    """Fits single emitters in square regions."""

    name: str

    def prepare(self, planes: Array) -> Any:
        """Spline of a PSF sampled at the pixels, (Z, N, N) with N odd and the emitter in the middle."""

    def fit(self, spline: Any, rois: NDArray[np.float32], start: Array) -> Array:
        """Fit regions, (K, S, S) with S odd and at most N, from starts (K, 5); the result has the same columns.

        Columns are x and y from the region's middle (pixels), depth (planes), photons and background per pixel.
        A fit that failed has NaN.
        """


class SmappyEngine:
    """Maximum likelihood by smappy-smlm. It finds x, y and photons to start from by itself; only the depth is given."""

    name = "smappy-smlm"

    def __init__(self) -> None:
        try:
            from smappy import _fit3d
        except ImportError as error:
            raise _absent("smappy-smlm", error) from error
        self._fit = _fit3d.fit_cspline

    def prepare(self, planes: Array) -> Any:
        """Coefficients, (64, Z - 1, N - 1, N - 1) float32."""
        return spline_coefficients(planes)

    def fit(self, spline: Any, rois: NDArray[np.float32], start: Array) -> Array:
        """See `SpotEngine.fit`."""
        fits = np.full((len(rois), 5), np.nan)
        middle = rois.shape[1] // 2
        for depth in np.unique(start[:, 2]):
            rows = np.flatnonzero(start[:, 2] == depth)
            theta = self._fit(np.maximum(rois[rows], 0), spline, float(depth), _ITERATIONS, 1)[0]
            fits[rows] = theta[:, [0, 1, 4, 2, 3]]
        fits[:, :2] -= middle
        return _finite(fits)


class PicassoEngine:
    """Least squares, or maximum likelihood, by picassosr; it starts from all five parameters."""

    def __init__(self, likelihood: bool) -> None:
        try:
            with warnings.catch_warnings():
                # On import it warns of a missing sound card, among other messages that are irrelevant here.
                warnings.simplefilter("ignore")
                from picasso.fitting import splinefit
        except ImportError as error:
            raise _absent("picassosr", error) from error
        self.name = "picassosr"
        self._likelihood = likelihood
        self._package = splinefit

    def prepare(self, planes: Array) -> Any:
        """Coefficients in its order, (1, Z - 1, N - 1, N - 1, 4, 4, 4) float32."""
        # Its own calibration comes with a graphical program; the not-a-knot spline of the other package is the same.
        coefficients = spline_coefficients(planes)
        intervals = coefficients.shape[1:]
        powers_last = coefficients.reshape(4, 4, 4, *intervals).transpose(3, 4, 5, 0, 1, 2)
        return np.ascontiguousarray(powers_last).reshape(1, *intervals, 4, 4, 4)

    def fit(self, spline: Any, rois: NDArray[np.float32], start: Array) -> Array:
        """See `SpotEngine.fit`."""
        count, side = len(rois), rois.shape[1]
        # The spline is evaluated at the pixel minus the parameter, so depth has the other sign.
        initial = (start * [1, 1, -1, 1, 1])[:, [3, 0, 1, 2, 4]].astype(np.float32)
        border = (spline.shape[2] + 1 - side) // 2
        identity = np.tile(np.array([1, 0, 0, 1], np.float32), (count, 1, 1))
        theta, _, states, _ = self._package.fit_spots(
            self._package.KIND_3D,
            np.ascontiguousarray(rois[:, None]),
            spline,
            identity,
            np.full((count, 1, 2), -border, np.float32),
            initial,
            np.zeros(1, np.float32),
            False,
            mle=self._likelihood,
            tolerance=_TOLERANCE,
            max_iterations=_ITERATIONS,
        )
        fits = theta[:, [1, 2, 3, 0, 4]].astype(np.float64) * [1, 1, -1, 1, 1]
        fits[states > self._package.FIT_STATE_MAX_ITERATION] = np.nan
        return _finite(fits)


def engine_for(estimator: str, package: str | None = None) -> SpotEngine:
    """The engine of an estimator: ``"mle"`` by smappy-smlm (or picassosr), ``"ls"`` by picassosr.

    Raises
    ------
    PackageMissing
        When the package is not installed.
    DataError
        When there is no such estimator in it.
    """
    chosen = package or {"mle": "smappy-smlm"}.get(estimator, "picassosr")
    if estimator == "mle" and chosen == "smappy-smlm":
        return SmappyEngine()
    if estimator in ("mle", "ls") and chosen == "picassosr":
        return PicassoEngine(likelihood=estimator == "mle")
    raise DataError(
        f"Estimator {estimator!r} of the package {chosen!r} was asked for; there are mle of smappy-smlm, and mle and "
        "ls of picassosr.",
        "Choose one of these.",
    )


def _finite(fits: Array) -> Array:
    fits[~np.isfinite(fits).all(axis=1)] = np.nan
    return fits


def _absent(package: str, error: ImportError) -> PackageMissing:
    return PackageMissing(
        f"The baseline needs {package}, which cannot be imported ({error}).",
        "Install the extra: pip install 'bathyscope[evaluation]'.",
    )

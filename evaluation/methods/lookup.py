"""Depth by look-up: the calibrated pattern with the highest correlation.

General defocusing particle tracking (Barnkob, Kähler and Rossi, Lab on a Chip
15, 3556, 2015; Rossi and Barnkob, Measurement Science and Technology 32,
014001, 2021) needs no noise model. It takes the normalized cross-correlation
of the image with every plane of the calibration, interpolates the maximum over
position and plane, and uses the coefficient as the score. Here every frame is
correlated with every plane at all places, so that nothing has to be segmented
first, and several particles may share a place at different depths.

Of localizations that overlap, the one with the highest coefficient is kept.
The coefficient does not depend on brightness, so a minimum significance
rejects noise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.pattern_bank import PatternBank, correlation_binning, depth_steps, disc_radius_px
from evaluation.methods.spot_fitter import one_sided_psf
from evaluation.methods.spots import distinct
from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.pattern_spline import PatternSpline, render_pattern
from models.tables import Localizations

__all__ = ["PatternLookup"]

Array = NDArray[np.float64]

_STEPS = (0.5, 0.5, 0.5)
"""Steps of the interpolation in x and y (pixels) and z (µm); in z they grow with depth as the patterns do."""

_STEP_OF_DEPTH = 0.02
_PASSES = 3
"""Of the interpolation along x, y and z in turn, each with half the steps of the one before."""

_LEAST_VARIANCE = 0.01


class PatternLookup:
    """A method of the benchmark: counts and frame numbers to `Localizations`, the coefficient as probability.

    Parameters
    ----------
    calibration : Calibration
        Source of the planes and the depth range.
    camera : CameraModel
    threshold : float
        Localizations with a lower coefficient are left out.
    significance : float
        Least amplitude in its standard deviations.
    depth_step_um : float
        Spacing of the planes that are correlated, near focus; it grows with depth.
    """

    name = "lookup"

    def __init__(
        self,
        calibration: Calibration,
        camera: CameraModel,
        *,
        threshold: float = 0.5,
        significance: float = 5.0,
        depth_step_um: float = 1.0,
    ) -> None:
        self.threshold = threshold
        self._camera = camera
        self._z_range_um = calibration.z_range_um
        self._psf = one_sided_psf(calibration)
        self._spline = PatternSpline(self._psf)
        self._disc_px = disc_radius_px(self._psf)
        self._significance = significance
        self._depths = depth_steps(self._psf, depth_step_um)
        self._read_variance = max(camera.read_noise_e**2, _LEAST_VARIANCE)
        self._banks: dict[tuple[int, int], PatternBank] = {}

    def __call__(self, counts: NDArray[np.uint16], frame_numbers: NDArray[np.int64]) -> Localizations:
        """Localizations of frames, (B, H, W) counts with numbers (B,), in the order of the frames, best first."""
        return Localizations.concatenate(
            self._frame(self._camera.to_electrons(frame) + np.float32(self._read_variance), int(number))
            for frame, number in zip(counts, frame_numbers, strict=True)
        )

    def _frame(self, data: NDArray[np.float32], number: int) -> Localizations:
        shape = (data.shape[0], data.shape[1])
        if shape not in self._banks:
            self._banks[shape] = PatternBank(self._psf, shape, self._depths)
        found = self._banks[shape].peaks(data, self.threshold, self._significance)
        found = found[self._distinct(found[:, :3], found[:, 5])]
        fits = np.array([self._interpolate(data, row[:3]) for row in found]).reshape(-1, 6)
        fits = fits[self._distinct(fits[:, :3], fits[:, 5])]
        low, high = self._z_range_um
        inside = (fits[:, 2] >= low) & (fits[:, 2] <= high) & (fits[:, 5] >= self.threshold)
        x_px, y_px, z_um, photons, background, coefficient = fits[inside].T
        unknown = np.full(len(z_um), np.nan)
        pixel_um = self._psf.pixel_size_um
        return Localizations(
            frame=np.full(len(z_um), number, np.int64),
            x_um=x_px * pixel_um,
            y_um=y_px * pixel_um,
            z_um=z_um,
            photons=photons,
            background=background - self._read_variance,
            probability=coefficient,
            sigma_x_um=unknown,
            sigma_y_um=unknown,
            sigma_z_um=unknown,
            chi2=unknown,
        )

    def _distinct(self, places: Array, score: Array) -> NDArray[np.int64]:
        return distinct(places[:, 0], places[:, 1], self._radius_at(places[:, 2]), score)

    def _radius_at(self, z_um: Array) -> Array:
        radius: Array = np.interp(z_um, self._psf.z_um, self._disc_px)
        return radius

    def _interpolate(self, data: NDArray[np.float32], place: Array) -> Array:
        """Place and depth of the maximum between the planes and pixels, photons, background and coefficient."""
        best = place.copy()
        box, inside = self._disc(best, data.shape)
        window = data[box[0] : box[1], box[2] : box[3]].astype(np.float64)
        steps = np.array(_STEPS)
        steps[2] = max(steps[2], _STEP_OF_DEPTH * abs(best[2]))
        best, match = self._nearby(window, inside, box, best)
        for _ in range(_PASSES):
            for axis in range(3):
                before, after = best.copy(), best.copy()
                before[axis] -= steps[axis]
                after[axis] += steps[axis]
                low = self._resemblance(window, inside, box, before)[2]
                high = self._resemblance(window, inside, box, after)[2]
                moved = best.copy()
                moved[axis] += steps[axis] * _summit(low, match[2], high)
                trial = self._resemblance(window, inside, box, moved)
                if trial[2] > match[2]:
                    best, match = moved, trial
            steps = steps / 2
        return np.array([*best, *match])

    def _nearby(
        self, window: Array, inside: NDArray[np.bool_], box: NDArray[np.int64], place: Array
    ) -> tuple[Array, tuple[float, float, float]]:
        """The best whole pixel within the bin that was correlated, and the resemblance there."""
        reach = int(correlation_binning(float(self._radius_at(place[2:])[0]))) // 2
        best, match = place, self._resemblance(window, inside, box, place)
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                shifted = place + np.array([right, down, 0])
                trial = self._resemblance(window, inside, box, shifted)
                if trial[2] > match[2]:
                    best, match = shifted, trial
        return best, match

    def _disc(self, place: Array, shape: tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Box of the disc around a place (first row, end row, first column, end column) and the disc in it."""
        x_px, y_px, z_um = place
        radius = float(self._radius_at(np.array([z_um]))[0])
        edges = [
            np.ceil(y_px - radius),
            np.floor(y_px + radius) + 1,
            np.ceil(x_px - radius),
            np.floor(x_px + radius) + 1,
        ]
        box = np.clip(np.array(edges), 0, [shape[0], shape[0], shape[1], shape[1]]).astype(np.int64)
        rows, columns = np.arange(box[0], box[1]), np.arange(box[2], box[3])
        return box, np.hypot(rows[:, None] - y_px, columns[None, :] - x_px) <= radius

    def _resemblance(
        self, window: Array, inside: NDArray[np.bool_], box: NDArray[np.int64], place: Array
    ) -> tuple[float, float, float]:
        """Photons, background and normalized cross-correlation of the pattern at a place, on the disc."""
        psf = self._psf
        pattern = np.empty((4, box[1] - box[0], box[3] - box[2]), np.float32)
        index = float(self._spline.z_index(place[2:3])[0])
        render_pattern(
            self._spline.coefficients, place[0], place[1], index, psf.z_step_um, psf.oversampling, box, pattern
        )
        light, seen = pattern[0][inside].astype(np.float64), window[inside]
        flat, rest = light - light.mean(), seen - seen.mean()
        spread = float(flat @ flat)
        photons = float(flat @ rest) / spread
        contrast = max(float(rest @ rest), 1e-9)
        return photons, float(seen.mean() - photons * light.mean()), photons * float(np.sqrt(spread / contrast))


def _summit(low: float, middle: float, high: float) -> float:
    """Place of a parabola's summit through three values one step apart, at most one step from the middle."""
    bend = low - 2 * middle + high
    if bend >= 0:
        return float(np.sign(high - low))
    return float(np.clip(0.5 * (low - high) / bend, -1, 1))

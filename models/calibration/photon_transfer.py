"""Measuring a camera: offset, gain and read noise from what its pixels do.

Photon transfer (Janesick, Photon Transfer, SPIE 2007): the variance of a pixel
over equal exposures grows in proportion to its mean, and the slope is ADU per
photo-electron; what remains without light is the read noise. Darks and
flats measure it properly (`measure_camera`). A sweep can stand in for them
(`estimate_camera`), since its repeats, or failing these its neighbouring
planes, show the same light twice; then the offset cannot be told from a
uniform background light, and is taken as the level between the beads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration.sweep import Sweep
from models.camera import CameraModel
from models.errors import DataError

__all__ = ["CameraMeasurement", "estimate_camera", "measure_camera"]

# Variance of rounding to whole counts is 1/12 ADU²; a camera that shows less than this has no noise worth the name.
_NOISE_FREE_VARIANCE = 0.2
# Frames from which per-pixel maps are worth keeping: their relative error is then 10 % in read noise.
_FRAMES_FOR_MAPS = 50
# A pixel is hot when its dark level or noise is this many robust deviations from the others'.
_HOT_SIGMAS = 8.0
_BINS = 30
# Pixels of the whole sweep that are looked at: enough for 1 % in every figure.
_SAMPLE = 4_000_000
# Variance of the median-based estimate relative to the squared median absolute deviation of a normal distribution.
_MAD_TO_SIGMA = 1.4826


@dataclass(frozen=True)
class CameraMeasurement:
    """What darks and flats, or a sweep, say about a camera.

    Attributes
    ----------
    camera : CameraModel
        The figures for all pixels.
    hot_pixels : ndarray of int64, shape (N, 2)
        Row and column of pixels that differ from the others.
    offset_map_adu, read_noise_map_e : ndarray of float32, shape (H, W), or None
        Per-pixel figures, when there were enough darks.
    mean_adu, variance_adu2 : ndarray of float64, shape (M,)
        The photon-transfer curve.
    notes : tuple of str
        What the user should know.
    """

    camera: CameraModel
    hot_pixels: NDArray[np.int64]
    offset_map_adu: NDArray[np.float32] | None
    read_noise_map_e: NDArray[np.float32] | None
    mean_adu: NDArray[np.float64]
    variance_adu2: NDArray[np.float64]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the maps are not part of them."""
        return {
            "camera": self.camera.as_dict(),
            "hot_pixels": [[int(row), int(column)] for row, column in self.hot_pixels],
            "photon_transfer": {
                "mean_adu": [float(v) for v in self.mean_adu],
                "variance_adu2": [float(v) for v in self.variance_adu2],
            },
            "notes": list(self.notes),
        }


def measure_camera(darks: NDArray[Any], flats: NDArray[Any] | None = None, *, bit_depth: int = 16) -> CameraMeasurement:
    """Offset, gain, read noise and hot pixels from darks and flats.

    Parameters
    ----------
    darks : ndarray of uint16, shape (T, H, W), T >= 2
        Frames without light.
    flats : ndarray of uint16, shape (T, H, W), T >= 2, optional
        Frames of a steady light, at one or several levels in any order. Without
        them the gain is unknown and set to 1 e-/ADU, with a note.
    bit_depth : int
        Bits of a count.

    Raises
    ------
    DataError
        Too few frames, other size, light in the darks, saturated flats, or flats that are no brighter than darks.
    """
    _check_frames(darks, "darks", bit_depth)
    notes: list[str] = []
    mean = darks.mean(axis=0, dtype=np.float64)
    variance = darks.var(axis=0, ddof=1, dtype=np.float64)
    offset = float(np.median(mean))
    # Median of a chi-square over its mean (Wilson and Hilferty 1931), so that few frames give no bias.
    freedom = len(darks) - 1
    read_variance = float(np.median(variance)) / (1 - 2 / (9 * freedom)) ** 3
    rounding = 1.0 / 12.0
    read_adu = float(np.sqrt(max(read_variance - rounding, 0.0)))
    hot = _hot_pixels(mean, variance)
    gain = 1.0
    means, variances = np.array([offset]), np.array([read_variance])
    if flats is None:
        notes.append("No flats were given, so the gain is unknown and taken as 1 e-/ADU.")
    else:
        _check_frames(flats, "flats", bit_depth)
        if flats.shape[1:] != darks.shape[1:]:
            raise DataError(
                f"The flats are {flats.shape[1:]} pixels and the darks {darks.shape[1:]}; both must be alike.",
                "Record both with the same region of interest and binning.",
            )
        means, variances, gain = _flat_gain(flats, mean, variance, offset, read_variance)
    camera = CameraModel(offset, gain, read_adu * gain, bit_depth, "darks and flats" if flats is not None else "darks")
    maps = len(darks) >= _FRAMES_FOR_MAPS
    if not maps:
        notes.append(f"{len(darks)} darks: per-pixel maps need at least {_FRAMES_FOR_MAPS}, so there are none.")
    return CameraMeasurement(
        camera,
        hot,
        mean.astype(np.float32) if maps else None,
        (np.sqrt(variance) * gain).astype(np.float32) if maps else None,
        means,
        variances,
        tuple(notes),
    )


def _check_frames(frames: NDArray[Any], name: str, bit_depth: int) -> None:
    if frames.ndim != 3 or len(frames) < 2:
        raise DataError(
            f"The {name} have shape {frames.shape}; at least 2 frames (T, H, W) are needed to see noise.",
            f"Record {name} as a movie; 100 frames also give per-pixel maps.",
        )
    top = 2**bit_depth - 1
    share = float((frames >= top).mean())
    if share > 0.001:
        raise DataError(
            f"{share:.1%} of the pixels of the {name} are saturated (count {top}).",
            "Record darks with the light off and the shutter closed."
            if name == "darks"
            else "Lower the light or the exposure so that flats stay below the top of the range.",
        )


def _hot_pixels(mean: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.int64]:
    hot = np.zeros(mean.shape, bool)
    for values in (mean, np.log(variance + 0.1)):
        centre = np.median(values)
        spread = _MAD_TO_SIGMA * float(np.median(np.abs(values - centre))) + 1e-6
        hot |= values - centre > _HOT_SIGMAS * spread
    return np.argwhere(hot).astype(np.int64)


def _flat_gain(
    flats: NDArray[Any],
    dark_mean: NDArray[np.float64],
    dark_variance: NDArray[np.float64],
    offset: float,
    read_variance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Points of the photon-transfer curve from neighbouring flats of the same level, and the gain, e-/ADU."""
    levels = flats.mean(axis=(1, 2), dtype=np.float64)
    order = np.argsort(levels, kind="stable")
    if levels.max() - offset < max(3 * np.sqrt(read_variance), 1.0):
        raise DataError(
            f"The brightest flat is {levels.max() - offset:.1f} ADU above the darks ({offset:.1f} ADU); "
            "a flat shows light.",
            "Record flats with the light on: an even field at about half of the camera's range.",
        )
    means, variances = [], []
    for first, second in zip(order[:-1:2], order[1::2], strict=False):
        one, two = flats[first].astype(np.float64), flats[second].astype(np.float64)
        ratio = levels[first] - offset, levels[second] - offset
        if ratio[0] <= 0 or abs(ratio[1] / ratio[0] - 1) > 0.05:
            continue  # two levels, not a pair
        difference = one - two - (levels[first] - levels[second])
        means.append(float(np.median((one + two) / 2 - dark_mean)))
        # A median of whole counts is too coarse for small noise, so only the largest thousandth is left out.
        variances.append(float(np.mean(np.sort(difference.ravel() ** 2)[: int(0.999 * difference.size)]) / 2))
    if not means:
        raise DataError(
            "No two flats have the same level within 5 %; the noise is seen in pairs of equal exposures.",
            "Record at least two flats at each level of light.",
        )
    x, y = np.array(means), np.array(variances) - float(np.median(dark_variance))
    # Relative error of a variance is the same at every level, so the slope is the mean ratio.
    slope = float(np.median(y / x))
    if slope <= 0:
        raise DataError(
            f"The flats are not noisier than the darks (variance {y.max():.3g} ADU² above theirs).",
            "Check that the flats are single raw frames, not averages.",
        )
    return x + offset, np.array(variances), 1.0 / slope


def estimate_camera(sweep: Sweep) -> CameraMeasurement:
    """Offset, gain and read noise from a sweep of beads.

    Repeats of a plane differ by noise only. Without repeats, the second
    difference over neighbouring planes stands in; what the pattern itself
    changes from plane to plane then adds to the noise of bright pixels, so
    the gain comes out a little low.

    Raises
    ------
    DataError
        When noise does not grow with light.
    """
    repeats = sweep.planes.shape[1]
    means, squares = _differences(sweep)
    dark = float(np.median(means[means <= np.percentile(means, 50)]))
    floor_variance = _robust_variance(squares[np.abs(means - dark) <= max(2.0, 0.02 * abs(dark))])
    if floor_variance < _NOISE_FREE_VARIANCE:
        note = "The sweep shows no noise, so read noise is 0 and the gain is taken as 1 e-/ADU."
        camera = CameraModel(round(dark), 1.0, 0.0, sweep.bit_depth, "estimated")
        empty = np.empty(0)
        return CameraMeasurement(camera, np.empty((0, 2), np.int64), None, None, empty, empty, (note,))
    top = float(np.percentile(means, 99.95))
    edges = dark + np.concatenate(
        [
            [-np.sqrt(floor_variance)],
            np.geomspace(2 * np.sqrt(floor_variance), max(top - dark, 4 * np.sqrt(floor_variance)), _BINS),
        ]
    )
    centres, variances, counts = [], [], []
    which = np.digitize(means, edges)
    for index in range(1, len(edges)):
        inside = which == index
        if inside.sum() < 200:
            continue
        centres.append(float(means[inside].mean()))
        variances.append(_robust_variance(squares[inside]))
        counts.append(int(inside.sum()))
    x, y, n = np.array(centres), np.array(variances), np.array(counts)
    if len(x) < 4:
        raise DataError(
            f"The sweep has only {len(x)} levels of brightness to estimate the camera from; at least 4 are needed.",
            "State the camera: --camera FILE, or --camera-offset-adu, --electrons-per-adu and --read-noise-e.",
        )
    slope, intercept = _transfer_line(x - dark, y, n)
    if slope <= 0:
        raise DataError(
            f"The noise of the sweep does not grow with its light (slope {slope:.3g} ADU per ADU).",
            "State the camera: --camera FILE, or --camera-offset-adu, --electrons-per-adu and --read-noise-e.",
        )
    source = "repeats" if repeats > 1 else "neighbouring planes"
    note = (
        f"Camera estimated from the {source} of the sweep: the offset is the level between the beads, "
        "so a uniform background light would count as offset."
    )
    camera = CameraModel(dark, 1.0 / slope, float(np.sqrt(max(intercept, 0.0))) / slope, sweep.bit_depth, "estimated")
    return CameraMeasurement(camera, np.empty((0, 2), np.int64), None, None, x, y, (note,))


def _differences(sweep: Sweep) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and squared noise of a sample of pixels, each shape (N,): squares estimate the variance of one exposure."""
    planes = sweep.planes
    stride = max(1, round(float(np.sqrt(planes.shape[0] * planes.shape[2] * planes.shape[3] / _SAMPLE))))
    means, squares = [], []
    if planes.shape[1] > 1:
        for plane in planes:
            pair = plane[:2, ::stride, ::stride].astype(np.float64)
            difference = pair[0] - pair[1]
            means.append(pair.mean(axis=0).ravel())
            squares.append(((difference - np.median(difference)) ** 2 / 2).ravel())
    else:
        for before, plane, after in zip(planes[:-2], planes[1:-1], planes[2:], strict=True):
            low, middle, high = (p[0, ::stride, ::stride].astype(np.float64) for p in (before, plane, after))
            # Second difference: variance 1 + 4 + 1 times that of one exposure.
            difference = low - 2 * middle + high
            means.append(((low + middle + high) / 3).ravel())
            squares.append(((difference - np.median(difference)) ** 2 / 6).ravel())
    return np.concatenate(means), np.concatenate(squares)


def _robust_variance(squares: NDArray[np.float64]) -> float:
    """Variance of normal deviates from their squares, indifferent to the largest 5 %.

    The mean of the lowest 95 % of chi-square deviates with one degree of
    freedom is 0.7595/0.95 of their variance's full mean.
    """
    if len(squares) == 0:
        return 0.0
    kept = np.sort(squares)[: max(int(0.95 * len(squares)), 1)]
    return float(kept.mean()) / _TRIMMED_SHARE


# E[x²; |x| < q]/0.95 for a normal deviate x with P(|x| < q) = 0.95: 1 - 2 q phi(q)/0.95, q = 1.95996.
_TRIMMED_SHARE = 1 - 2 * 1.959964 * 0.0584451 / 0.95


def _transfer_line(x: NDArray[np.float64], y: NDArray[np.float64], n: NDArray[Any]) -> tuple[float, float]:
    """Line through the photon-transfer curve, each point by the error of its variance, bright outliers left out."""
    keep = np.ones(len(x), bool)
    slope, intercept = 0.0, float(y[0])
    for _ in range(6):
        weight = np.sqrt(n[keep]) / np.maximum(y[keep], 1e-9)
        slope, intercept = (
            float(v) for v in np.polyfit(x[keep], y[keep], 1, w=np.minimum(weight, 50 / np.maximum(y[keep], 1e-9)))
        )
        rest = np.abs(y - slope * x - intercept) / np.maximum(slope * x + intercept, 1e-9)
        keep = rest < max(3 * float(np.median(rest)), 0.05)
        if keep.sum() < 4:
            keep = np.argsort(rest) < 4
    return slope, intercept

"""Measure a camera's offset, gain, read noise and hot pixels from darks and flats.

Photon transfer (Janesick, Photon Transfer, SPIE 2007): the variance of a pixel
over equal exposures grows in proportion to its mean, with the slope 1 / gain
in ADU per photo-electron. The noise without light is the read noise.

The frames must be raw: noise is independent from pixel to pixel, and two
exposures are never equal. Smoothed, resized and copied frames are rejected.
"""

from __future__ import annotations

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.calibration.camera_measurement import CameraMeasurement
from models.camera import CameraModel
from models.errors import DataError
from models.saturation import top_of_range

__all__ = ["measure_camera"]

# Fewest frames for per-pixel maps: the relative error of the read noise is then 10 %.
_FRAMES_FOR_MAPS = 50
# Fewer darks than this give a note: flickering hot pixels are missed.
_FEW_DARKS = 10
# Largest correlation of neighbouring pixels: in raw frames they are independent; spread of charge gives up to 0.1.
_MOST_CORRELATED = 0.2
# Share of dark pixels at zero: 2 % lie below the mean minus 2 deviations.
_MOST_CLIPPED = 0.02
# Darks vary over field and time by at most 3 times the noise of a pixel, or 3 ADU if that is more: offsets differ by
# 1 or 2 ADU between the amplifiers of a sensor.
_DARK_SIGMAS = 3.0
_DARK_ADU = 3.0
# Blocks along the shorter side of the field whose levels are compared.
_BLOCKS = 8
# Gains from single levels of light differ by at most this factor when camera and light are steady.
_LEVEL_AGREEMENT = 1.5
# A pixel is hot when its dark level or noise is this many robust deviations from the others'.
_HOT_SIGMAS = 8.0
# Standard deviation over median absolute deviation of a normal distribution, 1 / 0.67449.
_MAD_TO_SIGMA = 1.4826


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
        Too few frames, copies, other size, light in the darks, darks cut off at zero, saturated or smoothed frames, or
        flats that are no brighter than darks or disagree.
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
    _check_darks(darks, mean)
    if len(darks) < _FEW_DARKS:
        notes.append(f"{len(darks)} darks are few: 100 give a better offset and read noise, and show all hot pixels.")
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
    _check_copies(frames, name)
    top = top_of_range(frames, bit_depth)
    share = float((frames >= top).mean())
    if share > 0.001:
        raise DataError(
            f"{share:.1%} of the pixels of the {name} are saturated (count {top}).",
            "Record darks with the light off and the shutter closed."
            if name == "darks"
            else "Lower the light or the exposure so that flats stay below the top of the range.",
        )
    correlation = _neighbour_correlation(frames)
    if correlation > _MOST_CORRELATED:
        raise DataError(
            f"The noise of neighbouring pixels of the {name} is correlated ({correlation:.2f}, at most "
            f"{_MOST_CORRELATED} in raw images): the frames were smoothed, resized or compressed, or a light pattern "
            "moves.",
            "Record raw frames of the camera, without its noise filter, of a steady light.",
        )


def _check_copies(frames: NDArray[Any], name: str) -> None:
    seen: dict[bytes, int] = {}
    for index, frame in enumerate(frames):
        first = seen.setdefault(hashlib.sha256(frame.tobytes()).digest(), index)
        if first != index:
            raise DataError(
                f"Frames {first} and {index} of the {name} are equal in every pixel, which two exposures never are.",
                f"Record {name} as single exposures; copies and averages do not show the camera's noise.",
            )


def _neighbour_correlation(frames: NDArray[Any]) -> float:
    """Correlation of neighbouring pixels in the difference of two frames; the median over some pairs."""
    found = []
    for index in np.unique(np.linspace(0, len(frames) - 2, 8).astype(int)).tolist():
        difference = frames[index].astype(np.float64) - frames[index + 1]
        difference -= difference.mean()
        # The smaller one, because a camera may have noise of whole rows or columns.
        product = min(
            float(np.mean(difference[1:] * difference[:-1])), float(np.mean(difference[:, 1:] * difference[:, :-1]))
        )
        found.append(product / max(float(difference.var()), 1e-12))
    return float(np.median(found))


def _check_darks(darks: NDArray[Any], mean: NDArray[np.float64]) -> None:
    """Reject darks with light in them, and darks that are clipped at zero."""
    # From frame to frame, so that a drifting level does not count as noise.
    noise = float(np.median([(two.astype(np.float64) - one).std() for one, two in pairwise(darks)])) / np.sqrt(2)
    clipped = float((darks == 0).mean())
    if clipped > _MOST_CLIPPED:
        raise DataError(
            f"{clipped:.0%} of the pixels of the darks are 0, so noise below it is clipped (at most {_MOST_CLIPPED:.0%}"
            " may be).",
            "Raise the camera's offset (black level), and save raw counts without subtraction.",
        )
    limit = max(_DARK_SIGMAS * noise, _DARK_ADU)
    levels = np.median(darks, axis=(1, 2))
    bright = np.flatnonzero(np.abs(levels - np.median(levels)) > limit)
    if len(bright):
        worst = int(np.abs(levels - np.median(levels)).argmax())
        raise DataError(
            f"{len(bright)} of the {len(darks)} darks differ from the others, most of all frame {worst}: its level is "
            f"{levels[worst]:.0f} ADU, that of the others {np.median(levels):.0f} (within {limit:.1f}).",
            "Record darks with the light off and the shutter closed, all at one exposure and temperature.",
        )
    side = max(min(mean.shape) // _BLOCKS, 1)
    height, width = (extent // side * side for extent in mean.shape)
    blocks = np.median(
        mean[:height, :width].reshape(height // side, side, width // side, side).swapaxes(1, 2), axis=(2, 3)
    )
    spread = float(np.ptp(blocks))
    if spread > limit:
        raise DataError(
            f"The darks are uneven: their level goes from {blocks.min():.1f} to {blocks.max():.1f} ADU over the field "
            f"(at most {limit:.1f} apart, 3 times the noise of a pixel), so light leaks in.",
            "Close the shutter, cap the camera, switch off the room light, and record the darks again.",
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
            "a flat must contain light.",
            "Record flats with the light on: an even field at about half of the camera's range.",
        )
    means, variances = [], []
    for first, second in zip(order[:-1:2], order[1::2], strict=False):
        one, two = flats[first].astype(np.float64), flats[second].astype(np.float64)
        ratio = levels[first] - offset, levels[second] - offset
        if ratio[0] <= 0 or abs(ratio[1] / ratio[0] - 1) > 0.05:
            continue  # not of the same level
        # Scaled to one level, so that small changes of the light do not count as noise.
        scale = ratio[0] / ratio[1]
        difference = (one - offset) - scale * (two - offset)
        means.append(float(np.median((one + two) / 2 - dark_mean)))
        # A median of whole counts is too coarse for small noise, so only the largest thousandth is left out.
        squares = np.sort(difference.ravel() ** 2)[: int(0.999 * difference.size)]
        variances.append(float(squares.mean() / (1 + scale**2)))
    if not means:
        raise DataError(
            "No two flats have the same level within 5 %; noise is measured in pairs of equal exposures.",
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
    gains = x[y > 0] / y[y > 0]
    if gains.max() > _LEVEL_AGREEMENT * gains.min() or np.any(y <= 0):
        raise DataError(
            f"The flats disagree: single levels of light give {gains.min():.3g} to {gains.max():.3g} e-/ADU (at most "
            f"{_LEVEL_AGREEMENT} times apart).",
            "Record flats with a steady light, raw, between a tenth and three quarters of the camera's range.",
        )
    return x + offset, np.array(variances), 1.0 / slope

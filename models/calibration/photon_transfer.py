"""Measuring a camera: offset, gain and read noise from what its pixels do.

Photon transfer (Janesick, Photon Transfer, SPIE 2007): the variance of a pixel
over equal exposures grows in proportion to its mean, and the slope is ADU per
photo-electron; what remains without light is the read noise. Darks and
flats measure it properly (`measure_camera`). A sweep can stand in for them
(`estimate_camera`), since its repeats show the same light twice. Without
repeats the neighbouring planes have to do, and what focus changes must be
kept out: a second difference along z takes out what changes evenly, a high-pass
filter in x and y takes out what is smooth, and the sharpest planes are left
out. In either case the offset cannot be told from a uniform background light,
and is taken as the level between the beads.

An estimate has premises, and each is checked: noise is independent from pixel
to pixel (images that were smoothed, resized or compressed with loss are not),
repeats show the same light, and what the filters leave is noise. They are
checked by estimates that must agree; where they do not, the gain cannot be
told from the sweep, and the user states it.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.sweep import Sweep, fine_detail
from models.camera import CameraModel
from models.errors import DataError
from models.saturation import top_of_range

__all__ = ["CameraMeasurement", "estimate_camera", "measure_camera"]

# Variance of rounding to whole counts is 1/12 ADU²; a camera that shows less than this has no noise worth the name.
_NOISE_FREE_VARIANCE = 0.2
# Frames from which per-pixel maps are worth keeping: their relative error is then 10 % in read noise.
_FRAMES_FOR_MAPS = 50
# Fewer darks than this are told to be few: hot pixels that flicker are missed.
_FEW_DARKS = 10
# Frames of raw cameras: neighbouring pixels are independent; charge that spreads gives up to 0.1.
_MOST_ALIKE = 0.2
# Share of dark pixels at zero: 2 % lie below the mean minus 2 deviations.
_MOST_CLIPPED = 0.02
# Darks are alike over field and time to 3 times the noise of a pixel, or 3 ADU where there is little: offsets differ by
# 1 or 2 ADU between the amplifiers of a sensor.
_DARK_SIGMAS = 3.0
_DARK_ADU = 3.0
# Places along the shorter side of the field whose levels are compared.
_BLOCKS = 8
# Gains of single levels of light differ by no more than this factor where camera and light are steady.
_LEVEL_AGREEMENT = 1.5
# A pixel is hot when its dark level or noise is this many robust deviations from the others'.
_HOT_SIGMAS = 8.0
# Levels of brightness: fewer where few pixels are bright.
_BINS = (30, 15, 8)
_FEWEST_IN_BIN = 200
_FEWEST_LEVELS = 4
# Pixels of the whole sweep that are looked at: enough for 1 % in every figure.
_SAMPLE = 4_000_000
# Standard deviation over median absolute deviation of a normal distribution, 1 / 0.67449.
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
        notes.append(f"{len(darks)} darks are few: 100 tell offset and read noise better, and show all hot pixels.")
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
    likeness = _likeness(frames)
    if likeness > _MOST_ALIKE:
        raise DataError(
            f"The noise of neighbouring pixels of the {name} is alike (correlation {likeness:.2f}, at most "
            f"{_MOST_ALIKE} in raw images): the frames were smoothed, resized or compressed, or a pattern of light "
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


def _likeness(frames: NDArray[Any]) -> float:
    """Correlation of neighbouring pixels in the difference of two frames; the median over some pairs."""
    found = []
    for index in np.unique(np.linspace(0, len(frames) - 2, 8).astype(int)).tolist():
        difference = frames[index].astype(np.float64) - frames[index + 1]
        difference -= difference.mean()
        # The smaller one: rows or columns with noise of their own are a matter of the camera.
        product = min(
            float(np.mean(difference[1:] * difference[:-1])), float(np.mean(difference[:, 1:] * difference[:, :-1]))
        )
        found.append(product / max(float(difference.var()), 1e-12))
    return float(np.median(found))


def _check_darks(darks: NDArray[Any], mean: NDArray[np.float64]) -> None:
    """Refuse darks with light in them, and darks that are cut off at zero."""
    # From frame to frame, so that a level that drifts does not count as noise.
    noise = float(np.median([(two.astype(np.float64) - one).std() for one, two in pairwise(darks)])) / np.sqrt(2)
    clipped = float((darks == 0).mean())
    if clipped > _MOST_CLIPPED:
        raise DataError(
            f"{clipped:.0%} of the pixels of the darks are 0, so noise below it is cut off (at most {_MOST_CLIPPED:.0%}"
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
            "a flat shows light.",
            "Record flats with the light on: an even field at about half of the camera's range.",
        )
    means, variances = [], []
    for first, second in zip(order[:-1:2], order[1::2], strict=False):
        one, two = flats[first].astype(np.float64), flats[second].astype(np.float64)
        ratio = levels[first] - offset, levels[second] - offset
        if ratio[0] <= 0 or abs(ratio[1] / ratio[0] - 1) > 0.05:
            continue  # two levels, not a pair
        # Scaled to one level, so that light that is not quite steady or even does not count as noise.
        scale = ratio[0] / ratio[1]
        difference = (one - offset) - scale * (two - offset)
        means.append(float(np.median((one + two) / 2 - dark_mean)))
        # A median of whole counts is too coarse for small noise, so only the largest thousandth is left out.
        squares = np.sort(difference.ravel() ** 2)[: int(0.999 * difference.size)]
        variances.append(float(squares.mean() / (1 + scale**2)))
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
    gains = x[y > 0] / y[y > 0]
    if gains.max() > _LEVEL_AGREEMENT * gains.min() or np.any(y <= 0):
        raise DataError(
            f"The flats disagree: single levels of light give {gains.min():.3g} to {gains.max():.3g} e-/ADU (at most "
            f"{_LEVEL_AGREEMENT} times apart).",
            "Record flats with a steady light, raw, between a tenth and three quarters of the camera's range.",
        )
    return x + offset, np.array(variances), 1.0 / slope


def estimate_camera(sweep: Sweep) -> CameraMeasurement:
    """Offset, gain and read noise from a sweep of beads.

    Raises
    ------
    DataError
        When the sweep cannot tell them: its estimates disagree, noise does not grow with light, or too few levels of
        brightness occur.
    """
    notes: list[str] = []
    repeated = sweep.planes.shape[1] > 1
    if repeated and np.array_equal(sweep.planes[:, 0], sweep.planes[:, 1]):
        repeated = False
        if not _is_noise_free(_neighbour_samples(sweep, _FOURTH)):
            notes.append("The repeats of each plane are copies of one exposure, so they do not show the noise.")
    fine = _repeat_samples(sweep, _FOURTH) if repeated else _neighbour_samples(sweep, _FOURTH)
    if _is_noise_free(fine):
        note = "The sweep shows no noise, so read noise is 0 and the gain is taken as 1 e-/ADU."
        camera = CameraModel(round(fine.dark_adu), 1.0, 0.0, sweep.bit_depth, "estimated")
        empty = np.empty(0)
        return CameraMeasurement(camera, np.empty((0, 2), np.int64), None, None, empty, empty, (*notes, note))
    _check_independent(fine, _repeat_samples(sweep, None) if repeated else _neighbour_samples(sweep, None))
    if repeated:
        line, checks = _transfer(_repeat_samples(sweep, None)), {"high-pass filtered": _transfer(fine)}
        source = "repeats"
    else:
        line = _transfer(fine)
        checks = {"a weaker filter": _transfer(_neighbour_samples(sweep, _SECOND))}
        for half, samples in zip(("sharper", "more blurred"), fine.halves(), strict=True):
            # Half of a sweep with little light may have too few bright pixels to be a check.
            with contextlib.suppress(DataError):
                checks[f"{half} planes"] = _transfer(samples)
        source = "neighbouring planes"
    _check_agreement(line, checks, source)
    others = ", ".join(f"{1 / other.slope:.2f} from {name}" for name, other in checks.items())
    notes.append(
        f"Camera estimated from the {source} of the sweep: {1 / line.slope:.2f} e-/ADU ({others}). The offset is the "
        "level between the beads, so a uniform background light would count as offset."
    )
    camera = CameraModel(
        line.dark_adu,
        1.0 / line.slope,
        float(np.sqrt(max(line.intercept, 0.0))) / line.slope,
        sweep.bit_depth,
        "estimated",
    )
    return CameraMeasurement(
        camera, np.empty((0, 2), np.int64), None, None, line.mean_adu, line.variance_adu2, tuple(notes)
    )


_STATE_IT = "State the camera: --camera FILE, or --camera-offset-adu, --electrons-per-adu and --read-noise-e."

# Fourth and second differences along rows and columns. Defocused patterns are wider than five pixels and smooth, so
# little of them passes the first; the second lets more of them through, which tells how much it was.
_FOURTH = np.outer([1.0, -4.0, 6.0, -4.0, 1.0], [1.0, -4.0, 6.0, -4.0, 1.0])
_SECOND = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
# Planes sharper than this share of the sharpest change with focus at the finest scale, and are left out.
_SHARP_SHARE = 0.3
_FEWEST_TRIPLES = 3
# Estimates of one gain agree within this factor; structure in place of noise makes them differ by more. In simulated
# sweeps and the real one with steps up to the depth of field, they agree within 1.25.
_AGREEMENT = 1.5
# The weaker filter lets structure through that the other one stops, so it may differ by more.
_WEAK_AGREEMENT = 2.0
# Photon noise is a straight line: bends are 0.8 to 1.6 in simulated sweeps, and 1.8 in the real one at steps of 4 µm.
_MOST_BEND = 2.5
_FEWEST_FOR_BEND = 10
# Noise that is the same in neighbouring pixels (smoothed, resized, compressed) is weaker after the high-pass filter:
# 0.25 times for the mean of 2 x 2 pixels; 0.9 to 1.1 in raw images.
_INDEPENDENT = 0.6


@dataclass(frozen=True)
class _Samples:
    """Light and squared noise of many pixels, by plane.

    Attributes
    ----------
    means, squares : list of ndarray of float64, each shape (N,)
        Light, and squares whose mean is the variance of one exposure, ADU and ADU².
    """

    means: list[NDArray[np.float64]]
    squares: list[NDArray[np.float64]]

    @property
    def dark_adu(self) -> float:
        """Level between the beads."""
        means = np.concatenate(self.means)
        return float(np.median(means[means <= np.percentile(means, 50)]))

    @property
    def floor_variance(self) -> float:
        """Variance between the beads, ADU²."""
        means, squares = np.concatenate(self.means), np.concatenate(self.squares)
        dark = self.dark_adu
        return _robust_variance(squares[np.abs(means - dark) <= max(2.0, 0.02 * abs(dark))])

    def halves(self) -> tuple[_Samples, _Samples]:
        """The first and the second half of the planes."""
        middle = max(len(self.means) // 2, 1)
        return _Samples(self.means[:middle], self.squares[:middle]), _Samples(
            self.means[-middle:], self.squares[-middle:]
        )


@dataclass(frozen=True)
class _Line:
    """The photon-transfer line of a sweep: variance = intercept + slope * (mean - dark).

    `bend` is the slope from the darkest to the brighter half of the levels, over that to the darker half: 1 for noise,
    which grows with light; more for structure, which grows with its square. 1 where there are too few levels.
    """

    bend: float
    dark_adu: float
    slope: float
    intercept: float
    mean_adu: NDArray[np.float64]
    variance_adu2: NDArray[np.float64]


def _curve(samples: _Samples) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Variance at levels of brightness: mean (ADU), variance (ADU²) and number of pixels, each shape (M,)."""
    means, squares = np.concatenate(samples.means), np.concatenate(samples.squares)
    dark, floor = samples.dark_adu, np.sqrt(max(samples.floor_variance, 1 / 12))
    top = max(float(np.percentile(means, 99.95)) - dark, 4 * floor)
    inside: list[NDArray[np.bool_]] = []
    for bins in _BINS:
        edges = dark + np.concatenate([[-floor], np.geomspace(2 * floor, top, bins)])
        which = np.digitize(means, edges)
        inside = [chosen for index in range(1, len(edges)) if (chosen := which == index).sum() >= _FEWEST_IN_BIN]
        if len(inside) >= _FEWEST_LEVELS:
            break
    return (
        np.array([float(means[chosen].mean()) for chosen in inside]),
        np.array([_robust_variance(squares[chosen]) for chosen in inside]),
        np.array([int(chosen.sum()) for chosen in inside], np.int64),
    )


def _is_noise_free(samples: _Samples) -> bool:
    """Whether neither the places between the beads nor the brightest places show noise."""
    if samples.floor_variance >= _NOISE_FREE_VARIANCE:
        return False
    variance = _curve(samples)[1]
    return len(variance) == 0 or bool(variance[-1] < _NOISE_FREE_VARIANCE)


def _transfer(samples: _Samples) -> _Line:
    """Line through the photon-transfer curve.

    Raises
    ------
    DataError
        When there are too few levels of brightness, or noise does not grow with light.
    """
    x, y, n = _curve(samples)
    if len(x) < _FEWEST_LEVELS:
        raise DataError(
            "The camera's gain cannot be told from this sweep: it has only "
            f"{len(x)} levels of brightness, at least {_FEWEST_LEVELS} are needed.",
            _STATE_IT,
        )
    slope, intercept = _transfer_line(x - samples.dark_adu, y, n)
    if slope <= 0:
        raise DataError(
            "The camera's gain cannot be told from this sweep: its noise does not grow with its light "
            f"(slope {slope:.3g} ADU per ADU).",
            _STATE_IT,
        )
    bend = 1.0
    # Where the dark noise or the rounding of counts dominates, a chord says little.
    clear = np.flatnonzero((x - x[0]) * slope > max(0.5 * y[0], 2 * _NOISE_FREE_VARIANCE))
    if len(clear) >= _FEWEST_FOR_BEND:
        chords = (y[clear] - y[0]) / (x[clear] - x[0])
        middle = len(chords) // 2
        dim, bright = float(np.median(chords[:middle])), float(np.median(chords[middle:]))
        bend = bright / dim if dim > 0 else np.inf
    return _Line(bend, samples.dark_adu, slope, intercept, x, y)


def _check_independent(filtered: _Samples, plain: _Samples) -> None:
    share = filtered.floor_variance / max(plain.floor_variance, 1e-12)
    if share < _INDEPENDENT:
        raise DataError(
            "The camera's gain cannot be told from this sweep: the noise of neighbouring pixels is alike (a high-pass "
            f"filter leaves {share:.0%} of it, at least {_INDEPENDENT:.0%} in raw images), so the images were "
            "smoothed, resized or compressed, or whole rows or columns share their noise.",
            f"Save the raw images of the camera. {_STATE_IT}",
        )


def _check_agreement(line: _Line, checks: dict[str, _Line], source: str) -> None:
    for name, other in checks.items():
        factor = max(other.slope / line.slope, line.slope / other.slope)
        if factor > (_WEAK_AGREEMENT if "filter" in name else _AGREEMENT):
            raise DataError(
                f"The camera's gain cannot be told from this sweep: its {source} give {1 / line.slope:.2f} e-/ADU, "
                f"{name} {1 / other.slope:.2f} e-/ADU. The steps are too coarse, the light is not steady, or the "
                "repeats show something else.",
                _STATE_IT,
            )
    if line.bend > _MOST_BEND:
        raise DataError(
            f"The camera's gain cannot be told from this sweep: its {source} differ {line.bend:.1f} times as much in "
            f"bright places as noise would (at most {_MOST_BEND}), so they differ in more than noise.",
            _STATE_IT,
        )


def _stride(sweep: Sweep) -> int:
    planes = sweep.planes
    return max(1, round(float(np.sqrt(planes.shape[0] * planes.shape[2] * planes.shape[3] / _SAMPLE))))


def _repeat_samples(sweep: Sweep, kernel: NDArray[np.float64] | None) -> _Samples:
    """Light and noise from the first two exposures of each plane, filtered with `kernel` in x and y."""
    stride = _stride(sweep)
    samples = _Samples([], [])
    for plane in sweep.planes:
        one, two = plane[0].astype(np.float64), plane[1].astype(np.float64)
        _add(samples, (one + two) / 2, (one - two) / np.sqrt(2), kernel, stride)
    return samples


def _neighbour_samples(sweep: Sweep, kernel: NDArray[np.float64] | None) -> _Samples:
    """Light and noise from the second difference of neighbouring planes, sharper ones first; the sharpest left out."""
    sharpness = np.array([fine_detail(plane[0].astype(np.float32)) for plane in sweep.planes])
    sharpness = (sharpness - sharpness.min()) / max(float(np.ptp(sharpness)), 1e-12)
    sharpest = np.maximum(np.maximum(sharpness[:-2], sharpness[1:-1]), sharpness[2:])
    order = np.argsort(-sharpest, kind="stable")
    blurred = order[sharpest[order] < _SHARP_SHARE]
    stride = _stride(sweep)
    samples = _Samples([], [])
    for index in (blurred if len(blurred) >= _FEWEST_TRIPLES else order).tolist():
        low, middle, high = (sweep.planes[index + step, 0].astype(np.float64) for step in range(3))
        # Second difference: variance 1 + 4 + 1 times that of one exposure.
        _add(samples, (low + middle + high) / 3, (low - 2 * middle + high) / np.sqrt(6), kernel, stride)
    return samples


def _add(
    samples: _Samples,
    light: NDArray[np.float64],
    noise: NDArray[np.float64],
    kernel: NDArray[np.float64] | None,
    stride: int,
) -> None:
    """Add a plane; through a filter, the light of a place is that of the pixels by their part in its noise."""
    if kernel is not None:
        weight = kernel**2 / (kernel**2).sum()
        noise = ndimage.convolve(noise, kernel / np.sqrt((kernel**2).sum()))
        light = ndimage.convolve(light, weight)
    noise = noise[::stride, ::stride]
    samples.means.append(light[::stride, ::stride].ravel())
    samples.squares.append(((noise - np.median(noise)) ** 2).ravel())


def _robust_variance(squares: NDArray[np.float64]) -> float:
    """Variance of normal deviates from their squares, indifferent to the largest 5 %.

    The mean of the lowest 95 % of chi-square deviates with one degree of
    freedom is 0.7209/0.95 = 0.7588 of the mean of all.
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

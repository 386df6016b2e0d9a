"""Estimate a camera's offset, gain and read noise from a sweep of beads.

Repeats of a plane show the same light twice, so their difference is noise.
Without repeats the second difference of neighbouring planes is used. Three
measures keep changes of focus out of it: the second difference along z removes
linear changes, a high-pass filter in x and y removes smooth ones, and the
sharpest planes are left out. The offset cannot be distinguished from a uniform
background light; it is taken as the level between the beads.

The premises are tested by estimates that must agree: noise is independent from
pixel to pixel (in images that were smoothed, resized or compressed with loss it
is not), repeats show the same light, and only noise is left after the filters.
Where the estimates disagree, the sweep is rejected, and the user states the
camera.
"""

from __future__ import annotations

import contextlib

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.camera_measurement import CameraMeasurement
from models.calibration.photon_transfer import STATE_CAMERA, Samples, TransferLine, is_noise_free, transfer_line
from models.calibration.sweep import Sweep, fine_detail
from models.camera import CameraModel
from models.errors import DataError

__all__ = ["estimate_camera"]

# Pixels of the whole sweep that are used: enough for 1 % in every figure.
_SAMPLE = 4_000_000
# Fourth and second differences along rows and columns. Defocused patterns are wider than five pixels and smooth, so the
# first removes nearly all of them. The second removes less, so a comparison of both shows how much is left.
_FOURTH = np.outer([1.0, -4.0, 6.0, -4.0, 1.0], [1.0, -4.0, 6.0, -4.0, 1.0])
_SECOND = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
# Planes sharper than this share of the sharpest change with focus at the finest scale, and are left out.
_SHARP_SHARE = 0.3
_FEWEST_TRIPLES = 3
# Estimates of one gain agree within this factor; with structure instead of noise they differ by more. In simulated
# sweeps and the real one with steps up to the depth of field, they agree within 1.25.
_AGREEMENT = 1.5
# The weaker filter passes more structure, so its estimate may differ by more.
_WEAK_AGREEMENT = 2.0
# Photon noise is a straight line: bends are 0.8 to 1.6 in simulated sweeps, and 1.8 in the real one at steps of 4 µm.
_MOST_BEND = 2.5
# Noise that is the same in neighbouring pixels (smoothed, resized, compressed) is weaker after the high-pass filter:
# 0.25 times for the mean of 2 x 2 pixels; 0.9 to 1.1 in raw images.
_INDEPENDENT = 0.6


def estimate_camera(sweep: Sweep) -> CameraMeasurement:
    """Offset, gain and read noise from a sweep of beads.

    Raises
    ------
    DataError
        When they cannot be determined: the estimates disagree, noise does not grow with light, or there are too few
        levels of brightness.
    """
    notes: list[str] = []
    repeated = sweep.planes.shape[1] > 1
    if repeated and np.array_equal(sweep.planes[:, 0], sweep.planes[:, 1]):
        repeated = False
        if not is_noise_free(_neighbour_samples(sweep, _FOURTH)):
            notes.append("The repeats of each plane are copies of one exposure, so they contain no noise.")
    fine = _repeat_samples(sweep, _FOURTH) if repeated else _neighbour_samples(sweep, _FOURTH)
    if is_noise_free(fine):
        note = "The sweep shows no noise, so read noise is 0 and the gain is taken as 1 e-/ADU."
        camera = CameraModel(round(fine.dark_adu), 1.0, 0.0, sweep.bit_depth, "estimated")
        empty = np.empty(0)
        return CameraMeasurement(camera, np.empty((0, 2), np.int64), None, None, empty, empty, (*notes, note))
    _check_independent(fine, _repeat_samples(sweep, None) if repeated else _neighbour_samples(sweep, None))
    if repeated:
        line, checks = transfer_line(_repeat_samples(sweep, None)), {"high-pass filtered": transfer_line(fine)}
        source = "repeats"
    else:
        line = transfer_line(fine)
        checks = {"a weaker filter": transfer_line(_neighbour_samples(sweep, _SECOND))}
        for half, samples in zip(("sharper", "more blurred"), fine.halves(), strict=True):
            # Half of a sweep with little light may have too few bright pixels for a check.
            with contextlib.suppress(DataError):
                checks[f"{half} planes"] = transfer_line(samples)
        source = "neighbouring planes"
    _check_agreement(line, checks, source)
    others = ", ".join(f"{1 / other.slope:.2f} from {name}" for name, other in checks.items())
    notes.append(
        f"Camera estimated from the {source} of the sweep: {1 / line.slope:.2f} e-/ADU ({others}). The offset is the "
        "level between the beads, so a uniform background light counts as offset."
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


def _check_independent(filtered: Samples, plain: Samples) -> None:
    share = filtered.floor_variance / max(plain.floor_variance, 1e-12)
    if share < _INDEPENDENT:
        raise DataError(
            "The camera's gain cannot be determined from this sweep: the noise of neighbouring pixels is correlated (a "
            f"high-pass filter leaves {share:.0%} of it, at least {_INDEPENDENT:.0%} in raw images), so the images "
            "were smoothed, resized or compressed, or whole rows or columns share their noise.",
            f"Save the raw images of the camera. {STATE_CAMERA}",
        )


def _check_agreement(line: TransferLine, checks: dict[str, TransferLine], source: str) -> None:
    for name, other in checks.items():
        factor = max(other.slope / line.slope, line.slope / other.slope)
        if factor > (_WEAK_AGREEMENT if "filter" in name else _AGREEMENT):
            raise DataError(
                f"The camera's gain cannot be determined from this sweep: its {source} give {1 / line.slope:.2f} "
                f"e-/ADU, {name} {1 / other.slope:.2f} e-/ADU. The steps are too coarse, the light is not steady, or "
                "the repeats show different light.",
                STATE_CAMERA,
            )
    if line.bend > _MOST_BEND:
        raise DataError(
            f"The camera's gain cannot be determined from this sweep: its {source} differ {line.bend:.1f} times as "
            f"much in bright places as noise would (at most {_MOST_BEND}), so they differ in more than noise.",
            STATE_CAMERA,
        )


def _stride(sweep: Sweep) -> int:
    planes = sweep.planes
    return max(1, round(float(np.sqrt(planes.shape[0] * planes.shape[2] * planes.shape[3] / _SAMPLE))))


def _repeat_samples(sweep: Sweep, kernel: NDArray[np.float64] | None) -> Samples:
    """Light and noise from the first two exposures of each plane, filtered with `kernel` in x and y."""
    stride = _stride(sweep)
    samples = Samples([], [])
    for plane in sweep.planes:
        one, two = plane[0].astype(np.float64), plane[1].astype(np.float64)
        _add(samples, (one + two) / 2, (one - two) / np.sqrt(2), kernel, stride)
    return samples


def _neighbour_samples(sweep: Sweep, kernel: NDArray[np.float64] | None) -> Samples:
    """Light and noise from the second difference of neighbouring planes, sharper ones first, without the sharpest."""
    sharpness = np.array([fine_detail(plane[0].astype(np.float32)) for plane in sweep.planes])
    sharpness = (sharpness - sharpness.min()) / max(float(np.ptp(sharpness)), 1e-12)
    sharpest = np.maximum(np.maximum(sharpness[:-2], sharpness[1:-1]), sharpness[2:])
    order = np.argsort(-sharpest, kind="stable")
    blurred = order[sharpest[order] < _SHARP_SHARE]
    stride = _stride(sweep)
    samples = Samples([], [])
    for index in (blurred if len(blurred) >= _FEWEST_TRIPLES else order).tolist():
        low, middle, high = (sweep.planes[index + step, 0].astype(np.float64) for step in range(3))
        # Second difference: variance 1 + 4 + 1 times that of one exposure.
        _add(samples, (low + middle + high) / 3, (low - 2 * middle + high) / np.sqrt(6), kernel, stride)
    return samples


def _add(
    samples: Samples,
    light: NDArray[np.float64],
    noise: NDArray[np.float64],
    kernel: NDArray[np.float64] | None,
    stride: int,
) -> None:
    """Add a plane; with a filter, light is the mean of the pixels weighted by their contribution to the noise."""
    if kernel is not None:
        weight = kernel**2 / (kernel**2).sum()
        noise = ndimage.convolve(noise, kernel / np.sqrt((kernel**2).sum()))
        light = ndimage.convolve(light, weight)
    noise = noise[::stride, ::stride]
    samples.means.append(light[::stride, ::stride].ravel())
    samples.squares.append(((noise - np.median(noise)) ** 2).ravel())

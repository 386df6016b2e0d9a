"""Simulated training frames with truth.

Rendering is the bottleneck of training, so a `PatternTable` holds every plane
of the PSF at sub-pixel shifts, each cropped to its light, and a compiled loop
adds them up. `SceneSettings` sets the contents of a frame: emitters in
clusters of varying density, brightness over two decades, a wide range of SNR,
uneven background, hot pixels, and emitters without a label, which must not be
reported (beyond the range, at negative defocus, outside the frame).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.noise import detect_electrons
from models.psf import Psf

__all__ = ["PatternTable", "SceneSettings", "TrainingFrame", "draw_frame"]

_SHIFTS = 4
"""Sub-pixel shifts per pixel and axis; the render kernel interpolates linearly between them."""

_ENERGY = 0.99
"""Share of a plane's photo-electrons that its crop keeps."""

_LEAST_BACKGROUND_E = 1e-3


class PatternTable:
    """A PSF tabulated for rendering: planes x sub-pixel shifts, cropped to their light.

    Parameters
    ----------
    psf : Psf
        Any PSF, measured or computed.
    """

    def __init__(self, psf: Psf) -> None:
        self.pixel_size_um = psf.pixel_size_um
        self.z_first_um = float(psf.z_um[0])
        self.z_step_um = psf.z_step_um
        self.z_last_um = float(psf.z_um[-1])
        by_radius, squared = _order_by_radius(psf.planes.shape[1])
        self.radius_px = np.array(
            [_radius_px(plane, psf.oversampling, by_radius, squared) for plane in psf.planes], np.int64
        )
        sides = 2 * self.radius_px + 3
        self._offsets = np.concatenate([[0], np.cumsum(sides**2 * _SHIFTS**2)])[:-1].astype(np.int64)
        self._values = np.empty(int((sides**2 * _SHIFTS**2).sum()), np.float32)
        for plane, side, start in zip(psf.planes, sides, self._offsets, strict=True):
            images = self._values[start : start + side**2 * _SHIFTS**2].reshape(_SHIFTS, _SHIFTS, side, side)
            _sample_shifted(plane, psf.oversampling, images)

    def radius_at_px(self, z_um: NDArray[np.float64]) -> NDArray[np.float64]:
        """Radius that holds 99 % of the light at the depths `z_um`, pixels, same shape."""
        planes = self.z_first_um + self.z_step_um * np.arange(len(self.radius_px))
        return np.interp(z_um, planes, self.radius_px.astype(np.float64))

    def render(self, emitters: NDArray[np.float64], image: NDArray[np.float32]) -> None:
        """Add emitters to an image of expected photo-electrons.

        Parameters
        ----------
        emitters : ndarray of float64, shape (N, 4)
            x, y, z in µm and photo-electrons; z is clipped to the planes.
        image : ndarray of float32, shape (H, W)
            Changed in place.
        """
        _render(
            np.ascontiguousarray(emitters, np.float64),
            image,
            self._values,
            self._offsets,
            self.radius_px,
            1.0 / self.pixel_size_um,
            self.z_first_um,
            1.0 / self.z_step_um,
        )


def _order_by_radius(side: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pixel indices of a square plane from its centre outwards, and the squared radius of each pixel."""
    from_centre = np.square(np.arange(side) - side // 2)
    squared = np.add.outer(from_centre, from_centre).ravel()
    return np.argsort(squared), squared


def _radius_px(
    plane: NDArray[np.float32], oversampling: int, by_radius: NDArray[np.int64], squared: NDArray[np.int64]
) -> int:
    centre: int = plane.shape[0] // 2
    energy = np.cumsum(np.maximum(plane, 0).ravel()[by_radius], dtype=np.float64)
    reached = int(np.searchsorted(energy, _ENERGY * energy[-1]))
    limit = centre // oversampling - 1
    return max(2, min(int(np.ceil(np.sqrt(squared[by_radius[reached]]) / oversampling)), limit))


def _sample_shifted(plane: NDArray[np.float32], oversampling: int, images: NDArray[np.float32]) -> None:
    """Sample one plane on the camera's pixels at all sub-pixel shifts, with cubic splines.

    A shift is the same for all pixels of an axis, so sampling is a sum of four
    weighted slices along rows and then along columns. Most of the start-up time
    of a simulated microscope is spent here.

    Parameters
    ----------
    plane : ndarray of float32, shape (S, S)
        On a grid `oversampling` times finer than the pixels.
    oversampling : int
    images : ndarray of float32, shape (shifts, shifts, side, side)
        Filled with the image around the centre for an emitter shifted down and to the right of it.
    """
    side = images.shape[-1]
    coefficients = ndimage.spline_filter(plane, order=3, mode="mirror", output=np.float32)
    margin = 2 * oversampling
    coefficients = np.pad(coefficients, margin, mode="reflect")
    centre = plane.shape[0] // 2 + margin
    for row_shift in range(_SHIFTS):
        rows = _spline_taps(coefficients, centre, side, oversampling, row_shift)
        for column_shift in range(_SHIFTS):
            columns = _spline_taps(rows.T, centre, side, oversampling, column_shift)
            np.maximum(columns.T, 0.0, out=images[row_shift, column_shift])


def _spline_taps(
    coefficients: NDArray[np.float32], centre: int, side: int, oversampling: int, shift: int
) -> NDArray[np.float32]:
    """Values along the first axis, `side` pixels around the centre, `shift` sub-pixel steps before each."""
    first = centre - (side // 2) * oversampling - shift * oversampling / _SHIFTS
    whole = int(np.floor(first))
    t = first - whole
    # The cubic B-spline at distances 1 + t, t, 1 - t and 2 - t.
    weights = ((1 - t) ** 3 / 6, 2 / 3 - t**2 + t**3 / 2, 2 / 3 - (1 - t) ** 2 + (1 - t) ** 3 / 2, t**3 / 6)
    total = np.zeros((side, coefficients.shape[1]), np.float32)
    for tap, weight in enumerate(weights):
        begin = whole - 1 + tap
        total += np.float32(weight) * coefficients[begin : begin + side * oversampling : oversampling]
    return total


@numba.njit(cache=True, nogil=True, fastmath=True)
def _render(
    emitters: Any,
    image: Any,
    values: Any,
    offsets: Any,
    radii: Any,
    per_um: float,
    z_first: float,
    per_step: float,
) -> None:
    height, width = image.shape
    for e in range(emitters.shape[0]):
        z = min(max((emitters[e, 2] - z_first) * per_step, 0.0), float(radii.shape[0] - 1))
        plane = min(int(z), radii.shape[0] - 2)
        fine_x = emitters[e, 0] * per_um * _SHIFTS
        fine_y = emitters[e, 1] * per_um * _SHIFTS
        left = int(np.floor(fine_x))
        top = int(np.floor(fine_y))
        for dz in range(2):
            z_weight = 1.0 - abs(z - plane - dz)
            if z_weight <= 0.0:
                continue
            radius = radii[plane + dz] + 1
            side = 2 * radius + 1
            for dy in range(2):
                y_weight = 1.0 - abs(fine_y - top - dy)
                row0 = (top + dy) // _SHIFTS - radius
                row_shift = (top + dy) % _SHIFTS
                for dx in range(2):
                    weight = np.float32(emitters[e, 3] * z_weight * y_weight * (1.0 - abs(fine_x - left - dx)))
                    if weight <= 0.0:
                        continue
                    column0 = (left + dx) // _SHIFTS - radius
                    column_shift = (left + dx) % _SHIFTS
                    start = offsets[plane + dz] + (row_shift * _SHIFTS + column_shift) * side * side
                    first = max(0, -column0)
                    last = min(side, width - column0)
                    if last <= first:
                        continue
                    for r in range(max(0, -row0), min(side, height - row0)):
                        source = values[start + r * side + first : start + r * side + last]
                        target = image[row0 + r, column0 + first : column0 + last]
                        for c in range(last - first):
                            target[c] += weight * source[c]


@dataclass(frozen=True, slots=True)
class SceneSettings:
    """Contents of training frames. The defaults cover real samples (science.md).

    Attributes
    ----------
    shape : (H, W) of a frame, pixels
    count : lowest and highest number of emitters
    z_range_um : labelled depths
    beyond_um : how far beyond the range unlabelled emitters lie
    beyond_share : share of emitters beyond the range
    wrong_side_share : share of emitters at negative defocus, mean over frames: half of the frames have none, the others
        up to four times as many; 0 for a PSF that is the same on both sides of focus, where the sign is ambiguous
    snr_db : published-form SNR of a frame, lowest and highest
    photons : photo-electrons of the brightest emitter, lowest and highest, used for half of the frames, the others
        follow `snr_db`; None where the sample is not known
    background_e : background per pixel, photo-electrons, drawn log-uniformly for half of the frames; that of the
        others is in proportion to their light
    read_noise_e : lowest and highest read noise, photo-electrons; 3 of 10 frames have the lowest
    noiseless_share : share of frames without any noise, as of a simulated camera
    size_variation : standard deviation of the relative error of apparent depth due to the size of an emitter
    stacked_share : share of emitters at the same lateral position as another one
    """

    shape: tuple[int, int] = (192, 192)
    count: tuple[int, int] = (1, 110)
    z_range_um: tuple[float, float] = (0.0, 100.0)
    beyond_um: float = 8.0
    beyond_share: float = 0.03
    wrong_side_share: float = 0.0
    snr_db: tuple[float, float] = (-4.0, 34.0)
    photons: tuple[float, float] | None = None
    background_e: tuple[float, float] = (0.002, 50.0)
    read_noise_e: tuple[float, float] = (0.0, 3.0)
    noiseless_share: float = 0.0
    size_variation: float = 0.0
    stacked_share: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingFrame:
    """One synthetic frame and its truth.

    Attributes
    ----------
    electrons : ndarray of float32, shape (H, W)
        Noisy photo-electrons (offset removed).
    read_noise_e : float
    emitters : ndarray of float64, shape (N, 4)
        x, y, z (µm), photo-electrons of the labelled emitters.
    background_e : float
        Mean background, photo-electrons per pixel.
    """

    electrons: NDArray[np.float32]
    read_noise_e: float
    emitters: NDArray[np.float64]
    background_e: float


def draw_frame(table: PatternTable, settings: SceneSettings, rng: np.random.Generator) -> TrainingFrame:
    """Draw one training frame; equal generators give equal frames."""
    emitters = _draw_emitters(table, settings, rng)
    image = np.zeros(settings.shape, np.float32)
    apparent = emitters.copy()
    apparent[:, 2] *= 1 + rng.normal(0, settings.size_variation, len(emitters))
    table.render(apparent, image)

    read_noise = float(rng.uniform(*settings.read_noise_e)) if rng.random() < 0.7 else settings.read_noise_e[0]
    # Half of the frames have a background in proportion to their light, half an absolute one.
    relative = 10 ** rng.uniform(-1.7, -0.3) if rng.random() < 0.5 else 0.0
    absolute = 0.0 if relative else float(np.exp(rng.uniform(*np.log(settings.background_e))))
    if settings.photons is not None and rng.random() < 0.5:
        scale = float(np.exp(rng.uniform(*np.log(settings.photons))))
    else:
        scale = _scale_for_snr(image, rng.uniform(*settings.snr_db), relative, absolute + read_noise**2)
    image *= np.float32(scale)
    background = max(relative * float(image.mean()) + absolute, _LEAST_BACKGROUND_E)
    image += np.float32(background) * _background_profile(settings.shape, rng)
    if rng.random() < settings.noiseless_share:
        return TrainingFrame(image, 0.0, _labelled_emitters(emitters, table, settings, scale), background)
    electrons = np.empty(settings.shape, np.float32)
    detect_electrons(image, electrons, np.uint64(rng.integers(2**63)), np.float32(read_noise))
    if rng.random() < 0.15:
        hot = rng.integers(0, image.size, rng.integers(1, 6))
        electrons.ravel()[hot] += rng.uniform(5, 60, len(hot)).astype(np.float32) * np.float32(
            np.sqrt(background + read_noise**2 + 1)
        )

    return TrainingFrame(electrons, read_noise, _labelled_emitters(emitters, table, settings, scale), background)


def _labelled_emitters(
    emitters: NDArray[np.float64], table: PatternTable, settings: SceneSettings, scale: float
) -> NDArray[np.float64]:
    """Emitters to be localized: those in the frame and in the range; brightness becomes photo-electrons."""
    height, width = settings.shape
    in_frame = (
        (emitters[:, 0] > -0.5 * table.pixel_size_um)
        & (emitters[:, 1] > -0.5 * table.pixel_size_um)
        & (emitters[:, 0] < (width - 0.5) * table.pixel_size_um)
        & (emitters[:, 1] < (height - 0.5) * table.pixel_size_um)
    )
    low, high = settings.z_range_um
    labelled = emitters[in_frame & (emitters[:, 2] >= low) & (emitters[:, 2] <= high)].copy()
    labelled[:, 3] *= scale
    return labelled


def _draw_emitters(table: PatternTable, settings: SceneSettings, rng: np.random.Generator) -> NDArray[np.float64]:
    """Emitters of a frame, shape (N, 4): x, y, z (µm), relative brightness, at most 1."""
    height, width = settings.shape
    # Between log-uniform and uniform: crowded frames hold more examples, but sparse ones are needed too.
    crowding = rng.random() ** 0.6
    count = int(np.exp(np.log(settings.count[0]) + crowding * np.log((settings.count[1] + 1) / settings.count[0])))
    # Either a cluster in part of the field, as cells in a vessel, or emitters everywhere and beyond the frame's edge.
    if rng.random() < 0.5:
        size = np.array([width, height]) * rng.uniform(0.5, 1.0, 2)
        start = rng.uniform(0, 1, 2) * (np.array([width, height]) - size)
    else:
        margin = float(table.radius_px.max()) * 0.5
        start = np.array([-margin, -margin])
        size = np.array([width + 2 * margin, height + 2 * margin])
    xy = (start + rng.random((count, 2)) * size) * table.pixel_size_um
    if settings.stacked_share:
        stacked = rng.random(count) < settings.stacked_share
        xy[stacked] = xy[rng.integers(0, count, int(stacked.sum()))]
    low, high = settings.z_range_um
    z = rng.uniform(low, high, count)
    kind = rng.random(count)
    beyond = kind < settings.beyond_share
    z[beyond] = high + rng.uniform(0, settings.beyond_um, int(beyond.sum()))
    negative = kind > 1 - _draw_negative_defocus_share(settings, rng)
    z[negative] = table.z_first_um + rng.random(int(negative.sum())) * (low - table.z_first_um)
    way = rng.random()
    if way < 0.65:
        brightness = rng.uniform(0.1, 1.0, count)
    elif way < 0.85:
        brightness = 10 ** rng.uniform(-2.0, 0.0, count)
    else:
        brightness = np.ones(count)
    return np.column_stack([xy, z, brightness])


def _draw_negative_defocus_share(settings: SceneSettings, rng: np.random.Generator) -> float:
    """Share for one frame: a sample that reaches through focus has many emitters there, one on a slide none."""
    if not settings.wrong_side_share or rng.random() < 0.5:
        return 0.0
    return float(rng.uniform(0.0, min(4 * settings.wrong_side_share, 1.0)))


def _scale_for_snr(image: NDArray[np.float32], snr_db: float, relative: float, variance_e: float) -> float:
    """Photo-electrons of the brightest emitter that give a frame its SNR, published form.

    SNR = a² ΣI² / (a ΣI (1 + relative) + pixels x variance), solved for a and
    clipped to 30 photo-electrons to 10 million: frames with only a few deep
    emitters would need unrealistic light to reach the SNR of a shallow one.
    """
    snr = 10 ** (snr_db / 10)
    square = float(np.square(image).sum(dtype=np.float64))
    linear = float(image.sum(dtype=np.float64)) * (1 + relative)
    if square <= 0:
        return 1e4
    root = np.sqrt((snr * linear) ** 2 + 4 * square * snr * image.size * variance_e)
    return float(np.clip((snr * linear + root) / (2 * square), 30.0, 1e7))


def _background_profile(shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.float32]:
    """A smooth factor around 1, since illumination and autofluorescence vary over the field."""
    if rng.random() < 0.4:
        return np.ones(shape, np.float32)
    rows = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
    columns = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
    a = rng.normal(0, 0.15, 5).astype(np.float32)
    factor = 1 + a[0] * rows + a[1] * columns + a[2] * rows**2 + a[3] * columns**2 + a[4] * rows * columns
    return np.maximum(factor, np.float32(0.1))  # type: ignore[no-any-return]

"""Test frames with their truth: places first, then light in one of two forms, then the camera.

Published form: light is set by the SNR of the frame, 10 log10(ΣI² / Σ noise
variance) with I the noise-free signal above background and Poisson noise at
scale a, which is 10 log10(a ΣI²/ΣI); the background of 5 % of the mean signal
is added on top; no offset, no read noise (science.md, "Measured here"). The
shallowest emitter sets that figure, so there is the physical form too: a mean
number of photo-electrons per emitter, a background per pixel, and an sCMOS
camera whose pixels differ in read noise. Methods get only the root mean square
of the read noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.images import ImageSource
from models.camera import CameraModel
from models.noise import detect_electrons
from models.tables import Truth

__all__ = [
    "FRAME_SHAPE",
    "PUBLISHED_CAMERA",
    "SCMOS_CAMERA",
    "SIDE_UM",
    "Box",
    "Frames",
    "Light",
    "Photons",
    "Snr",
    "expose",
    "expose_images",
    "middle_box",
    "render_images",
    "uniform_emitters",
]

F64 = NDArray[np.float64]
Box = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

FRAME_SHAPE = (256, 256)
SIDE_UM = 100.0
"""Side of the published volume, which is as deep as it is wide."""

PUBLISHED_CAMERA = CameraModel(0.0, 1.0, 0.0, 16, "simulated")
"""Counts are photo-electrons."""

SCMOS_CAMERA = CameraModel(100.0, 1.1, 1.6, 16, "simulated")
"""Its read noise is the root mean square over the pixels of `_read_noise_map`."""

_BRIGHTNESS = (0.1, 1.0)
_BACKGROUND_SHARE = 0.05
_READ_NOISE_SPREAD = 0.35
"""Of the logarithm of the pixels' read noise: a median of 1.4 e- with a tail of noisy pixels, as sCMOS cameras have."""


@dataclass(frozen=True, slots=True)
class Snr:
    """Light of the published form.

    Attributes
    ----------
    db : float
    """

    db: float


@dataclass(frozen=True, slots=True)
class Photons:
    """Light of the physical form.

    Attributes
    ----------
    mean : float
        Photo-electrons per emitter, mean over emitters.
    background_e : float
        Photo-electrons per pixel.
    """

    mean: float
    background_e: float


Light = Snr | Photons


@dataclass(frozen=True, slots=True)
class Frames:
    """Frames of one condition, and their truth.

    Attributes
    ----------
    counts : ndarray of uint16, shape (F, H, W)
    emitters : tuple of F ndarrays of float64, shape (N, 4)
        x, y, z in µm and photo-electrons.
    background_e : ndarray of float64, shape (F,)
        Photo-electrons per pixel.
    read_noise_e : ndarray of float32, shape (H, W)
    camera : CameraModel
        Camera model that methods get.
    """

    counts: NDArray[np.uint16]
    emitters: tuple[F64, ...]
    background_e: F64
    read_noise_e: NDArray[np.float32]
    camera: CameraModel

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return (self.counts.shape[1], self.counts.shape[2])

    def first(self, count: int) -> Frames:
        """The first `count` frames."""
        return self if count >= len(self) else self.part(0, count)

    def part(self, start: int, stop: int) -> Frames:
        """Frames from `start` to before `stop`, which are numbered from 0 again."""
        return replace(
            self,
            counts=self.counts[start:stop],
            emitters=self.emitters[start:stop],
            background_e=self.background_e[start:stop],
        )

    @property
    def median_photons(self) -> float:
        """Median over all emitters, photo-electrons."""
        return float(np.median(np.concatenate([each[:, 3] for each in self.emitters])))

    def truth(self) -> Truth:
        """Positions as a table."""
        numbers = np.concatenate([np.full(len(each), number) for number, each in enumerate(self.emitters)])
        x, y, z = np.concatenate(self.emitters)[:, :3].T
        return Truth(numbers, x, y, z, np.full(len(numbers), -1))


def middle_box(
    shape: tuple[int, int], pixel_size_um: float, depths_um: tuple[float, float], side_um: float = SIDE_UM
) -> Box:
    """Box of a square side in the middle of the field, through the depths."""
    left = (shape[1] * pixel_size_um - side_um) / 2
    top = (shape[0] * pixel_size_um - side_um) / 2
    return ((left, left + side_um), (top, top + side_um), depths_um)


def uniform_emitters(rng: np.random.Generator, points: int, box_um: Box) -> F64:
    """Emitters uniform in a box, relative brightness U(0.1, 1) in the last column, shape (points, 4)."""
    low, high = np.array(box_um).T
    xy = low[:2] + rng.random((points, 2)) * (high - low)[:2]
    z = low[2] + rng.random(points) * (high - low)[2]
    return np.column_stack([xy, z, rng.uniform(*_BRIGHTNESS, points)])


def expose(
    images: ImageSource,
    emitters: Sequence[F64],
    light: Light,
    shape: tuple[int, int],
    rng: np.random.Generator,
    structure: NDArray[np.float32] | None = None,
    drawn: Sequence[F64] | None = None,
) -> Frames:
    """Render and expose one frame for each set of emitters.

    Parameters
    ----------
    images : ImageSource
    emitters : sequence of ndarray of float64, shape (N, 4)
        x, y, z in µm and relative brightness.
    light : Light
        Sets the scale of the brightness, and the camera.
    shape : (H, W)
    rng : numpy.random.Generator
        Of noise.
    structure : ndarray of float32, shape (H, W), optional
        Static light beneath the emitters, photo-electrons, beside the even background.
    drawn : sequence of ndarray of float64, shape (M, 4), optional
        What is rendered instead of the emitters: the places of an exposure, or the points of an extended body.

    Returns
    -------
    Frames
    """
    rendered = render_images(images, emitters if drawn is None else drawn, shape)
    return expose_images(rendered, emitters, light, rng, structure)


def render_images(images: ImageSource, drawn: Sequence[F64], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Images without noise of each set of emitters (M, 4), shape (F, H, W), in units of their brightness."""
    rendered = np.zeros((len(drawn), *shape), np.float32)
    for image, each in zip(rendered, drawn, strict=True):
        images.render(each, image)
    return rendered


def expose_images(
    rendered: NDArray[np.float32],
    emitters: Sequence[F64],
    light: Light,
    rng: np.random.Generator,
    structure: NDArray[np.float32] | None = None,
    *,
    steady: bool = False,
) -> Frames:
    """Expose rendered images.

    Parameters
    ----------
    rendered : ndarray of float32, shape (F, H, W)
        As `render_images` makes them.
    emitters, light, rng, structure
        As of `expose`.
    steady : bool
        Whether all frames have the same light, as those of a movie: one scale, at which the mean over the frames of
        their SNR in dB is that of `light`, and one background. Otherwise each frame has the SNR of `light`.

    Returns
    -------
    Frames
    """
    shape = (rendered.shape[1], rendered.shape[2])
    camera = PUBLISHED_CAMERA if isinstance(light, Snr) else SCMOS_CAMERA
    read_noise = np.zeros(shape, np.float32) if isinstance(light, Snr) else _read_noise_map(shape, camera, rng)
    scales = np.array([_scale(image, each, light) for image, each in zip(rendered, emitters, strict=True)])
    signals = np.array([float(image.mean()) for image in rendered])
    if steady:
        scales[:], signals[:] = np.exp(np.log(scales).mean()), signals.mean()
    background = _BACKGROUND_SHARE * scales * signals
    if isinstance(light, Photons):
        background[:] = light.background_e
    counts = np.empty(rendered.shape, np.uint16)
    truth = []
    for number, each in enumerate(emitters):
        expected = rendered[number] * np.float32(scales[number]) + np.float32(background[number])
        if structure is not None:
            expected += structure
        counts[number] = _detect(expected, read_noise, camera, rng)
        truth.append(np.column_stack([each[:, :3], each[:, 3] * scales[number]]))
    return Frames(counts, tuple(truth), background, read_noise, camera)


def _scale(image: NDArray[np.float32], emitters: F64, light: Light) -> float:
    if isinstance(light, Photons):
        return light.mean / float(emitters[:, 3].mean())
    power = float(np.square(image).sum(dtype=np.float64)) / float(image.sum(dtype=np.float64))
    return float(10 ** (light.db / 10) / power)


def _read_noise_map(shape: tuple[int, int], camera: CameraModel, rng: np.random.Generator) -> NDArray[np.float32]:
    noise = np.exp(rng.normal(0, _READ_NOISE_SPREAD, shape))
    return (camera.read_noise_e * noise / np.sqrt(np.mean(noise**2))).astype(np.float32)  # type: ignore[no-any-return]


def _detect(
    expected: NDArray[np.float32], read_noise: NDArray[np.float32], camera: CameraModel, rng: np.random.Generator
) -> NDArray[np.uint16]:
    electrons = np.empty_like(expected)
    detect_electrons(expected, electrons, np.uint64(rng.integers(2**63)), np.float32(0))
    if read_noise.any():
        electrons += read_noise * rng.standard_normal(expected.shape, np.float32)
    # Half a count is added because conversion to whole counts rounds down.
    counts = electrons / np.float32(camera.electrons_per_adu) + np.float32(camera.offset_adu + 0.5)
    clipped: NDArray[np.uint16] = np.clip(counts, 0, camera.saturation_adu).astype(np.uint16)
    return clipped

"""Contents of the training frames for a calibration: depths, noise, photons, density and size of the frames."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from models.calibration.calibration import Calibration
from models.field import apparent_range_um
from models.synthesis import PatternTable, SceneSettings

__all__ = ["labelled_range_um", "scene_for", "scenes_by_size"]

_NOISELESS_SHARE = 0.85
_NOISELESS_SNR_DB = (10.0, 34.0)
"""For cameras without read noise: these are simulated and mostly have no shot noise either."""

_NEGATIVE_DEFOCUS_SHARE = 0.12
_WIDEST_PX = 384
"""Side of the widest training frames. Zero padding marks the edge of a frame. A network that is trained on small frames
alone relies on it, and misses emitters in the middle of a camera's frame."""

_LEAST_RELATIVE_WORK = 0.8
"""A step of wider frames has fewer of them, but at least one; its cost may grow by at most the inverse of this."""


def scene_for(calibration: Calibration, table: PatternTable) -> SceneSettings:
    """Contents of the training frames for a calibration: its depths, its camera's noise, its beads' variation."""
    low, high = labelled_range_um(calibration)
    read_noise = calibration.camera.read_noise_e
    noiseless = read_noise == 0
    any_camera = SceneSettings()
    # Below this a network is trained for the read noise of all cameras, so that it serves other cameras too.
    noisy = read_noise > any_camera.read_noise_e[1]
    radius = float(table.radius_at_px(np.linspace(low, high, 50)).max())
    # Wider than the widest pattern, so that every frame shows some background.
    side = int(np.clip(32 * math.ceil(3.6 * radius / 32), 128, 192))
    area_share = (side / 192) ** 2
    return SceneSettings(
        shape=(side, side),
        count=(1, max(10, round(110 * area_share))),
        z_range_um=(low, high),
        beyond_um=float(np.clip(table.z_last_um - high, 0.0, 8.0)),
        wrong_side_share=_NEGATIVE_DEFOCUS_SHARE if _distinguishes_sign_of_defocus(calibration) else 0.0,
        background_e=(any_camera.background_e[0] + (0.1 * read_noise if noisy else 0.0), 50.0 + 10 * read_noise),
        read_noise_e=(0.8 * read_noise, 1.2 * read_noise) if noisy else any_camera.read_noise_e,
        photons=_photons(calibration),
        noiseless_share=_NOISELESS_SHARE if noiseless else 0.0,
        snr_db=_NOISELESS_SNR_DB if noiseless else any_camera.snr_db,
        size_variation=calibration.size_variation,
    )


def labelled_range_um(calibration: Calibration) -> tuple[float, float]:
    """Labelled depths: apparent depths of emitters in the calibration's range."""
    planes = calibration.psf.z_um
    if calibration.field is None:
        return calibration.z_range_um
    return apparent_range_um(calibration.field, calibration.z_range_um, (float(planes[0]), float(planes[-1])))


def _photons(calibration: Calibration) -> tuple[float, float] | None:
    """Photo-electrons of the brightest emitter of a frame, from the calibration's beads; None if unknown."""
    known = calibration.report.get("photons_range")
    return None if known is None else (known[0] / 10, known[1] * 2)


def _distinguishes_sign_of_defocus(calibration: Calibration) -> bool:
    """Whether the PSF at negative defocus differs from that at the same positive defocus."""
    psf = calibration.psf
    reach = min(-psf.z_um[0], psf.z_um[-1], 6.0)
    if reach < 2.0:
        return False
    x = np.arange(-10, 11) * psf.pixel_size_um
    near = psf.evaluate(x[None, :], x[:, None], np.array(-reach))
    far = psf.evaluate(x[None, :], x[:, None], np.array(reach))
    return bool(np.corrcoef(near.ravel(), far.ravel())[0, 1] < 0.9)


def scenes_by_size(scene: SceneSettings, batch: int) -> list[tuple[SceneSettings, int]]:
    """Scenes of the same density with frames of several sizes, each with the number of frames of a step.

    Parameters
    ----------
    scene : SceneSettings
        Scene of the smallest frames.
    batch : int
        Number of these in a step; of wider ones there are fewer, for about the same work.

    Returns
    -------
    list of (SceneSettings, int)
        The given scene, and others up to the width `_WIDEST_PX`.
    """
    kinds, times = [(scene, batch)], 2
    height, width = scene.shape
    while times * max(height, width) <= _WIDEST_PX and batch >= _LEAST_RELATIVE_WORK * times**2:
        fewest, most = (count * times**2 for count in scene.count)
        wider = replace(scene, shape=(height * times, width * times), count=(fewest, most))
        kinds.append((wider, max(round(batch / times**2), 1)))
        times += 1
    return kinds

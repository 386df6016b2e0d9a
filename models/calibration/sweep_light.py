"""Light of the sample at each plane of a sweep: dark planes, and light that is not steady.

Light is compared at a scale beyond the patterns, which defocus does not change.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from models.calibration.checked_sweep import CheckedSweep
from models.calibration.plane_names import named_planes, runs
from models.calibration.sweep import Sweep
from models.errors import DataError
from models.quantities import SWEEP_PLANES

__all__ = ["dark_planes", "light_of_planes", "trimmed_to_light", "unsteady_light_notes"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
# Scale of the comparison: blocks of pixels, and blur in blocks.
_BLOCK_PX = 4
_BLUR_BLOCKS = 2.0
# Correlation of neighbouring planes at that scale: 0.9 and more with light on, 0 in noise alone.
_ALIKE = 0.5
# A dark plane has less than this share of the sweep's light, and less than `_DROP` of that of the next lit plane:
# light that fades slowly (bleaching, patterns that outgrow the field) is no dark plane.
_DARK_SHARE = 0.1
_DROP = 0.25
# Larger changes of the light from plane to plane give a note; lamps are steady to 2 %.
_STEADY_SHARE = 0.05


def light_of_planes(planes: F32) -> F64:
    """Light of the sample at each plane, relative to the brightest plane, shape (Z,); 1 everywhere without any light.

    Parameters
    ----------
    planes : ndarray of float32, shape (Z, H, W)
        Means over the repeats, ADU.
    """
    coarse = np.stack([_coarse(plane) for plane in planes])
    pattern = coarse.mean(axis=0)
    light = np.einsum("kij,ij->k", coarse, pattern) / max(float((pattern**2).sum()), 1e-12)
    light /= max(float(light.max()), 1e-12)
    lit = light >= _DARK_SHARE
    lengths = np.sqrt(np.einsum("kij,kij->k", coarse, coarse))
    alike = np.einsum("kij,kij->k", coarse[:-1], coarse[1:]) / np.maximum(lengths[:-1] * lengths[1:], 1e-12)
    both = alike[lit[:-1] & lit[1:]]
    if len(both) == 0 or np.median(both) < _ALIKE:
        return np.ones(len(planes))
    return np.asarray(light, np.float64)


def _coarse(plane: F32) -> F64:
    """A plane in blocks, blurred, minus its mean."""
    height, width = (extent // _BLOCK_PX * _BLOCK_PX for extent in plane.shape)
    blocks = plane[:height, :width].reshape(height // _BLOCK_PX, _BLOCK_PX, width // _BLOCK_PX, _BLOCK_PX)
    smooth = ndimage.gaussian_filter(blocks.mean(axis=(1, 3), dtype=np.float64), _BLUR_BLOCKS)
    return np.asarray(smooth - smooth.mean(), np.float64)


def dark_planes(light: F64) -> NDArray[np.bool_]:
    """Planes without light, shape (Z,), of planes with `light` (Z,)."""
    dark = light < _DARK_SHARE
    if dark.all():
        return np.zeros_like(dark)
    for first, last in runs(dark):
        beside = [light[index] for index in (first - 1, last + 1) if 0 <= index < len(light)]
        if light[first : last + 1].max() > _DROP * min(beside):
            dark[first : last + 1] = False
    return dark


def trimmed_to_light(sweep: Sweep) -> CheckedSweep:
    """The sweep without dark planes at its ends.

    Raises
    ------
    DataError
        When planes in between are dark, or too few are left.
    """
    light = light_of_planes(sweep.mean_planes())
    dark = dark_planes(light)
    if not dark.any():
        return CheckedSweep(sweep)
    lit = np.flatnonzero(~dark)
    inner = dark[lit[0] : lit[-1] + 1]
    dark_share = float(light[dark].max())
    if inner.any() or len(lit) < SWEEP_PLANES.low:
        raise DataError(
            f"{named_planes(np.flatnonzero(dark))} dark: {'they have' if dark.sum() > 1 else 'it has'} less than "
            f"{max(dark_share, 0.01):.0%} of the light of the others, so the light was off.",
            "Check shutter, lamp and trigger, and sweep again; dark planes may only be at the ends.",
        )
    note = (
        f"{named_planes(np.flatnonzero(dark))} dark (less than {max(dark_share, 0.01):.0%} of the light of the others) "
        f"and left out; check when the shutter opens and closes."
    )
    kept = slice(int(lit[0]), int(lit[-1]) + 1)
    return CheckedSweep(replace(sweep, planes=sweep.planes[kept], z_um=sweep.z_um[kept]), (note,))


def unsteady_light_notes(light: F64) -> tuple[str, ...]:
    """Note for the user when the light (Z,) of the planes is not steady."""
    share = _unsteadiness(light)
    if share < _STEADY_SHARE:
        return ()
    return (
        f"The light is not steady: it changes by {share:.0%} from plane to plane (down to "
        f"{light.min():.2f} of the brightest). The pattern is not affected, but check the lamp.",
    )


def _unsteadiness(light: F64) -> float:
    """Relative deviation of the light of a plane from that of its neighbours, as a standard deviation."""
    middle = (light[:-2] + light[2:]) / 2
    departure = light[1:-1] / np.maximum(middle, _DARK_SHARE) - 1
    # A plane minus the mean of two others has 1.5 times the variance of one.
    # About zero, not about the median: light that alternates has two values.
    spread = 1.4826 * float(np.median(np.abs(departure)))
    return spread / math.sqrt(1.5)

"""How much of a map of static light emitters explain: detections of a model in the map, fitted jointly to it.

The fit is on squares of 4 pixels, in few steps, and a few emitters that the
network missed are added from its residual: 20 to 100 ms, every thousand frames.
Immobile beads are fitted to 2 %; autofluorescence would need far more emitters
than are detected in it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from models.binning import binned_psf, whole_bins
from models.errors import DataError
from models.fit.joint_fit import JointFit, distribute_light
from models.fit.residual_search import strongest
from models.fit.scale import FitScale, fit_range_um

if TYPE_CHECKING:
    from models.localization import Localizer

__all__ = ["ExplainedShare"]

F32 = NDArray[np.float32]

_PROBABILITY = 0.5
"""Least probability of a detection that takes part."""

_BINNING = 4
_LIGHT_ROUNDS = 30
_ITERATIONS = 8

_LARGEST_PX = 512

_DEPTH_STEP_UM, _MISSED_SIGNIFICANCE = 1.5, 6.0
_OF_BEST, _APART = 0.25, 0.2
_MOST_MISSED = 6
"""Emitters that are added from the residual, as in `models.fit.refiner`. A model detects most of the bright ones."""

_FEWEST_SQUARES, _FEWEST_SEARCHED = 8, 32
"""Smallest side of a map that is fitted, and in whose residual is searched; in squares. Wide patterns need room."""


class ExplainedShare:
    """Share of the variance of a map that the emitters of a model explain.

    Parameters
    ----------
    localizer : Localizer
    """

    def __init__(self, localizer: Localizer) -> None:
        self._localizer = localizer

    @cached_property
    def _scale(self) -> FitScale:
        psf = self._localizer.psf
        depths = fit_range_um(psf, (float(psf.z_um[0]), float(psf.z_um[-1])))
        return FitScale(binned_psf(binned_psf(psf)), _BINNING, depths, self._localizer.camera)

    def prepare(self, shape: tuple[int, int]) -> None:
        """Compile and compute what the first call for maps of `shape` (H, W) needs, about a second."""
        self(np.ones(shape, np.float32))

    def __call__(self, light_e: F32) -> float:
        """Share of the variance of a map (H, W) in photo-electrons, 0 to 1; variance weighted by that of the noise.

        Of a large map the middle 512 x 512 pixels are taken. 1 when the PSF of the model is missing or damaged: what
        emitters explain is not known then, and nothing is removed.
        """
        try:
            scale = self._scale
        except DataError:
            return 1.0
        camera, card = self._localizer.camera, self._localizer.card
        if min(light_e.shape) < _FEWEST_SQUARES * _BINNING:
            return 0.0
        top, left = (max(size - _LARGEST_PX, 0) // 2 for size in light_e.shape)
        light_e = np.maximum(light_e[top : top + _LARGEST_PX, left : left + _LARGEST_PX], 0)
        counts = np.clip(np.rint(light_e / camera.electrons_per_adu + camera.offset_adu), 0, camera.saturation_adu)
        found = self._localizer.localize(counts.astype(np.uint16)[None], np.zeros(1, np.int64), _PROBABILITY)
        if card.field is not None:
            found = card.field.apparent(found)
        pixel_um = card.pixel_size_um
        data = whole_bins(light_e, _BINNING) + np.float32(scale.read_variance)
        middle = (_BINNING - 1) / 2
        places = np.column_stack(
            [(found.x_um / pixel_um - middle) / _BINNING, (found.y_um / pixel_um - middle) / _BINNING, found.z_um]
        )
        low, high = np.array(scale.bounds(data.shape), np.float64).T
        places = np.clip(places, low, high)
        background = max(float(np.percentile(data, 10)) - scale.read_variance, 1.0)
        fit = self._fit(data, places, background)
        if min(data.shape) >= _FEWEST_SEARCHED:
            fit = self._with_missed(data, fit)
        weight = 1 / np.maximum(data, np.float32(1))
        rest, whole = (_variance(part, weight) for part in (data - fit.expected, data))
        return float(np.clip(1 - rest / max(whole, 1e-9), 0, 1))

    def _with_missed(self, data: F32, fit: JointFit) -> JointFit:
        """The fit with the strongest emitters of its residual."""
        matched = self._scale.filter((data.shape[0], data.shape[1]), _DEPTH_STEP_UM)
        missed = matched.peaks(data - fit.expected, fit.expected, _MISSED_SIGNIFICANCE)
        if len(missed) == 0:
            return fit
        missed = strongest(missed, _OF_BEST, _APART)[:_MOST_MISSED]
        return self._fit(data, np.concatenate([fit.emitters[:, :3], missed[:, :3]]), fit.background)

    def _fit(self, data: F32, places: NDArray[np.float64], background: float) -> JointFit:
        scale = self._scale
        photons, background = distribute_light(scale.frame(data), places, background, _LIGHT_ROUNDS)
        return scale.fit(data, np.column_stack([places, photons]), background, _ITERATIONS, precise=False)


def _variance(values: NDArray[Any], weight: NDArray[Any]) -> float:
    mean = float((weight * values).sum(dtype=np.float64) / weight.sum(dtype=np.float64))
    return float((weight * (values - mean) ** 2).sum(dtype=np.float64))

"""Time of one evaluation of a joint fit, and the information about an emitter that its pixels keep.

An evaluation is the model of an image, its likelihood, the normal equations and one solution of them: a step of a fit.
Variants are cells of three sizes (`models.fit.evaluation`) and even pixels of 1, 2 and 4 camera pixels
(`models.fit.joint_fit`). They take turns in one thread, a few evaluations each. All emitters move before each
evaluation, as in a fit, so no pattern is kept.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from models.binning import binned
from models.camera import CameraModel
from models.fit.evaluation import evaluate
from models.fit.image_levels import LEVELS, ImageOptics, LevelImage
from models.fit.normal_equations import accumulate
from models.fit.prior import Prior
from models.fit.rendering import Rendered, normal_equations
from models.fit.scale import read_variance
from models.optics import reference_psf
from models.pattern_spline import PatternSpline

__all__ = ["SEED", "measure_evaluations"]

Array = NDArray[np.float64]
Step = Callable[[Array], Array]

SEED = 5_120_633

_SIDE_PX = 256
_MARGIN_PX = 51.0
"""Emitters are at least so far from the edges: in the middle 100 µm, as in the published frames."""
_DEPTHS_UM = (0.5, 99.5)
_PHOTONS = (5e3, 5e4)
_BACKGROUND_E = 10.0
_READ_NOISE_E = 1.6
_STEP = (0.2, 0.2, 0.3, 50.0)
"""Of the emitters between evaluations: pixels, µm, photons."""
_TOGETHER = 5
"""Evaluations of one variant that follow each other, as in a fit."""
_INFORMATION_DEPTHS_UM = (1.0, 3.0, 6.0, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 99.0)
_SIGMAS = ("sigma_x", "sigma_y", "sigma_z", "sigma_photons")
_PLACES = 8
"""Sub-pixel positions at each depth."""


def measure_evaluations(
    emitters: Sequence[int], rounds: int, advance: Callable[[float, str], None] = lambda _done, _what: None
) -> dict[str, Any]:
    """Time evaluations of images of 256 x 256 pixels with each number of emitters.

    Returns
    -------
    dict
        ``rows``: for each variant and number of emitters median, least and most milliseconds, and how many times faster
        than on camera pixels; ``information``: for each variant and depth the sigmas of x, y, z and photons of a single
        emitter, over those on camera pixels.
    """
    camera = CameraModel(read_noise_e=_READ_NOISE_E)
    variants = _Variants(ImageOptics(reference_psf(), camera), read_variance(camera))
    rows = []
    for number, count in enumerate(emitters):
        rng = np.random.default_rng([SEED, count])
        places = rng.uniform(_MARGIN_PX, _SIDE_PX - _MARGIN_PX, (count, 2))
        truth = np.column_stack([places, rng.uniform(*_DEPTHS_UM, count), rng.uniform(*_PHOTONS, count)])
        electrons = variants.frame(truth, rng)
        steps = variants.steps(electrons, truth)
        taken: dict[str, list[float]] = {name: [] for name in steps}
        for turn in range(rounds + 1):
            moved = truth + rng.normal(0, 1, (_TOGETHER, *truth.shape)) * _STEP
            for name, step in steps.items():
                begin_s = time.thread_time()
                for each in moved:
                    step(each)
                taken[name].append(1e3 * (time.thread_time() - begin_s) / _TOGETHER)
            advance((number + (turn + 1) / (rounds + 1)) / len(emitters), f"{count} emitters")
        pixels = float(np.median(taken["1 x 1"][1:]))
        for name, times in taken.items():
            median = float(np.median(times[1:]))
            rows.append(
                {
                    "cells": name,
                    "emitters": count,
                    "ms": round(median, 3),
                    "least_ms": round(min(times[1:]), 3),
                    "most_ms": round(max(times[1:]), 3),
                    "times_faster": round(pixels / median, 2),
                }
            )
    return {"rows": rows, "information": variants.information(np.random.default_rng(SEED)), "missing": {}}


@dataclass(frozen=True)
class _Variants:
    """Evaluations on cells of three sizes, and on even pixels of each size."""

    optics: ImageOptics
    variance: float

    @property
    def _splines(self) -> dict[int, PatternSpline]:
        return dict(zip(LEVELS, self.optics.splines, strict=True))

    def frame(self, emitters: Array, rng: np.random.Generator) -> NDArray[np.float32]:
        """One exposure of emitters."""
        light = np.full((_SIDE_PX, _SIDE_PX), _BACKGROUND_E, np.float32)
        drawn = Rendered.of(self.optics.splines[0], emitters, light.shape)
        accumulate(light, drawn.boxes, drawn.offsets, drawn.patterns, emitters, light, np.float32(self.variance))
        noisy = rng.poisson(light) + rng.normal(0, _READ_NOISE_E, light.shape)
        return noisy.astype(np.float32)

    def steps(self, electrons: NDArray[np.float32], truth: Array) -> dict[str, Step]:
        """A function for each variant that evaluates emitters and returns the step of all parameters."""
        image = self.optics.image(electrons)
        steps: dict[str, Step] = {"1, 2 and 4": self._step_on_cells(image, truth)}
        for side, spline in self._splines.items():
            data = binned(electrons, side) + np.float32(self.variance * side**2)
            steps[f"{side} x {side}"] = self._step_on_pixels(data, spline, side)
        return steps

    def _step_on_cells(self, image: LevelImage, truth: Array) -> Step:
        before = evaluate(image, truth, _BACKGROUND_E)

        def step(emitters: Array) -> Array:
            return _solved(*evaluate(image, emitters, _BACKGROUND_E, before=before).equations)

        return step

    def _step_on_pixels(self, data: NDArray[np.float32], spline: PatternSpline, side: int) -> Step:
        def step(emitters: Array) -> Array:
            return _solved(*self._pixel_equations(data, spline, side, emitters))

        return step

    def _pixel_equations(
        self, data: NDArray[np.float32], spline: PatternSpline, side: int, emitters: Array
    ) -> tuple[Array, Array]:
        """Equations of the joint fit, for x and y in pixels of `side`."""
        places = emitters.copy()
        places[:, :2] = (places[:, :2] - (side - 1) / 2) / side
        variance = np.float32(self.variance * side**2)
        drawn = Rendered.of(spline, places, (data.shape[0], data.shape[1]))
        expected = np.full(data.shape, np.float32(_BACKGROUND_E * side**2) + variance, np.float32)
        accumulate(data, drawn.boxes, drawn.offsets, drawn.patterns, places, expected, variance)
        return normal_equations(data, expected, drawn, Prior.none(len(places)))

    def information(self, rng: np.random.Generator) -> list[dict[str, Any]]:
        """Sigmas of a single emitter by depth, over those on camera pixels."""
        ratios: dict[tuple[str, float], list[Array]] = {}
        for depth_um in _INFORMATION_DEPTHS_UM:
            for _ in range(_PLACES):
                place = _SIDE_PX / 2 + rng.uniform(-2, 2, 2)
                emitter = np.array([[*place, depth_um, np.mean(_PHOTONS)]])
                electrons = self.frame(emitter, rng)
                on_cells = evaluate(self.optics.image(electrons), emitter, _BACKGROUND_E)
                sigmas = {"1, 2 and 4": _sigmas(on_cells.equations)}
                for side, spline in self._splines.items():
                    data = binned(electrons, side) + np.float32(self.variance * side**2)
                    equations = self._pixel_equations(data, spline, side, emitter)
                    sigmas[f"{side} x {side}"] = _sigmas(equations) * [side, side, 1, 1]
                for name, sigma in sigmas.items():
                    ratios.setdefault((name, depth_um), []).append(sigma / sigmas["1 x 1"])
        return [
            {
                "cells": name,
                "depth_um": depth_um,
                **{key: round(float(value), 3) for key, value in zip(_SIGMAS, np.mean(each, axis=0), strict=True)},
            }
            for (name, depth_um), each in ratios.items()
            if name != "1 x 1"
        ]


def _solved(matrix: Array, gradient: Array) -> Array:
    scale = 1 / np.sqrt(np.maximum(np.diagonal(matrix), np.finfo(np.float64).tiny))
    scaled = matrix * scale
    scaled *= scale[:, None]
    scaled.ravel()[:: len(scaled) + 1] += 1.0
    step: Array = lapack.dposv(scaled, gradient * scale, overwrite_a=True)[1] * scale
    return step


def _sigmas(equations: tuple[Array, Array]) -> Array:
    matrix = equations[0]
    scale = 1 / np.sqrt(np.diagonal(matrix))
    covariance = np.linalg.inv(matrix * np.outer(scale, scale))
    sigmas: Array = np.sqrt(np.diagonal(covariance)) * scale
    return sigmas[:4]

"""Processor time to fit a frame: the refinement and the baselines without a network, frame by frame in turns.

Processor time of one thread. Frames are those of `reproduce snr` at 20 dB with
the exact pattern, which all methods know. The table also has the number of
localizations, because the time depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from evaluation.methods.registry import Method, MethodMissing, make_method
from evaluation.optics.benchmark_optics import exact_optics
from evaluation.optics.frames import FRAME_SHAPE, PUBLISHED_CAMERA, Snr, expose, middle_box, uniform_emitters
from models.weights import reference_model

__all__ = ["FRAMES_SEED", "measure_fitting"]

FRAMES_SEED = 7_310_221
"""Of the fitted frames."""

_METHODS = ("cascade", "cascade --refine", "mle", "ls", "mle-multi")
_EMITTERS = (20, 64)
_LIGHT = Snr(20.0)
_LEAST_SCORE = 0.5
"""Least score of a counted localization; the tuned thresholds of `reproduce` lie around it."""


def measure_fitting(count: int, advance: Callable[[float, str], None] = lambda _done, _what: None) -> dict[str, Any]:
    """Time the methods on `count` frames of each number of emitters.

    Returns
    -------
    dict
        ``rows``: for each method and number of emitters the median time of a frame, the range, the emitters of a
        frame over the median time, and the localizations of a frame; ``missing``: why a method has no rows.
    """
    optics = exact_optics()
    methods: dict[str, Method] = {}
    missing: dict[str, str] = {}
    for name in _METHODS:
        folder = reference_model("full") if name.startswith("cascade") else None
        try:
            methods[name] = make_method(name, optics.calibration, PUBLISHED_CAMERA, folder)
        except MethodMissing as error:
            missing[name] = str(error)
    box = middle_box(FRAME_SHAPE, optics.pixel_size_um, optics.depths_um)
    frames = {}
    for points in _EMITTERS:
        rng = np.random.default_rng([FRAMES_SEED, points])
        # The first one prepares kernels and memory.
        emitters = [uniform_emitters(rng, points, box) for _ in range(count + 1)]
        frames[points] = expose(optics, emitters, _LIGHT, FRAME_SHAPE, rng).counts
    taken: dict[tuple[str, int], list[float]] = {(name, points): [] for name in methods for points in _EMITTERS}
    localized: dict[tuple[str, int], list[int]] = {key: [] for key in taken}
    for number in range(count + 1):
        for name, points in taken:
            begin_s = time.process_time()
            found = methods[name](frames[points][number : number + 1], np.array([number]))
            taken[name, points].append(time.process_time() - begin_s)
            localized[name, points].append(int((found.probability >= _LEAST_SCORE).sum()))
            advance((number + 1) / (count + 1), f"{name}, {points} emitters")
    rows = []
    for (name, points), times in taken.items():
        spent = float(np.median(times[1:]))
        rows.append(
            {
                "method": name,
                "emitters": points,
                "s_per_frame": round(spent, 4),
                "least_s": round(min(times[1:]), 4),
                "most_s": round(max(times[1:]), 4),
                "emitters_per_s": round(points / spent, 1),
                "answers_per_frame": round(float(np.mean(localized[name, points][1:])), 1),
                "frames": count,
            }
        )
    return {"rows": rows, "missing": missing}

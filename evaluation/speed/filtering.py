"""Time per frame of the image filter by degree of the fit, and of the joint fit of single frames, in one thread.

The reference scene moves; its candidates are those of the shipped live network, found before. All degrees take the
same frame, one after the other, each with tracks of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.speed.movie import SCENE_SEED
from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.tables import Localizations
from models.tracking.image_filter import FULL, Effort
from models.tracking.image_tracker import ImageTracker, one_thread
from models.weights import reference_model
from service.engine.fit_time import EFFORTS
from service.process.machine import machine

__all__ = ["measure_filter"]

_SIDE_PX = 256
_FPS = 100.0
_SETTLING_FRAMES = 20
"""Tracks are not yet confirmed."""
_EVERY = 10
"""The joint fit of single frames takes so long that it is made for one in so many."""
_LEAST_PROBABILITY = 0.05
"""Of candidates, as live."""
_JOINT_FIT = "joint fit of single frames"

_DEGREES: dict[str, Effort | None] = {
    "tracks alone": None,
    "few steps, without search": replace(EFFORTS["steps"], search_every=0),
    "few steps": EFFORTS["steps"],
    "full, without search": replace(FULL, search_every=0),
    "full": FULL,
}


def measure_filter(
    emitters: Sequence[int], frames: int, advance: Callable[[float, str], None] = lambda _done, _what: None
) -> dict[str, Any]:
    """Measure all degrees.

    Parameters
    ----------
    emitters : sequence of int
        In an image of 256 x 256 pixels.
    frames : int
        That are measured, after those in which the tracks begin.
    advance : callable
        Called with the share that is done, and what.

    Returns
    -------
    dict
        ``rows``: for each degree and number of emitters the median, mean and 99th percentile of the processor time of a
        frame in ms, and the number of frames; ``machine``.
    """
    localizer = Localizer.load(reference_model("live"), "cpu")
    rows = []
    for done, count in enumerate(emitters):
        advance(done / len(emitters), f"{count} emitters")
        taken = _measure(localizer, count, frames)
        rows += [{"degree": degree, "emitters": count} | _figures(times) for degree, times in taken.items()]
    return {"rows": rows, "missing": {}, "machine": machine()}


def _measure(localizer: Localizer, emitters: int, frames: int) -> dict[str, list[float]]:
    """Processor times of the frames by degree, ms."""
    model = localizer.image_model
    if model is None:
        raise DataError("The shipped model has no PSF.", "Install the package again.")
    scene, camera = reference_scene((_SIDE_PX, _SIDE_PX), emitters, SCENE_SEED), reference_camera()
    refiner = localizer.refiner()
    trackers = {degree: model.tracker() for degree in _DEGREES}
    taken: dict[str, list[float]] = {degree: [] for degree in (*_DEGREES, _JOINT_FIT)}
    with one_thread():
        for number in range(_SETTLING_FRAMES + frames):
            counts = camera.expose(scene.render((number + 0.5) / _FPS, 1 / _FPS, 0.0), SCENE_SEED + number)
            found = localizer.localize(counts[None], np.array([number]), _LEAST_PROBABILITY)
            measured = number - _SETTLING_FRAMES
            for degree, tracker in trackers.items():
                begun = time.thread_time()
                _step(tracker, number, found, counts, _DEGREES[degree])
                if measured >= 0:
                    taken[degree].append(1e3 * (time.thread_time() - begun))
            if measured >= 0 and measured % _EVERY == 0:
                begun = time.thread_time()
                localizer.refine(counts, found, number, refiner)
                taken[_JOINT_FIT].append(1e3 * (time.thread_time() - begun))
    return taken


def _step(
    tracker: ImageTracker, number: int, found: Localizations, counts: NDArray[np.uint16], effort: Effort | None
) -> None:
    tracker.step_image(number / _FPS, number, found, counts, None, effort)


def _figures(times: list[float]) -> dict[str, float | int]:
    return {
        "frames": len(times),
        "p50_ms": round(float(np.median(times)), 3),
        "mean_ms": round(float(np.mean(times)), 3),
        "p99_ms": round(float(np.percentile(times, 99)), 3),
    }

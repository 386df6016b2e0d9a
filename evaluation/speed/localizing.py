"""Processor time to localize a frame: both shipped sizes, every number format, one frame and a batch at a time.

The variants take turns, frame by frame, so that other load of the machine
affects all alike; the result is the median of each. Processor time of one
thread is measured, waiting is not. Other runtimes are optional
(`evaluation.speed.runtimes`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from evaluation.speed.movie import SCENE_SEED
from evaluation.speed.runtimes import RuntimeMissing, other_localizer
from models.localization import Localizer
from models.networks import architecture_named
from models.precision import can_quantize, select_device, select_precision
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.process.machine import machine

__all__ = ["measure_localizing"]

_EMITTERS = 20
_OURS = "ours"


def measure_localizing(
    sizes: Sequence[int],
    batches: Sequence[int],
    rounds: int,
    advance: Callable[[int], None] = lambda _done: None,
    *,
    runtimes: Sequence[str] = (),
) -> dict[str, Any]:
    """Time the shipped models on simulated frames.

    Parameters
    ----------
    sizes : sequence of int
        Rows and columns of a frame.
    batches : sequence of int
        Frames at once.
    rounds : int
        How often each variant has its turn.
    advance : callable
        Gets the number of rounds done.
    runtimes : sequence of str
        Names of `evaluation.speed.runtimes.RUNTIMES` that take part.

    Returns
    -------
    dict
        ``rows``: one for each model, runtime, number format, size and batch, with ms of processor time per frame,
        frames per second of one core, and the time over that of float32; ``missing``: why a runtime has no rows; and
        the machine.
    """
    torch.set_num_threads(1)
    names = architecture_named("cascade").sizes
    localizers = {
        (size, _OURS, precision): Localizer.load(reference_model(size), device="cpu", precision=precision)
        for size in names
        for precision in _formats(size)
    }
    frames = {side: _frames(side, max(batches)) for side in sizes}
    missing: dict[str, str] = {}
    for runtime in runtimes:
        try:
            for size in names:
                made = other_localizer(size, runtime, frames[sizes[0]][: batches[0]])
                kind, precision = runtime.split(", ")
                localizers[size, kind, precision] = made
        except RuntimeMissing as error:
            missing[runtime] = str(error)
    variants = [(name, side, batch) for name in localizers for side in sizes for batch in batches]
    taken: dict[Any, list[float]] = {variant: [] for variant in variants}
    for done in range(rounds + 1):
        for name, side, batch in variants:
            begin_s = time.process_time()
            localizers[name].localize(frames[side][:batch], np.arange(batch))
            taken[name, side, batch].append((time.process_time() - begin_s) / batch)
        advance(done)
    # The first round prepares kernels and memory.
    seconds = {variant: float(np.median(times[1:])) for variant, times in taken.items()}
    return {
        "rows": [
            {
                "model": size,
                "runtime": runtime,
                "precision": precision,
                "size": side,
                "batch": batch,
                "ms_per_frame": round(1e3 * spent, 2),
                "frames_per_s": round(1 / spent, 1),
                "over_float32": round(spent / seconds[(size, _OURS, "float32"), side, batch], 2),
            }
            for ((size, runtime, precision), side, batch), spent in seconds.items()
        ],
        "missing": missing,
        "rounds": rounds,
        "machine": machine(),
    }


def _formats(size: str) -> list[str]:
    device = select_device("cpu")
    formats = ["float32"]
    if select_precision(device) == torch.bfloat16:
        formats.append("bfloat16")
    if size == "live" and can_quantize(device):
        formats.append("int8")
    return formats


def _frames(side: int, count: int) -> Any:
    scene, camera = reference_scene((side, side), _EMITTERS, SCENE_SEED), reference_camera()
    return np.stack([camera.expose(scene.render(0.01 * n, 0.009, 0.0), n) for n in range(count)])

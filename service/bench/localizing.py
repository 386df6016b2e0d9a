"""What it costs to localize a frame: both shipped sizes, every number format, one frame and a batch at a time.

The variants take turns, frame by frame, so that what else the machine does
falls on all of them alike; of each the median counts. Processor time of one
thread is measured, waiting is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from models.localization import Localizer
from models.networks import architecture_named
from models.precision import can_quantize, chosen_device, chosen_precision
from models.scene import reference_camera, reference_scene
from models.weights import reference_model
from service.machine import machine

__all__ = ["measure_localizing"]

_EMITTERS = 20


def measure_localizing(
    sizes: Sequence[int], batches: Sequence[int], rounds: int, advance: Callable[[int], None] = lambda _done: None
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

    Returns
    -------
    dict
        ``rows``: one for each model, number format, size and batch, with ms of processor time per frame, frames per
        second of one core, and the time over that of float32; and the machine.
    """
    torch.set_num_threads(1)
    localizers = {
        (size, precision): Localizer.load(reference_model(size), device="cpu", precision=precision)
        for size in architecture_named("cascade").sizes
        for precision in _formats(size)
    }
    frames = {side: _frames(side, max(batches)) for side in sizes}
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
                "precision": precision,
                "size": side,
                "batch": batch,
                "ms_per_frame": round(1e3 * spent, 2),
                "frames_per_s": round(1 / spent, 1),
                "over_float32": round(spent / seconds[(size, "float32"), side, batch], 2),
            }
            for ((size, precision), side, batch), spent in seconds.items()
        ],
        "rounds": rounds,
        "machine": machine(),
    }


def _formats(size: str) -> list[str]:
    device = chosen_device("cpu")
    formats = ["float32"]
    if chosen_precision(device) == torch.bfloat16:
        formats.append("bfloat16")
    if size == "live" and can_quantize(device):
        formats.append("int8")
    return formats


def _frames(side: int, count: int) -> Any:
    scene, camera = reference_scene((side, side), _EMITTERS, 1), reference_camera()
    return np.stack([camera.expose(scene.render(0.01 * n, 0.009, 0.0), n) for n in range(count)])

"""Frames of known static light, with and without a spot of light that moves."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.camera import CameraModel

SHAPE = (64, 80)
CAMERA = CameraModel(100.0, 0.5, 1.6, 16, "simulated")


def structure(seed: int = 0) -> Any:
    """Smooth blotches of 10 to 40 photo-electrons per pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices(SHAPE)
    light = np.full(SHAPE, 20.0)
    for _ in range(12):
        row, column = rng.random(2) * SHAPE
        light += rng.uniform(5, 20) * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * 5.0**2))
    return light.astype(np.float32)


def spot(number: int, speed_px: float = 0.7, photons: float = 4000.0, width_px: float = 4.0) -> Any:
    """Light of an emitter that crosses the frame along its middle row, again and again."""
    rows, columns = np.indices(SHAPE)
    column = (speed_px * number) % (SHAPE[1] + 40) - 20
    pattern = np.exp(-((rows - SHAPE[0] / 2) ** 2 + (columns - column) ** 2) / (2 * width_px**2))
    return (photons * pattern / (2 * np.pi * width_px**2)).astype(np.float32)


def exposed(light: Any, count: int, moving: bool = False, lamp: Any = None, first: int = 0) -> Any:
    """`count` frames of counts; `lamp(n)` is the brightness of frame n."""
    frames = []
    for number in range(first, first + count):
        expected = light + spot(number) if moving else light
        factor = 1.0 if lamp is None else lamp(number)
        frames.append(CAMERA.expose((expected * factor).astype(np.float32), seed=1000 + number))
    return np.stack(frames)

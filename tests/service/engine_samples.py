"""A scene of one moving dot and a localizer that finds it: what the stages of the engine run on in tests."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from models.camera import CameraModel
from models.model_card import ModelCard
from models.tables import Localizations

PIXEL_UM = 0.65
SHAPE = (48, 64)


class DotScene:
    """One bright dot that moves to the right, and a count of what was drawn."""

    shape = SHAPE
    pixel_size_um = PIXEL_UM

    def __init__(self) -> None:
        self.rendered = 0

    def truth(self, time_s: Any, stage_um: Any, xy_um: Any = (0.0, 0.0)) -> Any:
        return np.array([[0.0, (10 + 5 * time_s) * PIXEL_UM + xy_um[0], 20 * PIXEL_UM + xy_um[1], 30.0 - stage_um]])

    def render(self, time_s: Any, exposure_s: Any, stage_um: Any, xy_um: Any = (0.0, 0.0)) -> Any:
        self.rendered += 1
        _, x_um, y_um, _ = self.truth(time_s, stage_um, xy_um)[0]
        rows, columns = np.indices(SHAPE, np.float32)
        distance = (columns - x_um / PIXEL_UM) ** 2 + (rows - y_um / PIXEL_UM) ** 2
        return (1000 * np.exp(-distance / 8) + 5).astype(np.float32)


class DotLocalizer:
    """Centre of mass of what is bright, if anything is.

    Waits for `gate` before each batch; raises when told to.
    """

    threshold = 0.5
    image_model: Any = None

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.failure = None
        self.batches = []
        self.light = None

    def static_light(self, mode: Any) -> Any:
        return self.light if mode != "off" else None

    def localize(self, frames: Any, frame_numbers: Any, least: Any = None) -> Any:
        self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.batches.append(len(frames))
        weights = np.where(frames > 400, frames, 0).astype(float)
        total = weights.sum(axis=(1, 2))
        rows, columns = np.indices(SHAPE)
        lit = total > 0
        weights, total = weights[lit], total[lit]
        one = np.ones(len(total))
        return Localizations(
            frame=np.asarray(frame_numbers, np.int64)[lit],
            x_um=(weights * columns).sum(axis=(1, 2)) / total * PIXEL_UM,
            y_um=(weights * rows).sum(axis=(1, 2)) / total * PIXEL_UM,
            z_um=30.0 * one,
            photons=total,
            background=5 * one,
            probability=one,
            sigma_x_um=0.2 * one,
            sigma_y_um=0.2 * one,
            sigma_z_um=0.5 * one,
            chi2=np.full(len(total), np.nan),
        )


class DividingLocalizer(DotLocalizer):
    """A point that divides after frame 30, whatever is in the frames: from frame 36 on there are two."""

    def localize(self, frames: Any, frame_numbers: Any, least: Any = None) -> Any:
        numbers = np.asarray(frame_numbers, np.int64)
        apart = np.maximum(numbers - 30, 0) * 0.2
        two = apart > 1.0
        frame = np.concatenate([numbers, numbers[two]])
        columns = {name: np.full(len(frame), 0.9) for name in Localizations.names()}
        columns |= {f"sigma_{axis}_um": np.full(len(frame), 0.1) for axis in "xyz"}
        columns |= {"frame": frame, "x_um": 15 + np.concatenate([np.where(two, apart, 0), -apart[two]])}
        found = Localizations.from_columns(columns | {"y_um": 10 * columns["y_um"], "z_um": 30 * columns["z_um"]})
        return found.select(np.argsort(frame, kind="stable"))


def dot_camera() -> Any:
    return CameraModel(100.0, 1.0, 1.0, 16, "simulated")


def dot_model() -> Any:
    return ModelCard(
        id="dots",
        architecture="none",
        network={},
        pixel_size_um=PIXEL_UM,
        z_range_um=(0.0, 100.0),
        axial_scale=1.0,
        camera=dot_camera(),
        field=None,
        calibration_id="none",
        threshold=0.5,
    )

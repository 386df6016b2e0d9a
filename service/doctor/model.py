"""The model: whether it loads, fits the optics, and keeps up with the camera."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from service.doctor.findings import Finding, checked, error, ok, warning
from service.doctor.microscope import Seen
from service.settings import Settings

if TYPE_CHECKING:
    from service.engine.loaded_model import LoadedModel

__all__ = ["check_model"]

_SHAPE, _FPS = (256, 256), 100.0
"""What is asked of the network when the camera is not known."""

_TRIALS = 10
_AXIAL_TOLERANCE = 0.02


def check_model(settings: Settings, seen: Seen | None) -> Iterator[Finding]:
    """Load the active model, compare it with the microscope, and measure the network.

    Raises
    ------
    DataError
        When the model is missing or damaged.
    """
    import numpy as np

    from service.engine.loaded_model import load_model
    from service.files.library import Library

    folder = Library(settings.data_dir, settings.model).active_folder()
    loaded = load_model(folder, settings)
    card, localizer = loaded.model, loaded.localizer
    if seen is None:
        yield ok("model", f"The model {card.id} loads; it was not compared with a microscope.", id=card.id)
    else:
        yield from checked("model", partial(_optics, settings, loaded, seen))

    shape = _SHAPE if seen is None else seen.description.frame_shape(seen.camera)
    fps = _FPS if seen is None or seen.fps is None else seen.fps
    localizer.warm_up(shape, 1)
    most = settings.engine.torch_threads or os.cpu_count() or 1
    threads = localizer.choose_threads(shape, 1 / fps, most) if localizer.device.type == "cpu" else 0
    blank = np.full((1, *shape), round(localizer.camera.offset_adu), np.uint16)
    spent = []
    for number in range(_TRIALS):
        begin_s = time.perf_counter()
        localizer.localize(blank, np.array([number]))
        spent.append(time.perf_counter() - begin_s)
    frame_s = min(spent)  # other programs only make it longer
    precision = str(localizer.precision).removeprefix("torch.")
    about = {"precision": precision, "threads": threads, "frame_ms": round(1e3 * frame_s, 2), "fps": round(fps, 1)}
    what = f"The network takes {1e3 * frame_s:.1f} ms for a frame of {shape[1]} x {shape[0]} px in {precision}" + (
        f" on {threads} of {os.cpu_count()} threads" if threads else f" on {localizer.device}"
    )
    if frame_s > 1 / fps:
        yield warning(
            "precision and threads",
            f"{what}; at {fps:.0f} frames/s there are {1e3 / fps:.1f} ms.",
            "Measure again when the computer is idle; then use a smaller ROI, a model of the size live, or a GPU.",
            **about,
        )
    else:
        yield ok("precision and threads", f"{what}, and keeps up with {fps:.0f} frames/s.", **about)
    if precision == "float32" and localizer.device.type == "cpu" and settings.engine.precision == "auto":
        yield warning(
            "precision and threads",
            "The model is evaluated in float32, the slowest arithmetic.",
            "Train a model in the size live, which is evaluated in int8, or use a processor with bfloat16.",
        )


def _optics(settings: Settings, loaded: LoadedModel, seen: Seen) -> Iterator[Finding]:
    """Whether pixel size, bit depth, depth per travel of the drive and depths of model and microscope agree."""
    from service.engine.loaded_model import check_fit
    from service.engine.sweep.geometry import axis_of

    card, part = loaded.model, settings.microscope
    check_fit(loaded.localizer, seen.description, seen.camera)
    yield ok("model", f"The model {card.id} fits the camera ({card.pixel_size_um:g} µm per pixel).", id=card.id)
    if seen.description.focus_stage is None:
        return
    scale = axis_of(part, seen.description).axial_scale
    if abs(scale / card.axial_scale - 1) > _AXIAL_TOLERANCE:
        yield warning(
            "model",
            f"The model {card.id} has {card.axial_scale:.3f} µm of depth per µm of the drive; with the settings it is "
            f"{scale:.3f} µm.",
            "Correct immersion_index, sample_index and moves, or calibrate and train with this sample.",
        )
    travel_um = (card.z_range_um[1] - card.z_range_um[0]) / card.axial_scale
    room_um = part.stage_high_um - part.stage_low_um
    if travel_um > room_um:
        yield error(
            "model",
            f"The depths of model {card.id} need {travel_um:.0f} µm of the focus drive, and the soft limits allow "
            f"{room_um:.0f} µm.",
            "Widen microscope.stage_low_um and stage_high_um, if that is safe, or calibrate a smaller range.",
        )

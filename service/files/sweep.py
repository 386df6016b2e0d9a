"""The files of a sweep in the folder of a calibration job, from the engine or an upload, for the worker."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.files.jobs import INPUT

if TYPE_CHECKING:
    from models.calibration.sweep import Sweep

__all__ = ["SWEEP_FILES", "clear_sweep", "read_sweep", "sweep_of_job"]

SWEEP_FILES = ("sweep.npy", "sweep.json")
"""Files of a sweep: planes of shape (Z, R, H, W), and their positions, pixel size, direction and axial scale."""


def read_sweep(folder: Path) -> tuple[Sweep, dict[str, Any]]:
    """The sweep in a job's folder, and the other values of sweep.json: ``sign``, ``axial_scale``."""
    import numpy as np

    from models.calibration.sweep import Sweep

    known = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    planes = np.load(folder / "sweep.npy", mmap_mode="r")
    return Sweep(planes, np.array(known["stage_um"]), known["pixel_size_um"], known["bit_depth"]), known


def sweep_of_job(
    folder: Path, request: Mapping[str, Any], most_bytes: int, note: Callable[[str], None]
) -> tuple[Sweep, dict[str, Any]]:
    """The sweep that the engine took or an upload brought, with its ``sign`` and ``axial_scale``.

    Parameters
    ----------
    folder : Path
        Of the job.
    request : mapping
        Of the job.
    most_bytes : int
        Largest size of unpacked files.
    note : callable
        Called with each remark for the user.

    Raises
    ------
    MicroscopeError, DataError
        When the uploaded files are no sweep, or contradict the request.
    """
    files = folder / INPUT
    if not files.is_dir():
        return read_sweep(folder)
    from service.files.recorded_sweep import open_recorded_sweep
    from service.files.uploaded_sweep import sweep_path

    lengths = (request["pixel_size_um"], request["z_step_um"], request["z_start_um"])
    sweep = open_recorded_sweep(sweep_path(files, most_bytes), note, *lengths)
    return sweep, {"sign": -1 if request["flip_z"] else 1, "axial_scale": request["axial_scale"]}


def clear_sweep(folder: Path) -> None:
    """Remove the sweep from a job's folder, if there is one, whether the engine wrote it or an upload brought it.

    Raises
    ------
    OSError
        When it cannot be removed.
    """
    for name in SWEEP_FILES:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / INPUT, ignore_errors=True)

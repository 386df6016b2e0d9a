"""The files of a sweep in the folder of a calibration job. The engine writes them, the worker reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.calibration.sweep import Sweep

__all__ = ["SWEEP_FILES", "clear_sweep", "read_sweep"]

SWEEP_FILES = ("sweep.npy", "sweep.json")
"""Files of a sweep: planes of shape (Z, R, H, W), and their positions, pixel size, direction and axial scale."""


def read_sweep(folder: Path) -> tuple[Sweep, dict[str, Any]]:
    """The sweep in a job's folder, and the other values of sweep.json: ``sign``, ``axial_scale``."""
    import numpy as np

    from models.calibration.sweep import Sweep

    known = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    planes = np.load(folder / "sweep.npy", mmap_mode="r")
    return Sweep(planes, np.array(known["stage_um"]), known["pixel_size_um"], known["bit_depth"]), known


def clear_sweep(folder: Path) -> None:
    """Remove the sweep from a job's folder, if there is one.

    Raises
    ------
    OSError
        When it cannot be removed.
    """
    for name in SWEEP_FILES:
        (folder / name).unlink(missing_ok=True)

"""Localizations kept on disk while an experiment runs, so that an interrupted experiment can be resumed.

The number of frames for a slow method depends on the processor time spent so
far, so the processor time is kept with the localizations. A resumed experiment
then uses the same frames and gives the same tables without the work.

The key of a batch is a digest of the method's label, the camera model and the
counts of the frames, so results of other frames are never used. Everything
else that the results depend on (code, calibration, models) is the identity of
the run, which `reproduce` checks before it opens the folder.
"""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.tables import Localizations

__all__ = ["KeptResults"]

_SECONDS = "processor_seconds"


class KeptResults:
    """Localizations by method, camera model and frames.

    Parameters
    ----------
    folder : Path
        Made when the first batch is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find(
        self, label: str, camera: CameraModel, counts: NDArray[np.uint16], first: int
    ) -> tuple[Localizations, float] | None:
        """Localizations in frames (B, H, W), numbered from `first`, and the processor time that they took.

        None when they were not kept, or the file is damaged.
        """
        try:
            with self._path(label, camera, counts, first).open("rb") as file, np.load(file) as kept:
                return Localizations.from_columns(kept), float(kept[_SECONDS])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None

    def keep(
        self,
        label: str,
        camera: CameraModel,
        counts: NDArray[np.uint16],
        first: int,
        found: Localizations,
        seconds: float,
    ) -> None:
        """Keep a batch, complete or not at all; arguments as of `find`."""
        path = self._path(label, camera, counts, first)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(".partial")
        columns: dict[str, Any] = {**found.columns(), _SECONDS: np.float64(seconds)}
        with aside.open("wb") as file:
            np.savez(file, **columns)
        aside.replace(path)

    def clear(self) -> None:
        """Delete all batches, once the tables are written."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _path(self, label: str, camera: CameraModel, counts: NDArray[np.uint16], first: int) -> Path:
        name = hashlib.sha256(f"{label}\n{camera!r}\n{counts.shape}\n{first}\n".encode())
        name.update(np.ascontiguousarray(counts).tobytes())
        return self._folder / f"{name.hexdigest()[:32]}.npz"

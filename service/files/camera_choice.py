"""The camera that a command is told: a file, three figures, or nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import DataError

if TYPE_CHECKING:
    from models.camera import CameraModel

__all__ = ["camera_model", "camera_of", "chosen_camera", "read_camera"]


def chosen_camera(
    file: Path | None,
    offset_adu: float | None,
    electrons_per_adu: float | None,
    read_noise_e: float | None,
    bit_depth: int = 16,
) -> CameraModel | None:
    """Camera of ``--camera``, or of ``--camera-offset-adu --electrons-per-adu --read-noise-e``; None without any.

    Raises
    ------
    DataError
        When both forms, or only a part of the figures, are given, or the file cannot be read.
    """
    figures = (offset_adu, electrons_per_adu, read_noise_e)
    given = [figure is not None for figure in figures]
    if file is not None and any(given):
        raise DataError(
            "The camera is given twice, by --camera and by figures; one of them must be left out.",
            "Use the file, or all three figures.",
        )
    if file is not None:
        return read_camera(file)
    if not any(given):
        return None
    if offset_adu is None or electrons_per_adu is None or read_noise_e is None:
        raise DataError(
            f"Only {sum(given)} of the camera's three figures are given; all are needed.",
            "Give --camera-offset-adu, --electrons-per-adu and --read-noise-e together.",
        )
    from models.camera import CameraModel

    return CameraModel(offset_adu, electrons_per_adu, read_noise_e, bit_depth, "given")


def camera_of(values: Mapping[str, Any]) -> CameraModel:
    """Camera of plain values: the part ``camera`` of the file that `bathyscope camera` writes.

    Raises
    ------
    DataError
        When the values are none that a camera has, or not those of a camera.
    """
    from models.camera import CameraModel

    try:
        return CameraModel(**values)
    except TypeError as error:
        raise DataError(
            f"This is no camera description: {error}.",
            "Give the part camera of the file that `bathyscope camera` wrote.",
        ) from error


def read_camera(file: Path) -> CameraModel:
    """Camera of a file that `bathyscope camera` wrote.

    Raises
    ------
    DataError
        When the file is missing or no camera description.
    """
    try:
        return camera_of(json.loads(file.read_text(encoding="utf-8"))["camera"])
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{file} is not a camera description ({type(error).__name__}: {error}).",
            "Name the file that `bathyscope camera` wrote.",
        ) from error


def camera_model(camera: CameraModel | str | Path | None) -> CameraModel | None:
    """Camera as given, or read from the file that `bathyscope camera` wrote.

    Raises
    ------
    DataError
        When the file is missing or no camera description.
    """
    return read_camera(Path(camera)) if isinstance(camera, str | Path) else camera

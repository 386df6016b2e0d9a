"""The camera model of a command: from a description file, a known camera, three figures, or none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import DataError

if TYPE_CHECKING:
    from models.camera import CameraModel

__all__ = ["CameraOptions", "camera_model", "camera_of", "chosen_camera", "read_camera"]


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """The camera options of a command; None where an option is absent.

    Attributes
    ----------
    file : camera description or name of a known camera, of ``--camera``
    offset_adu : count of a dark pixel, ADU
    electrons_per_adu : photo-electrons per count
    read_noise_e : read noise, photo-electrons
    """

    file: Path | None = None
    offset_adu: float | None = None
    electrons_per_adu: float | None = None
    read_noise_e: float | None = None


def chosen_camera(options: CameraOptions, bit_depth: int = 16) -> CameraModel | None:
    """Camera of the file, of the name, or of the three figures; None when no option is given.

    Figures replace those of a known camera.

    Raises
    ------
    DataError
        When a file and figures are given, when only some of the figures are given, or when the file cannot be read.
    """
    offset_adu, electrons_per_adu, read_noise_e = (
        options.offset_adu,
        options.electrons_per_adu,
        options.read_noise_e,
    )
    given = [figure is not None for figure in (offset_adu, electrons_per_adu, read_noise_e)]
    if options.file is not None and _is_name(options.file):
        known = camera_of(str(options.file))
        return replace(
            known,
            offset_adu=known.offset_adu if offset_adu is None else offset_adu,
            electrons_per_adu=known.electrons_per_adu if electrons_per_adu is None else electrons_per_adu,
            read_noise_e=known.read_noise_e if read_noise_e is None else read_noise_e,
        )
    if options.file is not None and any(given):
        raise DataError(
            "The camera is given twice, by --camera and by figures; one of them must be left out.",
            "Use the file, or all three figures.",
        )
    if options.file is not None:
        return read_camera(options.file)
    if not any(given):
        return None
    if offset_adu is None or electrons_per_adu is None or read_noise_e is None:
        raise DataError(
            f"Only {sum(given)} of the camera's three figures are given; all are needed.",
            "Give --camera-offset-adu, --electrons-per-adu and --read-noise-e together.",
        )
    from models.camera import CameraModel

    return CameraModel(offset_adu, electrons_per_adu, read_noise_e, bit_depth, "given")


def _is_name(file: Path) -> bool:
    """Whether ``--camera`` names a known camera: it has no folder and no suffix .json, and no file has this name."""
    return file.name == str(file) and file.suffix.lower() != ".json" and not file.exists()


def camera_of(values: Mapping[str, Any] | str) -> CameraModel:
    """Camera from a dictionary, as in the part ``camera`` of the file that `bathyscope camera` writes, or from a name.

    Raises
    ------
    DataError
        When a value is missing, unknown or out of range, or when there is no known camera of this name.
    """
    from models.camera import CameraModel
    from models.known_cameras import known_camera

    if isinstance(values, str):
        return known_camera(values).camera()
    try:
        return CameraModel(**values)
    except TypeError as error:
        raise DataError(
            f"This is no camera description: {error}.",
            "Give the part camera of the file that `bathyscope camera` wrote.",
        ) from error


def read_camera(file: Path) -> CameraModel:
    """Camera from a file that `bathyscope camera` wrote.

    Raises
    ------
    DataError
        When the file is missing or is not a camera description.
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
    """Camera as given, the known one of a name, or read from the file that `bathyscope camera` wrote.

    Raises
    ------
    DataError
        When the file is missing or no camera description.
    """
    if not isinstance(camera, str | Path):
        return camera
    return camera_of(str(camera)) if _is_name(Path(camera)) else read_camera(Path(camera))

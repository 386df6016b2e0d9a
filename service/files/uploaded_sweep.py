"""The files of a sweep that an upload brought: one file, the files of a set, or a folder in a ZIP file."""

from __future__ import annotations

import zipfile
from pathlib import Path

from hardware.ndtiff import NDTIFF_INDEX
from models.errors import DataError
from service.files.archives import Archive, ArchiveLimits
from service.files.outputs import explain_full_disk

__all__ = ["sweep_path"]

_MOST_FILES = 100_000
"""Chunks of an OME-Zarr: one a plane and repeat, and more where planes are divided."""

_UNPACKED = "unpacked"


def sweep_path(folder: Path, most_bytes: int) -> Path:
    """The file or folder to open as a sweep.

    Parameters
    ----------
    folder : Path
        What the upload brought. A ZIP file in it is unpacked here, and removed.
    most_bytes : int
        Largest size of the unpacked files.

    Raises
    ------
    DataError
        When a ZIP file is damaged, too large or may not be unpacked, or holds no files.
    """
    files = sorted(folder.iterdir())
    if len(files) == 1 and files[0].suffix.lower() == ".zip" and zipfile.is_zipfile(files[0]):
        return _unpacked(files[0], folder / _UNPACKED, most_bytes)
    if len(files) == 1:
        return files[0]
    if any(file.name == NDTIFF_INDEX for file in files):
        return folder
    # Each file of a set of OME-TIFF files leads to the others; other files are the images of a folder.
    sets = [file for file in files if file.name.lower().endswith((".ome.tif", ".ome.tiff"))]
    return sets[0] if len(sets) == len(files) else folder


def _unpacked(archive: Path, target: Path, most_bytes: int) -> Path:
    with Archive(archive, ArchiveLimits(_MOST_FILES, most_bytes)) as opened, explain_full_disk(target):
        if not opened.names:
            raise DataError(f"{archive.name} holds no files.", "Send the folder of the sweep as a ZIP file.")
        opened.unpack_all(target)
    archive.unlink()
    while not any(entry.is_file() for entry in target.iterdir()) and len(list(target.iterdir())) == 1:
        target = next(target.iterdir())
    entries = list(target.iterdir())
    return entries[0] if len(entries) == 1 else target

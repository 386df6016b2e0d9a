"""Folders as stacks: OME-Zarr, NDTiff of Micro-Manager, and single TIFF images.

The kind of a folder is recognized by its content.
"""

from __future__ import annotations

from pathlib import Path

from hardware.image_series import open_images
from hardware.ndtiff import NDTIFF_INDEX, open_ndtiff
from hardware.reading import refusal
from hardware.stack import Stack
from hardware.zarr_folders import open_zarr

__all__ = ["open_folder"]

_ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata")
_TIFF_SUFFIXES = (".tif", ".tiff")


def open_folder(path: Path) -> Stack:
    """Open a folder of one of the kinds that are known.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: of no known kind, incomplete, or several images.
    """
    names = {entry.name for entry in path.iterdir()}
    if names & set(_ZARR_FILES):
        return open_zarr(path)
    if NDTIFF_INDEX in names:
        return open_ndtiff(path)
    if "Full resolution" in names:
        return open_folder(path / "Full resolution")
    images = [path / name for name in names if name.lower().endswith(_TIFF_SUFFIXES) and not name.startswith(".")]
    if not images:
        raise refusal(
            f"{path} is a folder of {len(names)} entries, none of which is an image that is read: it is no OME-Zarr "
            "(zarr.json or .zgroup), no NDTiff folder (NDTiff.index) and has no .tif or .tiff files.",
            "Give the folder of the image itself.",
        )
    return open_images(path, images)

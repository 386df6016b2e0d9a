"""Opening an image file or folder as a stack of planes; the format is recognized by the content, not by the name."""

from __future__ import annotations

import math
import stat
from pathlib import Path

from hardware.image_folders import open_folder
from hardware.memory import require_memory
from hardware.microscope import MicroscopeError
from hardware.ndtiff import NDTIFF_INDEX, open_ndtiff
from hardware.reading import explain_reading, refusal
from hardware.remote import url_of
from hardware.stack import Stack
from hardware.tiff_files import is_ndtiff, open_tiff
from hardware.vendor_files import START_BYTES, VENDOR_SUFFIXES, image_of_project, vendor_format
from hardware.zarr_folders import open_zarr

__all__ = ["open_stack"]

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""Little and big endian, classic and BigTIFF."""

_COPIES_OF_A_FRAME = 4
"""A frame in memory is held as it is decoded, as it is kept, as counts and in floating point."""

_FORMATS = {
    ".vsi": "Olympus VSI",
    ".oir": "Olympus OIR",
    ".ims": "Imaris",
    ".dcimg": "Hamamatsu DCIMG",
    ".spe": "Princeton SPE",
    ".sif": "Andor SIF",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".avi": "a video",
    ".mp4": "a video",
    ".zip": "an archive",
}
"""Formats that people try, by the suffix."""


def open_stack(path: Path) -> Stack:
    """Open a file or folder of camera counts.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: missing, unreadable, incomplete, damaged, not supported, or no unsigned counts.
    """
    with explain_reading(path):
        stack = _open_format(path)
    try:
        _check_counts(stack)
    except MicroscopeError:
        stack.close()
        raise
    return stack


def _open_format(path: Path) -> Stack:
    if "\0" in str(path):
        raise refusal(f"The path {path} has a zero byte in it.", "Correct the path.")
    if url_of(path) is not None:
        return open_zarr(path)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        if (image := image_of_project(path)) is not None:
            return image
        remedy = "Check the path."
        if str(path).split(":")[0].lower() in ("http", "https", "ftp", "gs", "file"):
            remedy = "Only OME-Zarr at s3://BUCKET/FOLDER is read from the network: download it, and give its path."
        raise refusal(f"{path} does not exist.", remedy) from None
    if stat.S_ISDIR(mode):
        return open_folder(path)
    if not stat.S_ISREG(mode):
        raise refusal(f"{path} is neither a file nor a folder, but a pipe, socket or device.", "Give a file.")
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    if not start:
        raise refusal(f"{path} is empty: it has 0 bytes.", "Copy or record it again.")
    if (vendor := vendor_format(start)) is not None:
        return vendor.open(path)
    if not start.startswith(_TIFF_STARTS):
        suffix = path.suffix.lower()
        if suffix in VENDOR_SUFFIXES:
            raise refusal(
                f"{path} is no {suffix[1:].upper()} file: its first bytes are others.",
                "Copy it again; if it is a file of another kind, give it the suffix of that kind.",
            )
        kind = _FORMATS.get(suffix)
        if path.name in ("zarr.json", ".zgroup", ".zarray", ".zattrs"):
            raise refusal(f"{path} is a part of a Zarr folder.", "Give the folder.")
        raise refusal(
            f"{path} is no TIFF file{f' but {kind}, which is not supported' if kind else ''}; movies and sweeps are "
            "TIFF files, OME-Zarr or NDTiff folders, folders of single TIFF images, or ND2, CZI and LIF files.",
            "Save it as OME-TIFF.",
        )
    if (path.parent / NDTIFF_INDEX).exists() and is_ndtiff(path):
        return open_ndtiff(path.parent)
    return open_tiff(path)


def _check_counts(stack: Stack) -> None:
    if 0 in stack.shape:
        raise refusal(f"{stack.path} has the shape {stack.shape}: it is empty.", "Record it again.")
    if stack.dtype.kind != "u" or stack.dtype.itemsize > 2:
        raise refusal(
            f"{stack.path} holds {stack.dtype.name}; camera counts are unsigned integers of 8 or 16 bits.",
            "Save the camera's own counts as 16 bit, without scaling or background subtraction.",
        )
    if stack.bit_depth > stack.dtype.itemsize * 8:
        raise refusal(
            f"{stack.path} states counts of {stack.bit_depth} bits and holds {stack.dtype.name}.",
            "Correct its metadata, or save the camera's own counts.",
        )
    height, width = stack.shape[-2:]
    require_memory(
        stack.path,
        math.prod((height, width, _COPIES_OF_A_FRAME)) * 4,
        f"frames of {width:,} x {height:,} pixels",
        "Save a region of interest.",
    )

"""Files of Nikon, Zeiss and Leica as stacks, read by the packages of the extra `vendors`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hardware.leica import open_lif
from hardware.nikon import open_nd2
from hardware.reading import refusal
from hardware.stack import Stack
from hardware.zeiss import open_czi

__all__ = ["START_BYTES", "VENDOR_SUFFIXES", "VendorFormat", "image_of_project", "vendor_format"]

VENDOR_SUFFIXES = (".nd2", ".czi", ".lif")

START_BYTES = 16
"""From so many first bytes the format of a file is known."""


@dataclass(frozen=True, slots=True)
class VendorFormat:
    """A file format of a vendor.

    Attributes
    ----------
    name : str
        For messages.
    start : bytes
        First bytes of each file.
    module, package : str
        Module that reads it, and the package that brings the module.
    read : callable
        Opens a file.
    """

    name: str
    start: bytes
    module: str
    package: str
    read: Callable[..., Stack]

    def open(self, path: Path, image: str | None = None) -> Stack:
        """Open a file of this format, or the image of this name in it.

        Raises
        ------
        MicroscopeError
            Cause ``"movie"``: the package is not installed; or the file is damaged, or of a kind that is not supported.
        """
        try:
            importlib.import_module(self.module)
        except ImportError as error:
            raise refusal(
                f"{path} is a {self.name} file; the package {self.package}, which reads it, is missing ({error}).",
                "Run: pip install 'bathyscope[vendors]'; or save the file as OME-TIFF.",
            ) from error
        return self.read(path) if image is None else self.read(path, image)


_LIF_START = b"\x70\0\0\0"

_FORMATS = (
    VendorFormat("Nikon ND2", b"\xda\xce\xbe\x0a", "nd2", "nd2", open_nd2),
    VendorFormat("Nikon ND2", b"\0\0\0\x0cjP  ", "nd2", "nd2", open_nd2),
    VendorFormat("Zeiss CZI", b"ZISRAWFILE", "pylibCZIrw.czi", "pylibCZIrw", open_czi),
    VendorFormat("Leica LIF", _LIF_START, "liffile", "liffile", open_lif),
)
"""The second one is of NIS-Elements before version 3."""


def vendor_format(start: bytes) -> VendorFormat | None:
    """The format of a file by its first `START_BYTES`; None for other files."""
    return next((each for each in _FORMATS if start.startswith(each.start)), None)


def image_of_project(path: Path) -> Stack | None:
    """Open an image that is named below a LIF file, as in ``project.lif/Series003``; None when no LIF file is above.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``: the project has no such image.
    """
    file = next((parent for parent in path.parents if parent.is_file()), None)
    if file is None:
        return None
    with file.open("rb") as opened:
        found = vendor_format(opened.read(START_BYTES))
    if found is None or found.start != _LIF_START:
        return None
    return found.open(file, path.relative_to(file).as_posix())

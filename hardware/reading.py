"""Errors of all readers of image files.

The libraries of the readers raise some forty types of exceptions. Here each
becomes a `MicroscopeError` with its meaning for the user: the file is missing,
may not be read, is of a kind that is not supported, or is damaged. A file is
called damaged only when the exception shows damage.
"""

from __future__ import annotations

import errno
import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import tifffile
import zarr.errors

from hardware.microscope import MicroscopeError
from hardware.remote import RemoteAway, away, is_of_network, url_of

__all__ = ["explain_reading", "printable", "refusal"]

_UNSUPPORTED = (NotImplementedError, ImportError, zarr.errors.UnknownCodecError)
_UNSUPPORTED_WORDS = (
    "not supported",
    "unsupported",
    "requires the 'imagecodecs'",
    "not available",
    "no codec",
    "codec not",
)
"""Words of messages about an unknown compression or layout, in exceptions of no special type."""

_DAMAGED = (
    zlib.error,
    struct.error,
    EOFError,
    IndexError,
    UnicodeDecodeError,
    json.JSONDecodeError,
    ElementTree.ParseError,
    tifffile.TiffFileError,
    zarr.errors.BaseZarrError,
    # Both decode: numcodecs and imagecodecs raise RuntimeError, zarr and tifffile ValueError and TypeError.
    RuntimeError,
    SystemError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    ArithmeticError,
)
"""Exceptions of readers for content that breaks the rules of its format."""


def refusal(problem: str, remedy: str) -> MicroscopeError:
    """An error about a file, in characters that every terminal and log can show."""
    return MicroscopeError("movie", printable(problem), printable(remedy))


def printable(text: str) -> str:
    r"""`text` with control characters and bytes of unknown letters written out, as in ``\x1b``."""
    return "".join(
        character if character.isprintable() else f"\\x{code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code:02x}"
        for character in text
        for code in [ord(character)]
    )


@contextmanager
def explain_reading(path: Path) -> Iterator[None]:
    """Turn exceptions of a reader into an error that states what is wrong with the file.

    Raises
    ------
    MicroscopeError
        Cause ``"movie"``.
    RemoteAway
        When a server of S3 does not respond.
    """
    try:
        yield
    except (MicroscopeError, RemoteAway):
        raise
    except Exception as error:
        url = url_of(path)
        if url is not None and is_of_network(error):
            raise away(url, error) from error
        raise _explain(path, error) from error


def _explain(path: Path, error: Exception) -> MicroscopeError:
    said = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError):
        return refusal(
            f"{path} asks for more memory than this machine has ({said}).",
            "If its size is right, use a machine with more memory or a part of the file; if not, it is damaged.",
        )
    if isinstance(error, _UNSUPPORTED) or any(words in said.lower() for words in _UNSUPPORTED_WORDS):
        return refusal(
            f"{path} is of a kind that is not supported ({said}).",
            "Save it as OME-TIFF, uncompressed or with LZW, deflate or zstd.",
        )
    if isinstance(error, zarr.errors.BaseZarrError) and isinstance(error, FileNotFoundError):
        return refusal(f"{path} is incomplete: {said}.", "Copy or record it again.")
    if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
        return _explain_system(path, error)
    if isinstance(error, (*_DAMAGED, OSError)):
        return refusal(f"{path} cannot be read: it is damaged or incomplete ({said}).", "Copy or record it again.")
    return refusal(
        f"{path} cannot be read ({type(error).__name__}: {said}).",
        "Open it in another program and save it as OME-TIFF.",
    )


def _explain_system(path: Path, error: OSError) -> MicroscopeError:
    """The error for a refusal of the operating system."""
    name = Path(error.filename) if isinstance(error.filename, str) else path
    if isinstance(error, FileNotFoundError):
        return refusal(f"{name} does not exist.", "Check the path; of a set of files, all must be there.")
    if isinstance(error, PermissionError):
        return refusal(f"{name} may not be read ({error.strerror}).", "Change its permissions, or copy it.")
    if error.errno == errno.ENAMETOOLONG:
        return refusal(f"The path {str(name)[:80]}... is too long for this system.", "Use a shorter name or folder.")
    if error.errno == errno.ELOOP:
        return refusal(f"{name} is a symbolic link that leads in a circle.", "Give the file itself.")
    return refusal(f"{name} cannot be read ({error.strerror}).", "Check the disk or the network, and copy it again.")

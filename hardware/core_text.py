"""Conversion of text from and to the Micro-Manager core to valid Unicode.

Labels, presets and messages come from devices, vendors' libraries and old
files, in several encodings. The core returns undecodable bytes as lone
surrogates, which databases, network messages and JSON do not accept. So the
core is used only through `TextCore`, which returns valid text without control
characters.

The core accepts names only in UTF-8. A hardware configuration in another
encoding is therefore loaded from a copy in UTF-8, so that its names work in
both directions; see `readable_configuration`.
"""

from __future__ import annotations

import codecs
import contextlib
import tempfile
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hardware.microscope import MicroscopeError

__all__ = ["TextCore", "clean_text", "readable_configuration"]

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}

_OLD_ENCODING = "cp1252"
"""Of text that is not UTF-8: the one that Windows has in Western Europe and America, a superset of Latin-1 in print."""


def clean_text(text: str | bytes) -> str:
    """Text that can be stored, sent and shown: no lone surrogates, no control characters.

    Parameters
    ----------
    text : str or bytes
        As it came; a str may hold undecoded bytes as surrogates (PEP 383).
    """
    if isinstance(text, str) and not _is_utf8(text):
        # Surrogates of undecoded bytes become these bytes again; any other surrogate is not a character.
        text = text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "replace")
    if isinstance(text, bytes):
        text = _decode(text)
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text)


def _is_escaped(text: str) -> bool:
    return all("\udc80" <= letter <= "\udcff" for letter in text if "\ud800" <= letter <= "\udfff")


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        try:
            return raw.decode(_OLD_ENCODING)
        except UnicodeDecodeError:
            return raw.decode("latin-1")


class TextCore:
    """A core whose text is clean in both directions. All other values are passed unchanged.

    Parameters
    ----------
    core : pymmcore.CMMCore or Java object
        With methods in snake_case.
    """

    def __init__(self, core: Any) -> None:
        self._core = core
        self._raw: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._core, name)
        if not callable(method):
            return self._read(method)

        def call(*arguments: Any) -> Any:
            try:
                return self._read(method(*map(self._encode_name, arguments)))
            except UnicodeDecodeError as error:
                # The core's own message, which the interface to Python could not decode.
                raise RuntimeError(clean_text(error.object)) from error

        self.__dict__[name] = call  # looked up once: frames are fetched through here
        return call

    def _read(self, value: Any) -> Any:
        if isinstance(value, str):
            clean = clean_text(value)
            if clean != value:
                self._raw[clean] = value
            return clean
        if isinstance(value, tuple | list) and value and isinstance(value[0], str):
            return type(value)(self._read(each) for each in value)
        return value

    def _encode_name(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        raw = self._raw.get(value, value)
        if not _is_utf8(raw):
            raise MicroscopeError(
                "settings",
                f"The name {clean_text(value)} is not in UTF-8 in the device that states it, and the core accepts no "
                "other encoding.",
                "Give it a name of plain letters, in the device's own settings.",
            )
        return raw


@contextlib.contextmanager
def readable_configuration(config_file: Path) -> Iterator[Path]:
    """A hardware configuration that the core can read: the file itself, or for the block a copy in UTF-8.

    Raises
    ------
    MicroscopeError
        When the file cannot be read or holds no text.
    """
    try:
        raw = config_file.read_bytes()
    except OSError as error:
        raise MicroscopeError(
            "settings",
            f"The hardware configuration {clean_text(str(config_file))} cannot be read ({error.strerror}).",
            "Check its permissions.",
        ) from error
    mark = next((encoding for mark, encoding in _BYTE_ORDER_MARKS.items() if raw.startswith(mark)), None)
    try:
        text = _decode(raw) if mark is None else raw.decode(mark)
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise MicroscopeError(
            "settings",
            f"The hardware configuration {clean_text(str(config_file))} is no text file in an encoding that can be "
            "recognized.",
            "Save it as UTF-8, or write it again with Micro-Manager's configuration wizard.",
        )
    if mark is None and text.encode() == raw and _is_utf8(str(config_file)):
        yield config_file
        return
    with tempfile.TemporaryDirectory(prefix="bathyscope-configuration-") as folder:
        copy = Path(folder) / "configuration.cfg"
        copy.write_bytes(text.encode())
        yield copy


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True

"""A form with files (multipart/form-data): one part of JSON, and files that are streamed into a folder.

The form is read by the parser that FastAPI itself uses, part by part, so that
files never are in memory, and land on the disk of the data directory at once.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fastapi import Request
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser, parse_options_header

from service.api.uploads import Intake, PartWriter, UploadRefused
from service.files.descriptions import shown_name

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

__all__ = ["read_form"]

_LONGEST_TEXT = 64 * 1024
"""Bytes of the JSON; the bodies of other requests have the same limit."""

_MOST_FILES = 64
_LONGEST_NAME = 200
_REMEDY = "Send a part `request` with JSON, and a part `{files}` for each file, as curl -F does."


async def read_form(request: Request, intake: Intake, folder: Path, files: str) -> bytes:
    """Write the files of a form into `folder`, and return the JSON of its part ``request``.

    Parameters
    ----------
    request : Request
        With a body of multipart/form-data.
    intake : Intake
    folder : Path
        Empty.
    files : str
        Name of the parts that are files.

    Raises
    ------
    UploadRefused
        When the form breaks a rule, or the files are too large, too slow or do not fit on the disk.
    """
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise UploadRefused("The Content-Type of the form states no boundary.", _REMEDY.format(files=files))
    form = _Form(folder, files)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_size=intake.most_bytes + _LONGEST_TEXT)
        async for part in intake.parts(request, intake.most_bytes):
            parser.write(part)
            await form.write_waiting()
        parser.finalize()
        await form.finish()
    except MultipartParseError as error:
        raise UploadRefused(f"The form cannot be read ({error}).", _REMEDY.format(files=files)) from error
    finally:
        form.close()
    return form.result()


class _Form:
    """The parts of a form as the parser finds them.

    Parameters
    ----------
    folder : Path
        For the files.
    files : str
        Name of the parts that are files.
    """

    def __init__(self, folder: Path, files: str) -> None:
        self._folder = folder
        self._files = files
        self._text: bytearray | None = None
        self._names: set[str] = set()
        self._header = b""
        self._value = b""
        self._headers: dict[str, bytes] = {}
        self._in_text = False
        self._ended = False
        self._open = ExitStack()
        self._waiting: list[tuple[PartWriter, bytes]] = []
        self._writers: list[PartWriter] = []

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_end,
            "on_part_data": self._data,
            "on_end": self._end,
        }

    async def write_waiting(self) -> None:
        """Write what the parser found since the last call."""
        waiting, self._waiting = self._waiting, []
        for writer, content in waiting:
            await writer.write(content)
        for writer in self._writers[:-1]:
            await writer.finish()
        del self._writers[:-1]

    async def finish(self) -> None:
        """Write what the last file waits for."""
        for writer in self._writers:
            await writer.finish()

    def close(self) -> None:
        """Close the files."""
        self._open.close()

    def result(self) -> bytes:
        """The JSON of a whole form."""
        if not self._ended:
            raise UploadRefused("The form ends before its last part does.", "Send it again.")
        for there, name in ((self._text is not None, "request"), (bool(self._names), self._files)):
            if not there:
                raise UploadRefused(f"The form has no part {name!r}.", _REMEDY.format(files=self._files))
        return bytes(self._text or b"")

    # ---- called by the parser ----

    def _begin(self) -> None:
        self._headers, self._header, self._value = {}, b"", b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._header.decode("latin-1").lower()] = self._value
        self._header = self._value = b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", b""))
        name = options.get(b"name", b"").decode("utf-8", "replace")
        file = options.get(b"filename")
        if name == "request" and file is None and self._text is None:
            self._text, self._in_text = bytearray(), True
        elif name == self._files and file is not None:
            self._in_text = False
            self._begin_file(file.decode("utf-8", "replace"))
        else:
            what = "a second part" if name == "request" and self._text is not None else "a part"
            raise UploadRefused(
                f"The form has {what} {shown_name(name)[:80]!r}{' with' if file is not None else ' without'} a file.",
                _REMEDY.format(files=self._files),
            )

    def _begin_file(self, stated: str) -> None:
        # Some browsers and programs send the whole path of the file.
        name = stated.replace("\\", "/").rpartition("/")[2]
        if not name or name.startswith(".") or not name.isprintable() or len(name) > _LONGEST_NAME or ":" in name:
            raise UploadRefused(
                f"The name of a file is {shown_name(stated)[:120]!r}.",
                f"Give a name of up to {_LONGEST_NAME} characters that does not begin with a dot.",
            )
        if name.casefold() in self._names:
            raise UploadRefused(f"Two files have the name {name!r}.", "Give each file once, with a name of its own.")
        if len(self._names) >= _MOST_FILES:
            raise UploadRefused(f"The form has more than {_MOST_FILES} files.", "Send the folder as one ZIP file.")
        self._names.add(name.casefold())
        self._writers.append(PartWriter(self._open.enter_context((self._folder / name).open("xb"))))

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._in_text:
            self._waiting.append((self._writers[-1], data[start:end]))
            return
        assert self._text is not None  # noqa: S101
        self._text += data[start:end]
        if len(self._text) > _LONGEST_TEXT:
            raise UploadRefused(
                f"The part `request` is larger than {_LONGEST_TEXT:,} bytes.", "Files belong into parts of their own."
            )

    def _end(self) -> None:
        self._ended = True

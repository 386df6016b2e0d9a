"""Tables over HTTP: choice of the format, and long tables in parts.

A run of an hour has millions of rows. CSV and Parquet are therefore made
part by part from the parts that the database returns, each sent when the one
before was received: a slow client holds one part in memory, and no transaction.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from fastapi import Request
from fastapi.responses import Response
from numpy.typing import NDArray
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from models.tables import Localizations, TrackEvents, Tracks
from service.api.reads import Reads

__all__ = [
    "CSV",
    "JSON",
    "PARQUET",
    "Download",
    "column_arrays",
    "json_response",
    "next_page_address",
    "table_response",
    "wanted_form",
]

Table = Localizations | Tracks | TrackEvents
Form = Literal["application/json", "text/csv", "application/vnd.apache.parquet"]

JSON: Form = "application/json"
CSV: Form = "text/csv"
PARQUET: Form = "application/vnd.apache.parquet"
_FORMS: tuple[Form, ...] = (JSON, CSV, PARQUET)

_REVISION = "Bathyscope-Revision"

_SENT_AT_ONCE = 64 * 1024
"""Bytes that the server may hold for a slow client, besides the part that is being sent."""


def wanted_form(request: Request) -> Form:
    """The form that the Accept header prefers; JSON when it accepts anything.

    Raises
    ------
    HTTPException
        406, when it accepts none of JSON, CSV and Parquet.
    """
    accept = request.headers.get("accept") or "*/*"
    ranked = sorted(((_quality(accept, form), -rank, form) for rank, form in enumerate(_FORMS)), reverse=True)
    quality, _, form = ranked[0]
    if quality <= 0:
        raise HTTPException(406, f"Accept is {accept[:200]!r}, which is none of {', '.join(_FORMS)}")
    return form


def _quality(accept: str, form: str) -> float:
    """Preference of `accept` for `form`: the q of the most exact range that covers it (RFC 9110, 12.5.1)."""
    found: tuple[int, float] = (0, 0.0)
    for part in accept.split(","):
        media, *parameters = (piece.strip().lower() for piece in part.split(";"))
        exactness = {"*/*": 1, f"{form.split('/')[0]}/*": 2, form: 3}.get(media, 0)
        if exactness:
            found = max(found, (exactness, _q(parameters)))
    return found[1]


def _q(parameters: Iterable[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class Download(Response):
    """A long body that is made part by part, each when the client has received the one before.

    The first part is made before the status is sent, so that a failure of
    the database gets an error status. A later failure closes the connection,
    and the client notices that the body is not whole. The connection is closed
    when its client receives nothing for too long.

    Parameters
    ----------
    parts : iterator of bytes
        May block; it is advanced in a thread of the heavy reads.
    reads : Reads
    headers : mapping
    media_type : str
    """

    def __init__(self, parts: Iterator[bytes], reads: Reads, headers: Mapping[str, str], media_type: str) -> None:
        super().__init__(headers=headers, media_type=media_type)
        del self.headers["content-length"]
        self._parts = parts
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it (ASGI)."""
        with self._reads.download():
            leaving = asyncio.create_task(_left(receive))
            try:
                part = await self._next()
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                while part is not None:
                    for begin in range(0, len(part), _SENT_AT_ONCE):
                        body = part[begin : begin + _SENT_AT_ONCE]
                        await send({"type": "http.response.body", "body": body, "more_body": True})
                        if leaving.done():
                            return
                    part = await self._next()
                await send({"type": "http.response.body", "body": b"", "more_body": False})
            finally:
                leaving.cancel()

    async def _next(self) -> bytes | None:
        return await self._reads.heavy.step(next, self._parts, None)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def table_response(
    parts: Iterable[Table],
    kind: type[Table],
    form: Form,
    name: str,
    reads: Reads,
    *,
    next_page: str | None = None,
    revision: int | None = None,
) -> Response:
    """A table as CSV or Parquet under the file name `name`; `next_page` is the address of the next page, if any."""
    write, suffix = (_csv, "csv") if form == CSV else (_parquet, "parquet")
    headers = {"Content-Disposition": f'attachment; filename="{name}.{suffix}"', **_revision_header(revision)}
    if next_page is not None:
        headers["Link"] = f'<{next_page}>; rel="next"'
    return Download(write(parts, kind), reads, headers, form)


def next_page_address(request: Request, cursor: str | None) -> str | None:
    """Address of the page that begins at a cursor; None without one."""
    return None if cursor is None else str(request.url.include_query_params(cursor=cursor))


def json_response(value: dict[str, Any], revision: int | None = None) -> Response:
    """JSON of dicts, lists and columns; an undefined number is null."""
    body = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, headers=_revision_header(revision), media_type=JSON)


def column_arrays(table: Table, skip: Iterable[str] = ()) -> dict[str, NDArray[Any]]:
    """Column name to values, for `json_response`."""
    left_out = set(skip)
    return {name: np.ascontiguousarray(column) for name, column in table.columns().items() if name not in left_out}


def _revision_header(revision: int | None) -> dict[str, str]:
    return {} if revision is None else {_REVISION: str(revision)}


def _schema(kind: type[Table]) -> pa.Schema:
    empty = kind.empty().columns()
    kinds = {
        name: pa.string() if column.dtype.kind == "U" else pa.from_numpy_dtype(column.dtype)
        for name, column in empty.items()
    }
    return pa.schema(list(kinds.items()))


def _arrow(part: Table, schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None)
        for column in part.columns().values()
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _csv(parts: Iterable[Table], kind: type[Table]) -> Iterator[bytes]:
    schema = _schema(kind)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    head = (",".join(schema.names) + "\n").encode()
    for part in parts:
        buffer = io.BytesIO(head)
        buffer.seek(0, io.SEEK_END)
        pyarrow.csv.write_csv(_arrow(part, schema), buffer, options)
        yield buffer.getvalue()
        head = b""
    if head:
        yield head


def _parquet(parts: Iterable[Table], kind: type[Table]) -> Iterator[bytes]:
    schema = _schema(kind)
    outflow = _Outflow()
    with pyarrow.parquet.ParquetWriter(outflow, schema, compression="zstd") as writer:
        for part in parts:
            writer.write_table(_arrow(part, schema))
            yield outflow.take()
    yield outflow.take()


class _Outflow(io.RawIOBase):
    """A file that hands out what has been written to it, so that it never holds more than one part."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting = bytearray()
        self._written = 0

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._written

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self._waiting += view
        self._written += len(view)
        return len(view)

    def take(self) -> bytes:
        taken = bytes(self._waiting)
        self._waiting.clear()
        return taken

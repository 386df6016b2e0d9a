"""Tables over HTTP: which form the client wants, and long ones in parts.

A run of an hour has millions of rows. CSV and Parquet are therefore made
part by part from the database's own parts, and sent as they are made.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from fastapi import Request
from fastapi.responses import StreamingResponse
from numpy.typing import NDArray
from starlette.exceptions import HTTPException

from models.tables import Localizations, Tracks

__all__ = ["CSV", "JSON", "PARQUET", "column_arrays", "table_response", "wanted_form"]

Table = Localizations | Tracks
Form = Literal["application/json", "text/csv", "application/vnd.apache.parquet"]

JSON: Form = "application/json"
CSV: Form = "text/csv"
PARQUET: Form = "application/vnd.apache.parquet"
_FORMS: tuple[Form, ...] = (JSON, CSV, PARQUET)


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
    """How much `accept` wants `form`: the q of the most exact range that covers it (RFC 9110, 12.5.1)."""
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


def table_response(
    parts: Iterable[Table], kind: type[Table], form: Form, name: str, next_page: str | None = None
) -> StreamingResponse:
    """A table as CSV or Parquet under the file name `name`; `next_page` is the address of the next page, if any."""
    write, suffix = (_csv, "csv") if form == CSV else (_parquet, "parquet")
    headers = {"Content-Disposition": f'attachment; filename="{name}.{suffix}"'}
    if next_page is not None:
        headers["Link"] = f'<{next_page}>; rel="next"'
    return StreamingResponse(write(parts, kind), headers=headers, media_type=form)


def column_arrays(table: Table, skip: Iterable[str] = ()) -> dict[str, list[Any]]:
    """Column name to values for JSON; an undefined number is None."""
    left_out = set(skip)
    return {name: _plain(column) for name, column in table.columns().items() if name not in left_out}


def _plain(column: NDArray[Any]) -> list[Any]:
    values: list[Any] = column.tolist()
    if column.dtype.kind == "f" and not np.isfinite(column).all():
        return [value if np.isfinite(value) else None for value in values]
    return values


def _schema(kind: type[Table]) -> pa.Schema:
    empty = kind.empty().columns()
    return pa.schema([(name, pa.from_numpy_dtype(column.dtype)) for name, column in empty.items()])


def _arrow(part: Table, schema: pa.Schema) -> pa.Table:
    arrays = [
        pa.array(column, mask=np.isnan(column) if column.dtype.kind == "f" else None)
        for column in part.columns().values()
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _csv(parts: Iterable[Table], kind: type[Table]) -> Iterator[bytes]:
    schema = _schema(kind)
    options = pyarrow.csv.WriteOptions(include_header=False, quoting_style="none")
    yield (",".join(schema.names) + "\n").encode()
    for part in parts:
        buffer = io.BytesIO()
        pyarrow.csv.write_csv(_arrow(part, schema), buffer, options)
        yield buffer.getvalue()


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

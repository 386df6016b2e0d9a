"""Tables of the work folder: Parquet, written in parts, exact to the last bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from models.tables import Localizations, TrackEvents, Tracks

__all__ = ["AddsRows", "read_rows", "rows_file", "stream_rows"]

Rows = TypeVar("Rows", Localizations, Tracks, TrackEvents)
Written = TypeVar("Written", Localizations, Tracks, TrackEvents, contravariant=True)


class AddsRows(Protocol[Written]):
    """Adds rows to a file."""

    def __call__(self, rows: Written) -> None:
        """Add rows."""


@contextmanager
def rows_file(path: Path, kind: type[Rows]) -> Iterator[AddsRows[Rows]]:
    """Yield what adds rows to a new file; it may be read after the block."""
    schema = _table(kind.empty()).schema
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:

        def add(rows: Rows) -> None:
            if len(rows):
                writer.write_table(_table(rows).cast(schema))

        yield add


def read_rows(path: Path, kind: type[Rows], within_s: tuple[float, float] | None = None) -> Rows:
    """All rows, or those whose `t_s` lies in a window, both ends included."""
    filters = None if within_s is None else [("t_s", ">=", within_s[0]), ("t_s", "<=", within_s[1])]
    return _rows(pq.read_table(path, filters=filters), kind)


def stream_rows(path: Path, kind: type[Rows]) -> Iterator[Rows]:
    """As `read_rows`, in the parts in which they were added."""
    with pq.ParquetFile(path) as file:
        for part in range(file.num_row_groups):
            yield _rows(file.read_row_group(part), kind)


def _table(rows: Localizations | Tracks | TrackEvents) -> pa.Table:
    columns = rows.columns().items()
    return pa.table({name: _texts(values) if values.dtype.kind == "U" else values for name, values in columns})


def _texts(values: NDArray[np.str_]) -> pa.Array:
    return pa.array(values.tolist(), pa.string())


def _rows(table: pa.Table, kind: type[Rows]) -> Rows:
    return kind.from_columns({name: _values(table.column(name)) for name in kind.names()})


def _values(column: pa.ChunkedArray) -> NDArray[Any]:
    return np.asarray(column.to_pylist(), np.str_) if pa.types.is_string(column.type) else column.to_numpy()

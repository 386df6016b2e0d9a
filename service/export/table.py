"""Tracks as CSV or Parquet with the columns of the contract, block by block."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models.table_files import check_suffix, is_table
from models.tables import Tracks
from service.export.measured import COLUMNS, Measured
from service.export.origin import Origin

__all__ = ["is_ours", "write"]


def write(destination: Path, blocks: Iterable[Tracks], _origin: Origin, measured: Measured | None = None) -> None:
    """Write tracks as CSV or Parquet, by the suffix of `destination`.

    Numbers that are not known are empty cells. All columns are written, also those without any value, because the
    first block does not tell what follows.

    Parameters
    ----------
    destination : Path
    blocks : iterable of Tracks
        By track, then by frame.
    measured : Measured, optional
        Figures of the tracks, as further columns.
    """
    schema = pa.schema([(name, pa.from_numpy_dtype(column.dtype)) for name, column in Tracks.empty().columns().items()])
    if measured is not None:
        schema = pa.unify_schemas([schema, pa.schema([(name, pa.float64()) for name in COLUMNS])])
    with destination.open("wb") as file, _writer(destination, file, schema) as writer:
        for block in blocks:
            columns = block.columns() | ({} if measured is None else measured.of_points(block))
            cells = [pa.array(column, from_pandas=True) for column in columns.values()]
            writer.write_table(pa.Table.from_arrays(cells, schema=schema))


def is_ours(path: Path) -> bool:
    """Whether `path` is a table of tracks, with their figures or without."""
    return is_table(path, Tracks, COLUMNS)


def _writer(destination: Path, file: BinaryIO, schema: pa.Schema) -> Any:
    if check_suffix(destination) == "parquet":
        return pyarrow.parquet.ParquetWriter(file, schema, compression="zstd")
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65_536)
    return pyarrow.csv.CSVWriter(file, schema, write_options=options)

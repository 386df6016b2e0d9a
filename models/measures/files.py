"""Figures of tracks as files: CSV with a header, or Parquet; an undefined figure is an empty cell."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet

from models.measures.table import TrackMeasures
from models.table_files import check_suffix

__all__ = ["is_measures", "write_measures"]


def write_measures(path: Path, table: TrackMeasures) -> None:
    """Write figures as CSV or Parquet, by the suffix of `path`.

    Raises
    ------
    DataError
        When the suffix is neither ``.csv`` nor ``.parquet``.
    """
    arrow = pa.table({name: pa.array(column, from_pandas=True) for name, column in table.columns().items()})
    file_format = check_suffix(path)
    with path.open("wb") as file:
        if file_format == "parquet":
            pa_parquet.write_table(arrow, file, compression="zstd")
        else:
            pa_csv.write_csv(arrow, file, pa_csv.WriteOptions(quoting_style="none", quoting_header="none"))


def is_measures(path: Path) -> bool:
    """Tell whether `path` is a file of figures of tracks, so that it may be replaced by another."""
    if not path.is_file():
        return False
    try:
        if check_suffix(path) == "parquet":
            with path.open("rb") as file:
                header = tuple(pa_parquet.read_schema(file).names)
        else:
            with path.open("rb") as file:
                header = tuple(file.readline(10_000).decode().strip().split(","))
    except (pa.ArrowException, UnicodeError, OSError):
        return False
    return header == TrackMeasures.names()

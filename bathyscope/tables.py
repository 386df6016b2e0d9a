"""Tables of localizations, tracks and truth as files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, TypeVar, overload

from models import table_files
from models.tables import Localizations, Tracks, Truth
from service.files.outputs import complete_output

__all__ = ["read_table", "write_table"]


_Table = TypeVar("_Table", Localizations, Tracks, Truth)


@overload
def read_table(path: str | Path) -> Localizations | Tracks | Truth: ...


@overload
def read_table(path: str | Path, kind: type[_Table]) -> _Table: ...


def read_table(path: str | Path, kind: Any = None) -> Any:
    """Read a table of localizations, tracks or truth.

    Parameters
    ----------
    path : str or Path
        A ``.csv`` or ``.parquet`` file.
    kind : type, optional
        `Localizations`, `Tracks` or `Truth`; found from the columns by default.

    Returns
    -------
    Localizations, Tracks or Truth
        In the order of the file.

    Raises
    ------
    DataError
        When the file is missing or of another format, lacks a column of its kind, or has a value that does not belong.

    Warns
    -----
    UserWarning
        For columns that are ignored.

    Examples
    --------
    >>> import bathyscope
    >>> bathyscope.write_table("positions.csv", bathyscope.Localizations.empty())
    >>> type(bathyscope.read_table("positions.csv")).__name__
    'Localizations'
    """
    remarks: list[str] = []
    table = table_files.read_table(Path(path), kind or table_files.table_kind(Path(path)), remarks.append)
    for remark in remarks:
        warnings.warn(remark, stacklevel=2)
    return table


def write_table(path: str | Path, table: Localizations | Tracks | Truth) -> None:
    """Write a table, as CSV or Parquet by the suffix of `path`. A table of the same kind that is there is replaced.

    Raises
    ------
    DataError
        When the suffix is neither ``.csv`` nor ``.parquet``, or `path` holds something else.

    Examples
    --------
    >>> import bathyscope
    >>> bathyscope.write_table("tracks.parquet", bathyscope.Tracks.empty())
    """
    table_files.check_suffix(Path(path))
    with complete_output(Path(path), lambda old: table_files.is_table(old, type(table))) as aside:
        table_files.write_table(aside, table)

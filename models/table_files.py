"""Localizations, tracks and truth as files: CSV with a header, or Parquet.

The file's suffix decides which. Both hold exactly the columns of the table,
in any order when read, in the table's order when written. Reading is strict,
because a shifted column or a half-written row that slips through becomes a
wrong figure at the end: what does not fit is refused with its row, its
column, its value and the rule. Rows are counted from 1, the header is none.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from models.errors import DataError
from models.tables import Localizations, Tracks, Truth

__all__ = ["Table", "check_suffix", "is_table", "read_table", "table_kind", "write_table"]

Table: TypeAlias = Localizations | Tracks | Truth
TableT = TypeVar("TableT", Localizations, Tracks, Truth)

_NAMES: dict[type[Table], str] = {Localizations: "localizations", Tracks: "tracks", Truth: "truth"}
_WHOLE = frozenset({"frame", "track_id", "observed"})
_MAY_BE_EMPTY = frozenset({"chi2"})
_OPTIONAL: dict[tuple[type[Table], str], int] = {(Truth, "track_id"): -1}

_Rule: TypeAlias = tuple[str, Callable[[NDArray[Any]], NDArray[np.bool_]]]
_NOT_NEGATIVE: _Rule = ("not negative", lambda values: values >= 0)
_RULES: dict[str, _Rule] = {
    "frame": _NOT_NEGATIVE,
    "track_id": _NOT_NEGATIVE,
    "sigma_x_um": _NOT_NEGATIVE,
    "sigma_y_um": _NOT_NEGATIVE,
    "sigma_z_um": _NOT_NEGATIVE,
    "probability": ("between 0 and 1", lambda values: (values >= 0) & (values <= 1)),
    "observed": ("0 or 1", lambda values: (values == 0) | (values == 1)),
}

_REPAIR = "Correct the file, or write it again with Bathyscope."


def check_suffix(path: Path) -> str:
    """The format that the suffix of `path` names, ``"csv"`` or ``"parquet"``.

    Raises
    ------
    DataError
        For any other suffix.
    """
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise DataError(
            f"{path} ends in {suffix or 'no suffix'!r}; tables are .csv or .parquet.", "Choose one of these suffixes."
        )
    return suffix[1:]


def read_table(path: Path, kind: type[TableT]) -> TableT:
    """Read a table of a known kind.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    kind : type
        `Localizations`, `Tracks` or `Truth`.

    Returns
    -------
    Localizations, Tracks or Truth
        In the order of the file.

    Raises
    ------
    DataError
        When the file is missing, of another format, or has a column or a value that does not belong.
    """
    header = _header(path)
    _check_header(path, header, kind)
    table = _read_csv(path, header) if check_suffix(path) == "csv" else _read_parquet(path)
    columns = {name: _column(path, name, table.column(name)) for name in kind.names() if name in header}
    for name in kind.names():
        if name not in columns:
            columns[name] = np.full(table.num_rows, _OPTIONAL[kind, name], np.int64)
    return kind.from_columns(columns)


def write_table(path: Path, table: Table) -> None:
    """Write a table as CSV or Parquet, by the suffix of `path`; a figure that is not a number becomes an empty cell.

    Raises
    ------
    DataError
        When the suffix is neither ``.csv`` nor ``.parquet``.
    """
    names = [name for name in table.names() if not _left_out(table, name)]
    arrow = pa.table({name: pa.array(getattr(table, name), from_pandas=True) for name in names})
    if check_suffix(path) == "parquet":
        pa_parquet.write_table(arrow, path, compression="zstd")
    else:
        options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65536)
        pa_csv.write_csv(arrow, path, options)


def table_kind(path: Path) -> type[Table]:
    """Which kind of table a file holds, by its columns.

    Raises
    ------
    DataError
        When the file cannot be read or its columns are those of no table.
    """
    header = set(_header(path))
    for kind in _NAMES:
        required = {name for name in kind.names() if (kind, name) not in _OPTIONAL}
        if required <= header <= set(kind.names()):
            return kind
    raise DataError(
        f"{path} has the columns {', '.join(sorted(header))}; that is neither a table of localizations nor of tracks "
        "nor of truth.",
        "Name the columns as a table of localizations has them: " + ",".join(Localizations.names()) + ".",
    )


def is_table(path: Path, kind: type[Table]) -> bool:
    """Tell whether `path` is a file with the columns of `kind`, so that it may be replaced by another."""
    try:
        return path.is_file() and table_kind(path) is kind
    except DataError:
        return False


def _left_out(table: Table, name: str) -> bool:
    default = _OPTIONAL.get((type(table), name))
    return default is not None and bool(np.all(getattr(table, name) == default))


def _header(path: Path) -> list[str]:
    file_format = check_suffix(path)
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty; a table has at least a header.", "Write it again; it was cut off.")
        if file_format == "parquet":
            return list(pa_parquet.read_schema(path).names)
        with path.open(encoding="utf-8-sig", newline="", errors="replace") as file:
            return [name.strip() for name in next(csv.reader(file, skipinitialspace=True), [])]
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}).", "Check the path and its permissions."
        ) from error
    except pa.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file ({_first_line(error)}).", _REPAIR) from error


def _check_header(path: Path, header: list[str], kind: type[Table]) -> None:
    wanted = kind.names()
    missing = [name for name in wanted if name not in header and (kind, name) not in _OPTIONAL]
    unknown = [name for name in header if name not in wanted]
    twice = sorted({name for name in header if header.count(name) > 1})
    for names, fault in ((missing, "lacks"), (unknown, "has the unknown"), (twice, "has more than one")):
        if names:
            raise DataError(
                f"{path} {fault} column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}; a table of "
                f"{_NAMES[kind]} has {','.join(wanted)}, separated by commas.",
                _REPAIR,
            )


def _read_csv(path: Path, header: list[str]) -> pa.Table:
    read = pa_csv.ReadOptions(column_names=header, skip_rows=1)
    types = {name: pa.int64() if name in _WHOLE else pa.float64() for name in header}
    try:
        return pa_csv.read_csv(
            path,
            read_options=read,
            convert_options=pa_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True),
        )
    except pa.ArrowInvalid as error:
        raise _csv_fault(path, header, error) from error


def _csv_fault(path: Path, header: list[str], error: pa.ArrowInvalid) -> DataError:
    """Find the cell that the fast reader stumbled over, by reading everything as text."""
    ragged: list[Any] = []

    def remember(row: Any) -> str:
        ragged.append(row)
        return "error"

    try:
        cells = pa_csv.read_csv(
            path,
            read_options=pa_csv.ReadOptions(column_names=header, skip_rows=1, use_threads=False),
            parse_options=pa_csv.ParseOptions(invalid_row_handler=remember),
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(header, pa.binary())),
        )
    except pa.ArrowInvalid:
        if ragged:
            row = ragged[0]
            return DataError(
                f"{path}, row {row.number - 1}: {row.actual_columns} cells ({row.text!r}); "
                f"the header names {row.expected_columns} columns.",
                _REPAIR,
            )
        return DataError(f"{path} is not a CSV table ({_first_line(error)}).", _REPAIR)
    for name in header:
        for row, cell in enumerate(cells.column(name).to_pylist(), start=1):
            text = cell.decode("utf-8", errors="replace").strip()
            if text and not _is_number(text, whole=name in _WHOLE):
                return _bad_value(path, row, name, repr(text), _number_rule(name))
    return DataError(f"{path} is not a CSV table ({_first_line(error)}).", _REPAIR)


def _is_number(text: str, whole: bool) -> bool:
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        return False
    return not whole or abs(value) < 2**63


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pa_parquet.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path} is damaged ({_first_line(error)}).", _REPAIR) from error


def _column(path: Path, name: str, cells: pa.ChunkedArray) -> NDArray[Any]:
    whole = name in _WHOLE
    fits = pa.types.is_integer(cells.type) or (pa.types.is_floating(cells.type) and not whole)
    if not fits and not pa.types.is_null(cells.type):
        raise DataError(
            f"{path}, column {name!r} holds {cells.type}; every cell must be {_number_rule(name)}.", _REPAIR
        )
    if name not in _MAY_BE_EMPTY and cells.null_count:
        row = int(np.flatnonzero(cells.is_null().to_numpy())[0])
        raise _bad_value(path, row + 1, name, "empty", f"filled with {_number_rule(name)}")
    try:
        values: NDArray[Any] = cells.cast(pa.int64() if whole else pa.float64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise DataError(f"{path}, column {name!r}: {_first_line(error)}.", _REPAIR) from error
    if not whole and name not in _MAY_BE_EMPTY:
        _check(path, name, values, ("a finite number", np.isfinite))
    if name in _RULES:
        _check(path, name, values, _RULES[name])
    return values


def _check(path: Path, name: str, values: NDArray[Any], rule: _Rule) -> None:
    good = rule[1](values)
    if not good.all():
        row = int(np.argmin(good))
        raise _bad_value(path, row + 1, name, str(values[row]), rule[0])


def _bad_value(path: Path, row: int, name: str, value: str, rule: str) -> DataError:
    return DataError(f"{path}, row {row}: {name} is {value}; it must be {rule}.", _REPAIR)


def _number_rule(name: str) -> str:
    return "a whole number" if name in _WHOLE else "a number"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__

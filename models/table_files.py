"""Localizations, tracks and truth as files: CSV with a header, or Parquet.

The suffix of the file selects the format. Written files contain exactly the
columns of the table, in its order. Files to be read may come from any program:
columns are found by their names, other columns are ignored with a note, and the
dialects of CSV are recognized (`models.table_text`). Numbers are read strictly,
because an unnoticed shifted column or incomplete row gives wrong results: a bad
value is rejected with its row, column, value, the rule and the remedy. Rows are
counted from 1, without the header; messages name the line of a text file too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
from numpy.typing import NDArray

from models.errors import DataError
from models.quantities import DEPTH_UM
from models.table_columns import Column, allow_memory
from models.table_text import CsvFile
from models.tables import Localizations, TrackEvents, Tracks, Truth

__all__ = [
    "LARGEST_FRAME",
    "Note",
    "Table",
    "check_suffix",
    "is_table",
    "read_table",
    "stated_rate",
    "table_kind",
    "write_table",
]

Table: TypeAlias = Localizations | Tracks | Truth
Written: TypeAlias = Table | TrackEvents
"""Events are written, and not read again."""
TableT = TypeVar("TableT", Localizations, Tracks, Truth)
Note: TypeAlias = Callable[[str], None]

LARGEST_FRAME = 10**12
"""Frames of thirty years at 1000 frames a second: a larger number is a time stamp or a mistake."""

LARGEST_POSITION_UM = 1e5
"""10 cm, beyond the field of any microscope objective; 4096 pixels of 16 µm at 1x are 6.6 cm."""

_LARGEST_ID = 2**53  # largest range of integers in float64, the type of truth in the replay
_LARGEST_LIGHT = 1e12  # photo-electrons: a full well of 1e5 in a million pixels, and ten times that
_LARGEST_SPEED_UM_S = 1e7  # 10 m/s: the fastest position over the shortest exposure of a camera

_NAMES: dict[type[Table], str] = {Localizations: "localizations", Tracks: "tracks", Truth: "truth"}
_ALL_NAMES = frozenset(name for kind in (*_NAMES, TrackEvents) for name in kind.names())
_WHOLE = frozenset({"frame", "track_id", "observed"})
_TRUE_OR_FALSE = frozenset({"observed"})
_MISSING: dict[tuple[type[Written], str], float] = {
    (Localizations, "chi2"): np.nan,
    (Tracks, "probability"): np.nan,
    (Truth, "track_id"): -1,
}
"""Cells that may be empty, and their value then."""
_OPTIONAL = {(Tracks, "probability"), (Truth, "track_id")}
"""Columns that may be absent."""
_Rule: TypeAlias = tuple[str, Callable[[NDArray[Any]], NDArray[np.bool_]], str]

_REPAIR = "Correct the file, or write it again with Bathyscope."


def _within(low: float, high: float, words: str, remedy: str = _REPAIR) -> _Rule:
    return words, lambda values: (values >= low) & (values <= high), remedy


_FINITE: _Rule = ("a finite number", np.isfinite, "Remove such rows, or fill in the number.")
_NOT_NEGATIVE = _within(0, np.inf, "not negative")
_UNIT = "Positions are in µm: divide nanometres by 1000, multiply pixels by the size of a pixel."
_SIDE = _within(-LARGEST_POSITION_UM, LARGEST_POSITION_UM, f"at most {LARGEST_POSITION_UM:.0f} µm from 0", _UNIT)
_DEPTH = _within(DEPTH_UM.low, DEPTH_UM.high, f"at most {DEPTH_UM.high:.0f} µm from 0", _UNIT)
_SIGMA = _within(0, LARGEST_POSITION_UM, f"at most {LARGEST_POSITION_UM:.0f} µm", _UNIT)
_LIGHT = _within(-_LARGEST_LIGHT, _LARGEST_LIGHT, f"at most {_LARGEST_LIGHT:g} photo-electrons from 0")
_SPEED = _within(-_LARGEST_SPEED_UM_S, _LARGEST_SPEED_UM_S, f"at most {_LARGEST_SPEED_UM_S:g} µm/s", _UNIT)
_FRAME = _within(0, LARGEST_FRAME, f"at most {LARGEST_FRAME}", "Frames count from 0; a time stamp is no frame number.")
_RULES: dict[str, tuple[_Rule, ...]] = {
    "frame": (_NOT_NEGATIVE, _FRAME),
    "x_um": (_SIDE,),
    "y_um": (_SIDE,),
    "z_um": (_DEPTH,),
    "photons": (_LIGHT,),
    "background": (_LIGHT,),
    "probability": (_within(0, 1, "between 0 and 1"),),
    "sigma_x_um": (_NOT_NEGATIVE, _SIGMA),
    "sigma_y_um": (_NOT_NEGATIVE, _SIGMA),
    "sigma_z_um": (_NOT_NEGATIVE, _SIGMA),
    "vx_um_s": (_SPEED,),
    "vy_um_s": (_SPEED,),
    "vz_um_s": (_SPEED,),
    "observed": (("0 or 1", lambda values: (values == 0) | (values == 1), _REPAIR),),
}
_IDS: dict[type[Table], _Rule] = {
    Tracks: _within(0, _LARGEST_ID, f"between 0 and {_LARGEST_ID}"),
    Truth: _within(-1, _LARGEST_ID, f"between 0 and {_LARGEST_ID}, or -1 where it is not known"),
}


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


def read_table(path: Path, kind: type[TableT], note: Note | None = None) -> TableT:
    """Read a table of a known kind.

    Parameters
    ----------
    path : Path
        A ``.csv`` or ``.parquet`` file.
    kind : type
        `Localizations`, `Tracks` or `Truth`.
    note : callable, optional
        Called with a line of text for each remark: columns that are ignored, and a track that is twice in a frame.

    Returns
    -------
    Localizations, Tracks or Truth
        In the order of the file.

    Raises
    ------
    DataError
        When the file is missing, of another format, lacks a column, or has a bad value; when two rows are equal; when
        the table is larger than the memory.
    """
    try:
        source = _open(path)
        _check_header(path, source.header, kind)
        wanted = [name for name in kind.names() if name in source.header]
        columns = source.read(wanted, _WHOLE, _TRUE_OR_FALSE)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}).", "Check the path and its permissions."
        ) from error
    values = {name: _checked(source, kind, name, column) for name, column in columns.items()}
    rows = len(next(iter(values.values())))
    for name in kind.names():
        if name not in values:
            values[name] = np.full(rows, _MISSING[kind, name], np.int64)
    table = kind.from_columns(values)
    _refuse_repetitions(source, table, note)
    ignored = [name for name in source.header if name not in wanted]
    if ignored and note is not None:
        verb = "is" if len(ignored) == 1 else "are"
        note(f"{path}: {_listed(ignored)} {verb} ignored; a table of {_NAMES[kind]} has {','.join(kind.names())}.")
    return table


def write_table(path: Path, table: Written) -> None:
    """Write a table as CSV or Parquet, by the suffix of `path`; a figure that is not a number becomes an empty cell.

    Raises
    ------
    DataError
        When the suffix is neither ``.csv`` nor ``.parquet``.
    """
    names = [name for name in table.names() if not _left_out(table, name)]
    arrow = pa.table({name: pa.array(getattr(table, name), from_pandas=True) for name in names})
    file_format = check_suffix(path)
    # Opened here: Arrow takes some names for addresses, and cannot encode others.
    with path.open("wb") as file:
        if file_format == "parquet":
            pa_parquet.write_table(arrow, file, compression="zstd")
        else:
            options = pa_csv.WriteOptions(quoting_style="none", quoting_header="none", batch_size=65536)
            pa_csv.write_csv(arrow, file, options)


def table_kind(path: Path) -> type[Table]:
    """Kind of the table in a file, by its columns; additional columns are ignored.

    Raises
    ------
    DataError
        When the file cannot be read or its columns are those of no table.
    """
    header = set(_header(path))
    for kind in _NAMES:
        if _required(kind) <= header:
            return kind
    raise DataError(
        f"{path} has {_listed(sorted(header))}; that is neither a table of localizations nor of tracks nor of truth.",
        _renamed(_required(Truth) - header, header)
        or "Name the columns as a table of localizations has them: " + ",".join(Localizations.names()) + ".",
    )


def stated_rate(path: Path) -> float | None:
    """Frames per second that a column `t_s` beside `frame` states; None where a table states none.

    Raises
    ------
    DataError
        When the file cannot be read, or one of the columns holds something else than numbers.
    """
    if not {"frame", "t_s"} <= set(_header(path)):
        return None
    columns = _open(path).read(["frame", "t_s"], _WHOLE, _TRUE_OR_FALSE)
    frame, t_s = columns["frame"].values, columns["t_s"].values
    known = ~(columns["frame"].missing | columns["t_s"].missing) & np.isfinite(t_s)
    if np.count_nonzero(known) < 2:
        return None
    first, last = (choose(np.where(known, frame, frame[known][0])) for choose in (np.argmin, np.argmax))
    frames, seconds = float(frame[last] - frame[first]), float(t_s[last] - t_s[first])
    return frames / seconds if frames > 0 and seconds > 0 else None


def is_table(path: Path, kind: type[Written], more: Iterable[str] = ()) -> bool:
    """Whether `path` has the columns of `kind` and, but for `more`, no others: a new table may replace it."""
    try:
        return path.is_file() and _required(kind) <= set(_header(path)) <= {*kind.names(), *more}
    except DataError:
        return False


class _ParquetFile:
    """A Parquet file whose header has been read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            try:
                self._schema: pa.Schema = pa_parquet.read_schema(file)
            except (pa.ArrowException, UnicodeError) as error:
                raise DataError(f"{path} is not a Parquet file ({_first_line(error)}).", _REPAIR) from error
        self.header: tuple[str, ...] = tuple(self._schema.names)

    def read(self, wanted: Iterable[str], whole: frozenset[str], truths: frozenset[str]) -> dict[str, Column]:
        """As `CsvFile.read`."""
        wanted = list(wanted)
        for name in wanted:
            if not _holds_numbers(self._schema.field(name).type, name in truths):
                raise DataError(
                    f"{self.path}, column {name!r} holds {self._schema.field(name).type}; every cell must be "
                    f"{_number_rule(name)}.",
                    "Convert the column to numbers, and write the file again.",
                )
        # Opened as one file: a path that is given to Arrow would be searched for names and values of columns.
        with self.path.open("rb") as file:
            try:
                parquet = pa_parquet.ParquetFile(file)
                allow_memory(self.path, parquet.metadata.num_rows, len(wanted))
                table = parquet.read(columns=wanted)
            except (pa.ArrowNotImplementedError, NotImplementedError) as error:
                raise DataError(
                    f"{self.path} is written in a way that is not supported ({_first_line(error)}).",
                    "Write it again without encryption, compressed with zstd, snappy or not at all.",
                ) from error
            except (pa.ArrowException, OSError, MemoryError) as error:
                raise DataError(f"{self.path} is damaged ({_first_line(error)}).", _REPAIR) from error
        return {name: self._column(name, table.column(name), name in whole) for name in wanted}

    def place(self, row: int) -> str:
        """Position of a row, from 1, for messages."""
        return f"{self.path}, row {row}"

    def _column(self, name: str, cells: pa.ChunkedArray, whole: bool) -> Column:
        stored = cells.type
        if pa.types.is_dictionary(stored):
            cells = cells.cast(stored.value_type)
        if pa.types.is_boolean(cells.type):
            cells = cells.cast(pa.int64())
        exact = whole and not pa.types.is_floating(cells.type)
        try:
            column = Column.of_arrow(cells.cast(pa.int64() if exact else pa.float64()))
        except pa.ArrowInvalid as error:
            raise DataError(
                f"{self.path}, column {name!r}: it holds {stored}, and a cell of it does not fit "
                f"({_first_line(error)}); every cell must be {_number_rule(name)}.",
                _REPAIR,
            ) from error
        if not whole or exact:
            return column
        bad = ~column.missing & ~((column.values == np.rint(column.values)) & (np.abs(column.values) <= _LARGEST_ID))
        if bad.any():
            row = int(np.argmax(bad))
            raise DataError(
                f"{self.path}, column {name!r} holds {stored}; row {row + 1}: {name} is {column.values[row]}; "
                "it must be a whole number.",
                _REPAIR,
            )
        return Column(column.values.astype(np.int64), column.missing)


def _open(path: Path) -> CsvFile | _ParquetFile:
    file_format = check_suffix(path)
    if path.is_dir():
        raise DataError(f"{path} is a folder; a table is a file.", "Name a .csv or .parquet file.")
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty; a table has at least a header.", "Write it again; it was cut off.")
    return _ParquetFile(path) if file_format == "parquet" else CsvFile.open(path, _ALL_NAMES)


def _header(path: Path) -> tuple[str, ...]:
    try:
        return _open(path).header
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}).", "Check the path and its permissions."
        ) from error


def _required(kind: type[Written]) -> set[str]:
    return {name for name in kind.names() if (kind, name) not in _OPTIONAL}


def _left_out(table: Written, name: str) -> bool:
    kind = type(table)
    return (kind, name) in _OPTIONAL and bool(np.all(getattr(table, name) == _MISSING[kind, name]))


def _check_header(path: Path, header: tuple[str, ...], kind: type[Table]) -> None:
    wanted = kind.names()
    missing = [name for name in wanted if name in _required(kind) and name not in header]
    twice = [name for name in wanted if header.count(name) > 1]
    for names, fault in ((missing, "lacks"), (twice, "has more than one")):
        if names:
            raise DataError(
                f"{path} {fault} column{'s' if len(names) > 1 else ''} {', '.join(map(repr, names))}; a table of "
                f"{_NAMES[kind]} has {','.join(wanted)}, separated by commas.",
                _renamed(names, header) or _REPAIR,
            )


_QUANTITY = re.compile(
    r"(?:pos(?:ition)?_?|coord(?:inate)?_?|centroid_?)?([xyz])(?:_?(?:pos(?:ition)?|coord(?:inate)?))?(?:_?location)?"
)
_SIMILAR = {
    "frame": {"frame", "frames", "frameno", "framenumber", "framenr", "imagenumber", "t", "timepoint", "slice"},
    "track_id": {"trackid", "id", "track", "particle", "particleid", "trajectory", "tracknumber"},
    "photons": {"photons", "intensity", "nphotons", "signal"},
    "background": {"background", "bg", "offset"},
}
_UNITS = (
    (re.compile(r"nm|nanomet(?:er|re)s?"), "divide its nanometres by 1000"),
    (re.compile(r"px|pix|pixels?"), "multiply its pixels by their size in µm"),
    (re.compile(r"mm|millimet(?:er|re)s?"), "multiply its millimetres by 1000"),
)


def _renamed(missing: Iterable[str], header: Iterable[str]) -> str:
    """Advice on columns whose name or unit resembles a missing one; empty without any."""
    advice = []
    for wanted in missing:
        for name in header:
            change = _change(wanted, name)
            if change is not None:
                advice.append(f"Its column {name!r} may be {wanted}: {change}.")
                break
    return " ".join(advice)


def _change(wanted: str, name: str) -> str | None:
    """Change that turns a column of a similar name into the wanted one; None when it is not similar."""
    parts = re.fullmatch(r"(.*?)[\s_]*[\[(](.*)[\])]|(.*?)[\s_]+(nm|um|µm|μm|px|pix|mm)|(.*)", name.strip().lower())
    if parts is None:
        return None
    quantity = (parts[1] or parts[3] or parts[5] or "").strip()
    unit = (parts[2] or parts[4] or "").strip()
    change = next((words for pattern, words in _UNITS if pattern.fullmatch(unit)), None)
    position = _QUANTITY.fullmatch(quantity.replace(" ", "_"))
    if wanted in ("x_um", "y_um", "z_um"):
        if position is None or position[1] != wanted[0]:
            return None
        return f"{change}, and name it {wanted}" if change else f"name it {wanted} when it is in µm"
    if re.sub(r"[\s_]", "", quantity) in _SIMILAR.get(wanted, ()) or quantity == wanted:
        return f"name it {wanted}"
    return None


def _checked(source: CsvFile | _ParquetFile, kind: type[Table], name: str, column: Column) -> NDArray[Any]:
    values, missing = column.values, column.missing
    instead = _MISSING.get((kind, name))
    if missing.any():
        if instead is None:
            row = int(np.argmax(missing)) + 1
            raise _bad_value(source, row, name, "empty", f"filled with {_number_rule(name)}", _FINITE[2])
        values = np.where(missing, np.asarray(instead, values.dtype), values)
    rules = [] if name in _WHOLE else [_FINITE]
    rules += [_IDS[kind]] if name == "track_id" else _RULES.get(name, ())
    for words, kept, remedy in rules:
        good = kept(values) | missing
        if instead is not None and np.isnan(instead):
            good |= np.isnan(values)
        if not good.all():
            row = int(np.argmin(good))
            raise _bad_value(source, row + 1, name, str(values[row]), words, remedy)
    return values


def _refuse_repetitions(source: CsvFile | _ParquetFile, table: Table, note: Note | None) -> None:
    """Reject repeated rows; note a track that is twice in a frame."""
    columns = table.columns()
    pair = _first_repetition(list(columns.values()))
    if pair is not None:
        raise DataError(
            f"{source.place(pair[1] + 1)}: it is equal to row {pair[0] + 1} in every column; a table has each row "
            "once.",
            "Remove the repeated rows.",
        )
    if "track_id" not in columns or note is None:
        return
    known = np.flatnonzero(columns["track_id"] >= 0)
    pair = _first_repetition([columns["frame"][known], columns["track_id"][known]])
    if pair is not None:
        first, second = known[list(pair)].tolist()
        note(
            f"{source.place(second + 1)}: track {columns['track_id'][second]} is in frame {columns['frame'][second]} "
            f"for the second time, after row {first + 1}; a track is in one place at a time."
        )


def _first_repetition(columns: list[NDArray[Any]]) -> tuple[int, int] | None:
    """Indices of the first two equal rows; None when all differ."""
    # Equal rows have equal hashes; sorting one number per row is much faster than sorting rows.
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        bits = (column + 0).view(np.uint64)  # -0.0 becomes 0.0
        mixed = (mixed ^ bits ^ (bits >> np.uint64(29))) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(32)
    order = np.argsort(mixed, kind="stable")
    alike = mixed[order][1:] == mixed[order][:-1]
    first, second = order[:-1][alike], order[1:][alike]
    same = np.ones(len(first), bool)
    for column in columns:
        one, other = column[first], column[second]
        same &= (one == other) | ((one != one) & (other != other))
    if not same.any():
        return None
    place = int(np.argmin(np.where(same, second, len(mixed))))
    return int(first[place]), int(second[place])


def _bad_value(source: CsvFile | _ParquetFile, row: int, name: str, value: str, rule: str, remedy: str) -> DataError:
    return DataError(f"{source.place(row)}: {name} is {value}; it must be {rule}.", remedy)


def _number_rule(name: str) -> str:
    return "a whole number" if name in _WHOLE else "a number"


def _holds_numbers(stored: pa.DataType, truths: bool) -> bool:
    if pa.types.is_dictionary(stored):
        stored = stored.value_type
    return (
        pa.types.is_integer(stored)
        or pa.types.is_floating(stored)
        or pa.types.is_decimal(stored)
        or pa.types.is_null(stored)
        or (truths and pa.types.is_boolean(stored))
    )


_LISTED = 8


def _listed(names: Iterable[str]) -> str:
    """Names of columns, shortened to a readable number."""
    shown = [repr(name) if name else "one without a name" for name in names]
    more = f" and {len(shown) - _LISTED} more" if len(shown) > _LISTED else ""
    return f"the column{'s' if len(shown) > 1 else ''} {', '.join(shown[:_LISTED])}{more}"


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__

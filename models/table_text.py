"""CSV tables of any program: encoding, separator, header and cells.

Byte order marks, UTF-16, the separators of spreadsheets, decimal commas,
comment lines, blank lines and quotes are recognized. An ambiguous file is
rejected, with the line and the remedy. A file with numbers only, as Bathyscope
and most programs write it, is read by the fast reader of Arrow; all others by the
strict reader of Python, which knows the line and rejects unclosed quotes.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv

from models.errors import DataError
from models.table_columns import Column, allow_memory

__all__ = ["CsvFile", "is_number"]

_MARKS = (
    # The mark of UTF-32 begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_OTHER_FILES = {
    b"PAR1": "a Parquet file; name it .parquet",
    b"PK\x03\x04": "a ZIP archive or an Excel workbook; save the table as CSV",
    b"\x1f\x8b": "compressed by gzip; decompress it",
    b"\x28\xb5\x2f\xfd": "compressed by zstd; decompress it",
    b"\x89HDF": "an HDF5 file; export the table as CSV",
    b"ARROW1": "an Arrow file; write it as Parquet",
}

_SEPARATORS = (",", ";", "\t")

# Bytes within which the header must end; the widest tables of the field (TrackMate's) have headers of 1 kB.
_HEAD_BYTES = 1 << 18
_SCAN_BYTES = 1 << 22
_BATCH_ROWS = 50_000

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+\Z")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d+", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+", re.ASCII)
_MISSING = frozenset({"", "na", "n/a", "#n/a", "null", "none", "<na>", "nat"})
_NOT_FINITE = frozenset({"nan", "inf", "infinity"})
_TRUE_FALSE = {"true": 1, "false": 0}

# Below this, float64 represents all integers exactly.
_EXACT = 2**53
# Most characters of an integer in a table, with spare blanks and zeros; int and Decimal would expand longer ones.
_LONGEST_NUMBER = 60


def is_number(text: str) -> bool:
    """Whether a cell is a number as programs write it: digits, one point, an exponent; nothing else."""
    return _NUMBER.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class CsvFile:
    """A CSV file whose header has been read.

    Attributes
    ----------
    path : where it is
    encoding : name of its characters' encoding
    separator : character between two cells
    header : names of the columns, without outer blanks; a column without a name is ""
    header_line : number of the header's line, from 1; 0 where there is none
    body_bytes : where in the file the rows begin
    comments : whether a row that begins with # is a comment: where its first cell has to be a number
    """

    path: Path
    encoding: str
    separator: str
    header: tuple[str, ...]
    header_line: int
    body_bytes: int
    comments: bool

    @classmethod
    def open(cls, path: Path, known: frozenset[str]) -> CsvFile:
        """Read the header of a file.

        Parameters
        ----------
        path : Path
            A file that is not empty.
        known : frozenset of str
            All names that a column of a table can have, from which the separator is found.

        Raises
        ------
        DataError
            When it is no text, or its first line is no header.
        OSError
            When it cannot be read.
        """
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        mark, encoding = _encoding(path, head)
        # A character that is cut in two by the end of the head is left out.
        text = codecs.getincrementaldecoder(encoding)("replace").decode(head[mark:])
        announced: str | None = None
        used = 0
        for number, line in enumerate(_LINE.findall(text), start=1):
            used += len(line)
            content = line.rstrip("\r\n")
            if re.fullmatch(r"sep=.", content, re.IGNORECASE):  # Excel's way to name the separator
                announced = content[-1]
                continue
            if not content.strip():
                continue
            comment = content.lstrip().startswith("#")
            # NumPy writes its header as a comment. Outer tabs are the edges of columns without a name.
            names, separator = _split(path, content.lstrip(" #") if comment else content, announced, known)
            if comment and not known & set(names):
                continue
            if all(map(is_number, names)):
                raise DataError(
                    f"{path}, line {number} is {content[:200]!r}; the first line must name the columns.",
                    "Put a line with the names of the columns on top, separated by commas.",
                )
            body = mark + len(text[:used].encode(encoding))
            return cls(path, encoding, separator, tuple(names), number, body, comments=names[0] in known)
        return cls(path, encoding, ",", (), 0, len(head), comments=False)

    def read(self, wanted: Sequence[str], whole: frozenset[str], truths: frozenset[str]) -> dict[str, Column]:
        """Read the columns of some names.

        Parameters
        ----------
        wanted : sequence of str
            Names that the header has, each once.
        whole : frozenset of str
            Those whose numbers are whole, however they are written.
        truths : frozenset of str
            Those that may say true and false for 1 and 0.

        Returns
        -------
        dict of str to Column
            float64, or int64 where `whole`.

        Raises
        ------
        DataError
            At the first row that has another number of cells than the header, or a cell that is no number; when the
            table is larger than the memory.
        OSError
            When it cannot be read.
        """
        rows, plain = self._scan()
        allow_memory(self.path, rows, len(wanted))
        if plain:
            columns = self._read_plain(wanted, whole)
            if columns is not None:
                return columns
        return self._read_cells(wanted, whole, truths)

    def place(self, row: int) -> str:
        """Position of a row, from 1, for messages: its line, unless it directly follows from the row."""
        for number, (line, _) in enumerate(self._rows(), start=1):
            if number == row:
                return f"{self.path}, line {line}, row {row}"
        return f"{self.path}, row {row}"

    def _scan(self) -> tuple[int, bool]:
        """Number of lines of the rows, and whether they contain numbers only."""
        if self.encoding not in ("utf-8", "latin-1"):  # a cell takes two characters of two bytes, or more
            return self.path.stat().st_size // (4 * len(self.header)), False
        figures = b"0123456789+-.eE \r\n" + self.separator.encode()
        lines, plain = 1, True
        with self.path.open("rb") as file:
            file.seek(self.body_bytes)
            while part := file.read(_SCAN_BYTES):
                lines += max(part.count(b"\n"), part.count(b"\r"))
                plain = plain and not part.translate(None, figures)
        return lines, plain

    def _read_plain(self, wanted: Sequence[str], whole: frozenset[str]) -> dict[str, Column] | None:
        """Read with Arrow; None when a cell needs the strict reader."""
        # Columns that are not wanted may share their names.
        names = [name if name in wanted else f"{place}:{name}" for place, name in enumerate(self.header)]
        with self.path.open("rb") as file:
            file.seek(self.body_bytes)
            try:
                table = pa_csv.read_csv(
                    file,
                    read_options=pa_csv.ReadOptions(column_names=names),
                    parse_options=pa_csv.ParseOptions(delimiter=self.separator),
                    convert_options=pa_csv.ConvertOptions(
                        column_types=dict.fromkeys(wanted, pa.float64()),
                        include_columns=list(wanted),
                        null_values=[""],
                        strings_can_be_null=True,
                    ),
                )
            except pa.ArrowInvalid:
                return None
        columns = {name: Column.of_arrow(table.column(name)) for name in wanted}
        for name in whole & columns.keys():
            values = columns[name].values
            if not np.all((values == np.rint(values)) & (np.abs(values) < _EXACT)):
                return None
            columns[name] = Column(values.astype(np.int64), columns[name].missing)
        return columns

    def _read_cells(self, wanted: Sequence[str], whole: frozenset[str], truths: frozenset[str]) -> dict[str, Column]:
        places = [self.header.index(name) for name in wanted]
        parts: dict[str, list[Column]] = {name: [] for name in wanted}
        rows = enumerate(self._rows(), start=1)
        numbers = _Numbers(self.separator)
        while batch := list(itertools.islice(rows, _BATCH_ROWS)):
            for row, (line, cells) in batch:
                if len(cells) != len(self.header):
                    raise self._ragged(row, line, cells)
            for name, place in zip(wanted, places, strict=True):
                texts = [cells[place].strip() for _, (_, cells) in batch]
                column = numbers.column(texts, name in whole, name in truths)
                if isinstance(column, int):
                    row, (line, cells) = batch[column]
                    raise self._no_number(row, line, name, texts[column], cells, name in whole)
                parts[name].append(column)
        return {name: Column.joined(parts[name], np.int64 if name in whole else np.float64) for name in wanted}

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """Line number and cells of every row that is neither blank nor a comment."""
        with self.path.open("rb") as file:
            file.seek(self.body_bytes)
            with io.TextIOWrapper(file, encoding=self.encoding, errors="surrogateescape", newline="") as text:
                reader = csv.reader(text, delimiter=self.separator, skipinitialspace=True, strict=True)
                line = self.header_line + 1
                while True:
                    try:
                        cells = next(reader, None)
                    except (csv.Error, UnicodeError) as error:
                        raise DataError(
                            f"{self.path}, line {line}: this row cannot be split into cells ({error}).",
                            "Correct the quotes there, or write the file again.",
                        ) from error
                    if cells is None:
                        return
                    blank = not any(cell.strip() for cell in cells) and len(cells) <= 1
                    if not blank and not (self.comments and cells[0].lstrip().startswith("#")):
                        yield line, cells
                    line = self.header_line + 1 + reader.line_num

    def _ragged(self, row: int, line: int, cells: list[str]) -> DataError:
        content = self.separator.join(cells)
        remedy = "Correct the row, or write the file again; it may have been cut off there."
        if self.separator == "," and len(cells) > len(self.header):
            remedy = "If the numbers have decimal commas, write the file again with decimal points or with semicolons."
        return DataError(
            f"{self.path}, line {line}, row {row}: {len(cells)} cells ({content[:200]!r}); "
            f"the header names {len(self.header)} columns.",
            remedy,
        )

    def _no_number(self, row: int, line: int, name: str, text: str, cells: list[str], whole: bool) -> DataError:
        remedy = "Correct the file, or write it again with Bathyscope."
        if [cell.strip() for cell in cells] == list(self.header):
            remedy = "The header stands there once more; remove that line."
        elif not any(map(is_number, map(str.strip, cells))):
            remedy = "If this is a second line of names or units, remove it."
        elif "," in text:
            remedy = "Write the numbers with a decimal point and without separators of thousands."
        rule = "a whole number" if whole else "a number"
        return DataError(f"{self.path}, line {line}, row {row}: {name} is {text[:200]!r}; it must be {rule}.", remedy)


class _Numbers:
    """Conversion of the cells of a file to numbers: with decimal points or with decimal commas, never with both."""

    def __init__(self, separator: str) -> None:
        self._separator = separator
        self._mark: str | None = None

    def column(self, texts: list[str], whole: bool, truths: bool) -> Column | int:
        """Numbers of cells of a column, or the index of the first cell that is not a number."""
        missing = np.zeros(len(texts), bool)
        values: list[Any] = []
        convert = _whole if whole else float
        for place, text in enumerate(texts):
            value: Any = None
            number = self._with_point(text, texts)
            if number is not None and _NUMBER.fullmatch(number) is not None:
                value = convert(number)
            elif truths and text.lower() in _TRUE_FALSE:
                value = _TRUE_FALSE[text.lower()]
            elif text.lower() in _MISSING:
                missing[place], value = True, 0
            elif text.lower().lstrip("+-") in _NOT_FINITE:
                if whole:
                    return place
                value = float(text)
            if value is None:
                return place
            values.append(value)
        return Column(np.array(values, np.int64 if whole else np.float64), missing)

    def _with_point(self, text: str, others: list[str]) -> str | None:
        """The cell with a decimal point; None when its comma may separate thousands, or other cells have points."""
        mark = "," if "," in text else "." if "." in text else None
        if mark is None:
            return text
        if mark == "," and self._mark is None:
            # Spreadsheets write semicolons where the comma is the decimal sign, and tabs everywhere.
            sure = self._separator == ";" or not all(_THOUSANDS.fullmatch(other) for other in others if "," in other)
            if self._separator == "," or not sure:
                return None
        self._mark = self._mark or mark
        if mark != self._mark:
            return None
        return text.replace(",", ".") if mark == "," and text.count(",") == 1 and "." not in text else text


def _whole(text: str) -> int | None:
    """Integer value of a cell in any notation; None for other cells and for integers beyond int64."""
    if len(text) > _LONGEST_NUMBER:
        return None
    if _INTEGER.fullmatch(text) is not None:
        value = int(text)
    else:
        number = Decimal(text)
        if number.adjusted() > _LONGEST_NUMBER or number != number.to_integral_value():
            return None
        value = int(number)
    return value if abs(value) < 2**63 else None


def _encoding(path: Path, head: bytes) -> tuple[int, str]:
    """Length of the byte order mark of a file, and its encoding."""
    for beginning, what in _OTHER_FILES.items():
        if head.startswith(beginning):
            raise DataError(f"{path} is no CSV table, but {what}.", "Give a CSV table, or a Parquet file.")
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return len(mark), encoding
    # Without a mark: every second byte of figures and names in UTF-16 is 0.
    if b"\0" in head:
        even, odd = head[::2].count(0), head[1::2].count(0)
        if even + odd < len(head) // 4 or (even and odd):
            raise DataError(f"{path} has bytes of value 0 and is no text.", "Export the table as CSV, in UTF-8.")
        return 0, "utf-16-le" if odd else "utf-16-be"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return 0, "latin-1"
    return 0, "utf-8"


def _split(path: Path, line: str, announced: str | None, known: frozenset[str]) -> tuple[list[str], str]:
    """Names in a header, and the separator: the one that gives most names of tables, the comma when none gives any."""
    found: list[tuple[int, int, list[str], str]] = []
    for separator in (announced,) if announced else _SEPARATORS:
        try:
            row = next(csv.reader([line], delimiter=separator, skipinitialspace=True, strict=True))
        except csv.Error:
            continue
        names = [name.strip() for name in row]
        found.append((len(known & set(names)), len(names), names, separator))
    best = max(found, key=lambda each: each[:2], default=(0, 0, [line], ","))
    words = re.split(r"[\s|:]+", line.strip())
    if best[0] <= 1 < len(known & set(words)):
        raise DataError(
            f"The columns of {path} are {line[:200]!r}; blanks, colons or strokes do not part columns.",
            "Write the table with commas, semicolons or tabs between the columns.",
        )
    return best[2], best[3]

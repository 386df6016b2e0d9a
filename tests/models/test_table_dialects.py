"""Tables that other programs wrote are read to the same values, or refused with the place and how to mend it."""

from __future__ import annotations

import codecs
import contextlib
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.errors import DataError
from models.table_files import LARGEST_FRAME, is_table, read_table, table_kind, write_table
from models.tables import Localizations, Tracks, Truth

HEADER = "frame,x_um,y_um,z_um"
ROWS = "0,1.5,2,3\n1,4,5,6\n"


def _written(folder: Path, content: str | bytes, name: str = "truth.csv") -> Path:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def _is_the_table(truth: Truth) -> bool:
    rows = [truth.frame.tolist(), truth.x_um.tolist(), truth.y_um.tolist(), truth.z_um.tolist()]
    return rows == [[0, 1], [1.5, 4.0], [2.0, 5.0], [3.0, 6.0]]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(f"{HEADER}\n0.0,1.5,2,3\n1.,4,5,6\n", id="whole numbers as floats"),
        pytest.param(f"{HEADER}\n0e0,1.5,2,3\n+1,4,5,6\n", id="whole numbers with exponent and sign"),
        pytest.param(f",{HEADER}\n0,0,1.5,2,3\n1,1,4,5,6\n", id="index column without a name"),
        pytest.param(f"Unnamed: 0,{HEADER}\n0,0,1.5,2,3\n1,1,4,5,6\n", id="index column that was read back"),
        pytest.param("frame, x_um, y_um, z_um\n0, 1.5, 2, 3\n1, 4, 5, 6\n", id="blanks after commas"),
        pytest.param('"frame", "x_um", "y_um", "z_um"\n"0", "1.5", "2", "3"\n1,4,5,6\n', id="quotes after blanks"),
        pytest.param("frame;x_um;y_um;z_um\n0;1,5;2;3\n1;4,0;5,0;6,0\n", id="semicolons and decimal commas"),
        pytest.param("frame ;x_um ;y_um; z_um\n0 ; 1.5; 2 ;3\n1 ;4;5;6\n", id="blanks around semicolons"),
        pytest.param("frame\tx_um\ty_um\tz_um\n0\t1.5\t2\t3\n1\t4\t5\t6\n", id="tabs"),
        pytest.param("\tframe\tx_um\ty_um\tz_um\n0\t0\t1.5\t2\t3\n1\t1\t4\t5\t6\n", id="tabs and an index"),
        pytest.param("frame\tx_um\ty_um\tz_um\n0\t1,5\t2\t3\n1\t4\t5\t6\n", id="tabs and decimal commas"),
        pytest.param("sep=;\nframe;x_um;y_um;z_um\n0;1,5;2;3\n1;4;5;6\n", id="separator announced"),
        pytest.param(codecs.BOM_UTF8 + f"{HEADER}\n{ROWS}".encode(), id="byte order mark"),
        pytest.param(f"{HEADER}\n{ROWS}".encode("utf-16"), id="UTF-16 with mark"),
        pytest.param(f"{HEADER}\n{ROWS}".encode("utf-16-be"), id="UTF-16 without mark"),
        pytest.param(f"{HEADER}\n{ROWS}".encode("utf-32"), id="UTF-32"),
        pytest.param(f"Länge [µm],{HEADER}\n7,0,1.5,2,3\n8,1,4,5,6\n".encode("latin-1"), id="latin-1"),
        pytest.param(f"{HEADER},who\n0,1.5,2,3,Müller\n1,4,5,6,\xb5\n".encode("latin-1"), id="latin-1 below"),
        pytest.param(f"{HEADER}\n{ROWS}".replace("\n", "\r\n"), id="Windows"),
        pytest.param(f"{HEADER}\n{ROWS}".replace("\n", "\r"), id="old Mac"),
        pytest.param(f"# made by hand\n\n#\n{HEADER}\n# a remark, with commas, in, it\n{ROWS}", id="comments"),
        pytest.param(f"# {HEADER}\n0.000e+00,1.500e+00,2e0,3e0\n1e0,4e0,5e0,6e0\n", id="header as a comment"),
        pytest.param(f"\n\n{HEADER}\n\n0,1.5,2,3\n   \n1,4,5,6\n\n", id="blank lines"),
        pytest.param(f'{HEADER},note\n0,1.5,2,3,"a ""b"", c\nd"\n1,4,5,6,\n', id="line end in quotes"),
        pytest.param("z_um,y_um,x_um,frame\n3,2,1.5,0\n6,5,4,1\n", id="another order"),
        pytest.param(f"{HEADER},x_um.1,x [nm],x [nm]\n0,1.5,2,3,9,9,9\n1,4,5,6,9,9,9\n", id="others are there twice"),
        pytest.param(f"spot,{HEADER}\n#1,0,1.5,2,3\n#2,1,4,5,6\n", id="names that begin like comments"),
        pytest.param(f"{HEADER}\n0,1.5,2,3\n1,4,5,6", id="no last line end"),
        pytest.param(f"{HEADER}\n000,01.5,2,3\n01,4,5,6\n", id="leading zeros"),
    ],
)
def test_dialects_are_read_to_the_same_values(tmp_path: Path, content: str | bytes) -> None:
    assert _is_the_table(read_table(_written(tmp_path, content), Truth))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (f"{HEADER}\n0,0,02375,0,19375,12\n", "line 2, row 1: 6 cells.*decimal points or with semicolons"),
        (f'{HEADER}\n0,"1,5",2,3\n', "line 2, row 1: x_um is '1,5'; it must be a number. Write.*decimal point"),
        ("frame;x_um;y_um;z_um\n0;1.234,5;2;3\n", "x_um is '1.234,5'.*without separators of thousands"),
        ("frame;x_um;y_um;z_um\n0;1,5;2;3\n1;1.5;2;3\n", "line 3, row 2: x_um is '1.5'"),
        ("frame;x_um;y_um;z_um\n0;1.5;2;3\n1;1;2,5;3\n", "y_um is '2,5'"),
        ("frame\tx_um\ty_um\tz_um\n0\t1,234\t2,500\t3\n", "x_um is '1,234'.*without separators of thousands"),
        (f"{HEADER}\n0,1_0,2,3\n", "x_um is '1_0'"),
        (f"{HEADER}\n0x10,1,2,3\n", "frame is '0x10'; it must be a whole number"),
        (f"{HEADER}\n٣,1,2,3\n", "frame is '٣'"),
        (f"{HEADER}\n0,1.5 µm,2,3\n", "x_um is '1.5 µm'"),
        (f"{HEADER}\n1e999999999,1,2,3\n", "frame is '1e999999999'"),
        (f"{HEADER}\n{'9' * 6000},1,2,3\n", "frame is '999"),
        (f"{HEADER}\n9223372036854775808.0,1,2,3\n", "frame is '9223372036854775808.0'"),
        (f"{HEADER}\n1000000000000000000,1,2,3\n", "frame is 1000000000000000000; it must be at most 1000000000000"),
        (f"{HEADER}\nTrue,1,2,3\n", "frame is 'True'"),
        (f"{HEADER}\n0,1,2,NA\n", "z_um is empty; it must be filled"),
        (f"{HEADER}\n0,1e300,2,3\n", "x_um is 1e[+]300; it must be at most 100000 µm from 0. Positions are in µm"),
        (f"{HEADER}\n0,1e400,2,3\n", "x_um is inf; it must be a finite number"),
        (f"{HEADER}\n0,1,2,20000\n", "z_um is 20000.0; it must be at most 10000 µm from 0.*divide nanometres by 1000"),
        (f"\n# remark\n{HEADER}\n\n0,1,2,3\n\n1,1,deep,3\n", "line 7, row 2: y_um is 'deep'"),
        (f"{HEADER}\n0,1,2,3\n5,1,2,3\n0,1.0,2,3\n", "line 4, row 3: it is equal to row 1 in every column"),
        (f"{HEADER}\n0,1,2,3\n{HEADER}\n", "line 3, row 2.*The header stands there once more"),
        (f"{HEADER}\nFrame,X,Y,Z\n0,1,2,3\n", "line 2, row 1.*second line of names or units, remove it"),
        ("0,1,2,3\n1,2,3,4\n", "line 1 is '0,1,2,3'; the first line must name the columns"),
        ("frame|x_um|y_um|z_um\n0|1|2|3\n", "blanks, colons or strokes do not part columns"),
        (f'{HEADER}\n0,1,2,"3\n1,1,2,3\n', "cannot be split into cells"),
        (f'{HEADER},note\n0,1,2,3,"5 inch" lens\n', "line 2.*cannot be split into cells"),
        (f"{HEADER}\n0,1,2,3,\n", "row 1: 5 cells"),
        (f"{HEADER},['z']_0,['z']_1\n0,1,2,3\n", "row 1: 4 cells .*the header names 6 columns"),
        ("frame,x [nm],y (px),Z\n0,1,2,3\n", "'x .nm.' may be x_um: divide its nanometres by 1000, and name it x_um"),
        ("frame,x [nm],y (px),Z\n0,1,2,3\n", "'y .px.' may be y_um: multiply its pixels by their size in µm"),
        ("frame,x [nm],y (px),Z\n0,1,2,3\n", "'Z' may be z_um: name it z_um when it is in µm"),
        ("FRAME,POSITION_X,y_nm,z_um\n0,1,2,3\n", "'FRAME' may be frame: name it frame.*'POSITION_X' may be x_um"),
        (b"PK\x03\x04 and so on", "an Excel workbook; save the table as CSV"),
        (b"PAR1 and so on", "a Parquet file; name it .parquet"),
        (b"frame,x_um\0\0\1\2\0\0\0\0\0\0\0", "has bytes of value 0 and is no text"),
        (f"{HEADER}\n0,1,2,\x00\n", "z_um is|bytes of value 0"),
    ],
)
def test_what_is_not_read_is_told_with_its_remedy(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_table(_written(tmp_path, content), Truth)


def test_other_columns_are_named(tmp_path: Path) -> None:
    notes: list[str] = []
    path = _written(tmp_path, f",{HEADER},w\n5,0,1.5,2,3,4\n6,1,4,5,6,4\n")
    assert _is_the_table(read_table(path, Truth, notes.append))
    assert notes == [
        f"{path}: the columns one without a name, 'w' are ignored; a table of truth has frame,x_um,y_um,z_um,track_id."
    ]
    assert table_kind(path) is Truth
    # Somebody else's columns would be lost with the file.
    assert not is_table(path, Truth)


def test_a_track_that_is_twice_in_a_frame_is_noted(tmp_path: Path) -> None:
    notes: list[str] = []
    path = _written(tmp_path, f"{HEADER},track_id\n0,1,2,3,7\n0,1,2,4,7\n1,1,2,3,-1\n1,1,2,4,\n")
    assert read_table(path, Truth, notes.append).track_id.tolist() == [7, 7, -1, -1]
    assert len(notes) == 1
    assert "row 2: track 7 is in frame 0 for the second time, after row 1" in notes[0]


def test_unknown_identities_come_back(tmp_path: Path) -> None:
    truth = Truth.from_columns({"frame": [0, 0], "x_um": [1, 2], "y_um": [1, 2], "z_um": [1, 2], "track_id": [3, -1]})
    for name in ("truth.csv", "truth.parquet"):
        write_table(tmp_path / name, truth)
        assert read_table(tmp_path / name, Truth).track_id.tolist() == [3, -1]


@pytest.mark.parametrize("observed", ["True", "true", "1.0", "1"])
def test_true_and_false_are_1_and_0_where_they_may_stand(tmp_path: Path, observed: str) -> None:
    names = ",".join(Tracks.names())
    path = _written(tmp_path, f"{names}\n1,0,0,1,2,3,0,0,0,1,1,1,{observed},\n1,1,0.1,1,2,3,0,0,0,1,1,1,False,\n")
    if observed in ("1.0", "1"):
        path.write_text(path.read_text().replace("False", "0"))
    assert read_table(path, Tracks).observed.tolist() == [1, 0]


@pytest.mark.parametrize("missing", ["", "NA", "nan", "NaN", "null", "None", "#N/A", "<NA>"])
def test_chi2_may_be_missing_in_every_spelling(tmp_path: Path, missing: str) -> None:
    path = _written(tmp_path, ",".join(Localizations.names()) + f"\n0,1,2,3,4,5,0.5,1,1,1,{missing}\n")
    assert np.isnan(read_table(path, Localizations).chi2[0])


def _parquet(folder: Path, **changed: Any) -> Path:
    columns = {"frame": [0, 1], "x_um": [1.5, 4.0], "y_um": [2.0, 5.0], "z_um": [3.0, 6.0]} | changed
    path = folder / "truth.parquet"
    pyarrow.parquet.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    "changed",
    [
        {"frame": pa.array([0, 1], pa.int8())},
        {"frame": pa.array([0, 1], pa.uint64())},
        {"frame": pa.array([0.0, 1.0], pa.float64())},
        {"frame": pa.array([Decimal(0), Decimal(1)], pa.decimal128(5, 2))},
        {"frame": pa.array([0, 1]).dictionary_encode()},
        {"x_um": pa.array([1.5, 4.0], pa.float32())},
        {"x_um": pa.array(np.array([1.5, 4.0], np.float16))},
        {"x_um": pa.array([Decimal("1.5"), Decimal(4)])},
        {"x_um": pa.array([1.5, 4.0]).dictionary_encode()},
        {"z_um": pa.array([3, 6], pa.uint16())},
        {"__index_level_0__": [8, 9], "nested": [{"a": 1}, {"a": 2}], "list": [[1], [2]], "text": ["a", "b"]},
    ],
)
def test_parquet_of_other_writers_is_read_to_the_same_values(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert _is_the_table(read_table(_parquet(tmp_path, **changed), Truth))


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"x_um": ["1.5", "4"]}, "column 'x_um' holds string; every cell must be a number. Convert the column"),
        ({"x_um": pa.array(["1.5", "4"], pa.large_string())}, "holds large_string"),
        ({"x_um": pa.array(["1.5", "4"]).dictionary_encode()}, "holds dictionary"),
        ({"x_um": [{"a": 1.5}, {"a": 4.0}]}, "column 'x_um' holds struct"),
        ({"x_um": [[1.5], [4.0]]}, "column 'x_um' holds list"),
        ({"x_um": [True, False]}, "column 'x_um' holds bool"),
        ({"frame": pa.array([0, 1], pa.timestamp("ms"))}, "column 'frame' holds timestamp"),
        ({"frame": [0.0, 1.5]}, "column 'frame' holds double; row 2: frame is 1.5; it must be a whole number"),
        ({"frame": [0.0, 1e300]}, "row 2: frame is 1e[+]300; it must be a whole number"),
        ({"frame": pa.array([Decimal("0.5"), Decimal(1)])}, "column 'frame'.*every cell must be a whole number"),
        ({"frame": pa.array([0, None])}, "row 2: frame is empty"),
        ({"frame": [None, None]}, "row 1: frame is empty"),
        ({"x_um": [1.5, float("nan")]}, "row 2: x_um is nan"),
        ({"x_um": pa.array([2**63 - 1, 0])}, "column 'x_um'"),
    ],
)
def test_parquet_that_does_not_fit_is_told(tmp_path: Path, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError, match=says):
        read_table(_parquet(tmp_path, **changed), Truth)


def test_names_of_folders_are_no_columns(tmp_path: Path) -> None:
    """Arrow takes folders like frame=5 for columns of the tables in them."""
    folder = tmp_path / "frame=5"
    folder.mkdir()
    assert _is_the_table(read_table(_parquet(folder), Truth))


def test_columns_that_are_there_twice_are_told(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    table = pa.Table.from_arrays([pa.array([0]), *[pa.array([1.0])] * 4], names=[*HEADER.split(","), "z_um"])
    pyarrow.parquet.write_table(table, path)
    with pytest.raises(DataError, match="has more than one column 'z_um'"):
        read_table(path, Truth)


@pytest.mark.parametrize("name", ["truth.csv", "truth.parquet"])
def test_a_table_beyond_the_memory_is_refused_with_bytes(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 10_000
    truth = Truth.from_columns({"frame": np.arange(rows), **dict.fromkeys(Truth.names()[1:], np.zeros(rows))})
    write_table(tmp_path / name, truth)
    monkeypatch.setattr("models.memory.spare_bytes", lambda: 5 * 10**5)
    with pytest.raises(DataError, match=r"has about 1000\d rows.*GB of memory.*Split the table by frames"):
        read_table(tmp_path / name, Truth)


def test_a_parquet_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """Equal values take no room in a file: a few kilobytes may stand for any number of rows."""
    path = tmp_path / "truth.parquet"
    column = pa.array(np.zeros(1 << 20))
    batch = pa.table(dict.fromkeys(HEADER.split(","), column))
    with pyarrow.parquet.ParquetWriter(path, batch.schema, compression="zstd") as writer:
        for _ in range(4):
            writer.write_table(batch)
    metadata = pyarrow.parquet.read_metadata(path)
    assert metadata.num_rows == 4 << 20
    assert path.stat().st_size < 100_000
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.memory.spare_bytes", lambda: 5 * 10**7)
        with pytest.raises(DataError, match="has about 4194304 rows"):
            read_table(path, Truth)


def test_names_in_any_encoding(tmp_path: Path) -> None:
    truth = Truth.from_columns({"frame": [0], "x_um": [1], "y_um": [1], "z_um": [1], "track_id": [3]})
    for name in ("s3:x.csv", "a\udcff.parquet", "a\udcff.csv", "é \x1b[31m.csv", "#?*.parquet"):
        path = tmp_path / name
        write_table(path, truth)
        assert len(read_table(path, Truth)) == 1


# Any table in any dialect: the same values, or one DataError.

_NUMBERS = st.floats(-1e4, 1e4) | st.integers(-10_000, 10_000).map(float)
_ROW = st.tuples(st.integers(0, LARGEST_FRAME), _NUMBERS, _NUMBERS, _NUMBERS)
_FORMATS = (repr, "{:.17g}".format, "{:.18e}".format, "{:+.17E}".format)
_FRAMES = (str, "{}.0".format, "{}.".format, "{}e0".format, "+{}".format, "00{}".format, '"{}"'.format)


@settings(
    derandomize=True, max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(_ROW, max_size=6, unique_by=lambda row: (row[0], *(value + 0.0 for value in row[1:]))),
    separator=st.sampled_from([",", ";", "\t", ", "]),
    mark=st.sampled_from([".", ","]),
    number=st.sampled_from(_FORMATS),
    whole=st.sampled_from(_FRAMES),
    line_end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1"]),
    before=st.sampled_from(["", "# by hand\n", "\n", "# 1, 2, 3\n\n"]),
    quoted=st.booleans(),
    index=st.booleans(),
    extra=st.none() | st.text(st.sampled_from('aé ,;#"\n.1'), max_size=6),
    order=st.permutations(range(4)),
    last=st.booleans(),
)
def test_any_dialect_gives_the_same_values_or_one_error(
    tmp_path: Path,
    rows: list[tuple[Any, ...]],
    separator: str,
    mark: str,
    number: Any,
    whole: Any,
    line_end: str,
    encoding: str,
    before: str,
    quoted: bool,
    index: bool,
    extra: str | None,
    order: list[int],
    last: bool,
) -> None:
    bare = separator.strip(" ")

    def cell(text: str) -> str:
        needs = quoted or bare in text or '"' in text or "\n" in text
        return '"' + text.replace('"', '""') + '"' if needs and not text.startswith('"') else text

    def line(place: int, cells: list[str]) -> str:
        told = [cells[column] for column in order]
        told = [str(place) if place else "", *told] if index else told
        if extra is not None:
            told.append('"' + extra.replace('"', '""') + '"' if place else "who")
        return separator.join(told)

    lines = [line(0, [cell(name) for name in HEADER.split(",")])]
    for place, (frame, *values) in enumerate(rows, start=1):
        told = [cell(number(value).replace(".", mark)) for value in values]
        lines.append(line(place, [whole(frame).replace(".", mark), *told]))
    content = before + line_end.join(lines) + (line_end if last else "")
    path = _written(tmp_path, content.encode(encoding))
    expected = np.array(rows, np.float64).reshape(-1, 4)
    try:
        truth = read_table(path, Truth)
    except DataError:
        # Decimal commas are told where the comma parts columns, and beside tabs where it may part thousands.
        assert mark == ","
        assert bare != ";"
        return
    assert truth.frame.tolist() == [row[0] for row in rows]
    assert np.array_equal(truth.x_um, expected[:, 1])
    assert np.array_equal(truth.y_um, expected[:, 2])
    assert np.array_equal(truth.z_um, expected[:, 3])


@settings(
    derandomize=True, max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    data=st.binary(max_size=80)
    | st.text(st.sampled_from('frame,x_um,y_z;\t\n\r"#0123456789.eE+- nai'), max_size=80).map(str.encode),
    headed=st.booleans(),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_any_bytes_are_a_table_or_one_error(tmp_path: Path, data: bytes, headed: bool, suffix: str) -> None:
    path = _written(tmp_path, HEADER.encode() + b"\n" + data if headed else data, f"truth{suffix}")
    try:
        truth = read_table(path, Truth)
    except DataError:
        return
    for column in truth.columns().values():
        assert np.isfinite(column).all()


@settings(
    derandomize=True, max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cut=st.integers(0, 2000), flips=st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4))
def test_damaged_parquet_is_a_table_or_one_error(tmp_path: Path, cut: int, flips: list[tuple[int, int]]) -> None:
    content = bytearray(_parquet(tmp_path).read_bytes())
    for place, value in flips:
        content[place % len(content)] = value
    path = _written(
        tmp_path, bytes(content[: len(content) - cut % len(content)] if cut % 3 == 0 else content), "a.parquet"
    )
    with contextlib.suppress(DataError):
        read_table(path, Truth)

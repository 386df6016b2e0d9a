"""Tables as files: nothing changes on the way, and what does not fit is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from models.errors import DataError
from models.table_files import Table, is_table, read_table, table_kind, write_table
from models.tables import Localizations, Tracks, Truth


def _random(kind: Any, rows: int = 50) -> Any:
    random = np.random.default_rng(4)
    columns: dict[str, Any] = {name: random.uniform(0, 1, rows) for name in kind.names()}
    for name in ("frame", "track_id"):
        columns[name] = random.integers(0, 9, rows)
    columns["observed"] = random.integers(0, 2, rows)
    if "chi2" in kind.names():
        columns["chi2"][::3] = np.nan
    return kind.from_columns(columns)


def _equal(first: Table, second: Table) -> bool:
    return all(
        np.array_equal(column, second.columns()[name], equal_nan=column.dtype.kind == "f")
        and column.dtype == second.columns()[name].dtype
        for name, column in first.columns().items()
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".CSV"])
@pytest.mark.parametrize("kind", [Localizations, Tracks, Truth])
def test_there_and_back(tmp_path: Path, kind: Any, suffix: str) -> None:
    path = tmp_path / f"table{suffix}"
    for table in (_random(kind), kind.empty()):
        write_table(path, table)
        assert _equal(read_table(path, kind), table)
        assert table_kind(path) is kind
        assert is_table(path, kind)


def test_csv_has_the_contract_header_and_empty_chi2(tmp_path: Path) -> None:
    path = tmp_path / "found.csv"
    write_table(path, _random(Localizations, 1))
    header, row = path.read_text().splitlines()
    assert header == "frame,x_um,y_um,z_um,photons,background,probability,sigma_x_um,sigma_y_um,sigma_z_um,chi2"
    assert row.endswith(",")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_truth_without_identities(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"truth{suffix}"
    truth = Truth.from_columns({"frame": [0, 1], "x_um": [1, 2], "y_um": [3, 4], "z_um": [5, 6], "track_id": [-1, -1]})
    write_table(path, truth)
    assert _equal(read_table(path, Truth), truth)
    if suffix == ".csv":
        assert path.read_text() == "frame,x_um,y_um,z_um\n0,1,3,5\n1,2,4,6\n"


def test_other_writers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "truth.csv"
    path.write_bytes(b'\xef\xbb\xbf"z_um", "frame","x_um","y_um"\r\n 1.5,0,2e1,-3\r\n\r\n2,7,3,4\r\n')
    truth = read_table(path, Truth)
    assert truth.frame.tolist() == [0, 7]
    assert truth.x_um.tolist() == [20.0, 3.0]
    assert truth.z_um.tolist() == [1.5, 2.0]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty; a table has at least a header"),
        ("\n", "lacks columns 'frame'"),
        ("frame x_um y_um z_um\n0 1 2 3\n", "blanks, colons or strokes do not part columns"),
        ("frame,x_um,z_um\n0,1,2\n", "lacks column 'y_um'; a table of truth has frame,x_um"),
        ("frame,x_um,y_um,z_um,z_um\n0,1,2,3,4\n", "has more than one column 'z_um'"),
        ("frame,x_um,y_um,z_um\n0,1,2,3\n1,1,deep,3\n", "row 2: y_um is 'deep'; it must be a number"),
        ("frame,x_um,y_um,z_um\n0,1,2,3\n1.5,1,2,3\n", "row 2: frame is '1.5'; it must be a whole number"),
        ("frame,x_um,y_um,z_um\n99999999999999999999,1,2,3\n", "row 1: frame is '9999.* whole number"),
        ("frame,x_um,y_um,z_um\n0,1,2,\n", "row 1: z_um is empty; it must be filled with a number"),
        ("frame,x_um,y_um,z_um\n,1,2,3\n", "row 1: frame is empty; it must be filled with a whole number"),
        ("frame,x_um,y_um,z_um\n0,1,2,nan\n", "row 1: z_um is nan; it must be a finite number"),
        ("frame,x_um,y_um,z_um\n0,-inf,2,3\n", "row 1: x_um is -inf; it must be a finite number"),
        ("frame,x_um,y_um,z_um\n0,1,2,3\n-4,1,2,3\n", "row 2: frame is -4; it must be not negative"),
        ("frame,x_um,y_um,z_um\n0,1,2,3\n0,1,2\n", "row 2: 3 cells.*the header names 4 columns"),
        ("frame,x_um,y_um,z_um,track_id\n0,1,2,3,-2\n", "row 1: track_id is -2"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "truth.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_table(path, Truth)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"probability": 1.5}, "row 1: probability is 1.5; it must be between 0 and 1"),
        ({"sigma_z_um": -0.1}, "row 1: sigma_z_um is -0.1; it must be not negative"),
        ({"photons": np.nan}, "row 1: photons is empty; it must be filled with a number"),
    ],
)
def test_bad_localizations_are_named(tmp_path: Path, change: dict[str, float], says: str) -> None:
    columns = _random(Localizations, 2).columns()
    for name, value in change.items():
        columns[name][0] = value
    path = tmp_path / "found.parquet"
    write_table(path, Localizations.from_columns(columns))
    with pytest.raises(DataError, match=says):
        read_table(path, Localizations)


def test_bad_tracks_are_named(tmp_path: Path) -> None:
    columns = _random(Tracks, 2).columns()
    columns["observed"][1] = 2
    path = tmp_path / "tracks.csv"
    write_table(path, Tracks.from_columns(columns))
    with pytest.raises(DataError, match="row 2: observed is 2; it must be 0 or 1"):
        read_table(path, Tracks)


def test_parquet_of_other_types(tmp_path: Path) -> None:
    path = tmp_path / "truth.parquet"
    good = {"frame": pa.array([0], pa.uint16()), "x_um": [1.0], "y_um": pa.array([2], pa.int32()), "z_um": [3.0]}
    pyarrow.parquet.write_table(pa.table(good), path)
    assert read_table(path, Truth).y_um.tolist() == [2.0]
    pyarrow.parquet.write_table(pa.table({**good, "z_um": ["deep"]}), path)
    with pytest.raises(DataError, match="column 'z_um' holds string; every cell must be a number"):
        read_table(path, Truth)
    pyarrow.parquet.write_table(pa.table({**good, "frame": [0.5]}), path)
    with pytest.raises(DataError, match="column 'frame' holds double"):
        read_table(path, Truth)
    pyarrow.parquet.write_table(pa.table({**good, "frame": pa.array([2**64 - 1], pa.uint64())}), path)
    with pytest.raises(DataError, match=r"column 'frame': .*not in range"):
        read_table(path, Truth)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    path = tmp_path / "found.parquet"
    path.write_bytes(b"PAR1 but not really PAR1")
    with pytest.raises(DataError, match="is not a Parquet file"):
        read_table(path, Localizations)
    with pytest.raises(DataError, match=r"cannot be read \(No such file"):
        read_table(tmp_path / "nowhere.csv", Localizations)
    with pytest.raises(DataError, match=r"ends in '\.txt'; tables are \.csv or \.parquet"):
        write_table(tmp_path / "found.txt", Localizations.empty())
    binary = tmp_path / "noise.csv"
    binary.write_bytes(b"frame,x_um,y_um,z_um\n0,1,2,\xff\xfe\n")
    with pytest.raises(DataError, match="row 1: z_um is"):
        read_table(binary, Truth)
    assert not is_table(binary, Localizations)
    binary.write_bytes(b"name,address\n")
    with pytest.raises(DataError, match="neither a table of localizations nor of tracks nor of truth"):
        table_kind(binary)
    assert not is_table(binary, Truth)


def test_damaged_parquet(tmp_path: Path) -> None:
    path = tmp_path / "found.parquet"
    write_table(path, _random(Localizations, 5000))
    content = bytearray(path.read_bytes())
    content[20:2000] = bytes(1980)
    path.write_bytes(content)
    with pytest.raises(DataError, match="is damaged"):
        read_table(path, Localizations)

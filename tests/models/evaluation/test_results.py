"""Folders of results: tables read back, runs joined, figures drawn from tables alone, and what must not be joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.errors import DataError
from models.evaluation.results import RECORD, draw_results, is_results, merge_results
from models.evaluation.tables import read_table, write_table


def brownian(method: str, ratio: float | None) -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "axis": axis,
            "diffusion_um2_s": 10.0,
            "ratio": ratio,
            "standard_error_um2_s": None if ratio is None else 0.5,
            "frames": 20,
        }
        for axis in "xyz"
    ]


def results(
    folder: Path, methods: dict[str, float | None], left_out: dict[str, str] | None = None, **other: Any
) -> Path:
    """Results of `brownian` as a run writes them."""
    folder.mkdir()
    rows = [row for method, ratio in methods.items() for row in brownian(method, ratio)]
    write_table(folder / "brownian.csv", rows, left_out or {})
    record: dict[str, Any] = {
        "simulated": True,
        "quick": True,
        "optics": "exact",
        "seeds": {"judging": 1},
        "matching": "optimal",
        "microscopes": {"exact": {"label": "exact PSF", "depths_um": [0.0, 100.0], "calibration": "a"}},
        "left_out": left_out or {},
        "experiments": {"brownian": {"optics": "exact", "tables": {"brownian": len(rows)}}},
        "runs": [{"command": folder.name, "methods": {"exact": [{"method": method} for method in methods]}}],
    }
    (folder / RECORD).write_text(json.dumps(record | other))
    return folder


def test_a_table_comes_back_as_it_was(tmp_path: Path) -> None:
    rows = [
        {"method": "7", "points": 20, "jaccard": 0.1 + 0.2, "tuned": True, "form": "published", "snr_db": -3.0},
        {"method": "b, c", "points": 1, "jaccard": None, "tuned": False, "form": None, "snr_db": 1e5},
    ]
    write_table(tmp_path / "t.csv", rows, {"vgg": "none is shipped"})
    assert read_table(tmp_path / "t.csv") == (rows, {"vgg": "none is shipped"})


def test_runs_are_joined_and_later_ones_replace_a_method(tmp_path: Path) -> None:
    fast = results(tmp_path / "fast", {"cascade": 1.0, "lookup": 2.0}, {"mle": "not installed"})
    slow = results(tmp_path / "slow", {"mle": 1.1, "lookup": None}, {"vgg": "no model"})
    out = tmp_path / "both"
    out.mkdir()
    record = merge_results([fast, slow], out)
    rows, left_out = read_table(out / "brownian.csv")
    assert [row["method"] for row in rows[::3]] == ["cascade", "lookup", "mle"]
    assert [row["ratio"] for row in rows[::3]] == [1.0, None, 1.1]
    assert left_out == record["left_out"] == {"vgg": "no model"}
    assert [run["command"] for run in record["runs"]] == ["fast", "slow"]
    assert record["experiments"]["brownian"]["tables"] == {"brownian": 9}
    assert (out / "brownian.png").stat().st_size > 20_000
    assert is_results(out)
    # What was joined can be joined again.
    once_more = tmp_path / "more"
    once_more.mkdir()
    more = merge_results([out, results(tmp_path / "fcn", {"fcn": 1.0})], once_more)
    assert len(more["runs"]) == 3


def test_runs_of_different_experiments_are_joined(tmp_path: Path) -> None:
    one = results(tmp_path / "one", {"cascade": 1.0})
    other = results(tmp_path / "other", {"cascade": 1.0}, experiments={"snr": {"optics": "exact", "tables": {}}})
    record_of_none = json.loads((other / RECORD).read_text())["experiments"]
    assert "brownian" not in record_of_none
    out = tmp_path / "both"
    out.mkdir()
    with pytest.raises(DataError, match="cannot be drawn"):
        # Its tables are not there.
        merge_results([one, other], out)
    assert list(json.loads((out / RECORD).read_text())["experiments"]) == ["snr", "brownian"]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"quick": False}, "quick"),
        ({"optics": "hidden"}, "optics"),
        ({"seeds": {"judging": 2}}, "seeds"),
        (
            {"microscopes": {"exact": {"label": "exact PSF", "depths_um": [0.0, 100.0], "calibration": "b"}}},
            r"calibration of the exact optics \(a and b\)",
        ),
    ],
)
def test_runs_that_saw_other_frames_are_refused(tmp_path: Path, other: dict[str, Any], named: str) -> None:
    one = results(tmp_path / "one", {"cascade": 1.0})
    two = results(tmp_path / "two", {"mle": 1.0}, **other)
    with pytest.raises(DataError, match=named):
        merge_results([one, two], tmp_path)


def test_folders_and_tables_that_are_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no results"):
        draw_results(tmp_path)
    changed = results(tmp_path / "changed", {"cascade": 1.0}, experiments={"weather": {}})
    with pytest.raises(DataError, match="another version"):
        draw_results(changed)
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="no table of methods"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "u.csv").write_bytes(b"method\n\xff\n")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path / "u.csv")
    torn = results(tmp_path / "torn", {"cascade": 1.0})
    (torn / "brownian.csv").write_text("method,axis\ncascade,x\n")
    with pytest.raises(DataError, match="cannot be drawn"):
        draw_results(torn)

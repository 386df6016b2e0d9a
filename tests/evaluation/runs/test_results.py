"""Folders of results: tables read back, runs joined, figures drawn from tables alone, and what must not be joined."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.report.pages import page
from evaluation.report.tables import read_table, write_table
from evaluation.runs.results import RECORD, draw_results, is_results, merge_results
from evaluation.scores.comparison import compare_with_baselines, comparison_summary
from evaluation.scores.targets import met, targets
from models.errors import DataError


def brownian(method: str, ratio: float | None) -> list[dict[str, Any]]:
    return [
        {
            "method": method,
            "axis": axis,
            "diffusion_um2_s": 10.0,
            "ratio": ratio,
            "standard_error_um2_s": None if ratio is None else 0.5,
            "recovered_um2_s": None if ratio is None else 10.0 * ratio,
            "low_um2_s": None if ratio is None else 10.0 * ratio - 1.0,
            "high_um2_s": None if ratio is None else 10.0 * ratio + 1.0,
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
    assert (out / "tables.md").is_file()
    written = json.loads((out / "results.json").read_text())
    assert [row["ratio"] for row in written["tables"]["brownian"][::3]] == [1.0, None, 1.1]
    assert written["provenance"]["seeds"] == {"judging": 1}
    assert not (out / "comparison.csv").exists()
    # What was joined can be joined again.
    once_more = tmp_path / "more"
    once_more.mkdir()
    more = merge_results([out, results(tmp_path / "fcn", {"fcn": 1.0})], once_more)
    assert len(more["runs"]) == 3


def scores(method: str, jaccard: float | None, **other: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "method": method, "form": "published", "points": 20, "snr_db": 0.0, "photons": None, "background_e": 0.1,
        "tolerance_um": 10.0, "frames": 40, "jaccard": jaccard, "jaccard_error": 0.01, "precision": 0.9, "recall": 0.5,
    }  # fmt: skip
    return row | other


def test_points_where_a_baseline_is_better_are_named_with_the_reason() -> None:
    rows = [
        scores("cascade", 0.5),
        scores("cascade --refine", 0.6),
        scores("mle", 0.4),
        # The background of the published form differs a little when fewer frames are seen.
        scores("vgg", 0.55, background_e=0.11, recall=0.7),
        scores("cascade", 0.5, form="physical", snr_db=None, photons=1e3, background_e=2.0, precision=0.6),
        scores("mle", 0.505, form="physical", snr_db=None, photons=1e3, background_e=2.0),
        scores("cascade", 0.5, points=1, tolerance_um=3.0),
        scores("cascade", None, snr_db=10.0),
        scores("mle", 0.1, snr_db=10.0),
    ]
    found = compare_with_baselines({"snr": rows})
    assert [row["above"] for row in found] == [False, True, False, False]
    assert found[0]["rival"] == "vgg"
    assert found[0]["errors"] == pytest.approx(-0.05 / (0.01 * 2**0.5))
    assert found[0]["why"] == "finds fewer: recall 0.50, vgg 0.70"
    assert found[1]["why"] is None
    assert "undecided: -0.005 ± 0.014" in found[2]["why"]
    assert "more false localizations: precision 0.60, mle 0.90" in found[2]["why"]
    lines = comparison_summary(found)
    assert lines[0].startswith("cascade above every baseline within 10 µm at 0 of 3 points: no: snr, 20 points, 0 dB (")
    assert "snr, 20 points, 1000 e⁻ on 2 e⁻/px (" in lines[0]
    assert lines[1] == "cascade --refine above every baseline within 10 µm at 1 of 1 points: yes"
    assert compare_with_baselines({"snr": [scores("cascade", 0.5)]}) == []
    level = compare_with_baselines({"density": [scores("cascade", 0.5), scores("mle", 0.5)]})
    assert level[0]["why"].startswith("undecided")


def test_a_target_is_compared_with_its_worst_condition() -> None:
    snr = [scores("cascade --refine", 0.51), scores("cascade --refine", 0.5, tolerance_um=3.0), scores("cascade", 0.1)]
    density = [scores("cascade --refine", 0.91, points=32)]
    ratios = {"axial_over_bound": 1.2, "lateral_over_bound": 2.1, "axial_over_sigma": 0.9, "lateral_over_sigma": None}
    alone = scores("cascade --refine", None, snr_db=30.0, depth_um=6.5, jaccard_error=None) | ratios
    pairs = [
        {"method": "cascade --refine", "photons": 1e5, "direction": direction, "depth_um": depth, "resolved_um": found}
        for direction, depth, found in (
            ("lateral", 20.0, 1.0), ("lateral", 80.0, 2.5), ("lateral", 90.0, None), ("axial", 50.0, 5.0),
        )
    ]  # fmt: skip
    ghosts = {"method": "cascade", "kind": "wrong side", "whole": True, "ghosts": 0.02}
    adopted = scores("cascade", 0.5, optics="0.3 NA", tolerance_share=0.1, over_reference=-0.06)
    tables = {"snr": snr, "density": density, "isolated": [alone], "resolution": pairs, "ghosts": [ghosts]}
    found = {each.name: each for each in targets(tables | {"adoption": [adopted]}, {"isolated": "exact"})}
    measured = {name: (each.measured, each.met) for name, each in found.items()}
    isolated = "isolated, exact optics, 30 dB, refined"
    assert measured == {
        "J at 0 dB, 20 points, refined, at least 0.5": (0.51, True),
        "J at 32 points, 30 dB, refined, at least 0.92": (0.91, False),
        f"{isolated}, axial error over bound at most 1.3": (1.2, True),
        f"{isolated}, axial error over sigma at least 0.8": (0.9, True),
        f"{isolated}, axial error over sigma at most 1.25": (0.9, True),
        f"{isolated}, lateral error over bound at most 1.3": (2.1, False),
        f"{isolated}, lateral error over sigma at least 0.8": (None, False),
        f"{isolated}, lateral error over sigma at most 1.25": (None, False),
        "lateral resolution, refined, 100,000 e⁻, at most 2 µm": (2.5, False),
        "axial resolution, refined, 100,000 e⁻, at most 6 µm": (5.0, True),
        "ghosts at negative defocus, cascade, at most 0.1 per emitter": (0.02, True),
        "adoption of 0.3 NA, cascade, J less the reference's at least -0.05": (-0.06, False),
    }
    # With hidden optics errors over the bound are asked for up to 20 dB.
    hidden = targets({"isolated": [alone]}, {"isolated": "hidden"})
    assert not [each for each in hidden if "bound" in each.name]
    lines = met(list(found.values()))
    assert "NOT MET: lateral resolution, refined, 100,000 e⁻, at most 2 µm: 2.5 (80 µm, 100,000 e⁻)" in lines
    unknown = f"{isolated}, lateral error over sigma at least 0.8: not measured (6.5 µm, 30 dB, 40 frames)"
    assert f"NOT MET: {unknown}" in lines
    assert "## Targets" in page({}, [], list(found.values()))
    assert targets({}, {}) == []


def test_tables_become_one_page(tmp_path: Path) -> None:
    limits = {"limit_jaccard": 0.7, "chance_jaccard": 0.02, "rmse_lateral_um": 1.0, "rmse_axial_um": None}
    counts = {"tp": 10, "fp": 2, "seconds_per_frame": 0.25}
    rows = [scores("cascade", 0.5) | limits, scores("mle", 0.25, jaccard_error=None) | limits]
    rows += [row | {"snr_db": -3.0, "jaccard": None} for row in rows]
    rows += [row | {"tolerance_um": tolerance} for tolerance in (5.0, 3.0) for row in rows]
    crowds = [scores("mle", 0.5, points=points) | limits | counts for points in (100, 4)]
    crowds += [row | {"form": "physical", "background_e": 10.0} for row in crowds]
    ghosts = [
        {"method": "mle", "photons": 1e4, "background_e": 5.0, "snr_db": None, "kind": "wrong side", "whole": whole,
         "ghosts": 0.25, "ghosts_error": 0.01, "chance_ghosts": None} for whole in (True, False)
    ]  # fmt: skip
    alone = {"method": "mle", "photons": None, "snr_db": 20.0, "depth_um": 6.5, "found": 1.0}
    alone |= {f"{axis}_over_{by}": 1.125 for axis in ("axial", "lateral") for by in ("bound", "sigma")}
    pairs = {"method": "mle", "direction": "axial", "photons": 1e5, "depth_um": 20.0, "resolved_um": None}
    adopted = scores("cascade", 0.5, optics="0.3 NA", tolerance_share=0.1, over_reference=-0.04)
    text = page(
        {
            "snr": rows, "density": crowds, "ghosts": ghosts, "isolated": [alone],
            "resolution": [pairs | {"limit_um": 1.0, "frames": 12}], "adoption": [adopted],
            "adoption-cost": [{"method": "cascade", "optics": "0.3 NA", "training_minutes": 8.5, "beads_used": None}],
        },
        compare_with_baselines({"snr": rows}),
    )  # fmt: skip
    for line in (
        "|  | -3 | 0 |",
        "| `cascade` | - ± 0.01 | 0.50 ± 0.01 |",
        "| ideal detector | 0.70 | 0.70 |",
        "| `cascade` | 1.00 / - | 1.00 / - |",
        "| `mle` | 0.25 s, 1.2/s, 40 | 0.25 s, 1.2/s, 40 |",
        "| `mle` | 0.250 ± 0.010 (-) |",
        "| `mle` | 1.12, 1.12; 1.12, 1.12 (1.00) |",
        "| `mle` | - (12) |",
        "| `cascade, 0.3 NA` | 0.50 ± 0.01 (-0.04) |",
        "| 0.3 NA | 8.5 | - |",
        "Jaccard index within 10 µm, sCMOS, 10 e⁻/px, by the number of points:",
        "- cascade above every baseline within 10 µm at 1 of 1 points: yes",
    ):
        assert line in text, line
    assert page({}, []).count("\n\n") == 1


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
def test_runs_with_other_frames_are_refused(tmp_path: Path, other: dict[str, Any], named: str) -> None:
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

"""`bench track`, on few targets."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from evaluation.commands.bench import application


def test_time_per_step_by_number_of_targets(tmp_path: Path) -> None:
    out = tmp_path / "track.json"
    done = CliRunner().invoke(application, ["track", "--targets", "3,5", "--no-peers", "--json", str(out)])
    assert done.exit_code == 0, done.output
    figures = json.loads(out.read_text())
    assert [(row["tracker"], row["targets"]) for row in figures["rows"]] == [
        ("bathyscope", 3), ("published", 3), ("bathyscope", 5), ("published", 5)
    ]  # fmt: skip
    for row in figures["rows"]:
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        assert 0 < row["wall_p50_ms"] <= row["wall_p99_ms"]
        assert row["frames"] > 50
    assert {"rows", "missing", "machine", "provenance"} == set(figures)
    assert "p99_ms" in done.stdout


def test_wrong_numbers_of_targets_are_refused() -> None:
    for text in ("", "0", "10,", "many", "-3", "200000"):
        assert CliRunner().invoke(application, ["track", "--targets", text]).exit_code == 2

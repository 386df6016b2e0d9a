from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from evaluation.commands.bench import application
from evaluation.report import bench_tables
from evaluation.report.records import Record
from evaluation.speed import sweep_to_tracks
from models.errors import DataError

STEPS = [
    "sweep", "calibration from the sweep", "model without a network", "active model",
    "focus, start of the run, first track shown", "from the end of the sweep to the first track",
]  # fmt: skip


def api(answers: dict[str, Any], status: int = 200) -> httpx.Client:
    transport = httpx.MockTransport(lambda request: httpx.Response(status, json=answers, request=request))
    return httpx.Client(base_url="http://127.0.0.1:1/api/v1", transport=transport)


def test_a_failed_job_is_reported_with_its_reason() -> None:
    job = {"ended_at": "2026-11-30T09:00:00Z", "state": "failed", "error": {"problem": "No beads."}}
    with pytest.raises(DataError, match=r"Job a is failed: .*No beads"):
        sweep_to_tracks._ended(api(job), "a")


def test_a_refusal_is_reported() -> None:
    with pytest.raises(DataError, match=r"refused .*models.*no such calibration"):
        sweep_to_tracks._post(api({"problem": "no such calibration"}, 404), "/models", {})


def test_a_wait_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_to_tracks, "_LIMIT_S", 0.0)
    with pytest.raises(DataError, match="It did not end within 0 s"):
        sweep_to_tracks._wait(lambda: False, "It did not end")


def test_the_page_shows_times_and_accuracy() -> None:
    accuracy = {"method": "without network", "motion": "directed", "jaccard_10": 0.97, "movies": 4}
    figures = {"rows": [{"step": "sweep", "s": 4.0}], "accuracy": [accuracy | dict.fromkeys(RMSE, 0.2)]}
    text = "\n".join(bench_tables.sweep([Record("sweep", "256", "2026-12-01", Path("256.json"), figures)]))
    assert "| sweep | 4.0 |" in text
    assert "| without network | directed | 0.970 | 0.2 / 0.2 | 4 |" in text


RMSE = ("rmse_lateral_um", "rmse_axial_um")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_a_sweep_to_tracks(tmp_path: Path) -> None:
    options = ["--size", "160", "--beads", "9", "--depth-um", "40", "--movies", "1", "--json", str(tmp_path / "s.json")]
    outcome = CliRunner().invoke(application, ["sweep", *options])
    assert outcome.exit_code == 0, outcome.output
    figures = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
    rows = figures["rows"]
    assert {row["method"] for row in figures["accuracy"]} == {"without network", "shipped network"}
    assert [row["step"] for row in rows] == STEPS
    assert rows[-1]["s"] == pytest.approx(sum(row["s"] for row in rows[1:-1]), abs=0.05)

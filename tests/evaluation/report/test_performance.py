"""The performance page: equal to its records, and drawn from results as the commands write them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evaluation.commands.bench import application
from evaluation.report.performance import PAGE, performance_page
from evaluation.report.records import newest, read_records, read_sections, superseded
from evaluation.report.topics import TOPICS
from evaluation.runs.provenance import current_provenance
from models.errors import DataError

DOCS = Path(__file__).parents[3] / "docs"


def record(docs: Path, name: str, figures: dict[str, Any]) -> Path:
    """Add a result as a command writes it."""
    file = docs / "performance" / "records" / name
    file.parent.mkdir(parents=True, exist_ok=True)
    provenance = current_provenance({}, "bathyscope bench").as_dict() | {"commit": "0123456789abcdef", "dirty": True}
    file.write_text(json.dumps(figures | {"provenance": provenance}))
    return file


def kills(lost: int) -> dict[str, Any]:
    return {
        "kills": 20,
        "unreadable_shards": 0,
        "committed_frames": 100,
        "committed_not_readable": 0,
        "lost_frames": {"p50": 5, "max": lost},
        "lost_bound_frames": 78,
        "ready_again_s": {"p50": 3.1, "max": 3.4},
    }


def test_the_page_is_that_of_its_records(tmp_path: Path) -> None:
    written = (DOCS / PAGE).read_text(encoding="utf-8")
    assert performance_page(DOCS) == written, "Run `bathyscope bench report`, and change no figure in the page itself."
    # The command writes the same page.
    shutil.copytree(DOCS / "performance", tmp_path / "performance")
    done = CliRunner().invoke(application, ["report", "--docs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert (tmp_path / PAGE).read_text(encoding="utf-8") == written


def test_every_topic_has_a_record_and_every_link_a_file() -> None:
    assert {each.topic for each in read_records(DOCS / "performance" / "records")} == {topic.name for topic in TOPICS}
    linked = re.findall(r"\]\(([^)#]+)\)", (DOCS / PAGE).read_text(encoding="utf-8"))
    assert linked
    assert all((DOCS / target).is_file() for target in linked)
    sections = read_sections(DOCS / "performance" / "history")
    assert [section.date for section in sections] == sorted((each.date for each in sections), reverse=True)
    assert {topic for section in sections for topic in section.topics} <= {topic.name for topic in TOPICS}


def test_the_newest_record_of_a_case_is_shown_and_the_older_one_linked(tmp_path: Path) -> None:
    record(tmp_path, "kills/256-2026-11-22.json", kills(63))
    record(tmp_path, "kills/256-2026-12-01.json", kills(41))
    record(tmp_path, "kills/512-2026-11-22.json", kills(52))
    records = read_records(tmp_path / "performance" / "records")
    assert [each.path.name for each in newest(records)] == ["256-2026-12-01.json", "512-2026-11-22.json"]
    assert [each.path.name for each in superseded(records)] == ["256-2026-11-22.json"]
    page = performance_page(tmp_path)
    assert "| 5 / 41 / 78 |" in page
    assert "| 5 / 52 / 78 |" in page
    assert "| 5 / 63 / 78 |" not in page
    assert "[kills: 256](performance/records/kills/256-2026-11-22.json)" in page
    assert "commit 01234567, changed" in page


def test_results_of_reproduce_are_drawn(tmp_path: Path) -> None:
    row = {
        "method": "cascade", "form": "published", "points": 20, "snr_db": 0.0, "photons": None, "background_e": None,
        "tolerance_um": 10.0, "jaccard": 0.44, "jaccard_error": 0.01, "limit_jaccard": 0.67, "chance_jaccard": 0.02,
    }  # fmt: skip
    physical = row | {
        "form": "physical", "snr_db": None, "photons": 1e3, "background_e": 2.0, "jaccard": 0.3, "limit_jaccard": 0.41,
    }  # fmt: skip
    rows = [
        row,
        row | {"tolerance_um": 3.0, "jaccard": 0.1},
        physical,
        physical | {"background_e": 50.0, "jaccard": 0.16},
    ]
    record(tmp_path, "snr/all-2026-12-01.json", {"tables": {"snr": rows}})
    # Of a method that is in two records, the newer result is shown.
    older = [row | {"jaccard": 0.4}, physical | {"jaccard": 0.2}]
    record(tmp_path, "snr/a-2026-11-01.json", {"tables": {"snr": older}})
    page = performance_page(tmp_path)
    assert "|  | 0 |\n|---|---|\n| `cascade` | 0.44 ± 0.01 |\n| ideal detector | 0.67 |\n| chance | 0.02 |" in page
    assert "|  | 1000 |\n|---|---|\n| `cascade` | 0.30, 0.16 |\n| ideal detector | 0.41, 0.41 |" in page


@pytest.mark.parametrize(
    ("name", "figures", "said"),
    [
        ("kills/256.json", kills(1), "does not end with a date"),
        ("kilns/256-2026-12-01.json", kills(1), "no topic kilns"),
        ("kills/256-2026-12-01.json", {"provenance": 1}, "no result with provenance"),
        ("localize/256-2026-12-01.json", {"fps": 1.0}, "localize cannot be drawn"),
    ],
)
def test_a_record_that_cannot_be_shown_is_refused(
    tmp_path: Path, name: str, figures: dict[str, Any], said: str
) -> None:
    file = record(tmp_path, name, figures)
    if "provenance" in figures:
        file.write_text(json.dumps(figures))
    with pytest.raises(DataError, match=said):
        performance_page(tmp_path)


def test_a_folder_without_records_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no records of performance"):
        performance_page(tmp_path)


def test_a_section_states_its_fields(tmp_path: Path) -> None:
    (tmp_path / "2026-12-01.md").write_text("---\ndate: 2026-12-01\n---\n")
    with pytest.raises(DataError, match="does not state its title, commit, machine, topics"):
        read_sections(tmp_path)

"""The command `reproduce`, as a user runs it, with the shipped model."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from models.weights import reference_model
from service.commands import reproduce


def _run(*arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(reproduce.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_snr_writes_table_figure_and_provenance(tmp_path: Path) -> None:
    out = tmp_path / "figures"
    done = _run("snr", "--quick", "--out", out)
    assert done.exit_code == 0, done.output
    assert {path.name for path in out.iterdir()} == {"snr.csv", "snr.png", "reproduce.json"}
    with (out / "snr.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if float(row["tolerance_um"]) == 10.0]
    assert {int(row["points"]) for row in rows} == {20}
    jaccard = {float(row["snr_db"]): float(row["jaccard"]) for row in rows}
    # What the issue asks for at 0 and 30 dB, less three standard errors of 20 frames of 20 points.
    assert jaccard[0.0] > 0.35 - 0.06
    assert jaccard[30.0] > 0.80 - 0.06
    provenance = json.loads((out / "reproduce.json").read_text())
    assert provenance["model"] == json.loads((reference_model() / "model.json").read_text())["id"]
    assert provenance["quick"] is True
    assert len(done.stdout.splitlines()) == len(rows)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("chapter 1")
    refused = _run("snr", "--quick", "--out", tmp_path)
    assert refused.exit_code == 1
    assert "only such an output is replaced" in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    failed = _run("snr", "--model", tmp_path, "--out", tmp_path / "figures")
    assert failed.exit_code == 1
    assert "not a model" in str(failed.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("weather",), ("snr", "--seed", "-1"), ()])
def test_wrong_usage_is_status_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert _run(*arguments, "--out", tmp_path / "figures").exit_code == 2

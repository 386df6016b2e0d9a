"""The command `model`: a model goes from one data directory to another as one file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from models.weights import reference_model
from service.commands import model
from tests.service.files.test_model_archive import own_model


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BATHYSCOPE_DATA_DIR", raising=False)
    monkeypatch.delenv("BATHYSCOPE_CONFIG", raising=False)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(model.application, [str(argument) for argument in arguments])


def done(*arguments: Any) -> Result:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result


def test_a_model_travels(tmp_path: Path) -> None:
    own_model(tmp_path / "here" / "models" / "a")
    file = tmp_path / "model.zip"
    exported = done("export", "mine", "--out", file, "--data", tmp_path / "here")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert exported.stdout == f"{digest}  {file}\n"
    assert "model mine" in exported.stderr
    done("import", file, "--sha256", digest, "--data", tmp_path / "there")
    listed = done("list", "--data", tmp_path / "there", "--pixel-size-um", 0.65).stdout.splitlines()
    assert listed[0].split("\t")[:2] == ["mine", "library"]
    assert {line.split("\t")[-1] for line in listed} == {"fits"}
    other = done("list", "--data", tmp_path / "there", "--pixel-size-um", 0.3, "--bit-depth", 8).stdout
    assert "The camera has 0.3 µm per pixel at the sample; the model mine was made for 0.65 µm" in other
    again = run("import", file, "--data", tmp_path / "there")
    assert again.exit_code == 1
    assert "a model 'mine' here already" in str(again.exception)


def test_a_folder_goes_out_and_comes_back_as_a_folder(tmp_path: Path) -> None:
    file, out = tmp_path / "live.zip", tmp_path / "live"
    for _ in range(2):  # an earlier output is replaced
        done("export", reference_model("live"), "--out", file)
        done("import", file, "--out", out)
    assert (out / "weights.safetensors").read_bytes() == (reference_model("live") / "weights.safetensors").read_bytes()


def test_what_is_refused(tmp_path: Path) -> None:
    assert run("export", reference_model("live"), "--out", tmp_path / "x.tar").exit_code == 2
    none = run("export", "none", "--out", tmp_path / "x.zip", "--data", tmp_path)
    assert none.exit_code == 1
    assert "no model 'none'" in str(none.exception)
    (tmp_path / "thesis.zip").write_text("mine")
    taken = run("export", reference_model("live"), "--out", tmp_path / "thesis.zip")
    assert "only such an output is replaced" in str(taken.exception)
    assert (tmp_path / "thesis.zip").read_text() == "mine"
    torn = run("import", tmp_path / "thesis.zip", "--out", tmp_path / "model")
    assert "is no ZIP file" in str(torn.exception)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thesis.zip"]

"""The command `train`, as a user runs it, on a calibration small enough for seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner, Result

from models.errors import DataError
from models.model_card import ModelCard
from service.commands import localize, train
from tests.models.test_training import small_calibration


def _run(command: Any, *arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(command.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibration") / "small"
    small_calibration().save(folder)
    return folder


def test_the_model_is_one_that_localize_accepts(calibration: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "model"
    done = _run(train, calibration, "--minutes", 3, "--samples", 1, "--out", out)
    assert done.exit_code == 0, done.output
    assert str(out) in done.stderr
    assert sorted(path.name for path in out.parent.iterdir()) == ["model"]
    assert {path.name for path in out.iterdir()} == {"model.json", "psf.zarr", "weights.safetensors"}
    model = ModelCard.load(out)
    assert model.calibration_id == "small"
    assert model.pixel_size_um == 0.65
    movie, found = tmp_path / "movie.tif", tmp_path / "found.csv"
    tifffile.imwrite(movie, np.full((2, 96, 96), 110, np.uint16), photometric="minisblack")
    localized = _run(localize, movie, "--model", out, "--out", found)
    assert localized.exit_code == 0, localized.output
    assert found.is_file()
    # The same folder cannot be had back by a run that fails: the model of before stays.
    before = (out / "model.json").read_bytes()
    assert _run(train, calibration, "--minutes", 0, "--out", out).exit_code == 1
    assert (out / "model.json").read_bytes() == before


def test_a_folder_with_other_content_is_not_replaced(calibration: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("of another program")
    refused = _run(train, calibration, "--minutes", 0.2, "--out", tmp_path)
    assert refused.exit_code == 1
    assert "only such an output is replaced" in str(refused.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["model.json"]
    assert (tmp_path / "model.json").read_text() == "of another program"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--minutes", "0"), "is 0 minutes; plausible values"),
        (("--minutes", "nan"), "is nan minutes"),
        (("--minutes", "inf"), "is inf minutes"),
        (("--minutes", "1e-300"), "is 1e-300 minutes"),
        (("--minutes", "1e9"), "plausible values are 0.02 to 10080 minutes"),
        (("--architecture", "yolo"), "this installation has cascade"),
        (("--size", "huge"), "has no size 'huge'"),
        (("--device", "tpu"), "auto, cpu or cuda"),
        (("--resume",), "no checkpoint to resume from"),
    ],
)
def test_impossible_trainings_are_refused_and_leave_nothing(
    calibration: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    failed = _run(train, calibration, *options, "--out", tmp_path / "model")
    assert failed.exit_code == 1
    assert isinstance(failed.exception, DataError)
    assert says in str(failed.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing_half_written(
    calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise DataError("The validation failed.", "Try again.")

    monkeypatch.setattr("models.training.choose_threshold", fail)
    options = ("--minutes", 5, "--samples", 1, "--architecture", "fcn", "--size", "narrow")
    failed = _run(train, calibration, *options, "--out", tmp_path / "model")
    assert failed.exit_code == 1
    assert "The validation failed." in str(failed.exception)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_calibration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    failed = _run(train, tmp_path / "other", "--out", tmp_path / "model")
    assert failed.exit_code == 1
    assert "bathyscope calibrate" in str(failed.exception)
    assert not (tmp_path / "model").exists()


def test_wrong_usage_is_status_2(calibration: Path, tmp_path: Path) -> None:
    assert _run(train, calibration).exit_code == 2
    assert _run(train, calibration, "--seed", -1, "--out", tmp_path / "model").exit_code == 2

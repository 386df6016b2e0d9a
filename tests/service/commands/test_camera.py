"""``bathyscope camera`` writes a description that the other commands read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from models.camera import CameraModel
from models.errors import DataError
from models.known_cameras import KNOWN_CAMERAS
from service.commands import camera as command
from service.commands import cameras
from service.files.camera_choice import CameraOptions, camera_model, chosen_camera, read_camera

CAMERA = CameraModel(100.0, 0.5, 2.0)


def movie(path: Path, level_e: float, count: int) -> Path:
    electrons = np.full((32, 32), level_e, np.float32)
    tifffile.imwrite(path, np.stack([CAMERA.expose(electrons, int(level_e) + index) for index in range(count)]))
    return path


def application() -> typer.Typer:
    app = typer.Typer()
    app.command("camera")(command.run)
    return app


def test_darks_and_flats_become_a_file_and_maps(tmp_path: Path) -> None:
    darks, flats = movie(tmp_path / "d.tif", 0, 60), movie(tmp_path / "f.tif", 2000, 20)
    out = tmp_path / "camera.json"
    done = CliRunner().invoke(application(), [str(darks), str(flats), "--out", str(out)])
    assert done.exit_code == 0, done.output
    camera = read_camera(out)
    assert camera.electrons_per_adu == pytest.approx(0.5, rel=0.05)
    values = json.loads(out.read_text(encoding="utf-8"))
    with np.load(out.with_name(values["maps"])) as maps:
        assert maps["read_noise_map_e"].shape == (32, 32)
    again = CliRunner().invoke(application(), [str(darks), "--out", str(out)])
    assert again.exit_code == 0, again.output  # an own file is replaced


def test_a_foreign_file_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "camera.json"
    out.write_text("mine", encoding="utf-8")
    done = CliRunner().invoke(application(), [str(movie(tmp_path / "d.tif", 0, 5)), "--out", str(out)])
    assert isinstance(done.exception, DataError)
    assert out.read_text(encoding="utf-8") == "mine"


def test_camera_is_chosen_from_file_figures_or_nothing(tmp_path: Path) -> None:
    assert chosen_camera(CameraOptions()) is None
    given = chosen_camera(CameraOptions(None, 100.0, 0.5, 2.0), 12)
    assert given == CameraModel(100.0, 0.5, 2.0, 12, "given")
    file = tmp_path / "camera.json"
    file.write_text(json.dumps({"camera": CAMERA.as_dict()}), encoding="utf-8")
    assert chosen_camera(CameraOptions(file)) == CAMERA


def test_a_known_camera_is_chosen_by_name_and_figures_replace_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    known = KNOWN_CAMERAS["andor-zyla"].camera()
    assert chosen_camera(CameraOptions(Path("andor-zyla"))) == known
    assert chosen_camera(CameraOptions(Path("Andor-Zyla"), 103.5)) == replace(known, offset_adu=103.5)
    assert camera_model("andor-zyla") == known
    with pytest.raises(DataError, match="no known camera 'andor-zylo'"):
        chosen_camera(CameraOptions(Path("andor-zylo")))
    Path("andor-zyla").write_text(json.dumps({"camera": CAMERA.as_dict()}), encoding="utf-8")
    assert chosen_camera(CameraOptions(Path("andor-zyla"))) == CAMERA  # a file of this name is meant


def test_the_known_cameras_are_listed() -> None:
    application = typer.Typer()
    application.command()(cameras.run)
    shown = CliRunner().invoke(application)
    assert shown.exit_code == 0
    for known in KNOWN_CAMERAS.values():
        assert f"{known.name}\t{known.offset_adu:g} ADU\t{known.electrons_per_adu:g} e-/ADU" in shown.output
        assert known.source in shown.output


@pytest.mark.parametrize(
    ("file", "figures", "says"),
    [
        (True, (100.0, None, None), "given twice"),
        (False, (100.0, None, 2.0), "Only 2"),
        (True, (None, None, None), "not a camera description"),
    ],
)
def test_contradicting_cameras_are_refused(
    tmp_path: Path, file: bool, figures: tuple[float | None, ...], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        chosen_camera(CameraOptions(tmp_path / "missing.json" if file else None, *figures))

"""The command `localize`, as a user runs it, with the shipped model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
import zarr
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from hardware.movies import open_movie
from models.camera import CameraModel
from models.movie_localization import dark_level_note
from models.scene import reference_camera, reference_scene
from models.table_files import read_table, write_table
from models.tables import Localizations, Truth
from models.weights import reference_model
from service.commands import evaluate, localize
from tests.hardware.format_samples import FORMATS

FRAMES = 3
PERIOD_S = 0.4
COLUMNS = "frame,x_um,y_um,z_um,photons,background,probability,sigma_x_um,sigma_y_um,sigma_z_um,chi2"


def _run(command: Any, *arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(command.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


def _localize(movie: Path, out: Path, *options: Any, model: Path | None = None) -> Result:
    return _run(localize, movie, "--model", model or reference_model(), "--out", out, *options)


def _write_ome(path: Path, frames: NDArray[Any], axes: str = "TYX", **metadata: Any) -> Path:
    tifffile.imwrite(path, frames, ome=True, metadata={"axes": axes, **metadata})
    return path


def _write_plain(path: Path, frames: NDArray[Any]) -> Path:
    tifffile.imwrite(path, frames, photometric="minisblack")
    return path


@pytest.fixture(scope="module")
def recorded() -> tuple[NDArray[np.uint16], Truth]:
    scene, camera = reference_scene(emitters=12, seed=5), reference_camera()
    frames, rows = [], []
    for index in range(FRAMES):
        time_s = PERIOD_S * index
        frames.append(camera.expose(scene.render(time_s, 0.009, 0.0), index))
        truth = scene.truth(time_s, 0.0)
        rows.append(np.column_stack([np.full(len(truth), index), truth]))
    table = np.concatenate(rows)
    columns = {"frame": table[:, 0], "track_id": table[:, 1], "x_um": table[:, 2], "y_um": table[:, 3]}
    return np.stack(frames), Truth.from_columns(columns | {"z_um": table[:, 4]})


@pytest.fixture(scope="module")
def movie(recorded: tuple[NDArray[np.uint16], Truth], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("movie") / "movie.ome.tif"
    return _write_ome(path, recorded[0], PhysicalSizeX=0.65, PhysicalSizeY=0.65)


@pytest.mark.parametrize(("added", "told"), [(0, None), (40, None), (-70, "far below"), (1400, "far above")])
def test_a_dark_level_that_does_not_fit_the_camera_is_reported(
    recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path, added: int, told: str | None
) -> None:
    path = _write_plain(tmp_path / "movie.tif", (recorded[0].astype(np.int64) + added).clip(0).astype(np.uint16))
    with open_movie(path) as source:
        note = dark_level_note(source, reference_camera())
    assert note is None if told is None else note is not None and told in note and "--camera" in note


def test_the_dark_level_is_reported_by_the_command(recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path) -> None:
    path = _write_plain(tmp_path / "movie.tif", (recorded[0][:1].astype(np.int64) - 70).clip(0).astype(np.uint16))
    done = _localize(path, tmp_path / "found.csv")
    assert done.exit_code == 0, done.output
    assert "far below the camera's offset of 100 ADU" in done.stderr


def test_a_movie_becomes_a_table_that_agrees_with_the_truth(
    movie: Path, recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path
) -> None:
    out, truth, figures = tmp_path / "new" / "found.csv", tmp_path / "truth.csv", tmp_path / "score.json"
    done = _localize(movie, out)
    assert done.exit_code == 0, done.output
    assert "Camera taken from the model: offset 100 ADU" in done.stderr
    assert "does not state its pixel size" not in done.stderr
    assert out.read_text(encoding="utf-8").splitlines()[0] == COLUMNS
    assert out.read_text(encoding="utf-8").splitlines()[1].endswith(",")  # chi2 is empty when not refined
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    write_table(truth, recorded[1])
    judged = _run(evaluate, out, truth, "--json", figures)
    assert judged.exit_code == 0, judged.output
    # The issue asks for 0.6 with 20 emitters; here are 12 in 3 frames, and a mistake weighs a thirtieth.
    assert json.loads(figures.read_text())["jaccard"] > 0.5


@pytest.fixture(scope="module")
def of_ome_tiff(movie: Path, tmp_path_factory: pytest.TempPathFactory) -> Localizations:
    out = tmp_path_factory.mktemp("localized") / "ome.parquet"
    done = _localize(movie, out)
    assert done.exit_code == 0, done.output
    return read_table(out, Localizations)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_identical_localizations(
    recorded: tuple[NDArray[np.uint16], Truth], of_ome_tiff: Localizations, tmp_path: Path, name: str
) -> None:
    done = _localize(FORMATS[name](tmp_path, recorded[0], "T"), tmp_path / "found.parquet")
    assert done.exit_code == 0, done.output
    assert ("the model's 0.65 µm is assumed" in done.stderr) == (name == "TIFF, LZW")
    _assert_identical(read_table(tmp_path / "found.parquet", Localizations), of_ome_tiff)


def _assert_identical(found: Localizations, expected: Localizations) -> None:
    assert len(expected) > 0
    for column, values in expected.columns().items():
        np.testing.assert_array_equal(found.columns()[column], values)


def test_a_bare_array_gives_the_same_table_and_an_output_is_replaced(
    recorded: tuple[NDArray[np.uint16], Truth], of_ome_tiff: Localizations, tmp_path: Path
) -> None:
    zarr.create_array(str(tmp_path / "movie.zarr"), data=recorded[0])
    out = tmp_path / "found.parquet"
    for _ in range(2):  # the second run replaces the first one's output
        done = _localize(tmp_path / "movie.zarr", out)
        assert done.exit_code == 0, done.output
    assert "the model's 0.65 µm is assumed" in done.stderr
    _assert_identical(read_table(out, Localizations), of_ome_tiff)


def test_the_camera_of_the_options_is_used(
    movie: Path, recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path
) -> None:
    # The same light, as a camera of half the gain and another offset gives it.
    counts = ((recorded[0].astype(np.int64) - 100) // 2 + 40).clip(0).astype(np.uint16)
    other = _write_plain(tmp_path / "other.tif", counts)
    figures = ("--camera-offset-adu", 40, "--electrons-per-adu", 0.92, "--read-noise-e", 1.6)
    described = tmp_path / "camera.json"
    described.write_text(json.dumps({"camera": CameraModel(40.0, 0.92, 1.6).as_dict()}), encoding="utf-8")
    assert _localize(movie, tmp_path / "a.csv").exit_code == 0
    expected = read_table(tmp_path / "a.csv", Localizations)
    for name, options in (("b.csv", figures), ("c.csv", ("--camera", described))):
        done = _localize(other, tmp_path / name, *options)
        assert done.exit_code == 0, done.output
        assert "Camera taken" not in done.stderr
        found = read_table(tmp_path / name, Localizations)
        # Halving rounds each count by up to 0.5 ADU, which moves a dim emitter over the threshold at most.
        assert abs(len(found) - len(expected)) <= 3
        assert np.median(found.photons) == pytest.approx(np.median(expected.photons), rel=0.15)


def test_refine_fills_the_goodness_of_fit(recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path) -> None:
    short = _write_plain(tmp_path / "short.tif", recorded[0][:2])
    done = _localize(short, tmp_path / "fine.csv", "--refine")
    assert done.exit_code == 0, done.output
    found = read_table(tmp_path / "fine.csv", Localizations)
    assert set(found.frame) == {0, 1}
    assert np.isfinite(found.chi2).all()
    assert np.median(found.chi2) == pytest.approx(1, abs=0.5)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("colour", (), "colour image"),
        ("sweep", (), "belongs to calibrate"),
        ("channels", (), "Save one channel"),
        ("size in the file", (), "1.1 µm according to the file's metadata, but 0.65 µm according to the model"),
        ("plain", ("--pixel-size-um", 1.1), "1.1 µm according to --pixel-size-um"),
        ("plain", ("--pixel-size-um", "nan"), "pixel size at the sample is nan µm; plausible"),
        ("8 bit", (), "8-bit counts, but the camera of model"),
        ("float", (), "float32; camera counts are unsigned"),
        ("cut", (), "damaged or incomplete"),
        ("missing", (), "does not exist"),
        ("plain", ("--device", "tpu"), "auto, cpu or cuda"),
        ("plain", ("--camera-offset-adu", 100), "Only 1 of the camera's three figures"),
        ("plain", ("--camera", "missing.json"), "not a camera description"),
    ],
)
def test_inputs_that_do_not_fit_are_refused_and_leave_nothing(
    recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path, name: str, options: tuple[Any, ...], says: str
) -> None:
    frames = recorded[0]
    path = tmp_path / "movie.tif"
    if name == "colour":
        tifffile.imwrite(path, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    elif name == "sweep":
        _write_ome(path, frames, "ZYX")
    elif name == "channels":
        _write_ome(path, frames.repeat(2, axis=0).reshape(2, FRAMES, 256, 256), "CZYX")
    elif name == "size in the file":
        _write_ome(path, frames, PhysicalSizeX=1.1, PhysicalSizeY=1.1)
    elif name == "8 bit":
        _write_plain(path, (frames >> 8).astype(np.uint8))
    elif name == "float":
        _write_plain(path, frames.astype(np.float32))
    elif name != "missing":
        _write_plain(path, frames)
        if name == "cut":
            path.write_bytes(path.read_bytes()[:100_000])
    before = sorted(tmp_path.iterdir())
    failed = _localize(path, tmp_path / "found.csv", *options)
    assert failed.exit_code == 1
    assert says in str(failed.exception)
    assert getattr(failed.exception, "remedy", "")
    assert sorted(tmp_path.iterdir()) == before


def test_counts_beyond_the_models_camera_are_refused(
    recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path
) -> None:
    """A model of a 12-bit camera and a movie of 16 bits: the file's type tells nothing, but the counts do."""
    model = Path(shutil.copytree(reference_model(), tmp_path / "model"))
    values = json.loads((model / "model.json").read_text())
    values["camera"]["bit_depth"] = 12
    (model / "model.json").write_text(json.dumps(values))
    frames = recorded[0].clip(0, 4095)
    assert _localize(_write_plain(tmp_path / "12.tif", frames), tmp_path / "12.csv", model=model).exit_code == 0
    frames[-1, 3, 4] = 5000
    failed = _localize(_write_plain(tmp_path / "16.tif", frames), tmp_path / "16.csv", model=model)
    assert failed.exit_code == 1
    assert "reach a count of 5000, but a camera of 12 bits ends at 4095" in str(failed.exception)
    assert not (tmp_path / "16.csv").exists()


def test_another_depth_than_the_models_is_noted(recorded: tuple[NDArray[np.uint16], Truth], tmp_path: Path) -> None:
    path = _write_ome(tmp_path / "12.ome.tif", recorded[0].clip(0, 4095), SignificantBits=12)
    done = _localize(path, tmp_path / "found.csv")
    assert done.exit_code == 0, done.output
    assert "12-bit counts, the model's camera 16" in done.stderr


def test_a_damaged_model_and_a_foreign_output_are_refused(movie: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(reference_model(), tmp_path / "model"))
    (model / "weights.safetensors").write_bytes(b"torn")
    failed = _localize(movie, tmp_path / "found.csv", model=model)
    assert failed.exit_code == 1
    assert "damaged" in str(failed.exception)
    thesis = tmp_path / "thesis.csv"
    thesis.write_text("chapter,page\n1,7\n")
    refused = _localize(movie, thesis)
    assert refused.exit_code == 1
    assert "only such an output is replaced" in str(refused.exception)
    assert thesis.read_text() == "chapter,page\n1,7\n"


def test_refining_needs_the_psf_of_the_model(movie: Path, tmp_path: Path) -> None:
    model = Path(shutil.copytree(reference_model(), tmp_path / "model"))
    values = json.loads((model / "model.json").read_text())
    values["calibration_id"] = "measured"
    (model / "model.json").write_text(json.dumps(values))
    failed = _localize(movie, tmp_path / "found.csv", "--refine", model=model)
    assert failed.exit_code == 1
    assert "psf.zarr cannot be read" in str(failed.exception)
    assert not (tmp_path / "found.csv").exists()


def test_wrong_usage_is_status_2(movie: Path, tmp_path: Path) -> None:
    assert _localize(movie, tmp_path / "found.xlsx").exit_code == 2
    assert _run(localize, movie).exit_code == 2

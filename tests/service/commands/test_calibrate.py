"""``bathyscope calibrate`` from a file, and live on the real DemoCamera."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import typer
from typer.testing import CliRunner

from evaluation.beads.bead_scores import correlate_depths
from hardware.microscope import MicroscopeError
from models.calibration.calibration import Calibration
from models.errors import DataError
from service.commands import calibrate as command
from service.engine.sweep.request import SweepRequest
from tests.conftest import need
from tests.models.bead_sweeps import simulate


@pytest.fixture
def application() -> typer.Typer:
    app = typer.Typer()
    app.command("calibrate")(command.run)
    return app


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    sweep, _ = simulate(beads=9)
    path = tmp_path / "sweep.ome.tif"
    tifffile.imwrite(
        path,
        sweep.planes[:, 0],
        ome=True,
        metadata={
            "axes": "ZYX",
            "PhysicalSizeX": 1.0,
            "PhysicalSizeY": 1.0,
            "PhysicalSizeZ": 1.0,
            "PhysicalSizeXUnit": "µm",
            "PhysicalSizeYUnit": "µm",
            "PhysicalSizeZUnit": "µm",
        },
    )
    return path


def test_file_becomes_a_calibration(application: typer.Typer, sweep_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibration"
    arguments = [str(sweep_file), "--pixel-size-um", "1", "--z-step-um", "1", "--z-start-um", "-6"]
    camera = ["--camera-offset-adu", "100", "--electrons-per-adu", "2", "--read-noise-e", "3"]
    done = CliRunner().invoke(application, [*arguments, "--z-range-um", "2", "16", *camera, "--out", str(out)])
    assert done.exit_code == 0, done.output
    calibration = Calibration.load(out)
    assert calibration.z_range_um == (2.0, 16.0)
    assert calibration.focus_um == pytest.approx(2.3, abs=0.7)
    assert calibration.camera.source == "given"
    assert (out / "report.html").is_file()


def test_the_pattern_is_that_of_objects_whose_size_is_stated(
    application: typer.Typer, sweep_file: Path, tmp_path: Path
) -> None:
    arguments = [str(sweep_file), "--z-range-um", "2", "16", "--z-start-um", "-6", "--out", str(tmp_path / "cells")]
    done = CliRunner().invoke(application, [*arguments, "--object-diameter-um", "8", "--bead-diameter-um", "1"])
    assert done.exit_code == 0, done.output
    assert "objects of 8 µm" in done.output
    report = Calibration.load(tmp_path / "cells").report
    assert (report["object_um"], report["bead_um"]) == (8.0, 1.0)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--object-diameter-um", "1", "--bead-diameter-um", "2"], "smaller than the beads"),
        (["--z-step-um", "2"], "must agree"),
        (["--pixel-size-um", "1.3"], "must agree"),
        (["--z-step-um", "-1"], "step of the sweep is -1 µm; plausible"),
        (["--z-step-um", "nan"], "step of the sweep is nan µm; plausible"),
        (["--z-range-um", "5", "100"], "not covered"),
        (["--pixel-size-um", "16"], "pixel of the camera itself"),
        (["--pixel-size-um", "1600"], "1600 nm are 1.6 µm"),
        (["--z-step-um", "1000"], "1000 nm are 1 µm"),
        (["--focus-um", "1e9"], "position of the focus drive"),
        (["--axial-scale", "10"], "from 0.3 to 3"),
        (["--camera-offset-adu", "100"], "Only 1"),
    ],
)
def test_contradictions_end_in_one_error_and_no_output(
    application: typer.Typer, sweep_file: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    out = tmp_path / "calibration"
    done = CliRunner().invoke(application, [str(sweep_file), *options, "--out", str(out)])
    assert done.exception is not None
    assert says in str(done.exception)
    assert not out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--data", "elsewhere"],
        ["--repeats", "3"],
        ["--settle-s", "1"],
        ["--sequence", "stack.json"],
        ["--live", "--flip-z"],
        ["--live", "--axial-scale", "1.33"],
        ["--live", "--z-start-um", "5"],
    ],
)
def test_options_that_would_be_ignored_are_wrong_usage(
    application: typer.Typer, tmp_path: Path, options: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATHYSCOPE_CONFIG", "settings.toml")  # as it is where a service runs; it is ignored rightly
    sweep = [] if "--live" in options else ["sweep.tif"]
    done = CliRunner().invoke(application, [*sweep, *options, "--out", str(tmp_path / "calibration")])
    assert done.exit_code == 2
    flag = next(option for option in reversed(options) if option.startswith("--"))
    assert f"{flag} means nothing with" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("no bead", "Nothing changes with focus"),
        ("noise alone", "Nothing changes with focus"),
        ("one plane again and again", "Nothing changes with focus"),
        ("crowded", "do not crowd"),
        ("black", "Every pixel of the sweep has the count 100"),
        ("saturated", "9 saturated"),
        ("12 bits in 16, saturated", "9 saturated"),
        ("backwards", "say so with --flip-z"),
        ("moved", "The object moved during the sweep"),
        ("five planes", "at least 8 are needed"),
        ("colour", "colour image"),
        ("a movie", "here is no axis Z"),
        ("channels", "an axis C of 2. Save one channel."),
    ],
)
def test_sweeps_without_information_are_refused(
    application: typer.Typer, tmp_path: Path, fault: str, says: str
) -> None:
    good = simulate(beads=9)[0].planes[:, 0]
    axes: str | None = None
    random = np.random.default_rng(1)
    if fault == "no bead":
        good = simulate(beads=9, photons=0.0)[0].planes[:, 0]
    elif fault == "noise alone":
        good = random.normal(100, 3, good.shape).astype(np.uint16)
    elif fault == "one plane again and again":
        good = np.repeat(good[8:9], len(good), axis=0)
    elif fault == "crowded":
        good = simulate(beads=400, shape=(120, 120))[0].planes[:, 0]
    elif fault == "black":
        good = np.full_like(good, 100)
    elif fault == "saturated":
        good = (good.astype(np.int64) * 40).clip(0, 65535).astype(np.uint16)
    elif fault == "12 bits in 16, saturated":
        good = simulate(beads=9, photons=400_000.0)[0].planes[:, 0].clip(0, 4095)
    elif fault == "backwards":
        good = simulate(beads=9, sign=-1, z_um=np.arange(-16.0, 7.0))[0].planes[:, 0]
    elif fault == "moved":
        good = np.stack([np.roll(plane, 4 * (index > 12), axis=-1) for index, plane in enumerate(good)])
    elif fault == "five planes":
        good = good[:5]
    elif fault == "colour":
        good = np.zeros((64, 64, 3), np.uint8)
    elif fault == "a movie":
        axes = "TYX"
    else:
        good, axes = np.stack([good, good]), "CZYX"
    path = tmp_path / "sweep.tif"
    if axes is None:
        tifffile.imwrite(path, good, photometric="rgb" if fault == "colour" else "minisblack")
    else:
        tifffile.imwrite(path, good, ome=True, metadata={"axes": axes})
    arguments = [str(path), "--pixel-size-um", "1", "--z-step-um", "1", "--z-range-um", "2", "12"]
    failed = CliRunner().invoke(application, [*arguments, "--out", str(tmp_path / "calibration")])
    assert failed.exit_code == 1
    assert says in str(failed.exception)
    assert getattr(failed.exception, "remedy", "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["sweep.tif"]
    if fault == "backwards":
        done = CliRunner().invoke(application, [*arguments, "--flip-z", "--out", str(tmp_path / "calibration")])
        assert done.exit_code == 0, done.output
        assert Calibration.load(tmp_path / "calibration").sign == -1


def test_a_missing_step_is_requested(application: typer.Typer, tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, simulate(beads=4)[0].planes[:, 0])
    done = CliRunner().invoke(application, [str(path), "--pixel-size-um", "1", "--out", str(tmp_path / "c")])
    assert isinstance(done.exception, MicroscopeError)
    assert "--z-step-um" in done.exception.remedy


@pytest.mark.parametrize(
    "arguments",
    [
        ["--out", "c"],
        ["s.tif", "--live", "--out", "c"],
        ["s.tif", "--checkerboard", "red", "--out", "c"],
        ["s.tif", "--bead-diameter-um", "1", "--out", "c"],
        ["--live", "--out", "c"],
        ["--live", "--sequence", "s.json", "--z-step-um", "1", "--out", "c"],
    ],
)
def test_wrong_usage_is_status_2(
    application: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(application, arguments).exit_code == 2


def test_the_sweep_of_a_sequence(application: typer.Typer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Range, step and exposure come from the sequence; the microscope itself is that of the test below."""
    need("useq")
    asked = []

    def take(config: Path | None, data: Path | None, request: SweepRequest) -> None:
        asked.append(request)
        raise DataError("No microscope here.", "Connect one.")

    monkeypatch.setattr("service.commands.live_sweep.take_sweep", take)
    file, out = tmp_path / "stack.json", tmp_path / "calibration"
    arguments = ["--live", "--sequence", str(file), "--repeats", "1", "--out", str(out)]

    def refusal(sequence: dict[str, Any]) -> str:
        file.write_text(json.dumps(sequence), encoding="utf-8")
        done = CliRunner().invoke(application, arguments)
        assert isinstance(done.exception, DataError)
        assert not out.exists()
        return done.exception.problem

    stack = {"z_plan": {"above": 40, "below": 0, "step": 2}}
    assert refusal(stack) == "No microscope here."
    assert asked == [SweepRequest((0.0, 40.0), 2.0, 1)]
    assert "is a time series" in refusal({"time_plan": {"interval": 1, "loops": 3}})
    assert "names the channel 'GFP'" in refusal({**stack, "channels": ["GFP"]})
    assert "goes down" in refusal({"z_plan": {**stack["z_plan"], "go_up": False}})
    file.unlink()
    done = CliRunner().invoke(application, arguments)
    assert "cannot be read" in str(done.exception)
    assert len(asked) == 1


def test_checkerboard_halves_the_field() -> None:
    black, white = (command.checkerboard((8, 8), 4, color) for color in ("black", "white"))
    assert black[0, 0]
    assert not black[0, 4]
    assert not (black & white).any()
    assert (black | white).all()


@pytest.mark.slow  # examples/democamera.py, which always runs, goes the same way through the service.
def test_democamera_is_calibrated_live(application: typer.Typer, tmp_path: Path) -> None:
    need("mm_test_adapters")
    from hardware.core_session import democamera_installation
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    adapters, original = democamera_installation()
    configuration = tmp_path / "beads.cfg"
    beads = {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BitDepth": "16", "BeadDensity": "10"}
    lines = [f"Property,Camera,{name},{value}" for name, value in beads.items()]
    configuration.write_text(original.read_text(encoding="utf-8") + "\n".join(lines) + "\n", encoding="utf-8")
    config = tmp_path / "demo.toml"
    config.write_text(
        f'data_dir = "{tmp_path / "data"}"\n'
        '[microscope]\ndriver = "micromanager"\nmoves = "sample"\nimmersion_index = 1.0\nsample_index = 1.0\n'
        f'[microscope.micromanager]\napp_path = "{adapters}"\nconfig_file = "{configuration}"\nbuffer_mb = 32\n',
        encoding="utf-8",
    )
    out = tmp_path / "calibration"
    done = CliRunner().invoke(
        application,
        ["--live", "--config", str(config), "--z-range-um", "0", "40", "--z-step-um", "2", "--out", str(out),
         "--repeats", "1", "--settle-s", "0"],
    )  # fmt: skip
    assert done.exit_code == 0, f"{done.output} {done.exception}"
    calibration = Calibration.load(out)
    assert calibration.focus_um == pytest.approx(0, abs=0.2)
    assert calibration.camera.read_noise_e == 0  # its beads have no noise
    assert calibration.report["beads_used"] >= 6

    # Frames at positions that the sweep did not contain: sizes differ by 20 %, so the median over the beads is judged.
    places = np.array([(bead["x_um"], bead["y_um"]) for bead in calibration.report["beads"] if bead["used"]])
    microscope = MicroManagerMicroscope(
        MicroManagerSettings(app_path=adapters, config_file=configuration, buffer_mb=32)
    )
    try:
        for stage in (4.4, 11.7, 27.3, 38.6):
            microscope.move_stage(stage)
            depths = correlate_depths(calibration, microscope.snap().pixels[None], places)
            assert np.median(depths) == pytest.approx(stage - calibration.focus_um, abs=1.0)
    finally:
        microscope.close()

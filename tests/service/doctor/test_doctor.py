"""The checks of an installation, with the real DemoCamera and with faults of every kind."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import filelock
import pytest

from hardware.core_session import democamera_installation
from hardware.microscope import CameraSettings, MicroscopeDescription
from models.errors import DataError
from service.commands.application import main
from service.doctor import adapters, examination, machine, microscope, model
from service.doctor.findings import Finding, checked
from service.doctor.microscope import Seen
from service.doctor.storage import check_database, check_keys
from service.settings import Settings
from service.store.store import Store
from tests.conftest import need


@pytest.fixture(scope="module")
def demo() -> tuple[Path, Path]:
    need("mm_test_adapters")
    return democamera_installation()


def settings_of(folder: Path, demo: tuple[Path, Path] | None = None, **more: Any) -> Settings:
    values: dict[str, Any] = {"data_dir": folder / "data", "port": 0, **more}
    if demo is not None:
        part = {"app_path": demo[0], "config_file": demo[1], "buffer_mb": 32, **more.get("micromanager", {})}
        values.pop("micromanager", None)
        values["microscope"] = {
            "driver": "micromanager",
            "moves": "objective",
            "stage_low_um": -100,
            "stage_high_um": 100,
            "micromanager": part,
            **more.get("microscope", {}),
        }
    return Settings.model_validate(values)


def of(findings: list[Finding], check: str) -> list[Finding]:
    return [finding for finding in findings if finding.check == check]


def assert_found(finding: Finding, state: str, *words: str) -> None:
    assert finding.state == state, finding
    assert (finding.remedy is None) == (state == "ok"), finding
    for word in words:
        assert word in f"{finding.message} {finding.remedy}", finding


# ---- the command ----


def doctor(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "doctor", *arguments])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_democamera_is_examined(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, demo: tuple[Path, Path]
) -> None:
    config, found = tmp_path / "bathyscope.toml", tmp_path / "found.json"
    config.write_text(
        f"port = 0\ndata_dir = '{tmp_path / 'data'}'\n[camera]\nroi = [0, 0, 64, 64]\n"
        "[microscope]\ndriver = 'micromanager'\n"
        "moves = 'objective'\nstage_low_um = -100\nstage_high_um = 100\n[microscope.micromanager]\n"
        f"app_path = '{demo[0]}'\nconfig_file = '{demo[1]}'\nbuffer_mb = 32\n"
    )
    # The DemoCamera has 1 µm per pixel, the shipped model 0.65 µm.
    assert doctor(monkeypatch, "--config", str(config), "--json", str(found)) == 1
    written = json.loads(found.read_text())
    findings = [Finding(**each) for each in written["findings"]]
    states = {finding.check: finding.state for finding in findings}
    assert states["device interface"] == "ok"
    assert of(findings, "device interface")[0].details["adapters"]["DemoCamera"] == 75
    assert states["configuration file"] == "ok"
    assert states["microscope"] == "ok"
    assert_found(of(findings, "camera")[0], "ok", "64 x 64 px", "16 bits")
    assert of(findings, "camera")[0].details["fps"] > 10
    assert [finding.state for finding in of(findings, "stage")] == ["ok"]
    assert_found(of(findings, "model")[0], "error", "1 µm per pixel", "0.65 µm", "Calibrate")
    assert {"disk", "database", "access", "port", "gpu", "precision and threads", "clock"} <= set(states)
    assert (written["ok"], written["counts"]["error"]) == (False, 1)
    assert written["machine"]["python"]
    said = capsys.readouterr().out
    assert "error   model: " in said
    assert "        -> Calibrate" in said
    assert "1 errors." in said


def test_the_simulated_microscope_is_in_order(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("BATHYSCOPE_PORT", "0")
    assert doctor(monkeypatch, "--data", str(tmp_path)) == 0
    assert "0 errors." in capsys.readouterr().out


def test_settings_that_are_refused_are_a_finding(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "bad.toml").write_text("prot = 8000\n")
    assert doctor(monkeypatch, "--config", str(tmp_path / "bad.toml")) == 1
    assert "settings: prot is not a setting." in capsys.readouterr().out


def test_a_running_service_keeps_its_microscope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> Any:
        raise AssertionError("the microscope was opened")

    monkeypatch.setattr(examination, "check_microscope", never)
    monkeypatch.setattr(examination, "check_model", lambda *_: iter(()))
    with filelock.FileLock(tmp_path / ".lock"):
        findings = [*examination.examine(settings_of(tmp_path, data_dir=tmp_path, port=8000))]
    assert_found(of(findings, "microscope")[0], "warning", "service runs", "/readyz")
    assert_found(of(findings, "port")[0], "ok", "service")
    findings = [*examination.examine(settings_of(tmp_path, data_dir=tmp_path), with_microscope=False)]
    assert_found(of(findings, "microscope")[0], "ok", "not opened")


def test_a_check_that_fails_is_a_finding_too() -> None:
    def fail() -> Iterator[Finding]:
        yield Finding("disk", "ok", "Fine.")
        raise ZeroDivisionError("division by zero")

    first, second = checked("disk", fail)
    assert first.state == "ok"
    assert_found(second, "error", "ZeroDivisionError", "Report it")


# ---- adapters and configuration ----


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux",
    reason="edits the machine code of an x86-64 Linux library",
)
def test_adapters_of_another_interface_name_what_to_install(tmp_path: Path, demo: tuple[Path, Path]) -> None:
    folder = tmp_path / "mm"
    shutil.copytree(demo[0], folder)
    library = next(folder.glob("*DemoCamera*"))
    library.write_bytes(library.read_bytes().replace(b"\xb8\x4b\0\0\0\xc3", b"\xb8\x47\0\0\0\xc3"))
    settings = settings_of(tmp_path, (folder, folder / "MMConfig_demo.cfg"))
    findings = [*adapters.check_adapters(settings.microscope.micromanager)]
    assert_found(
        findings[0], "error", "DemoCamera (71)", "pymmcore has interface 75", "pip install pymmcore==11.2.1.71.0"
    )
    assert findings[0].details["install"] == "pip install pymmcore==11.2.1.71.0"


def test_adapters_that_cannot_be_loaded(tmp_path: Path, demo: tuple[Path, Path]) -> None:
    (tmp_path / "libmmgr_dal_DemoCamera.so.0").write_text("no library")
    (tmp_path / "demo.cfg").write_text("Device,Camera,DemoCamera,DCam\nProperty,Core,Camera,Camera\n")
    settings = settings_of(tmp_path, (tmp_path, tmp_path / "demo.cfg"))
    first, second, third = adapters.check_adapters(settings.microscope.micromanager)
    assert_found(first, "error", "DemoCamera", "cannot be loaded", "driver")
    assert_found(second, "error", "No adapter")
    assert_found(third, "ok", "1 devices")


@pytest.mark.parametrize(
    ("text", "state", "words"),
    [
        ("# nothing\n", "error", ["has no devices"]),
        ("Device,Cam,Andor,iXon\nProperty,Core,Camera,Cam\n", "error", ["not in", "Andor"]),
        ("Device,Cam,DemoCamera,DCam\nProperty,Core,Camera,Cam\nLabel,Wheel,0,a\n", "error", ["Wheel"]),
        ("Device,Cam,DemoCamera,DCam\n", "warning", ["Core-Camera"]),
        ("Device,Caméra,DemoCamera,DCam\nProperty,Core,Camera,Caméra\n", "ok", ["1 devices"]),
    ],
)
def test_configuration_files(tmp_path: Path, demo: tuple[Path, Path], text: str, state: str, words: list[str]) -> None:
    file = tmp_path / "some.cfg"
    file.write_text(text, encoding="latin-1")
    settings = settings_of(tmp_path, (demo[0], file))
    findings = of([*adapters.check_adapters(settings.microscope.micromanager)], "configuration file")
    assert_found(findings[0], state, *words)


# ---- microscope ----


def test_a_driver_that_crashes_or_hangs_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microscope, "_look", _crash)
    findings, seen = microscope.check_microscope(settings_of(tmp_path))
    assert seen is None
    assert_found(findings[0], "error", "ended the process", "exit status 3", "update the driver")
    monkeypatch.setattr(microscope, "_look", _hang)
    monkeypatch.setattr(microscope, "_OPEN_LIMIT_S", 0.2)
    findings, _ = microscope.check_microscope(settings_of(tmp_path))
    assert_found(findings[0], "error", "did not respond within 0.2 s")


def _crash(*_: Any) -> None:
    os._exit(3)


def _hang(*_: Any) -> None:
    time.sleep(60)


def test_a_microscope_that_does_not_open_says_why(tmp_path: Path, demo: tuple[Path, Path]) -> None:
    (tmp_path / "some.cfg").write_text("Device,Cam,Andor,iXon\n")
    findings, seen = microscope.check_microscope(settings_of(tmp_path, (demo[0], tmp_path / "some.cfg")))
    assert seen is None
    assert_found(findings[0], "error", "Andor", "switched on")


def test_a_stage_outside_of_its_limits_and_limits_that_nobody_set(tmp_path: Path, demo: tuple[Path, Path]) -> None:
    part = {"stage_low_um": 10, "stage_high_um": 100}
    findings, _ = microscope.check_microscope(settings_of(tmp_path, demo, microscope=part))
    assert_found(of(findings, "stage")[0], "error", "outside", "stage_low_um")
    settings = settings_of(tmp_path, demo)
    unset = settings.microscope.model_copy()
    unset.__pydantic_fields_set__.difference_update({"stage_low_um", "stage_high_um"})
    findings, _ = microscope.check_microscope(settings.model_copy(update={"microscope": unset}))
    assert_found(of(findings, "stage")[1], "warning", "defaults", "stage_high_um")


# ---- machine ----


def seen_at(fps: float, shape: tuple[int, int] = (256, 256), pixel_um: float | None = 0.65) -> Seen:
    about = MicroscopeDescription("x", "Camera", "Z", shape, 16, pixel_um, focus_direction=0)
    return Seen(about, CameraSettings(0.001, None, 1), fps)


def test_the_disk_is_compared_with_the_camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_of(tmp_path)
    monkeypatch.setattr(machine, "_TRIAL_BYTES", 2**20)
    monkeypatch.setattr(machine, "_write_speed", lambda _: 200e6)
    assert_found([*machine.check_disk(settings, seen_at(100))][-1], "ok", "200 MB/s", "room for")
    assert_found([*machine.check_disk(settings, seen_at(1000, (512, 512)))][-1], "warning", "524 MB/s", "smaller ROI")
    monkeypatch.setattr(machine, "_write_speed", lambda _: 10e6)
    assert_found([*machine.check_disk(settings, None)][-1], "warning", "only 10 MB/s")
    monkeypatch.setattr(machine, "_file_system", lambda _: "nfs4")
    assert_found(next(machine.check_disk(settings, None)), "warning", "network drive (nfs4)")
    full = settings_of(tmp_path, engine={"free_space_floor_gb": 1e9})
    assert any(
        finding.state == "error" and "retention" in str(finding.remedy) for finding in machine.check_disk(full, None)
    )


def test_the_speed_of_the_disk_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_TRIAL_BYTES", 2**20)
    assert machine._write_speed(tmp_path) > 1e5
    with pytest.raises(DataError, match="cannot be written"):
        machine._write_speed(Path("/proc"))


def test_the_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert_found(next(machine.check_port(settings_of(tmp_path, port=port), served=False)), "error", str(port))
    assert_found(next(machine.check_port(settings_of(tmp_path, port=port), served=False)), "ok", "free")


def test_the_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia", lambda: None)
    assert_found(next(machine.check_gpu(settings_of(tmp_path))), "ok", "processor")
    wants = settings_of(tmp_path, engine={"device": "cuda"})
    assert_found(next(machine.check_gpu(wants)), "error", "engine.device")
    monkeypatch.setattr(machine, "_nvidia", lambda: "NVIDIA T1000")
    assert_found(next(machine.check_gpu(settings_of(tmp_path))), "warning", "T1000", "CUDA build")
    assert_found(next(machine.check_gpu(wants)), "error", "T1000")


def test_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(machine.time, "time", lambda: now)
    for synchronized, state in ((None, "ok"), (True, "ok"), (False, "warning")):
        monkeypatch.setattr(machine, "_synchronized", lambda it=synchronized: it)
        assert next(machine.check_clock(None)).state == state
    assert_found(next(machine.check_clock(now + 3600)), "warning", "the database has an event")
    monkeypatch.setattr(machine.time, "time", lambda: 1e9)
    assert_found(next(machine.check_clock(None)), "error", "2001")


def test_a_tool_that_is_missing_or_fails_says_nothing() -> None:
    assert machine._output(["/no/such/tool"]) is None
    assert machine._output(["false"]) is None
    assert machine._output(["echo", "yes"]) == "yes"


# ---- model, database, access ----


def test_the_model_is_compared_with_the_optics(tmp_path: Path) -> None:
    simulated = settings_of(tmp_path)
    findings = [*model.check_model(simulated, None)]
    assert_found(findings[0], "ok", "not compared")
    assert of(findings, "precision and threads")[0].details["threads"] >= 1

    part = {"driver": "simulated", "moves": "sample", "immersion_index": 1.0, "sample_index": 1.0}
    narrow = settings_of(tmp_path, microscope={**part, "sample_index": 1.5, "stage_low_um": 0, "stage_high_um": 5})
    findings = [*model.check_model(narrow, seen_at(1.0, (64, 64)))]
    assert [finding.state for finding in of(findings, "model")] == ["ok", "warning", "error"]
    assert_found(of(findings, "model")[1], "warning", "sample_index")
    assert_found(of(findings, "model")[2], "error", "soft limits allow 5 µm")
    assert_found(of(findings, "precision and threads")[0], "ok", "keeps up")
    findings = [*model.check_model(simulated, seen_at(1e5, (64, 64)))]
    assert_found(of(findings, "precision and threads")[0], "warning", "smaller ROI")
    (finding,) = checked("model", lambda: model.check_model(settings_of(tmp_path, model=tmp_path / "none"), None))
    assert_found(finding, "error", "none")


def test_the_database_and_the_keys(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, data_dir=tmp_path)
    assert_found(next(check_database(settings)), "ok", "no database")
    with closing(Store.open(settings.database)) as store:
        store.migrate()
        run = store.runs.create(model_id="m", record=False).id
    assert_found(next(check_database(settings)), "ok", run)
    (tmp_path / "bathyscope.db").write_bytes(b"no database" * 100)
    for name in ("-wal", "-shm", "-files"):
        (tmp_path / f"bathyscope.db{name}").unlink(missing_ok=True)
    (finding,) = checked("database", lambda: check_database(settings))
    assert_found(finding, "error")
    assert_found(next(check_keys(settings)), "ok", "0 access keys", "HTTP")
    (tmp_path / "access-keys.json").write_text("{")
    (finding,) = checked("access", lambda: check_keys(settings))
    assert_found(finding, "error", "access keys", "Restore")

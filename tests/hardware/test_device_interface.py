"""Device interfaces of real adapters, and of files that are none."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

import pytest

from hardware.device_interface import (
    PYMMCORE_VERSIONS,
    adapter_files,
    core_interface,
    fitting_install,
    read_interfaces,
)
from tests.conftest import ROOT


def test_the_interface_of_the_democamera_is_that_of_the_core(demo_installation: tuple[Path, Path]) -> None:
    paths = adapter_files(demo_installation[0])
    assert {"DemoCamera", "Utilities"} <= set(paths)
    (found,) = read_interfaces(paths, ["DemoCamera"])
    assert (found.name, found.interface, found.fault) == ("DemoCamera", core_interface(), None)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux",
    reason="edits the machine code of an x86-64 Linux library",
)
def test_another_interface_is_read_without_the_core(demo_installation: tuple[Path, Path], tmp_path: Path) -> None:
    library = shutil.copy(adapter_files(demo_installation[0])["DemoCamera"], tmp_path)
    # GetDeviceInterfaceVersion is "mov eax, 75; ret".
    Path(library).write_bytes(Path(library).read_bytes().replace(b"\xb8\x4b\0\0\0\xc3", b"\xb8\x47\0\0\0\xc3"))
    (found,) = read_interfaces(adapter_files(tmp_path), ["DemoCamera"])
    assert found.interface == 71
    assert fitting_install(71) == "pip install pymmcore==11.2.1.71.0"


def test_a_file_that_is_no_library_is_told(tmp_path: Path) -> None:
    (tmp_path / "libmmgr_dal_Broken.so.0").write_text("no library")
    (tmp_path / "mmgr_dal_Other.dll").write_text("")
    (tmp_path / "readme.txt").write_text("")
    paths = adapter_files(tmp_path)
    assert set(paths) == {"Broken", "Other"}
    (found,) = read_interfaces(paths, ["Broken"])
    assert found.interface is None
    assert found.fault


def test_a_library_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libmmgr_dal_Slow.so.0").write_text("")
    monkeypatch.setattr("hardware.device_interface._READER", "import time; time.sleep(60)")
    monkeypatch.setattr("hardware.device_interface._TIMEOUT_S", 0.3)
    (found,) = read_interfaces(adapter_files(tmp_path), ["Slow"])
    assert "longer than 0.3 s" in str(found.fault)


def test_versions_name_their_interface_and_are_in_the_guide() -> None:
    guide = (ROOT / "docs" / "user-guide.md").read_text(encoding="utf-8")
    for interface, version in PYMMCORE_VERSIONS.items():
        assert version.split(".")[3] == str(interface)
        assert f"| {interface} | {version} |" in guide
    assert "*.*.*.99.*" in fitting_install(99)

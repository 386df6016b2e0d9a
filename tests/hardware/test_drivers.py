"""Drivers of other packages: found by entry point, with their own settings."""

from __future__ import annotations

import importlib
import pickle
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hardware import MicroscopeError
from hardware.drivers import BUILT_IN, GROUP, driver_kinds, load_driver
from models.errors import DataError
from service.engine.opening import open_instrument
from service.settings import load_settings
from tests.conftest import ROOT

TOY = '''
"""A camera that gives frames of one brightness."""

import numpy as np
from pydantic import Field

from hardware import ComputedInputs, Driver, DriverSettings
from hardware.simulated import SimulatedMicroscope


class ToySettings(DriverSettings):
    brightness: int = Field(default=7, ge=0, le=255, description="Counts of each pixel.")
    names: tuple[str, ...] = Field(default=(), description="Names of the lamps.")
    port: str | None = Field(default=None, description="Serial port.")

    def check_complete(self) -> None:
        if self.port is None:
            raise ValueError("port is not set; the controller is reached through it")


class Plain:
    shape = (8, 8)
    pixel_size_um = 0.1
    bit_depth = 16

    def __init__(self, brightness: int) -> None:
        self.brightness = brightness

    def render(self, time_s, exposure_s, stage_um, xy_um):
        return np.full(self.shape, self.brightness, np.float32)

    def truth(self, time_s, stage_um, xy_um):
        return np.zeros((0, 4))

    def expose(self, electrons, seed):
        return electrons.astype(np.uint16)


def open_toy(settings: ToySettings, inputs: ComputedInputs) -> SimulatedMicroscope:
    plain = Plain(settings.brightness)
    return SimulatedMicroscope(plain, plain)


DRIVER = Driver(ToySettings, open_toy)
'''


def install(folder: Path, package: str, entries: str, module: str = "") -> None:
    """Install a package with one module as pip does, but by hand."""
    (folder / f"{package}.py").write_text(module)
    information = folder / f"{package}-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package.replace('_', '-')}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{GROUP}]\n{entries}\n")
    importlib.invalidate_caches()


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of installed packages; holds the toy's."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    install(folder, "toy_microscope", "toy = toy_microscope:DRIVER", TOY)
    yield folder
    sys.modules.pop("toy_microscope", None)


def settings_file(folder: Path, text: str) -> Path:
    path = folder / "bathyscope.toml"
    path.write_text(text)
    return path


def test_a_driver_of_another_package_is_opened_from_a_settings_file(packages: Path, tmp_path: Path) -> None:
    config = settings_file(
        tmp_path,
        '[microscope]\ndriver = "toy"\nstage_high_um = 90.0\n'
        '[microscope.toy]\nbrightness = 40\nport = "/dev/ttyUSB0"\n[camera]\nexposure_s = 0.002\n',
    )
    environment = {"BATHYSCOPE_MICROSCOPE__TOY__BRIGHTNESS": "41", "BATHYSCOPE_MICROSCOPE__TOY__NAMES": '["a", "b"]'}
    settings = load_settings(config, environment=environment)
    assert driver_kinds() == (*BUILT_IN, "toy")
    assert settings.microscope.model_dump(mode="json")["toy"]["brightness"] == 41
    assert settings.microscope.model_dump()["toy"]["names"] == ("a", "b")
    assert pickle.loads(pickle.dumps(settings)) == settings
    microscope = open_instrument(settings)
    try:
        assert microscope.camera_settings.exposure_s == 0.002
        assert microscope.stage_limits.high_um == 90.0
        assert set(microscope.snap().pixels.flat) == {41}
    finally:
        microscope.close()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('driver = "tyo"', "microscope.driver is 'tyo': no such driver is installed; there are simulated, microm.*toy"),
        ('driver = "toy"', "toy.port is not set; the controller is reached through it"),
        ('driver = "toy"\n[microscope.toy]\nbrightnes = 4', "toy.brightnes is not a .* mean microscope.toy.brightness"),
        (
            'driver = "toy"\n[microscope.toy]\nbrightness = 400',
            "toy.brightness is 400: .* less than or equal",
        ),
        # Also of a driver that is not in use.
        ("[microscope.toy]\nbrightness = 400", "microscope.toy.brightness is 400"),
        ("[microscope.tyo]\nbrightness = 4", "microscope.tyo is not a setting"),
    ],
)
def test_settings_of_another_package_are_checked(packages: Path, tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        load_settings(settings_file(tmp_path, f"[microscope]\n{text}\n"), environment={})


def test_a_driver_that_cannot_be_imported_names_its_package_and_the_reason(packages: Path, tmp_path: Path) -> None:
    install(packages, "broken_microscope", "broken = broken_microscope:DRIVER", "import vendor_library")
    said = r"broken-microscope 1.0 .*broken_microscope:DRIVER.* No module named 'vendor_library'"
    with pytest.raises(MicroscopeError, match=said):
        load_driver("broken")
    with pytest.raises(DataError, match=said):
        load_settings(settings_file(tmp_path, '[microscope]\ndriver = "broken"\n'), environment={})
    # The others work all the same.
    assert load_settings(settings_file(tmp_path, '[microscope]\ndriver = "simulated"\n'), environment={})


def test_an_entry_point_that_is_no_driver_is_refused(packages: Path) -> None:
    install(packages, "odd_microscope", "odd = odd_microscope:DRIVER", "DRIVER = 3")
    with pytest.raises(MicroscopeError, match="is a int; it must be a hardware"):
        load_driver("odd")


def test_one_kind_of_two_packages_is_refused(packages: Path) -> None:
    install(packages, "other_toy", "toy = other_toy:DRIVER")
    with pytest.raises(MicroscopeError, match="by 2 packages: other-toy, toy-microscope"):
        load_driver("toy")


def test_a_built_in_driver_cannot_be_replaced(packages: Path) -> None:
    install(packages, "false_replay", "replay = false_replay:DRIVER")
    assert load_driver("replay").settings.__name__ == "ReplaySettings"


def test_the_built_in_drivers_are_entry_points_of_this_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["entry-points"][GROUP] == BUILT_IN
    assert all(load_driver(kind).settings.__doc__ for kind in BUILT_IN)

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

import hardware
from hardware import LimitedMicroscope, MicroscopeError, StageLimits, open_microscope

if TYPE_CHECKING:
    from tests.hardware.conftest import PlainDetector, PlainScene

LIMITS = {"stage_low_um": -20.0, "stage_high_um": 40.0, "stage_max_step_um": 10.0}
DEPTH = {"moves": "objective", "immersion_index": 1.0, "sample_index": 1.33}


def test_simulated(scene: PlainScene, detector: PlainDetector) -> None:
    config = {
        "driver": "simulated",
        **LIMITS,
        **DEPTH,
        "simulated": {"height": 32, "width": 48, "emitters": 1, "seed": 3, "exposure_s": 0.002, "frame_period_s": None},
        "replay": {"movie": None},
    }
    microscope = open_microscope(config, scene=scene, detector=detector)
    assert isinstance(microscope, LimitedMicroscope)
    assert microscope.stage_limits == StageLimits(-20.0, 40.0, 10.0)
    assert microscope.camera_settings.exposure_s == 0.002
    microscope.close()


def test_simulated_has_limits_of_its_own(scene: PlainScene, detector: PlainDetector) -> None:
    microscope = open_microscope({"driver": "simulated", "stage_high_um": 60.0}, scene=scene, detector=detector)
    assert microscope.stage_limits == StageLimits(-150.0, 60.0, 300.0)
    microscope.close()


def test_simulated_needs_a_scene(scene: PlainScene) -> None:
    with pytest.raises(MicroscopeError, match="without a scene or a detector"):
        open_microscope({"driver": "simulated"}, scene=scene)


def test_replay(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((3, 16, 24), "uint16"), photometric="minisblack")
    microscope = open_microscope({"driver": "replay", "replay": {"movie": path, "fps": 20.0, "loop": True}})
    assert microscope.camera_settings.exposure_s == 0.05
    microscope.close()
    with pytest.raises(MicroscopeError, match="frame rate"):
        open_microscope({"driver": "replay", "replay": {"movie": path}})
    with pytest.raises(MicroscopeError, match="No movie was given"):
        open_microscope({"driver": "replay"})


def test_micromanager(demo_installation: tuple[Path, Path]) -> None:
    folder, config_file = demo_installation
    own = {
        "app_path": str(folder),
        "config_file": str(config_file),
        "buffer_mb": 16,
        "mode": "in-process",
        "port": 4827,
    }
    microscope = open_microscope({"driver": "micromanager", **LIMITS, **DEPTH, "micromanager": own})
    assert microscope.description.camera == "Camera"
    assert microscope.move_stage(10.0) == 10.0
    with pytest.raises(MicroscopeError, match="greatest step"):
        microscope.move_stage(25.0)
    microscope.close()


def test_a_real_stage_is_not_opened_without_limits() -> None:
    with pytest.raises(MicroscopeError, match=r"stage_low_um, stage_high_um not set"):
        open_microscope({"driver": "micromanager", "stage_max_step_um": 5.0})


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"driver": "toy"}, "The driver is toy; there are simulated, micromanager, replay"),
        ({}, "The driver is None"),
        ({"driver": "simulated", "stage_lo_um": 3.0}, "stage_lo_um is no setting of microscope"),
        ({"driver": "simulated", "simulated": {"expsure_s": 1}}, "expsure_s is no setting of simulated"),
        ({"driver": "simulated", "stage_low_um": float("nan")}, "must be finite"),
        ({"driver": "micromanager", **LIMITS, "micromanager": {"config": "x"}}, "config is no setting of micromanager"),
        ({"driver": "replay", "replay": {"film": "x"}}, "film is no setting of replay"),
    ],
)
def test_settings_that_do_not_exist(
    config: dict[str, Any], message: str, scene: PlainScene, detector: PlainDetector
) -> None:
    with pytest.raises(MicroscopeError, match=message) as refusal:
        open_microscope(config, scene=scene, detector=detector)
    assert refusal.value.cause == "settings"


def test_the_face_of_the_package() -> None:
    assert all(hasattr(hardware, name) for name in hardware.__all__)


def test_importing_the_package_does_not_import_the_core_or_the_file_readers() -> None:
    heavy = ("pycromanager", "pymmcore", "mmpycorex", "zarr", "tifffile", "numba", "models", "service")
    code = f"import sys, hardware; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

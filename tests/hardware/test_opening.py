from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tifffile

import hardware
from hardware import ComputedInputs, LimitedMicroscope, MicroscopeError, StageLimits, open_microscope
from hardware.replay_settings import ReplaySettings

if TYPE_CHECKING:
    from tests.hardware.conftest import PlainDetector, PlainScene

LIMITS = StageLimits(-20.0, 40.0, 10.0)


def test_simulated(scene: PlainScene, detector: PlainDetector) -> None:
    own = {"height": 32, "width": 48, "emitters": 1, "seed": 3, "frame_period_s": 0.02}
    microscope = open_microscope("simulated", own, limits=LIMITS, inputs=ComputedInputs(scene, detector))
    assert isinstance(microscope, LimitedMicroscope)
    assert microscope.stage_limits == LIMITS
    assert microscope.frame_period_s == 0.02
    microscope.close()


def test_simulated_has_limits_of_its_own(scene: PlainScene, detector: PlainDetector) -> None:
    microscope = open_microscope("simulated", inputs=ComputedInputs(scene, detector))
    assert microscope.stage_limits == StageLimits(-150.0, 150.0, 300.0)
    microscope.close()


def test_a_simulation_needs_something_to_look_at_and_to_count_with(scene: PlainScene) -> None:
    with pytest.raises(MicroscopeError, match="without a scene or a detector"):
        open_microscope("simulated", inputs=ComputedInputs(scene))


def test_replay(tmp_path: Path) -> None:
    path = tmp_path / "movie.tif"
    tifffile.imwrite(path, np.zeros((3, 16, 24), "uint16"), photometric="minisblack")
    microscope = open_microscope("replay", {"movie": path, "fps": 20.0, "loop": True})
    assert microscope.camera_settings.exposure_s == 0.05
    microscope.close()
    with pytest.raises(MicroscopeError, match="frame rate"):
        open_microscope("replay", {"movie": path})
    with pytest.raises(MicroscopeError, match="movie is not set"):
        open_microscope("replay")


def test_micromanager(demo_installation: tuple[Path, Path]) -> None:
    folder, config_file = demo_installation
    own = {"app_path": str(folder), "config_file": str(config_file), "buffer_mb": 16, "mode": "in-process"}
    microscope = open_microscope("micromanager", own, limits=LIMITS)
    assert microscope.description.camera == "Camera"
    assert microscope.move_stage(10.0) == 10.0
    with pytest.raises(MicroscopeError, match="greatest step"):
        microscope.move_stage(25.0)
    microscope.close()


def test_a_real_stage_is_not_opened_without_limits() -> None:
    with pytest.raises(MicroscopeError, match="stage limits are not set"):
        open_microscope("micromanager", {"config_file": "x.cfg"})


@pytest.mark.parametrize(
    ("kind", "own", "message"),
    [
        ("toy", {}, "The driver is toy; installed are simulated, micromanager, replay"),
        ("simulated", {"expsure_s": 1}, "expsure_s is no setting of the driver simulated. The settings are: height, "),
        ("simulated", {"height": 8}, "height of the driver simulated: Input should be greater than or equal to 32"),
        ("simulated", ReplaySettings(), "The settings of the driver simulated: Input should be a valid dictionary or"),
        ("micromanager", {"config": "x"}, "config is no setting of the driver micromanager"),
        ("micromanager", {}, "config_file is not set"),
        ("replay", {"film": "x"}, "film is no setting of the driver replay"),
    ],
)
def test_settings_that_do_not_exist_or_fit(
    kind: str, own: Any, message: str, scene: PlainScene, detector: PlainDetector
) -> None:
    with pytest.raises(MicroscopeError, match=message) as refusal:
        open_microscope(kind, own, limits=LIMITS, inputs=ComputedInputs(scene, detector))
    assert refusal.value.cause == "settings"


def test_limits_that_are_not_finite(scene: PlainScene, detector: PlainDetector) -> None:
    with pytest.raises(MicroscopeError, match="must be finite"):
        open_microscope(
            "simulated", limits=StageLimits(float("nan"), 40.0, 10.0), inputs=ComputedInputs(scene, detector)
        )


def test_the_face_of_the_package() -> None:
    assert all(hasattr(hardware, name) for name in hardware.__all__)


def test_importing_the_package_does_not_import_the_core_or_the_file_readers() -> None:
    heavy = ("pycromanager", "pymmcore", "mmpycorex", "zarr", "tifffile", "numba", "models", "service")
    code = f"import sys, hardware; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"

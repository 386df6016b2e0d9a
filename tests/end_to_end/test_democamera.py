"""The whole cycle on the real Micro-Manager core: live sweep, training, depths at positions that the sweep lacked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from models.calibration.calibration import Calibration
from models.table_files import read_table
from models.tables import Localizations
from tests.conftest import need

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

BEADS = {"Mode": "Fluorescent Beads", "PixelType": "16bit", "BitDepth": "16", "BeadDensity": "10"}
STAGE_UM = (5.5, 9.3, 14.7, 20.4, 26.6, 31.2, 36.8)
"""Between the planes of the sweep, which lie at whole micrometres."""

ISOLATED_UM = 45.0
"""No other bead within the width of two patterns."""


def bathyscope(*arguments: object) -> None:
    """Run a command as a user does."""
    command = [sys.executable, "-c", "from service.commands.application import main; main()", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def settings(folder: Path) -> Path:
    """Settings for the DemoCamera in bead mode."""
    from hardware.core_session import democamera_installation

    adapters, configuration = democamera_installation()
    properties = "\n".join(f'{name} = "{value}"' for name, value in BEADS.items())
    path = folder / "democamera.toml"
    path.write_text(
        f'data_dir = "{folder / "data"}"\n'
        '[microscope]\ndriver = "micromanager"\nmoves = "sample"\nimmersion_index = 1.0\nsample_index = 1.0\n'
        "stage_low_um = -100.0\nstage_high_um = 100.0\nstage_max_step_um = 100.0\n"
        f'[microscope.micromanager]\napp_path = "{adapters}"\nconfig_file = "{configuration}"\nbuffer_mb = 32\n'
        f"[microscope.micromanager.properties.Camera]\n{properties}\n",
        encoding="utf-8",
    )
    return path


def movie(path: Path) -> None:
    """Snap a frame at each of `STAGE_UM`."""
    from hardware.core_session import democamera_installation
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    adapters, configuration = democamera_installation()
    microscope = MicroManagerMicroscope(
        MicroManagerSettings(app_path=adapters, config_file=configuration, buffer_mb=32, properties={"Camera": BEADS})
    )
    try:
        frames = []
        for stage in STAGE_UM:
            microscope.move_stage(stage)
            frames.append(microscope.snap().pixels)
    finally:
        microscope.close()
    tifffile.imwrite(
        path,
        np.stack(frames),
        ome=True,
        metadata={"axes": "TYX", "PhysicalSizeX": 1.0, "PhysicalSizeY": 1.0},
    )


def test_depths_come_back_between_the_planes_of_the_sweep(tmp_path: Path) -> None:
    need("mm_test_adapters")
    folder, model, table = tmp_path / "calibration", tmp_path / "model", tmp_path / "positions.csv"
    bathyscope(
        "calibrate", "--live", "--config", settings(tmp_path), "--z-range-um", 0, 40, "--z-step-um", 1, "--out", folder
    )
    bathyscope("train", folder, "--out", model, "--minutes", 10)
    movie(tmp_path / "frames.ome.tif")
    bathyscope("localize", tmp_path / "frames.ome.tif", "--model", model, "--out", table)

    calibration = Calibration.load(folder)
    found = read_table(table, Localizations)
    beads = np.array([(bead["x_um"], bead["y_um"]) for bead in calibration.report["beads"]])
    apart = np.hypot(*(beads[:, None] - beads[None]).transpose(2, 0, 1)) + np.diag(np.full(len(beads), np.inf))
    isolated = beads[apart.min(axis=1) > ISOLATED_UM]
    assert len(isolated) >= 4
    for frame, stage in enumerate(STAGE_UM):
        mine = found.select(found.frame == frame)
        depths = []
        for x, y in isolated:
            distance = np.hypot(mine.x_um - x, mine.y_um - y)
            if len(distance) and distance.min() < 6:
                depths.append(mine.z_um[distance.argmin()])
        errors = np.array(depths) - (stage - calibration.focus_um)
        print(f"stage {stage} µm: {len(depths)} of {len(isolated)} beads, median error {np.median(errors):+.2f} µm, "
              f"single beads {errors.min():+.2f} to {errors.max():+.2f} µm")  # fmt: skip
        assert len(depths) >= 0.7 * len(isolated)
        assert abs(np.median(errors)) <= 1.0

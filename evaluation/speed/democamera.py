"""Settings for the real Micro-Manager core with its DemoCamera as the source of a measurement.

The DemoCamera's frames have no truth, and its pixel size is a label of the
configuration file. The label is changed to that of the model, because the
engine rightly refuses to track with a model of other optics, and what is
measured here is the path of the frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hardware.core_session import democamera_installation
from models.errors import DataError

__all__ = ["democamera_settings"]

_PIXEL_LABEL = "PixelSize_um,Res10x,"
"""The objective that the configuration starts with."""

_OVERHEAD_S = 3e-4
"""What the DemoCamera adds to each exposure: 98 frames a second at 10 ms, 109 at 9 ms, 122 at 8 ms."""

_SHORTEST_EXPOSURE_S = 5e-4
"""Below 1 ms the camera gives about 860 frames a second, however short the exposure."""

_BUFFER_MB = 64


def democamera_settings(folder: Path, size: int, fps: float, emitters: int, pixel_size_um: float) -> dict[str, Any]:
    """Values for `load_settings`: the camera in bead mode, 16 bit, `size` x `size` pixels.

    Parameters
    ----------
    folder : Path
        Where the changed configuration file goes.
    size : int
        Rows and columns of the sensor.
    fps : float
        Requested frames per second; the camera gives at most about 860.
    emitters : int
        Beads per 512 x 512 pixels.
    pixel_size_um : float
        Of the model.

    Raises
    ------
    DataError
        When the configuration file is not as expected.
    MicroscopeError
        When the DemoCamera is not installed.
    """
    adapters, configuration = democamera_installation()
    lines = configuration.read_text(encoding="utf-8").splitlines()
    if not any(line.startswith(_PIXEL_LABEL) for line in lines):
        raise DataError(
            f"{configuration} has no line {_PIXEL_LABEL}..., so its pixel size cannot be that of the model.",
            "Install the version of mm-test-adapters that pyproject.toml names.",
        )
    changed = [f"{_PIXEL_LABEL}{pixel_size_um:g}" if line.startswith(_PIXEL_LABEL) else line for line in lines]
    config_file = folder / "democamera.cfg"
    config_file.write_text("\n".join(changed) + "\n", encoding="utf-8")
    camera = {
        "Mode": "Fluorescent Beads",
        "PixelType": "16bit",
        "BitDepth": "16",
        "OnCameraCCDXSize": str(size),
        "OnCameraCCDYSize": str(size),
        "BeadDensity": str(emitters),
    }
    return {
        "microscope": {
            "driver": "micromanager",
            "moves": "sample",
            "immersion_index": 1.0,
            "sample_index": 1.0,
            "micromanager": {
                "app_path": adapters,
                "config_file": config_file,
                "buffer_mb": _BUFFER_MB,
                "properties": {"Camera": camera},
            },
        },
        "camera": {"exposure_s": round(max(1.0 / fps - _OVERHEAD_S, _SHORTEST_EXPOSURE_S), 6)},
    }

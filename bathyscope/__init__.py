"""Bathyscope for scripts and notebooks: from a z-sweep of beads to 3D tracks, in the steps of the command line.

========================  ==========================================================
`calibrate`               z-sweep of beads -> `Calibration`
`train`                   `Calibration` -> model folder, opened as a `Localizer`
`load_model`              model folder, or a shipped model -> `Localizer`
`localize`                movie and model -> `Localizations`
`track`                   `Localizations` -> `Tracks`
`evaluate`                `Localizations` or `Tracks`, and `Truth` -> scores
`read_table`              CSV or Parquet file -> one of these tables
`write_table`             one of these tables -> CSV or Parquet file
`Client`                  the service that runs beside: runs, live tracks, jobs
========================  ==========================================================

Lengths are in µm, times in s, light in photo-electrons. x runs right and y
down in the image; z is depth in the sample, positive away from the objective.

Importing this package is fast: each name loads what it needs when it is first
used.

Examples
--------
The tables are equal-length columns (NumPy arrays). A row of `Localizations` is
an emitter found in a frame, a row of `Tracks` the position of a track in a
frame, and a row of `Truth` the real position of an emitter in a frame:

>>> import bathyscope
>>> truth = bathyscope.Truth.from_columns(
...     {"frame": [0, 1], "x_um": [5.0, 6.0], "y_um": [5.0, 5.0], "z_um": [20.0, 21.0], "track_id": [1, 1]}
... )
>>> len(truth), truth.z_um.tolist()
(2, [20.0, 21.0])
>>> bathyscope.Localizations.names()[:4]
('frame', 'x_um', 'y_um', 'z_um')
>>> len(bathyscope.Tracks.empty())
0

A `Localizer` is a model in memory, opened by `load_model`. It finds emitters in
frames (camera counts, shape (B, H, W)) as they arrive:

>>> import numpy as np
>>> model = bathyscope.load_model("live")
>>> isinstance(model, bathyscope.Localizer)
True
>>> dark = np.full((1, 64, 64), round(model.camera.offset_adu), np.uint16)
>>> len(model.localize(dark, np.array([0])))
0

`calibrate` shows a `Calibration`; it is a folder too, loaded by ``Calibration.load(folder)``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bathyscope.calibration import calibrate
    from bathyscope.client import AsyncClient, Client, ServiceError
    from bathyscope.localization import load_model, localize
    from bathyscope.scoring import evaluate
    from bathyscope.tables import read_table, write_table
    from bathyscope.tracking import track
    from bathyscope.training import train
    from models.calibration.calibration import Calibration
    from models.localization import Localizer
    from models.tables import Localizations, Tracks, Truth

__all__ = [
    "AsyncClient",
    "Calibration",
    "Client",
    "Localizations",
    "Localizer",
    "ServiceError",
    "Tracks",
    "Truth",
    "calibrate",
    "evaluate",
    "load_model",
    "localize",
    "read_table",
    "track",
    "train",
    "write_table",
]

_MODULES = {
    "AsyncClient": "bathyscope.client",
    "Client": "bathyscope.client",
    "ServiceError": "bathyscope.client",
    "Calibration": "models.calibration.calibration",
    "Localizations": "models.tables",
    "Localizer": "models.localization",
    "Tracks": "models.tables",
    "Truth": "models.tables",
    "calibrate": "bathyscope.calibration",
    "evaluate": "bathyscope.scoring",
    "load_model": "bathyscope.localization",
    "localize": "bathyscope.localization",
    "read_table": "bathyscope.tables",
    "track": "bathyscope.tracking",
    "train": "bathyscope.training",
    "write_table": "bathyscope.tables",
}
"""Public name -> module that defines it."""


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(_MODULES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

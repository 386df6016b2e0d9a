"""What the live streams of the service bring: the state of all tracks, and the newest camera frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bathyscope.remote.table import Table
from service.pictures import Histogram
from service.protocol import wire

__all__ = ["LiveFrame", "LiveTracks"]

_COASTING = 1
_NEAR_FOCUS = 2


@dataclass(frozen=True, slots=True)
class LiveTracks:
    """All live tracks after one camera frame.

    Attributes
    ----------
    table : Table
        One row a track: track_id, x_um, y_um, z_um, vx_um_s, vy_um_s, vz_um_s, sigma_x_um, sigma_y_um, sigma_z_um,
        probability, age (frames), flags. ``state["z_um"]`` is a column.
    run, frame, t_s : the run, its frame, and the time of the frame within the run (s)
    captured_s, published_s : mid-exposure, and when the engine sent the state (Unix seconds, clock of the service)
    captured_monotonic_s : mid-exposure by the clock that also stamps commands of `Client.control`
    epoch, sequence : of the engine; both begin anew when it is restarted
    missed : states before this one that were not received, because the service sends the newest one only
    interruption : what was interrupted since the state before, as a sentence; None: nothing. After a restart of the
        engine the tracks are others, also when their numbers are the same
    header : everything else that the service states, as `fps` and `ledger`
    """

    table: Table
    run: str
    frame: int
    t_s: float
    captured_s: float
    published_s: float
    captured_monotonic_s: float
    epoch: str
    sequence: int
    missed: int
    interruption: str | None
    header: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, message: bytes, missed: int, interruption: str | None) -> LiveTracks:
        """Decode a message of the stream."""
        _, header, columns = wire.decode(message)
        return cls(
            table=Table(columns),
            run=str(header["run"]),
            frame=int(header["frame"]),
            t_s=float(header["t_s"]),
            captured_s=float(header["captured_s"]),
            published_s=float(header["published_s"]),
            captured_monotonic_s=float(header.get("captured_monotonic_s", np.nan)),
            epoch=str(header["epoch"]),
            sequence=int(header["sequence"]),
            missed=missed,
            interruption=interruption,
            header=header,
        )

    def __getitem__(self, column: str) -> NDArray[Any]:
        return self.table[column]

    def __len__(self) -> int:
        """Number of tracks."""
        return self.table.rows

    @property
    def coasting(self) -> NDArray[np.bool_]:
        """Shape (N,): tracks that were not found in this frame, and are predicted."""
        return (self.table["flags"] & _COASTING) > 0

    @property
    def near_focus(self) -> NDArray[np.bool_]:
        """Shape (N,): tracks so near to focus that their depth is not reliable."""
        return (self.table["flags"] & _NEAR_FOCUS) > 0

    def position_um(self, track_id: int) -> tuple[float, float, float] | None:
        """x, y, z of a track, µm; None when it is no longer there."""
        rows = np.flatnonzero(self.table["track_id"] == track_id)
        if not len(rows):
            return None
        x, y, z = (float(self.table[name][rows[0]]) for name in ("x_um", "y_um", "z_um"))
        return x, y, z


@dataclass(frozen=True, slots=True)
class LiveFrame:
    """The newest camera frame, scaled for display.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (H, W)
        At most 512 pixels a side; 0 is `low_adu` and 255 `high_adu`.
    frame, captured_s : image number, and mid-exposure (Unix seconds)
    scale : camera pixels for each pixel, each way
    low_adu, high_adu : camera counts shown as black and white
    saturated : camera pixels with the highest count that the camera gives
    histogram : Histogram
        `pixels` that have the counts of each bin; the first bin begins at `low_adu` and each has `bin_adu` counts.
    epoch, sequence, missed, interruption, header : as of `LiveTracks`
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    frame: int
    captured_s: float
    scale: int
    low_adu: float
    high_adu: float
    saturated: int
    histogram: Histogram = field(repr=False)
    epoch: str
    sequence: int
    missed: int
    interruption: str | None
    header: Mapping[str, Any] = field(repr=False)

    @classmethod
    def read(cls, message: bytes, missed: int, interruption: str | None) -> LiveFrame:
        """Decode a message of the preview."""
        _, header, columns = wire.decode(message)
        return cls(
            pixels=columns["pixels"].reshape(header["height"], header["width"]),
            frame=int(header["frame"]),
            captured_s=float(header["captured_s"]),
            scale=int(header["scale"]),
            low_adu=float(header["low_adu"]),
            high_adu=float(header["high_adu"]),
            saturated=int(header["saturated"]),
            histogram=Histogram(
                int(header["histogram"]["low_adu"]),
                int(header["histogram"]["bin_adu"]),
                np.array(header["histogram"]["pixels"], np.int64),
            ),
            epoch=str(header["epoch"]),
            sequence=int(header["sequence"]),
            missed=missed,
            interruption=interruption,
            header=header,
        )

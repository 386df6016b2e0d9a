"""What a tracker gives after each frame, and the interface that all trackers have."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.tables import Localizations, Tracks

if TYPE_CHECKING:
    from models.tracking.motion_models import Gaussians
    from models.tracking.smoothing import Motion

__all__ = ["NEAR_FOCUS_UM", "Filtered", "TrackState", "TracksLocalizations"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

NEAR_FOCUS_UM = 3.0
"""Below this depth the side of focus is uncertain: a symmetric PSF is the same on both sides."""


@dataclass(frozen=True, slots=True)
class Filtered:
    """What a filter with several motion models knows of the tracks of a state, for smoothing.

    Attributes
    ----------
    moments : of position and velocity over all models, float64, shape (5, 3, N), in the order of `Gaussians`
    gaussians : of each model, float64, shape (5, M, 3, N)
    weights : probability of each model, float64, shape (M, N)
    motion : the motion models after the frame
    """

    moments: F64
    gaussians: Gaussians
    weights: F64
    motion: Motion


@dataclass(frozen=True, slots=True)
class TrackState:
    """The confirmed tracks after a frame; read-only.

    Attributes
    ----------
    t_s : time of the frame, s
    frame : its number
    track_id : int64, shape (N,), increasing
    x_um, y_um, z_um : position, float64, shape (N,), µm
    vx_um_s, vy_um_s, vz_um_s : velocity, float64, shape (N,), µm/s
    sigma_x_um, sigma_y_um, sigma_z_um : standard deviation of the position, float64, shape (N,), µm
    age : frames since the first localization, int64, shape (N,)
    observed : whether the track was seen in this frame, bool, shape (N,)
    near_focus : whether it is within 3 µm of focus, where the side is uncertain, bool, shape (N,)
    probability : that the track is an emitter that is there, float64, shape (N,)
    localization : row of its localization among those of the frame, -1 when unseen, int64, shape (N,)
    ambiguity : probability that another assignment was the right one when it was last seen, float64, shape (N,)
    ended : numbers of the tracks that ended with this frame, int64, shape (E,)
    filtered : the models of each track; None: of a tracker that is not smoothed
    """

    t_s: float
    frame: int
    track_id: I64
    x_um: F64
    y_um: F64
    z_um: F64
    vx_um_s: F64
    vy_um_s: F64
    vz_um_s: F64
    sigma_x_um: F64
    sigma_y_um: F64
    sigma_z_um: F64
    age: I64
    observed: NDArray[np.bool_]
    near_focus: NDArray[np.bool_]
    probability: F64
    localization: I64
    ambiguity: F64
    ended: I64
    filtered: Filtered | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for name in _ARRAYS:
            getattr(self, name).flags.writeable = False

    def __len__(self) -> int:
        return len(self.track_id)

    def rows(self) -> Tracks:
        """One table row per track."""
        columns: dict[str, Any] = {
            name: getattr(self, name) for name in Tracks.names() if name not in ("frame", "t_s", "observed")
        }
        return Tracks(
            frame=np.full(len(self), self.frame, np.int64),
            t_s=np.full(len(self), self.t_s, np.float64),
            observed=self.observed.astype(np.int64),
            **columns,
        )


_ARRAYS = tuple(each.name for each in fields(TrackState) if each.name not in ("t_s", "frame", "filtered"))


class TracksLocalizations(Protocol):
    """Interface of all trackers, online and offline."""

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even an unconfirmed one."""

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame, in order of time.

        Parameters
        ----------
        t_s : float
            Mid-exposure time of the frame on any steady clock, s; later than that of the step before.
        frame : int
            Its number; larger than that of the step before. Numbers may be skipped.
        found : Localizations
            Localizations of the frame, possibly none.

        Returns
        -------
        TrackState

        Raises
        ------
        DataError
            When time or frame do not advance, or a position or sigma is not a finite number. The tracker is
            unchanged then.
        """

    def end_all(self) -> None:
        """End every live track: the next step reports them as ended. Numbers are not used again."""

"""The tracker of the published method, on filterpy: for comparisons.

A constant-velocity Kalman filter for each target, with the noise and the rules
of the authors' code (facts only, read in the public code of the publication;
research notes of this project, localization, section on cells). Its unit is
half a camera pixel across and a fifth of a depth class along the axis; both
are 0.325 and 0.4 µm at the published magnification.

The filter counts frames, not seconds. It has no probabilities: a track is
shown from its first localization on, until it was missed in more than five
frames in a row. The published selection of tracks that span ten frames needs
the whole movie, and is left to the reader of the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from filterpy.kalman import KalmanFilter
from numpy.typing import NDArray

from models.assignment import assign
from models.tables import Localizations
from models.tracking.settings import TrackerSettings
from models.tracking.state import NEAR_FOCUS_UM, TrackState
from models.tracking.tracker import check_order, measurements

__all__ = ["PublishedTracker"]

_UNIT_UM = np.array([0.325, 0.325, 0.4])
_START_VARIANCE = (20.0, 5.0)
_MOTION_VARIANCE = (1.5, 0.075)
_MEASUREMENT_VARIANCE = 10.0 / 3.0
_UNASSIGNED_COST = 30.0
_MOST_MISSES = 5


@dataclass(slots=True)
class _Target:
    """One track and its filter."""

    filter: Any
    track_id: int
    first_frame: int
    last_frame: int
    misses: int = 0
    localization: int = -1


class PublishedTracker:
    """The published tracker: one filter object per target."""

    def __init__(self) -> None:
        self._targets: list[_Target] = []
        self._last_id = 0
        self._last_frame: int | None = None
        self._last_t_s = 0.0
        self._ended_before: list[int] = []

    @property
    def idle(self) -> bool:
        """Whether no track is alive."""
        return not self._targets and not self._ended_before

    def end_all(self) -> None:
        """End every live track: the next step reports them as ended."""
        self._ended_before += [target.track_id for target in self._targets]
        self._targets = []

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame; see `TracksLocalizations.step`."""
        check_order(self._last_frame, self._last_t_s, frame, t_s)
        measured = measurements(found, np.arange(len(found)), TrackerSettings())[0].T / _UNIT_UM
        frame_s = 1.0 if self._last_frame is None else (t_s - self._last_t_s) / (frame - self._last_frame)
        for target in self._targets:
            for _ in range(frame - (self._last_frame or 0)):
                target.filter.predict()
        rows, hits = self._assign(measured)
        pairs = dict(zip(rows.tolist(), hits.tolist(), strict=True))
        for row, target in enumerate(self._targets):
            hit = pairs.get(row, -1)
            target.localization = hit
            target.misses = 0 if hit >= 0 else target.misses + 1
            if hit >= 0:
                target.filter.update(measured[hit])
                target.last_frame = frame
        ended = self._ended_before + [t.track_id for t in self._targets if t.misses > _MOST_MISSES]
        self._targets = [target for target in self._targets if target.misses <= _MOST_MISSES]
        for hit in sorted(set(range(len(measured))) - set(hits.tolist())):
            self._last_id += 1
            self._targets.append(_Target(_filter(measured[hit]), self._last_id, frame, frame, 0, hit))
        self._ended_before = []
        self._last_frame, self._last_t_s = frame, t_s
        return self._state(t_s, frame, frame_s, np.array(sorted(ended), np.int64))

    def _assign(self, measured: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The assignment of least cost: squared normalized distance and logarithm of the determinant."""
        count = len(measured)
        costs = np.zeros((len(self._targets), count))
        for row, target in enumerate(self._targets):
            spread = target.filter.P[:3, :3] + target.filter.R
            away = measured - target.filter.x[:3]
            costs[row] = np.einsum("ka,ab,kb->k", away, np.linalg.inv(spread), away) + np.log(np.linalg.det(spread))
        rows, columns = np.nonzero(costs <= _UNASSIGNED_COST)
        return assign(
            rows.astype(np.int64), columns.astype(np.int64), costs[rows, columns], costs.shape, _UNASSIGNED_COST
        )

    def _state(self, t_s: float, frame: int, frame_s: float, ended: NDArray[np.int64]) -> TrackState:
        targets = self._targets
        means = np.array([target.filter.x for target in targets]).reshape(-1, 6)
        variances = np.array([np.diag(target.filter.P)[:3] for target in targets]).reshape(-1, 3)
        position, velocity = means[:, :3] * _UNIT_UM, means[:, 3:] * _UNIT_UM / frame_s
        sigma = np.sqrt(variances) * _UNIT_UM
        return TrackState(
            t_s,
            frame,
            np.array([target.track_id for target in targets], np.int64),
            position[:, 0],
            position[:, 1],
            position[:, 2],
            velocity[:, 0],
            velocity[:, 1],
            velocity[:, 2],
            sigma[:, 0],
            sigma[:, 1],
            sigma[:, 2],
            age=frame - np.array([target.first_frame for target in targets], np.int64),
            observed=np.array([target.last_frame == frame for target in targets], bool),
            near_focus=np.abs(position[:, 2]) < NEAR_FOCUS_UM,
            probability=np.ones(len(targets)),
            localization=np.array([target.localization for target in targets], np.int64),
            ambiguity=np.zeros(len(targets)),
            ended=ended,
        )


def _filter(measured: NDArray[np.float64]) -> Any:
    """A filter that begins at a measured position, with unit time steps."""
    kalman = KalmanFilter(dim_x=6, dim_z=3)
    axes = np.eye(3)
    kalman.x = np.concatenate([measured, np.zeros(3)])
    kalman.F = np.kron([[1.0, 1.0], [0.0, 1.0]], axes)
    kalman.H = np.hstack([axes, np.zeros((3, 3))])
    kalman.P = np.kron(np.diag(_START_VARIANCE), axes)
    kalman.Q = np.kron(np.diag(_MOTION_VARIANCE), axes)
    kalman.R = axes * _MEASUREMENT_VARIANCE
    return kalman

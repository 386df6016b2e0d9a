"""From localizations to tracks, online: one step per frame, without look-ahead.

A bank of Kalman filters (constant velocity, white acceleration) predicts the
position of each track at the time stamp of the new frame. Localizations inside
the chi-square gate of a prediction may continue the track. All assignments of a
frame are optimized together by likelihood, confirmed tracks first. A
localization without track starts a tentative one, which is confirmed by M hits
in N steps. Confirmed tracks that are not seen coast with a growing gate, and
end after a number of unseen frames. Numbers are given at confirmation and never
used again.

The gate follows from the sigmas of the localizations and of the prediction, in
µm, so there is no search radius to choose. Depth below 3 µm is flagged, because
a symmetric PSF is the same on both sides of focus; a track is never reflected
through focus to fit a localization.

Tentative tracks count steps, so a frame that was not analysed is not a miss for
them. Confirmed tracks coast by frame numbers, so frames that were not analysed
count.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree
from scipy.special import chdtri

from models.assignment import assign
from models.errors import DataError
from models.kalman import Array, constant_velocity, mahalanobis, predict, update
from models.tables import Localizations, Tracks

__all__ = [
    "MOST_IN_A_FRAME",
    "NEAR_FOCUS_UM",
    "TrackState",
    "Tracker",
    "TrackerSettings",
    "TracksLocalizations",
    "track_table",
]

NEAR_FOCUS_UM = 3.0

MOST_IN_A_FRAME = 100_000
"""A sensor of 4096 x 4096 pixels would have 170 pixels for each, less than a pattern covers."""


@dataclass(frozen=True)
class TrackerSettings:
    """Assumptions of the tracker about motion, detection and noise.

    Attributes
    ----------
    acceleration_um_s2 : float
        Standard deviation of the acceleration along each axis, µm/s². Larger follows sharper turns, smaller
        smooths more.
    initial_speed_um_s : float
        Standard deviation of the velocity of a new track along each axis, µm/s.
    gate_probability : float
        Share of correct localizations inside the gate (chi-square, three degrees of freedom).
    sigma_floor_um : float
        Lower limit of the standard deviation of a localization along an axis, µm.
    sigma_inflation : float
        Factor on the standard deviations of the localizations.
    detection_probability : float
        Share of the frames in which a live emitter is found.
    newcomers_per_um3 : float
        Localizations per µm³ and frame that belong to no known track; by default one per frame in
        166 x 166 x 100 µm³. With the detection probability it sets the cost of leaving a track unseen.
    confirm_hits, confirm_steps : int
        A track is confirmed when it was seen in so many of so many successive steps.
    coast_frames : int
        A confirmed track ends when it was not seen for more frames than this.
    """

    acceleration_um_s2: float = 200.0
    initial_speed_um_s: float = 100.0
    gate_probability: float = 0.999
    sigma_floor_um: float = 0.1
    sigma_inflation: float = 1.0
    detection_probability: float = 0.9
    newcomers_per_um3: float = 4e-7
    confirm_hits: int = 3
    confirm_steps: int = 4
    coast_frames: int = 10

    def __post_init__(self) -> None:
        """Reject invalid settings."""
        positive = (
            "acceleration_um_s2",
            "initial_speed_um_s",
            "sigma_floor_um",
            "sigma_inflation",
            "newcomers_per_um3",
            "confirm_hits",
        )
        rules = {name: ("positive and finite", 0 < getattr(self, name) < np.inf) for name in positive}
        for name in ("gate_probability", "detection_probability"):
            rules[name] = ("between 0 and 1, both excluded", 0 < getattr(self, name) < 1)
        rules["confirm_steps"] = ("at least confirm_hits", self.confirm_steps >= self.confirm_hits)
        rules["coast_frames"] = ("not negative", self.coast_frames >= 0)
        for name, (rule, kept) in rules.items():
            if not kept:
                raise DataError(
                    f"The tracker's {name} is {getattr(self, name)}; it must be {rule}.", "Correct the setting."
                )

    @cached_property
    def gate(self) -> float:
        """Largest squared Mahalanobis distance of a continuation (16.27 at 0.999)."""
        # The quantile of chi-square with 3 degrees of freedom; scipy.stats has it too, and takes 0.4 s to import.
        return float(chdtri(3, 1 - self.gate_probability))

    @cached_property
    def unseen_cost(self) -> float:
        """Cost of leaving a track unseen, on the scale of the squared Mahalanobis distance plus log-determinant.

        Minus twice the logarithm of the likelihood that a track is missed and the localization is a newcomer, over
        the likelihood that it is found, without the part of the latter that depends on the pair.
        """
        missed = (1 - self.detection_probability) * self.newcomers_per_um3
        return float(2 * np.log(self.detection_probability / missed) - 3 * np.log(2 * np.pi))


@dataclass(frozen=True, slots=True)
class TrackState:
    """All live confirmed tracks after a frame; read-only.

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
    ended : numbers of the tracks that ended with this frame, int64, shape (E,)
    """

    t_s: float
    frame: int
    track_id: NDArray[np.int64]
    x_um: Array
    y_um: Array
    z_um: Array
    vx_um_s: Array
    vy_um_s: Array
    vz_um_s: Array
    sigma_x_um: Array
    sigma_y_um: Array
    sigma_z_um: Array
    age: NDArray[np.int64]
    observed: NDArray[np.bool_]
    near_focus: NDArray[np.bool_]
    ended: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        for field in fields(self):
            column = getattr(self, field.name)
            if isinstance(column, np.ndarray):
                column.flags.writeable = False

    def __len__(self) -> int:
        return len(self.track_id)

    def rows(self) -> Tracks:
        """One table row per live track."""
        columns: dict[str, Any] = {
            name: getattr(self, name) for name in Tracks.names() if name not in ("frame", "t_s", "observed")
        }
        return Tracks(
            frame=np.full(len(self), self.frame, np.int64),
            t_s=np.full(len(self), self.t_s, np.float64),
            observed=self.observed.astype(np.int64),
            **columns,
        )


class TracksLocalizations(Protocol):
    """Interface of a tracker for the engine."""

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame, in order of time."""

    def end_all(self) -> None:
        """End every live track."""


@dataclass(slots=True)
class _Pool:
    """All live tracks, tentative and confirmed, as equal-length arrays; number 0 is not yet confirmed."""

    state: Array
    covariance: Array
    track_id: NDArray[np.int64]
    first_frame: NDArray[np.int64]
    last_frame: NDArray[np.int64]
    hits: NDArray[np.int64]
    misses: NDArray[np.int64]

    @classmethod
    def new_tracks(cls, measured: Array, variance: Array, speed_um_s: float, frame: int) -> _Pool:
        count = len(measured)
        covariance = np.zeros((count, 6, 6))
        axes = np.arange(3)
        covariance[:, axes, axes] = variance
        covariance[:, axes + 3, axes + 3] = speed_um_s**2
        frames = np.full(count, frame, np.int64)
        nothing = np.zeros(count, np.int64)
        return cls(
            np.hstack([measured, np.zeros((count, 3))]),
            covariance,
            nothing,
            frames,
            frames.copy(),
            nothing + 1,
            nothing,
        )

    def select(self, rows: NDArray[Any]) -> _Pool:
        return _Pool(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def concatenate(self, other: _Pool) -> _Pool:
        return _Pool(
            **{
                field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
                for field in fields(self)
            }
        )

    def __len__(self) -> int:
        return len(self.track_id)


class Tracker:
    """Joins the localizations of successive frames to tracks.

    Parameters
    ----------
    settings : TrackerSettings
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._pool = _Pool.new_tracks(np.zeros((0, 3)), np.zeros((0, 3)), 1.0, 0)
        self._last_id = 0
        self._last_frame: int | None = None
        self._last_t_s = 0.0

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even a tentative one."""
        return len(self._pool) == 0

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame.

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
            The confirmed tracks that are alive now.

        Raises
        ------
        DataError
            When time or frame do not advance, or a position or sigma is not a finite number. The tracker is
            unchanged then.
        """
        self._check_order(t_s, frame)
        measured, variance = self._measurements(found)
        lost = frame - self._pool.last_frame - 1 > self.settings.coast_frames
        ended = self._pool.track_id[lost]
        pool = self._pool.select(~lost)
        if len(pool):
            transition, noise = constant_velocity(t_s - self._last_t_s, self.settings.acceleration_um_s2)
            pool.state, pool.covariance = predict(pool.state, pool.covariance, transition, noise)
        tracks, hits = self._associate(pool, measured, variance)
        pool.state[tracks], pool.covariance[tracks] = update(
            pool.state[tracks], pool.covariance[tracks], measured[hits], variance[hits]
        )
        pool.misses += 1
        pool.misses[tracks] -= 1
        pool.hits[tracks] += 1
        pool.last_frame[tracks] = frame

        tentative = pool.track_id == 0
        self._assign_ids(pool, np.flatnonzero(tentative & (pool.hits >= self.settings.confirm_hits)))
        rejected = tentative & (pool.misses > self.settings.confirm_steps - self.settings.confirm_hits)
        unseen = frame - pool.last_frame > self.settings.coast_frames
        over = np.where(pool.track_id == 0, rejected, unseen)
        ended = np.concatenate([ended, pool.track_id[over]])
        tentative_new = _Pool.new_tracks(
            np.delete(measured, hits, axis=0),
            np.delete(variance, hits, axis=0),
            self.settings.initial_speed_um_s,
            frame,
        )
        if self.settings.confirm_hits == 1:
            self._assign_ids(tentative_new, np.arange(len(tentative_new)))
        self._pool = pool.select(~over).concatenate(tentative_new)
        self._last_frame, self._last_t_s = frame, t_s
        return self._snapshot(t_s, frame, np.sort(ended[ended > 0]))

    def end_all(self) -> None:
        """End every live track: the next step reports them as ended. Numbers are not used again."""
        if self._last_frame is not None:
            self._pool.last_frame[:] = self._last_frame - self.settings.coast_frames - 1

    def _check_order(self, t_s: float, frame: int) -> None:
        if not np.isfinite(t_s):
            raise DataError(f"Frame {frame} has the time {t_s} s; it must be finite.", "Check the camera's clock.")
        if self._last_frame is None:
            return
        if frame <= self._last_frame or t_s <= self._last_t_s:
            raise DataError(
                f"Frame {frame} at {t_s} s came after frame {self._last_frame} at {self._last_t_s} s; "
                "both must increase.",
                "Give the frames in the order in which they were taken.",
            )

    def _measurements(self, found: Localizations) -> tuple[Array, Array]:
        measured, sigma = found.xyz_um, found.sigma_um
        for values, name in ((measured, "position"), (sigma, "sigma")):
            bad = ~np.isfinite(values).all(axis=1)
            if bad.any():
                row = int(np.argmax(bad))
                raise DataError(
                    f"Localization {row} of frame {found.frame[row]} has the {name} {values[row].tolist()} µm; "
                    "it must be finite.",
                    "Remove such rows, or localize again.",
                )
        sigma = np.maximum(sigma, self.settings.sigma_floor_um) * self.settings.sigma_inflation
        return measured, sigma**2

    def _associate(self, pool: _Pool, measured: Array, variance: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Assigned rows of the pool and of the measurements."""
        tracks, hits, costs = self._pairs_in_gate(pool, measured, variance)
        confirmed = pool.track_id[tracks] > 0
        shape = (len(pool), len(measured))
        first_pass = assign(tracks[confirmed], hits[confirmed], costs[confirmed], shape, self.settings.unseen_cost)
        taken = np.zeros(len(measured), bool)
        taken[first_pass[1]] = True
        rest = ~confirmed & ~taken[hits]
        second_pass = assign(tracks[rest], hits[rest], costs[rest], shape, self.settings.unseen_cost)
        return np.concatenate([first_pass[0], second_pass[0]]), np.concatenate([first_pass[1], second_pass[1]])

    def _pairs_in_gate(
        self, pool: _Pool, measured: Array, variance: Array
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], Array]:
        """All pairs inside the gate, and their costs."""
        no_pairs = np.zeros(0, np.int64)
        if len(pool) == 0 or len(measured) == 0:
            return no_pairs, no_pairs, np.zeros(0)
        position = pool.state[:, :3]
        spread = pool.covariance[:, :3, :3]
        # No eigenvalue of a covariance exceeds its largest row sum (Gershgorin), so no pair outside is in the gate.
        reach = np.sqrt(self.settings.gate * (np.abs(spread).sum(axis=2).max(axis=1) + variance.max()))
        near = KDTree(position).sparse_distance_matrix(KDTree(measured), reach.max(), output_type="ndarray")
        near = near[near["v"] <= reach[near["i"]]]
        tracks, hits = near["i"].astype(np.int64), near["j"].astype(np.int64)
        covariance = spread[tracks]
        axes = np.arange(3)
        covariance[:, axes, axes] += variance[hits]
        square, log_determinant = mahalanobis(measured[hits] - position[tracks], covariance)
        inside = square <= self.settings.gate
        return tracks[inside], hits[inside], (square + log_determinant)[inside]

    def _assign_ids(self, pool: _Pool, rows: NDArray[np.int64]) -> None:
        pool.track_id[rows] = self._last_id + 1 + np.arange(len(rows))
        self._last_id += len(rows)

    def _snapshot(self, t_s: float, frame: int, ended: NDArray[np.int64]) -> TrackState:
        confirmed = np.flatnonzero(self._pool.track_id > 0)
        pool = self._pool.select(confirmed[np.argsort(self._pool.track_id[confirmed])])
        sigma = np.sqrt(np.diagonal(pool.covariance, axis1=1, axis2=2)[:, :3])
        columns = ("x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", "sigma_x_um", "sigma_y_um", "sigma_z_um")
        values: dict[str, Any] = dict(zip(columns, np.vstack([pool.state.T, sigma.T]), strict=True))
        return TrackState(
            t_s=t_s,
            frame=frame,
            track_id=pool.track_id,
            age=frame - pool.first_frame,
            observed=pool.last_frame == frame,
            near_focus=np.abs(pool.state[:, 2]) < NEAR_FOCUS_UM,
            ended=ended,
            **values,
        )


def track_table(found: Localizations, fps: float, settings: TrackerSettings | None = None) -> Tracks:
    """Track a whole table, with the same result as live.

    Parameters
    ----------
    found : Localizations
        In any order.
    fps : float
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional

    Returns
    -------
    Tracks
        The confirmed tracks, frame after frame.

    Raises
    ------
    DataError
        When the frame rate is not positive, or a position or sigma is not a finite number; when a frame has more
        than `MOST_IN_A_FRAME` localizations.
    """
    if not 0 < fps < np.inf:
        raise DataError(f"The frame rate is {fps} fps; it must be positive and finite.", "Give the camera's rate.")
    tracker = Tracker(settings)
    ordered = found.select(np.argsort(found.frame, kind="stable"))
    frames, starts = np.unique(ordered.frame, return_index=True)
    ends = np.append(starts, len(ordered))[1:]
    crowd = int(np.max(ends - starts, initial=0))
    if crowd > MOST_IN_A_FRAME:
        raise DataError(
            f"Frame {frames[np.argmax(ends - starts)]} has {crowd} localizations; at most {MOST_IN_A_FRAME} are "
            "tracked.",
            "Check the column of frame numbers: rows of many frames may have the same number.",
        )
    nothing = Localizations.empty()
    rows: list[Tracks] = []
    empty = 0
    for frame, start, end in zip(frames.tolist(), starts, ends, strict=True):
        # In frames without localizations tracks coast and end; without tracks these frames are skipped.
        while empty < frame and not tracker.idle:
            rows.append(tracker.step(empty / fps, empty, nothing).rows())
            empty += 1
        rows.append(tracker.step(frame / fps, frame, ordered.select(slice(start, end))).rows())
        empty = frame + 1
    return Tracks.concatenate(rows)

"""The tracker: from the localizations of one frame after the other to tracks, without look-ahead.

A track is a probability of existence and, for each motion model, a Gaussian of
position and velocity. Each frame:

1. The motion models interact and predict the position at the time of the frame
   (`motion_models`, `noise`).
2. Each localization in the gate of a track is a pair, whose gain is the
   log-likelihood ratio that the localization comes from the track. All pairs
   of the frame are decided together (`association`).
3. The odds of existence of a track are multiplied by the likelihood ratio of
   what was seen: its localization, or none (integrated data association:
   Mušicki, Evans and Stanković, IEEE Transactions on Automatic Control 39,
   1237, 1994; here with the localization of the best assignment).
4. A localization without a track begins one, whose odds are those of the
   localization, times the share of emitters that have no track yet.

A track is confirmed, and gets its number, when it was seen twice and is
probable enough. It coasts when it is not seen, is left out while it is
improbable or uncertain, and ends when it is more improbable, or so uncertain
that a localization would sooner be a new emitter. A number is never used
again.

There is no search radius, no acceleration and no number of misses to choose.
Depth below 3 µm is flagged, because a symmetric PSF is the same on both sides
of focus; a track is never reflected through focus to fit a localization.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from models.errors import DataError
from models.tables import Localizations
from models.tracking.association import associate, pairs_near
from models.tracking.births import Flow, new_tracks
from models.tracking.detection import Densities, Detection
from models.tracking.links import Links
from models.tracking.motion_models import Gaussians, combined, log_likelihood, mix, posterior, predict, update
from models.tracking.noise import ProcessNoise
from models.tracking.settings import TrackerSettings
from models.tracking.smoothing import Motion
from models.tracking.state import NEAR_FOCUS_UM, Filtered, TrackState

__all__ = ["Tracker", "check_order", "measurements"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_LEAST_WEIGHT = 2e-4
"""Models below this probability do not widen the gate of a track. The gate must hold a change to any model."""

_SURE = 0.9
"""Noise and detection probability are estimated from tracks that exist with this probability."""

_LEAVING = 0.5
"""Survival per frame of an unseen track outside the box of all localizations."""

_NO_ROWS: I64 = np.zeros(0, np.int64)


@dataclass(slots=True)
class _Pool:
    """All tracks, confirmed or not; number 0 is not yet confirmed.

    Few arrays with the tracks along the last axis: choosing and appending tracks costs one operation for each array.
    """

    gaussians: Gaussians
    weights: F64
    existence: F64
    """Shape (2, N): log odds that the track exists; ambiguity of its last assignment."""

    history: I64
    """Shape (6, N): number of the birth, track id, first frame, last frame seen, localizations, row of the last one."""

    @classmethod
    def begin(cls, gaussians: Gaussians, weights: F64, log_odds: F64, births: I64, rows: I64, frame: int) -> Self:
        """Tracks with one localization each, given by its row among those of the frame."""
        history = np.zeros((6, len(births)), np.int64)
        history[0], history[2:4], history[4], history[5] = births, frame, 1, rows
        return cls(gaussians, weights, np.stack([log_odds, np.zeros(len(births))]), history)

    @classmethod
    def empty(cls, models: int) -> Self:
        """No tracks."""
        return cls.begin(np.zeros((5, models, 3, 0)), np.zeros((models, 0)), np.zeros(0), _NO_ROWS, _NO_ROWS, 0)

    @property
    def log_odds(self) -> F64:
        """Log odds of existence, shape (N,); a view."""
        row: F64 = self.existence[0]
        return row

    @property
    def ambiguity(self) -> F64:
        """Ambiguity of the last assignment, shape (N,); a view."""
        row: F64 = self.existence[1]
        return row

    @property
    def birth(self) -> I64:
        """Number of the birth, shape (N,); a view."""
        row: I64 = self.history[0]
        return row

    @property
    def track_id(self) -> I64:
        """Number of the track, 0 when not confirmed, shape (N,); a view."""
        row: I64 = self.history[1]
        return row

    @property
    def first_frame(self) -> I64:
        """Frame of the first localization, shape (N,); a view."""
        row: I64 = self.history[2]
        return row

    @property
    def last_frame(self) -> I64:
        """Frame of the last localization, shape (N,); a view."""
        row: I64 = self.history[3]
        return row

    @property
    def hits(self) -> I64:
        """Number of localizations, shape (N,); a view."""
        row: I64 = self.history[4]
        return row

    @property
    def localization(self) -> I64:
        """Row of the localization in the frame, -1 when unseen, shape (N,); a view."""
        row: I64 = self.history[5]
        return row

    def select(self, rows: NDArray[Any]) -> _Pool:
        """The tracks of a mask or an index array."""
        return _Pool(self.gaussians[..., rows], self.weights[:, rows], self.existence[:, rows], self.history[:, rows])

    def append(self, other: _Pool) -> _Pool:
        """These tracks and the others."""
        return _Pool(
            np.concatenate([self.gaussians, other.gaussians], axis=3),
            np.concatenate([self.weights, other.weights], axis=1),
            np.concatenate([self.existence, other.existence], axis=1),
            np.concatenate([self.history, other.history], axis=1),
        )

    def __len__(self) -> int:
        return len(self.track_id)


class Tracker:
    """Joins the localizations of successive frames to tracks.

    Parameters
    ----------
    settings : TrackerSettings, optional
    links : Links, optional
        Takes which localization each track had in each frame, also before a track was confirmed.
    """

    def __init__(self, settings: TrackerSettings | None = None, links: Links | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._links = links
        self._births = 0
        self.noise = ProcessNoise(self.settings.step_um, self.settings.adapt)
        self._detection = Detection()
        self._pool = _Pool.empty(len(self.noise))
        self._last_id = 0
        self._last_frame: int | None = None
        self._last_t_s = 0.0
        self._ended_before = _NO_ROWS

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even an unconfirmed one."""
        return len(self._pool) == 0 and len(self._ended_before) == 0

    def end_all(self) -> None:
        """End every live track: the next step reports them as ended. Numbers are not used again."""
        self._ended_before = np.concatenate([self._ended_before, self._pool.track_id])
        self._pool = _Pool.empty(len(self.noise))

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame; see `TracksLocalizations.step`."""
        check_order(self._last_frame, self._last_t_s, frame, t_s)
        used = np.flatnonzero(found.probability >= self.settings.least_probability)
        measured, variance = measurements(found, used, self.settings)
        probability = np.minimum(found.probability[used], self.settings.most_probability)
        odds = probability / (1 - probability)

        lost = frame - self._pool.last_frame - 1 > self.settings.coast_frames
        ended = [self._ended_before, self._pool.track_id[lost]]
        pool = self._pool.select(~lost) if lost.any() else self._pool
        seen_before = pool.last_frame == self._last_frame
        self._predict(pool, t_s, frame)
        exists = expit(pool.log_odds)
        detected = self._detection.probability(seen_before)
        densities = self._detection.densities(measured, odds, float(exists @ detected))

        hit = self._update(pool, measured, variance, odds, exists, detected, densities)
        seen = hit >= 0
        pool.hits[:] += seen
        pool.last_frame[seen] = frame
        pool.localization[:] = np.where(seen, used[hit] if len(used) else -1, -1)
        sure = exists > _SURE
        self._detection.learn(seen_before[sure], seen[sure])
        self._confirm(pool)

        moments = combined(pool.gaussians, pool.weights)
        over, shown = self._fate(pool, moments, seen, frame, densities)
        ids = np.concatenate([*ended, pool.track_id[over]])
        state = self._state(t_s, frame, pool, moments, shown & ~over, np.sort(ids[ids > 0]))

        free = np.ones(len(used), bool)
        free[hit[seen]] = False
        flow = Flow.of(moments, (pool.track_id > 0) & (pool.hits >= Flow.LEAST_HITS) & seen)
        born = new_tracks(measured[:, free], variance[:, free], self.noise, flow)
        log_odds = np.log(odds[free] * (densities.new / densities.real))
        births = self._births + np.arange(len(log_odds))
        self._births += len(log_odds)
        if self._links is not None:
            self._links.add(frame, t_s, pool.birth[seen], pool.localization[seen])
            self._links.add(frame, t_s, births, used[free])
        kept = pool.select(~over) if over.any() else pool
        self._pool = kept.append(_Pool.begin(*born, log_odds, births, used[free], frame))
        self._ended_before = _NO_ROWS
        self._last_frame, self._last_t_s = frame, t_s
        return state

    def _predict(self, pool: _Pool, t_s: float, frame: int) -> None:
        if self._last_frame is None:
            return
        step_s = t_s - self._last_t_s
        self.noise.time(step_s, frame - self._last_frame)
        if len(pool):
            frames = step_s / self.noise.frame_s
            mixed, pool.weights = mix(pool.gaussians, pool.weights, self.settings.keep_model**frames, self.noise.shares)
            pool.gaussians = predict(mixed, self.noise.bank(), step_s)
            pool.log_odds[:] = _survive(pool.log_odds, self.settings.survival**frames)

    def _update(
        self, pool: _Pool, measured: F64, variance: F64, odds: F64, exists: F64, detected: F64, densities: Densities
    ) -> I64:
        """Give each track its localization, or none; the row of the localization, -1 for none, shape (N,)."""
        hit = np.full(len(pool), -1, np.int64)
        evidence = np.log1p(-detected)
        if len(pool) and len(odds):
            centre, reach = self._gates(pool, float(variance.max()))
            tracks, rows = pairs_near(centre, reach, measured)
            allowed = ~self._reflected(pool, centre[2], tracks, measured[2, rows], variance[2, rows])
            tracks, rows = tracks[allowed], rows[allowed]
            position, _, spread = pool.gaussians[:3, :, :, tracks]
            logs = log_likelihood(position, spread, measured[:, rows], variance[:, rows])
            best = logs.max(axis=0)
            density = best + np.log((pool.weights[:, tracks] * np.exp(logs - best)).sum(axis=0))
            # Against the two other sources of the localization: it is false, or an emitter without a track.
            other = np.log1p(odds * (densities.new / densities.real))
            ratio = density + np.log(detected)[tracks] + (np.log(odds / densities.real) - other)[rows]
            gains = ratio + (np.log(exists) - np.log1p(-exists * detected))[tracks]
            chosen = associate(tracks, rows, gains, (len(pool), len(odds)))
            own, hits = chosen.tracks, chosen.hits
            hit[own] = hits
            evidence[own] = ratio[chosen.pairs]
            pool.ambiguity[own] = chosen.ambiguity
            predicted, at, of = pool.gaussians[..., own], measured[:, hits], variance[:, hits]
            after = posterior(pool.weights[:, own], logs[:, chosen.pairs])
            sure = np.flatnonzero(exists[own] > _SURE)
            self.noise.learn(predicted[..., sure], after[:, sure], at[:, sure], of[:, sure])
            pool.gaussians[..., own] = update(predicted, at, of)
            pool.weights[:, own] = after
        pool.log_odds[:] += evidence
        return hit

    def _gates(self, pool: _Pool, largest_variance: float) -> tuple[F64, F64]:
        """Centre (3, N) and radius (N,) of a ball that holds the gates of all models of a track, µm."""
        position = pool.gaussians[0]
        centre = (pool.weights[:, None] * position).sum(axis=0)
        reach = np.sqrt(self.settings.gate * (pool.gaussians[2].max(axis=1) + largest_variance))
        reach += np.abs(position - centre).max(axis=1)
        return centre, np.where(pool.weights > _LEAST_WEIGHT, reach, 0.0).max(axis=0)

    def _reflected(self, pool: _Pool, depth: F64, tracks: I64, measured: F64, variance: F64) -> Bools:
        """Pairs that only a reversal at focus would explain: the track is predicted on the other side of focus.

        A particle that falls through focus is found at |z|. There, only the most probable model may explain a
        localization, and not a change of motion.
        """
        reflected = depth[tracks] * measured < 0
        across = np.flatnonzero(reflected)
        if len(across):
            own = tracks[across]
            model = pool.weights[:, own].argmax(axis=0)
            spread = pool.gaussians[2, model, 2, own] + variance[across]
            away = (measured[across] - pool.gaussians[0, model, 2, own]) ** 2
            reflected[across] = away > self.settings.gate * spread
        return reflected

    def _fate(self, pool: _Pool, moments: F64, seen: Bools, frame: int, densities: Densities) -> tuple[Bools, Bools]:
        """Which tracks end now, and which are shown."""
        settings = self.settings
        leaving = self._detection.outside(moments[0]) & ~seen
        pool.log_odds[leaving] += np.log(_LEAVING)
        exists = expit(pool.log_odds)
        # The largest density that a localization of the track can have: below that of new emitters it has no chance.
        peak = -0.5 * (np.log(moments[2]).sum(axis=0) + 3 * np.log(2 * np.pi))
        lost = pool.log_odds + peak < np.log(densities.new)
        over = (exists < settings.end_probability) | lost | (frame - pool.last_frame > settings.coast_frames)
        certain = moments[2].mean(axis=0) < settings.show_sigma_um**2
        shown = (pool.track_id > 0) & (exists >= settings.show_probability) & (seen | certain & ~leaving)
        return over, shown

    def _confirm(self, pool: _Pool) -> None:
        probable = expit(pool.log_odds) >= self.settings.confirm_probability
        rows = np.flatnonzero((pool.track_id == 0) & (pool.hits >= 2) & probable)
        pool.track_id[rows] = self._last_id + 1 + np.arange(len(rows))
        self._last_id += len(rows)
        if self._links is not None:
            self._links.name(pool.birth[rows], pool.track_id[rows])

    def _state(self, t_s: float, frame: int, pool: _Pool, moments: F64, shown: Bools, ended: I64) -> TrackState:
        rows = np.flatnonzero(shown)
        rows = rows[np.argsort(pool.track_id[rows])]
        position, velocity, variance = moments[:3, :, rows]
        return TrackState(
            t_s,
            frame,
            pool.track_id[rows],
            position[0],
            position[1],
            position[2],
            velocity[0],
            velocity[1],
            velocity[2],
            np.sqrt(variance[0]),
            np.sqrt(variance[1]),
            np.sqrt(variance[2]),
            age=frame - pool.first_frame[rows],
            observed=pool.last_frame[rows] == frame,
            near_focus=np.abs(position[2]) < NEAR_FOCUS_UM,
            probability=expit(pool.log_odds[rows]),
            localization=pool.localization[rows],
            ambiguity=pool.ambiguity[rows],
            ended=ended,
            filtered=Filtered(
                moments[..., rows],
                pool.gaussians[..., rows],
                pool.weights[:, rows],
                Motion.of(self.noise, self.settings.keep_model),
            ),
        )


def _survive(log_odds: F64, probability: float) -> F64:
    """Log odds of existence after a time that an emitter survives with a probability."""
    # r -> s r is L -> L + log s - log(1 + (1 - s) exp L).
    lost = np.logaddexp(0.0, log_odds + np.log(1 - probability)) if probability < 1 else 0.0
    result: F64 = log_odds + np.log(max(probability, 1e-300)) - lost
    return result


def check_order(last_frame: int | None, last_t_s: float, frame: int, t_s: float) -> None:
    """Refuse a frame that does not come after the last one.

    Raises
    ------
    DataError
    """
    if not np.isfinite(t_s):
        raise DataError(f"Frame {frame} has the time {t_s} s; it must be finite.", "Check the camera's clock.")
    if last_frame is not None and (frame <= last_frame or t_s <= last_t_s):
        raise DataError(
            f"Frame {frame} at {t_s} s came after frame {last_frame} at {last_t_s} s; both must increase.",
            "Give the frames in the order in which they were taken.",
        )


def measurements(found: Localizations, used: I64, settings: TrackerSettings) -> tuple[F64, F64]:
    """Positions and their variances, shape (3, K) each, of the used rows.

    Raises
    ------
    DataError
        When a position or sigma is not a finite number.
    """
    measured = np.stack([found.x_um, found.y_um, found.z_um])
    sigma = np.stack([found.sigma_x_um, found.sigma_y_um, found.sigma_z_um])
    for values, name in ((measured, "position"), (sigma, "sigma")):
        finite = np.isfinite(values)
        if not finite.all():
            row = int(np.argmin(finite.all(axis=0)))
            raise DataError(
                f"Localization {row} of frame {found.frame[row]} has the {name} {values[:, row].tolist()} µm; "
                "it must be finite.",
                "Remove such rows, or localize again.",
            )
    sigma = np.maximum(sigma[:, used], settings.sigma_floor_um) * settings.sigma_inflation
    return measured[:, used], sigma * sigma

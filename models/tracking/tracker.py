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

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from models.errors import DataError
from models.tables import Localizations
from models.tracking.association import associate, pairs_near
from models.tracking.births import Flow, new_tracks
from models.tracking.detection import Densities, Detection
from models.tracking.gates import gates, reflected
from models.tracking.links import Links
from models.tracking.motion_models import combined, mix, pair_likelihoods, posterior, predict, update
from models.tracking.noise import ProcessNoise
from models.tracking.pool import Pool
from models.tracking.settings import TrackerSettings
from models.tracking.smoothing import Motion
from models.tracking.state import NEAR_FOCUS_UM, Filtered, TrackState

__all__ = ["SURE", "Births", "Pairs", "Scan", "Tracker", "check_order", "measurements"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

SURE = 0.9
"""Noise and detection probability are estimated from tracks that exist with this probability."""

_LEAVING = 0.5
"""Survival per frame of an unseen track outside the box of all localizations."""

_LIGHT_UNKNOWN = 0.7
"""Relative standard deviation of the photons of a localization that no track had before."""

_NO_ROWS: I64 = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Scan:
    """A frame that is being taken: its candidates, and the tracks predicted to its time.

    Attributes
    ----------
    t_s, frame : time and number of the frame
    pool : the N tracks
    used : rows of the K candidates among the localizations of the frame, int64, shape (K,)
    measured, variance : positions and their variances, float64, shape (3, K), µm and µm²
    odds : that a candidate is real, float64, shape (K,)
    light : photons of each and their variance, float64, shape (2, K)
    seen_before : whether a track was seen in the frame before, bool, shape (N,)
    exists, detected : probability that it exists, and that it is found then, float64, shape (N,)
    densities : of real localizations
    ended : numbers of tracks that ended before the update, int64
    """

    t_s: float
    frame: int
    pool: Pool
    used: I64
    measured: F64
    variance: F64
    odds: F64
    light: F64
    seen_before: Bools
    exists: F64
    detected: F64
    densities: Densities
    ended: I64


@dataclass(frozen=True, slots=True)
class Births:
    """Tracks that begin with a frame.

    Attributes
    ----------
    measured, variance : positions and their variances, float64, shape (3, B), µm and µm²
    log_odds : of existence, float64, shape (B,)
    light : photons and their variance, float64, shape (2, B)
    rows : row of the localization of each in the frame, int64, shape (B,)
    """

    measured: F64
    variance: F64
    log_odds: F64
    light: F64
    rows: I64


@dataclass(frozen=True, slots=True)
class Pairs:
    """Candidates that belong to tracks.

    Attributes
    ----------
    tracks, hits : rows of the tracks and of their candidates, int64, shape (P,)
    ambiguity : see `Association`, float64, shape (P,)
    logs : log-likelihood of each candidate under each motion model, float64, shape (M, P)
    evidence : log-likelihood ratio of existence of all tracks, with a candidate or without, float64, shape (N,)
    """

    tracks: I64
    hits: I64
    ambiguity: F64
    logs: F64
    evidence: F64


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
        self._pool = Pool.empty(len(self.noise))
        self._last_id = 0
        self._last_frame: int | None = None
        self._last_t_s = 0.0
        self._ended_before = _NO_ROWS

    def __len__(self) -> int:
        """Number of live tracks, confirmed or not."""
        return len(self._pool)

    @property
    def idle(self) -> bool:
        """Whether no track is alive, not even an unconfirmed one."""
        return len(self._pool) == 0 and len(self._ended_before) == 0

    def end_all(self) -> None:
        """End every live track: the next step reports them as ended. Numbers are not used again."""
        self._ended_before = np.concatenate([self._ended_before, self._pool.track_id])
        self._pool = Pool.empty(len(self.noise))

    def step(self, t_s: float, frame: int, found: Localizations) -> TrackState:
        """Take the localizations of one frame; see `TracksLocalizations.step`."""
        scan = self._begin(t_s, frame, found)
        hit = self._update(scan)
        seen = hit >= 0
        free = np.ones(len(scan.used), bool)
        free[hit[seen]] = False
        births = Births(
            scan.measured[:, free],
            scan.variance[:, free],
            np.log(scan.odds[free] * (scan.densities.new / scan.densities.real)),
            scan.light[:, free],
            scan.used[free],
        )
        rows = np.where(seen, scan.used[hit] if len(scan.used) else -1, -1)
        return self._conclude(scan, seen, rows, births)

    def _begin(self, t_s: float, frame: int, found: Localizations) -> Scan:
        """Check a frame, choose its candidates and predict the tracks."""
        check_order(self._last_frame, self._last_t_s, frame, t_s)
        used = np.flatnonzero(found.probability >= self.settings.least_probability)
        measured, variance = measurements(found, used, self.settings)
        probability = np.minimum(found.probability[used], self.settings.most_probability)
        odds = probability / (1 - probability)
        lost = frame - self._pool.last_frame - 1 > self.settings.coast_frames
        ended = np.concatenate([self._ended_before, self._pool.track_id[lost]])
        pool = self._pool.select(~lost) if lost.any() else self._pool
        seen_before = pool.last_frame == self._last_frame
        self._predict(pool, t_s, frame)
        exists = expit(pool.log_odds)
        detected = self._detection.probability(seen_before)
        densities = self._detection.densities(measured, odds, float(exists @ detected))
        photons = found.photons[used]
        light = np.stack([photons, (_LIGHT_UNKNOWN * photons) ** 2])
        return Scan(
            t_s, frame, pool, used, measured, variance, odds, light, seen_before, exists, detected, densities, ended
        )

    def _conclude(self, scan: Scan, seen: Bools, rows: I64, births: Births, ends: Bools | None = None) -> TrackState:
        """Confirm, end and begin tracks after the update.

        Parameters
        ----------
        scan : Scan
            With the tracks updated.
        seen : ndarray of bool, shape (N,)
            Tracks that were seen in the frame.
        rows : ndarray of int64, shape (N,)
            Row of the localization of each in the frame, -1 when unseen.
        births : Births
        ends : ndarray of bool, shape (N,), optional
            Tracks that end whatever their probability.
        """
        pool, frame = scan.pool, scan.frame
        pool.hits[:] += seen
        pool.last_frame[seen] = frame
        pool.localization[:] = rows
        sure = scan.exists > SURE
        self._detection.learn(scan.seen_before[sure], seen[sure])
        self._confirm(pool)
        moments = combined(pool.gaussians, pool.weights)
        over, shown = self._fate(pool, moments, seen, frame, scan.densities)
        if ends is not None:
            over |= ends
        ids = np.concatenate([scan.ended, pool.track_id[over]])
        state = self._state(scan.t_s, frame, pool, moments, shown & ~over, np.sort(ids[ids > 0]))
        flow = Flow.of(moments, (pool.track_id > 0) & (pool.hits >= Flow.LEAST_HITS) & seen)
        born = new_tracks(births.measured, births.variance, self.noise, flow)
        numbers = self._births + np.arange(len(births.log_odds))
        self._births += len(numbers)
        if self._links is not None:
            self._links.add(frame, scan.t_s, pool.birth[seen], pool.localization[seen])
            self._links.add(frame, scan.t_s, numbers, births.rows)
        kept = pool.select(~over) if over.any() else pool
        self._pool = kept.append(Pool.begin(*born, births.log_odds, births.light, numbers, births.rows, frame))
        self._ended_before = _NO_ROWS
        self._last_frame, self._last_t_s = frame, scan.t_s
        return state

    def _predict(self, pool: Pool, t_s: float, frame: int) -> None:
        if self._last_frame is None:
            return
        step_s = t_s - self._last_t_s
        self.noise.time(step_s, frame - self._last_frame)
        if len(pool):
            frames = step_s / self.noise.frame_s
            mixed, pool.weights = mix(pool.gaussians, pool.weights, self.settings.keep_model**frames, self.noise.shares)
            pool.gaussians = predict(mixed, self.noise.bank(), step_s)
            pool.log_odds[:] = _survive(pool.log_odds, self.settings.survival**frames)

    def _update(self, scan: Scan) -> I64:
        """Give each track its localization, or none; the row of the candidate, -1 for none, shape (N,)."""
        pool = scan.pool
        pairs = self._associate(scan, scan.variance)
        own, hits = pairs.tracks, pairs.hits
        hit = np.full(len(pool), -1, np.int64)
        hit[own] = hits
        pool.ambiguity[own] = pairs.ambiguity
        predicted, at, of = pool.gaussians[..., own], scan.measured[:, hits], scan.variance[:, hits]
        after = posterior(pool.weights[:, own], pairs.logs)
        sure = np.flatnonzero(scan.exists[own] > SURE)
        self.noise.learn(predicted[..., sure], after[:, sure], at[:, sure], of[:, sure])
        pool.gaussians[..., own] = update(predicted, at, of)
        pool.weights[:, own] = after
        pool.log_odds[:] += pairs.evidence
        return hit

    def _associate(self, scan: Scan, variance: F64) -> Pairs:
        """The best assignment of the candidates, with given variances, to the tracks."""
        pool, measured, odds, densities = scan.pool, scan.measured, scan.odds, scan.densities
        evidence = np.log1p(-scan.detected)
        if not (len(pool) and len(odds)):
            return Pairs(_NO_ROWS, _NO_ROWS, np.zeros(0), np.zeros((len(self.noise), 0)), evidence)
        centre, reach = gates(pool.gaussians, pool.weights, self.settings.gate, float(variance.max()))
        tracks, rows = pairs_near(centre, reach, measured)
        allowed = ~reflected(
            pool.gaussians, pool.weights, self.settings.gate, centre[2], tracks, measured[2, rows], variance[2, rows]
        )
        tracks, rows = tracks[allowed], rows[allowed]
        logs, density = pair_likelihoods(pool.gaussians, pool.weights, tracks, measured, variance, rows)
        # Against the two other sources of the localization: it is false, or an emitter without a track.
        other = np.log1p(odds * (densities.new / densities.real))
        ratio = density + np.log(scan.detected)[tracks] + (np.log(odds / densities.real) - other)[rows]
        gains = ratio + (np.log(scan.exists) - np.log1p(-scan.exists * scan.detected))[tracks]
        chosen = associate(tracks, rows, gains, (len(pool), len(odds)))
        evidence[chosen.tracks] = ratio[chosen.pairs]
        return Pairs(chosen.tracks, chosen.hits, chosen.ambiguity, logs[:, chosen.pairs], evidence)

    def _fate(self, pool: Pool, moments: F64, seen: Bools, frame: int, densities: Densities) -> tuple[Bools, Bools]:
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

    def _confirm(self, pool: Pool) -> None:
        probable = expit(pool.log_odds) >= self.settings.confirm_probability
        rows = np.flatnonzero((pool.track_id == 0) & (pool.hits >= 2) & probable)
        pool.track_id[rows] = self._last_id + 1 + np.arange(len(rows))
        self._last_id += len(rows)
        if self._links is not None:
            self._links.name(pool.birth[rows], pool.track_id[rows])

    def _state(self, t_s: float, frame: int, pool: Pool, moments: F64, shown: Bools, ended: I64) -> TrackState:
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

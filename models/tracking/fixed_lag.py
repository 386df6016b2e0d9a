"""Tracks of a run, smoothed by the next few frames while they come.

Tracks, numbers and frames are those of the filter: a row is neither added nor
left out, only positions, velocities and their sigmas are made from the frames
until the point and a fixed number of frames after it.

It is an approximation. The models of a track are combined to one Gaussian for
each axis, before and after the step from a frame to the next one, together
with the covariance between the two. Smoothing goes back through these steps
(Rauch, Tung and Striebel, AIAA Journal 3, 1445, 1965). The probabilities of
the models stay those that the filter had: `models.tracking.smoothing` corrects
them too, at ten times the cost. A track is not smoothed across frames in which
it is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from models.tables import Tracks
from models.tracking.motion_models import Bank, predict
from models.tracking.state import Filtered, TrackState

__all__ = ["FixedLag"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]


@dataclass(slots=True)
class _Rows:
    """The rows of some frames, one after the other.

    Attributes
    ----------
    filtered, ahead : ndarray of float64, shape (5, 3, R)
        Moments of position and velocity, and their prediction in the next frame.
    gain : ndarray of float64, shape (4, 3, R)
        Of the difference in the next frame, by rows: position from position and velocity, velocity from both.
    following : ndarray of int64, shape (R,)
        Row of the same track in the next frame, -1: none.
    """

    filtered: F64
    ahead: F64
    gain: F64
    following: I64

    @classmethod
    def of(cls, filtered: Filtered) -> Self:
        """The rows of one frame, whose next frame is not known yet."""
        count = filtered.moments.shape[-1]
        return cls(filtered.moments, np.zeros((5, 3, count)), np.zeros((4, 3, count)), np.full(count, -1))

    @classmethod
    def concatenate(cls, frames: Sequence[_Rows]) -> Self:
        """The rows of successive frames, with `following` counted from the first of them."""
        begins = np.cumsum([0, *(len(rows.following) for rows in frames)])[1:]
        following = [
            np.where(rows.following >= 0, rows.following + begin, -1)
            for rows, begin in zip(frames, begins.tolist(), strict=True)
        ]
        return cls(
            np.concatenate([rows.filtered for rows in frames], axis=-1),
            np.concatenate([rows.ahead for rows in frames], axis=-1),
            np.concatenate([rows.gain for rows in frames], axis=-1),
            np.concatenate(following),
        )


class FixedLag:
    """Smooths the rows of a tracker.

    Parameters
    ----------
    lag_frames : int
        Frames after a point that it is smoothed by; 0: rows pass as they are.
    """

    def __init__(self, lag_frames: int) -> None:
        self._lag = lag_frames
        self._states: list[TrackState] = []
        self._rows: list[_Rows] = []

    def add(self, states: Sequence[TrackState]) -> Tracks:
        """Take the states of successive frames; return the rows of all frames that are a lag behind the newest one.

        Raises
        ------
        DataError
            When the tracker is one that is not smoothed.
        """
        if self._lag == 0:
            return Tracks.concatenate(state.rows() for state in states)
        for state in states:
            self._append(state)
        return self._take(max(len(self._states) - self._lag, 0))

    def finish(self) -> Tracks:
        """All other rows, smoothed by the frames that there are."""
        return self._take(len(self._states))

    def _append(self, state: TrackState) -> None:
        if state.filtered is None:
            raise DataError(
                "This tracker has no motion models to smooth with.", "Set the lag to 0, or use the preset 'default'."
            )
        if self._states:
            _link(self._states[-1], self._rows[-1], state)
        self._states.append(state)
        self._rows.append(_Rows.of(state.filtered))

    def _take(self, frames: int) -> Tracks:
        """Smooth and forget the first frames."""
        table = Tracks.concatenate(state.rows() for state in self._states[:frames])
        if len(table):
            table = _with_moments(table, _smoothed(_Rows.concatenate(self._rows), len(table), self._lag))
        del self._states[:frames], self._rows[:frames]
        return table


def _link(state: TrackState, rows: _Rows, following: TrackState) -> None:
    """Note what the prediction from one frame to the next one was, for all tracks that are in both."""
    if state.filtered is None:
        return
    _, own, next_rows = np.intersect1d(state.track_id, following.track_id, assume_unique=True, return_indices=True)
    rows.following[own] = next_rows
    if len(own) == len(state):  # nothing is copied
        rows.ahead, covariance = _predicted(state.filtered, following.t_s - state.t_s)
        rows.gain = _gain(covariance, rows.ahead)
    elif len(own):
        its = state.filtered
        part = Filtered(its.moments[..., own], its.gaussians[..., own], its.weights[:, own], its.motion)
        rows.ahead[..., own], covariance = _predicted(part, following.t_s - state.t_s)
        rows.gain[..., own] = _gain(covariance, rows.ahead[..., own])


def _predicted(filtered: Filtered, step_s: float) -> tuple[F64, F64]:
    """Moments (5, 3, N) of the prediction, and its covariance (4, 3, N) with the state before it.

    The covariances are of position now with position and velocity then, and of velocity now with both. Models with
    and without velocity are two groups: of each only the moments about the mean over all models are needed, and
    those after the models have interacted follow from those before.
    """
    motion, directed = filtered.motion, filtered.motion.bank.directed
    p, v, pp, pv, vv = filtered.moments
    stay = motion.stays(np.array(step_s))
    shares = stay * filtered.weights + (1 - stay) * motion.shares[:, None]
    # Of the directed models: share, mean away from that of all models, and second moments about it.
    share = shares[directed].sum(axis=0)
    each = filtered.weights[directed][:, None]
    away = filtered.gaussians[:2, directed] - filtered.moments[:2, None]
    spread = filtered.gaussians[2:, directed]
    weighted = each * away
    a_p, a_v = stay * weighted.sum(axis=1)
    changed = (1 - stay) * motion.shares[directed].sum()
    s_pp = stay * (each * spread[0] + weighted[0] * away[0]).sum(axis=0) + changed * pp
    s_pv = stay * (each * spread[1] + weighted[0] * away[1]).sum(axis=0) + changed * pv
    s_vv = stay * (each * spread[2] + weighted[1] * away[1]).sum(axis=0) + changed * vv
    groups = ((share, a_p, a_v, s_pp, s_pv, s_vv), (1 - share, -a_p, -a_v, pp - s_pp, pv - s_pv, vv - s_vv))
    carry, keep, noise = _step(motion.bank, step_s)
    ahead, covariance = np.zeros((5, *p.shape)), np.zeros((4, *p.shape))
    ahead[0] = p
    for (w, _, m_v, *_), c, k in zip(groups, carry, keep, strict=True):
        ahead[0] += c * (m_v + w * v)
        ahead[1] += k * (m_v + w * v)
    ahead[2:] = (noise[:, :, None] * shares).sum(axis=1)[:, None]
    for (w, m_p, m_v, g_pp, g_pv, g_vv), c, k in zip(groups, carry, keep, strict=True):
        # The mean that the group would have with the mean state of all models, away from the mean of all.
        u_p, u_v = p + c * v - ahead[0], k * v - ahead[1]
        t_p, t_v = m_p + c * m_v, k * m_v
        coupled = g_pv + c * g_vv
        ahead[2] += g_pp + c * (g_pv + coupled) + (2 * t_p + w * u_p) * u_p
        ahead[3] += k * coupled + t_p * u_v + (t_v + w * u_v) * u_p
        ahead[4] += k * k * g_vv + (2 * t_v + w * u_v) * u_v
        covariance[0] += g_pp + c * g_pv + m_p * u_p
        covariance[1] += k * g_pv + m_p * u_v
        covariance[2] += coupled + m_v * u_p
        covariance[3] += k * g_vv + m_v * u_v
    return ahead, covariance


def _step(bank: Bank, step_s: float) -> tuple[F64, F64, F64]:
    """What a step does: of models with and without velocity, how far it carries, and what is kept of it; noise (3, M).

    Noise is that of position, of both, and of velocity.
    """
    one = np.zeros((5, len(bank), 1, 1))
    one[1] = 1.0
    moved = predict(one, bank, step_s)[..., 0, 0]
    first = [int(np.argmax(bank.directed)), int(np.argmin(bank.directed))]
    return moved[0, first], moved[1, first], moved[2:]


def _gain(covariance: F64, moments: F64) -> F64:
    """Covariance (4, 3, N) times the inverse covariance of the prediction."""
    _, _, pp, pv, vv = moments
    determinant = pp * vv - pv * pv
    of_p, of_v = covariance[::2], covariance[1::2]
    gain = np.empty_like(covariance)
    gain[::2] = (of_p * vv - of_v * pv) / determinant
    gain[1::2] = (of_v * pp - of_p * pv) / determinant
    return gain


def _smoothed(rows: _Rows, count: int, lag: int) -> F64:
    """Moments (5, 3, `count`) of the first rows, smoothed by the next `lag` frames."""
    chain = [np.arange(count)]
    for _ in range(lag):
        place = chain[-1]
        following = np.where(place >= 0, rows.following[place], -1)
        if not (following >= 0).any():
            break
        chain.append(following)
    moments = rows.filtered[..., chain[-1]]
    for place, following in zip(chain[-2::-1], chain[:0:-1], strict=True):
        own = rows.filtered[..., place]
        moments = np.where(following >= 0, _back(own, rows.gain[..., place], moments - rows.ahead[..., place]), own)
    return moments


def _back(filtered: F64, gain: F64, difference: F64) -> F64:
    """Moments corrected by what the next frame has more than its prediction."""
    d_p, d_v, d_pp, d_pv, d_vv = difference
    pp, pv, vp, vv = gain
    corrected: F64 = filtered + np.stack(
        [
            pp * d_p + pv * d_v,
            vp * d_p + vv * d_v,
            pp * pp * d_pp + 2 * pp * pv * d_pv + pv * pv * d_vv,
            pp * vp * d_pp + (pp * vv + pv * vp) * d_pv + pv * vv * d_vv,
            vp * vp * d_pp + 2 * vp * vv * d_pv + vv * vv * d_vv,
        ]
    )
    return corrected


def _with_moments(table: Tracks, moments: F64) -> Tracks:
    position, velocity, variance = moments[:3]
    sigma = np.sqrt(variance)
    return replace(
        table,
        x_um=position[0],
        y_um=position[1],
        z_um=position[2],
        vx_um_s=velocity[0],
        vy_um_s=velocity[1],
        vz_um_s=velocity[2],
        sigma_x_um=sigma[0],
        sigma_y_um=sigma[1],
        sigma_z_um=sigma[2],
    )

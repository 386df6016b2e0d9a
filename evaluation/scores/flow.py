"""Flow in a vessel from the speeds of tracks: mean, peak and heart rate.

The speed of each track is a constant, which depends on its distance from the
wall, times a beat that all share:

    v_k(t) = a_k (1 + c cos 2πft + s sin 2πft).

For each frequency of a grid, constants and beat are found in turns by least
squares; the frequency with the smallest residual is the heart rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.tables import Tracks

__all__ = ["Flow", "flow_of", "flow_of_tracks"]

F64 = NDArray[np.float64]

_HZ = np.arange(0.8, 6.0, 0.01)
_TURNS = 8
_FEWEST_POINTS = 10


@dataclass(frozen=True, slots=True)
class Flow:
    """Flow in a vessel.

    Attributes
    ----------
    mean_um_s, peak_um_s : float
        Mean over points and beats, and the same at the peak of the beat.
    beat_hz : float
    """

    mean_um_s: float
    peak_um_s: float
    beat_hz: float


def flow_of(track_id: NDArray[np.int64], t_s: F64, speed_um_s: F64) -> Flow | None:
    """Flow from speeds (N,) of tracks; None with fewer than 10 points.

    Parameters
    ----------
    track_id, t_s, speed_um_s : ndarray, shape (N,)
    """
    _, track, counts = np.unique(track_id, return_inverse=True, return_counts=True)
    keep = counts[track] >= _FEWEST_POINTS
    if np.count_nonzero(keep) < _FEWEST_POINTS:
        return None
    _, track = np.unique(track[keep], return_inverse=True)
    t_s, speed = t_s[keep], speed_um_s[keep]
    best: tuple[float, F64, F64, float] | None = None
    for hz in _HZ:
        waves = np.column_stack([np.cos(2 * np.pi * hz * t_s), np.sin(2 * np.pi * hz * t_s)])
        beat = np.ones(len(t_s))
        for _ in range(_TURNS):
            constant = np.bincount(track, speed * beat) / np.maximum(np.bincount(track, beat * beat), 1e-12)
            level = constant[track]
            parts, *_ = np.linalg.lstsq(level[:, None] * waves, speed - level, rcond=None)
            beat = 1 + waves @ parts
        residual = float(np.sum((speed - level * beat) ** 2))
        if best is None or residual < best[0]:
            best = residual, parts, constant, float(hz)
    if best is None:
        return None
    _, parts, constant, hz = best
    mean = float(constant[track].mean())
    return Flow(mean, mean * (1 + float(np.hypot(*parts))), hz)


def flow_of_tracks(tracks: Tracks) -> Flow | None:
    """Flow from the velocities of tracks."""
    speed = np.sqrt(tracks.vx_um_s**2 + tracks.vy_um_s**2 + tracks.vz_um_s**2)
    return flow_of(tracks.track_id, tracks.t_s, speed)

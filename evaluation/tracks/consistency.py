"""Whether the sigmas of tracks are right: normalized errors, seen and unseen, and normalized innovations.

The squared error of a position over its variance has a mean of 1 along each
axis when the sigmas are right (normalized estimation error squared, NEES; the
same of a localization against the prediction of its track is the normalized
innovation squared, NIS: Bar-Shalom, Li and Kirubarajan, Estimation with
Applications to Tracking and Navigation, 2001, section 5.4). Of three axes the
sum is below 7.81 for 95 % of the points.

An estimate on a wrong object is not an error of sigma, so points count whose
track is on an object within the gate of the scores of localizations, 10 µm.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtri

from evaluation.scores.scoring import Row
from models.metrics import match
from models.tables import Localizations, Tracks, Truth
from models.tracking import Tracker

__all__ = ["Normalized", "consistency_columns", "innovations", "position_errors"]

F64 = NDArray[np.float64]

_SETTLED_FRAMES = 30
"""Frames in which noise and detection probability are still being estimated."""

_GATE_UM = 10.0
_LIMIT_95 = float(chdtri(3, 0.05))


@dataclass(frozen=True, slots=True)
class Normalized:
    """Errors and the sigmas that were stated for them.

    Attributes
    ----------
    error_um, sigma_um : ndarray of float64, shape (N, 3)
    seen : ndarray of bool, shape (N,)
        Whether the track was seen in the frame.
    """

    error_um: F64
    sigma_um: F64
    seen: NDArray[np.bool_]

    def columns(self, name: str, chosen: NDArray[np.bool_]) -> Row:
        """Number, mean per axis, and share below the 95 % limit; None where there are no points."""
        square = (self.error_um[chosen] / self.sigma_um[chosen]) ** 2
        if len(square) == 0:
            return {f"{name}_points": 0, name: None, f"{name}_within_95": None}
        within = float(np.mean(square.sum(axis=1) < _LIMIT_95))
        return {f"{name}_points": len(square), name: float(square.mean()), f"{name}_within_95": within}

    def rms_um(self) -> float | None:
        """Root of the mean squared distance, µm."""
        return float(np.sqrt((self.error_um**2).sum(axis=1).mean())) if len(self.error_um) else None


def consistency_columns(live: Tracks, smoothed: Tracks, truth: Truth, found: Localizations, fps: float) -> Row:
    """NEES of live tracks seen and coasting, of smoothed tracks, NIS, and the errors of both forms."""
    errors, smooth = position_errors(live, truth), position_errors(smoothed, truth)
    innovation = innovations(found, fps)
    return (
        errors.columns("nees_seen", errors.seen)
        | errors.columns("nees_coasting", ~errors.seen)
        | smooth.columns("nees_smoothed", np.ones(len(smooth.seen), bool))
        | innovation.columns("nis", innovation.seen)
        | {"rms_filtered_um": errors.rms_um(), "rms_smoothed_um": smooth.rms_um()}
    )


def position_errors(tracks: Tracks, truth: Truth) -> Normalized:
    """Errors of track points against the objects that they are on, after the first 30 frames."""
    errors, sigmas, seen = [np.zeros((0, 3))], [np.zeros((0, 3))], [np.zeros(0, bool)]
    sigma = np.column_stack([tracks.sigma_x_um, tracks.sigma_y_um, tracks.sigma_z_um])
    places, real = (np.column_stack([each.x_um, each.y_um, each.z_um]) for each in (tracks, truth))
    for frame in np.unique(tracks.frame[tracks.frame >= _SETTLED_FRAMES]):
        rows, objects = np.flatnonzero(tracks.frame == frame), np.flatnonzero(truth.frame == frame)
        mine, theirs = match(places[rows], real[objects], _GATE_UM)
        rows, objects = rows[mine], objects[theirs]
        errors.append(places[rows] - real[objects])
        sigmas.append(sigma[rows])
        seen.append(tracks.observed[rows] == 1)
    return Normalized(np.concatenate(errors), np.concatenate(sigmas), np.concatenate(seen))


def innovations(found: Localizations, fps: float) -> Normalized:
    """Localizations against the predictions of the tracks that took them, after the first 30 frames.

    The prediction is what a copy of the tracker shows when it is given no localization in the frame.
    """
    tracker = Tracker()
    errors, sigmas = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for frame in range(int(found.frame.max()) + 1):
        here = found.select(found.frame == frame)
        blind = deepcopy(tracker).step(frame / fps, frame, Localizations.empty()).rows()
        state = tracker.step(frame / fps, frame, here)
        seen = np.flatnonzero(state.localization >= 0)
        common, mine, theirs = np.intersect1d(state.track_id[seen], blind.track_id, return_indices=True)
        if frame < _SETTLED_FRAMES or len(common) == 0:
            continue
        rows = state.localization[seen[mine]]
        predicted = np.column_stack([blind.x_um, blind.y_um, blind.z_um])[theirs]
        spread = np.column_stack([blind.sigma_x_um, blind.sigma_y_um, blind.sigma_z_um])[theirs]
        errors.append(here.xyz_um[rows] - predicted)
        sigmas.append(np.hypot(spread, here.sigma_um[rows]))
    joined = np.concatenate(errors)
    return Normalized(joined, np.concatenate(sigmas), np.ones(len(joined), bool))

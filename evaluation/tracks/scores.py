"""Scores of tracks against true tracks: HOTA and identity switches by TrackEval, the rest by `models.track_metrics`.

HOTA is the mean over its thresholds, at similarities of 0.05 to 0.95; the
similarity falls from 1 at no distance to 0 at 5 µm. So a smaller error of
position is a better HOTA. All other scores of tracks take points within 5 µm.
"""

from __future__ import annotations

import contextlib
import io
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.scores.scoring import TOLERANCES_UM, Row
from models.metrics import Positions, score_table
from models.track_metrics import GATE_UM, TrackedPositions, score_tracks

__all__ = ["hota_scores", "jaccard_columns", "track_columns", "trackeval_sequence"]

_OF_TRACKEVAL = ("hota", "detection_accuracy", "association_accuracy", "identity_switches")

_WITHIN_GATE = 1e-6
"""Least similarity of a match for identity switches: nearer than the gate."""


def track_columns(tracks: TrackedPositions, truth: TrackedPositions) -> Row:
    """All scores of tracks, as columns of a table; those of TrackEval are None where it is not installed."""
    row = dict.fromkeys(_OF_TRACKEVAL) if find_spec("trackeval") is None else hota_scores(tracks, truth)
    switches, frames = row["identity_switches"], max(len(np.unique(truth.frame)), 1)
    row["switches_per_1000_frames"] = None if switches is None else 1000 * switches / frames
    return row | score_tracks(tracks, truth).as_dict()


def jaccard_columns(tracks: Positions, found: Positions, truth: Positions) -> Row:
    """Jaccard index of track points and of the localizations that they are made of, within 10, 5 and 3 µm."""
    columns: Row = {}
    for tolerance in TOLERANCES_UM:
        columns[f"localization_jaccard_{tolerance:g}"] = score_table(found, truth, tolerance).jaccard
        columns[f"track_jaccard_{tolerance:g}"] = score_table(tracks, truth, tolerance).jaccard
    return columns


def hota_scores(tracks: TrackedPositions, truth: TrackedPositions) -> Row:
    """HOTA, its parts for detection and association, and the number of identity switches.

    Parameters
    ----------
    tracks, truth : TrackedPositions
        Points of tracks, in any order.

    Returns
    -------
    dict
        ``hota``, ``detection_accuracy``, ``association_accuracy``, ``identity_switches``.

    Raises
    ------
    ImportError
        When TrackEval is not installed; it is in the extra `evaluation`.
    """
    from trackeval.metrics import CLEAR, HOTA

    data = trackeval_sequence(tracks, truth)
    limits = {"THRESHOLD": _WITHIN_GATE, "PRINT_CONFIG": False}
    # It reports on the standard output.
    with contextlib.redirect_stdout(io.StringIO()):
        hota = HOTA().eval_sequence(data)
        clear = CLEAR(limits).eval_sequence(data)
    return {
        "hota": float(np.mean(hota["HOTA"])),
        "detection_accuracy": float(np.mean(hota["DetA"])),
        "association_accuracy": float(np.mean(hota["AssA"])),
        "identity_switches": int(clear["IDSW"]),
    }


def trackeval_sequence(tracks: TrackedPositions, truth: TrackedPositions) -> dict[str, Any]:
    """The tables as TrackEval takes them: for each frame the numbers of the tracks and all similarities."""
    frames = np.union1d(tracks.frame, truth.frame)
    true_ids, true_parts = _by_frame(truth, frames)
    found_ids, found_parts = _by_frame(tracks, frames)
    similarities = []
    for (_, places), (_, found) in zip(true_parts, found_parts, strict=True):
        distances = np.linalg.norm(places[:, None] - found[None], axis=2)
        similarities.append(np.clip(1 - distances / GATE_UM, 0.0, 1.0))
    return {
        "num_timesteps": len(frames),
        "num_gt_ids": true_ids,
        "num_tracker_ids": found_ids,
        "num_gt_dets": len(truth.frame),
        "num_tracker_dets": len(tracks.frame),
        "gt_ids": [ids for ids, _ in true_parts],
        "tracker_ids": [ids for ids, _ in found_parts],
        "similarity_scores": similarities,
    }


def _by_frame(
    table: TrackedPositions, frames: NDArray[np.int64]
) -> tuple[int, list[tuple[NDArray[np.int64], NDArray[np.float64]]]]:
    ids, rows = np.unique(table.track_id, return_inverse=True)
    order = np.argsort(table.frame, kind="stable")
    ends = np.searchsorted(np.asarray(table.frame)[order], frames, side="right")[:-1]
    places = np.column_stack([table.x_um, table.y_um, table.z_um])[order]
    parts = zip(np.split(rows[order], ends), np.split(places, ends), strict=True) if len(frames) else ()
    return len(ids), list(parts)

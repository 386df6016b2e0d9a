"""Candidates with probabilities against a threshold: what the tracker loses when a localizer decides alone.

The candidates have a recall of 0.97 and three false ones per object. Their
probabilities are right on average: of the candidates with a probability p, the
share p is real. The same candidates are tracked above rising thresholds.
"""

from __future__ import annotations

from evaluation.scores.scoring import Row
from evaluation.tracks.detections import QUALITIES, Quality, detections
from evaluation.tracks.patterns import Pattern, true_tracks
from evaluation.tracks.scores import track_columns
from models.metrics import score_table
from models.tracking import track_table

__all__ = ["CANDIDATES", "THRESHOLDS", "threshold_rows"]

THRESHOLDS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8)
"""At 0 the tracker itself begins at 0.05."""

CANDIDATES = Quality("candidates", 0.97, 1.0, 3.0, QUALITIES[0].sigma_um, separation=2.0)
"""At a threshold of 0.5 the recall is 0.66, with 0.2 false localizations per object."""

_FPS = 100.0


def threshold_rows(pattern: Pattern, objects: int, frames: int, seed: int) -> list[Row]:
    """Scores of tracks of the candidates above each threshold."""
    truth = true_tracks(pattern, objects, frames, _FPS, seed)
    found = detections(truth, CANDIDATES, seed + 1000)
    rows: list[Row] = []
    for threshold in THRESHOLDS:
        above = found.select(found.probability >= threshold)
        tracks = track_table(above, _FPS)
        one_frame = score_table(above, truth)
        rows.append(
            {
                "method": "Bathyscope",
                "motion": pattern.name,
                "objects": objects,
                "frames": frames,
                "threshold": threshold,
                "localization_recall": one_frame.recall,
                "localization_jaccard": one_frame.jaccard,
                "track_jaccard": score_table(tracks, truth).jaccard,
            }
            | track_columns(tracks, truth)
        )
    for row in rows:
        row["tracks_per_object"] = row["found_tracks"] / max(row["true_tracks"], 1)
    return rows

"""Tables from localizations and truth: scores at three tolerances, chance level, precision-recall curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.optics.frames import Frames
from evaluation.scores.bounds import FrameBounds, IdealDetector, detectable_share
from models.metrics import Region, Score, Scorer, chance_jaccard
from models.tables import Localizations

__all__ = [
    "KNOWN_UM",
    "TOLERANCES_UM",
    "Row",
    "frame_scores",
    "jaccard_error",
    "limit_columns",
    "localizations_by_frame",
    "precision_recall",
    "score_at",
    "score_rows",
]

Row = dict[str, Any]

TOLERANCES_UM = (10.0, 5.0, 3.0)

_CURVE_POINTS = 40
KNOWN_UM = 5.0
"""An emitter with a larger bound on its 3D sigma cannot be localized; root mean squares leave it out."""


def localizations_by_frame(found: Localizations, count: int) -> list[NDArray[np.float64]]:
    """Positions (N, 3) in each of `count` frames, whose numbers count from 0."""
    order = np.argsort(found.frame, kind="stable")
    return np.split(found.xyz_um[order], np.searchsorted(found.frame[order], np.arange(1, count), side="left"))


def frame_scores(
    found: Localizations, frames: Frames, tolerance_um: float, region: Region | None = None
) -> list[Score]:
    """Score of the localizations in each of `frames`, whose numbers count from 0."""
    scorer = Scorer(tolerance_um, region)
    localizations = localizations_by_frame(found, len(frames))
    return [scorer.add(each, truth[:, :3]) for each, truth in zip(localizations, frames.emitters, strict=True)]


def score_at(found: Localizations, frames: Frames, tolerance_um: float, region: Region | None = None) -> Score:
    """Score of the localizations in `frames`, whose numbers count from 0."""
    return sum(frame_scores(found, frames, tolerance_um, region), Score())


def jaccard_error(scores: Sequence[Score]) -> float | None:
    """Standard error of the Jaccard index of all `scores` together: jackknife over frames, which are independent.

    With n frames and J_i the index without frame i, the variance is (n - 1)/n Σ (J_i - mean)² (Efron and Stein, Annals
    of Statistics 9, 586, 1981). None with fewer than two frames, or nothing to be found in them.
    """
    hits = np.array([score.tp for score in scores], np.float64)
    whole = np.array([score.tp + score.fp + score.fn for score in scores], np.float64)
    rest = whole.sum() - whole
    if len(scores) < 2 or not rest.all():
        return None
    without = (hits.sum() - hits) / rest
    return float(np.sqrt((len(scores) - 1) * np.var(without)))


def score_rows(
    found: Localizations,
    frames: Frames,
    columns: Row,
    region: Region | None = None,
    tolerances_um: Sequence[float] = TOLERANCES_UM,
) -> list[Row]:
    """One row for each tolerance: `columns`, conditions of the frames, scores, and the chance level."""
    truth = frames.truth()
    rows = []
    for tolerance in tolerances_um:
        scores = frame_scores(found, frames, tolerance, region)
        known = {
            "frames": len(frames),
            "tolerance_um": tolerance,
            "median_photons": round(frames.median_photons, 1),
            "background_e": round(float(frames.background_e.mean()), 4),
        }
        figures = sum(scores, Score()).as_dict() | {"jaccard_error": jaccard_error(scores)}
        chance = {"chance_jaccard": chance_jaccard(found, truth, tolerance, region)}
        rows.append(columns | known | figures | chance)
    return rows


def precision_recall(found: Localizations, frames: Frames, columns: Row, tolerance_um: float = 10.0) -> list[Row]:
    """Precision, recall and Jaccard index over the threshold on the score, lowest threshold first."""
    if len(found) == 0:
        return []
    thresholds = np.unique(np.quantile(found.probability, np.linspace(0, 1, _CURVE_POINTS)))
    rows = []
    for threshold in thresholds:
        score = score_at(found.select(found.probability >= threshold), frames, tolerance_um)
        rows.append(
            columns
            | {
                "threshold": float(threshold),
                "precision": score.precision,
                "recall": score.recall,
                "jaccard": score.jaccard,
            }
        )
    return rows


def limit_columns(bounds: Sequence[FrameBounds], detector: IdealDetector) -> Row:
    """What the light allows: detectable shares, Jaccard of the ideal detector, RMS bounds of the known emitters."""
    significance = np.concatenate([each.significance for each in bounds])
    known = np.concatenate([each.sigma_3d_um for each in bounds]) < KNOWN_UM
    sigma = np.concatenate([each.sigma for each in bounds])[known]
    return {
        "limit_frames": len(bounds),
        "limit_known": float(known.mean()),
        "limit_detectable_3": detectable_share(significance, 3.0),
        "limit_detectable_5": detectable_share(significance, 5.0),
        "limit_jaccard": detector.jaccard(significance, len(significance) / len(bounds)),
        "limit_rms_lateral_um": _rms(np.hypot(sigma[:, 0], sigma[:, 1])),
        "limit_rms_axial_um": _rms(sigma[:, 2]),
    }


def _rms(values: NDArray[np.float64]) -> float | None:
    return float(np.sqrt(np.mean(values**2))) if len(values) else None

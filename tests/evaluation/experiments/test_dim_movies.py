"""Dim points: what is scored, and how movies are averaged."""

from __future__ import annotations

import pytest

from evaluation.experiments import dim_movies
from evaluation.tracks.candidates import CANDIDATES
from evaluation.tracks.detections import detections
from evaluation.tracks.patterns import PATTERNS, true_tracks
from models.metrics import Score, score_table


def test_tracks_of_candidates_find_what_a_threshold_misses() -> None:
    truth = true_tracks(PATTERNS[3], 10, 40, 100.0, 7)
    candidates = detections(truth, CANDIDATES, 3)
    forms = dict(dim_movies._forms(candidates, candidates.select(candidates.probability >= 0.5)))
    late = {
        name: score_table(each.select(each.frame >= 10), truth.select(truth.frame >= 10))
        for name, each in forms.items()
    }
    found, of_found, of_candidates, smoothed = (each.jaccard or 0 for each in late.values())
    assert found < 0.65
    assert found < of_found <= of_candidates
    assert smoothed > 0.9
    assert next(iter(late)) == "localizations"


def test_means_have_the_standard_error_over_movies() -> None:
    row = dim_movies._means([Score(tp=6, fp=2, fn=2), Score(tp=8, fp=1, fn=1)])
    assert row["jaccard"] == pytest.approx((0.6 + 0.8) / 2)
    assert row["jaccard_standard_error"] == pytest.approx(0.1)
    assert row["recall"] == pytest.approx((6 / 8 + 8 / 9) / 2)
    assert dim_movies._means([Score(tp=6, fp=2, fn=2)])["jaccard_standard_error"] is None

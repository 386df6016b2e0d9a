"""Scores of tracks against the libraries that have them too."""

from __future__ import annotations

import contextlib
import io

import pytest

from evaluation.tracks.comparison import Cell
from evaluation.tracks.detections import QUALITIES
from evaluation.tracks.patterns import PATTERNS
from evaluation.tracks.scores import hota_scores, jaccard_columns, track_columns, trackeval_sequence
from models.tables import Localizations, Tracks, Truth
from models.track_metrics import score_tracks
from models.tracking import track_table
from tests.conftest import need

Movie = tuple[Truth, Localizations, Tracks]


@pytest.fixture(scope="module", params=["confined", "fast"])
def movie(request: pytest.FixtureRequest) -> Movie:
    pattern = next(each for each in PATTERNS if each.name == request.param)
    truth, found = Cell(pattern, QUALITIES[1], 20, 60).movie(3)
    return truth, found, track_table(found, 100.0)


def test_a_perfect_table_has_perfect_scores(movie: Movie) -> None:
    need("trackeval")
    truth = movie[0]
    scores = hota_scores(truth, truth)
    assert scores["hota"] == pytest.approx(1.0)
    assert scores["identity_switches"] == 0
    columns = track_columns(truth, truth)
    assert (columns["jsc_theta"], columns["idf1"], columns["switches_per_1000_frames"]) == (1.0, 1.0, 0.0)


def test_identities_agree_with_trackeval(movie: Movie) -> None:
    need("trackeval")
    from trackeval.metrics import Identity

    truth, _, tracks = movie
    limits = {"THRESHOLD": 1e-9, "PRINT_CONFIG": False}
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = Identity(limits).eval_sequence(trackeval_sequence(tracks, truth))
    assert score_tracks(tracks, truth).idf1 == pytest.approx(float(theirs["IDF1"]), abs=1e-9)


def test_tracks_are_never_worse_than_their_localizations(movie: Movie) -> None:
    truth, found, tracks = movie
    columns = jaccard_columns(tracks, found, truth)
    for tolerance in (10, 5, 3):
        assert columns[f"track_jaccard_{tolerance}"] >= columns[f"localization_jaccard_{tolerance}"]

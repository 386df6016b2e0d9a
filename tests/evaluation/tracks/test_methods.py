"""Trackers on the same localizations, sigmas and candidates, on small cases."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.tracks import methods
from evaluation.tracks.candidates import CANDIDATES, threshold_rows
from evaluation.tracks.comparison import Cell, Comparison
from evaluation.tracks.consistency import Normalized, consistency_columns
from evaluation.tracks.detections import QUALITIES, detections
from evaluation.tracks.methods import METHODS, TrackMethod
from evaluation.tracks.patterns import PATTERNS, true_tracks
from models.metrics import match
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table

PATTERN = {pattern.name: pattern for pattern in PATTERNS}


def test_all_trackers_get_the_same_localizations_and_a_missing_one_a_reason() -> None:
    seen: list[Localizations] = []

    def lose_all(found: Localizations, _fps: float, setting: methods.Setting) -> Tracks:
        seen.append(found)
        return track_table(found.select(slice(0, int(setting["kept"]))), 100.0)

    choices = ({"kept": 40.0}, {"kept": 1e9})
    given = [
        METHODS[0],
        TrackMethod("loses", "live", lose_all, settings=choices),
        TrackMethod("absent", "live", lose_all, package="a_package_that_is_not_there"),
    ]
    comparison = Comparison(given, seed=1, tuning_frames=30)
    cell = Cell(PATTERN["directed"], QUALITIES[0], 8, 40)
    rows = comparison.rows(cell)
    assert [row["method"] for row in rows] == ["Bathyscope", "loses", "absent"]
    assert rows[2]["left_out"] == "a_package_that_is_not_there is not installed"
    # The better setting was found on another movie, and used on the same localizations as ours.
    assert rows[1]["setting"] == "kept 1e+09"
    assert rows[1]["beta"] == rows[0]["beta"] > 0.5
    assert len(seen) == 3
    assert not np.array_equal(seen[0].x_um, seen[2].x_um)
    assert np.array_equal(seen[2].x_um, cell.movie(1)[1].x_um)
    comparison.rows(cell)
    assert len(seen) == 4


def test_the_sigmas_of_modelled_motion_are_right() -> None:
    truth, found = Cell(PATTERN["brownian 10"], QUALITIES[0], 20, 120).movie(3)
    live, smoothed = track_table(found, 100.0), smoothed_tracks(found, 100.0)
    columns = consistency_columns(live, smoothed, truth, found, 100.0)
    # 1,800 points of 20 tracks that are correlated over about 10 frames: the mean is known to about 5 %.
    for name in ("nees_seen", "nis"):
        assert columns[name] == pytest.approx(1.0, abs=0.2)
        assert columns[f"{name}_within_95"] == pytest.approx(0.95, abs=0.03)
    assert columns["rms_smoothed_um"] < columns["rms_filtered_um"] < 1.5


def test_normalized_errors_of_no_points_are_undefined() -> None:
    nothing = Normalized(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0, bool))
    assert nothing.columns("nees", nothing.seen) == {"nees_points": 0, "nees": None, "nees_within_95": None}
    assert nothing.rms_um() is None


def test_probabilities_of_candidates_are_right_on_average() -> None:
    truth = true_tracks(PATTERN["confined"], 50, 100, 100.0, 1)
    found = detections(truth, CANDIDATES, 2)
    real = np.zeros(len(found), bool)
    for frame in range(100):
        here, objects = found.frame == frame, truth.frame == frame
        places = np.column_stack([truth.x_um, truth.y_um, truth.z_um])[objects]
        real[np.flatnonzero(here)[match(found.xyz_um[here], places, 5.0)[0]]] = True
    for low, high in ((0.0, 0.1), (0.1, 0.4), (0.4, 0.7), (0.7, 1.0)):
        chosen = (found.probability >= low) & (found.probability < high)
        # Few false ones are near an object by chance.
        assert real[chosen].mean() == pytest.approx(found.probability[chosen].mean(), abs=0.03)


def test_all_candidates_are_as_good_as_those_above_the_best_threshold() -> None:
    rows = threshold_rows(PATTERN["confined"], 20, 80, 5)
    assert rows[0]["threshold"] == 0.0
    assert rows[0]["beta"] >= max(row["beta"] for row in rows) - 0.02
    assert rows[0]["tracks_per_object"] == pytest.approx(1.0, abs=0.15)
    assert rows[0]["track_jaccard"] > 0.9 > 0.4 > rows[0]["localization_jaccard"]

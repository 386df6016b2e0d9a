"""Scenes of merges and splits: their truth, and what is found in one of each."""

from __future__ import annotations

import numpy as np
import pytest

from evaluation.tracks.detections import QUALITIES, detections
from evaluation.tracks.events import SCENES, EventScore, found_events, scene_truth, score
from models.tables import TrackEvents

MEETING, DIVIDING, CROSSING, APPEARING = SCENES


def test_each_pair_has_one_event() -> None:
    for scene, kind in ((MEETING, "merge"), (DIVIDING, "split")):
        truth, events = scene_truth(scene, 40.0, 3)
        assert set(events.kind) == {kind}
        assert len(events) == 12
        # After a merge there is one object less, before a split one more.
        counts = np.bincount(truth.frame)
        assert abs(int(counts[0]) - int(counts[-1])) == 12
        for frame in events.frame.tolist():
            step = int(np.sign(counts[frame + 1] - counts[frame - 2]))
            assert step == (-1 if kind == "merge" else 1)
    for scene in (CROSSING, APPEARING):
        assert len(scene_truth(scene, 40.0, 3)[1]) == 0


def test_objects_nearer_than_the_resolution_are_one() -> None:
    truth, _ = scene_truth(CROSSING, 40.0, 3)
    counts = np.bincount(truth.frame)
    assert counts[0] == counts[-1] == 12 * 2 + 20
    assert counts.min() < counts[0]


@pytest.mark.parametrize("smoothed", [False, True])
@pytest.mark.parametrize("scene", [MEETING, DIVIDING])
def test_events_are_found_in_localizations_of_good_quality(scene: object, *, smoothed: bool) -> None:
    truth, events = scene_truth(scene, 40.0, 0)
    found = score(found_events(detections(truth, QUALITIES[0], 0), smoothed=smoothed), events)
    # 98 % in docs/tracks.md; one of twelve may be missed.
    assert found.found >= 11
    assert found.false <= 1


def test_a_score_pairs_each_event_once() -> None:
    columns = {name: np.zeros(3) for name in TrackEvents.names()}
    columns |= {"kind": np.array(["merge", "merge", "split"]), "frame": np.array([50, 52, 50])}
    reported = TrackEvents.from_columns(columns)
    true = reported.select(np.array([0]))
    assert score(reported, true) == EventScore(true=1, found=1, false=2)
    assert score(reported.select(np.array([], int)), true) == EventScore(true=1, found=0, false=0)
    late = TrackEvents.from_columns(true.columns() | {"frame": np.array([80])})
    assert score(late, true) == EventScore(true=1, found=0, false=1)

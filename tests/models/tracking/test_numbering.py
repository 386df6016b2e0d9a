"""Numbers of live tracks for tracks that are computed again."""

from __future__ import annotations

import numpy as np

from evaluation.tracks.candidates import CANDIDATES
from evaluation.tracks.detections import detections
from evaluation.tracks.patterns import PATTERNS, true_tracks
from models.tables import Tracks
from models.tracking import Tracker
from models.tracking.fixed_lag import FixedLag
from models.tracking.numbering import LiveNumbers
from models.tracking.smoother import Smoother


def line(number: int, frames: range, y_um: float, observed: int = 1) -> Tracks:
    """A track along x at 1 µm per frame."""
    frame = np.array(frames)
    columns = {name: np.full(len(frame), 0.5) for name in Tracks.names()}
    columns |= {"track_id": np.full(len(frame), number), "frame": frame, "t_s": frame / 100, "x_um": 1.0 * frame}
    columns |= {"y_um": np.full(len(frame), y_um), "observed": np.full(len(frame), observed)}
    return Tracks.from_columns(columns)


def numbers(tracks: Tracks) -> list[int]:
    return sorted(set(tracks.track_id.tolist()))


def none() -> Tracks:
    return Tracks.empty()


def test_a_track_of_one_live_track_has_its_number() -> None:
    live = Tracks.concatenate([line(7, range(3, 20), 0.2), line(4, range(5, 20), 30.0)])
    given = Tracks.concatenate([line(1, range(20), 0.0), line(2, range(3, 20), 30.2)])
    named = LiveNumbers(7).rename(given, none(), live)
    assert named.track_id.tolist() == [7] * 20 + [4] * 17
    np.testing.assert_array_equal(named.x_um, given.x_um)


def test_joined_pieces_have_the_number_of_the_first_and_new_tracks_a_new_one() -> None:
    live = Tracks.concatenate([line(5, range(2, 20), 0.0), line(3, range(40, 60), 0.0)])
    given = Tracks.concatenate([line(1, range(60), 0.0), line(2, range(30), 50.0), line(3, range(30), 90.0)])
    assert numbers(LiveNumbers(9).rename(given, none(), live)) == [5, 10, 11]


def test_two_tracks_of_one_live_track_have_different_numbers() -> None:
    """The live track changed from one emitter to another: most of it is of the second."""
    live = Tracks.concatenate([line(6, range(2, 10), 0.0), line(6, range(10, 30), 30.0)])
    given = Tracks.concatenate([line(1, range(30), 0.0), line(2, range(8, 30), 30.0)])
    named = LiveNumbers(6).rename(given, none(), live)
    assert named.track_id.tolist() == [7] * 30 + [6] * 22


def test_a_track_keeps_its_number_from_part_to_part() -> None:
    named = LiveNumbers(8)
    live = line(8, range(12, 30), 0.0)
    # The live track begins after the first part.
    assert numbers(named.rename(line(1, range(10), 0.0), line(1, range(10, 30), 0.0), live)) == [8]
    assert numbers(named.rename(line(1, range(10, 60), 0.0), none(), line(8, range(12, 60), 0.0))) == [8]
    # Its number is in use, and frames in which it coasts are no evidence.
    assert numbers(named.rename(line(2, range(40, 60), 0.0), none(), line(8, range(40, 60), 0.0))) == [9]
    coasting = line(5, range(40, 60), 70.0, observed=0)
    assert numbers(named.rename(line(3, range(40, 60), 70.0), none(), coasting)) == [10]


def test_numbers_of_a_run_whose_weak_candidates_are_not_stored() -> None:
    truth = true_tracks(PATTERNS[3], 20, 150, 100.0, 2)
    found = detections(truth, CANDIDATES, 3)
    tracker, smoother, lag, states = Tracker(), Smoother(), FixedLag(10), []
    for frame in range(150):
        here = found.select(found.frame == frame)
        states.append(tracker.step(frame / 100, frame, here))
        kept = here.probability >= 0.5
        kept[states[-1].localization[states[-1].observed]] = True
        smoother.step(frame / 100, frame, here.select(kept))
    live = Tracks.concatenate([lag.add(states), lag.finish()])
    given = smoother.finish()
    named = LiveNumbers(int(live.track_id.max())).rename(given, none(), live)
    before, after = (_agreement(each, live) for each in (given, named))
    assert before < 0.5
    assert after > 0.95


def _agreement(tracks: Tracks, live: Tracks) -> float:
    """Share of the live points with a point of the same number in the same frame, within 3 µm."""
    places = {(n, f): x for n, f, x in zip(tracks.track_id, tracks.frame, tracks.x_um, strict=True)}
    seen = live.select(live.observed == 1)
    near = [
        abs(places.get((n, f), np.inf) - x) < 3 for n, f, x in zip(seen.track_id, seen.frame, seen.x_um, strict=True)
    ]
    return float(np.mean(near))

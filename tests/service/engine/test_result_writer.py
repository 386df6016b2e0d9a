"""What of the tracks is stored, and when: points smoothed by the next frames, in rows that the tracker gave."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.tables import Localizations, Tracks
from models.tracking import Tracker, TrackState
from models.tracking.fixed_lag import FixedLag
from service.analysis.frame_tracker import FrameResult
from service.engine import result_writer
from service.engine.analysis_batch import AnalysisBatch
from service.engine.ledger import Ledger
from service.engine.result_writer import ResultWriter
from service.engine.stages import Stage
from service.store.errors import StoreError
from service.store.store import Store
from tests.service.engine_samples import dot_model

FRAMES, BATCH = 60, 10


def dot(frame: int) -> Localizations:
    """A dot that moves along x, found in most frames."""
    columns = {name: np.full(1, 0.5) for name in Localizations.names()}
    noise = np.random.default_rng(frame).normal(0, 0.5, 3)
    columns |= {"frame": np.array([frame]), "probability": np.array([0.9]), "x_um": 10 + 0.5 * frame + noise[:1]}
    columns |= {"y_um": 10 + noise[1:2], "z_um": 30 + noise[2:]}
    found = Localizations.from_columns(columns)
    return found.select(np.array([frame % 7 != 5]))


def batches() -> list[AnalysisBatch]:
    tracker = Tracker()
    results = [FrameResult(n, n / 100, dot(n), tracker.step(n / 100, n, dot(n))) for n in range(FRAMES)]
    return [AnalysisBatch(tuple(results[n : n + BATCH]), dot_model()) for n in range(0, FRAMES, BATCH)]


def states(chosen: list[AnalysisBatch]) -> list[TrackState]:
    return [result.state for batch in chosen for result in batch.results]


class Bench:
    """A writer in front of a database."""

    def __init__(self, folder: Path, lag_frames: int = 10) -> None:
        self.store = Store.open(folder / "bathyscope.db")
        self.store.migrate()
        self.run = self.store.runs.create(model_id="dots", record=False).id
        self.stage: Stage[AnalysisBatch] = Stage(100)
        self.ledger = Ledger(recording=False)
        self.after_each: list[Tracks] = []
        self.failures: list[Exception] = []
        self.writer = ResultWriter(
            self.store,
            self.run,
            self.stage,
            self.ledger,
            dict,
            lag_frames=lag_frames,
            stored=lambda _: self.after_each.append(self.stored()),
            failed=self.failures.append,
        )

    def write(self, chosen: list[AnalysisBatch]) -> None:
        for batch in chosen:
            for number in batch.numbers:
                self.ledger.grab(number)
            self.stage.offer(batch)
        self.writer.start()
        while self.ledger.counts().in_flight:
            self.writer.join(0.02)
        self.stage.close()
        self.writer.join(60)
        assert not self.failures

    def stored(self) -> Tracks:
        return Tracks.concatenate(self.store.tracks.stream(self.store.tracks.select(self.run)))


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    bench = Bench(tmp_path)
    yield bench
    bench.store.close()


def assert_same(found: Tracks, expected: Tracks) -> None:
    for name, column in expected.columns().items():
        np.testing.assert_allclose(getattr(found, name), column, rtol=1e-12, err_msg=name)


def test_stored_tracks_have_the_rows_of_the_tracker_and_are_smoothed(bench: Bench) -> None:
    chosen = batches()
    bench.write(chosen)
    shown = Tracks.concatenate(state.rows() for state in states(chosen))
    stored, lag = bench.stored(), FixedLag(10)
    np.testing.assert_array_equal(stored.frame, shown.frame)
    np.testing.assert_array_equal(stored.track_id, shown.track_id)
    assert_same(stored, Tracks.concatenate([lag.add(states(chosen)), lag.finish()]))
    assert not np.array_equal(stored.x_um, shown.x_um)
    # A process that is killed loses at most the lag besides the batch that is not committed.
    assert [int(each.frame[-1]) for each in bench.after_each[1:]] == [9, 19, 29, 39, 49]
    assert bench.writer.problem is None


def test_without_a_lag_points_are_stored_with_their_frames(tmp_path: Path) -> None:
    bench = Bench(tmp_path, lag_frames=0)
    chosen = batches()
    bench.write(chosen)
    assert_same(bench.stored(), Tracks.concatenate(state.rows() for state in states(chosen)))
    assert [int(each.frame[-1]) for each in bench.after_each] == [9, 19, 29, 39, 49, 59]
    bench.store.close()


def failing(real: Callable[..., Any], fails: Callable[[int], bool], after: bool = False) -> Callable[..., Any]:
    calls = [0]

    def call(*arguments: Any, **named: Any) -> Any:
        calls[0] += 1
        if after and fails(calls[0]):
            real(*arguments, **named)
        if fails(calls[0]):
            raise StoreError("The database is locked.", "Wait.")
        return real(*arguments, **named)

    return call


def test_frames_that_are_given_up_have_no_points(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_writer, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(bench.store, "append", failing(bench.store.append, lambda call: call == 3))
    chosen = batches()
    bench.write(chosen)
    shown = Tracks.concatenate(state.rows() for state in states(chosen))
    kept = shown.select((shown.frame < 20) | (shown.frame >= 30))
    np.testing.assert_array_equal(bench.stored().frame, kept.frame)
    assert "Results of 10 frames" in str(bench.writer.problem)


@pytest.mark.parametrize("after", [False, True])
def test_the_last_points_are_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch, after: bool) -> None:
    real = bench.store.append_points
    monkeypatch.setattr(bench.store, "append_points", failing(real, lambda call: call == 1, after))
    chosen = batches()
    bench.write(chosen)
    assert len(bench.stored()) == sum(len(state) for state in states(chosen))
    assert bench.writer.problem is None


def test_last_points_that_cannot_be_stored_are_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_writer, "_END_PATIENCE_S", 0.0)
    monkeypatch.setattr(bench.store, "append_points", failing(bench.store.append_points, lambda _: True))
    bench.write(batches())
    assert (
        bench.writer.problem == "The last 10 points of live tracks could not be stored: The database is locked. Wait."
    )

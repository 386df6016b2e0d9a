"""A recorded run analysed again: its frames give the next revision of its tracks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hardware.microscope import Frame
from models.errors import DataError
from models.localization import Localizer
from models.metrics import Score, score_frame
from models.scene import reference_camera, reference_scene
from models.tables import Localizations, Tracks
from models.weights import reference_model
from service.analysis.analyzer import Analyzer
from service.engine.ledger import LedgerCounts
from service.engine.recorder import Recording
from service.files.library import Library
from service.jobs.reprocessing import reprocess
from service.settings import load_settings
from service.store.errors import InUse, UnknownItem
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.store import Store
from service.tracking_settings import TrackingPart

SHAPE, FRAMES, PIXEL_UM, FIRST = (128, 128), 32, 0.65, 3
SCENE, CAMERA = reference_scene(SHAPE, 6, seed=4), reference_camera()
TIMES_S = 100.0 + 0.01 * np.arange(FRAMES)
MODEL = Localizer.load(reference_model("live"), "cpu").card.id


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [
        Frame(CAMERA.expose(SCENE.render(time_s, 0.009, 0.0), n), FIRST + n, float(time_s), "simulation", 0.0)
        for n, time_s in enumerate(TIMES_S)
    ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(load_settings(command_line={"data_dir": tmp_path}, environment={}).database)
    store.migrate()
    yield store
    store.close()


def add_run(
    store: Store,
    folder: Path,
    frames: list[Frame],
    name: str = "run",
    *,
    examined: bool = True,
    shard_frames: int = FRAMES,
) -> str:
    """A run whose frames were recorded, and tracked without a fit."""
    tracking = TrackingPart(fit="off")
    recording = Recording(folder / f"{name}.ome.zarr", SHAPE, PIXEL_UM, 0.01, shard_frames, {})
    times = FrameTimes(np.array([frame.index for frame in frames]), np.array([frame.time_s for frame in frames]))
    for first in range(0, len(frames), shard_frames):
        part = slice(first, first + shard_frames)
        some = FrameTimes(times.numbers[part], times.times_s[part])
        recording.append([frame.pixels for frame in frames[part]], some)
    settings = {"tracking": tracking.record()}
    store.runs.create(run_id=name, model_id=MODEL, record=True, recording=f"{name}.ome.zarr", settings=settings)
    store.frames.commit(name, [(0, times)])
    analyzer = Analyzer(Localizer.load(reference_model("live"), "cpu"), tracking.tracker(), tracking.candidates_from)
    results = list(analyzer.analyze(frames))
    ledger = LedgerCounts(FIRST + FRAMES, FRAMES, FIRST, FRAMES, FRAMES, 0, 0).as_dict()
    store.append(
        name,
        ResultBatch(
            Localizations.concatenate(result.found for result in results),
            Tracks.concatenate(result.state.rows() for result in results),
            (0.0, float(TIMES_S[-1] - TIMES_S[0])),
            analysed=times,
            model_id=MODEL,
        ),
        ledger,
    )
    store.runs.finish(name, ledger=ledger, smooth=False)
    if examined:
        assert not store.catch_ups.examine(name)
    return name


def run_again(store: Store, folder: Path, run: str, **request: Any) -> dict[str, Any]:
    done: list[tuple[int, int]] = []
    asked = {"run": run, "model": None, "tracking": None} | request
    made = reprocess(store, Library(folder, None), folder, asked, lambda *progress: done.append(progress))
    assert done[-1] == (2 * FRAMES, 2 * FRAMES)
    return made


def tracks_of(store: Store, run: str) -> Tracks:
    return store.tracks.read(store.tracks.select(run))


def test_the_images_give_better_tracks_as_the_next_revision(store: Store, tmp_path: Path, frames: list[Frame]) -> None:
    run = add_run(store, tmp_path, frames)
    before = tracks_of(store, run)
    made = run_again(store, tmp_path, run, tracking={"fit": "auto"})
    assert made == {"run": run, "revision": 2, "frames": FRAMES}
    item = store.runs.get(run)
    assert item.revision == 2
    assert item.revisions[-1]["form"] == "smoothed"
    assert item.revisions[-1]["model_ids"] == [MODEL]
    assert item.revisions[-1]["tracking"]["fit"] == "auto"
    after, scores = tracks_of(store, run), []
    for table in (before, after):
        score = Score()
        for n in range(8, FRAMES):
            its = table.select(table.frame == FIRST + n)
            places = np.column_stack([its.x_um, its.y_um, its.z_um])
            score += score_frame(places, SCENE.truth(float(TIMES_S[n]), 0.0)[:, 1:4])
        scores.append((score.jaccard or 0.0, score.rmse_um or np.inf))
    assert scores[1][0] >= scores[0][0]
    assert scores[1][1] < 0.8 * scores[0][1]
    # Times count from the same frame, and tracks that were there live keep their numbers.
    assert after.t_s.min() == pytest.approx(0.0, abs=0.05)
    assert set(before.track_id) & set(after.track_id)


def test_without_the_fit_it_is_the_smoothed_revision(store: Store, tmp_path: Path, frames: list[Frame]) -> None:
    run = add_run(store, tmp_path, frames)
    run_again(store, tmp_path, run)
    tracking = TrackingPart.of_record(store.runs.get(run).revisions[-1]["tracking"])
    assert tracking.fit == "off"
    assert len(tracks_of(store, run)) > FRAMES
    run_again(store, tmp_path, run)
    assert store.runs.get(run).revision == 3


def test_runs_that_cannot_be_read_again_are_refused(store: Store, tmp_path: Path, frames: list[Frame]) -> None:
    store.runs.create(run_id="on", model_id=MODEL, record=True, recording="on.ome.zarr", settings={})
    with pytest.raises(InUse, match="Run on is on"):
        run_again(store, tmp_path, "on")
    store.runs.create(run_id="bare", model_id=MODEL, record=False, recording=None, settings={})
    store.runs.finish("bare", ledger=LedgerCounts(0, 0, 0, 0, 0, 0, 0).as_dict(), smooth=False)
    with pytest.raises(InUse, match="bare has no recording"):
        run_again(store, tmp_path, "bare")
    run = add_run(store, tmp_path, frames)
    with pytest.raises(DataError, match="published tracker"):
        run_again(store, tmp_path, run, tracking={"preset": "published"})
    with pytest.raises(UnknownItem):
        run_again(store, tmp_path, run, model="gone")
    with pytest.raises(UnknownItem):
        run_again(store, tmp_path, "unknown")
    assert store.runs.get(run).revision == 1
    with pytest.raises(InUse, match="are being computed") as refused:
        run_again(store, tmp_path, add_run(store, tmp_path, frames, "fresh", examined=False))
    assert "run_smoothed" in refused.value.remedy

"""Runs reprocessed in blocks: in this process and on a Dask cluster, in one go and continued."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bathyscope_errors import BathyscopeError
from hardware.microscope import Frame
from models.errors import DataError
from models.tables import Localizations, TrackEvents, Tracks
from service.files.library import Library
from service.files.recording import RecordedImage, shard_path
from service.reprocess import dask_workforce
from service.reprocess.columns import read_rows
from service.reprocess.dask_workforce import DaskWorkforce
from service.reprocess.results import write_tables
from service.reprocess.sources import Source, recording_source, run_source
from service.reprocess.work import Assignment, work_through
from service.reprocess.work_folder import LINK, WorkFolder, is_finished, localize_step
from service.reprocess.workforce import InThisProcess, Workforce, steps_of
from service.settings import load_settings
from service.store.store import Store
from service.tracking_settings import TrackingPart
from tests.conftest import need
from tests.service.jobs.test_reprocessing import CAMERA, FIRST, FRAMES, SCENE, TIMES_S, add_run

KINDS: dict[str, Any] = {"localizations": Localizations, "tracks": Tracks, "events": TrackEvents}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with one run, in shards of 8 frames."""
    folder = tmp_path_factory.mktemp("data")
    frames = [
        Frame(CAMERA.expose(SCENE.render(time_s, 0.009, 0.0), n), FIRST + n, float(time_s), "simulation", 0.0)
        for n, time_s in enumerate(TIMES_S)
    ]
    store = Store.open(load_settings(command_line={"data_dir": folder}, environment={}).database)
    store.migrate()
    add_run(store, folder, frames, shard_frames=8)
    store.close()
    return folder


@pytest.fixture
def store(data: Path) -> Iterator[Store]:
    store = Store.open(load_settings(command_line={"data_dir": data}, environment={}).database)
    yield store
    store.close()


def source_of(store: Store, data: Path, *, least: int = 8, light: str = "off") -> Source:
    source = run_source(
        store, Library(data, None), data, {"run": "run", "model": None, "tracking": None}, device="cpu", least=least
    )
    return Source(replace(source.recipe, static_light=light), source.recorded, source.live)  # type: ignore[arg-type]


def compute(
    source: Source, place: Path, workforce: Workforce | None = None
) -> tuple[dict[str, BathyscopeError], list[int]]:
    """Work through a source; the errors, and the numbers of frames that were reported."""
    folder, done = WorkFolder(place), list[int]()
    folder.begin(source.recipe, source.recorded, source.live)
    assignment = Assignment(folder, source.recipe, lambda: None)
    errors = work_through([assignment], workforce or InThisProcess(), lambda count, _total: done.append(count))
    return dict(errors), done


def lights_of(source: Source, place: Path) -> list[tuple[float, float]]:
    """Error and brightness of the static light of each frame."""
    blocks = [WorkFolder(place).lights(block.number, CAMERA) for block in source.recipe.blocks]
    lights = [light for block in blocks for light in block]
    return [(0.0, 1.0) if light is None else (light.light.doubt_e2, light.factor) for light in lights]


def tables(place: Path) -> dict[str, Any]:
    return {name: read_rows(place / f"{name}.parquet", kind).columns() for name, kind in KINDS.items()}


def assert_same(one: Path, other: Path) -> None:
    for name, columns in tables(other).items():
        for column, values in tables(one)[name].items():
            np.testing.assert_array_equal(values, columns[column], err_msg=f"{name} {column}")


@pytest.mark.parametrize("light", ["off", "on"])
def test_the_size_of_the_blocks_does_not_matter(store: Store, data: Path, tmp_path: Path, light: str) -> None:
    whole, parts = source_of(store, data, least=64, light=light), source_of(store, data, light=light)
    assert (len(whole.recipe.blocks), len(parts.recipe.blocks)) == (1, 4)
    for source, place in ((whole, tmp_path / "whole"), (parts, tmp_path / "parts")):
        errors, done = compute(source, place)
        assert errors == {}
        assert done == sorted(done)
        assert done[-1] == 2 * FRAMES
    assert_same(tmp_path / "whole", tmp_path / "parts")
    if light == "on":
        one, other = lights_of(whole, tmp_path / "whole"), lights_of(parts, tmp_path / "parts")
        assert one == other
        assert max(doubt_e2 for doubt_e2, _ in one) > 0
    found = read_rows(tmp_path / "parts" / "localizations.parquet", Localizations)
    assert len(found) > FRAMES
    if light == "off":  # those of the live analysis, which the database keeps as float32
        for name, values in store.localizations.read("run").columns().items():
            np.testing.assert_array_equal(values.astype(np.float32), getattr(found, name).astype(np.float32))


def test_what_is_done_is_not_computed_again(store: Store, data: Path, tmp_path: Path) -> None:
    source, place = source_of(store, data), tmp_path / "work"
    compute(source, place)
    before = {path.name: path.stat().st_mtime_ns for path in place.glob("*.json")}
    kept = {name: columns["frame"].copy() for name, columns in tables(place).items()}
    (place / f"{localize_step(1)}.json").unlink()  # its file was written, its record was not
    with (place / f"{localize_step(2)}.parquet").open("ab") as file:
        file.write(b"damage")
    (place / f"{LINK}.json").unlink()
    compute(source, place)
    after = {path.name: path.stat().st_mtime_ns for path in place.glob("*.json")}
    again = {name for name, time_ns in after.items() if before.get(name) != time_ns}
    assert again == {f"{localize_step(1)}.json", f"{localize_step(2)}.json", f"{LINK}.json", "manifest.json"}
    for name, frames in kept.items():
        np.testing.assert_array_equal(frames, tables(place)[name]["frame"])
    assert not list(place.glob(".*"))


def test_a_step_that_is_done_is_left_out(store: Store, data: Path, tmp_path: Path) -> None:
    """As when a Dask scheduler gives a step to a second worker."""
    source, place = source_of(store, data, light="on"), tmp_path / "work"
    compute(source, place)
    before = {path: path.stat().st_mtime_ns for path in place.iterdir()}
    for step in steps_of(place, source.recipe):
        step.function(str(place), step.block, None)
    assert {path: path.stat().st_mtime_ns for path in place.iterdir()} == before


def test_work_of_other_settings_is_begun_anew(store: Store, data: Path, tmp_path: Path) -> None:
    source, folder = source_of(store, data), WorkFolder(tmp_path / "work")
    assert not folder.begin(source.recipe, source.recorded, iter(()))
    (folder.path / "found-000000.json").write_text("{}")
    assert folder.begin(source.recipe, source.recorded, iter(()))
    assert not folder.begin(replace(source.recipe, start_s=1.0), source.recorded, iter(()))
    assert not (folder.path / "found-000000.json").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("mine")
    with pytest.raises(DataError, match="no work of a reprocessing"):
        WorkFolder(tmp_path / "other").begin(source.recipe, source.recorded, iter(()))
    with pytest.raises(DataError, match="at the same path"):
        WorkFolder(tmp_path / "nowhere").recipe()


def test_tables_and_manifest_are_the_result(store: Store, data: Path, tmp_path: Path) -> None:
    source, out = source_of(store, data, light="on"), tmp_path / "out" / "run"
    compute(source, tmp_path / "work")
    write_tables(WorkFolder(tmp_path / "work"), source.recipe, out)
    assert is_finished(out, source.recipe.digest)
    assert not is_finished(out, "0" * 64)
    assert sorted(path.name for path in out.iterdir()) == [
        "events.parquet", "localizations.parquet", "manifest.json", "tracks.parquet",
    ]  # fmt: skip
    manifest = json.loads((out / "manifest.json").read_text())
    assert [step["step"] for step in manifest["steps"]] == [
        step.name for step in steps_of(tmp_path / "work", source.recipe)
    ]
    assert manifest["recipe"]["model_sha256"] == source.recipe.model_sha256
    assert not (tmp_path / "work").exists()
    (tmp_path / "letter").mkdir()
    (tmp_path / "letter" / "mine.txt").write_text("mine")
    compute(source, tmp_path / "work")
    with pytest.raises(DataError, match="is not an output of this kind"):
        write_tables(WorkFolder(tmp_path / "work"), source.recipe, tmp_path / "letter")


def test_a_recording_by_its_path(store: Store, data: Path, tmp_path: Path) -> None:
    known = source_of(store, data)
    source = recording_source(
        data / "run.ome.zarr", Path(known.recipe.model), TrackingPart(fit="off"), "off", device="cpu", least=8
    )
    assert source.recipe.blocks == known.recipe.blocks
    assert source.recipe.frames_sha256 == known.recipe.frames_sha256
    with pytest.raises(DataError, match="no smoothing"):
        recording_source(data / "run.ome.zarr", Path(known.recipe.model), TrackingPart(preset="published"), "off")
    with pytest.raises(DataError, match="cannot be read"):
        recording_source(tmp_path / "none.ome.zarr", Path(known.recipe.model), TrackingPart(), "off")


def test_the_failure_of_one_run_does_not_end_the_others(store: Store, data: Path, tmp_path: Path) -> None:
    sound = source_of(store, data)
    torn = Source(
        replace(sound.recipe, run="torn", recording=str(tmp_path / "torn.ome.zarr")), sound.recorded, iter(())
    )
    shutil.copytree(data / "run.ome.zarr", tmp_path / "torn.ome.zarr")
    shard_path(tmp_path / "torn.ome.zarr" / "0", 2).unlink()
    finished: list[str] = []
    assignments = []
    for source in (torn, sound):
        folder = WorkFolder(tmp_path / source.recipe.run)
        folder.begin(source.recipe, source.recorded, source.live)
        name = source.recipe.run
        assignments.append(Assignment(folder, source.recipe, lambda name=name: finished.append(name)))  # type: ignore[misc]
    errors = work_through(assignments, InThisProcess(), lambda _done, _total: None)
    assert finished == ["run"]
    assert list(errors) == ["torn"]
    assert "file of the recording is missing" in errors["torn"].problem


def test_another_model_or_version_is_refused(store: Store, data: Path, tmp_path: Path) -> None:
    source = source_of(store, data)
    other = Source(replace(source.recipe, model_sha256="0" * 64), source.recorded, iter(()))
    errors, _ = compute(other, tmp_path / "other")
    assert "the reprocessing began with 000000000000" in errors["run"].problem
    older = Source(replace(source.recipe, version="0.0.1"), source.recorded, iter(()))
    errors, _ = compute(older, tmp_path / "older")
    assert "was started with 0.0.1" in errors["run"].problem


def test_numbers_of_a_recording_that_are_gone(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "run.ome.zarr", tmp_path / "bare.ome.zarr")
    assert RecordedImage(tmp_path / "bare.ome.zarr").recorded().frames.numbers.tolist() == [
        *range(FIRST, FIRST + FRAMES)
    ]
    shutil.rmtree(tmp_path / "bare.ome.zarr" / "frame")
    with pytest.raises(DataError, match="Numbers and times"):
        RecordedImage(tmp_path / "bare.ome.zarr").recorded()


def test_a_cluster_gives_the_same_tables(store: Store, data: Path, tmp_path: Path) -> None:
    distributed = need("distributed")
    source, notes = source_of(store, data, light="on"), list[str]()
    compute(source_of(store, data, light="on"), tmp_path / "here")
    options: dict[str, Any] = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster:
        workforce = DaskWorkforce(lambda: distributed.Client(cluster, set_as_default=False), 0.0, notes.append)
        errors, done = compute(source, tmp_path / "there", workforce)
        assert errors == {}
        assert done[-1] == 2 * FRAMES
        torn = Source(replace(source.recipe, model_sha256="1" * 64), source.recorded, iter(()))
        errors, _ = compute(torn, tmp_path / "torn", workforce)
        assert "the reprocessing began with" in errors["run"].problem
        workforce.close()
    assert_same(tmp_path / "here", tmp_path / "there")
    assert notes == []


def test_a_scheduler_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    need("distributed")
    monkeypatch.setattr(dask_workforce, "_ANSWER_S", 0.2)
    with (
        pytest.raises(DataError, match=r"scheduler does not answer .* what is done is kept"),
        dask_workforce.scheduler_at("tcp://127.0.0.1:9", 0.1, lambda _text: None),
    ):
        pass


def test_without_dask_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(DataError, match=r"bathyscope\[cluster\]"), dask_workforce.local_cluster(2, lambda _text: None):
        pass

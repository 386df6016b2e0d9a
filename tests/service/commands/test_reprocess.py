"""``bathyscope reprocess``: runs into their next revision or into tables, and recordings by their paths."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import pytest

from hardware.microscope import Frame
from models.table_files import read_table
from models.tables import Tracks
from models.weights import reference_model
from service.commands.application import main
from service.reprocess.work_folder import is_finished
from service.store.store import Store
from tests.s3_server import BUCKET, S3Server
from tests.service.jobs.test_reprocessing import CAMERA, FIRST, FRAMES, SCENE, TIMES_S, add_run

RUNS = ("one", "two")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    frames = [
        Frame(CAMERA.expose(SCENE.render(time_s, 0.009, 0.0), n), FIRST + n, float(time_s), "simulation", 0.0)
        for n, time_s in enumerate(TIMES_S)
    ]
    with closing(Store.open(folder / "bathyscope.db")) as store:
        store.migrate()
        for name in RUNS:
            add_run(store, folder, frames, name)
    return folder


def reprocess(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "reprocess", *map(str, arguments), "--device", "cpu"])
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_runs_get_their_next_revision(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path
) -> None:
    assert reprocess(monkeypatch, *RUNS, "--data", data, "--workers", 0) == 0
    said = capsys.readouterr().err
    assert f"2 recordings, {2 * FRAMES} frames." in said
    with closing(Store.open(data / "bathyscope.db")) as store:
        for name in RUNS:
            assert f"{name}: revision 2, from {FRAMES} recorded frames." in said
            made = store.runs.get(name).revisions[-1]
            assert (made["form"], made["tracking"]["fit"]) == ("smoothed", "off")
            assert len(store.tracks.read(store.tracks.select(name))) > FRAMES
    assert not list((data / "reprocess").glob("*/*"))


def test_tables_of_a_run_and_of_a_recording(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    options = ["--workers", 0, "--out", tmp_path / "out", "--fit", "off"]
    model = reference_model("live")
    assert reprocess(monkeypatch, "one", "--data", data, *options) == 0
    by_path = ["--model", model, "--static-light", "off"]
    assert reprocess(monkeypatch, data / "two.ome.zarr", *by_path, *options) == 0
    for name in RUNS:
        assert is_finished(tmp_path / "out" / name)
        assert len(read_table(tmp_path / "out" / name / "tracks.parquet", Tracks)) > FRAMES
    capsys.readouterr()
    assert reprocess(monkeypatch, "one", "--data", data, *options) == 0
    assert "of this recording, model and settings already" in capsys.readouterr().err


def test_a_recording_on_a_server_gives_the_same_tables(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    options = ["--model", reference_model("live"), "--workers", 0, "--fit", "off", "--static-light", "off"]
    assert reprocess(monkeypatch, data / "two.ome.zarr", *options, "--out", tmp_path / "path") == 0
    server = S3Server(monkeypatch)
    try:
        server.files.put(str(data / "two.ome.zarr"), f"{BUCKET}/two.ome.zarr", recursive=True)
        url = f"s3://{BUCKET}/two.ome.zarr"
        assert reprocess(monkeypatch, url, *options, "--out", tmp_path / "url") == 0
    finally:
        server.close()
    for name in ("tracks", "localizations", "events"):
        one, other = (tmp_path / place / "two" / f"{name}.parquet" for place in ("path", "url"))
        assert one.read_bytes() == other.read_bytes()
    assert reprocess(monkeypatch, url, *options, "--out", tmp_path / "away") == 1
    assert "Check the network" in capsys.readouterr().err
    assert reprocess(monkeypatch, "ftp://host/a.ome.zarr", *options, "--out", tmp_path / "away") == 2


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["nobody"], 1, "no run 'nobody'"),
        (["one", "--model", "nothing"], 1, "nothing"),
        (["one", "--workers", "1", "--scheduler", "tcp://127.0.0.1:9"], 2, "leave --workers out"),
        (["one", "--static-light", "on"], 2, "a run has its own"),
        (["a.ome.zarr", "--out", "x"], 2, "needs --model"),
        (["a.ome.zarr", "--model", "x"], 2, "needs --out"),
        (["a/r.ome.zarr", "b/r.ome.zarr", "--model", "x", "--out", "y"], 2, "the name of two"),
        (["a.ome.zarr", "--model", "x", "--out", "y"], 1, "a.ome.zarr cannot be read"),
        (["one", "--scheduler", "nonsense"], 1, "nonsense"),
    ],
)
def test_what_cannot_be_done_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    data: Path,
    tmp_path: Path,
    arguments: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = [*arguments, "--data", data] if "--model" not in arguments or "one" in arguments else arguments
    assert reprocess(monkeypatch, *given, "--patience-s", "1") == status
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
    assert not list(tmp_path.iterdir())

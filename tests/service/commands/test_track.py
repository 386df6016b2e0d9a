"""The command `track`, as a user runs it."""

from __future__ import annotations

import json
import resource
import shutil
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
import tifffile
import typer
from typer.testing import CliRunner, Result

from hardware.microscope import Frame
from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.table_files import read_table, write_table
from models.tables import Localizations, TrackEvents, Tracks
from models.tracking import MOST_IN_A_FRAME
from models.tracking.fixed_lag import FixedLag
from models.tracking.image_tracker import one_thread
from models.weights import reference_model
from service.analysis.analyzer import Analyzer
from service.commands import track
from service.tracking_settings import TrackingPart


def _run(*arguments: Any) -> Result:
    application = typer.Typer()
    application.command()(track.run)
    return CliRunner().invoke(application, [str(argument) for argument in arguments])


@pytest.fixture
def localizations(tmp_path: Path) -> Path:
    frames = np.arange(30)
    columns: dict[str, Any] = {name: np.full(30, 0.5) for name in Localizations.names()}
    columns |= {"frame": frames, "x_um": 10 + 0.4 * frames, "z_um": np.full(30, 50.0)}
    path = tmp_path / "found.csv"
    write_table(path, Localizations.from_columns(columns))
    return path


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tracks_are_written(localizations: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / "new" / f"tracks.{suffix}"
    for _ in range(2):  # the second run replaces the first one's output
        done = _run(localizations, "--fps", 100, "--out", out)
        assert done.exit_code == 0, done.output
        assert "1 tracks with 29 points" in done.stderr
    tracks = read_table(out, Tracks)
    assert set(tracks.track_id) == {1}
    assert tracks.t_s[-1] == pytest.approx(0.29)
    assert tracks.vx_um_s[-1] == pytest.approx(40, abs=4)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


@pytest.mark.parametrize(
    "arguments", [*(("--fps", rate) for rate in ("0", "-1", "nan", "inf", "1e9", "1e-300", "fast")), ()]
)
def test_wrong_usage_is_status_2(localizations: Path, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert _run(localizations, *arguments, "--out", tmp_path / "tracks.csv").exit_code == 2


def test_wrong_suffix_is_status_2(localizations: Path, tmp_path: Path) -> None:
    assert _run(localizations, "--fps", 100, "--out", tmp_path / "tracks.xlsx").exit_code == 2


def test_bad_input_fails_and_leaves_nothing(localizations: Path, tmp_path: Path) -> None:
    localizations.write_text(localizations.read_text().replace("50", "deep", 1))
    out = tmp_path / "tracks.csv"
    failed = _run(localizations, "--fps", 100, "--out", out)
    assert failed.exit_code == 1
    assert isinstance(failed.exception, DataError)
    assert "row 1" in str(failed.exception)
    assert [path.name for path in tmp_path.iterdir()] == [localizations.name]


@pytest.mark.parametrize("form", [(), ("--smooth",)])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_merges_and_splits_are_written(tmp_path: Path, suffix: str, form: tuple[str, ...]) -> None:
    frames = np.arange(200)
    # Two that meet in frame 60 and stay together, and some that stand far away.
    pair = [np.column_stack([40 + sign * 0.3 * np.maximum(60 - frames, 0), frames * 0 + 40.0]) for sign in (-1, 1)]
    alone = [np.column_stack([frames * 0 + 30.0 * column, frames * 0 + 150.0]) for column in range(6)]
    parts = [(frames, pair[0]), (frames[:57], pair[1][:57]), *((frames, path) for path in alone)]
    rows = np.concatenate([np.column_stack([numbers, places]) for numbers, places in parts])
    rows[:, 1:] += np.random.default_rng(1).normal(0, 0.05, (len(rows), 2))
    columns: dict[str, Any] = {name: np.full(len(rows), 0.9) for name in Localizations.names()}
    columns |= {f"sigma_{axis}_um": np.full(len(rows), 0.1) for axis in "xyz"}
    columns |= {"frame": rows[:, 0], "x_um": rows[:, 1], "y_um": rows[:, 2], "z_um": np.full(len(rows), 30.0)}
    write_table(tmp_path / "found.csv", Localizations.from_columns(columns))
    events = tmp_path / f"events.{suffix}"
    for _ in range(2):  # the second run replaces the first one's output
        out = tmp_path / "tracks.csv"
        done = _run(tmp_path / "found.csv", "--fps", 100, "--out", out, "--events", events, *form)
        assert done.exit_code == 0, done.output
        assert "1 merges and 0 splits" in done.stderr
    table = pyarrow.csv.read_csv(events) if suffix == "csv" else pyarrow.parquet.read_table(events)
    (event,) = table.to_pylist()
    assert list(event) == list(TrackEvents.names())
    assert (event["kind"], event["frame"]) == ("merge", 57)
    assert {event["track_id"], event["other_id"]} <= set(read_table(out, Tracks).track_id)
    assert event["x_um"] == pytest.approx(40, abs=1.5)


def test_a_foreign_file_is_not_replaced(localizations: Path) -> None:
    before = localizations.read_bytes()
    failed = _run(localizations, "--fps", 100, "--out", localizations)
    assert failed.exit_code == 1
    assert "is not an output of this kind" in str(failed.exception)
    assert localizations.read_bytes() == before


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_of_another_program_gives_the_same_tracks(localizations: Path, tmp_path: Path, suffix: str) -> None:
    """A pandas index, frames as 0.0, blanks after commas and another column."""
    assert _run(localizations, "--fps", 100, "--out", tmp_path / "right.csv").exit_code == 0
    header, *rows = localizations.read_text().splitlines()
    lines = [f",{header},w".replace(",", ", ")]
    lines += [f"{place},{row.replace(',', '.0,', 1)},7".replace(",", ", ") for place, row in enumerate(rows)]
    localizations.write_text("\n".join(lines) + "\n")
    done = _run(localizations, "--fps", 100, "--out", tmp_path / "tracks.csv")
    assert done.exit_code == 0, done.output
    assert "the columns one without a name, 'w' are ignored" in done.stderr
    assert (tmp_path / "tracks.csv").read_bytes() == (tmp_path / "right.csv").read_bytes()


def test_frames_far_apart_take_no_longer_than_near_ones(localizations: Path, tmp_path: Path) -> None:
    found = read_table(localizations, Localizations)
    columns = found.columns()
    columns["frame"][15:] += 10**12 - 100
    write_table(localizations, Localizations.from_columns(columns))
    out = tmp_path / "tracks.csv"
    assert _run(localizations, "--fps", 100, "--out", out).exit_code == 0
    tracks = read_table(out, Tracks)
    assert set(tracks.track_id) == {1, 2}
    # The first one is shown for a few frames more, while its position is certain, and not for 10^12.
    assert 14 <= np.count_nonzero(tracks.track_id == 1) <= 14 + 10


def test_times_that_contradict_the_rate_are_refused(localizations: Path, tmp_path: Path) -> None:
    header, *rows = localizations.read_text().splitlines()
    localizations.write_text("\n".join([f"{header},t_s", *(f"{row},{n / 100}" for n, row in enumerate(rows))]))
    out = tmp_path / "tracks.csv"
    failed = _run(localizations, "--fps", 50, "--out", out)
    assert failed.exit_code == 1
    assert "--fps is 50, but the column t_s" in str(failed.exception)
    assert "gives 100 frames per second" in str(failed.exception)
    assert not out.exists()
    assert _run(localizations, "--fps", 100, "--out", out).exit_code == 0


def test_a_frame_with_too_many_localizations_is_refused(localizations: Path, tmp_path: Path) -> None:
    rows = MOST_IN_A_FRAME + 1
    columns: dict[str, Any] = {name: np.full(rows, 0.5) for name in Localizations.names()}
    columns |= {"frame": np.zeros(rows, np.int64), "x_um": np.arange(rows) * 0.1}
    write_table(localizations, Localizations.from_columns(columns))
    failed = _run(localizations, "--fps", 50, "--out", tmp_path / "tracks.csv")
    assert failed.exit_code == 1
    assert "Frame 0 has 100001 localizations" in str(failed.exception)
    assert "Check the column of frame numbers" in str(failed.exception)


@pytest.mark.parametrize("rows", [0, 1])
def test_tables_of_no_row_and_of_one(localizations: Path, tmp_path: Path, rows: int) -> None:
    localizations.write_text("\n".join(localizations.read_text().splitlines()[: rows + 1]))
    done = _run(localizations, "--fps", 50, "--out", tmp_path / "tracks.csv")
    assert done.exit_code == 0
    assert "0 tracks with 0 points" in done.stderr
    assert len(read_table(tmp_path / "tracks.csv", Tracks)) == 0


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_full_disk_keeps_the_earlier_output(localizations: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"tracks.{suffix}"
    assert _run(localizations, "--fps", 100, "--out", out).exit_code == 0
    before = out.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files end there, where writing fails as on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limit[1]))
    try:
        failed = _run(localizations, "--fps", 100, "--out", out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert failed.exit_code == 1
    assert str(failed.exception).startswith(f"There is no room for {out}")
    assert out.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {localizations.name, out.name}


def test_settings_of_the_tracker(localizations: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "tracks.csv", tmp_path / "bathyscope.toml"
    file.write_text("[tracking]\ncoast_frames = 3\n[engine]\nbatch = 4\n")
    found = read_table(localizations, Localizations)
    write_table(localizations, found.select((found.frame < 15) | (found.frame > 20)))
    assert _run(localizations, "--fps", 100, "--out", out, "--settings", file).exit_code == 0
    assert set(read_table(out, Tracks).track_id) == {1, 2}
    assert _run(localizations, "--fps", 100, "--out", out).exit_code == 0
    assert set(read_table(out, Tracks).track_id) == {1}
    done = _run(localizations, "--fps", 100, "--out", out, "--preset", "published")
    assert done.exit_code == 0
    assert read_table(out, Tracks).frame[0] == 0
    for text, words in (
        ("[tracking]\ncoast_frame = 3\n", "Did you mean tracking.coast_frames"),
        ("[tracking]\nstep_um = -3\n", "greater than or equal to 0.001"),
        ("[tracking]\npreset = 'published'\nstep_um = 3\n", "published"),
    ):
        file.write_text(text)
        failed = _run(localizations, "--fps", 100, "--out", out, "--settings", file)
        assert failed.exit_code == 1
        assert words in str(failed.exception)
    failed = _run(localizations, "--fps", 100, "--out", out, "--preset", "fast")
    assert "'default' or 'published'" in str(failed.exception)


def test_smoothed_tracks(localizations: Path, tmp_path: Path) -> None:
    out = tmp_path / "tracks.csv"
    found = read_table(localizations, Localizations)
    write_table(localizations, found.select((found.frame < 15) | (found.frame > 20)))
    assert _run(localizations, "--fps", 100, "--out", out, "--smooth").exit_code == 0
    tracks = read_table(out, Tracks)
    assert tracks.frame.tolist() == list(range(30))
    assert tracks.observed.sum() == 24
    failed = _run(localizations, "--fps", 100, "--out", out, "--smooth", "--preset", "published")
    assert "has no smoothing" in str(failed.exception)


@pytest.mark.parametrize("fit", ["auto", "off"])
def test_a_movie_is_tracked_as_live(tmp_path: Path, fit: Literal["auto", "off"]) -> None:
    """The same frames and times give the same tables, from candidates below the threshold too."""
    camera, scene = reference_camera(), reference_scene(seed=5)
    counts = np.stack([camera.expose(scene.render(0.01 * n, 0.009, 0.0), n) for n in range(24)])
    movie, kept, out = tmp_path / "movie.ome.tif", tmp_path / "found.csv", tmp_path / "tracks.parquet"
    tifffile.imwrite(movie, counts, ome=True, metadata={"axes": "TYX"})
    folder = reference_model("live")
    arguments = ("--model", folder, "--fps", 100, "--device", "cpu", "--localizations", kept, "--fit", fit)
    done = _run(movie, *arguments, "--out", out)
    assert done.exit_code == 0, done.output
    assert "Camera taken from the model" in done.output
    tracking = TrackingPart(fit=fit)
    localizer = Localizer.load(folder, "cpu")
    analyzer = Analyzer(localizer, tracking.tracker(localizer.image_model), tracking.candidates_from)
    frames = [Frame(its, n, n / 100, "simulation", 0.0) for n, its in enumerate(counts)]
    live, lag, stored = [], FixedLag(tracking.lag_frames), []
    with one_thread():
        for first in range(0, len(frames), 16):
            batch = frames[first : first + 16]
            live += analyzer.analyze(batch)
            stored.append(lag.add([result.state for result in live[first:]]))
    expected, written = Tracks.concatenate([*stored, lag.finish()]), read_table(out, Tracks)
    assert len(expected) > 20
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(written, name), column, err_msg=name)
    assert _run(movie, *arguments, "--out", out, "--smooth-lag-frames", 0).exit_code == 0
    shown, written = Tracks.concatenate(result.state.rows() for result in live), read_table(out, Tracks)
    np.testing.assert_array_equal(written.x_um, shown.x_um)
    assert not np.array_equal(shown.x_um, expected.x_um)
    # What a run keeps is from the threshold on, or of a shown track; each shown localization is kept.
    own, found = read_table(kept, Localizations), Localizations.concatenate(result.found for result in live)
    if fit == "auto":
        np.testing.assert_array_equal(own.x_um, found.x_um)
        assert np.isfinite(own.chi2).mean() > 0.9
    else:
        assert own.probability.min() < localizer.threshold
        assert np.isnan(own.chi2).all()
    for result in live:
        own = np.zeros(len(result.found), bool)
        own[result.state.localization[result.state.observed]] = True
        assert np.all(own | (result.found.probability >= localizer.threshold))


def test_another_rate_than_the_movie_states_is_reported(tmp_path: Path) -> None:
    movie = tmp_path / "movie.ome.tif"
    frames = np.full((3, 64, 64), 100, np.uint16)
    tifffile.imwrite(movie, frames, ome=True, metadata={"axes": "TYX", "TimeIncrement": 0.01, "TimeIncrementUnit": "s"})
    arguments = ("--model", reference_model("live"), "--device", "cpu", "--out", tmp_path / "tracks.csv")
    said = f"Note: {movie} states 100 frames per second; --fps 50 is used."
    done = _run(movie, *arguments, "--fps", 50)
    assert (done.exit_code, said in done.output) == (0, True), done.output
    assert "is used" not in _run(movie, *arguments, "--fps", 100.5).output


def test_what_a_movie_needs(localizations: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "tracks.csv")
    assert _run(tmp_path / "movie.tif", "--fps", 100, *out).exit_code == 2
    assert _run(localizations, "--model", tmp_path, "--fps", 100, *out).exit_code == 2
    assert _run(localizations, *out).exit_code == 2


def test_a_fitted_movie_is_smoothed(tmp_path: Path) -> None:
    camera, scene = reference_camera(), reference_scene((128, 128), 6, seed=5)
    movie, out, events = tmp_path / "movie.ome.tif", tmp_path / "tracks.csv", tmp_path / "events.csv"
    counts = np.stack([camera.expose(scene.render(0.01 * n, 0.009, 0.0), n) for n in range(20)])
    tifffile.imwrite(movie, counts, ome=True, metadata={"axes": "TYX"})
    arguments = ("--model", reference_model("live"), "--fps", 100, "--device", "cpu", "--out", out, "--events", events)
    assert _run(movie, *arguments).exit_code == 0
    live = read_table(out, Tracks)
    assert _run(movie, *arguments, "--smooth").exit_code == 0
    smoothed = read_table(out, Tracks)
    assert len(smoothed) > len(live)
    assert smoothed.frame.min() == 0
    assert smoothed.sigma_z_um.mean() < live.sigma_z_um.mean()


def test_without_a_psf_a_movie_is_tracked_by_its_candidates(tmp_path: Path) -> None:
    folder = shutil.copytree(reference_model("live"), tmp_path / "model")
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**card, "calibration_id": "lost"}))
    movie = tmp_path / "movie.ome.tif"
    tifffile.imwrite(movie, np.full((3, 64, 64), 100, np.uint16), ome=True, metadata={"axes": "TYX"})
    done = _run(movie, "--model", folder, "--fps", 100, "--device", "cpu", "--out", tmp_path / "tracks.csv")
    assert done.exit_code == 0, done.output
    assert "the model has no PSF that can be read" in done.output


def test_the_fit_is_for_movies(localizations: Path, tmp_path: Path) -> None:
    assert _run(localizations, "--fps", 100, "--fit", "off", "--out", tmp_path / "tracks.csv").exit_code == 2

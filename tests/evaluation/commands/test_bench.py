from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from rich.console import Console
from typer.testing import CliRunner

from evaluation.commands.bench import application
from evaluation.methods.registry import MethodMissing
from evaluation.speed import evaluating, fitting
from evaluation.speed.history_rows import HistoryRows
from evaluation.speed.localizing import _frames
from evaluation.speed.movie import render_movie
from evaluation.speed.report import show, show_localizing
from evaluation.speed.runtimes import RuntimeMissing, other_localizer
from hardware.movies import open_movie
from models.errors import DataError
from models.localization import Localizer
from models.scene import reference_camera, reference_scene
from models.tables import Localizations
from models.weights import reference_model
from service.engine.opening import open_instrument
from service.measurement.costs import Costs
from service.settings import load_settings
from service.store.store import Store
from tests.conftest import need

COMMAND = [sys.executable, "-c", "from service.commands.application import main; main()", "bench"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=280, check=False)


def test_live_reports_frames_latency_accuracy_clients_and_cost(tmp_path: Path) -> None:
    done = bench(
        "live", "--size", "64", "--fps", "20", "--emitters", "3", "--seconds", "3", "--clients", "3", "--slow-clients",
        "1", "--history-rps", "5", "--soak", "--data", str(tmp_path / "data"), "--json", str(tmp_path / "out.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "ms from mid-exposure" in done.stdout
    figures = json.loads((tmp_path / "out.json").read_text())
    frames = figures["frames"]
    assert set(frames) == {"exposed", "grabbed", "lost", "recorded", "analysed", "deferred", "skipped"}
    # How much is lost or deferred depends on the machine; that it adds up does not.
    assert frames["exposed"] == frames["grabbed"] + frames["lost"] > 0
    assert frames["grabbed"] == frames["analysed"] + frames["deferred"] + frames["skipped"]
    assert figures["fps"] > 0
    for stage in ("grabbed", "analysed", "tracked", "published"):
        quantiles = figures["latency_ms"][stage]
        assert 0 < quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"] <= quantiles["max"]
    # The shipped model finds most of three bright emitters.
    assert figures["accuracy"]["jaccard"] > 0.4
    assert set(figures["fitted_share"]) == {"full", "steps", "none"}
    assert sum(figures["fitted_share"].values()) == pytest.approx(1, abs=1e-3)
    assert set(figures["accuracy"]) == {"jaccard", "rmse_um", "rmse_lateral_um", "rmse_axial_um"}
    assert set(figures["track_accuracy"]) == set(figures["accuracy"])
    assert figures["rss_mb"] > 100
    assert figures["cpu_percent"] > 0
    assert zarr.open_array(str(Path(figures["recording"]) / "0"), mode="r").shape == (frames["recorded"], 64, 64)
    assert figures["settings"]["time_source"].endswith("(monotonic)")
    assert figures["settings"]["microscope"]["driver"] == "replay"
    assert figures["machine"]["processors"] >= 1
    assert figures["provenance"]["command"].startswith("bathyscope bench live --size 64")
    assert figures["provenance"]["seeds"] == {"scene": 1}

    clients = figures["clients"]
    assert (clients["healthy"], clients["stalled"], clients["broken"]) == (2, 1, 0)
    assert len(clients["messages"]) == 2
    assert min(clients["messages"]) > 0
    assert set(clients["history"]["answers"]) == {"200"}
    assert set(clients["history"]["latency_ms"]) == {"recent", "box", "track"}
    assert {"supervisor", "engine", "api"} <= set(figures["processes"])
    assert all(process["threads"] >= 1 for process in figures["processes"].values())
    engine = figures["soak"]["processes"]["engine"]
    assert set(engine["first"]) == set(engine["last"]) == {"rss_mb", "descriptors", "threads"}
    assert len(engine["samples"]) >= 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("live", "--clients", "2", "--slow-clients", "3"), "3 clients are to be slow, of 2 in all"),
        (("live", "--size", "10"), "--size"),
        (("live", "--microscope", "none"), "--microscope"),
        (("live", "--discard", "--data", "x"), "leave one of them out"),
        (("live", "--history-rps", "-1"), "--history-rps"),
        (("relay", "--scopes", "0"), "--scopes"),
        (("relay", "--viewers", "0"), "--viewers"),
        (("relay", "--fps", "0"), "--fps"),
        (("relay", "--tracks", "-1"), "--tracks"),
        (("relay", "--seconds", "0"), "--seconds"),
        (("relay", "--away", "61"), "--away"),
        (("nothing",), "No such command"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], said: str) -> None:
    done = CliRunner().invoke(application, arguments)
    assert done.exit_code == 2
    assert said in " ".join(done.output.replace("│", " ").split())


def test_an_unreadable_model_is_reported_before_the_service_starts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-model"):
        CliRunner().invoke(application, ["live", "--model", str(tmp_path / "no-model")], catch_exceptions=False)


def test_api_counts_stalled_clients_apart_from_healthy_ones(tmp_path: Path) -> None:
    done = bench(
        "api", "--clients", "6", "--slow-clients", "2", "--fps", "30", "--seconds", "1", "--json",
        str(tmp_path / "out.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    clients = figures["clients"]
    assert (clients["healthy"], clients["stalled"], clients["broken"]) == (4, 2, 0)
    assert len(clients["messages"]) == 4
    assert figures["published_ms"]["p99"] > 0
    assert figures["rss_mb"]["before"] > 10
    refused = bench("api", "--clients", "2", "--slow-clients", "3")
    assert refused.returncode == 2
    assert "raise --clients" in refused.stderr


def test_relay_counts_what_viewers_of_two_scopes_get_and_comes_back_after_a_lost_server(tmp_path: Path) -> None:
    need("nats")
    done = bench(
        "relay", "--scopes", "2", "--viewers", "3", "--fps", "20", "--tracks", "5", "--seconds", "1", "--away", "0.5",
        "--json", str(tmp_path / "out.json"),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert {name: scope["viewers"] for name, scope in figures["scopes"].items()} == {"scope-1": 2, "scope-2": 1}
    assert all(scope["published"] > 0 for scope in figures["scopes"].values())
    assert figures["viewers"]["connected"] == 3
    assert figures["viewers"]["broken"] == figures["server_lost"]["viewers_broken"] == 0
    assert figures["latency_ms"]["p99"] > 0
    assert set(figures["cpu_percent"]) == {"nats", "relay", "senders"}
    assert all(count > 0 for count in figures["server_lost"]["dropped"].values())


def test_history_measures_queries_beside_a_writer_and_keeps_its_run(tmp_path: Path) -> None:
    arguments = (
        "history", "--minutes", "0.2", "--tracks", "5", "--queries", "10", "--data", str(tmp_path / "data"), "--json",
        str(tmp_path / "out.json"),
    )  # fmt: skip
    done = bench(*arguments)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "out.json").read_text())
    assert figures["rows"] == {"points": 6000, "batches": 120, "seconds": 12.0}
    assert figures["database"] == "SQLite"
    assert figures["fill"]["bytes_per_point"] > 50
    assert len(figures["queries"]) == 7
    for times in figures["queries"].values():
        assert 0 < times["p50"] <= times["p95"] <= times["p99"] <= times["max"]
        assert times["kb"] > 0
    # Five tracks of 1000 frames have at least ten bytes a number.
    assert figures["queries"]["window"]["kb"] > 500
    assert figures["writer"]["points_per_s"] > 0
    again = bench(*arguments)
    assert again.returncode == 0, again.stderr
    assert json.loads((tmp_path / "out.json").read_text())["fill"] is None
    store = Store.open(tmp_path / "data" / "bathyscope.db")
    try:
        runs = store.runs.list().items
        assert sorted({run.name for run in runs}) == ["history: 0.2 min, 100 frames/s, 5 tracks", "writer"]
        assert len(runs) == 3
    finally:
        store.close()


def test_the_rows_of_the_history_are_those_of_so_many_tracks() -> None:
    rows = HistoryRows(100.0, 50)
    first, later = rows.batch(0), rows.batch(700)
    for batch in (first, later):
        assert len(batch.tracks) == len(batch.localizations) == 500
        assert len(np.unique(batch.tracks.track_id[batch.tracks.frame == batch.tracks.frame[0]])) == 50
        pairs = {*zip(batch.tracks.track_id.tolist(), batch.tracks.frame.tolist(), strict=True)}
        assert len(pairs) == 500
    # A minute later all tracks are others.
    assert not set(first.tracks.track_id) & set(later.tracks.track_id)
    assert later.t_s == (70.0, 70.09)


def test_history_queries_need_a_client_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(DataError, match="need httpx"):
        CliRunner().invoke(application, ["live", "--history-rps", "5"], catch_exceptions=False)


def test_the_movie_and_its_truth_are_those_of_the_scene(tmp_path: Path) -> None:
    fps, shape = 50.0, (64, 80)
    rendered = render_movie(tmp_path, shape, emitters=4, fps=fps, frames=6, seed=3)
    scene, camera = reference_scene(shape, 4, 3), reference_camera()
    with open_movie(rendered.movie) as movie:
        assert movie.shape == (6, *shape)
        assert movie.frame_period_s == pytest.approx(1 / fps)
        assert movie.pixel_size_um == pytest.approx(scene.pixel_size_um)
        electrons = scene.render(2.5 / fps, 1 / fps, 0.0)
        np.testing.assert_array_equal(movie[2], camera.expose(electrons, 3 + 2))
    settings = load_settings(
        command_line={
            "data_dir": tmp_path,
            "microscope": {
                "driver": "replay",
                "replay": {
                    "movie": rendered.movie, "truth": rendered.truth, "back_and_forth": True, "in_memory": True,
                },
            },
        },
        environment={},
    )  # fmt: skip
    microscope = open_instrument(settings)
    truth = microscope.inner.truth
    for index, place in enumerate((0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 1)):
        np.testing.assert_allclose(truth(index), scene.truth((place + 0.5) / fps, 0.0))
    microscope.close()


def test_costs_are_those_of_each_process() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        costs = Costs({"busy": busy.pid, "this": os.getpid(), "gone": None})
        for _ in range(4):
            time.sleep(0.1)
            costs.sample({"busy": busy.pid, "this": os.getpid(), "gone": None})
        cost, soak = costs.result(), costs.soak()
    finally:
        busy.kill()
        busy.wait()
    assert set(cost) == {"busy", "this"}
    assert cost["busy"]["cpu_percent"] > cost["this"]["cpu_percent"]
    assert cost["this"]["descriptors"] > 0
    assert soak["processes"]["this"]["rss_growth_percent"] == pytest.approx(0, abs=20)
    assert len(soak["processes"]["busy"]["samples"]) == 4


def test_undefined_figures_are_shown_as_such() -> None:
    console = Console(width=200, record=True, file=io.StringIO())
    nothing = dict.fromkeys(("p50", "p95", "p99", "max"))
    show(
        {
            "frames": {"exposed": 0, "lost": None},
            "fps": None,
            "latency_ms": {"grabbed": nothing, "published": None},
            "accuracy": {"jaccard": None},
            "track_accuracy": {"jaccard": None},
            "processes": {},
            "clients": None,
            "settings": {"problem": "The camera is gone."},
        },
        console,
    )
    console.file.close()
    text = console.export_text()
    assert "Problem: The camera is gone." in text
    assert "-" in text


def test_bench_localize_compares_sizes_and_number_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_trunk: object, _maps: object) -> object:
        raise RuntimeError("no compiler\nat all")

    def missing(_trunk: object, _maps: object) -> object:
        return importlib.import_module("no_such_runtime")

    def plain(trunk: Callable[..., object], _maps: object) -> object:
        return lambda maps: trunk(*maps)

    others = {"torch.compile, float32": broken, "OpenVINO, bfloat16": missing, "plain, float32": plain}
    monkeypatch.setattr("evaluation.speed.runtimes.RUNTIMES", others)
    file = tmp_path / "localize.json"
    arguments = ["localize", "--size", "64", "--batch", "1", "--rounds", "2", "--alternatives", "--json", str(file)]
    done = CliRunner().invoke(application, arguments)
    assert done.exit_code == 0, done.output
    figures = json.loads(file.read_text())
    rows = figures["rows"]
    assert figures["provenance"]["seeds"] == {"scene": 1}
    assert {(row["model"], row["runtime"], row["precision"]) for row in rows} >= {
        ("full", "ours", "float32"),
        ("live", "ours", "float32"),
        ("live", "ours", "int8"),
        ("full", "plain", "float32"),
        ("live", "plain", "float32"),
    }
    assert all(row["over_float32"] == 1 for row in rows if (row["runtime"], row["precision"]) == ("ours", "float32"))
    assert all(row["ms_per_frame"] > 0 for row in rows)
    assert figures["missing"] == {
        "torch.compile, float32": "RuntimeError: no compiler",
        "OpenVINO, bfloat16": "no_such_runtime is not installed",
    }
    assert "OpenVINO, bfloat16: not available here, no_such_runtime is not installed" in done.output


@pytest.mark.parametrize(
    ("runtime", "package"),
    [
        ("ONNX Runtime, float32", "onnxruntime"),
        ("OpenVINO, float32", "openvino"),
        ("OpenVINO, bfloat16", "openvino"),
    ],
)
def test_another_runtime_gives_the_same_localizations(runtime: str, package: str) -> None:
    frames = _frames(64, 1)
    if importlib.util.find_spec(package) is None:
        with pytest.raises(RuntimeMissing, match=f"{package} is not installed"):
            other_localizer("live", runtime, frames)
        return
    mine = Localizer.load(reference_model("live"), "cpu", "float32").localize(frames, np.arange(1))
    theirs = other_localizer("live", runtime, frames).localize(frames, np.arange(1))
    np.testing.assert_allclose(theirs.z_um, mine.z_um, atol=0.05)


@pytest.mark.slow
def test_compiled_trunks_give_the_same_localizations() -> None:
    frames = _frames(64, 1)
    mine = Localizer.load(reference_model("live"), "cpu", "float32").localize(frames, np.arange(1))
    for runtime in ("torch.compile, float32", "torch.compile, bfloat16"):
        theirs = other_localizer("live", runtime, frames).localize(frames, np.arange(1))
        np.testing.assert_allclose(theirs.z_um, mine.z_um, atol=0.05)


def test_bench_localize_reports_the_time_of_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fit:
        def __call__(self, counts: NDArray[np.uint16], numbers: NDArray[np.int64]) -> Localizations:
            assert counts.shape == (1, 256, 256)
            sum(range(100_000))
            return Localizations.from_columns({name: [1.0, 0.1] for name in Localizations.names()})

    def make(name: str, *_arguments: object) -> Fit:
        if name == "mle":
            raise MethodMissing("smappy-smlm is not installed.", "Install it.")
        return Fit()

    monkeypatch.setattr(fitting, "make_method", make)
    monkeypatch.setattr(fitting, "_EMITTERS", (2,))
    figures = fitting.measure_fitting(2)
    assert [row["method"] for row in figures["rows"]] == ["cascade", "cascade --refine", "ls", "mle-multi"]
    assert all(row["answers_per_frame"] == 1.0 and row["emitters_per_s"] > 0 for row in figures["rows"])
    assert "smappy" in figures["missing"]["mle"]
    console = Console(width=120)
    with console.capture() as captured:
        show_localizing({"rows": [], "missing": {}, "fits": figures}, console)
    assert "mle: not available here" in captured.get()
    assert "mle-multi" in captured.get()


def test_filter_measures_each_degree_and_the_joint_fit(tmp_path: Path) -> None:
    command = ["filter", "--emitters", "2", "--emitters", "3", "--frames", "1", "--json", str(tmp_path / "out.json")]
    outcome = CliRunner().invoke(application, command)
    assert outcome.exit_code == 0, outcome.output
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))["rows"]
    assert {row["emitters"] for row in rows} == {2, 3}
    degrees = ["tracks alone", "few steps, without search", "few steps", "full, without search", "full"]
    assert [row["degree"] for row in rows[:6]] == [*degrees, "joint fit of single frames"]
    assert all(row["frames"] == 1 and row["mean_ms"] > 0 for row in rows)


def test_bench_fit_compares_cells_with_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluating, "_INFORMATION_DEPTHS_UM", (30.0,))
    monkeypatch.setattr(evaluating, "_PLACES", 1)
    result = CliRunner().invoke(
        application, ["fit", "--emitters", "3", "--rounds", "1", "--json", str(tmp_path / "out.json")]
    )
    assert result.exit_code == 0, result.output
    assert "1, 2 and 4" in result.output
    figures = json.loads((tmp_path / "out.json").read_text())
    assert [row["cells"] for row in figures["rows"]] == ["1, 2 and 4", "1 x 1", "2 x 2", "4 x 4"]
    assert all(row["emitters"] == 3 and 0 < row["least_ms"] <= row["ms"] <= row["most_ms"] for row in figures["rows"])
    sigma_x = {row["cells"]: row["sigma_x"] for row in figures["information"]}
    # The permitted loss is a fifth.
    assert 1.0 <= sigma_x["1, 2 and 4"] < 1.2 < sigma_x["2 x 2"] < sigma_x["4 x 4"]

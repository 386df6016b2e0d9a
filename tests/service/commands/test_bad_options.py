"""Every option of every command, given what it cannot mean: one clear line, status 1 or 2, and nothing left behind.

The options are those of the command line itself, so that a new one is tested as soon as it is there. What would take
long, a training or a service, is replaced by a wire that is tripped when nonsense gets so far.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tifffile
import typer

from models.table_files import write_table
from models.tables import Localizations, Tracks, Truth
from models.weights import reference_model
from service.commands import application as cli
from service.files.model_archive import export_model
from service.store.store import Store
from tests.models.bead_sweeps import simulate
from tests.models.test_training import small_calibration
from tests.service.api_peer import recorded_run
from tests.service.export.samples import stored_run

NUMBERS = ("nan", "inf", "-1", "0", "1e308", "1e-300", "")

MEANT: dict[str, set[str]] = {
    "calibrate --z-start-um": {"-1", "0", "1e-300"},
    "calibrate --focus-um": {"-1", "0", "1e-300"},
    "calibrate --camera-offset-adu": {"-1", "0", "1e-300"},
    "calibrate --read-noise-e": {"0", "1e-300"},
    "calibrate --settle-s": {"0", "1e-300"},
    "localize --camera-offset-adu": {"-1", "0", "1e-300"},
    "localize --read-noise-e": {"0", "1e-300"},
    "track --camera-offset-adu": {"-1", "0", "1e-300"},
    "track --read-noise-e": {"0", "1e-300"},
    "calibrate --z-range-um": {"-1 10", "0 10", "1e-300 10"},
    "evaluate --z-range-um": {"-1 10", "0 10", "1e-300 10"},
    "track --smooth-lag-frames": {"0"},
    "train --seed": {"0"},
    "reproduce --seed": {"0"},
    "bench kills --seed": {"0"},
    "bench live --clients": {"0"},
    "bench live --slow-clients": {"0"},
    "bench live --history-rps": {"0", "1e-300"},
    "bench live --emitters": {"0"},
    "bench api --tracks": {"0"},
    "bench api --slow-clients": {"0"},
    "bench dense-beads --seed": {"0"},
    "bench dense-beads --shift-px": {"0"},
    "bench psf --depth-um": {"-1", "0", "1e-300"},
    "bench isolated --snr-db": {"-1", "0", "1e-300"},
    "bench isolated --depths-um": {"-1 10", "0 10", "1e-300 10"},
    "bench baseline-beads --z-range-um": {"-1 10", "0 10", "1e-300 10"},
    "bench relay --tracks": {"0"},
    "bench relay --away": {"0", "1e-300"},
    "relay --port": {"0"},
    "reprocess --workers": {"0"},
    "demo --port": {"0"},
    "serve --port": {"0"},
}
"""Values of the list that an option may well be given."""

WIRES = (
    "service.measurement.live.measure",
    "evaluation.speed.api.measure_api",
    "evaluation.speed.history.measure_history",
    "evaluation.speed.evaluating.measure_evaluations",
    "evaluation.speed.localizing.measure_localizing",
    "evaluation.speed.tracking.measure_tracking",
    "evaluation.speed.kills.measure_kills",
    "evaluation.speed.movie.render_movie",
    "service.process.supervisor.Supervisor",
    "evaluation.runs.reproduction.Reproduction.measure",
    "evaluation.beads.bead_scores.localize_bead_sweep",
    "evaluation.beads.bead_crowds.compose_crowds",
    "evaluation.optics.benchmark_optics.hidden_benchmark_optics",
    "evaluation.optics.benchmark_optics.exact_optics",
    "evaluation.commands.baselines._one_bead",
    "models.training.train",
    "models.movie_localization.localize_movie",
    "service.api.server.serve_app",
    "service.reprocess.work.work_through",
    "service.copies.copying.copy_recording",
)


def _commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, each in command.commands.items():
            yield from _commands(each, (*names, name))
    else:
        yield " ".join(names), command


def _kinds(option: Any) -> set[Any]:
    """Types of the values of an option."""
    said = option.type_descriptor.annotation
    parts = {said, *get_args(said)}
    return parts | {inner for part in parts for inner in get_args(part)}


COMMANDS = dict(_commands(typer.main.get_command(cli.command_line())))
OPTIONS = [(command, option) for command, each in COMMANDS.items() for option in each.params]


def _shown(option: Any) -> str:
    return str(option.opts[0])


def _numbers() -> Iterator[Any]:
    for command, option in OPTIONS:
        if not _kinds(option) & {int, float}:
            continue
        name = f"{command} {_shown(option)}"
        for number in NUMBERS:
            values = [number] if option.nargs == 1 else [f"{number} 10", f"0 {number}"]
            for value in values:
                if value not in MEANT.get(name, set()) and value != "0 1e-300":
                    yield pytest.param(command, option, value.split(" "), id=f"{name} {value!r}")


def _paths() -> Iterator[Any]:
    for command, option in OPTIONS:
        if Path in _kinds(option):
            outputs = ("taken", "folder", "below a file", "device", "")
            inputs = ("missing", "folder", "empty", "unreadable", "")
            for what in outputs if _shown(option) in ("--out", "--json", "--events") else inputs:
                if (_shown(option), what) in (
                    ("--data", "missing"),
                    ("--data", "folder"),
                    ("--config", "empty"),
                    ("--settings", "empty"),
                ):
                    continue  # it is made, or used; no settings are settings too
                if (command, _shown(option), what) == ("reprocess", "--out", "folder"):
                    continue  # it receives a folder for each run
                if (command, _shown(option)) == ("doctor", "--config") and what:
                    continue  # a finding among others
                yield pytest.param(command, option, what, id=f"{command} {_shown(option)} {what!r}")


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Arguments with which each command would work."""
    folder = tmp_path_factory.mktemp("given")
    tifffile.imwrite(folder / "sweep.tif", simulate(beads=9)[0].planes[:, 0], photometric="minisblack")
    tifffile.imwrite(folder / "movie.tif", np.full((4, 64, 64), 100, np.uint16), photometric="minisblack")
    darks = np.random.default_rng(1).normal(100, 2, (8, 64, 64)).round().astype(np.uint16)
    tifffile.imwrite(folder / "darks.tif", darks, photometric="minisblack")
    small_calibration().save(folder / "calibration")
    columns: dict[str, Any] = {name: np.full(3, 0.5) for name in Localizations.names()}
    write_table(folder / "found.csv", Localizations.from_columns(columns | {"frame": np.arange(3)}))
    columns = {name: np.full(3, 0.5) for name in Tracks.names()}
    columns |= {"frame": np.arange(3), "t_s": np.arange(3) / 100, "track_id": np.ones(3), "observed": np.ones(3)}
    write_table(folder / "tracks.csv", Tracks.from_columns(columns))
    columns = {name: np.full(3, 0.5) for name in Truth.names()}
    write_table(folder / "truth.csv", Truth.from_columns(columns | {"frame": np.arange(3)}))
    (folder / "data").mkdir()
    with closing(Store.open(folder / "data" / "bathyscope.db")) as store:
        store.migrate()
        run = stored_run(store)
        recording = str(folder / "data" / "recordings" / f"{recorded_run(folder / 'data', store)}.ome.zarr")
    export_model(reference_model("live"), folder / "model.zip")
    path = {each.name: str(each) for each in folder.iterdir()}
    return {
        "cameras": [],
        "demo": [],
        "serve": [],
        "camera": [path["darks.tif"], "--out", "OUT.json"],
        "calibrate": [path["sweep.tif"], "--pixel-size-um", "1", "--z-step-um", "1", "--out", "OUT"],
        "train": [path["calibration"], "--out", "OUT"],
        "localize": [path["movie.tif"], "--model", str(reference_model("live")), "--out", "OUT.csv"],
        "track": [path["found.csv"], "--fps", "100", "--out", "OUT.csv"],
        "export": [run, "--format", "csv", "--data", path["data"], "--out", "OUT.csv"],
        "measure": [path["tracks.csv"], "--localizations", path["found.csv"], "--out", "OUT.csv"],
        "doctor": ["--no-microscope"],
        "key add": ["microscopist", "--role", "operate"],
        "key list": [],
        "key revoke": ["microscopist"],
        "mcp": [],
        "model list": [],
        "model export": [str(reference_model("live")), "--out", "OUT.zip"],
        "model import": [path["model.zip"], "--out", "OUT"],
        "relay": ["--nats", "nats://127.0.0.1:1"],
        "reprocess": [recording, "--model", str(reference_model("live")), "--workers", "0", "--out", "OUT"],
        "retention": ["--dry-run"],
        "copy-off": [recording, "--to", str(folder)],
        "evaluate": [path["found.csv"], path["truth.csv"]],
        "reproduce": ["snr", "--quick", "--out", "OUT"],
        "bench live": [],
        "bench api": [],
        "bench history": [],
        "bench localize": [],
        "bench fit": [],
        "bench filter": [],
        "bench relay": [],
        "bench scaling": [],
        "bench sweep": [],
        "bench kills": [],
        "bench track": [],
        "bench beads": [
            path["sweep.tif"],
            "--model",
            str(reference_model("live")),
            "--calibration",
            path["calibration"],
        ],
        "bench dense-beads": [path["sweep.tif"], "--calibration", path["calibration"], "--method", "lookup"],
        "bench psf": [path["calibration"]],
        "bench isolated": [],
        "bench report": [],
        "bench baseline-beads": [path["sweep.tif"], "--pixel-size-um", "1", "--z-step-um", "1"],
    }


@pytest.fixture(autouse=True)
def _wires(monkeypatch: pytest.MonkeyPatch) -> None:
    for wire in WIRES:
        place, _, name = wire.rpartition(".")
        owner: Any
        try:
            owner = importlib.import_module(place)
        except ModuleNotFoundError:
            module, _, kind = place.rpartition(".")
            owner = getattr(importlib.import_module(module), kind)
        monkeypatch.setattr(owner, name, _tripped)


@pytest.fixture(autouse=True)
def _process_comes_back() -> Iterator[None]:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGTERM, before[0])
    signal.signal(signal.SIGINT, before[1])


def _tripped(*_: Any, **__: Any) -> Any:
    raise AssertionError("the work began")


def _arguments(given: list[str], option: Any, values: list[str]) -> list[str]:
    """The arguments that work, with one of them replaced, or one more."""
    arguments = list(given)
    if option.param_type_name == "argument":
        places = {
            "darks": 0,
            "sweep": 0,
            "calibration": 0,
            "movie": 0,
            "source": 0,
            "tracks": 0,
            "predicted": 0,
            "truth": 1,
            "archive": 0,
        }
        if option.name in places:
            arguments[places[option.name]] = values[0]
        else:  # flats after darks; folders to merge
            arguments = ["merge", *arguments[1:]] if option.name == "folders" else arguments
            arguments.insert(1, values[0])
        return arguments
    if _shown(option) in ("--config", "--data") and "--pixel-size-um" in arguments and "--out" in arguments:
        arguments = ["--live", "--z-range-um", "3", "55", *arguments[1:]]
    if _shown(option) in arguments:
        place = arguments.index(_shown(option))
        del arguments[place : place + 1 + option.nargs]
    if _shown(option) in ("--camera-offset-adu", "--electrons-per-adu", "--read-noise-e"):
        figures = {"--camera-offset-adu": "100", "--electrons-per-adu": "0.5", "--read-noise-e": "1"}
        del figures[_shown(option)]
        arguments += [part for pair in figures.items() for part in pair]
    return [*arguments, _shown(option), *values]


def _everything(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path): path.read_bytes() if path.is_file() and not path.is_symlink() else None for path in folder.rglob("*")
    }


def _refused(
    command: str,
    arguments: list[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> str:
    """Run a command, see that it is refused as it should be, and give what it said."""
    monkeypatch.chdir(folder)
    before = _everything(folder)
    monkeypatch.setattr(sys, "argv", ["bathyscope", *command.split(), *arguments])
    monkeypatch.setenv("BATHYSCOPE_DATA_DIR", str(folder / "data"))
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr()
    assert end.value.code in (1, 2), said
    assert "Traceback" not in said.err
    assert "error is unexpected" not in said.err
    assert said.err.strip()
    if end.value.code == 1:
        assert said.err.splitlines()[-1].startswith("Error: ")
        assert said.out == ""
    assert _everything(folder) == before
    return said.err


@pytest.mark.parametrize(("command", "option", "values"), list(_numbers()))
def test_numbers_that_an_option_cannot_mean(
    command: str,
    option: Any,
    values: list[str],
    given: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = _refused(command, _arguments(given[command], option, values), tmp_path, monkeypatch, capsys)
    shown = {part for value in values for part in (value, value.replace("1e308", "1e+308"), repr(value))} - {""}
    assert any(part in said for part in (_shown(option), *shown))


@pytest.mark.parametrize(("command", "option", "what"), list(_paths()))
def test_paths_that_lead_nowhere(
    command: str,
    option: Any,
    what: str,
    given: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = next((part for part in given[command] if part.endswith(".csv")), "")
    suffix = ".csv" if place and _shown(option) not in ("--model", "--camera", "--json", "movie") else ""
    path = tmp_path / f"given{suffix}"
    match what:
        case "folder":
            path.mkdir()
            (path / "mine").touch()
        case "empty":
            path.touch()
        case "unreadable":
            path.symlink_to(path)
        case "taken":
            path.write_text("mine")
        case "below a file":
            (tmp_path / "file").write_text("mine")
            path = tmp_path / "file" / path.name
        case "device":
            os.mkfifo(path)
    text = str(path) if what else ""
    said = _refused(command, _arguments(given[command], option, [text]), tmp_path, monkeypatch, capsys)
    unwrapped = said.replace("\n", "").replace("│", "").replace(" ", "")
    assert path.name in unwrapped or _shown(option) in said or repr(text) in said


def test_a_new_command_has_its_arguments_here(given: dict[str, list[str]]) -> None:
    assert set(given) == set(COMMANDS)

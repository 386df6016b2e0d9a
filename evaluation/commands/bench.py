"""`bathyscope bench`: speed and accuracy on this machine, as figures and as JSON."""

from __future__ import annotations

import importlib.util
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from evaluation.commands import baselines, beads, dense_beads, performance, psf_error, scaling
from service.commands.checks import LONGEST_S

__all__ = ["application"]

application = typer.Typer(help="Measure this machine: rates, latencies, losses, accuracy, cost.", no_args_is_help=True)


@application.callback()
def _bench() -> None:
    # With a callback a single measurement is still called by its name.
    pass


class Source(StrEnum):
    """Where the frames come from."""

    SIMULATED = "simulated"
    REPLAY = "replay"
    MICROMANAGER = "micromanager"


@application.command("live")
def live(
    size: Annotated[int, typer.Option("--size", min=64, max=4096, help="Rows and columns of a frame.")] = 256,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=10000, help="Frames a second that the camera takes.")] = (
        100.0
    ),
    seconds: Annotated[float, typer.Option("--seconds", min=0.5, max=LONGEST_S, help="How long the run lasts.")] = 60.0,
    clients: Annotated[int, typer.Option("--clients", min=0, max=1000, help="Clients of the track stream.")] = 1,
    slow_clients: Annotated[
        int, typer.Option("--slow-clients", min=0, help="How many of the clients connect and then never read.")
    ] = 0,
    history_rps: Annotated[
        float, typer.Option("--history-rps", min=0, max=1000, help="Queries of past tracks a second.")
    ] = 0.0,
    microscope: Annotated[
        Source,
        typer.Option(
            "--microscope",
            help="replay: a scene rendered beforehand, with truth; simulated: rendered as it is exposed; "
            "micromanager: the DemoCamera of the real core, without truth.",
        ),
    ] = Source.REPLAY,
    record: Annotated[bool, typer.Option("--record/--no-record", help="Record the frames.")] = True,
    emitters: Annotated[int, typer.Option("--emitters", min=0, max=1000, help="Moving emitters in view.")] = 20,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="DIR", help="Model; absent: the shipped one.")
    ] = None,
    soak: Annotated[
        bool, typer.Option("--soak", help="Report memory, descriptors and threads of each process over time.")
    ] = False,
    data: Annotated[
        Path | None, typer.Option("--data", help="Data directory to keep; absent: a temporary one.")
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="Delete recording and database at the end.")] = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """The whole instrument at a rate: frames accounted for, latency from exposure to client, accuracy, cost."""
    _check_slow_clients(slow_clients, clients)
    if discard and data is not None:
        raise typer.BadParameter("--discard deletes what --data keeps; leave one of them out.", param_hint="--discard")

    from evaluation.runs.provenance import write_result
    from evaluation.speed.live import LiveBench, measure_live
    from evaluation.speed.report import show
    from models.errors import DataError
    from service.commands.console import note
    from service.files.outputs import check_json

    check_json(json_file)
    if history_rps > 0 and importlib.util.find_spec("httpx") is None:
        raise DataError(
            "History queries need httpx, which is not installed.",
            "Install the extra: pip install 'bathyscope[evaluation]'; or leave --history-rps out.",
        )
    figures, seeds = measure_live(
        LiveBench(
            source=microscope.value,
            size=size,
            fps=fps,
            emitters=emitters,
            seconds=seconds,
            clients=clients,
            slow_clients=slow_clients,
            history_rps=history_rps,
            record=record,
            model=model,
            data=data,
            discard=discard,
            soak=soak,
        )
    )
    if json_file is not None:
        write_result(json_file, figures, seeds)
    show(figures)
    if figures["recording"] is not None:
        note(f"The recording is {figures['recording']}")


@application.command("api")
def api(
    clients: Annotated[int, typer.Option("--clients", min=1, max=1000, help="Clients of the track stream.")] = 20,
    slow_clients: Annotated[
        int, typer.Option("--slow-clients", min=0, help="How many of the clients connect and then never read.")
    ] = 0,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=10000, help="Messages a second.")] = 100.0,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, max=LONGEST_S, help="How long each of two measurements takes.")
    ] = (10.0),
    tracks: Annotated[int, typer.Option("--tracks", min=0, max=100_000, help="Tracks in each message.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Processor time and memory of the API process, and latency, for live tracks to many clients."""
    _check_slow_clients(slow_clients, clients)

    from evaluation.runs.provenance import write_result
    from evaluation.speed.api import measure_api
    from evaluation.speed.report import show_api
    from service.files.outputs import check_json
    from service.settings import load_settings

    check_json(json_file)
    with tempfile.TemporaryDirectory(prefix="bathyscope-bench-") as folder:
        settings = load_settings(command_line={"data_dir": Path(folder), "port": 0, "log_level": "warning"})
        figures = measure_api(
            settings, fps=fps, seconds=seconds, clients=clients, tracks=tracks, slow_clients=slow_clients
        )
    if json_file is not None:
        write_result(json_file, figures)
    show_api(figures)


@application.command("relay")
def relay(
    scopes: Annotated[int, typer.Option("--scopes", min=1, max=32, help="Played scopes.")] = 3,
    viewers: Annotated[
        int, typer.Option("--viewers", min=1, max=1000, help="Viewers, divided evenly between the scopes.")
    ] = 50,
    fps: Annotated[float, typer.Option("--fps", min=0.1, max=10000, help="Messages a second of each scope.")] = 100.0,
    tracks: Annotated[int, typer.Option("--tracks", min=0, max=100_000, help="Tracks in each message.")] = 300,
    seconds: Annotated[
        float, typer.Option("--seconds", min=0.5, max=LONGEST_S, help="How long the measurement takes.")
    ] = 20.0,
    away: Annotated[
        float,
        typer.Option(
            "--away", min=0, max=60, help="For how long the NATS server is killed afterwards, s; 0: it is not."
        ),
    ] = 3.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Played scopes through a NATS server and a relay to many viewers: what arrives, and how late."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.relay import RelayBench, measure_relay
    from evaluation.speed.report import show_relay
    from service.files.outputs import check_json

    check_json(json_file)
    figures = measure_relay(RelayBench(scopes, viewers, fps, tracks, seconds, away))
    if json_file is not None:
        write_result(json_file, figures)
    show_relay(figures)


def _check_slow_clients(slow_clients: int, clients: int) -> None:
    if slow_clients > clients:
        raise typer.BadParameter(
            f"{slow_clients} clients are to be slow, of {clients} in all; raise --clients.",
            param_hint="--slow-clients",
        )


@application.command("history")
def history(
    minutes: Annotated[
        float, typer.Option("--minutes", min=0.01, max=1440, help="Length of the run in the database, minutes.")
    ] = 60.0,
    fps: Annotated[float, typer.Option("--fps", min=1, max=10000, help="Frames a second of the run.")] = 100.0,
    tracks: Annotated[int, typer.Option("--tracks", min=1, max=1000, help="Tracks in view.")] = 50,
    write_factor: Annotated[
        float, typer.Option("--write-factor", min=0.1, max=100, help="Rate of writing while reading, in live rates.")
    ] = 3.0,
    queries: Annotated[int, typer.Option("--queries", min=10, max=100_000, help="Queries of each kind.")] = 100,
    database_url: Annotated[
        str | None,
        typer.Option("--database-url", metavar="URL", help="An empty PostgreSQL database; absent: SQLite."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Data directory to keep and to use again; absent: a temporary one."),
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Queries of a long run while another one is written: latency, rate of writing, memory of the API, size."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.history import HISTORY_SEED, HistoryBench, measure_history
    from evaluation.speed.report import show_history
    from service.commands.console import progress
    from service.files.outputs import check_json
    from service.settings import load_settings

    check_json(json_file)
    bench = HistoryBench(minutes, fps, tracks, write_factor, queries)
    with tempfile.TemporaryDirectory(prefix="bathyscope-bench-") as folder, progress("History", 1.0) as advance:
        values = {"data_dir": data or folder, "port": 0, "log_level": "warning", "database_url": database_url}
        figures = measure_history(load_settings(command_line=values), bench, advance)
    if json_file is not None:
        write_result(json_file, figures, {"queries": HISTORY_SEED})
    show_history(figures)


@application.command("localize")
def localize(
    size: Annotated[
        list[int],
        typer.Option(
            "--size",
            min=64,
            max=4096,
            default_factory=lambda: [256, 512],
            show_default="256 and 512",
            help="Rows and columns; repeatable.",
        ),
    ],
    batch: Annotated[
        list[int],
        typer.Option(
            "--batch",
            min=1,
            max=256,
            default_factory=lambda: [1, 8],
            show_default="1 and 8",
            help="Frames at once; repeatable.",
        ),
    ],
    rounds: Annotated[int, typer.Option("--rounds", min=2, help="Turns of each variant.")] = 30,
    alternatives: Annotated[
        bool,
        typer.Option("--alternatives", help="Beside it torch.compile, ONNX Runtime and OpenVINO, where they are."),
    ] = False,
    fits: Annotated[
        bool, typer.Option("--fits", help="Also what the refinement and the fitting baselines cost per frame.")
    ] = False,
    fit_frames: Annotated[int, typer.Option("--fit-frames", min=1, help="Frames of each number of emitters.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Processor time per frame on one core, for both shipped models and every number format, in turns."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.fitting import FRAMES_SEED, measure_fitting
    from evaluation.speed.localizing import measure_localizing
    from evaluation.speed.movie import SCENE_SEED
    from evaluation.speed.report import show_localizing
    from evaluation.speed.runtimes import RUNTIMES
    from service.commands.console import progress
    from service.files.outputs import check_json

    check_json(json_file)
    with progress("Localizing", rounds, "rounds") as advance:
        runtimes = tuple(RUNTIMES) if alternatives else ()
        figures = measure_localizing(size, batch, rounds, advance, runtimes=runtimes)
    if fits:
        with progress("Fitting", 1.0) as advance:
            figures["fits"] = measure_fitting(fit_frames, advance)
    if json_file is not None:
        write_result(json_file, figures, {"scene": SCENE_SEED} | ({"fits": FRAMES_SEED} if fits else {}))
    show_localizing(figures)


_MOST_TARGETS = 100_000
"""What the tracker takes in one frame."""


def _targets(text: str) -> str:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and 1 <= int(part) <= _MOST_TARGETS for part in parts):
        raise typer.BadParameter(
            f"{text!r} is no list of numbers of targets; give whole numbers from 1 to {_MOST_TARGETS}, with commas "
            "between them."
        )
    return text


@application.command("track")
def track(
    targets: Annotated[
        str, typer.Option("--targets", callback=_targets, help="Numbers of targets, with commas between them.")
    ] = "10,100,500,2000",
    peers: Annotated[bool, typer.Option("--peers/--no-peers", help="Other trackers too, where installed.")] = True,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Time per step of the tracker and of others in one thread: median and 99th percentile."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.report import show_localizing
    from evaluation.speed.tracking import measure_tracking
    from service.commands.console import progress
    from service.files.outputs import check_json

    check_json(json_file)
    with progress("Tracking", 1.0) as advance:
        figures = measure_tracking([int(part) for part in targets.split(",")], advance, peers=peers)
    if json_file is not None:
        write_result(json_file, figures)
    show_localizing(figures)


_Emitters = Annotated[
    list[int],
    typer.Option(
        "--emitters",
        min=1,
        max=1000,
        default_factory=lambda: [10, 20, 64, 200],
        show_default="10, 20, 64 and 200",
        help="In an image; repeatable.",
    ),
]


@application.command("fit")
def fit(
    emitters: _Emitters,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of each variant.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Time of one evaluation of a joint fit on cells and on pixels, in turns, and the precision that each keeps."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.evaluating import SEED, measure_evaluations
    from evaluation.speed.report import show_localizing
    from service.commands.console import progress
    from service.files.outputs import check_json

    check_json(json_file)
    with progress("Evaluating", 1.0) as advance:
        figures = measure_evaluations(emitters, rounds, advance)
    if json_file is not None:
        write_result(json_file, figures, {"emitters": SEED})
    show_localizing(figures)
    show_localizing({"rows": figures["information"], "missing": {}})


@application.command("filter")
def image_filter(
    emitters: _Emitters,
    frames: Annotated[int, typer.Option("--frames", min=1, max=10_000, help="Frames that are measured.")] = 60,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Time per frame of the image filter by degree of the fit, and of the joint fit of single frames, in turns."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.filtering import measure_filter
    from evaluation.speed.movie import SCENE_SEED
    from evaluation.speed.report import show_localizing
    from service.commands.console import progress
    from service.files.outputs import check_json

    check_json(json_file)
    with progress("Filtering", 1.0) as advance:
        figures = measure_filter(emitters, frames, advance)
    if json_file is not None:
        write_result(json_file, figures, {"scene": SCENE_SEED})
    show_localizing(figures)


@application.command("sweep")
def sweep(
    size: Annotated[int, typer.Option("--size", min=64, max=1024, help="Rows and columns of a frame.")] = 768,
    beads: Annotated[int, typer.Option("--beads", min=1, max=200, help="Still beads on the slide.")] = 9,
    depth_um: Annotated[float, typer.Option("--depth-um", min=40, max=100, help="Depths are 0 to this.")] = 100.0,
    movies: Annotated[
        int, typer.Option("--movies", min=1, max=100, help="Movies of each motion for the accuracy.")
    ] = 4,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """From the end of a sweep to tracks without training: seconds, and accuracy beside the shipped network."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.report import show_sweep
    from evaluation.speed.sweep_to_tracks import SweepBench, measure_sweep_to_tracks
    from service.commands.console import progress
    from service.files.outputs import check_json
    from service.process.logs import configure_logs

    check_json(json_file)
    configure_logs("warning")
    with progress("Sweep to tracks", 1.0) as advance:
        figures, seeds = measure_sweep_to_tracks(SweepBench(size, beads, depth_um, movies), advance)
    if json_file is not None:
        write_result(json_file, figures, seeds)
    show_sweep(figures)


@application.command("kills")
def kills(
    count: Annotated[int, typer.Option("--kills", min=1, help="How often the engine is killed.")] = 20,
    size: Annotated[int, typer.Option("--size", min=32, max=4096, help="Rows and columns of a frame.")] = 256,
    fps: Annotated[float, typer.Option("--fps", min=1.0, max=1000.0, help="Frames a second.")] = 100.0,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the moments of the kills.")] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures.")] = None,
) -> None:
    """Kill the engine repeatedly while it records: frames lost, frames readable, time to restart."""
    from evaluation.runs.provenance import write_result
    from evaluation.speed.kills import measure_kills
    from evaluation.speed.report import show_kills
    from service.files.outputs import check_json
    from service.process.logs import configure_logs

    check_json(json_file)
    configure_logs("warning")
    figures = measure_kills(count, size, fps, seed)
    if json_file is not None:
        write_result(json_file, figures, {"kills": seed})
    show_kills(figures)


application.command("beads")(beads.run)
application.command("dense-beads")(dense_beads.run)
application.command("psf")(psf_error.run)
application.command("isolated")(baselines.run_isolated)
application.command("baseline-beads")(baselines.run_beads)
application.command("scaling")(scaling.run)
application.command("report")(performance.run)

"""One measurement of `bench live`: a source of frames, the service that tracks them, and the figures of both."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.speed import movie
from evaluation.speed.democamera import democamera_settings
from models.model_card import ModelCard
from models.weights import reference_model
from service.commands.console import note
from service.measurement import live
from service.settings import Settings, load_settings

__all__ = ["LiveBench", "measure_live"]


@dataclass(frozen=True, slots=True)
class LiveBench:
    """What is measured, and on which load.

    Attributes
    ----------
    source : str
        ``"simulated"``, ``"replay"`` or ``"micromanager"``.
    size : int
        Rows and columns of a frame.
    fps : float
        Frames a second that the camera takes.
    emitters : int
        Moving emitters in view.
    seconds : float
        Duration of the run.
    clients, slow_clients : int
        Stream clients, and how many of them never read.
    history_rps : float
        Queries of past tracks a second.
    record : bool
        Whether the frames are recorded.
    model : Path or None
        Folder; None: the shipped one.
    data : Path or None
        Data directory that is kept; None: a temporary one, which is kept only for a recording.
    discard : bool
        Delete recording and database at the end.
    soak : bool
        Report the costs of each process over time.
    """

    source: str
    size: int
    fps: float
    emitters: int
    seconds: float
    clients: int
    slow_clients: int
    history_rps: float
    record: bool
    model: Path | None
    data: Path | None
    discard: bool
    soak: bool


def measure_live(bench: LiveBench) -> tuple[dict[str, Any], dict[str, int]]:
    """Run the service on the source and measure it.

    Returns
    -------
    figures : dict
        The contract's result of `bench live`, with ``clients``, ``processes`` and, if wanted, ``soak``.
    seeds : dict
        Of the source.

    Raises
    ------
    DataError
        When model or data directory is invalid, or the service does not become ready.
    """
    if bench.model is not None:
        ModelCard.load(bench.model)  # an unreadable model is reported before the service starts
    if bench.data is not None:
        load_settings(command_line={"data_dir": bench.data})  # so is an invalid data directory
    folder = bench.data or Path(tempfile.mkdtemp(prefix="bathyscope-bench-"))
    keep = bench.data is not None
    try:
        with tempfile.TemporaryDirectory(prefix="bathyscope-source-") as aside:
            settings = load_settings(
                command_line={
                    **_source(bench, Path(aside)),
                    "data_dir": folder,
                    "model": bench.model,
                    "port": 0,
                    "log_level": "warning",
                }
            )
            shape = (bench.size, bench.size)
            workload = live.Workload(bench.clients, bench.slow_clients, bench.history_rps, shape)
            measured = live.measure(settings, bench.seconds, workload, record=bench.record)
            figures = {**measured.figures, "clients": measured.clients, "processes": measured.processes}
            if bench.discard:
                figures["recording"] = None
            if bench.soak:
                figures["soak"] = measured.soak
            keep |= figures["recording"] is not None
            return figures, _seeds(bench.source, settings)
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _source(bench: LiveBench, folder: Path) -> dict[str, Any]:
    """Settings of microscope and camera."""
    if bench.source == "simulated":
        simulated = {
            "height": bench.size,
            "width": bench.size,
            "emitters": bench.emitters,
            "frame_period_s": 1 / bench.fps,
        }
        return {
            "microscope": {"driver": "simulated", "simulated": simulated},
            # The time that a camera needs to read out is not exposed.
            "camera": {"exposure_s": 0.9 / bench.fps},
        }
    if bench.source == "micromanager":
        pixel_size_um = ModelCard.load(bench.model or reference_model("live")).pixel_size_um
        return democamera_settings(folder, bench.size, bench.fps, bench.emitters, pixel_size_um)
    note(f"Rendering {bench.emitters} emitters in {bench.size} x {bench.size} pixels ...")
    scene = movie.render_movie(folder, (bench.size, bench.size), bench.emitters, bench.fps)
    replay = {
        "movie": scene.movie,
        "truth": scene.truth,
        "fps": bench.fps,
        "loop": True,
        "back_and_forth": True,
        "in_memory": True,
    }
    return {"microscope": {"driver": "replay", "replay": replay}}


def _seeds(source: str, settings: Settings) -> dict[str, int]:
    """Seeds of the source; the DemoCamera's is not known."""
    if source == "micromanager":
        return {}
    return {"scene": movie.SCENE_SEED if source == "replay" else settings.microscope.simulated.seed}

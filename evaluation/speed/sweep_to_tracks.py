"""From the end of a sweep to tracks without training, over the HTTP API of the real service.

A slide of still beads is swept in the simulated microscope. From the
calibration a model without a network is made, it becomes the active one, focus is moved
so that the beads are deep, and a run starts. The time ends when a client of the track
stream receives the first state with a track.

Beside it the accuracy: the model of this sweep and the shipped network track the
same movies of moving emitters in the same optics, with the image filter.
Thresholds are set on movies of another seed.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from evaluation.experiments.moving_methods import Found, find_thresholds
from evaluation.experiments.moving_points import FPS
from evaluation.experiments.moving_scenes import Movie, Scene, movies
from evaluation.experiments.moving_scores import movie_row
from evaluation.optics.benchmark_optics import exact_optics
from evaluation.optics.frames import Frames
from models.errors import DataError
from models.localization import Localizer
from models.tables import Localizations, Tracks
from models.tracking.image_tracker import one_thread
from models.weights import reference_model
from service.process.machine import machine
from service.process.supervisor import Supervisor
from service.protocol import wire
from service.settings import Settings, load_settings

__all__ = ["SEED", "VALIDATION_SEED", "SweepBench", "measure_sweep_to_tracks"]

Advance = Callable[[float, str], None]

SEED, VALIDATION_SEED = 20_261_130, 4_502_017
"""Of the movies that are scored, and of those that set the thresholds."""

_Z_STEP_UM = 1.0
_EXPOSURE_S = 0.003
"""Of the sweep: beads in focus are not saturated."""
_STAGE_UM = -30.0
"""Focus of the run: the beads are so far behind it, so that they have depths that a model reports."""

_LIMIT_S = 1800.0
_POLL_S = 0.05
_REQUEST_S = 120.0
_LEAST_PROBABILITY = 0.05
"""Of candidates, as live."""

_MOTIONS = ("directed", "brownian 10")
_SNR_DB = 20.0
_POINTS = 20
_WITHOUT, _NETWORK = "without network", "shipped network"

_COLUMNS = ("jaccard_10", "rmse_lateral_um", "rmse_axial_um")


@dataclass(frozen=True, slots=True)
class SweepBench:
    """What is measured.

    Attributes
    ----------
    size : int
        Rows and columns of a frame of the sweep.
    beads : int
        On the slide.
    depth_um : float
        Depths are from 0 to this.
    movies : int
        Scored movies of each motion.
    """

    size: int
    beads: int
    depth_um: float
    movies: int


def measure_sweep_to_tracks(
    bench: SweepBench, advance: Advance = lambda _done, _what: None
) -> tuple[dict[str, Any], dict[str, int]]:
    """Measure times and accuracy.

    Returns
    -------
    figures : dict
        ``rows``: one line each with ``step`` and ``s``, the last one from the end of the sweep to the first track;
        ``accuracy``: Jaccard index and RMS errors by method and motion; ``settings``; ``machine``.
    seeds : dict

    Raises
    ------
    DataError
        When a step fails, or takes longer than half an hour.
    """
    with tempfile.TemporaryDirectory(prefix="bathyscope-bench-", ignore_cleanup_errors=True) as folder:
        settings = load_settings(
            command_line={
                "data_dir": Path(folder),
                "port": 0,
                "log_level": "warning",
                "microscope": {
                    "driver": "simulated",
                    "simulated": {
                        "height": bench.size,
                        "width": bench.size,
                        "emitters": bench.beads,
                        "sample": "slide",
                    },
                },
            },
            environment={},
        )
        model_id, rows = _times(settings, bench, advance)
        accuracy = _accuracy(settings.data_dir / "models" / model_id, bench.movies, advance)
    figures = {
        "rows": rows,
        "accuracy": accuracy,
        "missing": {},
        "settings": {"size": bench.size, "beads": bench.beads, "depth_um": bench.depth_um, "movies": bench.movies},
        "machine": machine(),
    }
    return figures, {"slide": settings.microscope.simulated.seed, "movies": SEED, "thresholds": VALIDATION_SEED}


# ---- times ----


def _times(settings: Settings, bench: SweepBench, advance: Advance) -> tuple[str, list[dict[str, Any]]]:
    """Id of the model without a network, and the seconds of each step."""
    rows: list[dict[str, Any]] = []
    total_s = 0.0

    @contextmanager
    def timed(step: str, *, after_sweep: bool = True) -> Iterator[None]:
        nonlocal total_s
        advance(0.1 * len(rows), step)
        begun_s = time.monotonic()
        yield
        taken_s = time.monotonic() - begun_s
        total_s += taken_s if after_sweep else 0.0
        rows.append({"step": step, "s": round(taken_s, 2)})

    with Supervisor(settings) as supervisor, _api(supervisor.port) as api:
        _wait(lambda: _is_ready(api), "The service did not become ready")
        wanted = {
            "z_range_um": [0.0, bench.depth_um],
            "z_step_um": _Z_STEP_UM,
            "settle_s": 0.0,
            "exposure_s": _EXPOSURE_S,
        }
        with timed("sweep", after_sweep=False):
            calibration = _post(api, "/calibrations", wanted)["id"]
            _wait(lambda: _job(api, calibration)["step"] != "sweep", "The sweep did not end")
        with timed("calibration from the sweep"):
            _ended(api, calibration)
        with timed("model without a network"):
            model = _post(api, "/models", {"calibration": calibration, "architecture": "matched"})["id"]
            _ended(api, model)
        with timed("active model"):
            _checked(api.put("/models/active", json={"id": model}))
        with timed("focus, start of the run, first track shown"):
            _post(api, "/microscope/stage", {"stage_um": _STAGE_UM})
            begun = _post(api, "/runs", {"static_light": "off"})["id"]
            _first_track(supervisor.port)
        _post(api, f"/runs/{begun}/stop", {})
    rows.append({"step": "from the end of the sweep to the first track", "s": round(total_s, 2)})
    return model, rows


def _api(port: int) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=_REQUEST_S)


def _is_ready(api: httpx.Client) -> bool:
    try:
        return api.get(str(api.base_url.join("/readyz"))).status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _checked(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise DataError(f"The service refused {response.url}: {response.text}", "See its log.")
    return dict(response.json())


def _post(api: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return _checked(api.post(path, json=body))


def _job(api: httpx.Client, job_id: str) -> dict[str, Any]:
    return _checked(api.get(f"/jobs/{job_id}"))


def _ended(api: httpx.Client, job_id: str) -> None:
    """Wait for the end of a job."""
    _wait(lambda: _job(api, job_id)["ended_at"] is not None, f"Job {job_id} did not end")
    job = _job(api, job_id)
    if job["state"] != "done":
        raise DataError(
            f"Job {job_id} is {job['state']}: {job['error']}", "Try more --beads or another --size or --depth-um."
        )


def _first_track(port: int) -> None:
    """Wait until a client of the track stream has received a track."""
    with connect(f"ws://127.0.0.1:{port}/api/v1/stream", max_size=None, proxy=None) as socket:

        def shown() -> bool:
            try:
                message = socket.recv(timeout=_POLL_S)
            except TimeoutError:
                return False
            except WebSocketException as error:
                raise DataError(f"The track stream ended: {error}", "See the log of the service.") from error
            return isinstance(message, bytes) and len(wire.decode(message)[2]["track_id"]) > 0

        _wait(shown, "No track was shown", pause_s=0.0)


def _wait(condition: Callable[[], bool], problem: str, pause_s: float = _POLL_S) -> None:
    limit_s = time.monotonic() + _LIMIT_S
    while not condition():
        if time.monotonic() > limit_s:
            raise DataError(f"{problem} within {_LIMIT_S:g} s.", "Free the processor, or try a smaller --size.")
        time.sleep(pause_s)


# ---- accuracy ----


def _accuracy(without: Path, count: int, advance: Advance) -> list[dict[str, Any]]:
    """Mean scores over the movies, by method and motion."""
    optics = exact_optics()
    folders = {_WITHOUT: without, _NETWORK: reference_model("live")}
    scenes = [Scene(motion, _POINTS, (_SNR_DB,), 1) for motion in _MOTIONS]
    validation = [movie for scene in scenes for movie in movies(optics, scene, VALIDATION_SEED)]
    thresholds = find_thresholds([(movie, _tracked(folders, movie)) for movie in validation])
    rows: list[dict[str, Any]] = []
    for done, motion in enumerate(_MOTIONS):
        advance(0.6 + 0.4 * done / len(_MOTIONS), f"accuracy, {motion}")
        scores: dict[str, list[dict[str, Any]]] = {name: [] for name in folders}
        for movie in movies(optics, Scene(motion, _POINTS, (_SNR_DB,), count), SEED):
            for name, found in _tracked(folders, movie).items():
                chosen = found.select(found.probability >= thresholds[name])
                scores[name].append(movie_row(chosen, movie, None, smoothed=False))
        rows += [
            {"method": name, "motion": motion, "snr_db": _SNR_DB, "points": _POINTS, "movies": count}
            | {key: round(float(np.mean([score[key] for score in mine])), 4) for key in _COLUMNS}
            for name, mine in scores.items()
        ]
    return rows


def _tracked(folders: dict[str, Path], movie: Movie) -> dict[str, Found]:
    """Tracks of each model in a movie."""
    return {
        name: _tracks(Localizer.load(folder, "cpu", camera=movie.frames.camera), movie.frames)
        for name, folder in folders.items()
    }


def _tracks(localizer: Localizer, frames: Frames) -> Tracks:
    images = localizer.image_model
    if images is None:
        raise DataError(f"The model {localizer.card.id} has no PSF.", "Install the package again.")
    tracker, states = images.tracker(), []
    with one_thread():
        for number, counts in enumerate(frames.counts):
            found = Localizations.empty()
            if localizer.finds_candidates:
                found = localizer.localize(counts[None], np.array([number]), _LEAST_PROBABILITY)
            states.append(tracker.step_image(number / FPS, number, found, counts)[0])
    return Tracks.concatenate(state.rows() for state in states)

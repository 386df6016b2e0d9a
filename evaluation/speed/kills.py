"""`bathyscope bench kills`: kill the engine repeatedly while it records, and check the recordings.

Two properties are tested. Frames that the database lists as committed can be
read, whenever the process dies. At most the open shard and the frames that
arrived while a shard was written are lost. So a movie in which every frame is
different is played as a microscope, recorded by the real service, and the
engine is killed with SIGKILL at random moments. Then every committed frame is
read and compared with what was played. The number of exposures follows from
the times of the frames, which are on the same clock as the kill.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.errors import DataError
from service.protocol.clients import SyncEngineClient
from service.store.store import Store

__all__ = ["Aftermath", "inspect_recording", "measure_kills"]

_FRAMES = 251
"""Of the movie: a prime, so that its rhythm is not that of the shards."""

_LOWEST, _HIGHEST = 90, 130
"""Counts of the movie: as noisy as a camera's, so that they compress like a camera's."""

_SHORTEST_S, _LONGEST_S = 0.5, 4.0
"""Between these a run is killed, s after its first recorded frames: in all phases of a shard."""

_COMMIT_S = 0.1
"""Frames that are down wait so long for their commit, s (the engine commits in batches)."""

_HEALTHY_S = 2.0
"""An engine that lived so long does not count as failing again: here it is killed on purpose."""

_LIMIT_S = 180.0
_POLL_S = 0.02

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What a killed run left.

    Attributes
    ----------
    committed : frames that the database calls committed
    not_readable : of these, the ones that are missing, cannot be decoded or have other pixels
    unreadable_shards : shards within the image's shape of which a frame cannot be decoded
    exposed : exposures that the camera had ended when the engine was killed
    """

    committed: int
    not_readable: int
    unreadable_shards: int
    exposed: int

    @property
    def lost(self) -> int:
        """Exposed and not committed."""
        return self.exposed - self.committed


def inspect_recording(
    store: Store,
    data_dir: Path,
    run_id: str,
    *,
    expected: Callable[[int], NDArray[np.uint16]],
    shard_frames: int,
    period_s: float,
    killed_s: float,
) -> Aftermath:
    """Read all that a killed run committed and announced, and compare it with what was played.

    Parameters
    ----------
    store, data_dir, run_id : Store, Path, str
        Where it is.
    expected : callable
        Image number to the pixels that were played.
    shard_frames : int
        Frames of a shard.
    period_s : float
        From exposure to exposure; exposures fill it.
    killed_s : float
        Moment of the kill on the monotonic clock.
    """
    import zarr

    recording = store.runs.get(run_id).recording
    if recording is None:
        raise DataError(f"Run {run_id} has no recording.", "Start it with record.")
    log = store.frames.recorded(run_id)
    numbers = log.frames.numbers
    if not len(numbers):
        raise DataError(f"Run {run_id} had committed nothing when it was killed.", "Let it run for longer.")
    image: Any = zarr.open_array(str(data_dir / recording / "0"), mode="r")
    planes: dict[int, NDArray[np.uint16]] = {}
    unreadable = 0
    for first in range(0, image.shape[0], shard_frames):
        try:
            shard = np.asarray(image[first : first + shard_frames])
        except Exception:  # noqa: BLE001  any error of the decoder counts
            unreadable += 1
        else:
            planes.update(enumerate(shard, first))
    wrong = sum(
        plane not in planes or not np.array_equal(planes[plane], expected(number))
        for plane, number in zip(log.planes.tolist(), numbers.tolist(), strict=True)
    )
    # Frame n is in mid-exposure n and a half periods after the start.
    start_s = float(log.frames.times_s[0]) - (int(numbers[0]) + 0.5) * period_s
    return Aftermath(len(numbers), wrong, unreadable, int((killed_s - start_s) / period_s))


def measure_kills(kills: int, size: int, fps: float, seed: int) -> dict[str, Any]:
    """Kill the recording engine with SIGKILL at random moments; count what is lost and what cannot be read.

    Parameters
    ----------
    kills : int
        How often.
    size : int
        Rows and columns of a frame.
    fps : float
        Frames a second.
    seed : int
        Of the moments of the kills.

    Raises
    ------
    DataError
        On Windows, which has no SIGKILL; when the service does not come back.
    """
    if sys.platform == "win32":
        raise DataError("Killing by SIGKILL needs a Unix system.", "Run it on Linux.")
    with tempfile.TemporaryDirectory(prefix="bathyscope-kills-", ignore_cleanup_errors=True) as folder:
        return _measure(Path(folder), kills, size, fps, seed)


def _measure(folder: Path, kills: int, size: int, fps: float, seed: int) -> dict[str, Any]:
    import tifffile

    from service.commands.console import progress
    from service.process.machine import machine
    from service.process.supervisor import Supervisor
    from service.settings import load_settings

    random = np.random.default_rng(seed)
    frames = random.integers(_LOWEST, _HIGHEST, (_FRAMES, size, size), dtype=np.uint16)
    movie = folder / "movie.tif"
    tifffile.imwrite(movie, frames, metadata=None)
    settings = load_settings(
        command_line={
            "data_dir": folder / "data",
            "port": 0,
            "log_level": "warning",
            "microscope": {
                "driver": "replay",
                "replay": {"movie": movie, "fps": fps, "loop": True, "in_memory": True},
            },
            "engine": {"run_at_start": True, "record": True, "free_space_floor_gb": 0.0},
        },
        environment={},
    )
    shard = settings.engine.shard_frames
    store = Store.open(settings.database)
    found: list[Aftermath] = []
    ready_s: list[float] = []
    waiting = 0
    with (
        Supervisor(settings, healthy_s=_HEALTHY_S) as supervisor,
        SyncEngineClient(supervisor.address) as client,
        progress("Kills", kills, "kills") as advance,
    ):
        run_id = _wait(lambda: _run_when_ready(supervisor.port, None))
        for kill in range(kills):
            # A run of a slow machine must have something that can be looked at.
            recorded = run_id
            _wait(lambda recorded=recorded: store.frames.count(recorded))  # type: ignore[misc]
            time.sleep(random.uniform(_SHORTEST_S, _LONGEST_S))
            waiting = max(waiting, _highest_record_queue(client))
            killed_s = time.monotonic()
            os.kill(supervisor.processes["engine"]["pid"], signal.SIGKILL)
            before = run_id
            run_id = _wait(lambda before=before: _run_when_ready(supervisor.port, before))  # type: ignore[misc]
            ready_s.append(time.monotonic() - killed_s)
            found.append(
                inspect_recording(
                    store,
                    settings.data_dir,
                    before,
                    expected=lambda number: frames[number % _FRAMES],
                    shard_frames=shard,
                    period_s=1 / fps,
                    killed_s=killed_s,
                )
            )
            advance(kill + 1)
    store.close()
    lost = [aftermath.lost for aftermath in found]
    bound = shard + waiting + round(_COMMIT_S * fps) + 1
    return {
        "kills": kills,
        "unreadable_shards": sum(aftermath.unreadable_shards for aftermath in found),
        "committed_frames": sum(aftermath.committed for aftermath in found),
        "committed_not_readable": sum(aftermath.not_readable for aftermath in found),
        "lost_frames": {"p50": float(np.median(lost)), "max": max(lost), "each": lost},
        "lost_bound_frames": bound,
        "lost_bound_of": {
            "open_shard": shard,
            "waiting_while_a_shard_was_written": waiting,
            "waiting_for_the_commit_and_in_exposure": bound - shard - waiting,
        },
        "lost_within_bound": max(lost) <= bound,
        "ready_again_s": {
            "p50": round(float(np.median(ready_s)), 2),
            "max": round(max(ready_s), 2),
            "each": [round(seconds, 2) for seconds in ready_s],
        },
        "settings": {"size": size, "fps": fps, "seed": seed, "shard_frames": shard},
        "machine": machine(),
    }


def _run_when_ready(port: int, other_than: str | None) -> str | None:
    """Id of the current run if /readyz returns 200 and the run differs from `other_than`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        run_id = json.loads(response.read()).get("run_id") if response.status == http.client.OK else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()
    return str(run_id) if run_id not in (None, other_than) else None


def _highest_record_queue(client: SyncEngineClient) -> int:
    """Most frames that have waited in this run while a shard was written."""
    return int(client.status()["stages"]["record"]["highest"])


def _wait(condition: Callable[[], T | None]) -> T:
    limit_s = time.monotonic() + _LIMIT_S
    while not (value := condition()):
        if time.monotonic() > limit_s:
            raise DataError(
                f"The service did not come back within {_LIMIT_S:g} s.", "See its log; try a smaller --size or --fps."
            )
        time.sleep(_POLL_S)
    return value

"""The real service in a temporary directory, as the fault tests see it: over HTTP, in its database, in its files."""

from __future__ import annotations

import contextlib
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import zarr

from service.process import engine_child
from service.process.supervisor import Supervisor
from service.protocol.clients import SyncEngineClient
from service.protocol.errors import EngineAway
from service.settings import Settings, load_settings
from service.store.runs import Run
from service.store.store import Store
from tests.faults.saboteur import ORDER, engine_with_saboteur, give_order

T = TypeVar("T")

LIMIT_S = 240.0
"""Longer than any step takes; only a failure waits this long."""

PERIOD = 251
"""Frames of the coded movie: a prime, so that no multiple of a shard or batch fits."""

SIDE = 64


def settings_for(
    folder: Path, microscope: dict[str, Any] | None = None, *, camera: dict[str, Any] | None = None, **engine: Any
) -> Settings:
    """A small, quick service that begins to record at its start."""
    values = {
        "data_dir": folder,
        "port": 0,
        "log_level": "warning",
        "microscope": microscope or {"driver": "simulated", "simulated": {"height": SIDE, "width": SIDE}},
        "camera": camera or {},
        "engine": {
            "run_at_start": True, "record": True, "shard_frames": 16, "free_space_floor_gb": 0.0, **engine,
        },
    }  # fmt: skip
    return load_settings(command_line=values, environment={})


def wait_for(condition: Callable[[], T | None], limit_s: float = LIMIT_S) -> T:
    """What `condition` gives as soon as it is true."""
    deadline_s = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
    return answer


def coded_frame(number: int) -> np.ndarray:
    """Pixels that are different for every frame of the coded movie."""
    generator = np.random.default_rng(number % PERIOD)
    return generator.integers(90, 130, (SIDE, SIDE), dtype=np.uint16)


def write_coded_movie(path: Path) -> Path:
    """A movie in which every frame is different."""
    import tifffile

    frames = np.stack([coded_frame(number) for number in range(PERIOD)])
    tifffile.imwrite(path, frames, metadata=None)
    return path


def demo_configuration(path: Path, *, camera: str = "DCam") -> Path:
    """A configuration of Micro-Manager's DemoCamera with few devices; `camera` may be one that is not there."""
    path.write_text(
        "Property,Core,Initialize,0\n"
        "Device,DHub,DemoCamera,DHub\n"
        f"Device,Camera,DemoCamera,{camera}\n"
        "Device,Z,DemoCamera,DStage\n"
        "Property,Camera,MaximumExposureMs,20000.0\n"
        "Parent,Camera,DHub\nParent,Z,DHub\n"
        "Property,Core,Initialize,1\n"
        "Property,Core,Camera,Camera\nProperty,Core,Focus,Z\n"
        "Property,Camera,PixelType,16bit\nProperty,Camera,BitDepth,16\n",
        encoding="utf-8",
    )
    return path


def demo_microscope(configuration: Path, **more: Any) -> dict[str, Any]:
    """Settings of a microscope with the DemoCamera."""
    from hardware.core_session import democamera_installation

    adapters, _ = democamera_installation()
    return {
        "driver": "micromanager",
        "moves": "sample",
        "micromanager": {"app_path": adapters, "config_file": configuration, "buffer_mb": 16, **more},
    }


class Service:
    """A running service.

    Attributes
    ----------
    supervisor, store, client : what the test may look at
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor(settings)
        self.store = Store.open(settings.database)
        self.client: SyncEngineClient

    def __enter__(self) -> Self:
        real = engine_child.engine_process
        engine_child.engine_process = engine_with_saboteur
        try:
            self.supervisor.start()
        finally:
            engine_child.engine_process = real
        self.client = SyncEngineClient(self.supervisor.address, 2.0)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.__exit__(None, None, None)
        self.supervisor.stop()

    def close(self) -> None:
        """Let go of the database, after the service has ended."""
        self.store.close()

    # ---- what a user sees ----

    def get(self, path: str) -> tuple[int, dict[str, Any]]:
        """Status and JSON of an HTTP request; (0, {}) when nobody answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.supervisor.port}{path}", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except (OSError, ValueError):
            return 0, {}

    def readiness(self) -> tuple[int, str]:
        """Status of /readyz, and what it says is wrong."""
        code, answer = self.get("/readyz")
        return code, str(answer.get("detail", answer.get("status", "")))

    def wait_until_ready(self) -> None:
        wait_for(lambda: self.readiness()[0] == 200)

    def wait_until_away(self, reason: str) -> str:
        """Until /readyz is 503 with a reason that contains `reason`."""

        def away() -> str | None:
            code, said = self.readiness()
            return said if code == 503 and reason in said else None

        return wait_for(away)

    def events(self) -> list[str]:
        """Kinds of the events of /api/v1/events, newest first."""
        return [event["kind"] for event in self.get("/api/v1/events")[1]["items"]]

    def wait_for_event(self, kind: str) -> str:
        """The message of the newest event of this kind."""

        def message() -> str | None:
            items = self.get(f"/api/v1/events?kind={kind}")[1].get("items")
            return str(items[0]["message"]) if items else None

        return wait_for(message)

    @contextlib.contextmanager
    def recovery(self, fault: str) -> Iterator[None]:
        """Note how long it takes from the fault, at the beginning of the block, until /readyz is 200 again.

        The times are written to the file that BATHYSCOPE_TEST_TIMES names, one JSON object a line; none is judged.
        """
        begun_s = time.monotonic()
        yield
        self.wait_until_ready()
        if path := os.environ.get("BATHYSCOPE_TEST_TIMES"):
            entry = {"fault": fault, "ready_again_s": round(time.monotonic() - begun_s, 2)}
            with open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")

    # ---- the run ----

    def status(self) -> dict[str, Any]:
        try:
            return self.client.status()
        except EngineAway:
            return {}

    def wait_for_run(self, *, recorded: int = 48, other_than: str | None = None) -> str:
        """The id of a run that has recorded this many frames."""

        def running() -> str | None:
            status = self.status()
            run_id = status.get("run_id")
            enough = run_id and run_id != other_than and (status["ledger"] or {}).get("recorded", 0) >= recorded
            return str(run_id) if enough else None

        return wait_for(running)

    def wait_until_ended(self, run_id: str) -> Run:
        """The run, when the database says that it has ended."""
        return wait_for(lambda: ((run := self.store.runs.get(run_id)).state != "running" and run) or None)

    def sabotage(self, deed: str, **details: Any) -> None:
        """Have harm done inside the engine, and wait until it is done."""
        give_order(self.settings.data_dir, deed, **details)
        wait_for(lambda: not (self.settings.data_dir / ORDER).exists())

    # ---- what is kept ----

    def check_recording(self, run_id: str, expected: Callable[[int], np.ndarray] | None = None) -> np.ndarray:
        """Check that every committed frame can be read and is the right one; return their image numbers."""
        run = self.store.runs.get(run_id)
        committed = self.store.frames.committed(run_id)
        assert run.recording is not None
        group = zarr.open_group(str(self.settings.data_dir / run.recording), mode="r")
        image, numbers = group["0"], np.asarray(group["frame"][:])
        assert image.shape[0] >= len(committed)
        assert (numbers[: len(committed)] == committed).all()
        assert (np.diff(committed) > 0).all()
        planes = np.asarray(image[: len(committed)])
        if expected is None:
            assert planes.any(axis=(1, 2)).all()
        else:
            for number, plane in zip(committed, planes, strict=True):
                assert np.array_equal(plane, expected(int(number))), f"frame {number}"
        return committed


@contextlib.contextmanager
def running(settings: Settings) -> Iterator[Service]:
    """A service that is ready; it is stopped at the end."""
    service = Service(settings)
    try:
        with service:
            service.wait_until_ready()
            yield service
    finally:
        service.close()

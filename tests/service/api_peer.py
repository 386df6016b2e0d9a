"""The API under test, and a peer that speaks the engine's protocol through the engine's own sockets."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.api.app import create_app
from service.api.server import serve_app
from service.engine.recorder import Recording
from service.files.job import JobKind
from service.files.jobs import Jobs
from service.protocol import wire
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineRefusal
from service.protocol.live import LivePublisher
from service.settings import Settings
from service.store.frames import FrameTimes
from service.store.result_batch import ResultBatch
from service.store.runs import RunFigures, new_run_id
from service.store.store import Store
from tests.service.store_samples import frame_times, sample_batch, sample_ledger

RECORDED = (0, 1, 2, 5, 6, 7, 9)
"""Image numbers of the frames of `recorded_run`; 3, 4 and 8 were lost."""

RECORDED_PIXEL_UM = 0.65
_SHARD = 4


def unexpected(error: Exception) -> None:
    """Nothing in a test ends the peer's servers."""
    raise AssertionError("the server failed") from error


class Peer:
    """Answers commands and publishes, as the engine does; `jobs` is where it begins calibrations."""

    def __init__(self, address: LinkAddress, store: Store, jobs: Jobs | None = None) -> None:
        self.store = store
        self.jobs = jobs
        self.run_id: str | None = None
        self.microscope: dict[str, Any] = {"state": "ready", "problem": None, "stage": {"stage_um": 12.5}}
        self.stop_answer: dict[str, Any] = {"confirmed": True, "reason": None}
        self.refusal: EngineRefusal | None = None
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.live = LivePublisher(address)
        self._one_command = threading.Lock()
        self._servers = [
            CommandServer(address, address.commands, self._answer, unexpected),
            CommandServer(address, address.stop, lambda command, arguments: self.stop_answer, unexpected),
        ]

    def _answer(self, command: str, arguments: dict[str, Any]) -> Any:
        """The answer to one command; those that come at once wait, as for the lock of the engine's lease."""
        with self._one_command:
            return self._answered(command, arguments)

    def _answered(self, command: str, arguments: dict[str, Any]) -> Any:
        self.commands.append((command, arguments))
        if self.refusal is not None:
            raise self.refusal
        if command in ("microscope.set", "microscope.live", "stage.move"):
            return {"state": "ready", "problem": None, "set": arguments}
        if command in ("microscope.properties", "microscope.property"):
            known = {
                "id": "Camera/Gain", "device": "Camera", "kind": "camera", "name": "Gain", "value": "0",
                "type": "integer", "limits": [-5.0, 8.0], "allowed": [], "read_only": False, "before_start": False,
                "of_stage": None, "is_trigger": False, "not_settable": None,
            }  # fmt: skip
            return [known] if command == "microscope.properties" else {**known, "value": arguments["value"]}
        if command in ("calibration.start", "focus.start") and self.jobs is not None:
            kind: JobKind = "focus" if command == "focus.start" else "calibrate"
            return {"id": self.jobs.create(kind, arguments["name"], arguments, step="sweep").id}
        if command == "model.activate":
            return arguments
        if command == "microscope.snap":
            return {"pixels": np.arange(12, dtype="<u2").tobytes(), "shape": [3, 4], "stage_um": 12.5}
        if command.startswith("control."):
            return {"commanded_s": 1.0, "stage": {"stage_um": 12.5}, "light": {}}
        if command == "microscope":
            return self.microscope
        if command == "run.start":
            if self.run_id is not None:
                raise EngineRefusal("conflict", f"Run {self.run_id} is on.", "Stop it first.")
            self.run_id = self.store.runs.create(model_id="reference", record=arguments["record"]).id
            return {"id": self.run_id}
        if command == "run.stop":
            self.store.runs.finish(arguments["id"])
            self.run_id = None
            return {"id": arguments["id"]}
        raise EngineRefusal("not_found", f"No command {command}.", "Update.")

    def publish_status(self, **changes: Any) -> None:
        """One status, ready unless `changes` says otherwise."""
        status = {
            "epoch": "e1", "state": "running", "ready": True, "problem": None, "remedy": None, "run_id": self.run_id,
            "active_model_id": "reference",
            "ledger": sample_ledger(4), "fps": 99.5, "fitted_frames": {"full": 40, "steps": 9, "none": 1},
            "stages": {"analysis": {"depth": 2, "highest": 5, "dropped": 0, "age_s": 0.01}},
            "latency_ms": {"tracked": {"p50": 10.0, "p95": 20.0, "p99": 30.0, "max": None}},
        }  # fmt: skip
        self.live.send_values("status", {**status, **changes})

    def publish_tracks(self, sequence: int, rows: int = 3) -> None:
        """The state of `rows` tracks."""
        header = {
            "epoch": "e1", "sequence": sequence, "captured_s": 1.0, "published_s": 1.01, "run": self.run_id,
            "frame": sequence, "t_s": sequence / 100, "fps": 99.5, "ledger": sample_ledger(0),
        }  # fmt: skip
        columns = {"track_id": np.arange(rows, dtype=np.uint32)}
        for name in ("x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", *(f"sigma_{axis}_um" for axis in "xyz")):
            columns[name] = np.full(rows, sequence, np.float32)
        columns["age"] = columns["flags"] = np.zeros(rows, np.uint32)
        self.live.send("tracks", wire.encode(wire.TRACKS, header, columns))

    def publish_preview(self, sequence: int, width: int = 64, height: int = 32) -> None:
        """A grey frame."""
        header = {
            "epoch": "e1", "sequence": sequence, "captured_s": 1.0, "published_s": 1.01, "frame": sequence,
            "width": width, "height": height, "scale": 4, "low_adu": 100, "high_adu": 900,
            "saturated": 5, "histogram": {"low_adu": 90, "bin_adu": 3, "pixels": [1, 2047]},
        }  # fmt: skip
        self.live.send("preview", wire.encode(wire.PREVIEW, header, {"pixels": np.full(width * height, 7, np.uint8)}))

    def close(self) -> None:
        for server in self._servers:
            server.close()
        self.live.close()


class Server:
    """The API on a real server at a free port."""

    def __init__(self, settings: Settings, address: LinkAddress, store: Store, page: Path) -> None:
        self.app = create_app(EngineClient(address, timeout_s=2.0), store, settings, page)
        self.port = 0
        self._stop, up = threading.Event(), threading.Event()

        def started(port: int) -> None:
            self.port = port
            up.set()

        here = settings.model_copy(update={"host": "127.0.0.1", "port": 0})
        options = {"stop": self._stop, "started": started}
        self._thread = threading.Thread(target=serve_app, args=(self.app, here), kwargs=options)
        self._thread.start()
        assert up.wait(20)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


@contextmanager
def link() -> Iterator[LinkAddress]:
    """An address whose folder is removed afterwards."""
    address = LinkAddress.create()
    try:
        yield address
    finally:
        for file in Path(address.folder).iterdir():
            file.unlink()
        Path(address.folder).rmdir()


def filled_store(folder: Path) -> tuple[Store, str]:
    """A store with one finished run of 5 batches and an event."""
    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    run = store.runs.create(model_id="reference", record=False, name="beads", notes="in water")
    for batch in range(5):
        store.append(
            run.id, ResultBatch(*sample_batch(batch), frame_times(batch)), sample_ledger(batch), RunFigures(fps=99.0)
        )
    store.runs.finish(
        run.id, figures=RunFigures(latency_ms={"tracked": {"p50": 10.0, "p95": 20.0, "p99": 30.0, "max": 40.0}})
    )
    store.events.add("run_finished", "The run ended.", run_id=run.id, details={"frames": 50})
    return store, run.id


def recorded_counts(number: int) -> Any:
    """The frame of a number in `recorded_run`: 100 n + column."""
    return np.tile(np.arange(12, dtype=np.uint16), (8, 1)) + np.uint16(100 * number)


def recorded_run(folder: Path, store: Store) -> str:
    """A finished run in the data directory `folder` with the recorded frames `RECORDED`."""
    run_id = new_run_id()
    path = folder / "recordings" / f"{run_id}.ome.zarr"
    path.parent.mkdir(exist_ok=True)
    relative = path.relative_to(folder).as_posix()
    run = store.runs.create(run_id=run_id, model_id="reference", record=True, name="frames", recording=relative)
    recording = Recording(path, (8, 12), RECORDED_PIXEL_UM, 0.01, _SHARD, {})
    for first in range(0, len(RECORDED), _SHARD):
        numbers = RECORDED[first : first + _SHARD]
        frames = FrameTimes.of(numbers, [0.01 * number for number in numbers])
        recording.append([recorded_counts(number) for number in numbers], frames)
        store.frames.commit(run.id, [(first, frames)])
    store.append(run.id, ResultBatch(*sample_batch(0), frame_times(0)), sample_ledger(0))
    store.runs.finish(run.id)
    return run.id

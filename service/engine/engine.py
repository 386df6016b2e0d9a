"""The real-time process: owns the microscope and the live model, and runs one run at a time.

States: ``starting``, ``model away``, ``microscope away``, ``ready`` and
``running``. An engine that shall begin with a run is starting until that
run's tracks flow.

A microscope that cannot be opened, or fails during a run, is tried again with
growing pauses, while commands are answered and the reason is told. Stopping
the microscope has a door and a thread of its own and takes no lock.
"""

from __future__ import annotations

import gc
import os
import secrets
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

import psutil
import structlog

from hardware.microscope import Microscope, MicroscopeError
from models.errors import DataError
from service.children import follow_parent, ignore_signals
from service.engine.recorder import Recording, check_free_space, limit_recording_threads
from service.engine.run import Run, RunRequest
from service.link import CommandServer, EngineRefusal, LinkAddress, LivePublisher
from service.logs import configure_logs
from service.settings import Settings
from service.store.errors import StoreError
from service.store.runs import new_run_id
from service.store.store import Store

if TYPE_CHECKING:
    from service.engine.instrument import LoadedModel

__all__ = ["Engine", "engine_process"]

State = Literal["starting", "model away", "microscope away", "ready", "running"]

_STATUS_S = 0.25
_STOP_PATIENCE_S = 2.5
"""After this the microscope's halt is reported as unconfirmed."""

_END_PATIENCE_S = 20.0
"""Longest that the end of a run is waited for: a full record queue of the largest sensor is written in less."""

_EXIT_PATIENCE_S = 3.0

_DRIVER_LIMIT_S = 180.0
"""Longest that a driver may take to open, start or close the microscope: homing all axes of a large stand takes less.
Beyond, the supervisor ends this process, because a call that hangs cannot be ended from within."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0

_SWITCH_S = 0.001
"""How long a Python thread may keep the others waiting; Python's own 5 ms is half a frame at 100 fps."""

_GARBAGE_THRESHOLD = 50_000
"""Objects between collections: with the imports frozen away, one takes under a millisecond."""

_log = structlog.get_logger(__name__)


class Engine:
    """Microscope, model, runs, and the doors to them.

    Parameters
    ----------
    settings : Settings
    address : LinkAddress
        Where the doors are.
    beat : callable
        Gets the heartbeat: ``{"state", "problem", "run_id", "frame_age_s", "frame_age_limit_s", "driver_call"}``.
    """

    def __init__(self, settings: Settings, address: LinkAddress, beat: Callable[[dict[str, Any]], None]) -> None:
        self.epoch = f"{int(time.time()):x}-{secrets.token_hex(4)}"
        self._settings = settings
        self._address = address
        self._beat = beat
        self._store = Store.open(settings.database)
        self._live = LivePublisher(address)
        self._control = threading.RLock()
        self._ending = threading.Event()
        self._wake = threading.Event()
        self._microscope: Microscope | None = None
        self._loaded: LoadedModel | None = None
        self._run: Run | None = None
        self._run_at_start = self._starts_first_run = settings.engine.run_at_start
        self._away: tuple[State, str, str] = ("starting", "The engine is starting.", "Wait a moment.")
        self._facts: dict[str, Any] = {}
        self._recent: tuple[float, int, float | None] = (time.monotonic(), 0, None)
        self._driver_call: tuple[str, float] | None = None
        self._process = psutil.Process()
        self._status: dict[str, Any] = {}
        self._handlers: dict[str, Callable[..., Any]] = {
            "status": lambda: self._status or self._take_status(),
            "microscope": self._microscope_now,
            "run.start": self._start_run,
            "run.stop": self._stop_run,
        }

    # ---- life ----

    def serve(self) -> None:
        """Work until `end` is called, then end the run and release the microscope."""
        commands = CommandServer(self._address, self._address.commands, self._answer)
        stop = CommandServer(self._address, self._address.stop, self._answer_stop, workers=2)
        ticker = threading.Thread(target=self._tick, name="status", daemon=True)
        ticker.start()
        pause_s = _FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                self._make_ready()
                pause_s = _FIRST_PAUSE_S
            except (MicroscopeError, DataError) as error:
                kind: State = "microscope away" if isinstance(error, MicroscopeError) else "model away"
                self._lose(kind, error.problem, error.remedy)
            except Exception as error:  # noqa: BLE001  a driver may raise anything; the engine stays and tells
                self._lose("microscope away", f"{type(error).__name__}: {error}.", "See the log of the service.")
            self._wake.wait(None if self._is_whole() else pause_s)
            self._wake.clear()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        commands.close()
        stop.close()
        run = self._run
        if run is not None:
            run.stop_camera()
            run.wait(_END_PATIENCE_S)
        if self._microscope is not None:
            self._microscope.close()
        ticker.join()
        self._live.close()
        self._store.close()

    def end(self, *, interrupted: bool = False) -> None:
        """Ask for the end; `interrupted` when nobody wanted it."""
        run = self._run
        if interrupted and run is not None:
            run.interrupted = True
        self._ending.set()
        self._wake.set()

    def _is_whole(self) -> bool:
        return self._loaded is not None and self._microscope is not None

    def _make_ready(self) -> None:
        """Bring back whatever is missing."""
        # torch, numba and the drivers take seconds to import; the doors are open meanwhile.
        from service.engine import instrument

        with self._control:
            if self._loaded is None:
                self._loaded = instrument.load_model(None, self._settings)
            if self._microscope is None:
                with self._calling("opening the microscope"):
                    microscope = instrument.open_instrument(self._settings)
                self._loaded.localizer.warm_up(instrument.frame_shape(microscope), self._settings.engine.batch)
                gc.collect()
                gc.freeze()
                self._facts = _facts_of(microscope)
                self._microscope = microscope
                if self._away[0] == "microscope away":
                    self._tell("microscope_back", f"The microscope is back: {microscope.description.camera}.")
            if self._run_at_start and self._run is None:
                self._run_at_start = False
                self._begin(RunRequest(record=self._settings.engine.record, name="At start"), self._loaded)

    def _lose(self, state: State, problem: str, remedy: str) -> None:
        if self._away != (state, problem, remedy):
            self._tell(state.replace(" ", "_"), f"{problem} {remedy}")
        self._away = (state, problem, remedy)

    # ---- commands ----

    def _answer(self, command: str, arguments: dict[str, Any]) -> Any:
        if command not in self._handlers:
            raise EngineRefusal("not_found", f"The engine knows no command {command!r}.", "Update the client.")
        try:
            return self._handlers[command](**arguments)
        except TypeError as error:
            raise EngineRefusal(
                "invalid", f"The arguments of {command} do not fit: {error}.", "Correct them."
            ) from error
        except MicroscopeError as error:
            raise EngineRefusal("microscope", error.problem, error.remedy) from error
        except DataError as error:
            raise EngineRefusal("invalid", error.problem, error.remedy) from error
        except StoreError as error:
            raise EngineRefusal("unavailable", error.problem, error.remedy) from error

    def _answer_stop(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command != "microscope.stop":
            raise EngineRefusal("not_found", "This door takes microscope.stop only.", "Use the other door.")
        microscope = self._microscope
        if microscope is None:
            return {"confirmed": False, "reason": self._away[1]}
        # A driver that hangs must not hold up the answer: its call is left behind.
        pool = ThreadPoolExecutor(1, thread_name_prefix="halt")
        try:
            confirmed = pool.submit(microscope.stop).result(_STOP_PATIENCE_S)
        except FutureTimeout:
            return {"confirmed": False, "reason": f"The driver did not answer within {_STOP_PATIENCE_S:g} s."}
        except Exception as error:  # noqa: BLE001  whatever went wrong, it is not confirmed
            return {"confirmed": False, "reason": f"{type(error).__name__}: {error}"}
        finally:
            pool.shutdown(wait=False)
        return {"confirmed": bool(confirmed), "reason": None if confirmed else "The driver did not confirm."}

    def _microscope_now(self) -> dict[str, Any]:
        """What is connected, as it stands; while a run is on the driver is not asked, the frames tell the position."""
        with self._held():
            if self._microscope is not None and self._run is None:
                self._facts = _facts_of(self._microscope)
        return self._microscope_status()

    @contextmanager
    def _held(self) -> Iterator[None]:
        """Control of microscope and runs, or a refusal when it is not to be had soon."""
        if not self._control.acquire(timeout=_STOP_PATIENCE_S):
            raise EngineRefusal(
                "unavailable", "The microscope is being opened or closed.", "Try again in a few seconds."
            )
        try:
            yield
        finally:
            self._control.release()

    def _start_run(
        self,
        model: str | None = None,
        record: bool = False,
        duration_s: float | None = None,
        name: str = "",
        notes: str = "",
    ) -> dict[str, Any]:
        """Start a run; None or ``"active"`` stands for the model in memory."""
        with self._held():
            if self._loaded is None or self._microscope is None:
                raise EngineRefusal("unavailable", self._away[1], self._away[2])
            if self._run is not None:
                raise EngineRefusal("conflict", f"Run {self._run.id} is on.", "Stop it first.")
            if model not in (None, "active", self._loaded.model.id):
                raise EngineRefusal(
                    "not_found",
                    f"Model {model} was asked for; {self._loaded.model.id} is active.",
                    "Leave the model out, or set `model` in the settings to its folder and restart.",
                )
            if duration_s is not None and not 0 < duration_s < threading.TIMEOUT_MAX:
                raise EngineRefusal("invalid", f"duration_s is {duration_s}; it must be positive.", "Correct it.")
            return {"id": self._begin(RunRequest(record, duration_s, name, notes), self._loaded)}

    def _begin(self, request: RunRequest, loaded: LoadedModel) -> str:
        from service.engine import instrument

        microscope, settings = self._microscope, self._settings
        if microscope is None:
            raise EngineRefusal("unavailable", self._away[1], self._away[2])
        model = loaded.model
        instrument.check_fit(loaded.localizer, microscope)
        shape = instrument.frame_shape(microscope)
        loaded.localizer.warm_up(shape, settings.engine.batch)
        self._facts = _facts_of(microscope)
        run_id = new_run_id()
        recording = self._new_recording(run_id, shape, model) if request.record else None
        self._store.runs.create(
            run_id=run_id,
            name=request.name,
            notes=request.notes,
            model_id=model.id,
            record=request.record,
            recording=None if recording is None else recording.path.relative_to(settings.data_dir).as_posix(),
            duration_s=request.duration_s,
            settings={"microscope": self._facts, "engine": settings.engine.model_dump(mode="json")},
        )
        run = Run(
            run_id,
            request,
            microscope=microscope,
            localizer=loaded.localizer,
            model=model,
            shape=shape,
            recording=recording,
            store=self._store,
            live=self._live,
            settings=settings.engine,
            epoch=self.epoch,
            tell=lambda kind, message: self._tell(kind, message, run_id=run_id),
            ended=self._run_ended,
        )
        self._run = run
        self._recent = (time.monotonic(), 0, None)
        self._tell("run_started", f"Run {run_id} started.", run_id=run_id)
        with self._calling("starting the camera"):
            run.start()
        return run_id

    def _new_recording(self, run_id: str, shape: tuple[int, int], model: Any) -> Recording:
        settings = self._settings
        folder = settings.data_dir / "recordings"
        folder.mkdir(parents=True, exist_ok=True)
        check_free_space(folder, settings.engine.free_space_floor_gb)
        period_s = self._facts["frame_period_s"] or self._facts["camera"]["exposure_s"]
        return Recording(
            folder / f"{run_id}.ome.zarr",
            shape,
            model.pixel_size_um,
            period_s,
            settings.engine.shard_frames,
            {"run": run_id, "model": model.id, "camera": model.camera.as_dict(), "microscope": self._facts},
        )

    def _stop_run(self, id: str | None = None) -> dict[str, Any]:
        """Stop the run and wait until it is in the database."""
        run = self._run
        if run is None or (id is not None and id != run.id):
            if id is not None:
                return {"id": self._store.runs.get(id).id}  # it has ended already
            raise EngineRefusal("conflict", "No run is on.", "Start one first.")
        run.stop_camera()
        if not run.wait(_END_PATIENCE_S):
            raise EngineRefusal("unavailable", f"Run {run.id} has not ended yet.", "Look again in a moment.")
        return {"id": run.id}

    def _run_ended(self, run: Run) -> None:
        """On a thread of the run."""
        self._run = None
        counts = run.ledger.counts()
        self._tell(
            "run_failed" if run.problem else "run_ended",
            f"Run {run.id} ended: {counts.analysed} frames analysed, {counts.lost} lost. {run.problem or ''}".strip(),
            run_id=run.id,
            details={"ledger": counts.as_dict()},
        )
        if run.microscope_failed and not self._ending.is_set():
            with self._control:
                microscope, self._microscope = self._microscope, None
                self._lose("microscope away", run.problem or "The microscope failed.", "It is being opened again.")
                if microscope is not None:
                    with _whatever_fails("closing the microscope"), self._calling("closing the microscope"):
                        microscope.close()
            self._wake.set()

    @contextmanager
    def _calling(self, name: str) -> Iterator[None]:
        """Let the heartbeat tell how long the driver takes."""
        self._driver_call = (name, time.monotonic())
        try:
            yield
        finally:
            self._driver_call = None

    # ---- telling ----

    def _tell(
        self, kind: str, message: str, *, run_id: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        """An event: to the log, to the database, to the feed."""
        _log.info(kind, message=message, run_id=run_id)
        now_s = time.time()
        with _whatever_fails("storing an event"):
            self._store.events.add(kind, message, run_id=run_id, details=details, occurred_at=now_s)
        self._live.send_values(
            "feed",
            {
                "type": "event",
                "epoch": self.epoch,
                "occurred_s": now_s,
                "kind": kind,
                "message": message,
                "run": run_id,
            },
        )

    def _tick(self) -> None:
        """Status and heartbeat, four times a second. Asks the driver nothing, so it cannot hang with it."""
        while not self._ending.wait(_STATUS_S):
            status = self._status = self._take_status()
            self._live.send_values("status", status)
            run = self._run
            self._beat(
                {
                    "state": status["state"],
                    "problem": status["problem"],
                    "run_id": status["run_id"],
                    "frame_age_s": None if run is None else run.frame_age_s,
                    "frame_age_limit_s": self._frame_age_limit_s(),
                    "driver_call": _call_as_dict(self._driver_call),
                }
            )

    def _frame_age_limit_s(self) -> float:
        exposure_s = self._facts.get("camera", {}).get("exposure_s", 0.0)
        return self._settings.engine.frame_age_limit_s + 3 * float(exposure_s)

    def _take_status(self) -> dict[str, Any]:
        run, loaded = self._run, self._loaded
        state, problem, remedy = self._state()
        counts = None if run is None else run.ledger.counts()
        with self._process.oneshot():
            process = {
                "pid": self._process.pid,
                "cpu_percent": self._process.cpu_percent(),
                "rss_mb": round(self._process.memory_info().rss / 1e6, 1),
                "threads": self._process.num_threads(),
            }
        return {
            "epoch": self.epoch,
            "time_s": time.time(),
            "state": state,
            "ready": state in ("ready", "running"),
            "problem": problem,
            "remedy": remedy,
            "microscope": self._microscope_status(),
            "model_id": None if loaded is None else loaded.model.id,
            "pixel_size_um": None if loaded is None else loaded.model.pixel_size_um,
            "z_range_um": None if loaded is None else list(loaded.model.z_range_um),
            "run_id": None if run is None else run.id,
            "record": run is not None and run.request.record,
            "ledger": None if counts is None else counts.as_dict(),
            "stages": {} if run is None else run.stages(),
            "latency_ms": {} if run is None else run.latencies.summary_ms(),
            "fps": None if run is None else self._recent_fps(run),
            "accuracy": None if run is None else run.accuracy(),
            "process": process,
        }

    def _state(self) -> tuple[State, str | None, str | None]:
        if not self._is_whole():
            return self._away
        run = self._run
        if self._run_at_start or (self._starts_first_run and run is not None and not run.flows):
            return "starting", None, None
        self._starts_first_run = False
        if run is None:
            return "ready", None, None
        return "running", run.problem, None

    def _recent_fps(self, run: Run) -> float | None:
        """Frames analysed per second over about the last two seconds."""
        since_s, before, last = self._recent
        now_s, analysed = time.monotonic(), run.ledger.counts().analysed
        if now_s - since_s >= 2.0:
            last = round((analysed - before) / (now_s - since_s), 2)
            self._recent = (now_s, analysed, last)
        return last if last is not None else run.fps

    def _microscope_status(self) -> dict[str, Any]:
        run = self._run
        facts = dict(self._facts)
        _, problem, remedy = self._state()
        if run is not None and run.stage_um is not None and facts:
            facts["stage"] = {**facts["stage"], "stage_um": run.stage_um}
        return {
            "state": "away" if self._microscope is None else "running" if run is not None else "ready",
            "problem": problem if self._microscope is None else None,
            "remedy": remedy if self._microscope is None else None,
            **facts,
        }


def _call_as_dict(call: tuple[str, float] | None) -> dict[str, Any] | None:
    if call is None:
        return None
    name, begun_s = call
    return {"name": name, "age_s": time.monotonic() - begun_s, "limit_s": _DRIVER_LIMIT_S}


def _facts_of(microscope: Microscope) -> dict[str, Any]:
    """Plain values of what the driver says."""
    limits = microscope.stage_limits
    driver = getattr(microscope, "inner", microscope)
    has_stage = microscope.description.focus_stage is not None
    return {
        "description": asdict(microscope.description),
        "camera": asdict(microscope.camera_settings),
        "frame_period_s": getattr(driver, "frame_period_s", None),
        "light": asdict(microscope.light),
        "stage": {
            "stage_um": microscope.stage_um if has_stage else None,
            "limits": asdict(limits) if has_stage else None,
        },
    }


@contextmanager
def _whatever_fails(purpose: str) -> Iterator[None]:
    """Go on when something that only helps fails; the log says what."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above
        _log.warning("failed", purpose=purpose, error=f"{type(error).__name__}: {error}")


def engine_process(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    """Entry point of the child process: work until the parent says so or is gone.

    Interrupts from the terminal are the parent's business. The pipe is the
    lifeline: heartbeats go up, ``"stop"`` comes down, and its end means that
    the parent died.
    """
    ignore_signals()
    configure_logs(settings.log_level)
    sys.setswitchinterval(_SWITCH_S)
    gc.set_threshold(_GARBAGE_THRESHOLD, 20, 20)
    # Read by torch when it is imported: its own threads, and those that numba and numpy would add to them.
    os.environ["OMP_NUM_THREADS"] = str(settings.engine.torch_threads)
    limit_recording_threads()

    def beat(values: dict[str, Any]) -> None:
        try:
            parent.send(values)
        except OSError:
            engine.end(interrupted=True)

    engine = Engine(settings, address, beat)

    follow_parent(parent, on_stop=engine.end, on_loss=lambda: engine.end(interrupted=True))
    engine.serve()
    # A driver's thread that hangs must not keep a process alive that has nothing left to do.
    last_resort = threading.Timer(_EXIT_PATIENCE_S, os._exit, (0,))
    last_resort.daemon = True
    last_resort.start()

"""The real-time process: owns the microscope and the live model, and runs one run at a time.

States: ``starting``, ``model away``, ``microscope away``, ``run waits``, ``ready``,
``running`` and ``calibrating``. The microscope has one owner at a time, a run
or the sweep of a calibration; whoever else wants it is told who has it. An
engine that shall begin with a run is starting until that run's tracks flow.

A microscope that cannot be opened, or fails during a run, is tried again with
growing pauses, while commands are answered and the reason is told. Stopping
the microscope has a door and a thread of its own and takes no lock.
"""

from __future__ import annotations

import gc
import inspect
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import psutil
import structlog

from hardware.microscope import CameraSettings, Microscope, MicroscopeError
from models.errors import DataError
from service.engine.catch_up import CatchUp
from service.engine.controls import facts_of, refusal_of, set_microscope
from service.engine.opening import open_instrument
from service.engine.recorder import Recording, check_free_space
from service.engine.run import NO_RUN, Run, RunRequest
from service.engine.sweep_request import SweepRequest
from service.engine.sweep_run import SweepRun
from service.engine.sweeping import axis_of, pixel_size_of
from service.files.camera_choice import camera_of
from service.files.jobs import Fault, Jobs
from service.files.library import Library
from service.files.sweep import clear_sweep
from service.protocol.addresses import LinkAddress
from service.protocol.command_server import CommandServer
from service.protocol.errors import EngineRefusal
from service.protocol.live import LivePublisher
from service.settings import Settings
from service.store.errors import StoreError, UnknownItem
from service.store.runs import new_run_id
from service.store.store import Store
from service.worker_thread import WorkerThread

if TYPE_CHECKING:
    from service.engine.analyzer import LocalizesFrames
    from service.engine.instrument import LoadedModel
    from service.engine.polish import SparePolish

__all__ = ["Engine"]

State = Literal["starting", "model away", "microscope away", "run waits", "ready", "running", "calibrating"]

_STATUS_S = 0.25
_STOP_PATIENCE_S = 2.5
"""After this the microscope's halt is reported as unconfirmed."""

_END_PATIENCE_S = 20.0
"""Longest that the end of a run is waited for: a full record queue of the largest sensor is written in less."""

_SWEEP_PATIENCE_S = 30.0
"""A focus drive may take so long for one move; only then a sweep hangs."""

_SWEEP_END_PATIENCE_S = 8.0
"""Longest that the end of a sweep is waited for; the supervisor waits 10 s for the engine."""

_DRIVER_LIMIT_S = 180.0
"""Longest that a driver may take to open, start or close the microscope: homing all axes of a large stand takes less.
Beyond, the supervisor ends this process, because a call that hangs cannot be ended from within."""

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0

_STARTING: tuple[State, str, str] = ("starting", "The engine is starting.", "Wait a moment.")

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
        self._camera: CameraSettings | None = None
        # Replaced as a whole, so that no thread sees a run with the model of another one.
        self._on: tuple[Run, LoadedModel] | None = None
        self._sweep: SweepRun | None = None
        # What must be written into jobs as soon as the disk takes it: of sweeps that ended, and of those that an
        # earlier engine left (None: not looked up yet).
        self._swept: list[SweepRun] = []
        self._cut_off: list[str] | None = None
        self._settling = threading.Lock()
        self._activating = threading.Lock()
        self._changing = threading.Lock()
        self._jobs = Jobs(settings.data_dir)
        self._library = Library(settings.data_dir, settings.model)
        self._catch_up = CatchUp(
            self._store,
            settings.data_dir,
            self._localizer_of,
            batch=settings.engine.batch,
            tell=lambda kind, message, run_id: self._tell(kind, message, run_id=run_id),
        )
        self._run_at_start = self._starts_first_run = settings.engine.run_at_start
        self._begin_pause_s, self._begin_after_s = _FIRST_PAUSE_S, 0.0
        self._away: tuple[State, str, str] = _STARTING
        self._facts: dict[str, Any] = {}
        self._driver_call: tuple[str, float] | None = None
        self._process = psutil.Process()
        self._status: dict[str, Any] = {}
        self._status_trouble: str | None = None
        self._handlers: dict[str, Callable[..., Any]] = {
            "status": self._status_now,
            "microscope": self._microscope_now,
            "microscope.set": self._set_microscope,
            "stage.move": self._move_stage,
            "calibration.start": self._start_calibration,
            "model.activate": self._activate_model,
            "run.start": self._start_run,
            "run.stop": self._stop_run,
        }

    # ---- life ----

    def serve(self) -> None:
        """Work until `end` is called, then end run or sweep and release the microscope."""
        self._settle_sweeps()
        commands = CommandServer(self._address, self._address.commands, self._answer, self._deaf)
        stop = CommandServer(self._address, self._address.stop, self._answer_stop, self._deaf, workers=2)
        ticker = _Ticker(self._ending, self._tick, self._deaf)
        ticker.start()
        self._catch_up.start()
        pause_s = _FIRST_PAUSE_S
        while not self._ending.is_set():
            try:
                self._make_ready()
                if not self._run_at_start:
                    pause_s = _FIRST_PAUSE_S
            except (MicroscopeError, DataError) as error:
                kind: State = "microscope away" if isinstance(error, MicroscopeError) else "model away"
                self._lose(kind, error.problem, error.remedy)
            except Exception as error:  # noqa: BLE001  a driver may raise anything; the engine stays and tells
                _log.exception("not_ready")
                self._lose("microscope away", f"{type(error).__name__}: {error}.", "See the log of the service.")
            settled = self._settle_sweeps()
            self._catch_up.wake()
            self._wake.wait(None if self._is_whole() and not self._run_at_start and settled else pause_s)
            self._wake.clear()
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        commands.close()
        stop.close()
        self._catch_up.close()
        run = self._run_now()
        if run is not None:
            run.stop_camera()
            run.wait(_END_PATIENCE_S)
        sweep = self._sweep
        if sweep is not None:
            sweep.interrupt()
            sweep.wait(_SWEEP_END_PATIENCE_S)
        if self._microscope is not None:
            with self._told("closing the microscope"):
                self._microscope.close()
        ticker.join()
        self._live.close()
        self._store.close()

    def end(self, interruption: str | None = None) -> None:
        """Ask for the end; `interruption` is the reason, as a sentence, when nobody wanted it."""
        run = self._run_now()
        if run is not None:
            run.interruption = run.interruption or interruption
        self._ending.set()
        self._wake.set()

    def _deaf(self, error: Exception) -> None:
        """End an engine that takes no commands or gives no sign of life any more; the supervisor starts another one."""
        reason = f"The engine ends, because a part of it failed ({type(error).__name__}: {error})."
        self._tell("engine_failed", reason)
        self.end(reason)

    def _is_whole(self) -> bool:
        return self._loaded is not None and self._microscope is not None

    def _make_ready(self) -> None:
        """Bring back whatever is missing. What it imports takes seconds; the doors are open meanwhile."""
        with self._control:
            if self._loaded is None:
                self._loaded = self._load_active()
            if self._microscope is None:
                with self._calling("opening the microscope"):
                    microscope = open_instrument(self._settings)
                try:
                    shape = microscope.description.frame_shape(microscope.camera_settings)
                    self._loaded.localizer.warm_up(shape, self._settings.engine.batch)
                    gc.unfreeze()  # the microscope that was open before is garbage now
                    gc.collect()
                    gc.freeze()
                    self._read_facts(microscope)
                except BaseException:
                    # Open and owned by nobody, it could not be opened again.
                    with self._told("closing the microscope"):
                        microscope.close()
                    raise
                self._microscope = microscope
                if self._away[0] == "microscope away":
                    self._tell("microscope_back", f"The microscope is back: {microscope.description.camera}.")
                    self._away = _STARTING  # so that the same loss is told again
            if self._run_at_start and self._run_now() is None and time.monotonic() >= self._begin_after_s:
                self._begin_unattended(self._loaded)

    def _begin_unattended(self, loaded: LoadedModel) -> None:
        """Begin the run that the settings ask for; what keeps it from beginning is told and tried again.

        It is not begun without its recording: then nobody would record it when there is space again.
        """
        try:
            with self._without_catching_up():
                self._begin(RunRequest(record=self._settings.engine.record, name="At start"), loaded)
        except (MicroscopeError, DataError, StoreError, EngineRefusal) as error:
            self._put_off_run(error.problem, error.remedy)
        except Exception as error:  # noqa: BLE001  a driver may raise anything, a disk too
            self._put_off_run(f"{type(error).__name__}: {error}.", "See the log of the service.")
        else:
            self._away = _STARTING

    def _put_off_run(self, problem: str, remedy: str) -> None:
        """Try to begin later, after pauses that grow."""
        is_first = self._begin_pause_s == _FIRST_PAUSE_S
        self._begin_after_s = time.monotonic() + self._begin_pause_s
        self._begin_pause_s = min(2 * self._begin_pause_s, _LONGEST_PAUSE_S)
        self._run_at_start, self._away = True, ("run waits", f"The run at start waits: {problem}", remedy)
        if is_first:  # the figures in the problem change from try to try
            self._tell("run_waits", f"{self._away[1]} {remedy}")

    def _load_active(self) -> LoadedModel:
        """The model that was made active, or else that of the settings."""
        from service.engine import instrument

        try:
            folder = self._library.active_folder()
            if folder is not None:
                return instrument.load_model(folder, self._settings)
        except (DataError, UnknownItem) as error:
            self._tell("model_lost", f"The active model cannot be loaded, so that of the settings is used: {error}")
        return instrument.load_model(None, self._settings)

    def _settle_sweeps(self) -> bool:
        """Write down how sweeps ended; False when the disk does not take it yet, and this has to be called again.

        An engine that starts has no sweep; what a job says is on was cut off. What such a sweep left is removed first,
        because on a full disk that makes the room for the words.
        """
        with self._settling:
            try:
                if self._cut_off is None:
                    self._cut_off = [job.id for job in self._jobs.open_jobs() if job.step == "sweep"]
                while self._cut_off:
                    self._mark_cut_off(self._cut_off[0])
                    del self._cut_off[0]
                while self._swept:
                    self._swept[0].write_down()
                    del self._swept[0]
            except (DataError, OSError) as error:
                _log.warning("sweep_not_written_down", error=str(error))
                return False
        return True

    def _mark_cut_off(self, job_id: str) -> None:
        fault = Fault(
            "The engine was ended during the sweep, so the stage was not put back; a restart moves nothing.",
            "Look at the position of the stage, then start the calibration again.",
        )
        clear_sweep(self._jobs.folder(job_id))
        self._jobs.move(job_id, "interrupted", error=fault)
        self._tell("calibration_interrupted", f"Calibration {job_id} was interrupted: {fault.problem}")

    def _read_facts(self, microscope: Microscope) -> None:
        self._facts, self._camera = facts_of(microscope), microscope.camera_settings

    @contextmanager
    def _facts_read_after(self, microscope: Microscope) -> Iterator[None]:
        """Read the microscope when the block has ended; when it failed, its error is the one that is told."""
        try:
            yield
        except BaseException:
            with self._told("reading the microscope"):
                self._read_facts(microscope)
            raise
        self._read_facts(microscope)

    @contextmanager
    def _told(self, purpose: str) -> Iterator[None]:
        """Go on when a step fails that cannot be refused to anybody; an event says what failed."""
        try:
            yield
        except Exception as error:  # noqa: BLE001  a driver may raise anything
            _log.exception("step_failed", purpose=purpose)
            self._tell("microscope_trouble", f"{purpose.capitalize()} failed ({type(error).__name__}: {error}).")

    def _lose(self, state: State, problem: str, remedy: str) -> None:
        if self._away != (state, problem, remedy):
            self._tell(state.replace(" ", "_"), f"{problem} {remedy}")
        self._away = (state, problem, remedy)

    # ---- commands ----

    def _answer(self, command: str, arguments: dict[str, Any]) -> Any:
        if command not in self._handlers:
            raise EngineRefusal("not_found", f"The engine knows no command {command!r}.", "Update the client.")
        handler = self._handlers[command]
        try:
            bound = inspect.signature(handler).bind(**arguments)
        except TypeError as error:
            raise EngineRefusal(
                "invalid", f"The arguments of {command} do not fit: {error}.", "Correct them."
            ) from error
        try:
            return handler(*bound.args, **bound.kwargs)
        except MicroscopeError as error:
            raise refusal_of(error) from error
        except DataError as error:
            raise EngineRefusal("invalid", error.problem, error.remedy) from error
        except UnknownItem as error:
            raise EngineRefusal("not_found", error.problem, error.remedy) from error
        except StoreError as error:
            raise EngineRefusal("unavailable", error.problem, error.remedy) from error

    def _answer_stop(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command != "microscope.stop":
            raise EngineRefusal("not_found", "This door takes microscope.stop only.", "Use the other door.")
        sweep, microscope = self._sweep, self._microscope
        if sweep is not None:
            sweep.halt()  # first, so that it sends the stage nowhere after the halt
        if microscope is None:
            return {"confirmed": False, "reason": self._away[1]}
        # A driver that hangs must not hold up the answer: its call is left behind.
        pool = ThreadPoolExecutor(1, thread_name_prefix="halt")
        deadline_s = time.monotonic() + _STOP_PATIENCE_S
        try:
            confirmed = pool.submit(microscope.stop).result(_STOP_PATIENCE_S)
        except FutureTimeout:
            return {"confirmed": False, "reason": f"The driver did not answer within {_STOP_PATIENCE_S:g} s."}
        except Exception as error:  # noqa: BLE001  whatever went wrong, it is not confirmed
            _log.exception("stop_failed")
            return {"confirmed": False, "reason": f"{type(error).__name__}: {error}"}
        finally:
            pool.shutdown(wait=False)
        if confirmed:
            # Confirmed means free as well, unless the end of what was on takes longer than the answer may.
            for owner in (self._run_now(), sweep):
                if owner is not None:
                    owner.wait(max(deadline_s - time.monotonic(), 0.0))
        return {"confirmed": bool(confirmed), "reason": None if confirmed else "The driver did not confirm."}

    def _microscope_now(self) -> dict[str, Any]:
        """What is connected, as it stands; while somebody has it the driver is not asked."""
        with self._held():
            if self._microscope is not None and self._owner() is None:
                self._read_facts(self._microscope)
        return self._microscope_status()

    def _run_now(self) -> Run | None:
        on = self._on
        return None if on is None else on[0]

    def _owner(self) -> dict[str, str] | None:
        """Who has the microscope: ``{"kind": "run" or "calibration", "id"}``."""
        run, sweep = self._run_now(), self._sweep
        if run is not None:
            return {"kind": "run", "id": run.id}
        return None if sweep is None else {"kind": "calibration", "id": sweep.id}

    def _free_microscope(self) -> Microscope:
        """The microscope, when it is there and nobody has it. To be called under `_held`."""
        if self._loaded is None or self._microscope is None:
            raise EngineRefusal("unavailable", self._away[1], self._away[2])
        owner = self._owner()
        if owner is not None:
            remedy = "Stop it first." if owner["kind"] == "run" else f"Wait, or cancel it: DELETE /jobs/{owner['id']}."
            problem = f"{owner['kind'].capitalize()} {owner['id']} is on and has the microscope."
            raise EngineRefusal("conflict", problem, remedy)
        return self._microscope

    def _set_microscope(self, **wanted: Any) -> dict[str, Any]:
        """Set camera and light."""
        with self._held():
            microscope = self._free_microscope()
            with self._calling("setting the microscope"), self._facts_read_after(microscope):
                set_microscope(microscope, wanted)
        return self._microscope_status()

    def _move_stage(self, stage_um: float) -> dict[str, Any]:
        """Move the focus drive, within its limits."""
        with self._held():
            microscope = self._free_microscope()
            with self._calling("moving the stage"), self._facts_read_after(microscope):
                microscope.move_stage(stage_um)
        return self._microscope_status()

    def _start_calibration(
        self,
        name: str,
        z_range_um: list[float],
        z_step_um: float,
        repeats: int = 2,
        settle_s: float = 0.05,
        exposure_s: float | None = None,
        pixel_size_um: float | None = None,
        camera: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Start the sweep of a calibration, after everything that can be checked was; the rest is a worker's."""
        low, high = z_range_um
        request = SweepRequest((float(low), float(high)), z_step_um, repeats, settle_s, pixel_size_um, exposure_s)
        request.check()
        asked: dict[str, Any] = {
            "z_range_um": [low, high],
            "z_step_um": z_step_um,
            "repeats": repeats,
            "settle_s": settle_s,
            "exposure_s": exposure_s,
            "pixel_size_um": pixel_size_um,
            "camera": None if camera is None else camera_of(camera).as_dict(),
        }
        floor_gb = self._settings.engine.free_space_floor_gb
        if self._cut_off is None:
            raise EngineRefusal(
                "unavailable", f"The jobs in {self._settings.data_dir} cannot be read.", "See the log of the service."
            )
        with self._held():
            microscope = self._free_microscope()
            description = microscope.description
            if description.focus_stage is None:
                raise EngineRefusal(
                    "invalid",
                    f"The microscope ({description.driver}) has no focus drive, so it cannot sweep.",
                    "Calibrate from a sweep file: bathyscope calibrate.",
                )
            axis = axis_of(self._settings.microscope, description)
            pixel_um = pixel_size_of(microscope, request.pixel_size_um)
            size = request.size(axis, description.frame_shape(microscope.camera_settings))
            size.check_memory(exposures_too=False)
            size.check_disk(self._settings.data_dir, floor_gb)
            job = self._jobs.create("calibrate", name, asked, step="sweep", state="running")
            self._sweep = SweepRun(job, self._jobs, microscope, axis, request, pixel_um, floor_gb, self._sweep_ended)
            self._tell("calibration_started", f"Calibration {job.id} started.", details={"job": job.id})
            self._catch_up.pause()
            self._sweep.start()
        return {"id": job.id}

    def _sweep_ended(self, sweep: SweepRun) -> None:
        """On the sweep's thread: the microscope is free again."""
        with self._control:
            self._catch_up.resume()
            self._sweep = None
            if self._microscope is not None and not sweep.microscope_failed:
                with self._told("reading the microscope"):
                    self._read_facts(self._microscope)
        self._swept.append(sweep)
        told = {"queued": "swept", "cancelled": "cancelled", "interrupted": "interrupted"}.get(sweep.state, "failed")
        why = "" if sweep.fault is None else f": {sweep.fault.problem}"
        what = "has its sweep and is computed" if told == "swept" else f"was {told}" if told != "failed" else "failed"
        self._tell(f"calibration_{told}", f"Calibration {sweep.id} {what}{why or '.'}", details={"job": sweep.id})
        if sweep.microscope_failed:
            self._reopen_microscope(sweep.fault.problem if sweep.fault else None)
        if not self._settle_sweeps():
            self._wake.set()  # the engine's own thread goes on trying

    def _activate_model(self, id: str) -> dict[str, Any]:
        """Load a model beside the one that works, warm it up, and swap; a run goes on with it."""
        if not self._activating.acquire(blocking=False):
            raise EngineRefusal("conflict", "Another model is being made active.", "Wait a few seconds.")
        try:
            loaded = self._load_fitting(id)
            with self._held():
                # First what can fail. A model in memory that is not active on disk would be gone after a restart.
                on = self._on
                polish = None if on is None else self._polish(loaded)
                self._library.activate(id)
                self._loaded = loaded
                if on is not None:
                    self._swap_model(on, loaded, polish)
                run_id = None if on is None else on[0].id
            self._tell("model_activated", f"Model {id} is active.", run_id=run_id)
        finally:
            self._activating.release()
        return {"id": id}

    def _swap_model(self, on: tuple[Run, LoadedModel], loaded: LoadedModel, polish: SparePolish | None) -> None:
        """Let a run go on with another model. It may end at any moment, also now."""
        run, _ = on
        run.swap_model(loaded.localizer, loaded.model, polish)
        with self._changing:
            if self._on is on:
                self._on = (run, loaded)

    def _load_fitting(self, model_id: str) -> LoadedModel:
        """A model of the library, warmed up for the microscope as it is set."""
        from service.engine import instrument

        folder = self._library.model_folder(model_id)
        loaded = instrument.load_model(folder, self._settings)
        with self._held():
            microscope, camera = self._microscope, self._camera
        if microscope is not None and camera is not None:
            description = microscope.description
            instrument.check_fit(loaded.localizer, description, camera)
            instrument.warm_up(loaded, description.frame_shape(camera), self._period_s(), self._settings)
        return loaded

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
        """Start a run; None or ``"active"`` stands for the model in memory, any other is loaded for this run."""
        if duration_s is not None and not 0 < duration_s < threading.TIMEOUT_MAX:
            raise EngineRefusal("invalid", f"duration_s is {duration_s}; it must be positive.", "Correct it.")
        with self._held():
            self._free_microscope()
            active = self._loaded
        if active is not None and model not in (None, "active", active.model.id):
            chosen = self._load_fitting(str(model))
        else:
            chosen = None
        with self._held():
            self._free_microscope()
            loaded = chosen or self._loaded
            if loaded is None:
                raise EngineRefusal("unavailable", self._away[1], self._away[2])
            with self._without_catching_up():
                return {"id": self._begin(RunRequest(record, duration_s, name, notes), loaded)}

    def _begin(self, request: RunRequest, loaded: LoadedModel) -> str:
        from service.engine import instrument

        microscope, settings = self._microscope, self._settings
        if microscope is None:
            raise EngineRefusal("unavailable", self._away[1], self._away[2])
        model = loaded.model
        self._read_facts(microscope)
        camera = microscope.camera_settings
        instrument.check_fit(loaded.localizer, microscope.description, camera)
        shape = microscope.description.frame_shape(camera)
        instrument.warm_up(loaded, shape, self._period_s(), settings)
        run_id = new_run_id()
        recording = self._new_recording(run_id, shape, model) if request.record else None
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
            polish=self._polish(loaded),
            tell=lambda kind, message: self._tell(kind, message, run_id=run_id),
            ended=self._run_ended,
        )
        try:
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
        except Exception:
            if recording is not None:
                recording.discard()
            raise
        with self._changing:
            self._on = (run, loaded)
        self._run_at_start = False  # also when a person has begun it: then that person decides what comes next
        self._tell("run_started", f"Run {run_id} started.", run_id=run_id)
        with self._calling("starting the camera"):
            run.start()
        return run_id

    @contextmanager
    def _without_catching_up(self) -> Iterator[None]:
        """Begin a run while nothing else computes; deferred frames wait until it has ended, or has not begun."""
        self._catch_up.pause()
        try:
            yield
        except BaseException:
            if self._run_now() is None:
                self._catch_up.resume()
            raise

    def _polish(self, loaded: LoadedModel) -> SparePolish | None:
        return loaded.polish() if self._settings.engine.refine else None

    def _localizer_of(self, model_id: str) -> LocalizesFrames:
        from service.engine import instrument

        loaded = self._loaded
        if loaded is None or loaded.model.id != model_id:
            loaded = instrument.load_model(self._library.model_folder(model_id), self._settings)
        return loaded.localizer

    def _period_s(self) -> float:
        """Time from frame to frame, s: what the camera says, or at least its exposure."""
        return float(self._facts["frame_period_s"] or self._facts["camera"]["exposure_s"])

    def _new_recording(self, run_id: str, shape: tuple[int, int], model: Any) -> Recording:
        settings = self._settings
        folder = settings.data_dir / "recordings"
        folder.mkdir(parents=True, exist_ok=True)
        check_free_space(folder, settings.engine.free_space_floor_gb)
        return Recording(
            folder / f"{run_id}.ome.zarr",
            shape,
            model.pixel_size_um,
            self._period_s(),
            settings.engine.shard_frames,
            {"run": run_id, "model": model.id, "camera": model.camera.as_dict(), "microscope": self._facts},
        )

    def _stop_run(self, id: str | None = None) -> dict[str, Any]:
        """Stop the run and wait until it is in the database."""
        run = self._run_now()
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
        self._catch_up.resume()
        self._catch_up.wake()
        with self._changing:
            self._on = None
        counts = run.ledger.counts()
        self._tell(
            "run_ended" if run.state == "finished" else f"run_{run.state}",
            f"Run {run.id} ended: {counts.analysed} frames analysed, {counts.lost} lost. {run.problem or ''}".strip(),
            run_id=run.id,
            details={"ledger": counts.as_dict()},
        )
        if run.microscope_failed:
            # As after a restart of this process: what shall run unattended goes on when the microscope is back.
            if run.flows:
                self._begin_pause_s = _FIRST_PAUSE_S
            elif self._settings.engine.run_at_start:
                self._put_off_run(run.problem or "The microscope failed.", "It is tried again.")
            self._run_at_start = self._settings.engine.run_at_start
            self._reopen_microscope(run.problem)

    def _reopen_microscope(self, problem: str | None) -> None:
        """Let go of a microscope that failed; the engine's own thread opens it again."""
        if self._ending.is_set():
            return
        with self._control:
            microscope, self._microscope = self._microscope, None
            self._lose("microscope away", problem or "The microscope failed.", "It is being opened again.")
            if microscope is not None:
                with self._told("closing the microscope"), self._calling("closing the microscope"):
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

    def _status_now(self) -> dict[str, Any]:
        """The last status, or the first one."""
        return self._status or self._take_status()

    def _tick(self) -> None:
        """Status and heartbeat, once. Asks the driver nothing, so it cannot hang with it.

        The heartbeat does not depend on the status: a status that cannot be taken or sent is a problem that is told,
        not a silence for which the engine is killed.
        """
        try:
            status = self._status = self._take_status()
            self._live.send_values("status", status)
            state, problem = status["state"], status["problem"]
            self._status_trouble = None
        except Exception as error:  # noqa: BLE001  see above
            state, problem = self._state()[0], f"The status cannot be told ({type(error).__name__}: {error})."
            self._status = {**self._status, "problem": problem, "remedy": "See the log of the service."}
            if self._status_trouble != problem:
                self._status_trouble = problem
                _log.exception("status_failed")
                self._tell("status_failed", problem)
        run, sweep = self._run_now(), self._sweep
        self._beat(
            {
                "state": state,
                "problem": problem,
                "run_id": None if run is None else run.id,
                "frame_age_s": sweep.age_s if sweep is not None else None if run is None else run.frame_age_s,
                "frame_age_limit_s": self._frame_age_limit_s(sweep),
                "driver_call": _call_as_dict(self._driver_call),
            }
        )

    def _frame_age_limit_s(self, sweep: SweepRun | None) -> float:
        exposure_s = 0.0 if self._camera is None else self._camera.exposure_s
        limit_s = self._settings.engine.frame_age_limit_s + 3 * exposure_s
        return limit_s if sweep is None else limit_s + sweep.longest_step_s + _SWEEP_PATIENCE_S

    def _take_status(self) -> dict[str, Any]:
        run, loaded = self._on or (None, self._loaded)
        state, problem, remedy = self._state()
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
            "ready": state in ("ready", "running", "calibrating"),
            "problem": problem,
            "remedy": remedy,
            "microscope": self._microscope_status(),
            "owner": self._owner(),
            "model_id": None if loaded is None else loaded.model.id,
            "active_model_id": None if self._loaded is None else self._loaded.model.id,
            "pixel_size_um": None if loaded is None else loaded.model.pixel_size_um,
            "z_range_um": None if loaded is None else list(loaded.model.z_range_um),
            **(NO_RUN if run is None else run.status()),
            "process": process,
        }

    def _state(self) -> tuple[State, str | None, str | None]:
        if not self._is_whole():
            return self._away
        run = self._run_now()
        if self._run_at_start and run is None:
            return self._away if self._away[0] == "run waits" else ("starting", *self._away[1:])
        if self._starts_first_run and run is not None and not run.flows:
            return "starting", None, None
        self._starts_first_run = False
        if run is None:
            return "ready" if self._sweep is None else "calibrating", None, None
        return "running", run.problem, None

    def _microscope_status(self) -> dict[str, Any]:
        run = self._run_now()
        facts = dict(self._facts)
        _, problem, remedy = self._state()
        if run is not None and run.stage_um is not None and facts:
            facts["stage"] = {**facts["stage"], "stage_um": run.stage_um}
        using = "running" if run is not None else "ready" if self._sweep is None else "calibrating"
        return {
            "state": "away" if self._microscope is None else using,
            "owner": self._owner(),
            "problem": problem if self._microscope is None else None,
            "remedy": remedy if self._microscope is None else None,
            **facts,
        }


class _Ticker(WorkerThread):
    """Calls `tick` four times a second until the end. When that fails, the engine must not go on unwatched: it ends."""

    def __init__(self, ending: threading.Event, tick: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        super().__init__("status", failed)
        self._ending = ending
        self._tick = tick

    def work(self) -> None:
        while not self._ending.wait(_STATUS_S):
            self._tick()


def _call_as_dict(call: tuple[str, float] | None) -> dict[str, Any] | None:
    if call is None:
        return None
    name, begun_s = call
    return {"name": name, "age_s": time.monotonic() - begun_s, "limit_s": _DRIVER_LIMIT_S}


@contextmanager
def _whatever_fails(purpose: str) -> Iterator[None]:
    """Go on when something that only helps fails; the log says what."""
    try:
        yield
    except Exception as error:  # noqa: BLE001  see above
        _log.warning("failed", purpose=purpose, error=f"{type(error).__name__}: {error}")

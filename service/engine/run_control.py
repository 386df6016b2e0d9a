"""Starting and stopping runs: for the commands of clients, and for the run at start."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from hardware.microscope import MicroscopeError
from models.background.mode import StaticLightMode
from models.errors import DataError
from models.model_card import ModelCard
from service.engine.catch_up import CatchUp
from service.engine.event_log import EventLog
from service.engine.lease import Lease, LeaseState
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.model_slot import ModelSlot
from service.engine.recorder import Recording, check_free_space
from service.engine.run import Run, RunOutputs, RunRequest, RunSource
from service.engine.unattended_run import UnattendedRun
from service.protocol.errors import EngineRefusal
from service.settings import Settings
from service.store.errors import StoreError
from service.store.runs import new_run_id
from service.version import installed_version

if TYPE_CHECKING:
    from service.engine.loaded_model import LoadedModel

__all__ = ["RunControl"]

_END_PATIENCE_S = 20.0
"""Longest wait for the end of a run: a full record queue of the largest sensor is written in less."""


class RunControl:
    """Starts and stops runs on the microscope of the lease.

    Parameters
    ----------
    settings : Settings
    lease : Lease
    microscope : MicroscopeSlot
    models : ModelSlot
    outputs : RunOutputs
        Where the results of the runs go.
    events : EventLog
    catch_up : CatchUp
        Paused during a run.
    """

    def __init__(
        self,
        settings: Settings,
        lease: Lease,
        microscope: MicroscopeSlot,
        models: ModelSlot,
        outputs: RunOutputs,
        events: EventLog,
        catch_up: CatchUp,
    ) -> None:
        self.unattended = UnattendedRun(settings.engine.run_at_start, events)
        self._settings = settings
        self._lease = lease
        self._microscope = microscope
        self._models = models
        self._outputs = outputs
        self._events = events
        self._catch_up = catch_up

    # ---- commands ----

    def start(
        self,
        model: str | None = None,
        record: bool = False,
        duration_s: float | None = None,
        name: str = "",
        notes: str = "",
        tracking: dict[str, Any] | None = None,
        static_light: StaticLightMode | None = None,
        fit: Literal["auto", "off"] | None = None,
    ) -> dict[str, Any]:
        """Start a run; for None or ``"active"`` with the active model, for another one after loading it.

        `fit` is ``"auto"`` to fit emitters to the camera images as time allows, or ``"off"``; None: as in `tracking`.

        Raises
        ------
        EngineRefusal
            When the microscope is not free, or an argument is out of range.
        MicroscopeError, DataError, StoreError
            Whatever keeps the run from beginning.
        """
        if duration_s is not None and not 0 < duration_s < threading.TIMEOUT_MAX:
            raise EngineRefusal("invalid", f"duration_s is {duration_s}; it must be positive.", "Correct it.")
        try:
            chosen_tracking = self._settings.tracking.changed_by(
                {**(tracking or {}), **({} if fit is None else {"fit": fit})}
            )
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            where = ".".join(["tracking", *(str(part) for part in fault["loc"])])
            raise EngineRefusal("invalid", f"{where}: {fault['msg']}.", "Correct it.") from None
        with self._lease.held():
            self._lease.require_free()
            active = self._models.active
        if active is not None and model not in (None, "active", active.model.id):
            chosen = self._models.load_beside(str(model))
        else:
            chosen = None
        with self._lease.held():
            self._lease.require_free()
            loaded = chosen or self._models.load()
            with self._without_catching_up():
                chosen_light = static_light or self._settings.analysis.static_light
                request = RunRequest(record, duration_s, name, notes, chosen_tracking, chosen_light)
                return {"id": self._begin(request, loaded)}

    def stop(self, id: str | None = None) -> dict[str, Any]:
        """Stop the run and wait until it is in the database.

        Raises
        ------
        EngineRefusal
            When there is no run, or its end takes longer than 20 s.
        UnknownItem
            When there never was a run with this id.
        """
        run = self._lease.run
        if run is None or (id is not None and id != run.id):
            if id is not None:
                return {"id": self._outputs.store.runs.get(id).id}  # it has ended already
            raise EngineRefusal("conflict", "No run is on.", "Start one first.")
        run.stop_camera()
        if not run.wait(_END_PATIENCE_S):
            raise EngineRefusal("unavailable", f"Run {run.id} has not ended yet.", "Look again in a moment.")
        return {"id": run.id}

    # ---- start and end of the engine ----

    def begin_unattended(self) -> None:
        """Begin the run at start when it is due; an obstacle becomes an event, and the run is tried again.

        It does not begin without its recording, because the recording would then be missing for the whole run.
        """
        if not self.unattended.is_due or self._lease.state not in (LeaseState.FREE, LeaseState.LIVE):
            return
        try:
            with self._without_catching_up():
                settings = self._settings
                request = RunRequest(
                    settings.engine.record,
                    name="At start",
                    tracking=settings.tracking,
                    static_light=settings.analysis.static_light,
                )
                self._begin(request, self._models.load())
        except (MicroscopeError, DataError, StoreError, EngineRefusal) as error:
            self.unattended.put_off(error.problem, error.remedy)
        except Exception as error:  # noqa: BLE001  a driver or a disk may raise anything
            self.unattended.put_off(f"{type(error).__name__}: {error}.", "See the log of the service.")

    def end(self) -> None:
        """Stop the run, if there is one, at the end of the engine."""
        run = self._lease.run
        if run is not None:
            run.stop_camera()
            run.wait(_END_PATIENCE_S)

    # ---- begin and end of a run ----

    def _begin(self, request: RunRequest, loaded: LoadedModel) -> str:
        microscope, settings = self._microscope.free_microscope(), self._settings
        self._microscope.read_facts(microscope)
        camera = microscope.camera_settings
        self._models.prepare(loaded, microscope, camera, fits=request.tracking.fits)
        shape = microscope.description.frame_shape(camera)
        run_id = new_run_id()
        recording = self._new_recording(run_id, shape, loaded.model) if request.record else None
        try:
            run = Run(
                run_id,
                request,
                source=RunSource(microscope, shape, recording),
                model=self._models.for_analysis(loaded),
                outputs=self._outputs,
                settings=settings.engine,
                add_event=lambda kind, message: self._events.add(kind, message, run_id=run_id),
                ended=self._ended,
            )
            self._outputs.store.runs.create(
                run_id=run_id,
                name=request.name,
                notes=request.notes,
                model_id=loaded.model.id,
                record=request.record,
                recording=None if recording is None else recording.path.relative_to(settings.data_dir).as_posix(),
                duration_s=request.duration_s,
                settings={
                    "microscope": self._microscope.facts,
                    "engine": settings.engine.model_dump(mode="json"),
                    "analysis": {"static_light": request.static_light},
                    "tracking": request.tracking.record(),
                    "version": installed_version(),
                },
            )
        except Exception:
            if recording is not None:
                recording.discard()
            raise
        self._lease.become(LeaseState.RUN, run=run)
        self.unattended.begun()
        self._events.add("run_started", f"Run {run_id} started.", run_id=run_id)
        with self._microscope.calling("starting the camera"):
            run.start()
        return run_id

    def _new_recording(self, run_id: str, shape: tuple[int, int], model: ModelCard) -> Recording:
        settings = self._settings
        folder = settings.data_dir / "recordings"
        folder.mkdir(parents=True, exist_ok=True)
        check_free_space(folder, settings.engine.free_space_floor_gb)
        return Recording(
            folder / f"{run_id}.ome.zarr",
            shape,
            model.pixel_size_um,
            self._microscope.frame_period_s,
            settings.engine.shard_frames,
            {"run": run_id, "model": model.id, "camera": model.camera.as_dict(), "microscope": self._microscope.facts},
        )

    @contextmanager
    def _without_catching_up(self) -> Iterator[None]:
        """Begin a run while nothing else computes; the end of the run, or its failure to begin, resumes the rest."""
        self._catch_up.pause()
        try:
            yield
        except BaseException:
            if self._lease.run is None:
                self._catch_up.resume()
            raise

    def _ended(self, run: Run) -> None:
        """Free the microscope, on a thread of the run."""
        self._catch_up.resume()
        self._catch_up.wake()
        is_closing = self._microscope.end_use(failed=run.microscope_failed, problem=run.problem)
        counts = run.ledger.counts()
        self._events.add(
            "run_ended" if run.state == "finished" else f"run_{run.state}",
            f"Run {run.id} ended: {counts.analysed} frames analysed, {counts.lost} lost. {run.problem or ''}".strip(),
            run_id=run.id,
            details={"ledger": counts.as_dict()},
        )
        if run.microscope_failed:
            with self._lease.lock:
                self.unattended.ended_by_microscope(run.problem, flowed=run.flows)
        if is_closing:
            self._microscope.close_failed()

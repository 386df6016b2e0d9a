"""The lease of the microscope: one owner at a time, a run, a sweep, or the camera view.

There is one lock and one state. Everything that changes the microscope, the
active model or the owner (opening, closing, setting, moving, starting, swapping) holds
the lock meanwhile, and only `Lease.become` changes the state, along the
transitions of `_ALLOWED`. Status, heartbeat and the stop command read the
state without the lock, so a driver that hangs does not block them; therefore
state and owner are one value, which is replaced as a whole. A sweep is that of a
calibration, or an autofocus.

Another request for the microscope is refused: ``conflict`` with the owner, or
``unavailable`` with the reason why the microscope is away. Only the camera view
gives way: a request that needs the microscope ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from service.protocol.errors import EngineRefusal

if TYPE_CHECKING:
    from service.engine.live_view import LiveView
    from service.engine.run import Run
    from service.engine.sweep.stage_job import StageJob

__all__ = ["STARTING", "Absence", "Lease", "LeaseState", "Tenure"]

_PATIENCE_S = 2.5
"""Longest wait of a command for the lock: shorter than the time-out of the HTTP API."""


class LeaseState(Enum):
    """What happens to the microscope."""

    AWAY = "away"
    OPENING = "opening"
    FREE = "free"
    RUN = "run"
    SWEEP = "sweep"
    LIVE = "live"
    CLOSING = "closing"


_ALLOWED: Mapping[LeaseState, frozenset[LeaseState]] = MappingProxyType(
    {
        LeaseState.AWAY: frozenset({LeaseState.OPENING}),
        LeaseState.OPENING: frozenset({LeaseState.FREE, LeaseState.AWAY}),
        LeaseState.FREE: frozenset({LeaseState.RUN, LeaseState.SWEEP, LeaseState.LIVE}),
        LeaseState.RUN: frozenset({LeaseState.FREE, LeaseState.CLOSING}),
        LeaseState.SWEEP: frozenset({LeaseState.FREE, LeaseState.CLOSING}),
        LeaseState.LIVE: frozenset({LeaseState.FREE, LeaseState.CLOSING}),
        LeaseState.CLOSING: frozenset({LeaseState.AWAY}),
    }
)


@dataclass(frozen=True, slots=True)
class Absence:
    """Why the microscope or the model is away, as the status reports it."""

    state: Literal["starting", "model away", "microscope away"]
    problem: str
    remedy: str


STARTING = Absence(
    "starting",
    "The engine is starting; the first start on a computer takes a minute or two, because it compiles.",
    "Wait a moment.",
)


@dataclass(frozen=True, slots=True)
class Tenure:
    """State of the lease and its owner: a run in state RUN, a sweep in SWEEP, the camera view in LIVE, else none."""

    state: LeaseState
    run: Run | None = None
    sweep: StageJob | None = None
    live: LiveView | None = None

    @property
    def is_open(self) -> bool:
        """Whether the microscope is open and usable, with or without an owner."""
        return self.state in (LeaseState.FREE, LeaseState.RUN, LeaseState.SWEEP, LeaseState.LIVE)

    @property
    def owner(self) -> dict[str, str] | None:
        """The owner as plain values: ``{"kind": "run", "calibration", "focus" or "live", "id"}``."""
        if self.run is not None:
            return {"kind": "run", "id": self.run.id}
        if self.live is not None:
            return {"kind": "live", "id": "live"}
        return None if self.sweep is None else {"kind": self.sweep.kind, "id": self.sweep.id}


class Lease:
    """Who has the microscope.

    Attributes
    ----------
    lock : RLock
        Held during every change of microscope, model or owner.
    tenure : Tenure
        State and owner at this moment; read without the lock.
    absence : Absence
        Why the microscope is away, while it is.
    controller : callable
        Returns the name of the client that has control of stages and light (`service.engine.steering`), or None.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.tenure = Tenure(LeaseState.AWAY)
        self.absence = STARTING
        self.controller: Callable[[], str | None] = lambda: None

    @property
    def state(self) -> LeaseState:
        """Of the tenure."""
        return self.tenure.state

    @property
    def run(self) -> Run | None:
        """The run that has the microscope."""
        return self.tenure.run

    @property
    def sweep(self) -> StageJob | None:
        """The sweep that has the microscope."""
        return self.tenure.sweep

    def become(
        self,
        state: LeaseState,
        *,
        run: Run | None = None,
        sweep: StageJob | None = None,
        live: LiveView | None = None,
    ) -> None:
        """Change the state; the only place that does.

        Raises
        ------
        RuntimeError
            For a transition that is not allowed: an error of the program.
        """
        with self.lock:
            before = self.tenure.state
            if state not in _ALLOWED[before]:
                raise RuntimeError(f"the lease of the microscope cannot go from {before.value} to {state.value}")
            self.tenure = Tenure(state, run, sweep, live)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock during a command.

        Raises
        ------
        EngineRefusal
            When the lock is not free within 2.5 s.
        """
        if not self.lock.acquire(timeout=_PATIENCE_S):
            raise EngineRefusal(
                "unavailable", "The microscope is being opened, closed or set.", "Try again in a few seconds."
            )
        try:
            yield
        finally:
            self.lock.release()

    def require_free(self) -> None:
        """Refuse a command unless the microscope is open and has no owner but the camera view, which gives way.

        To be called with the lock.

        Raises
        ------
        EngineRefusal
            ``unavailable`` when it is away, ``conflict`` when it has another owner.
        """
        tenure = self.tenure
        if not tenure.is_open:
            raise self.unavailable()
        owner = tenure.owner
        if owner is not None and tenure.live is None:
            remedy = "Stop it first." if owner["kind"] == "run" else f"Wait, or cancel it: DELETE /jobs/{owner['id']}."
            problem = f"{owner['kind'].capitalize()} {owner['id']} is on and has the microscope."
            raise EngineRefusal("conflict", problem, remedy)

    def require_not_controlled(self) -> None:
        """Refuse a command while a client has control of stages and light. To be called with the lock.

        Raises
        ------
        EngineRefusal
            ``conflict``, with the name of the client.
        """
        name = self.controller()
        if name is not None:
            raise EngineRefusal(
                "conflict", f"{name} has control of stages and light.", "End that script first, or wait until it ends."
            )

    def unavailable(self) -> EngineRefusal:
        """The refusal of a command that needs the microscope, while it is away."""
        return EngineRefusal("unavailable", self.absence.problem, self.absence.remedy)

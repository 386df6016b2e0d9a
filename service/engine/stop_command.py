"""The stop command: halts the microscope at any moment.

It has its own socket and thread and takes no lock, so it does not wait for
other commands, for a driver that hangs, or for a busy database.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any

import structlog

from service.engine.lease import Lease
from service.engine.live_control import LiveControl
from service.engine.microscope_slot import MicroscopeSlot
from service.engine.steering import Steering
from service.protocol.errors import EngineRefusal

__all__ = ["StopCommand"]

_PATIENCE_S = 2.5
"""After this time the halt of the microscope is reported as not confirmed."""

_log = structlog.get_logger(__name__)


class StopCommand:
    """Halts the microscope, and ends the run, sweep or camera view that has it.

    Parameters
    ----------
    lease : Lease
    microscope : MicroscopeSlot
    steering : Steering
        The client that has control loses it.
    live : LiveControl
    """

    def __init__(self, lease: Lease, microscope: MicroscopeSlot, steering: Steering, live: LiveControl) -> None:
        self._lease = lease
        self._microscope = microscope
        self._steering = steering
        self._live = live

    def __call__(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Handle ``microscope.stop``, which has no arguments; return ``{"confirmed", "reason"}``.

        Raises
        ------
        EngineRefusal
            ``not_found`` for any other command.
        """
        if command != "microscope.stop":
            raise EngineRefusal("not_found", "This socket takes microscope.stop only.", "Use the other socket.")
        tenure, microscope = self._lease.tenure, self._microscope.microscope
        if tenure.sweep is not None:
            tenure.sweep.halt()  # first, so that the sweep does not move the stage after the halt
        self._live.halt()
        self._steering.revoke()
        if microscope is None:
            return {"confirmed": False, "reason": self._lease.absence.problem}
        # The call of a driver that hangs is abandoned, so that the client gets its reply.
        pool = ThreadPoolExecutor(1, thread_name_prefix="halt")
        deadline_s = time.monotonic() + _PATIENCE_S
        try:
            confirmed = pool.submit(microscope.stop).result(_PATIENCE_S)
        except FutureTimeout:
            return {"confirmed": False, "reason": f"The driver did not respond within {_PATIENCE_S:g} s."}
        except Exception as error:  # noqa: BLE001  after any error the halt is not confirmed
            _log.exception("stop_failed")
            return {"confirmed": False, "reason": f"{type(error).__name__}: {error}"}
        finally:
            pool.shutdown(wait=False)
        if confirmed:
            # A confirmed halt includes the end of the owner, unless that takes longer than the reply may.
            for owner in (tenure.run, tenure.sweep, tenure.live):
                if owner is not None:
                    owner.wait(max(deadline_s - time.monotonic(), 0.0))
        return {"confirmed": bool(confirmed), "reason": None if confirmed else "The driver did not confirm."}

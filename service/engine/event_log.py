"""Events of the engine: each goes to the log of the process, to the database and to the live feed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import structlog

from service.protocol.live import LivePublisher
from service.store.store import Store

__all__ = ["EventLog"]

_log = structlog.get_logger(__name__)


class EventLog:
    """Writes events. `add` may be called from any thread, and a database that fails does not stop it.

    Parameters
    ----------
    store : Store
    live : LivePublisher
    epoch : str
        Of the engine.
    """

    def __init__(self, store: Store, live: LivePublisher, epoch: str) -> None:
        self._store = store
        self._live = live
        self._epoch = epoch

    def add(
        self, kind: str, message: str, *, run_id: str | None = None, details: Mapping[str, Any] | None = None
    ) -> None:
        """Write one event.

        Parameters
        ----------
        kind : str
            Short name, for example ``"run_started"``.
        message : str
            For the user.
        run_id : str or None
            The run that the event concerns.
        details : mapping or None
            Further plain values, for the database.
        """
        _log.info(kind, message=message, run_id=run_id)
        now_s = time.time()
        try:
            self._store.events.add(kind, message, run_id=run_id, details=details, occurred_at=now_s)
        except Exception as error:  # noqa: BLE001  an event that cannot be stored must not stop what it reports
            _log.warning("event_not_stored", kind=kind, error=f"{type(error).__name__}: {error}")
        self._live.send_values(
            "feed",
            {
                "type": "event",
                "epoch": self._epoch,
                "occurred_s": now_s,
                "kind": kind,
                "message": message,
                "run": run_id,
            },
        )

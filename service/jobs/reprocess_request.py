"""The request of a reprocessing: checked when it is made, and again when the job begins."""

from __future__ import annotations

from typing import Any

from models.errors import DataError
from service.store.errors import InUse
from service.store.runs import Run
from service.store.store import Store
from service.tracking_settings import TrackingPart

__all__ = ["asked_tracking", "check_reprocessing"]


def asked_tracking(run: Run, request: dict[str, Any]) -> TrackingPart:
    """Settings of a run's tracking with those of a request."""
    return TrackingPart.of_record(run.settings.get("tracking")).changed_by(request.get("tracking") or {})


def check_reprocessing(store: Store, run: Run, tracking: TrackingPart) -> None:
    """Refuse a run whose tracks cannot be computed from its frames now.

    Raises
    ------
    InUse
        When the run is on, is not recorded, or its tracks are being computed.
    DataError
        When the tracking has no smoothing.
    """
    if run.state == "running":
        raise InUse(f"Run {run.id} is on.", "Stop it, or wait for its end.")
    if run.recording is None:
        raise InUse(
            f"Run {run.id} has no recording, so its frames cannot be read again.", "Record the next run ('record')."
        )
    if run.id in store.catch_ups.waiting():
        raise InUse(
            f"The tracks of run {run.id} are being computed, because it ended a short time ago.",
            "Wait for the event run_smoothed or run_caught_up of this run.",
        )
    if tracking.preset == "published":
        raise DataError("The published tracker has no smoothing.", "Give the preset 'default'.")

"""All checks, in the order in which a fault in one explains those after it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import filelock

from service.doctor.adapters import check_adapters
from service.doctor.findings import Finding, checked, ok, warning
from service.doctor.machine import check_clock, check_disk, check_gpu, check_port
from service.doctor.microscope import Seen, check_microscope
from service.doctor.model import check_model
from service.doctor.storage import check_database, check_keys, newest_event_s
from service.settings import Settings

__all__ = ["examine"]


def examine(settings: Settings, *, with_microscope: bool = True) -> Iterator[Finding]:
    """Check an installation; each finding comes when it is there.

    Parameters
    ----------
    settings : Settings
    with_microscope : bool
        Whether to open the microscope, unless a running service has it.
    """
    part = settings.microscope
    if part.driver == "micromanager" and part.micromanager.mode == "in-process":
        yield from checked("device interface", partial(check_adapters, part.micromanager))
    served = _is_served(settings)
    seen: Seen | None = None
    if served:
        yield warning(
            "microscope",
            f"A service runs on {settings.data_dir} and has the microscope, so the microscope was not opened.",
            "Ask the service: /readyz and /api/v1/microscope; or stop it and repeat the command.",
        )
    elif with_microscope:
        findings, seen = check_microscope(settings)
        yield from findings
    else:
        yield ok("microscope", "The microscope was not opened, as asked for.")
    yield from checked("disk", partial(check_disk, settings, seen))
    yield from checked("database", partial(check_database, settings))
    yield from checked("access", partial(check_keys, settings))
    yield from checked("port", partial(check_port, settings, served=served))
    yield from checked("gpu", partial(check_gpu, settings))
    yield from checked("model", partial(check_model, settings, seen))
    yield from checked("clock", lambda: check_clock(newest_event_s(settings)))


def _is_served(settings: Settings) -> bool:
    """Whether a service has the data directory."""
    if not settings.data_dir.is_dir():
        return False
    lock = filelock.FileLock(settings.data_dir / ".lock", blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        return True
    except OSError:  # the folder cannot be written, which the check of the disk reports
        return False
    lock.release()
    return False

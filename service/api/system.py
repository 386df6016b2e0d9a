"""The machine and the processes of the service."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Any

import psutil
from fastapi import APIRouter, Request

from service.api.dependencies import Engine, ServiceSettings, StoreOfRuns
from service.api.pages import page_state
from service.version import installed_version

__all__ = ["router"]

router = APIRouter(prefix="/system", tags=["system"])

_GB = 1e9


@router.get("")
def system(request: Request, engine: Engine, store: StoreOfRuns, settings: ServiceSettings) -> dict[str, Any]:
    """Version, machine, data directory, disk and processes."""
    return {
        "version": installed_version(),
        "machine": _machine(),
        "data_directory": str(settings.data_dir),
        "database": store.location,
        "disk": _disk(settings.data_dir),
        "processes": engine.processes(),
        "page": page_state(request),
    }


def _machine() -> dict[str, Any]:
    return {
        "name": platform.node(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / _GB, 1),
    }


def _disk(folder: Path) -> dict[str, float] | None:
    try:
        usage = shutil.disk_usage(folder)
    except OSError:  # the folder is not there yet
        return None
    return {"total_gb": round(usage.total / _GB, 2), "free_gb": round(usage.free / _GB, 2)}

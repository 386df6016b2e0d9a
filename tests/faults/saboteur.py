"""Faults inside the engine process: a thread that causes a fault when a test requests it.

The engine is the real one. What the thread does is what drivers and machines do: it dereferences a null pointer in
the camera's own library, unplugs a device, or holds the interpreter so that no Python thread runs.
"""

from __future__ import annotations

import ctypes
import json
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from service.process.engine_child import engine_process
from service.protocol.addresses import LinkAddress
from service.settings import Settings

ORDER = "sabotage.json"


def give_order(data_dir: Path, deed: str, **details: Any) -> None:
    """Request a fault from the thread in the engine; the file of the request is removed when it is done."""
    aside = data_dir / f"{ORDER}.new"
    aside.write_text(json.dumps({"deed": deed, **details}))
    aside.replace(data_dir / ORDER)


def engine_with_saboteur(settings: Settings, address: LinkAddress, parent: Connection) -> None:
    """The engine's entry point, with the additional thread."""
    threading.Thread(target=_serve, args=(settings.data_dir / ORDER,), daemon=True).start()
    engine_process(settings, address, parent)


def _serve(order: Path) -> None:
    order.unlink(missing_ok=True)
    while True:
        time.sleep(0.02)
        if order.exists():
            asked = json.loads(order.read_text())
            deed = asked.pop("deed")
            if deed == "crash":
                order.unlink()  # nothing comes after it
            DEEDS[deed](**asked)
            order.unlink(missing_ok=True)


def _core() -> Any:
    from mmpycorex import Core

    return Core()


def _crash(manner: str) -> None:
    _core().set_property("Camera", "SimulateCrash", manner)


def _set_exposure(milliseconds: float) -> None:
    _core().set_exposure(milliseconds)


def _unplug() -> None:
    core = _core()
    core.stop_sequence_acquisition()
    core.unload_device("Camera")


def _hold_interpreter(seconds: float) -> None:
    """Sleep in C without letting any other Python thread run, as a badly written extension does."""
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))


DEEDS: dict[str, Callable[..., None]] = {
    "crash": _crash,
    "set_exposure": _set_exposure,
    "unplug": _unplug,
    "hold_interpreter": _hold_interpreter,
}

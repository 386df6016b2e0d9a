"""A command handler with one command for each way in which a request can end."""

from __future__ import annotations

import time
from typing import Any

from service.protocol.errors import EngineRefusal


def handle(command: Any, arguments: Any) -> Any:
    if command == "wait":
        time.sleep(arguments["s"])
        return "waited"
    if command == "refuse":
        raise EngineRefusal("conflict", "Something is on.", "Stop it.")
    if command == "fail":
        raise RuntimeError("broken")
    if command == "undecodable":
        raise RuntimeError("25\udcb5m")
    if command == "odd letters":
        return "25\udcb5m"
    if command == "unpackable":
        return object()
    return {"command": command, **arguments}


def unexpected(error: Exception) -> None:
    raise AssertionError("the server failed") from error

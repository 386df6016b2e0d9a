"""The process of a private service: reads its settings from standard input, and ends when that input is closed.

It answers with one line of JSON: ``address`` and ``folder`` when the service
is ready, or ``problem`` and ``remedy``.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from typing import Any

from bathyscope_errors import BathyscopeError

__all__ = ["main"]

_READY_LIMIT_S = 180.0
"""Cold start on a slow, busy machine: imports, compilation and warm-up of the model."""

_POLL_S = 0.1


def main() -> None:
    """Run the service until standard input is closed."""
    # Ctrl+C and the end of a terminal are for the program that started this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # a library that prints must not disturb the answer
    asked = json.loads(sys.stdin.readline() or "null")
    if asked is None:
        return
    over = threading.Event()
    threading.Thread(target=_wait_for_end_of_input, args=(over,), daemon=True).start()
    folder = tempfile.mkdtemp(prefix="bathyscope-demo-")
    try:
        _serve(asked, folder, over, answers)
    except BathyscopeError as error:
        _answer(answers, {"problem": error.problem, "remedy": error.remedy})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _serve(asked: dict[str, Any], folder: str, over: threading.Event, answers: Any) -> None:
    from service.commands.waiting import readiness, web_address
    from service.process.logs import configure_logs
    from service.process.supervisor import Supervisor
    from service.settings import load_settings

    values = {"log_level": "warning", **asked, "data_dir": folder, "host": "127.0.0.1", "port": 0}
    values["microscope"] = _microscope(dict(asked.get("microscope", {})))
    settings = load_settings(command_line=values, environment={})
    configure_logs(settings.log_level)
    with Supervisor(settings) as supervisor:
        begin_s = time.monotonic()
        while (reason := readiness(settings.host, supervisor.port)) is not None:
            if time.monotonic() - begin_s > _READY_LIMIT_S:
                raise BathyscopeError(f"The demo service is not ready: {reason}", "Free the processor, and try again.")
            if over.wait(_POLL_S):
                return
        _answer(answers, {"address": web_address(settings.host, supervisor.port), "folder": folder})
        over.wait()


def _microscope(asked: dict[str, Any]) -> dict[str, Any]:
    """The part microscope of the settings; the driver ``democamera`` is Micro-Manager with its test adapters."""
    if asked.get("driver") != "democamera":
        return asked
    from hardware.core_session import democamera_installation

    adapters, configuration = democamera_installation()
    own = {
        "app_path": str(adapters),
        "config_file": str(configuration),
        "buffer_mb": 32,
        **asked.get("micromanager", {}),
    }
    defaults = {"moves": "sample", "immersion_index": 1.0, "sample_index": 1.0}
    return {**defaults, **asked, "driver": "micromanager", "micromanager": own}


def _wait_for_end_of_input(over: threading.Event) -> None:
    while sys.stdin.readline():
        pass
    over.set()


def _answer(answers: Any, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


if __name__ == "__main__":
    main()

"""A private service for tutorials and tests: it lives as long as the program that started it.

The service runs in a process of its own, whose standard input is a pipe from
this program. When the program ends in any way, a kill included, the pipe
closes; then the service ends and removes its data.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from bathyscope.remote.problems import ServiceError

__all__ = ["DemoService"]

_END_S = 60.0
"""Longest time that the service takes to end: it writes the queues of a run first."""

_MODULE = "bathyscope.remote.demo_process"


class DemoService:
    """A service with a simulated microscope, or Micro-Manager's DemoCamera, at a free port.

    Parameters
    ----------
    settings : mapping
        As in a settings file. ``{"microscope": {"driver": "democamera"}}`` is Micro-Manager's DemoCamera.

    Attributes
    ----------
    address : str
    folder : Path
        The temporary data directory.

    Raises
    ------
    ServiceError
        When it does not start; with the reason.
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        root = str(Path(__file__).resolve().parents[2])
        environment = dict(os.environ)
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, environment.get("PYTHONPATH")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", _MODULE],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            env=environment,
            start_new_session=True,  # so that Ctrl+C ends the script, and the script ends the service
        )
        self.close = weakref.finalize(self, _end, self._process)
        try:
            answer = self._ask(settings)
        except BaseException:
            self.close()
            raise
        self.address = str(answer["address"])
        self.folder = Path(answer["folder"])

    def _ask(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None  # noqa: S101  both are pipes
        assert self._process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it has ended, and its answer is empty
            self._process.stdin.write(json.dumps(settings) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line or "{}")
        if "address" not in answer:
            raise ServiceError(
                str(answer.get("problem", "The demo service ended before it was ready.")),
                str(answer.get("remedy", "Its messages are above.")),
                kind="demo",
            )
        return answer


def _end(process: subprocess.Popen[str]) -> None:
    """Close the pipe and wait until the service has removed its data."""
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

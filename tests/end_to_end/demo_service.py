"""A running service and a browser that reaches only this machine, for the tests of the page."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route

__all__ = ["FLAGS", "SEEN_LIMIT_MS", "Watched", "free_port", "is_ready", "running"]

ROOT = Path(__file__).resolve().parents[2]
READY_LIMIT_S = 300  # for a cold start on a busy machine; other tests measure the start time
SEEN_LIMIT_MS = 120_000  # a browser that draws 3D in software, beside the service, on two cores
STOP_LIMIT_S = 60

# WebGL in software, for machines without a graphics card; without a sandbox, since CI may be root.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def is_ready(address: str) -> bool:
    """Whether the service at an address answers that it is ready."""
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[str]:
    """Address of a service that a command of Bathyscope runs while the block does.

    Parameters
    ----------
    folder : Path
        Where the log of the command goes.
    port : int
        At which the command serves.
    arguments : str
        Of the command `bathyscope`.
    """
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-c", "from service.commands.application import main; main()", *arguments]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_LIMIT_S
        while not is_ready(address):
            said = (folder / "log").read_text()
            assert process.poll() is None, f"the service ended:\n{said}"
            assert time.monotonic() < deadline, f"the service was not ready within {READY_LIMIT_S} s:\n{said}"
            time.sleep(0.5)
        yield address
        process.send_signal(signal.SIGINT)
        process.wait(STOP_LIMIT_S)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


class Watched:
    """A browser that reaches only this machine, and a record of its errors."""

    def __init__(self, context: BrowserContext) -> None:
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        context.route("**/*", self._let_pass)
        self.page: Page = context.new_page()
        self.page.on("websocket", lambda opened: self._note(opened.url))
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _note(self, url: str) -> bool:
        here = urlsplit(url).hostname == "127.0.0.1" or url.startswith(("data:", "blob:"))
        if not here:
            self.elsewhere.append(url)
        return here

    def _let_pass(self, route: Route) -> None:
        if self._note(route.request.url):
            route.continue_()
        else:
            route.abort()

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(message.text)

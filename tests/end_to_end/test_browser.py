"""The whole instrument for a user: the demo in a real browser, without the internet."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
READY_LIMIT_S = 300  # for a cold start on a busy machine; other tests measure the start time
SEEN_LIMIT_MS = 120_000  # a browser that draws 3D in software, beside the demo, on two cores
STOP_LIMIT_S = 60

# WebGL in software, for machines without a graphics card; without a sandbox, since CI may be root.
FLAGS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]

pytestmark = pytest.mark.timeout(900)


def _free_port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as error:
        error.close()
        return False
    except OSError:
        return False


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running demo."""
    folder = tmp_path_factory.mktemp("demo")
    port = _free_port()
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable,
        "-c",
        "from service.commands.application import main; main()",
        "demo",
        "--port",
        str(port),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + READY_LIMIT_S
        while not _ready(address):
            said = (folder / "log").read_text()
            assert process.poll() is None, f"the demo ended:\n{said}"
            assert time.monotonic() < deadline, f"the demo was not ready within {READY_LIMIT_S} s:\n{said}"
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


@pytest.fixture
def browser(chromium: str) -> Iterator[Watched]:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = program.new_context(viewport={"width": 1200, "height": 800})
        context.set_default_timeout(SEEN_LIMIT_MS)
        yield Watched(context)
        context.close()
        program.close()


SOME = re.compile(r"[1-9]\d*")


def _expect_state(page: Page, name: str, value: str | re.Pattern[str]) -> None:
    """Wait for an attribute of the page's body, which holds a state for tests."""
    expect(page.locator("body")).to_have_attribute(f"data-{name}", value, timeout=SEEN_LIMIT_MS)


def _analysed(page: Page) -> int:
    return int(page.locator("[data-count=analysed]").inner_text().replace(",", ""))


def test_page_shows_live_tracks(demo: str, browser: Watched) -> None:
    page = browser.page
    page.goto(demo)
    _expect_state(page, "connection", "live")
    _expect_state(page, "tracks", SOME)
    _expect_state(page, "previews", re.compile(r"[2-9]|\d{2,}"))
    expect(page.locator("#empty")).to_be_hidden(timeout=SEEN_LIMIT_MS)

    # Numbers move, and are of this run.
    before = _analysed(page)
    deadline = time.monotonic() + SEEN_LIMIT_MS / 1000
    while _analysed(page) < before + 20:
        assert time.monotonic() < deadline, "the count of analysed frames stands still"
        page.wait_for_timeout(200)
    expect(page.locator("#fps")).not_to_have_text("–", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#latency td").first).not_to_have_text("–", timeout=SEEN_LIMIT_MS)

    # The camera's picture has dark and bright pixels.
    spread = page.evaluate(
        """() => {
            const canvas = document.querySelector("#preview");
            const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
            const grey = data.filter((_, i) => i % 4 === 1);
            return Math.max(...grey.slice(0, 60000)) - Math.min(...grey.slice(0, 60000));
        }"""
    )
    assert spread > 50

    # The volume shows the focus, and the direction away from the objective.
    labels = page.locator("#scene-labels")
    expect(labels).to_contain_text("focus")
    expect(labels).to_contain_text("away from objective")
    expect(labels).to_contain_text("µm")

    # Stop and start again from the page.
    first_run = page.locator("body").get_attribute("data-run")
    assert first_run
    page.get_by_role("button", name="Stop run").click()
    _expect_state(page, "run", "")
    expect(page.locator("#empty-title")).to_have_text("Ready", timeout=SEEN_LIMIT_MS)
    page.get_by_role("button", name="Start run").click()
    _expect_state(page, "run", re.compile(rf"^(?!{first_run}$).+"))
    _expect_state(page, "tracks", SOME)
    page.get_by_role("button", name="Stop microscope").click()
    expect(page.locator("#notice")).to_contain_text("Stopped.", timeout=SEEN_LIMIT_MS)

    assert browser.elsewhere == []
    assert browser.errors == []


def test_api_documentation_works_without_the_internet(demo: str, browser: Watched) -> None:
    browser.page.goto(f"{demo}/docs")
    expect(browser.page.locator(".opblock").first).to_be_visible(timeout=SEEN_LIMIT_MS)
    assert browser.elsewhere == []
    assert browser.errors == []

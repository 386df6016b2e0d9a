"""The page when the service refuses it: it asks for the key, or shows the reason of the refusal."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from service.api.app import create_app
from service.api.server import page_folder, serve_app
from service.files.access_keys import AccessKeys
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.settings import Settings
from service.store.store import Store
from tests.conftest import missing
from tests.service.api_peer import filled_store, link
from tests.service.tls_samples import certificate

SEEN_LIMIT_MS = 60_000
OLD_KEY, NEW_KEY = "the-old-key-of-the-lab", "the-new-key-of-the-lab"
NAME = "scope.lab.example"
FLAGS = [
    "--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    f"--host-resolver-rules=MAP {NAME} 127.0.0.1",
]  # fmt: skip


@pytest.fixture(scope="module")
def built_page() -> Path:
    if not (page_folder() / "index.html").is_file():
        missing("the page was not built")
    return page_folder()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store, _ = filled_store(tmp_path)
    yield store
    store.close()


@pytest.fixture
def address() -> Iterator[LinkAddress]:
    with link() as address:
        yield address


@pytest.fixture
def port() -> int:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        return int(holder.getsockname()[1])


@pytest.fixture
def page(chromium: str) -> Iterator[Page]:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = program.new_context(ignore_https_errors=True)
        context.set_default_timeout(SEEN_LIMIT_MS)
        yield context.new_page()
        context.close()
        program.close()


Serve = Callable[..., Any]


@pytest.fixture
def serving(address: LinkAddress, store: Store, port: int, built_page: Path) -> Serve:
    """The API at the same port each time, with the settings that are given."""

    @contextmanager
    def serve(**settings: Any) -> Iterator[None]:
        folder = Path(store.location).parent
        chosen = Settings(data_dir=folder, port=port, **settings)
        app = create_app(EngineClient(address), store, chosen, built_page)
        stop, up = threading.Event(), threading.Event()
        options = {"stop": stop, "started": lambda _: up.set()}
        thread = threading.Thread(target=serve_app, args=(app, chosen), kwargs=options)
        thread.start()
        assert up.wait(30)
        try:
            yield
        finally:
            stop.set()
            thread.join()

    return serve


def expect_connection(page: Page, state: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-connection", state, timeout=SEEN_LIMIT_MS)


def give_key(page: Page, key: str) -> None:
    page.locator("#key").fill(key)
    page.locator("#key").press("Enter")


def test_after_a_change_of_the_key_the_page_asks_for_the_new_one(page: Page, serving: Serve, port: int) -> None:
    with serving(access_key=OLD_KEY):
        page.goto(f"http://127.0.0.1:{port}")
        give_key(page, OLD_KEY)
        expect_connection(page, "live")
        expect(page.locator("#key-card")).to_be_hidden()
    expect_connection(page, "lost")
    with serving(access_key=NEW_KEY):
        expect(page.locator("#key-card")).to_be_visible(timeout=SEEN_LIMIT_MS)
        expect(page.locator("#key-wrong")).to_be_visible()
        expect_connection(page, "locked")
        give_key(page, OLD_KEY)
        expect(page.locator("#key-wrong")).to_be_visible()
        give_key(page, NEW_KEY)
        expect_connection(page, "live")
        expect(page.locator("#key-card")).to_be_hidden()


def test_a_socket_that_refuses_the_key_asks_for_the_key(page: Page, serving: Serve, port: int) -> None:
    """Also where no other request of the page meets the new key: the close code itself is looked at."""
    with serving(access_key=OLD_KEY):
        page.goto(f"http://127.0.0.1:{port}")
        give_key(page, OLD_KEY)
        expect_connection(page, "live")
    page.route("**/readyz", lambda route: route.fulfill(status=200, json={"status": "ready"}))
    with serving(access_key=NEW_KEY):
        expect(page.locator("#key-card")).to_be_visible(timeout=SEEN_LIMIT_MS)


def test_a_page_whose_address_is_refused_says_so(page: Page, serving: Serve, port: int) -> None:
    with serving(allowed_hosts=(NAME,)):
        page.goto(f"http://{NAME}:{port}")
        expect_connection(page, "live")
    with serving():
        expect_connection(page, "refused")
        expect(page.locator("#empty-title")).to_have_text("The service refuses this page")
        expect(page.locator("#empty-text")).to_have_text(re.compile(f"{NAME}.*allowed_hosts"))
    with serving(allowed_hosts=(NAME,)):
        expect_connection(page, "live")


@pytest.mark.parametrize("code", [1008, 4999])
def test_a_permanently_closed_socket_is_reported_and_not_opened_again(
    page: Page, serving: Serve, port: int, code: int
) -> None:
    opened = []

    def close(socket_: Any) -> None:
        opened.append(socket_.url)
        socket_.close(code=code, reason="this page is too old")

    page.route_web_socket(re.compile("/preview"), close)
    with serving():
        page.goto(f"http://127.0.0.1:{port}")
        expect_connection(page, "refused")
        expect(page.locator("#empty-text")).to_contain_text(f"preview: this page is too old ({code})")
        page.wait_for_timeout(2500)
        assert len(opened) == 1


def test_the_page_works_over_https_behind_a_path_and_is_closed_with_its_key(
    page: Page, serving: Serve, port: int, tmp_path: Path
) -> None:
    chain, key = certificate(tmp_path)
    keys = AccessKeys(tmp_path)
    given = keys.add("page", "view")
    with serving(tls_certificate=chain, tls_key=key, path_prefix="/lab/scope"):
        page.goto(f"https://127.0.0.1:{port}/lab/scope")
        give_key(page, given)
        expect_connection(page, "live")
        assert page.url == f"https://127.0.0.1:{port}/lab/scope/"
        keys.revoke("page")
        expect(page.locator("#key-card")).to_be_visible(timeout=SEEN_LIMIT_MS)
        expect_connection(page, "locked")

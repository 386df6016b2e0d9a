"""Fixtures of the tests of the page: the demo and a watched browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.end_to_end.demo_service import FLAGS, SEEN_LIMIT_MS, Watched, free_port, running


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a running demo."""
    port = free_port()
    with running(tmp_path_factory.mktemp("demo"), port, "demo", "--port", str(port)) as address:
        yield address


@pytest.fixture
def browser(chromium: str) -> Iterator[Watched]:
    """A browser of 1,200 x 800 pixels."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        context = program.new_context(viewport={"width": 1200, "height": 800})
        context.set_default_timeout(SEEN_LIMIT_MS)
        yield Watched(context)
        context.close()
        program.close()

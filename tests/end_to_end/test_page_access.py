"""The page for everybody: no violation that axe finds, in each view, at five sizes, in both themes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.conftest import ROOT, missing
from tests.end_to_end.demo_service import FLAGS, SEEN_LIMIT_MS
from tests.end_to_end.played_scope import PlayedScope, played_scope

AXE = ROOT / "service" / "web" / "node_modules" / "axe-core" / "axe.min.js"
SIZES = {"desk": (1280, 720), "large": (1920, 1080), "huge": (3840, 2160), "tablet": (820, 1180), "phone": (390, 844)}
VIEWS = ("live", "calibrate", "runs", "system")

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core, which the build of the page has fetched."""
    if not AXE.is_file():
        missing("axe-core is not installed: npm ci in service/web")
    return AXE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def program(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield program
        program.close()


@pytest.fixture(scope="module")
def scope(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PlayedScope]:
    with played_scope(tmp_path_factory.mktemp("played")) as scope:
        scope.start_run(25)
        yield scope


@pytest.fixture(params=["dark", "light"])
def page(program: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    # The policy of the page admits no script of others, so it is set aside for axe.
    context = program.new_context(bypass_csp=True, color_scheme=request.param, reduced_motion="reduce")
    context.set_default_timeout(SEEN_LIMIT_MS)
    yield context.new_page()
    context.close()


def violations(page: Page, axe: str) -> list[str]:
    """What axe finds on the page as it is, in words."""
    page.evaluate(axe)
    found: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [f"{each['id']}: {node['html'][:120]}" for each in found["violations"] for node in each["nodes"]]


def cut_off(page: Page) -> list[str]:
    """Buttons and headings that lie outside the window though nothing scrolls them into view."""
    found: list[str] = page.evaluate(
        """() => [...document.querySelectorAll(".bar button, .rail a, .pane-head button")].filter((each) => {
            const { left, right, width } = each.getBoundingClientRect();
            return width > 0 && (left < -1 || right > innerWidth + 1);
        }).map((each) => each.textContent)"""
    )
    return found


@pytest.mark.parametrize("size", SIZES)
def test_axe_finds_nothing_in_any_view(scope: PlayedScope, page: Page, axe: str, size: str) -> None:
    width, height = SIZES[size]
    page.set_viewport_size({"width": width, "height": height})
    page.goto(scope.address)
    expect(page.locator("body")).to_have_attribute("data-tracks", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)
    found = {}
    for view in VIEWS:
        page.evaluate(f"location.hash = '#/{view}'")
        expect(page.locator("main h1").first).to_be_attached()
        page.wait_for_timeout(800)
        found[view] = violations(page, axe) + [f"cut off: {words}" for words in cut_off(page)]
    page.locator("body").press("?")
    found["keys"] = violations(page, axe)
    assert {view: problems for view, problems in found.items() if problems} == {}


def test_axe_finds_nothing_in_a_run(scope: PlayedScope, page: Page, axe: str) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    found = {}
    for part in ("tracks", "plots", "export", "about"):
        page.goto(f"{scope.address}/#/runs/{scope.finished_run}?at={part}")
        expect(page.locator(".run-head")).to_be_visible()
        page.wait_for_timeout(800)
        found[part] = violations(page, axe)
    assert {part: problems for part, problems in found.items() if problems} == {}


def test_axe_finds_nothing_while_the_service_does_not_answer(scope: PlayedScope, page: Page, axe: str) -> None:
    page.route("**/api/v1/system", lambda each: each.abort())
    page.goto(scope.address)
    expect(page.locator("body")).to_have_attribute("data-phase", "silent", timeout=SEEN_LIMIT_MS)
    assert violations(page, axe) == []

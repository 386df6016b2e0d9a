"""The whole instrument for a user: the demo in a real browser, without the internet."""

from __future__ import annotations

import re
import time

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.end_to_end.demo_service import SEEN_LIMIT_MS, Watched

pytestmark = pytest.mark.timeout(900)

SOME = re.compile(r"[1-9]\d*")


def _expect_state(page: Page, name: str, value: str | re.Pattern[str]) -> None:
    """Wait for an attribute of the page's body, which holds a state for tests."""
    expect(page.locator("body")).to_have_attribute(f"data-{name}", value, timeout=SEEN_LIMIT_MS)


def _analysed(page: Page) -> int:
    return int(page.locator("[data-count=analysed]").inner_text().replace(",", ""))


def _start_run(page: Page) -> None:
    page.locator("#run").click()
    page.get_by_role("button", name="Start", exact=True).click()


def test_page_shows_live_tracks(demo: str, browser: Watched) -> None:
    page = browser.page
    page.goto(demo)
    _expect_state(page, "connection", "live")
    _expect_state(page, "tracks", SOME)
    _expect_state(page, "previews", re.compile(r"[2-9]|\d{2,}"))
    expect(page.locator("#empty")).to_have_count(0, timeout=SEEN_LIMIT_MS)
    expect(page.locator("#trust-words")).to_contain_text(re.compile("Tracking|frames lost|late|No new tracks"))

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

    # Numbers move, and are of this run.
    page.get_by_role("link", name="System").click()
    before = _analysed(page)
    deadline = time.monotonic() + SEEN_LIMIT_MS / 1000
    while _analysed(page) < before + 20:
        assert time.monotonic() < deadline, "the count of analysed frames stands still"
        page.wait_for_timeout(200)
    expect(page.locator("#latency td").first).not_to_have_text("–", timeout=SEEN_LIMIT_MS)

    # Stop and start again from the page; the run that has ended is offered.
    page.get_by_role("link", name="Live").click()
    first_run = page.locator("body").get_attribute("data-run")
    assert first_run
    page.get_by_role("button", name="Stop run").click()
    _expect_state(page, "run", "")
    expect(page.locator("#empty-title")).to_have_text("Ready", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#empty-text")).to_contain_text("At start", timeout=SEEN_LIMIT_MS)
    _start_run(page)
    _expect_state(page, "run", re.compile(rf"^(?!{first_run}$).+"))
    _expect_state(page, "tracks", SOME)
    page.get_by_role("button", name="Stop microscope").click()
    expect(page.locator("#stop-said")).to_contain_text("Stopped, confirmed", timeout=SEEN_LIMIT_MS)

    assert browser.elsewhere == []
    assert browser.errors == []


def test_a_track_that_is_picked_anywhere_is_selected_everywhere(demo: str, browser: Watched) -> None:
    page = browser.page
    page.goto(demo)
    _expect_state(page, "connection", "live")
    if not page.locator("body").get_attribute("data-run"):
        _start_run(page)
    # A run is on, and its own tracks have come; the newest ones of the run before come first.
    _expect_state(page, "run", re.compile(".+"))
    _expect_state(page, "phase", re.compile("tracking|overloaded"))
    page.wait_for_timeout(2000)
    # While the view is frozen, tracks and their places stay.
    page.get_by_role("button", name="Freeze").click()
    page.wait_for_timeout(2000)
    row = page.locator("table.tracks tbody tr").first
    name = row.locator("button").inner_text()
    row.click()
    expect(page.get_by_role("article", name=f"Track {name}")).to_be_visible()
    expect(page.get_by_role("article", name=f"Track {name}")).to_contain_text("±")
    frame = page.locator("body").get_attribute("data-frame")
    page.wait_for_timeout(1000)
    assert page.locator("body").get_attribute("data-frame") == frame
    page.get_by_role("button", name="Live", exact=True).click()
    expect(page.locator("body")).not_to_have_attribute("data-frame", str(frame), timeout=SEEN_LIMIT_MS)
    assert browser.errors == []


def test_without_webgl_the_tracks_are_shown_in_two_dimensions_and_stop_works(demo: str, chromium: str) -> None:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-3d-apis"])
        page = program.new_page()
        page.goto(demo)
        expect(page.locator("#no-webgl")).to_be_visible(timeout=SEEN_LIMIT_MS)
        _expect_state(page, "connection", "live")
        page.get_by_role("button", name="Stop microscope").click()
        expect(page.locator("#stop-said")).to_contain_text("Stopped, confirmed", timeout=SEEN_LIMIT_MS)
        program.close()


def test_the_stop_works_when_the_bundle_is_broken(demo: str, browser: Watched) -> None:
    page = browser.page
    page.route(
        "**/assets/*.js", lambda route: route.fulfill(body="this is not a script (", content_type="text/javascript")
    )
    page.goto(demo)
    page.get_by_role("button", name="Stop microscope").click()
    expect(page.locator("#stop-said")).to_contain_text("Stopped, confirmed", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#page")).to_contain_text("The page did not start", timeout=SEEN_LIMIT_MS)


def test_a_stop_without_an_answer_is_said_until_it_is_dismissed(demo: str, browser: Watched) -> None:
    page = browser.page
    page.route("**/microscope/stop", lambda route: None)
    page.goto(demo)
    page.keyboard.press("Control+.")
    expect(page.locator("#stop-microscope")).to_have_text("Stopping …")
    expect(page.locator("#stop-bar")).to_be_visible(timeout=8000)
    expect(page.locator("#stop-words")).to_contain_text("not confirmed, no answer for 5 s")
    page.wait_for_timeout(2000)
    expect(page.locator("#stop-bar")).to_be_visible()
    page.get_by_role("button", name="Dismiss").click()
    expect(page.locator("#stop-bar")).to_be_hidden()


def test_api_documentation_works_without_the_internet(demo: str, browser: Watched) -> None:
    browser.page.goto(f"{demo}/docs")
    expect(browser.page.locator(".opblock").first).to_be_visible(timeout=SEEN_LIMIT_MS)
    assert browser.elsewhere == []
    assert browser.errors == []

"""Every state of the instrument as the page shows it, each made on purpose, and each without a violation by axe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, expect, sync_playwright

from tests.end_to_end.demo_service import FLAGS, SEEN_LIMIT_MS
from tests.end_to_end.played_scope import READY, PlayedScope, played_scope
from tests.end_to_end.test_page_access import axe, violations

__all__ = ["axe"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def program(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield program
        program.close()


@pytest.fixture
def page(program: Browser) -> Iterator[Page]:
    context = program.new_context(bypass_csp=True, viewport={"width": 1280, "height": 720})
    context.set_default_timeout(SEEN_LIMIT_MS)
    yield context.new_page()
    context.close()


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[PlayedScope]:
    with played_scope(tmp_path) as scope:
        yield scope


def expect_phase(page: Page, phase: str) -> None:
    expect(page.locator("body")).to_have_attribute("data-phase", phase, timeout=SEEN_LIMIT_MS)


def other_pixel() -> dict[str, Any]:
    microscope = READY["microscope"]
    return {"microscope": {**microscope, "description": {**microscope["description"], "pixel_size_um": 1.0}}}


AWAY = {"problem": "The camera is switched off.", "remedy": "Switch it on."}


@pytest.mark.parametrize(
    ("phase", "status", "sentence", "card"),
    [
        ("microscope away", {"state": "microscope away", **AWAY}, "Microscope away: The camera is", "Switch it on."),
        ("model away", {"state": "model away", **AWAY}, "Model away", "Switch it on."),
        ("engine starting", {"state": "starting"}, "starting", None),
        ("run waits", {"state": "run waits", **AWAY}, "The first run waits", "Switch it on."),
        ("misfit", other_pixel(), "Model does not fit this objective", "Calibrate once"),
        ("sweeping", {"state": "calibrating", "owner": {"kind": "calibration", "id": "j"}}, "Sweeping", None),
        ("ready", {}, "Ready", "beads"),
    ],
)
def test_states_without_a_run(
    scope: PlayedScope, page: Page, axe: str, phase: str, status: dict[str, Any], sentence: str, card: str | None
) -> None:
    scope.status = status
    page.goto(scope.address)
    expect_phase(page, phase)
    expect(page.locator("#trust-words")).to_contain_text(sentence)
    if card is not None:
        expect(page.locator("#empty")).to_contain_text(card)
    assert violations(page, axe) == []


@pytest.mark.parametrize(
    ("phase", "tracks", "change", "sentence"),
    [
        ("tracking", 18, {}, "Tracking 18 · 100 frames/s · 44 ms"),
        ("empty", 0, {}, "Nothing found for 5 s"),
        ("recording stopped", 5, {"recorder": "stopped", "problem": "The disk is full. More."}, "Recording stopped"),
    ],
)
def test_states_of_a_run(
    scope: PlayedScope, page: Page, axe: str, phase: str, tracks: int, change: dict[str, Any], sentence: str
) -> None:
    scope.start_run(tracks, **change)
    page.goto(scope.address)
    expect_phase(page, phase)
    expect(page.locator("#trust-words")).to_contain_text(sentence)
    # What is true is not covered.
    expect(page.locator("#empty")).to_have_count(0)
    assert violations(page, axe) == []


def test_lost_frames_are_said_with_what_to_do(scope: PlayedScope, page: Page, axe: str) -> None:
    scope.start_run(5)
    page.goto(scope.address)
    expect_phase(page, "tracking")
    scope.status = {**scope.status, "ledger": {**scope.status["ledger"], "exposed": 1200, "lost": 90}}
    expect_phase(page, "overloaded")
    expect(page.locator("#trust-words")).to_contain_text("frames lost: computer too busy")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Smaller region").click()
    expect(page.get_by_label("Region: left, top, width, height, pixels")).to_be_visible()


def test_rings_are_of_the_frame_that_is_shown_or_said_to_be_behind(scope: PlayedScope, page: Page) -> None:
    scope.start_run(12)
    page.goto(scope.address)
    body = page.locator("body")
    expect(body).to_have_attribute("data-previews", re.compile(r"\d{2,}"), timeout=SEEN_LIMIT_MS)
    expect(page.locator("#rings")).to_have_text("")
    # The tracks come after 4 s: more than a picture waits for them.
    scope.late_frames = 400
    expect(page.locator("#rings")).to_contain_text("frames", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#rings")).to_contain_text("behind")


def test_old_data_is_said_to_be_old(scope: PlayedScope, page: Page, axe: str) -> None:
    scope.start_run(12)
    page.goto(scope.address)
    expect_phase(page, "tracking")
    scope.tracks = None
    expect_phase(page, "stale")
    expect(page.locator("#trust-words")).to_contain_text("No new tracks for")
    scope.silent = True
    expect_phase(page, "engine away")
    assert violations(page, axe) == []
    scope.silent, scope.tracks = False, 12
    expect_phase(page, "tracking")


def test_an_answer_that_does_not_come_is_said_within_five_seconds(scope: PlayedScope, page: Page) -> None:
    """As of a frozen API: the sockets stay open and nothing comes."""
    scope.start_run(12)
    page.add_init_script(
        """const Real = WebSocket;
        window.WebSocket = class extends Real {
            set onmessage(heard) { super.onmessage = (event) => window.frozen || heard(event); }
        };"""
    )
    page.goto(scope.address)
    expect_phase(page, "tracking")
    page.evaluate("window.frozen = true")
    expect(page.locator("#trust-words")).to_contain_text("showing old data", timeout=5000)
    expect(page.locator("#empty")).to_have_count(0)


def test_a_restart_of_the_engine_stays_on_the_page(scope: PlayedScope, page: Page, axe: str) -> None:
    scope.start_run(12)
    page.goto(scope.address)
    expect_phase(page, "tracking")
    scope.start_run(12, epoch="e2", run_id="later")
    bar = page.locator("#interrupted")
    expect(bar).to_contain_text("run played was interrupted", timeout=SEEN_LIMIT_MS)
    expect(bar).to_contain_text("Run later is on now.")
    assert violations(page, axe) == []
    bar.get_by_role("button", name="Dismiss").click()
    expect(bar).to_have_count(0)


def test_the_key_card_says_where_the_key_is(tmp_path: Path, page: Page, axe: str) -> None:
    with played_scope(tmp_path, access_key="the-key-of-the-lab") as scope:
        page.goto(scope.address)
        expect_phase(page, "locked")
        expect(page.locator("#key-card")).to_contain_text("access_key")
        page.locator("#key").fill("wrong")
        page.locator("#key").press("Enter")
        expect(page.locator("#key-wrong")).to_be_visible()
        expect(page.locator("#key")).to_have_attribute("aria-invalid", "true")
        page.keyboard.press("Escape")
        page.keyboard.press("Escape")
        expect(page.locator("#key-card")).to_be_visible()
        assert violations(page, axe) == []
        page.locator("#key").fill("the-key-of-the-lab")
        page.get_by_role("button", name="Show").click()
        page.locator("#key").press("Enter")
        expect_phase(page, "ready")


def is_camera_change(answer: Response) -> bool:
    """Whether an answer is that to a change of camera, light or preset."""
    return answer.request.method == "PATCH" and answer.url.endswith("/api/v1/microscope")


def test_a_refused_change_is_said_under_its_field(scope: PlayedScope, page: Page) -> None:
    from service.protocol.errors import EngineRefusal

    page.goto(scope.address)
    expect_phase(page, "ready")
    scope.peer.refusal = EngineRefusal("invalid", "The stage was asked to go to 999 µm.", "Choose a place inside.")
    page.get_by_label("Position of the focus drive, µm").fill("999")
    page.get_by_label("Position of the focus drive, µm").press("Enter")
    expect(page.get_by_role("group", name="Focus").get_by_role("alert")).to_contain_text("Choose a place inside.")
    scope.peer.refusal = None
    page.get_by_label("Exposure, ms").last.fill("20")
    with page.expect_response(is_camera_change):
        page.get_by_label("Exposure, ms").last.press("Enter")
    expect(page.get_by_role("group", name="Camera").get_by_role("alert")).to_have_count(0)
    sent = [arguments for command, arguments in scope.peer.commands if command == "microscope.set"]
    assert sent == [{"exposure_s": 0.02}]


def test_a_run_is_shown_at_the_time_of_its_address(scope: PlayedScope, page: Page) -> None:
    page.goto(f"{scope.address}/#/runs/{scope.finished_run}?t=0.30")
    rows = page.locator("table.tracks tbody tr")
    expect(rows).to_have_count(3)
    # The ages are those of this time, not of the first moment.
    expect(rows.first.locator("td").nth(1)).to_have_text("0.3")
    page.locator("#time").press("ArrowRight")
    expect(page).to_have_url(re.compile(r"t=0\.31"))

"""The whole way of a biologist in the browser, at Micro-Manager's DemoCamera: calibrate, train, track, find again."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.conftest import need
from tests.end_to_end.demo_service import SEEN_LIMIT_MS, Watched, free_port, running
from tests.end_to_end.test_democamera import settings

TRAINING_LIMIT_MS = 600_000
MOST_CLICKS = 9
"""From the fresh service, whose model does not fit, to live tracks."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def service(tmp_path: Path) -> Iterator[str]:
    """Address of a service with the DemoCamera and without any calibration."""
    need("mm_test_adapters")
    port = free_port()
    file = settings(tmp_path)
    file.write_text(f"port = {port}\n{file.read_text(encoding='utf-8')}", encoding="utf-8")
    with running(tmp_path, port, "serve", "--config", str(file)) as address:
        yield address


class Hand:
    """Clicks, and counts its clicks."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0

    def click(self, at: Locator) -> None:
        at.click(timeout=SEEN_LIMIT_MS)
        self.clicks += 1

    def button(self, name: str) -> None:
        self.click(self.page.get_by_role("button", name=name, exact=True))


def expect_step(page: Page, name: str, timeout: float = SEEN_LIMIT_MS) -> None:
    expect(page.locator("#step")).to_have_attribute("data-step", name, timeout=timeout)


def test_from_a_fresh_service_to_exported_tracks(service: str, browser: Watched, tmp_path: Path) -> None:
    page, hand = browser.page, Hand(browser.page)
    body = page.locator("body")
    page.goto(service)

    # The model is said not to fit before anybody starts; the camera is shown without a run.
    expect(page.locator("#trust-words")).to_contain_text("Model does not fit this objective", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#empty-text")).to_contain_text("1 µm per pixel")
    hand.button("Show the camera")
    expect(body).to_have_attribute("data-previews", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)
    hand.clicks = 0

    # Calibrate, judge, train for a moment, use.
    hand.click(page.locator("#empty").get_by_role("button", name="Calibrate"))
    expect_step(page, "sample")
    hand.click(page.locator(".stepper").get_by_role("button", name="Range"))
    page.get_by_label("To, µm").fill("40")
    hand.button("Start the sweep")
    expect_step(page, "judge", TRAINING_LIMIT_MS)
    expect(page.frame_locator("#report").locator("body")).to_contain_text("Calibration", timeout=SEEN_LIMIT_MS)
    page.reload()
    expect_step(page, "judge")
    hand.button("Accept: train")
    page.get_by_label("Minutes").fill("0.5")
    hand.button("Start the training")
    expect_step(page, "use", TRAINING_LIMIT_MS)
    hand.button("Switch now")
    hand.click(page.get_by_role("link", name="To the live view"))

    # Record a run with a name, and watch its tracks.
    hand.click(page.locator("#run"))
    page.get_by_label("Name").fill("first beads")
    page.get_by_label("Record frames").check()
    hand.button("Start")
    expect(body).to_have_attribute("data-tracks", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)
    assert hand.clicks <= MOST_CLICKS
    page.wait_for_timeout(6000)
    run = body.get_attribute("data-run")
    page.get_by_role("button", name="Stop run").click()
    expect(page.locator("#empty-text")).to_contain_text("first beads", timeout=SEEN_LIMIT_MS)

    # Find it again, by its name.
    page.get_by_role("link", name="Runs").click()
    page.locator("#search").fill("first")
    page.get_by_role("link", name="first beads").click()
    expect(page).to_have_url(re.compile(f"#/runs/{run}"))
    expect(page.locator("table.tracks tbody tr").first).to_be_visible(timeout=SEEN_LIMIT_MS)
    expect(page.locator("#preview")).to_be_visible()
    page.locator("table.tracks tbody tr").first.click()
    expect(page).to_have_url(re.compile(r"track=\d+"))
    before = page.locator("#time").input_value()
    page.locator("#play").click()
    expect(page.locator("#time")).not_to_have_value(before, timeout=SEEN_LIMIT_MS)

    # Take it home: a table made by the page, and a file made by the service.
    page.locator(".tabs").get_by_role("button", name="Export").click()
    with page.expect_download() as made:
        page.get_by_role("button", name="CSV", exact=True).click()
    made.value.save_as(tmp_path / "tracks.csv")
    with (tmp_path / "tracks.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows
    assert {"track_id", "t_s", "z_um", "sigma_z_um"} <= set(rows[0])
    with page.expect_download(timeout=SEEN_LIMIT_MS) as made:
        page.get_by_role("button", name="TrackMate XML").click()
    made.value.save_as(tmp_path / "tracks.xml")
    assert (tmp_path / "tracks.xml").read_text(encoding="utf-8").startswith("<?xml")

    assert browser.elsewhere == []
    assert browser.errors == []

"""The whole way of a biologist in the browser, at Micro-Manager's DemoCamera: calibrate, train, track, find again.

In its middle the process of the engine is killed while a run is on.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import need
from tests.end_to_end.demo_service import SEEN_LIMIT_MS, Watched, free_port, running
from tests.end_to_end.hand import Hand
from tests.end_to_end.test_democamera import settings

JOB_LIMIT_MS = 600_000
MOST_CLICKS = 9
"""From the fresh service, whose model does not fit, to live tracks: under ten."""

MOST_CLICKS_LATER = 4
"""For each of the things that are done after that."""

SOME = re.compile(r"[1-9]\d*")

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


def expect_step(page: Page, name: str, timeout: float = SEEN_LIMIT_MS) -> None:
    expect(page.locator("#step")).to_have_attribute("data-step", name, timeout=timeout)


def engine_process(address: str) -> int:
    """Number of the process of the engine, as the service states it."""
    with urllib.request.urlopen(f"{address}/api/v1/system", timeout=30) as answer:
        return int(json.load(answer)["processes"]["engine"]["pid"])


def test_from_a_fresh_service_to_exported_tracks(service: str, browser: Watched, tmp_path: Path) -> None:
    page, hand = browser.page, Hand(browser.page)
    body = page.locator("body")
    refused: list[str] = []
    page.on(
        "response", lambda answer: refused.append(f"{answer.status} {answer.url}") if answer.status >= 400 else None
    )
    page.goto(service)

    # The model is said not to fit before anybody starts; the camera is shown without a run.
    expect(page.locator("#trust-words")).to_contain_text("Model does not fit this objective", timeout=SEEN_LIMIT_MS)
    expect(page.locator("#empty-text")).to_contain_text("1 µm per pixel")
    hand.button("Show the camera")
    expect(body).to_have_attribute("data-previews", SOME, timeout=SEEN_LIMIT_MS)
    hand.done("live image before a run")

    # Calibrate, judge, train for a moment, use.
    hand.click(page.locator("#empty").get_by_role("button", name="Calibrate"))
    expect_step(page, "sample")
    hand.click(page.locator(".stepper").get_by_role("button", name="Range"))
    page.get_by_label("To, µm").fill("30")
    page.get_by_label("Exposures at each plane").fill("1")
    hand.button("Start the sweep")
    expect_step(page, "judge", JOB_LIMIT_MS)
    expect(page.frame_locator("#report").locator("body")).to_contain_text("Calibration", timeout=SEEN_LIMIT_MS)
    # The state of the steps is the service's.
    page.reload()
    expect_step(page, "judge")
    hand.button("Accept: train")
    page.get_by_label("Minutes").fill("1.5")
    hand.button("Start the training")
    expect_step(page, "use", JOB_LIMIT_MS)
    hand.button("Switch now")
    hand.click(page.get_by_role("link", name="To the live view"))

    # A run, with its name, recorded.
    hand.click(page.locator("#run"))
    page.get_by_label("Name").fill("before the restart")
    page.get_by_label("Record frames").check()
    hand.button("Start")
    expect(body).to_have_attribute("data-tracks", SOME, timeout=SEEN_LIMIT_MS)
    hand.done("fresh service to live tracks")

    # The engine is killed; the page says so, and the way goes on when it is back.
    interrupted = body.get_attribute("data-run")
    epoch = body.get_attribute("data-epoch")
    os.kill(engine_process(service), signal.SIGKILL)
    expect(page.locator("#trust-words")).to_contain_text(re.compile("No answer|Engine away|starting"), timeout=10_000)
    expect(page.locator("#interrupted")).to_contain_text(f"run {interrupted} was interrupted", timeout=SEEN_LIMIT_MS)
    expect(body).to_have_attribute("data-phase", "ready", timeout=SEEN_LIMIT_MS)
    assert body.get_attribute("data-epoch") != epoch
    page.locator("#interrupted").get_by_role("button", name="Dismiss").click()

    # Record again, watch, pick a track, stop.
    hand.click(page.locator("#run"))
    page.get_by_label("Name").fill("after the restart")
    page.get_by_label("Record frames").check()
    hand.button("Start")
    expect(body).to_have_attribute("data-tracks", SOME, timeout=SEEN_LIMIT_MS)
    hand.done("start a run")
    page.wait_for_timeout(6000)
    hand.button("Freeze")
    hand.click(page.locator("table.tracks tbody tr").first)
    expect(page.locator("article.pin")).to_contain_text("±")
    hand.done("pick a track")
    run = body.get_attribute("data-run")
    hand.button("Stop run")
    expect(page.locator("#empty-text")).to_contain_text("after the restart", timeout=SEEN_LIMIT_MS)
    hand.done("stop")

    # Find it again by its name, beside the one that was interrupted.
    hand.click(page.get_by_role("link", name="Runs"))
    expect(page.get_by_role("row").filter(has_text="before the restart")).to_contain_text("interrupted")
    page.locator("#search").fill("after")
    hand.click(page.get_by_role("link", name="after the restart"))
    expect(page).to_have_url(re.compile(f"#/runs/{run}"))
    hand.done("find the run again")
    expect(page.locator("table.tracks tbody tr").first).to_be_visible(timeout=SEEN_LIMIT_MS)
    expect(page.locator("#preview")).to_be_visible()
    expect(page.locator(".image .aside").first).to_contain_text("frame", timeout=SEEN_LIMIT_MS)
    hand.click(page.locator("table.tracks tbody tr").first)
    expect(page).to_have_url(re.compile(r"track=\d+"))
    before = page.locator("#time").input_value()
    hand.click(page.locator("#play"))
    expect(page.locator("#time")).not_to_have_value(before, timeout=SEEN_LIMIT_MS)
    hand.done("replay")

    # Take it home: a table made by the page, and files made by the service; other programs read them.
    hand.click(page.locator(".tabs").get_by_role("button", name="Export"))
    with page.expect_download() as made:
        hand.button("CSV")
    hand.done("CSV")
    made.value.save_as(tmp_path / "tracks.csv")
    with (tmp_path / "tracks.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    table = pd.read_csv(tmp_path / "tracks.csv")
    assert len(table) == len(rows) > 0
    assert {"track_id", "frame", "t_s", "x_um", "y_um", "z_um", "sigma_z_um", "observed"} <= set(table)
    assert table.z_um.between(-50, 100).all()
    with page.expect_download(timeout=JOB_LIMIT_MS) as made:
        page.get_by_role("button", name="Parquet").click()
    made.value.save_as(tmp_path / "tracks.parquet")
    stored = pd.read_parquet(tmp_path / "tracks.parquet")
    assert sorted(stored.track_id.unique()) == sorted(table.track_id.unique())
    assert len(stored) == len(table)
    with page.expect_download(timeout=JOB_LIMIT_MS) as made:
        page.get_by_role("button", name="TrackMate XML").click()
    made.value.save_as(tmp_path / "tracks.xml")
    assert (tmp_path / "tracks.xml").read_text(encoding="utf-8").startswith("<?xml")

    print(f"clicks: {hand.counts}")
    assert hand.counts["fresh service to live tracks"] <= MOST_CLICKS
    assert max(count for what, count in hand.counts.items() if "fresh" not in what) <= MOST_CLICKS_LATER
    assert browser.elsewhere == []
    # The browser notes each refusal as an error: the engine is away for a while, and of the run that was interrupted
    # after a second no frame may be stored.
    assert [each for each in refused if not each.startswith("503") and "/frames/" not in each] == []
    assert [error for error in browser.errors if "Failed to load resource" not in error] == []

"""Everything that a biologist does at the microscope, each in at most four clicks from the live view."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from service.files.jobs import Jobs
from tests.end_to_end.hand import Hand
from tests.end_to_end.played_scope import READY, PlayedScope, played_scope
from tests.end_to_end.test_page_states import expect_phase, is_camera_change, page, program
from tests.models.test_training import small_calibration
from tests.service.api_peer import recorded_run
from tests.service.files.test_model_archive import own_model

__all__ = ["page", "program"]

pytestmark = pytest.mark.timeout(900)

MOST_CLICKS = 4


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[PlayedScope]:
    small_calibration().save(tmp_path / "calibrations" / "small")
    (tmp_path / "calibrations" / "small" / "report.html").write_text("<!doctype html><p>Three beads</p>")
    own_model(tmp_path / "models" / "mine")
    with played_scope(tmp_path) as scope:
        recorded_run(tmp_path, scope.peer.store)
        scope.peer.jobs = Jobs(tmp_path)
        scope.status = at_rest()
        yield scope


def at_rest() -> dict[str, Any]:
    """A microscope with an XY stage and without a run."""
    microscope = READY["microscope"]
    stage = {**microscope["stage"], "x_um": 0.0, "y_um": 0.0}
    return {"microscope": {**microscope, "stage": stage}}


def end_jobs(scope: PlayedScope) -> None:
    """Cancel all jobs, as the process of the jobs would, which is not here."""
    assert scope.peer.jobs is not None
    for job in scope.peer.jobs.page().items:
        if not job.is_over:
            scope.peer.jobs.move(job.id, "cancelled")


Step = Callable[[PlayedScope, Hand, Page], None]


def see_the_state(scope: PlayedScope, hand: Hand, page: Page) -> None:
    expect(page.locator("#trust-words")).to_contain_text("Ready")


def live_image(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response("**/microscope/live"):
        hand.button("Camera on")
    assert scope.peer.commands[-1][0] == "microscope.live"


def exposure(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response(is_camera_change):
        hand.type(page.get_by_label("Exposure, ms").last, "20")
    assert scope.peer.commands[-1] == ("microscope.set", {"exposure_s": 0.02})


def focus(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response("**/microscope/stage"):
        hand.click(page.get_by_label("Move the focus drive by 1 µm"))
    assert scope.peer.commands[-1] == ("stage.move", {"by_um": 1.0})


def find_focus(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response("**/microscope/focus"):
        hand.button("Find focus")
    end_jobs(scope)


def light(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response(is_camera_change):
        hand.choose(page.get_by_label("Channel"), "DAPI")
    with page.expect_response(is_camera_change):
        hand.click(page.get_by_label("Shutter"))


def region(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response(is_camera_change):
        hand.type(page.get_by_label("Region: left, top, width, height, pixels"), "0, 0, 128, 128")
    assert scope.peer.commands[-1] == ("microscope.set", {"roi": [0, 0, 128, 128]})


def move_xy(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response("**/microscope/stage"):
        hand.type(page.get_by_label("Stage x, µm"), "5")
    assert scope.peer.commands[-1] == ("stage.move", {"x_um": 5.0})


def sweep(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Calibrate")
    hand.click(page.locator(".stepper").get_by_role("button", name="Range"))
    with page.expect_response("**/api/v1/calibrations"):
        hand.button("Start the sweep")
    assert scope.peer.commands[-1][0] == "calibration.start"


def cancel(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Calibrate")
    expect(page.locator("#job")).to_contain_text("Sweeping waits")
    with page.expect_response("**/api/v1/jobs/*"):
        hand.click(page.locator("#job").get_by_role("button", name="Cancel"))
    end_jobs(scope)


def report(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Calibrate")
    hand.click(page.get_by_role("region", name="Calibrations").get_by_role("button", name="Report", exact=True))
    expect(page.frame_locator("#report").locator("p")).to_have_text("Three beads")


def train(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Calibrate")
    hand.click(page.get_by_role("region", name="Calibrations").get_by_role("button", name="Train", exact=True))
    with page.expect_response("**/api/v1/models"):
        hand.button("Start the training")
    end_jobs(scope)


def switch_model(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.link("Change")
    row = (
        page.get_by_role("region", name="Models").get_by_role("row").filter(has=page.get_by_label("of the model mine"))
    )
    with page.expect_response("**/models/active"):
        hand.click(row.get_by_role("button", name="Use"))
    assert scope.peer.commands[-1] == ("model.activate", {"id": "mine"})


def start_with_a_name(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.click(page.locator("#run"))
    page.get_by_label("Name").fill("walk")
    with page.expect_response("**/api/v1/runs"):
        page.get_by_label("Name").press("Enter")
    assert scope.peer.commands[-1][0] == "run.start"
    scope.start_run(12, run_id=scope.peer.run_id)
    expect_phase(page, "tracking")


def pick_a_track(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.click(page.locator("table.tracks tbody tr").first)
    expect(page.locator("article.pin")).to_contain_text("±")
    hand.button("Plots")
    expect(page.locator(".plots .plot")).to_be_visible()


def stop(scope: PlayedScope, hand: Hand, page: Page) -> None:
    with page.expect_response("**/stop"):
        hand.button("Stop run")
    assert scope.peer.commands[-1][0] == "run.stop"
    scope.status, scope.tracks = at_rest(), None
    expect_phase(page, "ready")


def to_the_run(hand: Hand, page: Page) -> None:
    hand.view("Runs")
    hand.link("beads")
    expect(page.locator(".run-head")).to_contain_text("3 of 3 tracks")


def find_again(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Runs")
    hand.click(page.locator("#search"))
    page.locator("#search").fill("water")
    hand.link("beads")
    expect(page.locator(".run-head")).to_contain_text("3 of 3 tracks")


def replay(scope: PlayedScope, hand: Hand, page: Page) -> None:
    to_the_run(hand, page)
    hand.click(page.locator("#play"))


def recorded_frames(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.view("Runs")
    hand.click(page.locator("tr:has(img.thumbnail)").get_by_role("link"))
    expect(page.locator(".image .pane-head .aside").first).to_contain_text("frame")


def plot(name: str) -> Step:
    def walk(scope: PlayedScope, hand: Hand, page: Page) -> None:
        to_the_run(hand, page)
        hand.button("Plots")
        if name != "depth":
            hand.button(name)
        expect(page.locator(".run-plots .plot")).to_be_visible()
        expect(page.get_by_role("button", name=name, exact=True)).to_have_attribute("aria-pressed", "true")

    return walk


def export(name: str) -> Step:
    def walk(scope: PlayedScope, hand: Hand, page: Page) -> None:
        to_the_run(hand, page)
        hand.button("Export")
        with page.expect_download():
            hand.button(name)

    return walk


def scene_picture(scope: PlayedScope, hand: Hand, page: Page) -> None:
    to_the_run(hand, page)
    hand.click(page.get_by_text("Show", exact=True))
    with page.expect_download():
        hand.button("Save as PNG")


def stop_microscope(scope: PlayedScope, hand: Hand, page: Page) -> None:
    hand.button("Stop microscope")
    expect(page.locator("#stop-said")).to_contain_text("confirmed")


STEPS: dict[str, Step] = {
    "see the microscope's state": see_the_state,
    "live image before a run": live_image,
    "set exposure": exposure,
    "move focus": focus,
    "find focus": find_focus,
    "light, channel, shutter": light,
    "choose ROI": region,
    "move XY": move_xy,
    "run the sweep": sweep,
    "watch progress, cancel": cancel,
    "look at the report": report,
    "train": train,
    "switch model": switch_model,
    "start a run, with a name": start_with_a_name,
    "watch tracks, pick one, numbers over time": pick_a_track,
    "stop": stop,
    "find the run again": find_again,
    "replay": replay,
    "recorded frames": recorded_frames,
    "plot depth": plot("depth"),
    "plot speed": plot("speed"),
    "plot displacement": plot("displacement"),
    "plot mean squared displacement": plot("MSD"),
    "CSV for Excel": export("Excel CSV, comma decimals"),
    "TrackMate": export("TrackMate CSV"),
    "napari": export("napari tracks"),
    "inTRACKtive": export("inTRACKtive CSV"),
    "picture of the scene": scene_picture,
    "stop microscope": stop_microscope,
}


def test_each_thing_takes_at_most_four_clicks(scope: PlayedScope, page: Page) -> None:
    page.set_viewport_size({"width": 1440, "height": 900})
    hand = Hand(page)
    page.goto(scope.address)
    for what, walk in STEPS.items():
        page.evaluate("location.hash = '#/live'")
        expect(page).to_have_url(re.compile("#/live"))
        expect_phase(page, "tracking" if scope.peer.run_id else "ready")
        walk(scope, hand, page)
        hand.done(what)
        print(f"{what}: {hand.counts[what]}")
    assert {what: count for what, count in hand.counts.items() if count > MOST_CLICKS} == {}

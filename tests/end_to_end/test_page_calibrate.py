"""The steps of the calibration on the page, and changes of the microscope, with an instrument that is played."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from service.files.jobs import Jobs
from tests.end_to_end.played_scope import READY, PlayedScope, played_scope
from tests.end_to_end.test_page_access import axe, violations
from tests.end_to_end.test_page_states import expect_phase, is_camera_change, page, program
from tests.models.test_training import small_calibration

__all__ = ["axe", "page", "program"]

pytestmark = pytest.mark.timeout(300)

REPORT = '<!doctype html><html lang="en"><title>Report</title><style>p {color: green}</style><p>Three beads</p></html>'


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[PlayedScope]:
    small_calibration().save(tmp_path / "calibrations" / "small")
    (tmp_path / "calibrations" / "small" / "report.html").write_text(REPORT, encoding="utf-8")
    with played_scope(tmp_path) as scope:
        scope.peer.jobs = Jobs(tmp_path)
        yield scope


def expect_step(page: Page, name: str) -> None:
    expect(page.locator("#step")).to_have_attribute("data-step", name)


def test_a_calibration_is_judged_and_trained_for(scope: PlayedScope, page: Page, axe: str) -> None:
    page.goto(f"{scope.address}/#/calibrate")
    expect_step(page, "judge")
    expect(page.frame_locator("#report").locator("p")).to_have_text("Three beads")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Accept: train").click()
    page.get_by_label("Minutes").fill("12")
    page.get_by_role("button", name="Start the training").click()
    expect(page.locator("#job")).to_contain_text("Training waits")
    # The state is the server's: another browser lands in the same step.
    page.goto(f"{scope.address}/#/calibrate")
    page.reload()
    expect_step(page, "train")
    assert violations(page, axe) == []
    page.get_by_role("button", name="Cancel the training").click()
    # The worker, which is not here, ends the job.
    expect(page.locator("#job")).to_contain_text("Cancelling")


def test_a_sweep_begins_with_what_was_chosen_and_is_followed(scope: PlayedScope, page: Page) -> None:
    page.goto(f"{scope.address}/#/calibrate?step=range")
    expect_step(page, "range")
    page.get_by_label("To, µm").fill("60")
    page.get_by_label("Step, µm").fill("2")
    expect(page.locator("#step")).to_contain_text("31 planes")
    page.get_by_role("button", name="Start the sweep").click()
    expect_step(page, "sweep")
    command, arguments = scope.peer.commands[-1]
    assert command == "calibration.start"
    assert (arguments["z_range_um"], arguments["z_step_um"], arguments["repeats"]) == ([0.0, 60.0], 2.0, 2)
    expect(page.locator("#job")).to_contain_text("Sweeping waits")


def test_a_range_beyond_the_limits_is_said_before_the_sweep(scope: PlayedScope, page: Page) -> None:
    page.goto(f"{scope.address}/#/calibrate?step=range")
    page.get_by_label("To, µm").fill("150")
    expect(page.locator("#step")).to_contain_text("would leave the limits of the focus drive")


def test_a_calibration_is_renamed_and_deleted(scope: PlayedScope, page: Page, axe: str, tmp_path: Path) -> None:
    page.goto(f"{scope.address}/#/calibrate")
    name = page.get_by_label("Name of the calibration small")
    name.fill("beads in water")
    name.press("Enter")
    about = tmp_path / "calibrations" / "small" / "about.json"
    expect(page.get_by_label("Name of the calibration small")).to_have_value("beads in water")
    assert json.loads(about.read_text())["name"] == "beads in water"
    calibrations = page.get_by_role("region", name="Calibrations")
    calibrations.get_by_role("button", name="Delete").click()
    asked = page.get_by_role("dialog", name="Delete calibration beads in water")
    expect(asked).to_contain_text("cannot be undone")
    assert violations(page, axe) == []
    asked.get_by_role("button", name="Keep it").click()
    assert about.is_file()
    calibrations.get_by_role("button", name="Delete").click()
    asked.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("None yet.")).to_be_visible()
    assert not about.exists()


def test_a_preset_is_set(scope: PlayedScope, page: Page) -> None:
    microscope: dict[str, Any] = READY["microscope"]
    groups = [{"name": "Objective", "presets": ["10x", "20x"], "current": "10x"}]
    scope.status = {"microscope": {**microscope, "presets": groups}}
    page.goto(scope.address)
    expect_phase(page, "ready")
    with page.expect_response(is_camera_change):
        page.get_by_label("Objective").select_option("20x")
    expect(page.get_by_role("group", name="Presets")).to_have_attribute("aria-busy", "false")
    assert scope.peer.commands[-1] == ("microscope.set", {"preset": {"group": "Objective", "name": "20x"}})


def test_the_camera_is_shown_and_switched_off(scope: PlayedScope, page: Page) -> None:
    page.goto(scope.address)
    expect_phase(page, "ready")
    page.get_by_role("button", name="Show the camera").click()
    scope.status, scope.tracks = {"owner": {"kind": "live", "id": "live"}}, 5
    expect(page.locator("body")).to_have_attribute("data-previews", re.compile(r"[1-9]"))
    with page.expect_response("**/microscope/live"):
        page.get_by_role("button", name="Camera off").click()
    sent = [arguments["on"] for command, arguments in scope.peer.commands if command == "microscope.live"]
    assert sent == [True, False]
    # Camera and stage can be changed while only the view is on.
    expect(page.locator("#held")).to_have_count(0)


def test_the_focus_is_searched_by_a_job(scope: PlayedScope, page: Page) -> None:
    page.goto(scope.address)
    expect_phase(page, "ready")
    page.get_by_role("button", name="Find focus").click()
    expect(page.get_by_role("group", name="Focus")).to_contain_text("Finding the focus waits")
    assert scope.peer.commands[-1][0] == "focus.start"
    page.get_by_role("button", name="Cancel the search").click()

"""The libraries of calibrations and models on the page: files out and in, and names where people read them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tifffile
from playwright.sync_api import Page, Response, expect

from service.files.jobs import Jobs
from service.files.model_archive import export_model
from tests.end_to_end.played_scope import PlayedScope, played_scope
from tests.end_to_end.test_page_access import axe, violations
from tests.end_to_end.test_page_calibrate import expect_step
from tests.end_to_end.test_page_states import page, program
from tests.models.test_training import small_calibration
from tests.service.files.test_model_archive import own_model

__all__ = ["axe", "page", "program"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[PlayedScope]:
    small_calibration().save(tmp_path / "calibrations" / "small")
    (tmp_path / "calibrations" / "small" / "report.html").write_text("<!doctype html><p>Three beads</p>")
    own_model(tmp_path / "models" / "mine")
    with played_scope(tmp_path) as scope:
        scope.peer.jobs = Jobs(tmp_path)
        yield scope


def open_libraries(scope: PlayedScope, page: Page) -> None:
    """Open the view, and wait until its report has come; what comes above the libraries moves them."""
    page.goto(f"{scope.address}/#/calibrate?at=models")
    expect(page.frame_locator("#report").locator("p")).to_have_text("Three beads")


def is_import(answer: Response) -> bool:
    return answer.request.method == "POST" and "/api/v1/models" in answer.url


def test_a_model_goes_out_with_its_digest_and_another_comes_in(
    scope: PlayedScope, page: Page, axe: str, tmp_path: Path
) -> None:
    open_libraries(scope, page)
    with page.expect_download() as made:
        page.get_by_role("button", name="Export model 20x water").click()
    made.value.save_as(tmp_path / "out.zip")
    digest = hashlib.sha256((tmp_path / "out.zip").read_bytes()).hexdigest()
    assert made.value.suggested_filename == "mine.zip"
    expect(page.locator("#notice")).to_contain_text(digest)

    other = export_model(own_model(tmp_path / "other", "traveller"), tmp_path / "in.zip")
    page.get_by_role("button", name="Import a model").click()
    sheet = page.get_by_role("dialog", name="Import a model")
    assert violations(page, axe) == []
    sheet.get_by_label("File", exact=True).set_input_files(tmp_path / "in.zip")
    sheet.get_by_label("SHA-256").fill("0123")
    sheet.get_by_role("button", name="Import").click()
    expect(sheet.get_by_role("alert")).to_contain_text("not 64 hexadecimal digits")
    # The digest of the other file: the service notices that this one is not that.
    sheet.get_by_label("SHA-256").fill(digest)
    with page.expect_response(is_import):
        sheet.get_by_role("button", name="Import").click()
    expect(sheet.get_by_role("alert")).to_contain_text("changed or damaged")
    sheet.get_by_label("SHA-256").fill(other.sha256.upper())
    with page.expect_response(is_import):
        sheet.get_by_role("button", name="Import").click()
    expect(sheet).to_be_hidden()
    expect(page.get_by_label("Name of the model traveller")).to_have_value("20x water")
    assert (tmp_path / "models" / "traveller" / "model.json").is_file()


def test_a_file_that_is_no_model_is_refused_in_its_sheet(scope: PlayedScope, page: Page, tmp_path: Path) -> None:
    (tmp_path / "holiday.zip").write_bytes(b"not a ZIP file")
    open_libraries(scope, page)
    page.get_by_role("button", name="Import a model").click()
    sheet = page.get_by_role("dialog", name="Import a model")
    sheet.get_by_label("File", exact=True).set_input_files(tmp_path / "holiday.zip")
    with page.expect_response(is_import) as answered:
        sheet.get_by_role("button", name="Import").click()
    assert answered.value.status == 422
    expect(sheet.get_by_role("alert")).to_contain_text("ZIP")


def test_the_files_of_a_sweep_become_a_job(scope: PlayedScope, page: Page, axe: str, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "beads.tif", np.zeros((5, 8, 8), np.uint16))
    open_libraries(scope, page)
    page.get_by_role("button", name="Import a sweep").click()
    sheet = page.get_by_role("dialog", name="Import the sweep of a calibration")
    assert violations(page, axe) == []
    sheet.get_by_label("Files").set_input_files(tmp_path / "beads.tif")
    sheet.get_by_label("Name").fill("beads of spring")
    sheet.get_by_label("Camera pixel").fill("0.5")
    sheet.get_by_label("Step, µm").fill("1")
    sheet.get_by_label("Depths from").fill("0")
    sheet.get_by_role("button", name="Import").click()
    expect(sheet.get_by_role("alert")).to_contain_text("only one end")
    sheet.get_by_label("Depths to").fill("40")
    with page.expect_response("**/api/v1/calibrations") as answered:
        sheet.get_by_role("button", name="Import").click()
    job = answered.value.json()
    assert (job["kind"], job["step"], job["name"]) == ("calibrate", "compute", "beads of spring")
    wanted = {"z_range_um": [0, 40], "pixel_size_um": 0.5, "z_step_um": 1, "files": ["beads.tif"]}
    assert wanted.items() <= job["request"].items()
    expect_step(page, "sweep")
    expect(page.locator("#job")).to_contain_text("Calibration waits")


def test_the_report_of_a_calibration_is_saved(scope: PlayedScope, page: Page, tmp_path: Path) -> None:
    open_libraries(scope, page)
    with page.expect_download() as made:
        page.get_by_role("button", name="Save report").click()
    made.value.save_as(tmp_path / "report.html")
    assert "Three beads" in (tmp_path / "report.html").read_text()
    assert made.value.suggested_filename == "small-report.html"


def test_models_are_called_by_their_names(scope: PlayedScope, page: Page, tmp_path: Path) -> None:
    run = scope.peer.store.runs.create(model_id="mine", record=False, name="tracked").id
    scope.peer.store.runs.finish(run)
    scope.status = {"model_id": "mine", "active_model_id": "mine"}
    page.set_viewport_size({"width": 1700, "height": 900})
    page.goto(scope.address)
    expect(page.locator("#bar-model")).to_have_text("Model 20x water")
    expect(page.get_by_role("group", name="Model")).to_contain_text("20x water")
    page.goto(f"{scope.address}/#/runs")
    row = page.get_by_role("row").filter(has_text="tracked")
    expect(row).to_contain_text("20x water")
    row.get_by_role("link").click()
    expect(page.locator(".run-head")).to_contain_text("model 20x water")
    # A model that was deleted has only its id.
    deleted = scope.peer.store.runs.create(model_id="gone", record=False, name="older").id
    scope.peer.store.runs.finish(deleted)
    page.goto(f"{scope.address}/#/runs/{deleted}")
    expect(page.locator(".run-head")).to_contain_text("model gone")
    assert json.loads((tmp_path / "models" / "mine" / "about.json").read_text())["name"] == "20x water"

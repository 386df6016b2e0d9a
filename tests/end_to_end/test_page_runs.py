"""A run on the page: filters and their box, files of plots and pictures, and views as addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from playwright.sync_api import Page, expect

from service.files.jobs import Jobs
from tests.end_to_end.played_scope import PlayedScope, played_scope
from tests.end_to_end.test_page_access import axe, violations
from tests.end_to_end.test_page_states import expect_phase, is_camera_change, page, program
from tests.service.api_peer import recorded_run

__all__ = ["axe", "page", "program"]

pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def scope(tmp_path: Path) -> Iterator[PlayedScope]:
    with played_scope(tmp_path) as scope:
        scope.peer.jobs = Jobs(tmp_path)
        yield scope


def open_filters(page: Page) -> None:
    expect(page.locator(".run-head")).to_contain_text("of 3 tracks")
    page.locator(".filters summary").click()


def test_a_box_acts_on_table_plots_and_files(scope: PlayedScope, page: Page, axe: str, tmp_path: Path) -> None:
    """Track k moves along x from 10 k to 10 k + 49 µm, at y = k and z = 20 k µm."""
    page.goto(f"{scope.address}/#/runs/{scope.finished_run}")
    open_filters(page)
    page.get_by_label("y, µm, from").fill("1.5")
    page.get_by_label("x, µm, from").fill("70")
    expect(page.locator(".run-head")).to_contain_text("1 of 3 tracks")
    page.get_by_label("z, µm, to").fill("50")
    # Track 2 never comes to x = 70 µm, and track 3 is deeper than 50 µm.
    expect(page.locator(".run-head")).to_contain_text("0 of 3 tracks")
    page.get_by_label("x, µm, from").fill("")
    expect(page.locator("table.tracks tbody tr")).to_have_count(1)
    assert violations(page, axe) == []
    page.locator(".tabs").get_by_role("button", name="Plots").click()
    page.get_by_role("button", name="depths", exact=True).click()
    expect(page.locator(".run-plots figcaption")).to_have_text("Histogram of depths, 1 tracks")
    page.locator(".tabs").get_by_role("button", name="Export").click()
    with page.expect_download() as made:
        page.get_by_role("button", name="CSV", exact=True).click()
    made.value.save_as(tmp_path / "tracks.csv")
    assert set(pd.read_csv(tmp_path / "tracks.csv").track_id) == {2}
    # The service is asked for the same tracks.
    with page.expect_response("**/export") as answered:
        page.get_by_role("button", name="Parquet").click()
    assert json.loads(answered.value.request.post_data or "")["tracks"] == [2]
    # The filters are part of the address.
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator(".run-head")).to_contain_text("1 of 3 tracks")
    page.locator(".filters summary").click()
    page.get_by_role("button", name="No filter").click()
    expect(page.locator(".run-head")).to_contain_text("3 of 3 tracks")


def test_a_box_is_drawn_on_the_picture(tmp_path: Path, page: Page) -> None:
    with played_scope(tmp_path) as scope:
        run = recorded_run(tmp_path, scope.peer.store)
        page.goto(f"{scope.address}/#/runs/{run}")
        page.locator(".filters summary").click()
        draw = page.get_by_role("button", name="Draw the box on the image")
        expect(page.locator(".image .pane-head .aside").first).to_contain_text("frame")
        draw.click()
        drag(page, (0.3, 0.4), (0.7, 0.6))
        expect(draw).to_have_attribute("aria-pressed", "false")
        expect(page).to_have_url(re.compile(r"x=[\d.]+_[\d.]+&y="))
        expect(page.get_by_label("x, µm, from")).not_to_have_value("")


def drag(page: Page, start: tuple[float, float], end: tuple[float, float], *, release: bool = True) -> None:
    """Drag over the camera picture, from one part of its size to another."""
    box = page.locator("#preview").bounding_box()
    assert box is not None
    (x0, y0), (x1, y1) = ((box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in (start, end))
    page.mouse.move(x0, y0)
    page.mouse.down()
    page.mouse.move((x0 + x1) / 2, (y0 + y1) / 2)
    page.mouse.move(x1, y1)
    if release:
        page.mouse.up()


YELLOW = """() => {
    const canvas = document.querySelector("#preview");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    let found = 0;
    for (let i = 0; i < data.length; i += 4) {
        const [red, green, blue] = data.slice(i, i + 3);
        if (red > 240 && green > 200 && green < 235 && blue < 160) found++;
    }
    return found;
}"""


def test_a_region_is_drawn_while_it_is_dragged_and_sent_when_it_is_released(scope: PlayedScope, page: Page) -> None:
    page.goto(scope.address)
    expect_phase(page, "ready")
    scope.status, scope.tracks = {"owner": {"kind": "live", "id": "live"}}, 0
    expect(page.locator("body")).to_have_attribute("data-previews", re.compile(r"[1-9]"))
    page.get_by_label("rings").uncheck()
    page.get_by_role("button", name="Drag on image").click()
    assert page.evaluate(YELLOW) == 0
    drag(page, (0.5, 0.5), (0.6, 0.6), release=False)
    page.wait_for_function(f"({YELLOW})() > 50")
    with page.expect_response(is_camera_change):
        page.mouse.up()
    command, arguments = scope.peer.commands[-1]
    assert command == "microscope.set"
    left, top, width, height = arguments["roi"]
    assert (left, top) == (128, 128)
    assert 10 <= width <= 60
    assert 10 <= height <= 60
    expect(page.get_by_role("button", name="Drag on image")).to_have_attribute("aria-pressed", "false")
    # Escape leaves it without a region.
    page.get_by_role("button", name="Drag on image").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Drag on image")).to_have_attribute("aria-pressed", "false")


def test_the_address_of_the_live_view_is_copied_with_its_tracks(scope: PlayedScope, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    scope.start_run(9)
    page.goto(scope.address)
    expect_phase(page, "tracking")
    page.get_by_role("button", name="xz", exact=True).click()
    page.locator("table.tracks tbody tr").nth(3).click()
    expect(page).to_have_url(re.compile("track=3"))
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#notice")).to_contain_text("is copied")
    address = page.evaluate("navigator.clipboard.readText()")
    assert "#/live?" in address
    page.goto("about:blank")
    page.goto(address)
    expect(page.get_by_role("article", name="Track 3")).to_be_visible()
    expect(page.get_by_role("button", name="xz", exact=True)).to_have_attribute("aria-pressed", "true")


def test_a_link_that_cannot_be_copied_is_shown(scope: PlayedScope, page: Page) -> None:
    page.add_init_script(
        "document.execCommand = () => false; Object.defineProperty(navigator, 'clipboard', { value: undefined })"
    )
    page.goto(f"{scope.address}/#/system")
    page.get_by_role("button", name="Copy link").click()
    expect(page.locator("#notice")).to_contain_text("#/system")


def test_a_plot_is_saved_as_svg_png_and_csv(scope: PlayedScope, page: Page, tmp_path: Path) -> None:
    page.goto(f"{scope.address}/#/runs/{scope.finished_run}?track=1,3")
    expect(page.locator(".run-head")).to_contain_text("3 of 3 tracks")
    page.locator(".tabs").get_by_role("button", name="Plots").click()
    page.get_by_role("button", name="MSD", exact=True).click()
    files = {}
    for kind in ("SVG", "PNG", "CSV"):
        with page.expect_download() as made:
            page.get_by_role("button", name=kind, exact=True).click()
        files[kind] = tmp_path / made.value.suggested_filename
        made.value.save_as(files[kind])
    drawing = ElementTree.parse(files["SVG"]).getroot()
    words = [each.text for each in drawing.iter("{http://www.w3.org/2000/svg}text")]
    assert {"lag / s", "µm²", "track 1", "track 3 fit"} <= set(words)
    assert files["PNG"].read_bytes().startswith(b"\x89PNG")
    assert list(pd.read_csv(files["CSV"]).columns) == ["lag / s", "track 1", "track 1 fit", "track 3", "track 3 fit"]


@pytest.mark.parametrize("flags", [[], ["flat"]])
def test_the_scene_is_saved_as_a_picture_and_as_a_movie(
    scope: PlayedScope, page: Page, tmp_path: Path, flags: list[Any]
) -> None:
    if flags:
        page.add_init_script(
            "const real = HTMLCanvasElement.prototype.getContext;"
            "HTMLCanvasElement.prototype.getContext = function (kind, ...more) {"
            "  return kind.startsWith('webgl') ? null : real.call(this, kind, ...more); };"
        )
    page.goto(f"{scope.address}/#/runs/{scope.finished_run}")
    expect(page.locator(".run-head")).to_contain_text("3 of 3 tracks")
    expect(page.locator("#no-webgl")).to_have_count(len(flags))
    page.get_by_text("Show", exact=True).click()
    with page.expect_download() as made:
        page.get_by_role("button", name="Save as PNG").click()
    made.value.save_as(tmp_path / "scene.png")
    shown = (tmp_path / "scene.png").read_bytes()
    assert shown.startswith(b"\x89PNG")
    assert len(shown) > 3000
    page.get_by_text("Show", exact=True).click()
    page.locator(".tabs").get_by_role("button", name="Export").click()
    page.get_by_role("button", name="Movie (WebM)").click()
    page.wait_for_timeout(2000)
    with page.expect_download() as made:
        page.get_by_role("button", name="End the movie").click()
    made.value.save_as(tmp_path / "scene.webm")
    movie = (tmp_path / "scene.webm").read_bytes()
    assert movie.startswith(b"\x1a\x45\xdf\xa3")
    assert len(movie) > 3000

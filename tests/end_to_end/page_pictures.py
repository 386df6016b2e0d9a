"""Pictures of every view of the page, from a demo: `python -m tests.end_to_end.page_pictures --out FOLDER`.

The pictures of the user guide are made by it, and CI runs it, so that a view
that cannot be shown is noticed. `--all` adds every size and both themes.
"""

from __future__ import annotations

import argparse
import os
import re
import tempfile
from pathlib import Path

from tests.end_to_end.demo_service import FLAGS, SEEN_LIMIT_MS, free_port, running

__all__ = ["take_pictures"]

SIZES = {"desk": (1280, 720), "large": (1920, 1080), "huge": (3840, 2160), "tablet": (820, 1180), "phone": (390, 844)}
RUN_S = 8


def take_pictures(address: str, folder: Path, chromium: str, *, everything: bool) -> list[Path]:
    """Take a picture of each view of the service at an address.

    Parameters
    ----------
    address : str
        Of a service with a run on; it is stopped, and a recorded one is made.
    folder : Path
        Where the PNG files go.
    chromium : str
        Path of the browser.
    everything : bool
        Every size in both themes; otherwise 1,440 x 900 pixels, dark.

    Returns
    -------
    list of Path
        The files.
    """
    from playwright.sync_api import expect, sync_playwright

    sizes = SIZES if everything else {"page": (1440, 900)}
    made: list[Path] = []
    with sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = program.new_context(viewport={"width": 1440, "height": 900}).new_page()
        page.set_default_timeout(SEEN_LIMIT_MS)
        body = page.locator("body")

        def shoot(view: str) -> None:
            for theme in ("dark", "light") if everything else ("dark",):
                page.emulate_media(color_scheme="dark" if theme == "dark" else "light")
                for size, (width, height) in sizes.items():
                    page.set_viewport_size({"width": width, "height": height})
                    page.wait_for_timeout(900)
                    made.append(folder / (f"{view}-{size}-{theme}.png" if everything else f"page-{view}.png"))
                    page.screenshot(path=made[-1], timeout=SEEN_LIMIT_MS)

        page.goto(address)
        expect(body).to_have_attribute("data-tracks", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)
        page.get_by_role("button", name="Stop run").click()
        expect(body).to_have_attribute("data-run", "", timeout=SEEN_LIMIT_MS)
        page.locator("#run").click()
        page.get_by_label("Name").fill("beads in water")
        page.get_by_label("Record frames").check()
        page.get_by_role("button", name="Start", exact=True).click()
        expect(body).to_have_attribute("data-tracks", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)
        page.wait_for_timeout(RUN_S * 1000)
        run = body.get_attribute("data-run")
        page.locator("table.tracks tbody tr").first.click()
        shoot("live")
        page.goto(f"{address}/#/system")
        shoot("system")
        page.get_by_role("button", name="Stop run").click()
        expect(body).to_have_attribute("data-run", "", timeout=SEEN_LIMIT_MS)
        page.goto(f"{address}/#/runs")
        expect(page.get_by_role("link", name="beads in water")).to_be_visible(timeout=SEEN_LIMIT_MS)
        page.wait_for_timeout(1500)
        shoot("runs")
        page.goto(f"{address}/#/runs/{run}")
        page.locator("table.tracks tbody tr").first.click()
        shoot("run")
        page.goto(f"{address}/#/live")
        page.locator("#camera").click()
        expect(page.locator("#camera")).to_have_text("Camera off", timeout=SEEN_LIMIT_MS)
        page.goto(f"{address}/#/calibrate")
        page.wait_for_timeout(1500)
        shoot("calibrate")
        program.close()
    return made


def main() -> None:
    """Start a demo and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--all", action="store_true", help="every size, both themes")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    chromium = os.environ.get("BATHYSCOPE_TEST_CHROMIUM", "/usr/bin/chromium")
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        running(Path(folder), port, "demo", "--port", str(port)) as address,
    ):
        for file in take_pictures(address, arguments.out, chromium, everything=arguments.all):
            print(f"{file.name}: {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()

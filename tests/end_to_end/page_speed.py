"""Figures of the page in a browser: `python -m tests.end_to_end.page_speed --json FILE`.

Each part is measured with the real API and a real Chromium that draws in
software. Live tracks and the soak are played, so that their number is known;
the latency and the cold load are of the whole service with a movie as camera.
Each frame of the movie contains its own number as bright cells; the number is
read back from the pixels that the page has painted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from tests.end_to_end.demo_service import FLAGS, SEEN_LIMIT_MS, free_port, running
from tests.end_to_end.played_scope import played_scope

__all__ = ["PARTS", "main"]

LIVE_TRACKS = (100, 500, 2000)
SETTLE_S = 6.0
COUNT_S = 8.0

RUN_TRACKS, RUN_SECONDS, TRACK_POINTS, POINT_FRAMES = 100_000, 100, 10, 5
"""Of the replayed run: each second 1,000 tracks begin, each with 10 points over half a second."""

SIDE, FPS, MOVIE_FRAMES = 256, 30.0, 256
CELL_PX, BITS = 4, 8
MARK_ADU = 3000
"""Above the background: white in the picture, whatever the contrast."""

COLD_LOADS = 5
SOAK_STEP_S = 15.0
WARM_S = 75.0
"""The last minute of tracks and pictures is kept, so the memory grows at first."""

COUNT_FRAMES = """async (seconds) => {
    let [repaints, moments, last] = [0, 0, null];
    const begin = performance.now();
    await new Promise((resolve) => {
        const step = () => {
            repaints++;
            const now = MOMENT;
            if (now !== last) { moments++; last = now; }
            performance.now() - begin < seconds * 1000 ? requestAnimationFrame(step) : resolve();
        };
        requestAnimationFrame(step);
    });
    const took = (performance.now() - begin) / 1000;
    return { repaints_per_s: +(repaints / took).toFixed(1), moments_per_s: +(moments / took).toFixed(1) };
}"""
LIVE_MOMENT = "document.body.dataset.frame"
RUN_MOMENT = "document.querySelector('#time').value"

READ_MARKS = """(cells) => {
    window.seen = [];
    let last = -1;
    const step = () => {
        const canvas = document.querySelector("#preview");
        const ratio = canvas.width / canvas.clientWidth;
        const scale = Math.min(canvas.clientWidth, canvas.clientHeight) / cells.side;
        const left = (canvas.clientWidth - cells.side * scale) / 2;
        const top = (canvas.clientHeight - cells.side * scale) / 2;
        const row = Math.round((top + (cells.px / 2) * scale) * ratio);
        const wide = Math.ceil((cells.bits + 2) * cells.px * scale * ratio);
        const begin = Math.round(left * ratio);
        const { data } = canvas.getContext("2d").getImageData(begin, row, wide, 1);
        const lit = (i) => data[4 * Math.round((i + 0.5) * cells.px * scale * ratio)] > 128;
        // The cells after the number are always white and black.
        if (lit(cells.bits) && !lit(cells.bits + 1)) {
            let number = 0;
            for (let bit = 0; bit < cells.bits; bit++) number += lit(bit) ? 2 ** bit : 0;
            // What is in the canvas now is on the screen when the next animation frame begins.
            if (number !== last) requestAnimationFrame(() => window.seen.push([number, Date.now() / 1000]));
            last = number;
        }
        requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
}"""


def opened(playwright: Any, chromium: str) -> tuple[Any, Any]:
    """A browser and a page of 1,440 x 900 pixels."""
    program = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
    page = program.new_context(viewport={"width": 1440, "height": 900}).new_page()
    page.set_default_timeout(SEEN_LIMIT_MS)
    return program, page


def wait_for_tracks(page: Any) -> None:
    """Wait until the page shows tracks."""
    from playwright.sync_api import expect

    expect(page.locator("body")).to_have_attribute("data-tracks", re.compile(r"[1-9]"), timeout=SEEN_LIMIT_MS)


def live_rates(folder: Path, chromium: str, _: argparse.Namespace) -> dict[str, Any]:
    """Frames a second with so many live tracks."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {}
    with played_scope(folder) as scope, sync_playwright() as playwright:
        scope.start_run(LIVE_TRACKS[0])
        program, page = opened(playwright, chromium)
        page.goto(scope.address)
        wait_for_tracks(page)
        for tracks in LIVE_TRACKS:
            scope.tracks = tracks
            page.wait_for_timeout(SETTLE_S * 1000)
            found[str(tracks)] = page.evaluate(COUNT_FRAMES.replace("MOMENT", LIVE_MOMENT), COUNT_S)
        program.close()
    return found


def store_run(folder: Path) -> str:
    """A finished run with many short tracks in the database of a folder; its id."""
    from models.tables import Localizations, Tracks
    from service.store.result_batch import ResultBatch
    from service.store.store import Store
    from tests.service.store_samples import sample_ledger

    store = Store.open(folder / "bathyscope.db")
    store.migrate()
    run = store.runs.create(model_id="reference", record=False, name="many tracks").id
    per_second = RUN_TRACKS // RUN_SECONDS
    random = np.random.default_rng(1)
    for second in range(RUN_SECONDS):
        first = np.repeat(random.integers(0, 100 - TRACK_POINTS * POINT_FRAMES, per_second), TRACK_POINTS)
        frame = second * 100 + first + np.tile(np.arange(TRACK_POINTS) * POINT_FRAMES, per_second)
        ids = np.repeat(np.arange(per_second) + second * per_second + 1, TRACK_POINTS)
        columns: dict[str, Any] = dict.fromkeys(Tracks.names(), np.ones(len(ids)))
        columns |= {"track_id": ids, "frame": frame, "t_s": frame / 100}
        for name, most in (("x", SIDE * 0.65), ("y", SIDE * 0.65), ("z", 100.0)):
            place = np.repeat(random.uniform(0, most, per_second), TRACK_POINTS)
            columns[f"{name}_um"] = place + np.tile(0.1 * np.arange(TRACK_POINTS), per_second)
        order = np.lexsort((ids, frame))
        tracks = Tracks.from_columns({name: values[order] for name, values in columns.items()})
        span = (second * 1.0, second + 0.99)
        batch = ResultBatch(Localizations.empty(), tracks, span, frames=(second * 100, second * 100 + 99))
        store.append(run, batch, sample_ledger(second))
    store.runs.finish(run)
    store.close()
    return run


def replay_rate(folder: Path, chromium: str, _: argparse.Namespace) -> dict[str, Any]:
    """Loading and replay of a run with 100,000 tracks."""
    from playwright.sync_api import expect, sync_playwright

    run = store_run(folder)
    with played_scope(folder) as scope, sync_playwright() as playwright:
        program, page = opened(playwright, chromium)
        begin = time.monotonic()
        page.goto(f"{scope.address}/#/runs/{run}")
        expect(page.locator(".run-head")).to_contain_text(f"{RUN_TRACKS:,} of {RUN_TRACKS:,} tracks", timeout=600_000)
        expect(page.locator(".hint.over")).to_have_count(0, timeout=60_000)
        loaded_s = time.monotonic() - begin
        page.locator("#play").click()
        page.wait_for_timeout(SETTLE_S * 1000)
        rates = page.evaluate(COUNT_FRAMES.replace("MOMENT", RUN_MOMENT), COUNT_S)
        heap = heap_of(page)
        program.close()
    return {"tracks": RUN_TRACKS, "points": RUN_TRACKS * TRACK_POINTS, "loaded_s": round(loaded_s, 1), **rates, **heap}


def heap_of(page: Any) -> dict[str, float]:
    """What the page holds after a collection of garbage, MB."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.enable")
    session.send("HeapProfiler.collectGarbage")
    used = session.send("Runtime.getHeapUsage")
    session.detach()
    heap = {"heap_mb": round(used["usedSize"] / 1e6, 2)}
    if "backingStorageSize" in used:
        heap["arrays_mb"] = round(used["backingStorageSize"] / 1e6, 2)
    return heap


def soak(folder: Path, chromium: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """The memory of the page over a time, with 100 live tracks and pictures."""
    from playwright.sync_api import sync_playwright

    samples: list[dict[str, float]] = []
    with played_scope(folder) as scope, sync_playwright() as playwright:
        scope.start_run(100)
        program, page = opened(playwright, chromium)
        page.goto(scope.address)
        wait_for_tracks(page)
        begin = time.monotonic()
        while (now := time.monotonic() - begin) < arguments.soak_minutes * 60:
            samples.append({"t_s": round(now, 1), **heap_of(page)})
            page.wait_for_timeout(SOAK_STEP_S * 1000)
        listeners = page.context.new_cdp_session(page).send("Memory.getDOMCounters")
        program.close()
    warm = [sample for sample in samples if sample["t_s"] >= WARM_S] or samples
    found: dict[str, Any] = {"minutes": arguments.soak_minutes, "samples": samples, "dom": listeners}
    for name in ("heap_mb", "arrays_mb"):
        if len(warm) > 2 and name in warm[0]:
            slope = np.polyfit([each["t_s"] for each in warm], [each[name] for each in warm], 1)[0]
            found[f"{name}_per_hour"] = round(float(slope) * 3600, 2)
    return found


def marked_movie(path: Path) -> None:
    """The sample of the demo as a movie; each frame has its number in its corner, as cells for the bits."""
    from models.scene import reference_camera, reference_scene

    scene, camera = reference_scene((SIDE, SIDE)), reference_camera()
    frames = np.empty((MOVIE_FRAMES, SIDE, SIDE), np.uint16)
    for number in range(MOVIE_FRAMES):
        frame = camera.expose(scene.render(number / FPS, 0.01, 0.0, (0.0, 0.0)), number)
        lit = [(number >> bit) & 1 for bit in range(BITS)] + [1, 0]
        for place, on in enumerate(lit):
            cell = slice(0, CELL_PX), slice(place * CELL_PX, (place + 1) * CELL_PX)
            frame[cell] = 100 + MARK_ADU * 10 * on
        frames[number] = frame
    tifffile.imwrite(
        path,
        frames,
        ome=True,
        metadata={"axes": "TYX", "PhysicalSizeX": 0.65, "PhysicalSizeY": 0.65, "TimeIncrement": 1 / FPS},
    )


def replay_settings(folder: Path, port: int) -> Path:
    """Settings of a service whose camera is the marked movie, with a run at its start."""
    marked_movie(folder / "marked.ome.tif")
    path = folder / "marked.toml"
    path.write_text(
        f'port = {port}\ndata_dir = "{folder / "data"}"\n[engine]\nrun_at_start = true\n'
        f'[microscope]\ndriver = "replay"\n[microscope.replay]\nmovie = "{folder / "marked.ome.tif"}"\n'
        f"fps = {FPS}\nin_memory = true\n",
        encoding="utf-8",
    )
    return path


def captures(address: str, seconds: float) -> list[tuple[int, float]]:
    """Frame numbers and times of mid-exposure, as the service states them."""
    import bathyscope

    with bathyscope.Client(address) as client:
        return [(frame.frame, frame.captured_s) for frame in client.live.frames(duration_s=seconds)]


def latency(folder: Path, chromium: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """From mid-exposure to the painted pixel, and from a cold start of the browser to the first track."""
    from playwright.sync_api import sync_playwright

    port = free_port()
    settings = replay_settings(folder, port)
    with running(folder, port, "serve", "--config", str(settings)) as address, sync_playwright() as playwright:
        program, page = opened(playwright, chromium)
        page.goto(address)
        wait_for_tracks(page)
        # Rings may lie on the cells.
        page.get_by_label("rings").uncheck()
        page.wait_for_timeout(SETTLE_S * 1000)
        stated: list[tuple[int, float]] = []
        reader = threading.Thread(target=lambda: stated.extend(captures(address, arguments.latency_seconds)))
        reader.start()
        page.evaluate(READ_MARKS, {"side": SIDE, "px": CELL_PX, "bits": BITS})
        page.wait_for_timeout(arguments.latency_seconds * 1000)
        seen = page.evaluate("window.seen")
        reader.join()
        program.close()
        loads = [cold_load(playwright, chromium, address) for _ in range(COLD_LOADS)]
    figures = latencies(stated, seen)
    values = sorted(figures)
    at = {f"p{share}": round(1000 * values[min(len(values) - 1, share * len(values) // 100)]) for share in (50, 95, 99)}
    return {
        "painted_ms": {**at, "max": round(1000 * values[-1]), "pictures": len(values)},
        "first_track_s": {"median": round(statistics.median(loads), 2), "all": [round(load, 2) for load in loads]},
    }


def latencies(stated: list[tuple[int, float]], seen: list[tuple[int, float]]) -> list[float]:
    """Times from mid-exposure to the screen, s; numbers of the cells are those of the frames modulo 256."""
    frames, times = np.array(stated).T
    # The camera exposes at a constant rate, so the time of every frame follows from those that were stated.
    period, begin = np.polyfit(frames, times, 1)
    found = []
    for number, painted in seen:
        newest = int((painted - begin) / period)
        frame = newest - (newest - number) % MOVIE_FRAMES
        found.append(painted - (begin + period * frame))
    return found


def cold_load(playwright: Any, chromium: str, address: str) -> float:
    """Time from the address to the first track in a browser that has nothing of the page, s."""
    program, page = opened(playwright, chromium)
    begin = time.monotonic()
    page.goto(address)
    wait_for_tracks(page)
    took = time.monotonic() - begin
    program.close()
    return took


PARTS: dict[str, Callable[[Path, str, argparse.Namespace], dict[str, Any]]] = {
    "live": live_rates,
    "replay": replay_rate,
    "latency": latency,
    "soak": soak,
}


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, required=True, help="file of the figures")
    parser.add_argument("--parts", nargs="+", choices=[*PARTS], default=[*PARTS], help="what is measured")
    parser.add_argument("--soak-minutes", type=float, default=5.0, help="length of the soak")
    parser.add_argument("--latency-seconds", type=float, default=30.0, help="length of the measurement of latency")
    arguments = parser.parse_args()
    chromium = os.environ.get("BATHYSCOPE_TEST_CHROMIUM", "/usr/bin/chromium")
    figures: dict[str, Any] = {
        "machine": {"processors": os.cpu_count(), "system": platform.platform(), "drawing": "SwiftShader, in software"},
    }
    for part in arguments.parts:
        with tempfile.TemporaryDirectory() as folder:
            busy = os.getloadavg()[0]
            figures[part] = PARTS[part](Path(folder), chromium, arguments) | {"other_load": round(busy, 1)}
        print(f"{part}: {json.dumps(figures[part])[:400]}", flush=True)
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""An instrument that plays states for the page: the real API, with an engine's place taken by a script.

States that a healthy instrument seldom has (a frozen service, lost frames,
a full disk) are made at will, and many tracks cost no computing.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from service.api.server import page_folder
from service.protocol import wire
from service.settings import Settings
from service.store.store import Store
from tests.conftest import missing
from tests.service.api_peer import Peer, Server, filled_store, link

__all__ = ["PlayedScope", "played_scope"]

PIXEL_UM, SIDE = 0.65, 256
FRAMES_PER_S = 100.0
READY: dict[str, Any] = {
    "epoch": "e1",
    "state": "ready",
    "ready": True,
    "problem": None,
    "remedy": None,
    "run_id": None,
    "owner": None,
    "model_id": "reference",
    "active_model_id": "reference",
    "pixel_size_um": PIXEL_UM,
    "z_range_um": [0.0, 100.0],
    "microscope": {
        "state": "ready",
        "owner": None,
        "description": {
            "driver": "played",
            "camera": "Played camera",
            "focus_stage": "Z",
            "xy_stage": None,
            "sensor_shape": [SIDE, SIDE],
            "bit_depth": 16,
            "pixel_size_um": PIXEL_UM,
            "devices": {},
        },
        "camera": {"exposure_s": 0.009, "roi": None, "binning": 1},
        "frame_period_s": 1 / FRAMES_PER_S,
        "light": {"shutter_open": True, "channel": "GFP", "channels": ["DAPI", "GFP"], "automatic": False},
        "stage": {
            "stage_um": 12.5,
            "limits": {"low_um": -100.0, "high_um": 100.0, "max_step_um": 50.0},
            "x_um": None,
            "y_um": None,
            "x_limits": None,
            "y_limits": None,
        },
    },
}


class PlayedScope:
    """Publishes status, tracks and pictures until it is closed; attributes may be changed at any time.

    Attributes
    ----------
    status : dict
        Changes of the status, which is ready and without a run at first.
    tracks : int or None
        Tracks in each message; None: no messages.
    pictures : bool
        Whether pictures are sent.
    late_frames : int
        Frames that the tracks are behind the pictures.
    silent : bool
        Nothing is sent, as by a frozen engine.
    """

    def __init__(self, peer: Peer, address: str, run: str) -> None:
        self.peer, self.address, self.finished_run = peer, address, run
        self.status: dict[str, Any] = {}
        self.tracks: int | None = None
        self.pictures = True
        self.late_frames = 0
        self.silent = False
        self._random = np.random.default_rng(1)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._play)
        self._thread.start()

    def start_run(self, tracks: int, **status: Any) -> None:
        """Begin a run with so many tracks."""
        ledger = {"exposed": 1000, "grabbed": 1000, "lost": 0, "recorded": 0, "analysed": 1000, "skipped": 0}
        figures = {"tracked": {"p50": 44.0, "p95": 60.0, "p99": 70.0, "max": 90.0}}
        running = {
            "state": "running", "run_id": "played", "owner": {"kind": "run", "id": "played"}, "fps": FRAMES_PER_S,
            "ledger": ledger, "latency_ms": figures, "recorder": "off", "record": False,
        }  # fmt: skip
        self.status = {**running, **status}
        self.tracks = tracks

    def close(self) -> None:
        """Stop publishing."""
        self._ended.set()
        self._thread.join()

    def _play(self) -> None:
        step = 0
        while not self._ended.wait(1 / 30):
            if self.silent:
                continue
            frame = round(time.monotonic() * FRAMES_PER_S)
            if step % 8 == 0:
                self.peer.live.send_values("status", {**READY, "time_s": time.time(), **self.status})
            if self.tracks is not None:
                self._send_tracks(frame - self.late_frames, step, self.tracks)
            if self.pictures and self.tracks is not None and step % 3 == 0:
                self._send_picture(frame, step, self.tracks)
            step += 1

    def _places(self, frame: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        number = np.arange(count)
        turn = frame / 150 + number
        wide = SIDE * PIXEL_UM
        x = wide * (0.5 + 0.42 * np.sin(number * 2.4 + turn / 7) * np.cos(turn / 3))
        y = wide * (0.5 + 0.42 * np.cos(number * 1.7 - turn / 5))
        return x, y, 50 + 49 * np.sin(number * 0.7 + turn / 9)

    def _send_tracks(self, frame: int, step: int, count: int) -> None:
        x, y, z = self._places(frame, count)
        columns: dict[str, Any] = {"track_id": np.arange(count, dtype=np.uint32)}
        for name, values in {"x": x, "y": y, "z": z}.items():
            columns[f"{name}_um"] = values.astype(np.float32)
            columns[f"v{name}_um_s"] = np.full(count, 3.0, np.float32)
            columns[f"sigma_{name}_um"] = np.full(count, 0.2, np.float32)
        columns["age"] = np.full(count, 50, np.uint32)
        columns["flags"] = ((np.arange(count) % 7 == 0) + 2 * (z < 3)).astype(np.uint32)
        header = self._header(frame, step) | {"run": self.status.get("run_id"), "t_s": frame / FRAMES_PER_S}
        self.peer.live.send("tracks", wire.encode(wire.TRACKS, header, columns))

    def _send_picture(self, frame: int, step: int, count: int) -> None:
        x, y, _ = self._places(frame, min(count, 200))
        picture = self._random.integers(20, 40, (SIDE, SIDE), dtype=np.uint8)
        column, row = (np.clip(np.rint(values / PIXEL_UM).astype(int), 1, SIDE - 2) for values in (x, y))
        for dx in (-1, 0, 1):
            for dy in (-1, 0, 1):
                picture[row + dy, column + dx] = 230
        header = self._header(frame, step) | {
            "run": self.status.get("run_id"), "width": SIDE, "height": SIDE, "scale": 1, "low_adu": 100,
            "high_adu": 900, "saturated": 0,
        }  # fmt: skip
        self.peer.live.send("preview", wire.encode(wire.PREVIEW, header, {"pixels": picture.ravel()}))

    def _header(self, frame: int, step: int) -> dict[str, Any]:
        late_s = time.monotonic() - frame / FRAMES_PER_S
        return {
            "epoch": self.status.get("epoch", "e1"), "sequence": step, "frame": frame, "published_s": time.time(),
            "captured_s": time.time() - late_s,
        }  # fmt: skip


@contextmanager
def played_scope(folder: Path, **settings: Any) -> Iterator[PlayedScope]:
    """The API with the built page and a played instrument, while the block runs."""
    page = page_folder()
    if not (page / "index.html").is_file():
        missing("the page was not built")
    store, run = filled_store(folder)
    assert isinstance(store, Store)
    with link() as address:
        peer = Peer(address, store)
        server = Server(Settings(data_dir=folder, **settings), address, store, page)
        scope = PlayedScope(peer, f"http://{server.host}", run)
        try:
            yield scope
        finally:
            scope.close()
            server.close()
            peer.close()
            store.close()

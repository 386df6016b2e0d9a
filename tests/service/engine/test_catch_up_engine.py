from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import tifffile

from service.engine.engine import Engine
from service.protocol.addresses import LinkAddress
from service.protocol.clients import SyncEngineClient
from service.settings import load_settings
from service.store.store import Store
from tests.service.engine.test_catch_up import wait_for


def test_an_engine_catches_up_between_runs(tmp_path: Path) -> None:
    """A camera that is faster than the analysis, and a second run that begins at once."""
    movie = tmp_path / "movie.ome.tif"
    frames = np.random.default_rng(1).poisson(120, (20, 64, 64)).astype(np.uint16)
    tifffile.imwrite(movie, frames, metadata={"axes": "TYX"})
    settings = load_settings(
        command_line={
            "data_dir": tmp_path,
            "microscope": {"driver": "replay", "replay": {"movie": movie, "fps": 200.0}},
            "engine": {"analysis_queue": 1, "free_space_floor_gb": 0.0},
        },
        environment={},
    )
    store = Store.open(settings.database)
    store.migrate()
    address = LinkAddress.create()
    engine = Engine(settings, address, lambda _: None)
    thread = threading.Thread(target=engine.serve)
    thread.start()
    try:
        with SyncEngineClient(address, 20.0) as client:
            wait_for(lambda: client.status()["ready"], 120)
            first = client.request("run.start", {"record": True})["id"]
            wait_for(lambda: (client.status()["ledger"] or {}).get("deferred", 0) > 10)
            client.request("run.stop", {"id": first})
            # A run that begins at once finds the way clear, and the other goes on after it.
            second = client.request("run.start", {"record": True, "duration_s": 0.1})["id"]
            wait_for(lambda: store.runs.get(second).state == "finished")
            wait_for(lambda: store.runs.get(first).revision == 2)
            wait_for(lambda: not store.catch_ups.waiting())
    finally:
        engine.end()
        thread.join(60)
    assert not thread.is_alive()
    for run in (first, second):
        item = store.runs.get(run)
        assert item.ledger["deferred"] == item.ledger["in_flight"] == 0
        assert item.ledger["analysed"] == item.ledger["recorded"] == store.frames.count(run)
    kinds = [event.kind for event in store.events.list(run_id=first).items]
    assert kinds[0] == "run_caught_up"
    store.close()
    shutil.rmtree(address.folder)

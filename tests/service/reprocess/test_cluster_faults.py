"""Workers and schedulers of Dask that are killed: the work is finished, identical, and nothing done is done twice."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hardware.microscope import Frame
from service.files.library import Library
from service.reprocess.dask_workforce import scheduler_at
from service.reprocess.sources import Source, run_source
from service.reprocess.work import Assignment, work_through
from service.reprocess.work_folder import WorkFolder
from service.reprocess.workforce import InThisProcess, Workforce
from service.settings import load_settings
from service.store.store import Store
from tests.conftest import ROOT, need
from tests.service.jobs.test_reprocessing import CAMERA, FIRST, FRAMES, SCENE, TIMES_S, add_run
from tests.service.reprocess.test_work import assert_same

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


class Processes:
    """A scheduler and workers, as people start them."""

    def __init__(self, folder: Path) -> None:
        need("distributed")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self._folder = folder
        self.started: list[subprocess.Popen[bytes]] = []

    def scheduler(self) -> subprocess.Popen[bytes]:
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard")

    def worker(self) -> subprocess.Popen[bytes]:
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard")

    def _start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (self._folder / "dask.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments], env=environment, stdout=log, stderr=log, cwd=self._folder
            )
        self.started.append(process)
        return process


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    found = Processes(tmp_path)
    yield found
    for process in found.started:
        process.kill()
        process.wait()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store.open(load_settings(command_line={"data_dir": tmp_path}, environment={}).database)
    store.migrate()
    frames = [
        Frame(CAMERA.expose(SCENE.render(time_s, 0.009, 0.0), n), FIRST + n, float(time_s), "simulation", 0.0)
        for n, time_s in enumerate(TIMES_S)
    ]
    add_run(store, tmp_path, frames, shard_frames=2)
    yield store
    store.close()


def source_of(store: Store, data: Path) -> Source:
    asked = {"run": "run", "model": None, "tracking": {"fit": "auto"}}
    return run_source(store, Library(data, None), data, asked, device="cpu", least=2)


def compute(source: Source, folder: WorkFolder, workforce: Workforce) -> None:
    assert not work_through([Assignment(folder, source.recipe, lambda: None)], workforce, lambda _done, _total: None)


def done_when(folder: WorkFolder, least: int) -> dict[str, int]:
    """The records, with the times of their files, when there are `least` of them."""
    while True:
        records = {path.name: path.stat().st_mtime_ns for path in folder.path.glob("found-*.json")}
        if len(records) >= least:
            return records
        time.sleep(0.005)


@pytest.mark.parametrize("lost", ["worker", "scheduler"])
def test_what_is_lost_is_replaced(store: Store, processes: Processes, tmp_path: Path, lost: str) -> None:
    here, there = WorkFolder(tmp_path / "here"), WorkFolder(tmp_path / "there")
    for folder in (here, there):
        source = source_of(store, tmp_path)
        folder.begin(source.recipe, source.recorded, source.live)
    compute(source, here, InThisProcess())
    scheduler, workers = processes.scheduler(), [processes.worker(), processes.worker()]
    _wait_for(processes.port)
    notes: list[str] = []
    at_kill: dict[str, int] = {}

    def disturb() -> None:
        at_kill.update(done_when(there, 3))
        if lost == "worker":
            workers[0].kill()
            return
        scheduler.kill()
        scheduler.wait()
        for worker in workers:
            worker.wait()  # they end without their scheduler
        processes.scheduler()
        processes.worker()

    thread = threading.Thread(target=disturb)
    thread.start()
    with scheduler_at(processes.address, 120.0, notes.append) as workforce:
        compute(source, there, workforce)
    thread.join()
    assert len(source.recipe.blocks) == FRAMES // 2
    assert 3 <= len(at_kill) < FRAMES // 2
    for name, time_ns in at_kill.items():
        assert (there.path / name).stat().st_mtime_ns == time_ns, f"{name} was computed twice"
    assert_same(here.path, there.path)
    said: Any = " ".join(notes)
    assert ("The scheduler is away" in said and "is back" in said) is (lost == "scheduler")


def _wait_for(port: int) -> None:
    deadline_s = time.monotonic() + 120
    while time.monotonic() < deadline_s:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("the scheduler did not start")

"""A recorded run whose PostgreSQL server goes away and comes back."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.engine.run import RunRequest
from service.store.store import Store
from tests.conftest import need
from tests.service.engine.test_failures import ROOMY, catch_up_with, ended_truly, stored_numbers
from tests.service.engine.test_run import Rig, wait_for
from tests.service.store.test_store_postgres import server, url

__all__ = ["server", "url"]


def control(folder: str, *arguments: str) -> None:
    """Call pg_ctl as the user whose server it is."""
    programs = need("postgresql")
    prefix = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    command = [*prefix, str(programs / "pg_ctl"), "-D", f"{folder}/data", "-w", *arguments]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL)


@pytest.fixture
def rig(tmp_path: Path, url: str) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.store.close()
    rig.store = Store.open(url)
    rig.store.migrate()
    yield rig
    rig.close()


@pytest.mark.parametrize("patience_s", [0.3, 60.0])
def test_results_of_an_outage_are_stored_late_or_computed_again(
    rig: Rig,
    server: str,
    monkeypatch: pytest.MonkeyPatch,
    patience_s: float,
) -> None:
    monkeypatch.setattr("service.engine.result_writer._PATIENCE_S", patience_s)
    run = rig.run(RunRequest(record=True), recording="dots.ome.zarr", **ROOMY)
    run.start()
    wait_for(lambda: run.ledger.counts().analysed >= 20)
    control(server, "stop", "-m", "immediate")
    try:
        tracked = run._tracking.frames
        # Beyond the patience, batches are given up and their frames deferred.
        wait_for(
            lambda: run._tracking.frames > tracked + 100 and (patience_s > 1 or run.ledger.counts().deferred >= 20)
        )
        assert run.ledger.counts().balances
    finally:
        control(server, "start", "-l", f"{server}/log", "-o", f"-k {server} -c listen_addresses='' -c fsync=off")
    analysed = run.ledger.counts().analysed
    wait_for(lambda: run.ledger.counts().analysed > analysed)
    run.stop_camera()
    item: Any = ended_truly(rig, run)
    assert item.state == "finished"
    assert (item.problem is None) == (item.ledger["deferred"] == 0) == (patience_s > 1)
    assert catch_up_with(rig) == ([] if item.problem is None else ["run_caught_up"])
    ledger = rig.store.runs.get(run.id).ledger
    assert ledger["analysed"] == ledger["recorded"] == ledger["grabbed"]
    # A busy computer loses frames at the camera; each one that was recorded has its results.
    numbers = rig.store.frames.recorded(run.id).frames.numbers
    assert len(numbers) == ledger["exposed"] - ledger["lost"]
    assert sorted(stored_numbers(rig, run)) == sorted(numbers.tolist())

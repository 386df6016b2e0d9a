"""Sequences of useq-schema over HTTP and by the client: a run, the job of a calibration, or a refusal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bathyscope
from bathyscope.remote.records import RunRecord
from service.files.job import Job
from service.files.jobs import Jobs
from service.settings import Settings
from service.store.store import Store
from tests.conftest import need
from tests.service.api_peer import Peer, Server, link

STACK = {"z_plan": {"above": 40, "below": 0, "step": 1}, "channels": [{"config": "GFP", "exposure": 20}]}
SERIES = {"time_plan": {"interval": 0.01, "loops": 500}}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[bathyscope.Client, Peer]]:
    need("useq")
    store = Store.open(tmp_path / "bathyscope.db")
    store.migrate()
    with link() as address:
        peer = Peer(address, store, Jobs(tmp_path))
        peer.microscope = {
            "state": "ready",
            "problem": None,
            "camera": {"exposure_s": 0.01},
            "frame_period_s": None,
            "light": {"channel": "GFP", "channels": ["GFP", "RFP"]},
        }
        server = Server(Settings(data_dir=tmp_path), address, store, Path("none"))
        with bathyscope.Client(f"http://{server.host}") as client:
            yield client, peer
        server.close()
        peer.close()
    store.close()


def test_a_time_series_becomes_a_run(served: tuple[bathyscope.Client, Peer]) -> None:
    client, peer = served
    run = client.acquire(json.dumps(SERIES), name="beads")
    assert isinstance(run, RunRecord)
    asked = {"model": None, "record": True, "duration_s": 5.0, "name": "beads"}
    assert peer.commands[-1] == ("run.start", asked)
    answer = client.request("GET", f"/runs/{run.id}")
    assert answer.json()["id"] == run.id
    with pytest.raises(bathyscope.ServiceError) as refusal:
        client.acquire(json.dumps(SERIES))
    assert refusal.value.kind == "conflict"


def test_a_focal_stack_becomes_the_sweep_of_a_calibration(
    served: tuple[bathyscope.Client, Peer], tmp_path: Path
) -> None:
    client, peer = served
    file = tmp_path / "stack.yaml"
    file.write_text(need("useq").MDASequence(**STACK).yaml(), encoding="utf-8")
    job = client.acquire(file, name="beads")
    assert isinstance(job, Job)
    assert job.kind == "calibrate"
    asked = {"name": "beads", "z_range_um": [0.0, 40.0], "z_step_um": 1.0, "exposure_s": 0.02}
    assert peer.commands[-1] == ("calibration.start", asked)
    assert client.acquire(need("useq").MDASequence(**STACK)).id != job.id


@pytest.mark.parametrize(
    ("sequence", "says"),
    [
        ({**SERIES, **STACK}, "time series of focal stacks"),
        ({"time_plan": {"interval": 0.5, "loops": 5}}, "every 0.5 s, and the camera is set to one every 0.01 s"),
        ({**SERIES, "channels": ["RFP"]}, "'RFP', and 'GFP' is on"),
        ("z_plan: [", "neither JSON nor YAML"),
    ],
)
def test_sequences_that_are_refused(served: tuple[bathyscope.Client, Peer], sequence: Any, says: str) -> None:
    client, peer = served
    with pytest.raises(bathyscope.ServiceError) as refusal:
        client.acquire(sequence if isinstance(sequence, str) else json.dumps(sequence))
    assert refusal.value.status == 422
    assert says in refusal.value.problem
    assert {command for command, _ in peer.commands} <= {"microscope"}


def test_without_a_camera(served: tuple[bathyscope.Client, Peer]) -> None:
    client, peer = served
    peer.microscope = {"state": "away", "problem": "The camera is off."}
    with pytest.raises(bathyscope.ServiceError, match=r"The camera is off\.") as refusal:
        client.acquire(json.dumps(SERIES))
    assert refusal.value.status == 503

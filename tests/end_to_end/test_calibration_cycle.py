"""Sweep, calibration, training and change of model on one running service, also after kills."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from service.files.jobs import Jobs
from service.process.supervisor import Supervisor
from service.settings import Settings, load_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

SWEEP = {"name": "slide", "z_range_um": [0, 30], "z_step_um": 1, "settle_s": 0}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    # At 5 frames a second the tracking leaves a training its time, on one core too.
    simulated = {"height": 160, "width": 160, "emitters": 9, "sample": "slide", "frame_period_s": 0.2}
    values = {"data_dir": tmp_path, "port": 0, "log_level": "warning", "microscope": {"simulated": simulated}}
    return load_settings(command_line=values, environment={})


@pytest.fixture
def service(settings: Settings) -> Iterator[tuple[Supervisor, httpx.Client]]:
    with (
        Supervisor(settings) as supervisor,
        httpx.Client(base_url=f"http://127.0.0.1:{supervisor.port}/api/v1", timeout=120) as client,
    ):
        wait_for(lambda: is_ready(client))
        yield supervisor, client


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get(str(client.base_url.join("/readyz"))).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], Any], limit_s: float = 300.0) -> Any:
    deadline = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)
    return answer


def post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    assert answer.status_code in (201, 202), answer.text
    return dict(answer.json())


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    def over() -> dict[str, Any] | None:
        now = client.get(f"/jobs/{job}").json()
        return now if now["ended_at"] else None

    return dict(wait_for(over))


def test_from_a_sweep_to_a_run_with_the_new_model(service: tuple[Supervisor, httpx.Client], settings: Settings) -> None:
    _, client = service
    before = client.get("/microscope").json()
    calibrated = ended(client, post(client, "/calibrations", SWEEP)["id"])
    assert calibrated["state"] == "done", calibrated
    after = client.get("/microscope").json()
    assert (after["camera"], after["light"], after["stage"]) == (before["camera"], before["light"], before["stage"])
    calibration = client.get(f"/{calibrated['result']}").json()
    assert calibration["focus_um"] == pytest.approx(0, abs=0.2)  # the slide is in focus at 0
    assert calibration["sign"] == -1
    assert "<html" in client.get(f"/{calibrated['result']}/report").text

    run = post(client, "/runs", {"name": "beside"})["id"]
    wanted = {"calibration": calibration["id"], "minutes": 0.3, "size": "full", "name": "mine"}
    trained = ended(client, post(client, "/models", wanted)["id"])
    assert trained["state"] == "done", trained
    assert client.get(f"/{trained['result']}").json()["calibration_id"] == calibration["id"]
    model = client.put("/models/active", json={"id": trained["id"]}).json()
    assert (model["id"], model["name"]) == (trained["id"], "mine")

    def models() -> set[str]:
        return {batch["model_id"] for batch in client.get(f"/runs/{run}/localizations").json()["items"]}

    wait_for(lambda: trained["id"] in models())
    stopped = client.post(f"/runs/{run}/stop").json()
    assert stopped["state"] == "finished"
    assert stopped["ledger"]["lost"] == stopped["ledger"]["skipped"] == 0
    kinds = [event["kind"] for event in client.get("/events").json()["items"]]
    assert [kind for kind in kinds if "run" not in kind][::-1] == [
        "calibration_started", "calibration_swept", "calibration_done", "training_started", "training_done",
        "model_activated",
    ]  # fmt: skip
    assert not list((settings.data_dir / "jobs" / calibrated["id"]).glob("sweep*"))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_kills_during_a_sweep_and_a_training(service: tuple[Supervisor, httpx.Client], settings: Settings) -> None:
    supervisor, client = service
    job = post(client, "/calibrations", {**SWEEP, "settle_s": 0.5})["id"]
    wait_for(lambda: (client.get(f"/jobs/{job}").json()["progress"] or {}).get("done", 0) > 5)
    os.kill(supervisor.processes["engine"]["pid"], signal.SIGKILL)
    cut_off = ended(client, job)
    assert cut_off["state"] == "interrupted"
    assert "stage was not put back" in cut_off["error"]["problem"]
    wait_for(lambda: supervisor.processes["engine"]["state"] == "running" and is_ready(client))

    job = post(client, "/calibrations", SWEEP)["id"]
    wait_for(lambda: client.get(f"/jobs/{job}").json()["step"] == "compute")
    wait_for(lambda: client.get(f"/jobs/{job}").json()["state"] == "running")
    runner = psutil.Process(supervisor.processes["jobs"]["pid"])
    workers = wait_for(lambda: runner.children())
    runner.kill()
    assert ended(client, job)["state"] == "interrupted"
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert alive == []
    assert not list((settings.data_dir / "calibrations").glob("*"))
    assert not list((settings.data_dir / "jobs" / job).glob("sweep*"))
    assert Jobs(settings.data_dir).open_jobs() == []

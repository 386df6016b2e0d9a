"""The client on one real service: runs, tables, streams, feedback and its limits, and the life of a private service."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import psutil
import pytest
from nbclient import NotebookClient

import bathyscope
from bathyscope.remote.problems import ServiceAway, ServiceError
from tests.conftest import ROOT

SMALL = {"simulated": {"height": 64, "width": 64, "emitters": 3, "frame_period_s": 0.02}}
LIMITS = {"xy_low_um": [-20, -20], "xy_high_um": [20, 20], "stage_low_um": -30, "stage_high_um": 30}


@pytest.fixture(scope="module")
def client() -> Iterator[bathyscope.Client]:
    with bathyscope.Client.demo(microscope={**SMALL, **LIMITS}) as client:
        yield client


@pytest.fixture
def run(client: bathyscope.Client) -> Iterator[Any]:
    """A run that is on; it is stopped afterwards."""
    run = client.runs.start(name="test")
    yield run
    client.runs.stop(run)


def wait_for(condition: Callable[[], Any], limit_s: float = 60.0) -> Any:
    deadline_s = time.monotonic() + limit_s
    while not (answer := condition()):
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.05)
    return answer


def test_a_run_ends_as_tables(client: bathyscope.Client, tmp_path: Path) -> None:
    run = client.runs.start(name="tables", duration_s=2)
    states = list(client.live.tracks(run=run))
    assert {state.run for state in states} == {run.id}
    assert states[-1].frame > states[0].frame
    run = client.runs.wait(run, progress=False)
    assert (run.state, run.name) == ("finished", "tables")
    tracks = client.runs.tracks(run, min_length=3)
    assert tracks.revision == run.revision or tracks.revision == run.revision + 1  # it is smoothed when it has ended
    assert tracks.rows > 10
    assert np.isfinite(tracks["z_um"]).all()
    frame = tracks.to_pandas()
    assert list(frame["track_id"]) == tracks["track_id"].tolist()
    assert client.runs.localizations(run)["frame"].max() > 10
    assert client.runs.measures(run)["ensemble"]["tracks"] >= 1
    path = client.runs.export(run, tmp_path / "tracks.csv", progress=False)
    assert path.read_text().startswith("track_id,frame")
    assert os.listdir(tmp_path) == ["tracks.csv"]
    assert run.id in [each.id for each in client.runs.list(limit=None)]
    assert "run_ended" in [event.kind for event in client.events(run=run.id)]


def test_both_clients_work_where_an_event_loop_runs(client: bathyscope.Client, run: Any) -> None:
    async def both() -> tuple[str, str, int]:
        async with bathyscope.AsyncClient(client.address) as remote:
            frames = [frame async for frame in remote.live.frames(duration_s=0.5)]
            later = (await remote.runs.get(run)).state
        # As in a cell of a notebook: calls that block, inside the loop.
        state = next(client.live.tracks())
        return client.runs.get(run).state, later, len(state["z_um"]) + len(frames)

    state, later, count = asyncio.run(both())
    assert (state, later) == ("running", "running")
    assert count > 0


def test_errors_carry_what_the_service_says(client: bathyscope.Client, run: Any) -> None:
    with pytest.raises(ServiceError, match=run.id) as conflict:
        client.runs.start()
    assert (conflict.value.status, conflict.value.kind, conflict.value.remedy) == (409, "conflict", "Stop it first.")
    with pytest.raises(ServiceError) as rule:
        client.models.train("x", minutes=-1)
    assert rule.value.status == 422
    assert rule.value.errors[0]["field"] == "body.minutes"
    assert client.request("GET", "/events", query={"limit": 1}).json()["items"]


def test_a_script_moves_the_stages_during_a_run_within_their_limits(client: bathyscope.Client, run: Any) -> None:
    with pytest.raises(ServiceError, match="has the microscope"):
        client.microscope.move(by_um=1.0)
    latencies_s = []
    with client.control("follow.py") as microscope:
        assert microscope.stage["x_limits"]["high_um"] == 20
        for number, state in enumerate(client.live.tracks(run=run)):
            moved = microscope.move(by_um=0.1, x_by_um=np.float32(0.5))
            latencies_s.append(moved.latency_s(state))
            if number == 4:
                break
        assert microscope.stage["stage_um"] == pytest.approx(0.5)
        assert all(0 < latency_s < 30 for latency_s in latencies_s)
        with pytest.raises(
            ServiceError, match="in x was asked to go to 21 µm; its soft limits are -20 to 20"
        ) as refusal:
            microscope.move(x_um=21)
        assert refusal.value.kind == "invalid"
        with (
            pytest.raises(ServiceError, match=r"follow\.py has control") as taken,
            client.control("other.py"),
        ):
            pass
        assert taken.value.status == 409
        assert client.microscope.state()["controller"] == "follow.py"
        assert microscope.light(shutter="closed").light["shutter_open"] is False
        assert microscope.move(x_um=0, y_um=0, stage_um=0).stage["x_um"] == 0
        microscope.light(shutter="open")
    wait_for(lambda: client.microscope.state()["controller"] is None)
    ended = client.events(1, kind="control_ended")[0]
    assert "follow.py" in ended.message
    assert ended.details is not None
    assert ended.details["commands"] == 8


def test_a_script_in_an_event_loop_has_control_too(client: bathyscope.Client) -> None:
    async def move() -> float:
        async with bathyscope.AsyncClient(client.address) as remote, remote.control("async.py") as microscope:
            await microscope.move(stage_um=3)
            return float((await microscope.move(by_um=-3)).stage["stage_um"])

    assert asyncio.run(move()) == 0.0


def test_the_stop_ends_control_and_the_run(client: bathyscope.Client) -> None:
    run = client.runs.start(name="stopped")
    with client.control("follow.py") as microscope:
        next(client.live.tracks(run=run))
        assert microscope.stop()["confirmed"]
        with pytest.raises(ServiceError, match=r"no control any more|taken control away"):
            microscope.move(by_um=1.0)
    assert client.runs.wait(run, progress=False, timeout_s=30).state == "finished"


def test_stages_camera_and_frames_without_a_run(client: bathyscope.Client) -> None:
    state = client.microscope.set(exposure_s=0.005, roi=(0, 0, 32, 16))
    assert state["camera"]["exposure_s"] == 0.005
    assert client.microscope.snap().shape == (16, 32)
    assert client.microscope.set(roi="whole sensor", exposure_s=0.009)["camera"]["roi"] is None
    assert client.microscope.move(x_um=5, y_by_um=-2, by_um=1)["stage"]["x_um"] == 5
    moved = client.events(1, kind="stage_moved")[0]
    assert moved.details is not None
    assert moved.details["to"] == {"stage_um": 1.0, "x_um": 5.0, "y_um": -2.0}
    client.microscope.move(x_um=0, y_um=0, stage_um=0)


def test_a_simulated_microscope_has_no_properties(client: bathyscope.Client) -> None:
    assert client.microscope.properties() == []
    assert client.microscope.state()["presets"] == []
    for request in (
        lambda: client.microscope.preset("Channel", "FITC"),
        lambda: client.microscope.set_property("Camera", "Gain", np.float32(1)),
        lambda: client.microscope.properties("Camera"),
    ):
        with pytest.raises(ServiceError, match="has no properties and presets") as refusal:
            request()
        assert refusal.value.status == 422


def test_an_autofocus_is_a_job(client: bathyscope.Client) -> None:
    client.microscope.move(stage_um=3)
    job = client.microscope.focus(range_um=np.float32(20), step_um=2, settle_s=5, name="slow")
    assert (job.kind, job.name) == ("focus", "slow")
    with pytest.raises(ServiceError, match=f"Focus {job.id} is on"):
        client.microscope.move(by_um=1)
    client.jobs.cancel(job)
    with pytest.raises(ServiceError) as ended:
        client.jobs.wait(job, progress=False)
    assert ended.value.kind == "job-cancelled"
    assert client.microscope.state()["stage"]["stage_um"] == 3
    with pytest.raises(ServiceError, match=f"Job {job.id} is cancelled; it has no file"):
        client.microscope.focus_curve(job)
    with pytest.raises(ServiceError, match="has 1 positions"):
        client.microscope.focus(range_um=1, step_um=4)

    async def again() -> Any:
        async with bathyscope.AsyncClient(client.address) as remote:
            begun = await remote.microscope.focus(range_um=20, step_um=2, settle_s=0)
            with suppress(ServiceError):  # the emitters swim at all depths, so that there may be no focus
                await remote.jobs.wait(begun, progress=False)
            if (await remote.jobs.get(begun)).state == "failed":
                return None
            return await remote.microscope.focus_curve(begun)

    curve = asyncio.run(again())
    at_um = client.microscope.state()["stage"]["stage_um"]
    assert at_um == (3 if curve is None else curve.focus_um)
    assert curve is None or len(curve.stage_um) == len(curve.sharpness) > 20
    client.microscope.move(stage_um=0)


def test_the_camera_is_shown_without_a_run(client: bathyscope.Client) -> None:
    assert client.microscope.live(duration_s=60)["state"] == "live"
    frames = client.live.frames()
    picture = next(picture for picture in frames if picture.header["run"] is None)
    assert picture.pixels.shape == (64, 64)
    assert picture.histogram.pixels.sum() == 64 * 64
    assert picture.histogram.low_adu + picture.histogram.bin_adu * len(picture.histogram.pixels) > picture.high_adu
    assert picture.saturated == 0
    assert client.microscope.live(False)["owner"] is None

    async def switch() -> Any:
        async with bathyscope.AsyncClient(client.address) as remote:
            await remote.microscope.live()
            return await remote.microscope.live(False)

    assert asyncio.run(switch())["state"] == "ready"


def test_a_killed_engine_is_said_and_the_stream_goes_on(client: bathyscope.Client) -> None:
    first = client.runs.start(name="killed")
    states = client.live.tracks()
    before = next(state for state in states if state.run == first.id)
    psutil.Process(client.system()["processes"]["engine"]["pid"]).kill()
    wait_for(lambda: client.runs.get(first).state == "interrupted")
    client.wait_until_ready()
    second = client.runs.start(name="after the kill")
    after = next(state for state in states if state.run == second.id)
    assert after.epoch != before.epoch
    assert "engine was restarted" in str(after.interruption)
    client.runs.stop(second)


CONTROLLING = """
import os, signal, sys
import bathyscope
with bathyscope.Client(sys.argv[1]) as client, client.control("doomed.py") as microscope:
    microscope.move(by_um=1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_killed_script_has_no_control_any_more_and_the_run_goes_on(client: bathyscope.Client, run: Any) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", CONTROLLING, client.address]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == -signal.SIGKILL, done.stderr
    wait_for(lambda: client.microscope.state()["controller"] is None)
    with client.control("next.py") as microscope:
        assert microscope.move(by_um=-1).stage["stage_um"] == pytest.approx(0)
    assert client.runs.get(run).state == "running"


CELLS = (
    "import bathyscope",
    "client = bathyscope.Client(ADDRESS)",
    "run = client.runs.start(name='notebook', duration_s=1.5)",
    "run = client.runs.wait(run)",
    "async with bathyscope.AsyncClient(ADDRESS) as remote:\n    print((await remote.runs.get(run)).state)",
    "client.runs.tracks(run).to_pandas().head(2)",
)


def test_both_clients_work_in_a_notebook(client: bathyscope.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    cells = [nbformat.v4.new_code_cell(text.replace("ADDRESS", repr(client.address))) for text in CELLS]  # type: ignore[no-untyped-call]
    book = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    NotebookClient(book, timeout=100).execute()
    shown = [output for cell in book.cells for output in cell["outputs"]]
    bars = [output["data"]["text/plain"] for output in shown if output["output_type"] == "display_data"]
    assert len(bars) == 1
    assert "run 2" in bars[0]
    assert "finished" in bars[0]
    assert any("finished" in output.get("text", "") for output in shown)
    assert "z_um" in shown[-1]["data"]["text/html"]


SCRIPT = """
import os, signal, sys
import bathyscope
client = bathyscope.Client.demo(microscope={"simulated": {"height": 32, "width": 32, "emitters": 1}})
print(client.address, client._demo.folder, client._demo._process.pid, flush=True)
ENDING
"""


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("ending", ["os.kill(os.getpid(), signal.SIGKILL)", "raise ValueError('a mistake')"])
def test_a_private_service_ends_with_the_script_that_started_it(ending: str, tmp_path: Path) -> None:
    script = SCRIPT.replace("ENDING", ending)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == (-signal.SIGKILL if "SIGKILL" in ending else 1)
    address, folder, pid = done.stdout.split()
    wait_for(lambda: not psutil.pid_exists(int(pid)))
    assert not Path(folder).exists()
    with bathyscope.Client(address) as client, pytest.raises(ServiceAway):
        client.system()


def test_a_private_service_that_cannot_start_says_why() -> None:
    with pytest.raises(ServiceError, match=r"microscope\.simulated\.height") as refusal:
        bathyscope.Client.demo(microscope={"simulated": {"height": 1}})
    assert refusal.value.kind == "demo"

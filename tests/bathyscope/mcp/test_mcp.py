"""`bathyscope mcp` as a program starts it: the SDK's own client over standard input and output, on a real service."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

import bathyscope
from bathyscope.remote.demo import DemoService
from service.files.access_keys import AccessKeys
from tests.conftest import ROOT, need

SMALL = {"simulated": {"height": 64, "width": 64, "emitters": 3, "frame_period_s": 0.02}}
LIMITS = {"xy_low_um": [-20, -20], "xy_high_um": [20, 20], "stage_low_um": -30, "stage_high_um": 30}

READING = {
    "status", "list_runs", "get_run", "get_tracks", "get_measures", "live_tracks", "preview_image", "list_calibrations",
    "list_models", "list_jobs", "get_job", "list_events",
}  # fmt: skip
MOVING = {
    "move_stage", "set_microscope", "snap_image", "start_run", "stop_run", "activate_model", "start_calibration",
    "train_model", "cancel_job", "stop_microscope",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def sdk() -> Any:
    return need("mcp")


@dataclass
class Scope:
    """A real service whose data directory has a key of each role."""

    address: str
    view: str
    operate: str
    administer: str

    def audit(self) -> list[dict[str, Any]]:
        """Its audit lines, newest first."""
        headers = {"Authorization": f"Bearer {self.administer}"}
        return list(httpx.get(f"{self.address}/api/v1/audit", headers=headers).json()["items"])


@contextmanager
def _service() -> Iterator[DemoService]:
    demo = DemoService({"microscope": {**SMALL, **LIMITS, "driver": "simulated"}})
    try:
        yield demo
    finally:
        demo.close()


@pytest.fixture(scope="module")
def open_service() -> Iterator[DemoService]:
    """A service without keys."""
    with _service() as demo:
        yield demo


@pytest.fixture(scope="module")
def scope(open_service: DemoService) -> Scope:
    """The same service, with keys from now on."""
    keys = AccessKeys(open_service.folder)
    return Scope(
        open_service.address, keys.add("reader", "view"), keys.add("agent", "operate"), keys.add("owner", "administer")
    )


def talk(
    work: Callable[[Any], Awaitable[Any]], address: str, view: str | None = None, operate: str | None = None
) -> Any:
    """Start the command as an MCP client does, do the work with its tools, and end it."""
    from mcp import Client, StdioServerParameters
    from mcp_types import Implementation

    environment = {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    if view is not None:
        environment["BATHYSCOPE_ACCESS_KEY"] = view
    if operate is not None:
        environment["BATHYSCOPE_OPERATE_KEY"] = operate
    started = StdioServerParameters(
        command=sys.executable, args=["-m", "bathyscope", "mcp", "--address", address], env=environment
    )

    async def main() -> Any:
        caller = Implementation(name="lab assistant", version="1")
        async with Client(started, client_info=caller, read_timeout_seconds=120) as client:
            return await work(client)

    return asyncio.run(main())


async def value(client: Any, tool: str, **arguments: Any) -> Any:
    """The JSON of a tool that works."""
    answer = await client.call_tool(tool, arguments)
    text = answer.content[0].text
    assert not answer.is_error, text
    return json.loads(text)


async def refusal(client: Any, tool: str, **arguments: Any) -> str:
    """The text of a tool that is refused."""
    answer = await client.call_tool(tool, arguments)
    assert answer.is_error, answer
    return str(answer.content[0].text)


def picture(answer: Any) -> Any:
    assert not answer.is_error, answer
    return Image.open(io.BytesIO(base64.b64decode(answer.content[0].data)))


# ---- a service without keys ----


def test_a_key_means_nothing_to_a_service_that_asks_for_none(open_service: DemoService) -> None:
    async def work(client: Any) -> tuple[str, dict[str, Any], str]:
        refused = await refusal(client, "move_stage", stage_um=5)
        return refused, await value(client, "status"), await refusal(client, "preview_image")

    refused, status, no_frame = talk(work, open_service.address, operate="anything")
    assert "asks for no access key" in refused
    assert "bathyscope key add NAME --role operate" in refused
    assert status["ready"] == "yes"
    assert "There is no camera frame: no run is on" in no_frame
    assert status["microscope"]["stage"]["stage_um"] == pytest.approx(0.0)


# ---- reading ----


def test_without_an_operate_key_tools_only_read(scope: Scope) -> None:
    async def work(client: Any) -> tuple[Any, str, str]:
        tools = (await client.list_tools()).tools
        return tools, await refusal(client, "move_stage", stage_um=5), client.instructions

    tools, refused, instructions = talk(work, scope.address, scope.view)
    assert {tool.name for tool in tools} == READING
    assert all(tool.annotations.read_only_hint and tool.description for tool in tools)
    assert "move_stage" in refused
    assert "nothing moves" in instructions


def test_what_can_be_read_of_a_run(scope: Scope) -> None:
    with bathyscope.Client(scope.address, scope.operate) as own:
        run = own.runs.start(name="<b>beads</b>", duration_s=20)

        async def work(client: Any) -> dict[str, Any]:
            found: dict[str, Any] = {"status": await value(client, "status")}
            found["live"] = await value(client, "live_tracks")
            found["picture"] = await client.call_tool("preview_image", {})
            await asyncio.to_thread(own.runs.stop, run)
            found["runs"] = await value(client, "list_runs", limit=5, search="beads")
            found["run"] = await value(client, "get_run", run=run.id)
            found["tracks"] = await value(client, "get_tracks", run=run.id, min_length=5, points=10)
            found["measures"] = await value(client, "get_measures", run=run.id)
            found["events"] = await value(client, "list_events", run=run.id)
            found["models"] = await value(client, "list_models")
            found["calibrations"] = await value(client, "list_calibrations")
            found["jobs"] = await value(client, "list_jobs")
            found["errors"] = [
                await refusal(client, "get_run", run="20260101T000000-0000"),
                await refusal(client, "get_run", run="../system"),
                await refusal(client, "get_job", job="20260101T000000-0000"),
                await refusal(client, "get_tracks", run=run.id, z="deep"),
                await refusal(client, "get_tracks", run=run.id, t_from_s=5, t_to_s=1),
                await refusal(client, "live_tracks"),
            ]
            return found

        found = talk(work, scope.address, scope.view)
    assert found["status"]["running"]["id"] == run.id
    assert found["status"]["microscope"]["stage"]["limits"]["high_um"] == 30
    live = found["live"]
    assert live["run"] == run.id
    assert live["shown"] == live["tracks"] == len(live["z_um"]) == len(live["coasting"])
    assert picture(found["picture"]).size == (64, 64)
    assert "counts" in found["picture"].content[1].text
    assert [each["id"] for each in found["runs"]["runs"]] == [run.id]
    assert found["run"]["ledger"]["analysed"] > 0
    tracks = found["tracks"]["tracks"]
    assert tracks
    for track in tracks:
        assert len(track["t_s"]) == len(track["z_um"]) == track["shown"] <= 10
        assert track["t_s"][0] == pytest.approx(track["t_from_s"], abs=1e-3)
        assert track["t_s"][-1] == pytest.approx(track["t_to_s"], abs=1e-3)
    assert found["measures"]["ensemble"]["tracks"] >= 1
    assert "run_started" in [event["kind"] for event in found["events"]["events"]]
    assert found["models"]["models"]
    assert found["calibrations"] == {"calibrations": []}
    assert found["jobs"] == {"jobs": []}
    unknown_run, traversal, unknown_job, argument, window, no_state = found["errors"]
    assert "20260101T000000-0000" in unknown_run
    assert "pattern" in traversal
    assert "20260101T000000-0000" in unknown_job
    assert "has no argument z. Its arguments are: run, t_from_s" in argument
    assert "must not be greater" in window
    assert "There is no track state: no run is on" in no_state


# ---- moving ----


def test_moves_stay_within_the_limits_and_are_in_the_audit_with_their_origin(scope: Scope) -> None:
    async def work(client: Any) -> dict[str, Any]:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == READING | MOVING
        assert {tool.name for tool in tools if tool.annotations.read_only_hint} == READING
        moved = await value(client, "move_stage", stage_um=5, x_by_um=2)
        beyond = await refusal(client, "move_stage", stage_um=31)
        nothing = await refusal(client, "move_stage")
        absurd = await refusal(client, "move_stage", stage_um=1e9)
        changed = await value(client, "set_microscope", exposure_s=0.02, shutter="open")
        shown = await client.call_tool("snap_image", {})
        run = await value(client, "start_run", duration_s=30, name="asked by an agent")
        owned = await refusal(client, "move_stage", stage_um=0)
        stopped = await value(client, "stop_run", run=run["id"])
        no_model = await refusal(client, "activate_model", model="none-such")
        halted = await value(client, "stop_microscope")
        assert (await value(client, "status"))["microscope"]["stage"]["stage_um"] == pytest.approx(5)
        return locals()

    found = talk(work, scope.address, operate=scope.operate)
    assert found["moved"]["stage"]["stage_um"] == pytest.approx(5)
    assert found["moved"]["stage"]["x_um"] == pytest.approx(2)
    assert "31 µm; its soft limits are -30 to 30 µm" in found["beyond"]
    assert "nothing is given" in found["nothing"]
    assert "100000" in found["absurd"]
    assert found["changed"]["light"]["shutter_open"] is True
    assert picture(found["shown"]).size == (64, 64)
    assert found["run"]["id"] in found["owned"]
    assert found["stopped"]["state"] == "finished"
    assert "none-such" in found["no_model"]
    assert found["halted"]["confirmed"] is True

    lines = [line for line in scope.audit() if "lab assistant" in line["client"]]
    assert {line["client"] for line in lines} == {"127.0.0.1 (bathyscope mcp, lab assistant)"}
    assert {(line["who"], line["role"]) for line in lines} == {("agent", "operate")}
    run = found["run"]["id"]
    assert [(line["method"], line["path"].removeprefix("/api/v1"), line["status"]) for line in reversed(lines)] == [
        ("POST", "/microscope/stage", 200),
        ("POST", "/microscope/stage", 422),
        ("POST", "/microscope/stage", 422),
        ("PATCH", "/microscope", 200),
        ("POST", "/microscope/snap", 200),
        ("POST", "/runs", 201),
        ("POST", "/microscope/stage", 409),
        ("POST", f"/runs/{run}/stop", 200),
        ("PUT", "/models/active", 404),
        ("POST", "/microscope/stop", 200),
    ]


def test_jobs_can_be_begun_and_cancelled(scope: Scope) -> None:
    async def work(client: Any) -> tuple[str, str, Any]:
        no_calibration = await refusal(client, "train_model", calibration="none-such", minutes=1)
        too_many = await refusal(client, "start_calibration", z_low_um=0, z_high_um=1000, z_step_um=0.01)
        job = await value(client, "start_calibration", z_low_um=0, z_high_um=20, z_step_um=1, name="by an agent")
        await value(client, "cancel_job", job=job["job"])
        for _ in range(300):
            state = await value(client, "get_job", job=job["job"])
            if state["state"] not in ("queued", "running"):
                break
            await asyncio.sleep(0.1)
        return no_calibration, too_many, state

    no_calibration, too_many, state = talk(work, scope.address, scope.view, scope.operate)
    assert "none-such" in no_calibration
    assert "planes" in too_many
    assert state["state"] in ("cancelled", "failed")
    assert state["name"] == "by an agent"


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("view", ("'reader' has the role view", "--role operate")),
        ("wrong", ("does not accept the operate key", "BATHYSCOPE_OPERATE_KEY")),
    ],
)
def test_a_key_that_does_not_allow_to_operate_moves_nothing(scope: Scope, key: str, words: tuple[str, ...]) -> None:
    before = len(scope.audit())

    async def work(client: Any) -> list[str]:
        return [await refusal(client, "move_stage", stage_um=1), await refusal(client, "start_run", duration_s=1)]

    for refused in talk(work, scope.address, scope.view, scope.view if key == "view" else key):
        for word in words:
            assert word in refused
    assert len(scope.audit()) == before


def test_a_service_that_is_away_is_an_answer_not_the_end(scope: Scope) -> None:
    async def work(client: Any) -> list[str]:
        return [await refusal(client, "status"), await refusal(client, "move_stage", stage_um=1)]

    for refused in talk(work, "http://127.0.0.1:9", scope.view, scope.operate):
        assert "http://127.0.0.1:9 does not respond" in refused
        assert "bathyscope serve" in refused


# ---- the command ----


def command(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([*environment.pop("before", "").split(), str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, "-m", "bathyscope", "mcp", *arguments],
        cwd=folder, env={**os.environ, "PYTHONPATH": path, **environment}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def test_an_address_that_is_none_is_refused(tmp_path: Path) -> None:
    done = command(tmp_path, "--address", "ftp://scope")
    assert (done.returncode, done.stdout) == (1, "")
    assert "'ftp://scope'; it must be an http or https address. Give it as in http://127.0.0.1:8000." in done.stderr


def test_a_missing_sdk_is_named_with_its_extra(tmp_path: Path) -> None:
    (tmp_path / "mcp.py").write_text("raise ModuleNotFoundError(\"No module named 'mcp'\", name='mcp')")
    done = command(tmp_path, before=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'bathyscope[mcp]'" in done.stderr


def test_the_command_ends_with_its_input(tmp_path: Path) -> None:
    done = command(tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr

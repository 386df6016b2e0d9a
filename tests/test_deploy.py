"""The files of deploy/, as far as they can be checked without a container engine."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from models.errors import DataError
from service.api.live import Live
from service.api.metrics import Metrics
from service.api.refusals import RefusalCounter
from service.engine.ledger import LedgerCounts
from service.engine.stages import Stage
from service.files.outputs import write_json
from service.protocol.addresses import LinkAddress
from service.protocol.clients import EngineClient
from service.protocol.latency import Latencies
from service.settings import load_settings
from tests.conftest import missing, need

DEPLOY = Path(__file__).resolve().parent.parent / "deploy"
KEY = "a-long-random-word-of-a-test"


def _instructions() -> list[tuple[str, str]]:
    """Dockerfile instructions, continued lines joined, comments left out."""
    lines = [line for line in (DEPLOY / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    return [(line.split()[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def _image_environment() -> dict[str, str]:
    last_stage = max(i for i, (name, _) in enumerate(_instructions()) if name == "FROM")
    settings = " ".join(value for name, value in _instructions()[last_stage:] if name == "ENV")
    return dict(pair.split("=", 1) for pair in settings.split())


def test_image_is_built_in_stages_from_named_versions() -> None:
    bases = [value.split()[0] for name, value in _instructions() if name == "FROM"]
    assert len(bases) == 2
    (default,) = (
        value.split("=", 1)[1] for name, value in _instructions() if name == "ARG" and value.startswith("BASE=")
    )
    assert bases == ["${BASE}", "${BASE}"]
    assert re.fullmatch(r"[a-z/]+:\d+\.\d+[\w.-]*", default)
    assert not [value for name, value in _instructions() if name == "ADD"]


def test_image_does_not_run_as_root_and_is_watched() -> None:
    instructions = _instructions()
    users = [value for name, value in instructions if name == "USER"]
    assert users == ["10001:10001"]
    (check,) = (value for name, value in instructions if name == "HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    compile(command[2], "healthcheck", "exec")
    assert "/healthz" in command[2]
    assert [json.loads(value) for name, value in instructions if name in ("ENTRYPOINT", "CMD")] == [
        ["bathyscope"],
        ["serve"],
    ]


def test_image_contains_no_key_and_does_not_start_without_one() -> None:
    environment = _image_environment()
    assert "BATHYSCOPE_ACCESS_KEY" not in environment
    with pytest.raises(DataError, match="access_key"):
        load_settings(environment=environment)
    settings = load_settings(environment={**environment, "BATHYSCOPE_ACCESS_KEY": KEY})
    assert (settings.host, settings.port) == ("0.0.0.0", 8000)
    assert settings.data_dir == Path("/var/lib/bathyscope")


def test_files_that_the_image_build_copies_are_in_the_repository() -> None:
    ignored = (DEPLOY.parent / ".dockerignore").read_text().split()
    assert "**/node_modules" in ignored
    for needed in ("README.md", "LICENSE", "hatch_build.py", "models", "service", "hardware"):
        assert needed not in ignored
        assert (DEPLOY.parent / needed).exists()


def test_compose_file_requires_a_key_and_publishes_no_port_to_the_network() -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    service, database = compose["services"]["bathyscope"], compose["services"]["database"]
    assert ":?" in service["environment"]["BATHYSCOPE_ACCESS_KEY"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
    assert database["profiles"] == ["postgres"]
    assert "ports" not in database
    mounted = {volume.split(":")[0] for part in (service, database) for volume in part["volumes"]}
    assert mounted == set(compose["volumes"])


def _unit() -> list[tuple[str, str]]:
    lines = (DEPLOY / "bathyscope.service").read_text().splitlines()
    return [tuple(line.split("=", 1)) for line in lines if "=" in line and not line.startswith("#")]  # type: ignore[misc]


def test_unit_runs_the_supervisor_without_rights() -> None:
    unit = _unit()
    (start,) = (value for name, value in unit if name == "ExecStart")
    assert start.split()[1:3] == ["serve", "--config"]
    assert ("DynamicUser", "yes") in unit
    assert ("StateDirectory", "bathyscope") in unit
    assert ("NoNewPrivileges", "yes") in unit
    assert ("CapabilityBoundingSet", "") in unit
    environment = dict(value.split("=", 1) for name, value in unit if name == "Environment")
    settings = load_settings(environment=environment)
    assert settings.host == "127.0.0.1"
    assert settings.data_dir == Path("/var/lib/bathyscope")


def test_unit_is_valid(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        missing("systemd is not installed", in_ci=False)
    # The command has to exist for the check, and is not installed at that place here.
    text = (DEPLOY / "bathyscope.service").read_text().replace("/opt/bathyscope/bin/bathyscope", sys.executable)
    (tmp_path / "bathyscope.service").write_text(text)
    done = subprocess.run(
        [analyze, "verify", "--man=no", "bathyscope.service"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    said = [line for line in (done.stdout + done.stderr).splitlines() if "bathyscope.service" in line]
    assert said == []


async def _metric_names(folder: Path) -> set[str]:
    """Names of all figures of the service during a recorded run."""
    latencies, address = Latencies(), LinkAddress.create()
    address.record.write({key: {"state": "running", "restarts": 0} for key in ("engine", "copies")})
    write_json(folder / "copies" / "status.json", {"place_up": True, "recordings": {"verified": 1}})
    engine = EngineClient(address)
    live = Live(engine)
    live.set_status(
        {
            "ready": True,
            "ledger": LedgerCounts().as_dict(),
            "stages": {"analyse": Stage(1).report()},
            "latency_ms": {"tracked": dict.fromkeys(("p50", "p95", "p99", "max"), 1.0)},
            "latency_buckets": latencies.buckets(),
            "recorder": "writing",
            "fitted_frames": {"full": 1},
        }
    )
    live.failures["feed"] += 1
    text = (await Metrics(live, engine, folder, RefusalCounter()).text()).decode()
    await engine.close()
    shutil.rmtree(address.folder)
    return {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}


@pytest.mark.parametrize("file", ["prometheus-rules.yaml", "grafana-dashboard.json"])
def test_alerts_and_dashboard_use_figures_that_exist(file: str, tmp_path: Path) -> None:
    named = set(re.findall(r"bathyscope_\w+", (DEPLOY / file).read_text()))
    told = asyncio.run(_metric_names(tmp_path))
    assert named
    assert named <= told


def _promtool(*arguments: str) -> tuple[bool, str]:
    """Whether promtool is satisfied, and what it says."""
    done = subprocess.run([str(need("promtool")), *arguments], capture_output=True, text=True, timeout=120)
    return done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_the_alerts() -> None:
    accepted, said = _promtool("check", "rules", str(DEPLOY / "prometheus-rules.yaml"))
    assert accepted, said


def test_each_alert_fires_at_its_fault_and_at_nothing_else(tmp_path: Path) -> None:
    rules, units = (DEPLOY / name for name in ("prometheus-rules.yaml", "prometheus-rules-test.yaml"))
    passed, said = _promtool("test", "rules", str(units))
    assert passed, said
    # Each alert has its test: without its rule, that test fails.
    shutil.copy(units, tmp_path)
    loaded = yaml.safe_load(rules.read_text())
    for rule in loaded["groups"][0]["rules"]:
        others = [other for other in loaded["groups"][0]["rules"] if other is not rule]
        (tmp_path / rules.name).write_text(yaml.safe_dump({"groups": [{"name": "bathyscope", "rules": others}]}))
        passed, said = _promtool("test", "rules", str(tmp_path / units.name))
        assert not passed, rule["alert"]
        assert rule["alert"] in said


def test_every_alert_has_a_remedy() -> None:
    (group,) = yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"])
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "remedy"}


def test_dashboard_shows_every_figure_of_the_service(tmp_path: Path) -> None:
    dashboard = json.loads((DEPLOY / "grafana-dashboard.json").read_text())
    shown = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    told = {name for name in asyncio.run(_metric_names(tmp_path)) if name.startswith("bathyscope_")}
    # Sum and count of the histogram go with its buckets.
    assert {name for name in told if name not in shown} == {
        f"bathyscope_stage_latency_seconds_{part}" for part in ("sum", "count")
    }
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])

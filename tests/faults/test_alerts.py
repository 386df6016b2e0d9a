"""Each alert of deploy/ fired by its fault: the real service, watched by a real Prometheus with short intervals."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT, mounted_disk, need
from tests.faults.running_service import Service, running, settings_for, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform == "win32", reason="SIGSTOP is of POSIX")]

RULES = ROOT / "deploy" / "prometheus-rules.yaml"

SHORTER = {"30s": "2s", "1m": "3s", "5m": "3s"}
"""How long a fault lasts before its alert fires: in the file, and here."""

DISK_MB = 96


def shortened(rules: str) -> str:
    """The alerts of the file with windows of 20 s and short times to fire; their conditions stay as they are."""
    groups = yaml.safe_load(re.sub(r"\[\d+m\]", "[20s]", rules))
    for rule in groups["groups"][0]["rules"]:
        if "for" in rule:
            rule["for"] = SHORTER[rule["for"]]
    return str(yaml.safe_dump(groups))


class Watch:
    """A Prometheus that scrapes one service every second."""

    def __init__(self, port: int) -> None:
        self._port = port

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    def scrapes(self) -> bool:
        """Whether it has read the service once."""
        try:
            return any(target["health"] == "up" for target in self._get("/api/v1/targets")["activeTargets"])
        except OSError:
            return False

    def firing(self) -> set[str]:
        """Names of the alerts that fire now."""
        found = self._get("/api/v1/alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    def wait_for(self, alert: str) -> None:
        """Until the alert fires."""
        wait_for(lambda: alert in self.firing())


@contextmanager
def watched(service: Service, folder: Path) -> Iterator[Watch]:
    """A Prometheus with the alerts of deploy/ that scrapes the service."""
    program = str(need("prometheus"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder.mkdir()
    (folder / "rules.yaml").write_text(shortened(RULES.read_text()))
    configuration = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": [
            {
                "job_name": "bathyscope",
                "static_configs": [{"targets": [f"127.0.0.1:{service.supervisor.port}"]}],
            }
        ],
    }
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(configuration))
    command = [
        program, f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
    ]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        watch = Watch(port)
        wait_for(watch.scrapes)
        yield watch
    finally:
        process.terminate()
        process.wait()


def test_processes_that_hang(tmp_path: Path) -> None:
    service = Service(settings_for(tmp_path / "data", run_at_start=False))
    try:
        with service, watched(service, tmp_path / "prometheus") as watch:
            wait_for(lambda: bool(service.status()))
            wait_for(lambda: "BathyscopeEngineAway" not in watch.firing())
            assert not watch.firing() & {"BathyscopeAway", "BathyscopeProcessRestarted"}
            os.kill(service.supervisor.processes["engine"]["pid"], signal.SIGSTOP)
            watch.wait_for("BathyscopeEngineAway")
            watch.wait_for("BathyscopeProcessRestarted")
            wait_for(lambda: "BathyscopeEngineAway" not in watch.firing())
            os.kill(service.supervisor.processes["api"]["pid"], signal.SIGSTOP)
            watch.wait_for("BathyscopeAway")
            wait_for(lambda: "BathyscopeAway" not in watch.firing())
    finally:
        service.close()


def test_a_pause_in_which_frames_are_lost(tmp_path: Path) -> None:
    with running(settings_for(tmp_path / "data")) as service, watched(service, tmp_path / "prometheus") as watch:
        service.wait_for_run()
        engine = service.supervisor.processes["engine"]["pid"]
        os.kill(engine, signal.SIGSTOP)
        time.sleep(6)
        os.kill(engine, signal.SIGCONT)
        watch.wait_for("BathyscopeFramesLost")
        assert service.status()["ledger"]["lost"] > 0


@pytest.mark.skipif(sys.platform != "linux", reason="tmpfs is of Linux")
def test_a_disk_that_fills(tmp_path: Path) -> None:
    with (
        mounted_disk(tmp_path / "data", DISK_MB * 1024**2),
        running(settings_for(tmp_path / "data", free_space_floor_gb=0.08)) as service,
        watched(service, tmp_path / "prometheus") as watch,
    ):
        watch.wait_for("BathyscopeDiskNearlyFull")
        watch.wait_for("BathyscopeFramesUnrecorded")
        assert "recording_stopped" in service.events()


def test_an_analysis_that_is_too_slow(tmp_path: Path) -> None:
    microscope = {"driver": "simulated", "simulated": {"height": 512, "width": 512}}
    settings = settings_for(
        tmp_path / "data", microscope, camera={"exposure_s": 0.002}, record=False, batch=64, torch_threads=1
    )
    with running(settings) as service, watched(service, tmp_path / "prometheus") as watch:
        watch.wait_for("BathyscopeFramesLate")
        watch.wait_for("BathyscopeTracksLate")
        ledger = service.status()["ledger"]
        assert ledger["deferred"] + ledger["skipped"] > 0


def test_a_microscope_that_cannot_be_opened(tmp_path: Path) -> None:
    movie = {"driver": "replay", "replay": {"movie": tmp_path / "none.tif"}}
    service = Service(settings_for(tmp_path / "data", movie))
    try:
        with service, watched(service, tmp_path / "prometheus") as watch:
            watch.wait_for("BathyscopeNotReady")
            assert "BathyscopeEngineAway" not in watch.firing()
    finally:
        service.close()

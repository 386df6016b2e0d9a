from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
import zarr

from service.store.store import Store

COMMAND = [sys.executable, "-c", "from service.commands.application import main; main()", "demo", "--port", "0"]
STAGES = ("grabbed", "analysed", "tracked", "published")


def demo(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )


def test_the_demo_tracks_records_and_writes_its_figures(tmp_path: Path) -> None:
    service = demo("--seconds", "3", "--record", "--data", str(tmp_path / "data"), "--json", str(tmp_path / "out.json"))
    out, err = service.communicate(timeout=240)
    assert service.returncode == 0, err
    assert out.startswith("Bathyscope is ready at http://127.0.0.1:")
    assert len(out.splitlines()) == 1
    assert "Traceback" not in err

    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures) == {
        "frames", "fps", "latency_ms", "accuracy", "track_accuracy", "cpu_percent", "rss_mb", "recording", "settings",
        "machine", "fitted_share",
    }  # fmt: skip
    frames = figures["frames"]
    assert set(frames) == {"exposed", "grabbed", "lost", "recorded", "analysed", "deferred", "skipped"}
    # How much is lost or deferred depends on the machine; that it adds up does not.
    assert frames["exposed"] == frames["grabbed"] + frames["lost"]
    assert frames["grabbed"] == frames["analysed"] + frames["deferred"] + frames["skipped"]
    assert frames["analysed"] > 0
    assert figures["fps"] > 0
    assert set(figures["latency_ms"]) == set(STAGES)
    for stage in STAGES:
        quantiles = figures["latency_ms"][stage]
        assert 0 < quantiles["p50"] <= quantiles["p95"] <= quantiles["p99"] <= quantiles["max"]
    assert set(figures["accuracy"]) == {"jaccard", "rmse_um", "rmse_lateral_um", "rmse_axial_um"}
    # The shipped model finds most of 20 bright emitters; its own score is judged elsewhere, on more frames.
    assert figures["accuracy"]["jaccard"] > 0.4
    assert figures["cpu_percent"] > 0
    assert figures["rss_mb"] > 100

    image = zarr.open_array(str(Path(figures["recording"]) / "0"), mode="r")
    assert image.shape == (frames["recorded"], 256, 256)
    assert frames["recorded"] == frames["grabbed"]
    store = Store.open(tmp_path / "data" / "bathyscope.db")
    (run,) = store.runs.list().items
    assert run.state == "finished"
    # Deferred frames may have been analysed after the run, before the service ended.
    late = ("analysed", "deferred")
    assert {name: run.ledger[name] for name in frames if name not in late} == {
        name: count for name, count in frames.items() if name not in late
    }
    assert sum(run.ledger[name] for name in late) == sum(frames[name] for name in late)
    store.close()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_interrupting_the_demo_is_a_clean_end() -> None:
    service = demo()
    assert service.stdout is not None
    line = service.stdout.readline()
    address = line.removeprefix("Bathyscope is ready at ").strip()
    with urllib.request.urlopen(f"{address}/readyz", timeout=10) as answer:
        assert json.load(answer)["status"] == "ready"
    service.send_signal(signal.SIGINT)
    _, err = service.communicate(timeout=120)
    assert service.returncode == 0, err
    assert "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_interrupting_all_processes_while_they_start_is_a_clean_end() -> None:
    service = demo()
    deadline = time.monotonic() + 120
    # The first child is multiprocessing's own resource tracker.
    while len(psutil.Process(service.pid).children()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(service.pid, signal.SIGINT)
    _, err = service.communicate(timeout=120)
    assert service.returncode == 0, err
    assert "Traceback" not in err


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = subprocess.run(
            [*COMMAND[:-1], str(port), "--seconds", "1"], capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 1
    assert f"Port {port} at 127.0.0.1 cannot be used" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

"""``bathyscope relay``: it listens until a signal ends it, and says what is wrong with its settings."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.commands.application import main
from tests.conftest import ROOT, need


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_a_signal_ends_it(tmp_path: Path) -> None:
    need("nats")
    command = "from service.commands.application import main; main()"
    arguments = ["relay", "--nats", "nats://127.0.0.1:1", "--port", "0", "--data", str(tmp_path)]
    process = subprocess.Popen(
        [sys.executable, "-c", command, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    said = next(line for line in process.stdout if "listens at" in line)
    assert "hears nats://127.0.0.1:1" in said
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "Traceback" not in rest


def refused(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["bathyscope", "relay", *arguments])
    monkeypatch.delenv("BATHYSCOPE_RELAY__NATS", raising=False)
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_what_it_needs_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    need("nats")
    data = ("--data", str(tmp_path))
    assert refused(monkeypatch, *data) == 1
    assert "Give --nats" in capsys.readouterr().err
    assert refused(monkeypatch, "--nats", "http://nats", *data) == 1
    assert "relay.nats" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert refused(monkeypatch, "--nats", "nats://127.0.0.1:1", "--port", port, *data) == 1
    assert "one program listens at a port" in capsys.readouterr().err

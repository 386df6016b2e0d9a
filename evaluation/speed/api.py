"""Processor time of the API per message and client, for live tracks sent to many clients.

The real API process stands behind a publisher with the protocol of the engine.
It is measured twice: without clients, and with all clients.
"""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

import httpx
import numpy as np
import psutil

from models.errors import DataError
from service.commands.waiting import Pause, interruptible
from service.measurement.clients import Clients, Load
from service.process.api_child import api_process
from service.process.children import STOP
from service.process.machine import machine
from service.protocol import wire
from service.protocol.addresses import LinkAddress
from service.protocol.live import LivePublisher
from service.settings import Settings
from service.store.store import Store

__all__ = ["RunningApi", "TrackPublisher", "api_running", "measure_api"]

_START_LIMIT_S = 120.0
_END_LIMIT_S = 20.0
_STATUS_S = 0.25
_FLOATS = ("x_um", "y_um", "z_um", "vx_um_s", "vy_um_s", "vz_um_s", "sigma_x_um", "sigma_y_um", "sigma_z_um")
_LEDGER = ("exposed", "grabbed", "lost", "recorded", "unrecorded", "analysed", "deferred", "skipped", "in_flight")


def measure_api(
    settings: Settings, *, fps: float, seconds: float, clients: int, tracks: int, slow_clients: int = 0
) -> dict[str, Any]:
    """Publish `fps` states of `tracks` tracks a second for `seconds`, without clients and then to `clients` clients.

    Parameters
    ----------
    settings : Settings
        With a data directory of its own, and the port to listen at.
    slow_clients : int
        How many of the clients connect and then never read.

    Returns
    -------
    dict
        ``cpu_percent`` of the API without and with the clients, ``us_per_message_and_client``
        (None when no message came), ``published_ms`` (publication to reception), ``rss_mb`` of the API before the
        clients and with them at the end, and the results of the clients.

    Raises
    ------
    DataError
        When the API does not start.
    """
    with interruptible() as pause, api_running(settings) as api:
        publisher = TrackPublisher(api.address, fps, tracks)
        publisher.start()
        try:
            _wait_until_alive(api, pause)
            alone_s = _cpu_while(api, pause, seconds)
            before_mb = _rss_mb(api)
            load = Load("127.0.0.1", api.port, clients=clients, slow_clients=slow_clients)
            with Clients(load) as viewers:
                viewers.wait_until_connected(pause)
                busy_s = _cpu_while(api, pause, seconds)
                after_mb = _rss_mb(api)
                seen = viewers.finish()
        finally:
            publisher.end()
    latency, messages = seen.pop("latency"), sum(seen["messages"])
    return {
        "cpu_percent": {"alone": round(100 * alone_s / seconds, 1), "clients": round(100 * busy_s / seconds, 1)},
        "us_per_message_and_client": round(1e6 * (busy_s - alone_s) / messages, 1) if messages else None,
        "published_ms": latency.summary_ms(),
        "rss_mb": {"before": before_mb, "clients": after_mb},
        "clients": seen,
        "settings": {
            "fps": fps,
            "seconds": seconds,
            "clients": clients,
            "slow_clients": slow_clients,
            "tracks": tracks,
        },
        "machine": machine(),
    }


@dataclass(frozen=True, slots=True)
class RunningApi:
    """The API process and where it is."""

    process: psutil.Process
    port: int
    address: LinkAddress


@contextmanager
def api_running(settings: Settings) -> Iterator[RunningApi]:
    """Start the API process on the database of `settings`, without an engine; it ends with the block."""
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    store = Store.open(settings.database)
    store.migrate()
    store.close()
    address = LinkAddress.create()
    listener = socket.create_server(("127.0.0.1", settings.port))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=api_process, args=(settings, address, listener, theirs), name="bathyscope-api")
    process.start()
    theirs.close()
    draining = threading.Thread(target=_drain, args=(ours,), daemon=True)
    draining.start()
    try:
        yield RunningApi(psutil.Process(process.pid), listener.getsockname()[1], address)
    finally:
        ours.send(STOP)
        process.join(_END_LIMIT_S)
        if process.is_alive():
            process.kill()
            process.join()
        draining.join()
        ours.close()
        listener.close()
        shutil.rmtree(address.folder, ignore_errors=True)


def _drain(pipe: Connection) -> None:
    """Take the heartbeats, so that the pipe never fills."""
    try:
        while True:
            pipe.recv()
    except (EOFError, OSError):
        return


class TrackPublisher(threading.Thread):
    """Publishes states of tracks and the status, as the engine does.

    Parameters
    ----------
    address : LinkAddress
    fps : float
        Messages a second.
    tracks : int
        In each message.

    Attributes
    ----------
    published : int
        Messages with tracks so far.
    """

    def __init__(self, address: LinkAddress, fps: float, tracks: int) -> None:
        super().__init__(name="publish", daemon=True)
        self._live = LivePublisher(address)
        self._period_s = 1.0 / fps
        self._columns = {
            "track_id": np.arange(tracks, dtype=np.uint32),
            **{name: np.zeros(tracks, np.float32) for name in _FLOATS},
            "age": np.zeros(tracks, np.uint32),
            "flags": np.zeros(tracks, np.uint32),
        }
        self._ending = threading.Event()
        self.published = 0

    def run(self) -> None:
        """Publish until `end`."""
        begin_s, told_s, sequence = time.monotonic(), 0.0, 0
        ledger = dict.fromkeys(_LEDGER, 0)
        while not self._ending.wait(max(begin_s + sequence * self._period_s - time.monotonic(), 0.0)):
            now_s = time.monotonic()
            header = {
                "epoch": "bench", "run": "bench", "fps": 1 / self._period_s, "ledger": ledger, "sequence": sequence,
                "captured_s": time.time(), "captured_monotonic_s": now_s, "published_s": time.time(),
                "frame": sequence, "t_s": sequence * self._period_s,
            }  # fmt: skip
            self._live.send("tracks", wire.encode(wire.TRACKS, header, self._columns))
            if now_s - told_s >= _STATUS_S:
                told_s = now_s
                self._live.send_values("status", {"state": "running", "ready": True, "ledger": ledger, "stages": {}})
            sequence += 1
            self.published = sequence

    def end(self) -> None:
        """Stop publishing."""
        self._ending.set()
        self.join()
        self._live.close()


def _wait_until_alive(api: RunningApi, pause: Pause) -> None:
    """Wait until the API answers. It is never ready: there is no engine, only a publisher."""
    deadline = time.monotonic() + _START_LIMIT_S
    while True:
        try:
            httpx.get(f"http://127.0.0.1:{api.port}/healthz", timeout=5.0, trust_env=False).raise_for_status()
            return
        except httpx.HTTPError as error:
            if time.monotonic() > deadline:
                raise DataError(
                    f"The API did not start within {_START_LIMIT_S:g} s: {error}", "Free the processor."
                ) from error
        pause(0.1)


def _rss_mb(api: RunningApi) -> float:
    return round(api.process.memory_info().rss / 1e6, 1)


def _cpu_while(api: RunningApi, pause: Pause, seconds: float) -> float:
    before = api.process.cpu_times()
    pause(seconds)
    after = api.process.cpu_times()
    return after.user + after.system - before.user - before.system

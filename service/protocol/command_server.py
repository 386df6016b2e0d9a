"""The engine's side of the command sockets."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import structlog
import zmq

from service.protocol.addresses import LinkAddress
from service.protocol.errors import EngineRefusal
from service.protocol.messages import pack, pack_refusal
from service.worker_thread import WorkerThread

__all__ = ["CommandServer"]

_log = structlog.get_logger(__name__)

Handler = Callable[[str, dict[str, Any]], Any]

_CHANGE_OVER_MS = 200
"""Longest that a server waits before it looks whether it is to end."""


class CommandServer:
    """One door of the engine: takes requests, runs them on worker threads, sends replies.

    Parameters
    ----------
    address, endpoint : LinkAddress, str
        Where to listen.
    handler : callable
        Takes the command's name and its arguments; returns MessagePack values or raises `EngineRefusal`.
    failed : callable
        Gets the exception that ended the taking of requests, on the door's own thread. An engine that takes none any
        more must end.
    workers : int
        Requests that run at the same time; others wait their turn.
    """

    def __init__(
        self,
        address: LinkAddress,
        endpoint: str,
        handler: Handler,
        failed: Callable[[Exception], None],
        workers: int = 4,
    ) -> None:
        self._handler = handler
        self._address, self._endpoint = address, endpoint
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._door = self._context.socket(zmq.ROUTER)
        self._door.linger = 0
        address.bind(self._door, endpoint)
        # Sockets belong to one thread: workers hand their replies to the door's own thread over these.
        self._replies = self._context.socket(zmq.PULL)
        self._replies.bind("inproc://replies")
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="command")
        self._ending = threading.Event()
        self._thread = _Door(self._serve, failed)
        self._thread.start()

    def close(self) -> None:
        """Let running requests end, then shut the door."""
        self._pool.shutdown(wait=True)
        self._ending.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._take_requests()
        finally:
            self._door.close()
            self._replies.close()
            self._context.destroy(linger=0)

    def _take_requests(self) -> None:
        poller = zmq.Poller()
        poller.register(self._door, zmq.POLLIN)
        poller.register(self._replies, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(_CHANGE_OVER_MS))
            self._address.restore(self._door, self._endpoint)
            if self._replies in ready:
                self._door.send_multipart(self._replies.recv_multipart())
            if self._door in ready:
                client, *_, request = self._door.recv_multipart()
                if not self._ending.is_set():
                    try:
                        self._pool.submit(self._answer, client, request)
                    except RuntimeError:  # shutting down: the client will find the engine away
                        continue
            if not ready and self._ending.is_set():
                return

    def _answer(self, client: bytes, request: bytes) -> None:
        reply: dict[str, Any] = {"id": None}
        try:
            asked = msgpack.unpackb(request)
            reply["id"] = asked["id"]
            reply["result"] = self._handler(asked["command"], asked.get("arguments") or {})
            packed = pack(reply)
        except EngineRefusal as refusal:
            packed = pack_refusal(reply["id"], refusal.kind, refusal.problem, refusal.remedy)
        except Exception as error:  # noqa: BLE001  whatever fails, the client gets an answer
            _log.exception("command_failed")
            problem = f"The engine failed at this request ({type(error).__name__}: {error})."
            packed = pack_refusal(reply["id"], "internal", problem, "See the log of the service.")
        back = self._context.socket(zmq.PUSH)
        back.connect("inproc://replies")
        back.send_multipart([client, packed])
        back.close()


class _Door(WorkerThread):
    """The thread of one door, and the only one that uses its sockets."""

    def __init__(self, serve: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        super().__init__("commands", failed)
        self._serve = serve

    def work(self) -> None:
        self._serve()

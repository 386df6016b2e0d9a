"""The engine's side of a command socket: receives requests, runs them on worker threads, sends replies."""

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

_POLL_MS = 200
"""Longest wait for a request before the server checks whether it must close."""


class CommandServer:
    """One command socket of the engine.

    Parameters
    ----------
    address, endpoint : LinkAddress, str
        Where to listen.
    handler : callable
        Takes the command's name and its arguments; returns MessagePack values or raises `EngineRefusal`.
    failed : callable
        Gets the exception that ended the receiving of requests, on the socket's own thread. An engine that receives
        none must end.
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
        self._requests = self._context.socket(zmq.ROUTER)
        self._requests.linger = 0
        address.bind(self._requests, endpoint)
        # A socket belongs to one thread: workers pass their replies to the server's thread over these.
        self._replies = self._context.socket(zmq.PULL)
        self._replies.bind("inproc://replies")
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="command")
        self._ending = threading.Event()
        self._thread = _ServerThread(self._serve, failed)
        self._thread.start()

    def close(self) -> None:
        """Let running requests end, then close the sockets."""
        self._pool.shutdown(wait=True)
        self._ending.set()
        self._thread.join()

    def _serve(self) -> None:
        try:
            self._receive_requests()
        finally:
            self._requests.close()
            self._replies.close()
            self._context.destroy(linger=0)

    def _receive_requests(self) -> None:
        poller = zmq.Poller()
        poller.register(self._requests, zmq.POLLIN)
        poller.register(self._replies, zmq.POLLIN)
        while True:
            ready = dict(poller.poll(_POLL_MS))
            self._address.restore(self._requests, self._endpoint)
            if self._replies in ready:
                self._requests.send_multipart(self._replies.recv_multipart())
            if self._requests in ready:
                client, *_, request = self._requests.recv_multipart()
                if not self._ending.is_set():
                    try:
                        self._pool.submit(self._run_request, client, request)
                    except RuntimeError:  # closing: the client gets no reply and raises `EngineAway`
                        continue
            if not ready and self._ending.is_set():
                return

    def _run_request(self, client: bytes, request: bytes) -> None:
        reply: dict[str, Any] = {"id": None}
        try:
            message = msgpack.unpackb(request)
            reply["id"] = message["id"]
            reply["result"] = self._handler(message["command"], message.get("arguments") or {})
            packed = pack(reply)
        except EngineRefusal as refusal:
            packed = pack_refusal(reply["id"], refusal)
        except Exception as error:  # noqa: BLE001  every failure gets a reply
            _log.exception("command_failed")
            problem = f"The engine failed at this request ({type(error).__name__}: {error})."
            packed = pack_refusal(reply["id"], EngineRefusal("internal", problem, "See the log of the service."))
        back = self._context.socket(zmq.PUSH)
        back.connect("inproc://replies")
        back.send_multipart([client, packed])
        back.close()


class _ServerThread(WorkerThread):
    """The thread of one server, and the only one that uses its sockets."""

    def __init__(self, serve: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        super().__init__("commands", failed)
        self._serve = serve

    def work(self) -> None:
        self._serve()

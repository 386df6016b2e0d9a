"""How the API process talks to the real-time engine.

ZeroMQ sockets carry MessagePack, never pickle. Three doors lead into the
engine: `commands`, one request and one reply at a time; `stop`, on a thread
of its own, so that halting the microscope never waits behind other work; and
`live`, which publishes to whoever listens and waits for nobody. Where
something is a view (tracks, preview, status) a listener holds exactly one
message, the newest.

The doors are socket files in a private folder within the data directory,
because what lies in a temporary folder is cleared away there after some days.
The temporary folder is taken only when the path of the data directory is too
long for socket files, or its disk takes none. A socket file that is removed
all the same is made again. Where the platform has none (Windows) the doors are
loopback TCP with CURVE keys, because any program of the machine could reach an
open port.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import socket
import stat
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, cast

import msgpack
import structlog
import zmq
import zmq.asyncio

from service.worker_thread import WorkerThread

__all__ = [
    "CommandServer",
    "EngineAway",
    "EngineClient",
    "EngineRefusal",
    "LinkAddress",
    "LivePublisher",
    "SyncEngineClient",
]

_log = structlog.get_logger(__name__)

Topic = Literal["tracks", "preview", "feed", "status"]
Handler = Callable[[str, dict[str, Any]], Any]

_VIEWS = ("tracks", "preview", "status")
_LONGEST_PATH = 90
"""Bytes of a folder whose socket files still fit the 104 to 108 bytes that Unix systems allow."""

_FOLDER_PREFIX = ".sockets-"
_FOLDER_NAME = re.compile(re.escape(_FOLDER_PREFIX) + "[a-z0-9_]{8}")
"""What `tempfile.mkdtemp` makes of the prefix."""

_SOCKETS = ("commands", "stop", "live")
_RECORD = "processes.json"
_RECORD_ASIDE = "processes.new"

_RESTORE_S = 0.5
"""Time between two looks whether the socket file of `live` is still there."""

_RECORD_LIMIT_S = 15.0
"""The supervisor writes its record every second; after this time it cannot, or it hangs."""

_FEED_WATER_MARK = 1000
"""Messages that wait for one listener before more are dropped; events are in the database too."""

_CHANGE_OVER_MS = 200
"""Longest that a server waits before it looks whether it is to end."""

_log = structlog.get_logger(__name__)


class EngineAway(RuntimeError):
    """The engine does not answer: it is starting, being restarted, or stays down after failing again and again.

    Attributes
    ----------
    problem, remedy : str
        What is known about it, from the supervisor's record.
    """

    def __init__(self, problem: str, remedy: str = "Try again in a few seconds.") -> None:
        super().__init__(f"{problem} {remedy}")
        self.problem = problem
        self.remedy = remedy


class EngineRefusal(RuntimeError):
    """The engine answers, and says no.

    Attributes
    ----------
    kind : str
        ``"conflict"`` (something else is going on), ``"not_found"``, ``"invalid"`` (bad arguments), ``"unavailable"``
        (no microscope or no model now), ``"microscope"`` (a driver's error), ``"internal"``.
    problem, remedy : str
        What is wrong and what to do about it.
    """

    def __init__(self, kind: str, problem: str, remedy: str) -> None:
        super().__init__(f"{problem} {remedy}")
        self.kind = kind
        self.problem = problem
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """Where the engine's doors are; the same through all its restarts.

    Attributes
    ----------
    folder : str
        A folder that only this user can read: socket files, and the supervisor's record of its processes.
    commands, stop, live : str
        ZeroMQ endpoints.
    public_key, secret_key : bytes or None
        CURVE key pair of both sides, for loopback TCP. It never leaves the service's own processes.
    """

    folder: str
    commands: str
    stop: str
    live: str
    public_key: bytes | None = None
    secret_key: bytes | None = None

    @classmethod
    def create(cls, parent: Path | None = None, *, tcp: bool = False) -> LinkAddress:
        """Make a private folder and choose endpoints in it.

        Parameters
        ----------
        parent : Path or None
            Where the folder shall be; absent, or when socket files cannot be there: the temporary folder.
        tcp : bool
            Take loopback TCP also where there are socket files.

        Raises
        ------
        OSError
            When no folder can be made.
        """
        tcp = tcp or sys.platform == "win32" or not zmq.has("ipc")
        parents = [Path(tempfile.gettempdir())] if parent is None else [parent, Path(tempfile.gettempdir())]
        for place in parents:
            folder = tempfile.mkdtemp(prefix=_FOLDER_PREFIX, dir=place)  # mode 0700
            if tcp:
                break
            if _takes_sockets(folder):
                commands, stop, live = (f"ipc://{folder}/{name}" for name in _SOCKETS)
                return cls(folder, commands, stop, live)
            if place is not parents[-1]:
                cls.remove(folder)
        commands, stop, live = (f"tcp://127.0.0.1:{port}" for port in _free_ports(3))
        return cls(folder, commands, stop, live, *zmq.curve_keypair())

    @staticmethod
    def remove(folder: str) -> bool:
        """Remove a folder that `create` made; whether it is gone.

        A folder with another name, of another user, behind a link, or with anything in it that Bathyscope does not
        put there, is left alone.
        """
        if not _FOLDER_NAME.fullmatch(Path(folder).name):
            return False
        try:
            found = os.lstat(folder)
            if not stat.S_ISDIR(found.st_mode) or (sys.platform != "win32" and found.st_uid != os.getuid()):
                return False
            entries = list(os.scandir(folder))
            if not all(_is_ours(entry) for entry in entries):
                return False
            for entry in entries:
                os.unlink(entry.path)
            os.rmdir(folder)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    @property
    def record(self) -> Path:
        """Where the supervisor writes what it knows about its processes (JSON)."""
        return Path(self.folder) / _RECORD

    def write_record(self, processes: Mapping[str, Any]) -> None:
        """Tell the other processes what the supervisor knows, complete or not at all.

        Raises
        ------
        OSError
            When it cannot be written.
        """
        aside = self.record.with_name(_RECORD_ASIDE)
        text = json.dumps({"written_s": time.monotonic(), "processes": processes})
        try:
            aside.write_text(text, encoding="utf-8")
        except FileNotFoundError:
            os.mkdir(self.folder, mode=0o700)
            aside.write_text(text, encoding="utf-8")
        os.replace(aside, self.record)

    def processes(self) -> dict[str, Any]:
        """The supervisor's record: ``{name: {state, pid, restarts, problem}}``; empty when there is none."""
        return cast(dict[str, Any], self._read_record().get("processes", {}))

    def trouble(self) -> str | None:
        """What keeps the processes from each other: socket files that are gone, a record that grows old; or None."""
        with_files = [self.commands, self.stop, self.live] if self.commands.startswith("ipc://") else []
        paths = [Path(endpoint.removeprefix("ipc://")) for endpoint in with_files]
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            return f"The engine's socket files are not in {self.folder}: {', '.join(missing)}."
        written_s = self._read_record().get("written_s")
        # The clock is that of the machine's start, the same for all processes.
        age_s = None if written_s is None else time.monotonic() - written_s
        if age_s is not None and age_s > _RECORD_LIMIT_S:
            return f"The supervisor has not written its record ({self.record}) for {age_s:.0f} s."
        return None

    def _read_record(self) -> dict[str, Any]:
        try:
            return cast(dict[str, Any], json.loads(self.record.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def away(self) -> EngineAway:
        """Why the engine does not answer, as far as the supervisor has recorded it."""
        engine = self.processes().get("engine", {})
        if engine.get("state") == "down":
            return EngineAway(
                f"The engine stays down after {engine.get('failures')} failures in a row: {engine.get('problem')}.",
                "Mend the cause, then restart Bathyscope.",
            )
        if trouble := engine.get("trouble"):
            return EngineAway(trouble, "Mend the cause; the service tries again by itself.")
        if problem := engine.get("problem"):
            return EngineAway(f"The engine is being restarted: {problem}.")
        if engine.get("state") == "running" and (trouble := self.trouble()):
            return EngineAway(trouble, "They are made again within a second, where the folder can be written.")
        return EngineAway("The engine does not answer (yet).")

    def bind(self, door: zmq.Socket[bytes], endpoint: str) -> None:
        """Open `door` as the engine's side."""
        if self.secret_key is not None:
            door.curve_server = True
            door.curve_publickey, door.curve_secretkey = self.public_key, self.secret_key
        door.bind(endpoint)

    def restore(self, door: zmq.Socket[bytes], endpoint: str) -> None:
        """Make the socket file of an open `door` again when somebody has removed it.

        Clients that are connected stay so in either case. The listener whose file is gone stays open without use:
        closing it would remove the new file, some time later.
        """
        path = endpoint.removeprefix("ipc://")
        if path == endpoint or os.path.exists(path):
            return
        with suppress(OSError, zmq.ZMQError):  # without its folder there is nothing to do but to look again
            with suppress(FileExistsError):
                os.mkdir(self.folder, mode=0o700)
            door.bind(endpoint)

    def connect(self, door: Any, endpoint: str) -> None:
        """Open `door` as a client's side."""
        if self.secret_key is not None:
            door.curve_serverkey = door.curve_publickey = self.public_key
            door.curve_secretkey = self.secret_key
        door.connect(endpoint)


def _takes_sockets(folder: str) -> bool:
    """Whether socket files can be made in `folder`: its path is short enough, and its file system has them."""
    try:
        folder.encode("utf-8")  # as ZeroMQ writes it
    except UnicodeEncodeError:
        return False
    if len(os.fsencode(folder)) > _LONGEST_PATH:
        return False
    path = f"{folder}/{_SOCKETS[0]}"
    with socket.socket(socket.AF_UNIX) as trial:
        try:
            trial.bind(path)
            os.unlink(path)
        except OSError:
            return False
    return True


def _is_ours(entry: os.DirEntry[str]) -> bool:
    """Whether `create` or the supervisor has made this entry of a folder."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if entry.name in _SOCKETS:
        return stat.S_ISSOCK(mode)
    return entry.name in (_RECORD, _RECORD_ASIDE) and stat.S_ISREG(mode)


def _free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()


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
            packed = _packed(reply)
        except EngineRefusal as refusal:
            packed = _refused(reply["id"], refusal.kind, refusal.problem, refusal.remedy)
        except Exception as error:  # noqa: BLE001  whatever fails, the client gets an answer
            _log.exception("command_failed")
            problem = f"The engine failed at this request ({type(error).__name__}: {error})."
            packed = _refused(reply["id"], "internal", problem, "See the log of the service.")
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


def _refused(request: Any, kind: str, problem: str, remedy: str) -> bytes:
    error = {"kind": kind, "problem": problem, "remedy": remedy}
    return _packed({"id": request, "error": error})


def _packed(values: Mapping[str, Any]) -> bytes:
    """MessagePack. A letter that has no place in UTF-8 (undecoded bytes of a file name) is written as its number."""
    return cast(bytes, msgpack.packb(values, unicode_errors="backslashreplace"))


class LivePublisher:
    """The engine's side of `live`. May be used from several threads.

    What is not fetched in time is dropped for that listener; the engine never waits.
    """

    def __init__(self, address: LinkAddress) -> None:
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._door = self._context.socket(zmq.PUB)
        self._door.linger = 0
        self._door.sndhwm = _FEED_WATER_MARK
        address.bind(self._door, address.live)
        self._address, self._looked_s = address, time.monotonic()
        self._lock = threading.Lock()

    def send(self, topic: Topic, message: bytes) -> None:
        """Publish one message."""
        # Topic and message are one ZeroMQ frame, because a listener that keeps only the newest cannot hold several.
        with self._lock:
            if time.monotonic() - self._looked_s > _RESTORE_S:
                self._looked_s = time.monotonic()
                self._address.restore(self._door, self._address.live)
            self._door.send(topic.encode() + b"\0" + message)

    def send_values(self, topic: Topic, values: Mapping[str, Any]) -> None:
        """Publish MessagePack values."""
        self.send(topic, _packed(values))

    def close(self) -> None:
        """Stop publishing."""
        with self._lock:
            self._door.close()
            self._context.destroy(linger=0)


def _listen(context: Any, address: LinkAddress, topic: str) -> Any:
    door = context.socket(zmq.SUB)
    door.linger = 0
    if topic in _VIEWS:
        door.setsockopt(zmq.CONFLATE, 1)
    else:
        door.rcvhwm = _FEED_WATER_MARK
    address.connect(door, address.live)
    door.subscribe(topic.encode() + b"\0")
    return door


def _outcome(reply: dict[str, Any]) -> Any:
    if error := reply.get("error"):
        raise EngineRefusal(error["kind"], error["problem"], error["remedy"])
    return reply["result"]


class EngineClient:
    """The engine as seen from an asyncio program, which is the API. Use it from one event loop.

    Parameters
    ----------
    address : LinkAddress
        Where the engine's doors are.
    timeout_s : float
        Longest wait for an answer, unless a request states its own.
    """

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context = zmq.asyncio.Context()
        self._doors: dict[str, zmq.asyncio.Socket] = {}
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = itertools.count(1)
        self._readers: list[asyncio.Task[None]] = []

    async def request(
        self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None
    ) -> Any:
        """Ask the engine to do something and return its result.

        Raises
        ------
        EngineAway
            When no answer comes in time.
        EngineRefusal
            When the engine says no.
        """
        door = self._door(self.address.stop if command == "microscope.stop" else self.address.commands)
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            request = msgpack.packb({"id": number, "command": command, "arguments": dict(arguments or {})})
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                await door.send(request)
                return _outcome(await answer)
        except TimeoutError:
            raise self.address.away() from None
        finally:
            del self._waiting[number]

    async def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], await self.request("status"))

    async def subscribe(self, topic: Topic) -> AsyncIterator[bytes]:
        """Messages of one topic as they come; of a view always the newest.

        Each call opens a socket: listen once in a process and share what comes.
        ``tracks`` and ``preview`` are encoded BTHY messages; ``feed`` and
        ``status`` are MessagePack.
        """
        door = _listen(self._context, self.address, topic)
        try:
            while True:
                message = await door.recv()
                yield message[len(topic) + 1 :]
        finally:
            door.close()

    async def subscribe_values(self, topic: Literal["feed", "status"]) -> AsyncIterator[dict[str, Any]]:
        """Like `subscribe`, unpacked."""
        async for message in self.subscribe(topic):
            yield msgpack.unpackb(message)

    def processes(self) -> dict[str, Any]:
        """The supervisor's record of its processes: ``{name: {state, pid, restarts, problem}}``."""
        return self.address.processes()

    async def close(self) -> None:
        """Give up all waiting requests and shut the doors."""
        for reader in self._readers:
            reader.cancel()
        await asyncio.gather(*self._readers, return_exceptions=True)
        self._context.destroy(linger=0)

    def _door(self, endpoint: str) -> zmq.asyncio.Socket:
        if endpoint not in self._doors:
            door = self._context.socket(zmq.DEALER)
            door.linger = 0
            # A request to an engine that is away is not kept for the next one, which would surprise its user.
            door.immediate = True
            self.address.connect(door, endpoint)
            self._doors[endpoint] = door
            self._readers.append(asyncio.create_task(self._read(door, endpoint)))
        return self._doors[endpoint]

    async def _read(self, door: zmq.asyncio.Socket, endpoint: str) -> None:
        """Hand replies to those who wait, until a reply cannot be read; the next request opens the door anew."""
        try:
            while True:
                reply = msgpack.unpackb(await door.recv())
                answer = self._waiting.get(reply["id"])
                if answer is not None and not answer.done():
                    answer.set_result(reply)
        except Exception:  # noqa: BLE001  nobody awaits this task; without it every request would wait in vain
            _log.exception("reader_failed", endpoint=endpoint)
            if self._doors.get(endpoint) is door:
                del self._doors[endpoint]
            door.close()


class SyncEngineClient(AbstractContextManager["SyncEngineClient"]):
    """The engine as seen from ordinary code: the supervisor and the commands. Use it from one thread."""

    def __init__(self, address: LinkAddress, timeout_s: float = 5.0) -> None:
        self.address = address
        self._timeout_s = timeout_s
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()

    def request(self, command: str, arguments: Mapping[str, Any] | None = None, timeout_s: float | None = None) -> Any:
        """Ask the engine to do something and return its result.

        Raises
        ------
        EngineAway
            When no answer comes in time.
        EngineRefusal
            When the engine says no.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        deadline = time.monotonic() + limit_s
        door = self._context.socket(zmq.DEALER)
        try:
            door.linger = 0
            door.immediate = True
            door.sndtimeo = int(limit_s * 1000)
            self.address.connect(door, self.address.stop if command == "microscope.stop" else self.address.commands)
            door.send(msgpack.packb({"id": 0, "command": command, "arguments": dict(arguments or {})}))
            if not door.poll(int(max(deadline - time.monotonic(), 0) * 1000)):
                raise self.address.away()
            return _outcome(msgpack.unpackb(door.recv()))
        except zmq.Again:
            raise self.address.away() from None
        finally:
            door.close()

    def status(self) -> dict[str, Any]:
        """The engine's status now."""
        return cast(dict[str, Any], self.request("status"))

    def close(self) -> None:
        """Shut the doors."""
        self._context.destroy(linger=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

"""Addresses of the sockets between the engine and the other processes.

ZeroMQ sockets carry MessagePack, never pickle. The engine has three sockets:
`commands` takes one request and sends one reply at a time; `stop` has its own
thread, so that halting the microscope never waits behind other work; `live`
publishes to all listeners and never waits for one. Of a view (tracks, preview,
status) a listener holds exactly one message, the newest.

The sockets are files in a private folder within the data directory, because
files in a temporary folder are deleted there after some days. The temporary
folder is used only when the path of the data directory is too long for socket
files, or its disk does not support them. A socket file that was removed is
made again. Where the platform has no socket files (Windows) the sockets are
loopback TCP with CURVE keys, because any program of the machine could reach an
open port.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import sys
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq

from service.protocol.errors import EngineAway
from service.protocol.process_record import RECORD_ASIDE, RECORD_FILE, ProcessRecord

__all__ = ["LinkAddress"]

_LONGEST_PATH = 90
"""Bytes of a folder whose socket files still fit the 104 to 108 bytes that Unix systems allow."""

_FOLDER_PREFIX = ".sockets-"
_FOLDER_NAME = re.compile(re.escape(_FOLDER_PREFIX) + "[a-z0-9_]{8}")
"""What `tempfile.mkdtemp` makes of the prefix."""

_SOCKETS = ("commands", "stop", "live")


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """Where the engine's sockets are; the same through all its restarts.

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
            Folder for the new folder. The temporary folder is used when it is None or cannot hold socket files.
        tcp : bool
            Use loopback TCP also on platforms with socket files.

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
        """Remove a folder that `create` made, and return whether it is gone.

        A folder is kept when its name is another one, it belongs to another user, it is a link, or it holds anything
        that Bathyscope does not put there.
        """
        if not _FOLDER_NAME.fullmatch(Path(folder).name):
            return False
        try:
            found = os.lstat(folder)
            if not stat.S_ISDIR(found.st_mode) or (sys.platform != "win32" and found.st_uid != os.getuid()):
                return False
            entries = list(os.scandir(folder))
            if not all(_is_own(entry) for entry in entries):
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
    def record(self) -> ProcessRecord:
        """What the supervisor has written about its processes."""
        return ProcessRecord(Path(self.folder) / RECORD_FILE)

    def trouble(self) -> str | None:
        """What separates the processes: missing socket files, or a record that is too old; None when all is well."""
        with_files = [self.commands, self.stop, self.live] if self.commands.startswith("ipc://") else []
        paths = [Path(endpoint.removeprefix("ipc://")) for endpoint in with_files]
        missing = [path.name for path in paths if not path.exists()]
        if missing:
            return f"The engine's socket files are not in {self.folder}: {', '.join(missing)}."
        return self.record.trouble()

    def away(self) -> EngineAway:
        """The error of a request without a reply, with the reason that the supervisor has recorded."""
        engine = self.record.processes().get("engine", {})
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
        return EngineAway("The engine does not respond (yet).")

    def bind(self, zmq_socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Open `zmq_socket` at `endpoint` on the engine's side."""
        if self.secret_key is not None:
            zmq_socket.curve_server = True
            zmq_socket.curve_publickey, zmq_socket.curve_secretkey = self.public_key, self.secret_key
        zmq_socket.bind(endpoint)

    def restore(self, zmq_socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Make the socket file of an open `zmq_socket` again if it was removed.

        Connected clients stay connected in both cases. The old listener, whose file is gone, stays open without use:
        closing it would remove the new file some time later.
        """
        path = endpoint.removeprefix("ipc://")
        if path == endpoint or os.path.exists(path):
            return
        with suppress(OSError, zmq.ZMQError):  # without its folder it can only be tried again later
            with suppress(FileExistsError):
                os.mkdir(self.folder, mode=0o700)
            zmq_socket.bind(endpoint)

    def connect(self, zmq_socket: Any, endpoint: str) -> None:
        """Open `zmq_socket` (blocking or asyncio) to `endpoint` on a client's side."""
        if self.secret_key is not None:
            zmq_socket.curve_serverkey = zmq_socket.curve_publickey = self.public_key
            zmq_socket.curve_secretkey = self.secret_key
        zmq_socket.connect(endpoint)


def _takes_sockets(folder: str) -> bool:
    """Whether socket files can be made in `folder`: its path is short enough, its file system supports them."""
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


def _is_own(entry: os.DirEntry[str]) -> bool:
    """Whether `LinkAddress` or the supervisor has made this entry of a folder."""
    mode = entry.stat(follow_symlinks=False).st_mode
    if entry.name in _SOCKETS:
        return stat.S_ISSOCK(mode)
    return entry.name in (RECORD_FILE, RECORD_ASIDE) and stat.S_ISREG(mode)


def _free_ports(count: int) -> list[int]:
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]
    finally:
        for holder in holders:
            holder.close()

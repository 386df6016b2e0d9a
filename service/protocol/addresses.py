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

import json
import os
import re
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import zmq

from service.protocol.errors import EngineAway

__all__ = ["LinkAddress"]

_LONGEST_PATH = 90
"""Bytes of a folder whose socket files still fit the 104 to 108 bytes that Unix systems allow."""

_FOLDER_PREFIX = ".sockets-"
_FOLDER_NAME = re.compile(re.escape(_FOLDER_PREFIX) + "[a-z0-9_]{8}")
"""What `tempfile.mkdtemp` makes of the prefix."""

_SOCKETS = ("commands", "stop", "live")
_RECORD = "processes.json"
_RECORD_ASIDE = "processes.new"

_RECORD_LIMIT_S = 15.0
"""The supervisor writes its record every second; after this time it cannot, or it hangs."""


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

"""The computer: disk, processor, GPU, ports and clocks."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil

from models.errors import DataError
from service.doctor.findings import Finding, error, ok, warning
from service.doctor.microscope import Seen
from service.settings import Settings

__all__ = ["check_clock", "check_disk", "check_gpu", "check_port"]

_TRIAL_BYTES = 128 * 2**20
_BLOCK_BYTES = 2**20
_SLOW_BYTES_PER_S = 50e6
"""A hard disk writes 100 MB/s; a slower one holds up the database too."""

_HEADROOM = 1.5
"""A disk must be so much faster than the camera, because it also serves the database and its speed varies."""

_NETWORK = {"nfs", "nfs4", "cifs", "smb", "smbfs", "smb3", "fuse.sshfs", "9p", "afpfs"}
_COARSEST_S = 0.001
_FIRST_YEAR = 2026
_TOOL_S = 5.0


def check_disk(settings: Settings, seen: Seen | None) -> Iterator[Finding]:
    """Space, kind and speed of the disk of the data directory."""
    folder = _existing(settings.data_dir)
    usage = shutil.disk_usage(folder)
    free_gb, floor_gb = usage.free / 1e9, settings.engine.free_space_floor_gb
    kind = _file_system(folder)
    if kind in _NETWORK:
        yield warning(
            "disk",
            f"{settings.data_dir} is on a network drive ({kind}), on which a database may be damaged.",
            "Set data_dir to a folder on a local disk.",
        )
    if free_gb < floor_gb:
        yield error(
            "disk",
            f"{free_gb:.1f} GB are free in {settings.data_dir}, and a recording leaves {floor_gb:g} GB.",
            "Free some space, delete runs (bathyscope retention), or choose another data_dir.",
            free_gb=free_gb,
        )
    if usage.free < 2 * _TRIAL_BYTES:
        return  # the trial would fill it
    speed = _write_speed(folder)
    needed = _rate(seen)
    about = {"free_gb": round(free_gb, 1), "write_mb_per_s": round(speed / 1e6), "file_system": kind}
    if needed is not None and speed < _HEADROOM * needed:
        yield warning(
            "disk",
            f"{settings.data_dir} writes {speed / 1e6:.0f} MB/s, and the camera gives {needed / 1e6:.0f} MB/s before "
            "compression: recordings may lose frames.",
            "Use a faster local disk, a smaller ROI, or a lower frame rate.",
            **about,
        )
    elif speed < _SLOW_BYTES_PER_S:
        yield warning(
            "disk", f"{settings.data_dir} writes only {speed / 1e6:.0f} MB/s.", "Use a faster local disk.", **about
        )
    else:
        hours = "" if not needed else f", room for {usage.free / needed / 3600:.1f} h of frames without compression"
        yield ok("disk", f"{free_gb:.0f} GB are free, and it writes {speed / 1e6:.0f} MB/s{hours}.", **about)


def check_gpu(settings: Settings) -> Iterator[Finding]:
    """Whether PyTorch sees the GPU of this computer."""
    import torch

    wanted = settings.engine.device
    if torch.cuda.is_available():
        yield ok("gpu", f"PyTorch {torch.__version__} uses {torch.cuda.get_device_name(0)}.")
        return
    name = _nvidia()
    if name is not None:
        make = error if wanted == "cuda" else warning
        yield make(
            "gpu",
            f"This computer has {name}, and PyTorch {torch.__version__} does not see it.",
            "Install a CUDA build of PyTorch (https://pytorch.org/get-started/locally/), or update the GPU's driver.",
        )
    elif wanted == "cuda":
        yield error("gpu", "engine.device is cuda, and there is no NVIDIA GPU.", "Set engine.device to auto or cpu.")
    else:
        yield ok("gpu", "There is no NVIDIA GPU; the network runs on the processor.")


def check_port(settings: Settings, *, served: bool) -> Iterator[Finding]:
    """Whether the service can listen; `served` says that a service of this data directory runs."""
    where = f"{settings.host}:{settings.port}"
    if settings.port == 0:
        yield ok("port", "The service takes any free port.")
        return
    if served:
        yield ok("port", f"A service of this data directory runs; it listens at {where} unless it was told otherwise.")
        return
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((settings.host, settings.port))
    except OSError as fault:
        yield error(
            "port",
            f"{where} cannot be used ({fault.strerror}).",
            "Stop the program that listens there, or choose another port.",
        )
    else:
        yield ok("port", f"{where} is free.")


def check_clock(newest_s: float | None) -> Iterator[Finding]:
    """The wall clock and the clock of frames; `newest_s` is the newest date in the database, Unix seconds."""
    now_s, resolution_s = time.time(), time.get_clock_info("monotonic").resolution
    if resolution_s > _COARSEST_S:
        yield warning(
            "clock",
            f"The clock of frames counts in steps of {1e3 * resolution_s:g} ms.",
            "Times of frames are no better than that; on Windows, update Python.",
        )
    if datetime.fromtimestamp(now_s, UTC).year < _FIRST_YEAR:
        yield error("clock", f"The date is {_date(now_s)}.", "Set the clock of this computer.")
    elif newest_s is not None and newest_s > now_s + _TOOL_S:
        yield warning(
            "clock",
            f"The clock says {_date(now_s)}, and the database has an event of {_date(newest_s)}.",
            "Set the clock of this computer; ids of runs sort by it.",
        )
    elif _synchronized() is False:
        yield warning(
            "clock",
            "The clock of this computer is not synchronized.",
            "Switch on time synchronization (timedatectl set-ntp true), if runs are compared with other computers.",
        )
    else:
        yield ok("clock", f"The clock says {_date(now_s)}; times of frames have {1e9 * resolution_s:g} ns.")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _file_system(folder: Path) -> str:
    """The kind of file system of a folder; empty when the system does not tell."""
    mounts = sorted(psutil.disk_partitions(all=True), key=lambda mount: len(mount.mountpoint), reverse=True)
    here = folder.resolve()
    return next((mount.fstype.lower() for mount in mounts if here.is_relative_to(mount.mountpoint)), "")


def _write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk.

    Raises
    ------
    DataError
        When the folder cannot be written.
    """
    block = os.urandom(_BLOCK_BYTES)
    try:
        with tempfile.TemporaryFile(dir=folder, buffering=0) as trial:
            begin_s = time.monotonic()
            for _ in range(_TRIAL_BYTES // _BLOCK_BYTES):
                trial.write(block)
            os.fsync(trial.fileno())
            return _TRIAL_BYTES / (time.monotonic() - begin_s)
    except OSError as fault:
        raise DataError(
            f"{folder} cannot be written ({fault.strerror}).", "Correct its permissions, or choose another data_dir."
        ) from fault


def _rate(seen: Seen | None) -> float | None:
    """Bytes a second of the camera, with 2 bytes a pixel."""
    if seen is None or seen.fps is None:
        return None
    rows, columns = seen.description.frame_shape(seen.camera)
    return 2.0 * rows * columns * seen.fps


def _nvidia() -> str | None:
    """Name of the first NVIDIA GPU by its driver; None when there is none."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    asked = _output([tool, "--query-gpu=name", "--format=csv,noheader"])
    return asked.splitlines()[0] if asked else None


def _synchronized() -> bool | None:
    tool = shutil.which("timedatectl")
    said = None if tool is None else _output([tool, "show", "--property=NTPSynchronized", "--value"])
    return {"yes": True, "no": False}.get(said or "")


def _output(command: list[str]) -> str | None:
    """What a tool of the system prints; None when it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TOOL_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _date(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")

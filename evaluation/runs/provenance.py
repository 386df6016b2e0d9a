"""Provenance of a result file: command, code, date, machine, versions and seeds.

Every result of `bench` and `reproduce` carries it as the object
``provenance``, so that a figure can be traced to the code and the machine that
gave it. The commit is known only in a checkout of the project: an installed
package has its version alone.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from service.files.outputs import write_json
from service.process.machine import machine

__all__ = ["Machine", "Provenance", "command_line", "current_provenance", "write_result"]

_PROJECT = Path(__file__).parents[2]
"""Folder of the packages; in a checkout its root."""

_GIT_LIMIT_S = 20.0


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine that a figure was measured on.

    Attributes
    ----------
    processor : str
        Name of the processor.
    cores : int
        Logical processors that this process may use.
    amx : bool or None
        Whether the processor has AMX tiles; None where the system does not list its instructions.
    memory_gb : float
        Main memory, 10⁹ bytes.
    system : str
        Operating system and its version.
    """

    processor: str
    cores: int
    amx: bool | None
    memory_gb: float
    system: str


@dataclass(frozen=True, slots=True)
class Provenance:
    """Origin of a result.

    Attributes
    ----------
    command : str
        Command line.
    version : str or None
        Version of Bathyscope; None when it is not installed.
    commit : str or None
        Commit of the checkout that the code belongs to.
    dirty : bool or None
        Whether tracked files of the checkout differ from the commit.
    date : str
        UTC, ISO 8601, to the second.
    machine : Machine
    packages : dict
        Versions of Python and of the packages that compute.
    seeds : dict
        Seeds by what they are of.
    """

    command: str
    version: str | None
    commit: str | None
    dirty: bool | None
    date: str
    machine: Machine
    packages: dict[str, str]
    seeds: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def command_line() -> str:
    """Command line of this process, as it can be given to a shell."""
    return shlex.join(["bathyscope", *sys.argv[1:]])


def current_provenance(seeds: Mapping[str, int] | None = None, command: str | None = None) -> Provenance:
    """Provenance of a result that this process has now.

    Parameters
    ----------
    seeds : mapping of str to int, optional
        Seeds by what they are of.
    command : str, optional
        Absent: the command line of the process.
    """
    known = machine()
    commit = _git("rev-parse", "HEAD") if _is_checkout() else None
    changes = None if commit is None else _git("status", "--porcelain", "--untracked-files=no")
    return Provenance(
        command=command or command_line(),
        version=_own_version(),
        commit=commit,
        dirty=None if changes is None else bool(changes),
        date=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        machine=Machine(known["processor"], known["processors"], _has_amx(), known["memory_gb"], known["system"]),
        packages={name: known[name] for name in ("python", "torch", "numpy")},
        seeds=dict(seeds or {}),
    )


def write_result(path: Path, figures: Mapping[str, Any], seeds: Mapping[str, int] | None = None) -> None:
    """Write figures as JSON, with their provenance.

    Raises
    ------
    DataError
        When `path` cannot be written.
    """
    write_json(path, {**figures, "provenance": current_provenance(seeds).as_dict()})


def _own_version() -> str | None:
    try:
        return version("bathyscope")
    except PackageNotFoundError:
        return None


def _is_checkout() -> bool:
    """Whether the code lies at the root of a checkout; a repository around an installed package is another one."""
    top = _git("rev-parse", "--show-toplevel")
    return top is not None and Path(top).resolve() == _PROJECT.resolve()


def _git(*arguments: str) -> str | None:
    """Output of a git command in the folder of the packages; None when it fails or git is not installed."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, "-C", str(_PROJECT), *arguments], capture_output=True, text=True, timeout=_GIT_LIMIT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _has_amx() -> bool | None:
    if sys.platform != "linux":
        return None
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    return "amx_tile" in flags if "flags" in flags else None

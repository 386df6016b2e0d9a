"""State of an interrupted `reproduce` beside its results, for `--resume`.

The folder `<out>.unfinished` holds the identity of the run and, of the current
experiment, its localizations, its own files and the time spent. It is deleted
when the run is complete.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from evaluation.runs.identity import Identity, differences
from models.errors import DataError
from service.files.outputs import check_destination, write_json

__all__ = ["Unfinished", "check_same_run"]

_IDENTITY, _SPENT, _WORKSHOP = "identity.json", "spent.json", "workshop"


class Unfinished:
    """The unfinished part of a run.

    Parameters
    ----------
    out : Path
        Folder of the results.
    """

    def __init__(self, out: Path) -> None:
        self.folder = out.with_name(f"{out.name}.unfinished")
        self.workshop = self.folder / _WORKSHOP

    def begin(self, identity: Identity, command: str, *, resume: bool) -> None:
        """Open the folder for a run: empty, or with the state of an interrupted run to resume.

        Raises
        ------
        DataError
            When the folder has other contents, or the run to resume differs.
        """
        check_destination(self.folder, lambda folder: (folder / _IDENTITY).is_file())
        if resume and self.folder.exists():
            earlier = self._read(_IDENTITY)
            check_same_run(self.folder, earlier["identity"], identity, earlier["command"])
            return
        self.end()
        write_json(self.folder / _IDENTITY, {"identity": identity, "command": command})

    def spent(self, experiment: str) -> dict[str, float]:
        """Processor and wall time in seconds that earlier parts of the run gave to an experiment."""
        known = self._read(_SPENT) if (self.folder / _SPENT).is_file() else {}
        own: dict[str, float] = known.get(experiment, {"processor_seconds": 0.0, "seconds": 0.0})
        return own

    def record_spent(self, experiment: str, spent: dict[str, float]) -> None:
        """Write the time that `spent` returns."""
        write_json(self.folder / _SPENT, {experiment: spent})

    def experiment_done(self) -> None:
        """Delete files of an experiment whose tables are written."""
        shutil.rmtree(self.workshop, ignore_errors=True)

    def end(self) -> None:
        """The run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _read(self, name: str) -> dict[str, Any]:
        path = self.folder / name
        try:
            values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if name == _IDENTITY and not {"identity", "command"} <= set(values):
                raise ValueError("identity or command is missing")
        except (OSError, ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged ({error}).", "Leave --resume out to start a new run.") from error
        return values


def check_same_run(folder: Path, before: Identity, now: Identity, command: str) -> None:
    """Refuse to resume a different run.

    Raises
    ------
    DataError
        When anything that figures depend on has changed.
    """
    different = differences(before, now)
    if different:
        raise DataError(
            f"{folder} is of another run: {'; '.join(different)}. Only the same run can be resumed.",
            f"Resume with the same command ({command}), choose another --out, or leave --resume out to start anew.",
        )

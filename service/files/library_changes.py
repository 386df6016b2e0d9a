"""Names and deletion of calibrations and models: refused while something needs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.errors import DataError
from service.files.descriptions import FolderUnreadable, read_description
from service.files.jobs import Jobs
from service.files.library import CalibrationItem, Library, ModelItem
from service.files.outputs import write_json
from service.store.errors import InUse
from service.store.store import Store

__all__ = ["LibraryChanges"]

_ABOUT = "about.json"
_DELETED = ".deleted-"


class LibraryChanges:
    """Changes of the calibrations and models in one data directory.

    Parameters
    ----------
    library : Library
    store : Store
        Its runs need models as long as frames of theirs are to be analysed.
    jobs : Jobs
    active : callable
        Returns the ids of the models that the engine has in use; empty while it is away.
    """

    def __init__(self, library: Library, store: Store, jobs: Jobs, active: Callable[[], set[str]]) -> None:
        self._library = library
        self._store = store
        self._jobs = jobs
        self._active = active

    def rename_calibration(self, calibration_id: str, name: str) -> CalibrationItem:
        """Give a calibration a name for people.

        Raises
        ------
        UnknownItem
            When there is no such calibration.
        DataError
            When the name cannot be written.
        """
        _rename(self._library.calibrations.folder(calibration_id), name)
        return self._library.calibrations.item(calibration_id)

    def rename_model(self, model_id: str, name: str) -> ModelItem:
        """Give a model of the library a name for people.

        Raises
        ------
        UnknownItem
            When there is no such model.
        InUse
            When the model is shipped, or that of the settings.
        DataError
            When the name cannot be written.
        """
        self._check_own(model_id, "renamed")
        _rename(self._library.models.folder(model_id), name)
        return self._library.models.item(model_id)

    def delete_calibration(self, calibration_id: str) -> None:
        """Delete a calibration.

        Raises
        ------
        UnknownItem
            When there is no such calibration.
        InUse
            While a model or a job needs it.
        DataError
            When the folder cannot be removed.
        """
        folder = self._library.calibrations.folder(calibration_id)
        needed = [model.id for model in self._library.models.items() if model.calibration_id == calibration_id]
        if needed:
            raise InUse(
                f"The calibration {calibration_id} is needed by the model {needed[0]}"
                f"{f' and {len(needed) - 1} more' if len(needed) > 1 else ''}.",
                "Delete these models first.",
            )
        self._check_jobs("calibration", calibration_id)
        _delete(folder)

    def delete_model(self, model_id: str) -> None:
        """Delete a model of the library.

        Raises
        ------
        UnknownItem
            When there is no such model.
        InUse
            When the model is shipped, or that of the settings, or active; while a job or a run needs it.
        DataError
            When the folder cannot be removed.
        """
        folder = self._library.models.folder(model_id)
        self._check_own(model_id, "deleted")
        if model_id in self._active() | self._library.active_ids():
            raise InUse(f"The model {model_id} is in use.", "Make another model the active one first.")
        self._check_jobs("model", model_id)
        for run_id in self._store.catch_ups.waiting():
            if self._store.runs.get(run_id).model_id == model_id:
                raise InUse(
                    f"Frames of run {run_id} are still to be analysed with the model {model_id}.",
                    "Wait for the event run_smoothed or run_caught_up of this run.",
                )
        _delete(folder)

    def _check_own(self, model_id: str, what: str) -> None:
        source = self._library.models.item(model_id).source
        if source != "library":
            whose = "is shipped with Bathyscope" if source == "shipped" else "is that of the settings"
            raise InUse(
                f"The model {model_id} {whose}, so it cannot be {what} here.", "Only models of the library can."
            )

    def _check_jobs(self, name: str, item_id: str) -> None:
        for job in self._jobs.open_jobs():
            if job.request.get(name) == item_id:
                raise InUse(f"Job {job.id} ({job.kind}) uses {item_id}.", "Wait for its end, or cancel it.")


def _rename(folder: Path, name: str) -> None:
    try:
        about: dict[str, Any] = dict(read_description(folder / _ABOUT))
    except (FileNotFoundError, FolderUnreadable):
        about = {}
    write_json(folder / _ABOUT, about | {"name": name})


def _delete(folder: Path) -> None:
    """Take the folder out of the library in one step, then remove its files; those of an earlier deletion too."""
    aside = folder.with_name(f"{_DELETED}{folder.name}")
    try:
        os.replace(folder, aside)
    except OSError as error:
        raise DataError(
            f"The folder {folder.name} cannot be removed ({error.strerror}).", "Check its permissions, and try again."
        ) from error
    for left in folder.parent.glob(f"{_DELETED}*"):
        shutil.rmtree(left, ignore_errors=True)

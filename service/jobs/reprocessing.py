"""Tracks of a recorded run computed again from its frames, as its next revision."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from service.files.library import Library
from service.reprocess.dask_workforce import scheduler_at
from service.reprocess.results import store_revision
from service.reprocess.sources import Source, run_source
from service.reprocess.work import Assignment, work_through
from service.reprocess.work_folder import WorkFolder
from service.reprocess.workforce import InThisProcess, Workforce
from service.store.store import Store

__all__ = ["reprocess", "work_place"]

_PATIENCE_S = 600.0
"""How long the scheduler of a job may be away, s."""


def work_place(data_dir: Path, source: Source) -> WorkFolder:
    """The work folder of a run in a data directory: that of an earlier start with the same settings is used again."""
    return WorkFolder(data_dir / "reprocess" / f"{source.recipe.run}-{source.recipe.digest[:12]}")


def reprocess(
    store: Store,
    library: Library,
    data_dir: Path,
    request: dict[str, Any],
    report: Callable[[int, int], None],
    *,
    scheduler: str | None = None,
    note: Callable[[str], None] = lambda _text: None,
) -> dict[str, Any]:
    """Compute the tracks of a run from its recorded frames: each image is fitted fully, and all are smoothed.

    Work that an earlier call with the same settings has done is used.

    Parameters
    ----------
    store : Store
    library : Library
    data_dir : Path
        The paths of recordings are relative to it.
    request : dict
        ``run``; ``model``, None for that of the run; ``tracking``, a `TrackingRequest`, over the run's settings.
    report : callable
        Receives how many frames are localized and linked, and twice the number of all.
    scheduler : str, optional
        Address of a Dask scheduler whose workers compute; by default this process computes.
    note : callable
        Receives remarks for people.

    Returns
    -------
    dict
        ``run``, its new ``revision``, and the number of ``frames``.

    Raises
    ------
    InUse, DataError, UnknownItem
        As `run_source` and `store_revision`, and when the scheduler does not answer or a worker failed.
    """
    source = run_source(store, library, data_dir, request)
    recipe, folder = source.recipe, work_place(data_dir, source)
    if folder.begin(recipe, source.recorded, source.live):
        note("The work of an earlier start is continued.")
    revisions: list[int] = []
    here: AbstractContextManager[Workforce] = (
        nullcontext(InThisProcess()) if scheduler is None else scheduler_at(scheduler, _PATIENCE_S, note)
    )
    with here as workforce:
        if workforce.dashboard is not None:
            note(f"Dask's page of the work: {workforce.dashboard}")
        assignment = Assignment(folder, recipe, lambda: revisions.append(store_revision(store, folder, recipe)))
        errors = work_through([assignment], workforce, report)
    for error in errors.values():
        raise error
    return {"run": recipe.run, "revision": revisions[0], "frames": recipe.frames}

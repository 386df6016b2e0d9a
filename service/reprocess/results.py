"""Where the tables of a reprocessing go: into the next revision of the run, or into a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from models.errors import DataError
from models.tables import TrackEvents, Tracks
from service.files.outputs import complete_output
from service.jobs.reprocess_request import check_reprocessing
from service.reprocess.columns import stream_rows
from service.reprocess.recipe import Recipe
from service.reprocess.work_folder import WorkFolder, is_finished
from service.reprocess.workforce import steps_of
from service.store.errors import InUse
from service.store.store import Store
from service.tracking_settings import TrackingPart

__all__ = ["store_revision", "write_tables"]

_TABLES = ("tracks.parquet", "events.parquet", "localizations.parquet")


def store_revision(store: Store, folder: WorkFolder, recipe: Recipe) -> int:
    """Make the tracks the next revision of their run, remove the folder, and return the revision.

    Raises
    ------
    InUse
        When tracks of the run are being computed or stored by another process.
    UnknownItem
        When the run was deleted meanwhile.
    """
    check_reprocessing(store, store.runs.get(recipe.run), TrackingPart.of_record(recipe.tracking))
    try:
        with FileLock(folder.path.parent / f"{recipe.run}.lock", timeout=0):
            while store.catch_ups.discard_tracks(recipe.run):
                pass
            for events in stream_rows(folder.path / "events.parquet", TrackEvents):
                for _ in store.catch_ups.add_in_steps(recipe.run, Tracks.empty(), events):
                    pass
            for points in stream_rows(folder.path / "tracks.parquet", Tracks):
                for _ in store.catch_ups.add_in_steps(recipe.run, points, TrackEvents.empty()):
                    pass
            made = {"form": "smoothed", "model_ids": [recipe.model_id], "tracking": recipe.tracking}
            revision = store.catch_ups.complete(recipe.run, {**made, "version": recipe.version})
    except Timeout as error:
        raise InUse(
            f"Another process stores tracks of run {recipe.run}.", "Run the same command again when it has ended."
        ) from error
    folder.remove()
    return revision


def write_tables(folder: WorkFolder, recipe: Recipe, out: Path) -> None:
    """Put tables and manifest into the folder `out`, and remove the work folder.

    Raises
    ------
    DataError
        When `out` exists and is no output of a reprocessing, or cannot be written.
    """
    folder.finish([step.name for step in steps_of(folder.path, recipe)])
    with complete_output(out, is_finished) as aside:
        aside.mkdir()
        for name in (*_TABLES, "manifest.json"):
            try:
                shutil.move(folder.path / name, aside / name)
            except OSError as error:
                raise DataError(
                    f"{folder.path / name} cannot be moved to {out} ({error.strerror}).",
                    "Free some space, and run the same command again.",
                ) from error
    folder.remove()

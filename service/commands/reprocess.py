"""`bathyscope reprocess`: compute the tracks of recorded runs again, with many processes or machines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.commands.movie_options import Device, StaticLight

if TYPE_CHECKING:
    from service.reprocess.sources import Source
    from service.reprocess.work import Assignment
    from service.reprocess.workforce import Workforce
    from service.settings import Settings

__all__ = ["run"]

_MOST_WORKERS = 1024
_RECORDING = ".ome.zarr"


def run(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN|RECORDING...",
            help="Ids of recorded runs, or recordings (.ome.zarr): folders, or s3://BUCKET/FOLDER.",
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Folder of a model, or for runs the id of one. Default: that of the run."),
    ] = None,
    fit: Annotated[
        Literal["auto", "off"] | None,
        typer.Option(help="Fit emitters to the images: auto (where the model has a PSF) or off. Default: as the run."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=_MOST_WORKERS,
            help="Processes on this machine; 0: only this one, without Dask. Default: cores.",
        ),
    ] = None,
    scheduler: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Compute on the workers of this Dask scheduler: tcp://HOST:8786."),
    ] = None,
    patience_s: Annotated[
        float, typer.Option(min=1.0, max=86_400.0, help="How long the scheduler may be away, s.")
    ] = 600.0,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder for tables of each run. Default: the next revision of the run's tracks."),
    ] = None,
    static_light: StaticLight = None,
    device: Device = "auto",
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory of the runs.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
) -> None:
    """Compute localizations and tracks of recorded runs again, from the images, as the live analysis does."""
    if workers is not None and scheduler is not None:
        raise typer.BadParameter("the workers of --scheduler compute; leave --workers out", param_hint="--workers")
    paths = [_place(source) for source in sources if source.rstrip("/\\").endswith(_RECORDING)]
    runs = list(dict.fromkeys(source for source in sources if not source.rstrip("/\\").endswith(_RECORDING)))
    if paths and (model is None or out is None):
        missing = "--model" if model is None else "--out"
        raise typer.BadParameter(f"{paths[0]} is a recording by its path, which needs {missing}", param_hint=missing)
    names = [Path(path).name.removesuffix(_RECORDING) for path in paths] + runs
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise typer.BadParameter(f"{twice} is the name of two of them; the tables of one would replace the other's")
    if runs and static_light is not None:
        raise typer.BadParameter("a run has its own; it is for recordings by their paths", param_hint="--static-light")

    from models.errors import DataError
    from service.commands.console import note, progress
    from service.reprocess.work import work_through
    from service.settings import load_settings

    given = {"data_dir": data, "tracking": {"fit": fit}, "analysis": {"static_light": static_light}}
    settings = load_settings(config, given)
    with ExitStack() as stack:
        assignments = _of_recordings(paths, model, settings, device, out) + _of_runs(
            stack, runs, model, fit, settings, device, out
        )
        if not assignments:
            return
        frames = sum(each.recipe.frames for each in assignments)
        note(f"{len(assignments)} recording{'' if len(assignments) == 1 else 's'}, {frames} frames.")
        workforce = stack.enter_context(_workforce(workers, scheduler, patience_s))
        if workforce.dashboard is not None:
            note(f"Dask's page of the work: {workforce.dashboard}")
        advance = stack.enter_context(progress("Reprocessing", 2 * frames, "frames"))
        errors = work_through(assignments, workforce, lambda done, _total: advance(done))
    for name, error in errors.items():
        note(f"{name}: {error}")
    if errors:
        raise DataError(
            f"{len(errors)} of {len(assignments)} recordings failed: {', '.join(errors)}.",
            "Correct what is stated for each, and run the same command again: what is done is kept.",
        )


@contextmanager
def _workforce(workers: int | None, scheduler: str | None, patience_s: float) -> Iterator[Workforce]:
    from service.commands.console import note
    from service.reprocess.dask_workforce import local_cluster, scheduler_at
    from service.reprocess.workforce import InThisProcess

    if scheduler is not None:
        with scheduler_at(scheduler, patience_s, note) as far:
            yield far
    elif workers == 0:
        yield InThisProcess()
    else:
        with local_cluster(workers or os.cpu_count() or 1, note) as near:
            yield near


def _place(recording: str) -> Path | str:
    """The folder of a recording, or its URL."""
    from hardware.remote import place_of_url

    try:
        return place_of_url(recording)
    except ValueError as error:
        raise typer.BadParameter(f"{recording}: {error}", param_hint="RUN|RECORDING") from None


def _of_recordings(
    paths: list[Path | str], model: str | None, settings: Settings, device: str, out: Path | None
) -> list[Assignment]:
    from service.reprocess.sources import recording_source

    found = []
    for path in paths:
        source = recording_source(
            path, Path(str(model)), settings.tracking, settings.analysis.static_light, device=device
        )
        found += _into_tables(source, Path(str(out)))
    return found


def _of_runs(
    stack: ExitStack,
    runs: list[str],
    model: str | None,
    fit: str | None,
    settings: Settings,
    device: str,
    out: Path | None,
) -> list[Assignment]:
    from service.files.library import Library
    from service.reprocess.sources import run_source
    from service.store.store import Store

    if not runs:
        return []
    store = stack.enter_context(closing(Store.open(settings.database)))
    library = Library(settings.data_dir, settings.model)
    place = Path(model) if model is not None and Path(model).is_dir() else None
    request: dict[str, Any] = {
        "model": None if place is not None else model,
        "tracking": None if fit is None else {"fit": fit},
    }
    found = []
    for run_id in runs:
        source = run_source(store, library, settings.data_dir, {"run": run_id} | request, model=place, device=device)
        if out is not None:
            found += _into_tables(source, out)
            continue
        found.append(_into_revision(store, settings, source))
    return found


def _into_tables(source: Source, out: Path) -> list[Assignment]:
    """The work that gives the tables of a run; none when they are there."""
    from service.commands.console import note
    from service.files.outputs import check_destination
    from service.reprocess.results import write_tables
    from service.reprocess.work import Assignment
    from service.reprocess.work_folder import WorkFolder, is_finished

    recipe, place = source.recipe, out / source.recipe.run
    if is_finished(place, recipe.digest):
        note(f"{place}: its tables are of this recording, model and settings already.")
        return []
    check_destination(place, is_finished)
    folder = WorkFolder(out / f"{recipe.run}.work")
    if folder.begin(recipe, source.recorded, source.live):
        note(f"{recipe.run}: the work of an earlier start is continued.")

    def finish() -> None:
        write_tables(folder, recipe, place)
        note(f"{place}: tables of {recipe.frames} frames.")

    return [Assignment(folder, recipe, finish)]


def _into_revision(store: Any, settings: Settings, source: Source) -> Assignment:
    from service.commands.console import note
    from service.jobs.reprocessing import work_place
    from service.reprocess.results import store_revision
    from service.reprocess.work import Assignment

    recipe, folder = source.recipe, work_place(settings.data_dir, source)
    if folder.begin(recipe, source.recorded, source.live):
        note(f"{recipe.run}: the work of an earlier start is continued.")

    def finish() -> None:
        note(f"{recipe.run}: revision {store_revision(store, folder, recipe)}, from {recipe.frames} recorded frames.")

    return Assignment(folder, recipe, finish)

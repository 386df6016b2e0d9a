"""`bathyscope export`: write tracks in the format of another program."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands.checks import plausible
from service.export.formats import FORMATS, ExportFormat, FormatName

if TYPE_CHECKING:
    from service.export.source import TrackSource
    from service.settings import Settings
    from service.store.store import Store

__all__ = ["run"]

_TABLES = (".csv", ".parquet")
_NEWEST_RUNS = 5


def run(
    tracks: Annotated[str, typer.Argument(metavar="RUN|TRACKS", help="Id of a run, or table of tracks.")],
    name: Annotated[FormatName, typer.Option("--format", help="Format of the output.")],
    out: Annotated[Path, typer.Option("--out", help="File to write; geff: folder to write.")],
    revision: Annotated[
        int | None,
        typer.Option(min=1, max=2**31 - 1, help="Of a run: 1 as tracked live. Default: the newest complete one."),
    ] = None,
    pixel_size_um: Annotated[
        float | None,
        typer.Option(callback=plausible("PIXEL_SIZE_UM"), help="Of a table: camera pixel at the sample, µm."),
    ] = None,
    measures: Annotated[
        bool,
        typer.Option("--measures", help="With duration, displacement, speed, straightness and diffusion."),
    ] = False,
    localizations: Annotated[
        Path | None,
        typer.Option(help="Of a table, for --measures: table of localizations that the tracks were made from."),
    ] = None,
    exposure_s: Annotated[
        float | None,
        typer.Option(callback=plausible("EXPOSURE_S"), help="For --measures: exposure whose blur is removed, s."),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory of the run.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
) -> None:
    """Write the tracks of a run or of a table in the format of another program."""
    form = FORMATS[name]
    if out.suffix.lower() not in form.suffixes:
        raise typer.BadParameter(f"{str(out)!r} must end in {' or '.join(form.suffixes)} for the format {name}.")
    if not measures and (localizations is not None or exposure_s is not None):
        raise typer.BadParameter("--localizations and --exposure-s are for --measures.")
    of_measures = {"measures": measures, "exposure_s": exposure_s or 0.0}
    if Path(tracks).suffix.lower() in _TABLES:
        if revision is not None:
            raise typer.BadParameter("a table of tracks has no revisions; leave --revision out, or name a run.")
        _export_table(Path(tracks), pixel_size_um, form, out, localizations=localizations, **of_measures)
        return
    if localizations is not None:
        raise typer.BadParameter("the localizations of a run are in the database; leave --localizations out.")
    if pixel_size_um is not None:
        raise typer.BadParameter("the pixel size of a run is that of its model; leave --pixel-size-um out.")
    from service.settings import load_settings

    _export_run(load_settings(config, {"data_dir": data}), tracks, revision, form, out, **of_measures)


def _export_table(table: Path, pixel_size_um: float | None, form: ExportFormat, out: Path, **of_measures: Any) -> None:
    from service.commands.console import note
    from service.export.source import tracks_of_table
    from service.files.outputs import check_destination

    check_destination(out, form.is_ours)
    _write(tracks_of_table(table, pixel_size_um, note, **of_measures), form, out)


def _export_run(
    settings: Settings, run_id: str, revision: int | None, form: ExportFormat, out: Path, **of_measures: Any
) -> None:
    from contextlib import closing

    from models.errors import DataError
    from service.export.source import tracks_of_run
    from service.files.library import Library
    from service.store.errors import UnknownItem
    from service.store.store import Store

    with closing(Store.open(settings.database)) as store:
        try:
            source = tracks_of_run(store, Library(settings.data_dir, settings.model), run_id, revision, **of_measures)
        except UnknownItem as error:
            raise DataError(error.problem, _known_runs(store, settings)) from error
        _write(source, form, out)


def _known_runs(store: Store, settings: Settings) -> str:
    """Which runs there are, as a remedy."""
    runs = store.runs.list(_NEWEST_RUNS).items
    if not runs:
        return f"{settings.data_dir} has no runs; choose another data directory with --data."
    listed = ", ".join(f"{run.id} (revision {run.revision})" for run in runs)
    return f"The newest runs of {settings.data_dir} are {listed}; --data chooses another data directory."


def _write(source: TrackSource, form: ExportFormat, out: Path) -> None:
    from service.commands.console import note, progress
    from service.export.blocks import counted
    from service.files.outputs import complete_output

    with (
        complete_output(out, form.is_ours) as aside,
        progress("Exporting", max(source.points, 1), "points") as advance,
    ):
        form.write(aside, counted(source.blocks, advance), source.origin, source.measured)
    which = "" if source.origin.revision is None else f" of revision {source.origin.revision}"
    note(f"{out}: {source.tracks} tracks with {source.points} points{which}.")

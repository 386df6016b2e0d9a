"""`bathyscope copy-off`: copy recordings to a folder or an S3 server, and verify the copies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.copies.copying import CopyProgress
    from service.settings import Settings

__all__ = ["run"]

_RECORDING = ".ome.zarr"


def run(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN|RECORDING...", help="Ids of recorded runs, or folders of recordings (.ome.zarr)."),
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="URL",
            help="s3://BUCKET/FOLDER, or a folder that is there. Default: copy_off.url of the settings.",
        ),
    ] = None,
    data: Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory of the runs.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")
    ] = None,
) -> None:
    """Copy recordings of ended runs, read every file back, and compare its SHA-256 digest; continue what was begun."""
    from models.errors import DataError
    from service.commands.console import result
    from service.settings import load_settings

    if to is not None and "://" not in to:
        to = str(Path(to).absolute())
    settings = load_settings(config, {"data_dir": data, "copy_off": {"url": to}})
    if settings.copy_off.url is None:
        raise typer.BadParameter("the settings have no copy_off.url, so it is needed", param_hint="--to")
    url = settings.copy_off.url
    folders = [Path(source) for source in sources if source.rstrip("/\\").endswith(_RECORDING)]
    runs = list(dict.fromkeys(source for source in sources if not source.rstrip("/\\").endswith(_RECORDING)))
    for folder in folders:
        if not folder.is_dir():
            raise DataError(f"There is no recording {folder}.", "Check the path.")
    copied = [*_copy_runs(settings, runs, url), *(_copy_folder(folder, url) for folder in folders)]
    for name, done in copied:
        result(
            f"{url.rstrip('/')}/{name}{_RECORDING}: {done.files} files with {done.bytes / 1e6:.1f} MB verified, "
            f"{done.sent_bytes / 1e6:.1f} MB sent."
        )


def _copy_runs(settings: Settings, runs: list[str], url: str) -> list[tuple[str, CopyProgress]]:
    from contextlib import closing

    from models.errors import DataError
    from service.commands.console import progress
    from service.copies.copier import Copier
    from service.store.store import Store

    if not runs:
        return []
    if not settings.data_dir.is_dir():
        raise DataError(f"There is no data directory {settings.data_dir}.", "Name another one with --data.")
    copied = []
    with closing(Store.open(settings.database)) as store:
        store.check()
        for run in [store.copies.recorded(run_id) for run_id in runs]:  # all are found before the first is copied
            with progress(f"Copying {run.run_id}", 100, "%") as advance:
                copier = Copier(store, settings.data_dir, url, watch=lambda done: advance(_percent(done)))
                copied.append((run.run_id, copier.copy(run)))
    return copied


def _copy_folder(folder: Path, url: str) -> tuple[str, CopyProgress]:
    """Copy a recording by its path, which no database needs to know. What is there already is read back."""
    import tempfile

    from service.commands.console import progress
    from service.copies.copying import copy_recording
    from service.copies.journal import CopyJournal
    from service.copies.places import open_place

    folder = folder.absolute()
    place = open_place(url)
    with tempfile.TemporaryDirectory() as aside, progress(f"Copying {folder.name}", 100, "%") as advance:
        journal = CopyJournal(Path(aside) / "copy.jsonl", f"{place.url}/{folder.name}")
        copied = copy_recording(folder, place, journal, lambda done: advance(_percent(done)))
    return folder.name.removesuffix(_RECORDING), copied


def _percent(done: CopyProgress) -> float:
    return 100.0 * done.done_bytes / max(done.bytes, 1)

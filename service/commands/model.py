"""`bathyscope model`: list the models of a data directory, and export and import models as single files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.checks import plausible

if TYPE_CHECKING:
    from service.files.library import Library
    from service.settings import Settings

__all__ = ["application"]

application = typer.Typer(help="List, export and import models.", no_args_is_help=True)

Config = Annotated[Path | None, typer.Option("--config", envvar="BATHYSCOPE_CONFIG", help="Settings (TOML).")]
Data = Annotated[str | None, typer.Option("--data", metavar="<path>", help="Data directory.")]


@application.command("list")
def show(
    pixel_size_um: Annotated[
        float | None,
        typer.Option(callback=plausible("PIXEL_SIZE_UM"), help="Say which models fit this pixel at the sample, µm."),
    ] = None,
    bit_depth: Annotated[int, typer.Option(min=8, max=16, help="Bits of a count, for --pixel-size-um.")] = 16,
    config: Config = None,
    data: Data = None,
) -> None:
    """List the models of a data directory, the one of the settings and the shipped ones, newest first."""
    from service.commands.console import note, result
    from service.model_fit import ModelOptics, PresentOptics, misfits

    library = _library(_settings(config, data))
    cursor: str | None = None
    while True:
        page = library.models.page(1000, cursor)
        for item in page.items:
            low, high = item.z_range_um
            line = f"{item.id}\t{item.source}\t{item.pixel_size_um:g} µm\t{low:g} to {high:g} µm\t{item.name}"
            if pixel_size_um is not None:
                optics = ModelOptics(item.id, item.pixel_size_um, item.bit_depth)
                found = misfits(optics, PresentOptics(pixel_size_um, bit_depth))
                line += "\t" + (found[0].problem if found else "fits")
            result(line)
        for other in page.unreadable:
            note(f"Note: {other.problem} {other.remedy}")
        cursor = page.next
        if cursor is None:
            return


@application.command("export")
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of a model, or its id in the data directory.")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .zip.")],
    config: Config = None,
    data: Data = None,
) -> None:
    """Write a model to one file, and print the SHA-256 digest of that file."""
    if out.suffix.lower() != ".zip":
        raise typer.BadParameter(f"{str(out)!r} must end in .zip.", param_hint="--out")
    from models.model_files import DESCRIPTION
    from service.commands.console import note, result
    from service.files.model_archive import export_model, is_archive
    from service.files.outputs import complete_output

    library, folder = _library(_settings(config, data)), Path(model)
    if not (folder / DESCRIPTION).is_file():
        folder = library.models.folder(model)
    with complete_output(out, is_archive) as aside:
        packed = export_model(folder, aside)
    result(f"{packed.sha256}  {out}")
    note(f"{out}: model {packed.id}, {packed.size_bytes / 1e6:.1f} MB.")


@application.command("import")
def import_(
    archive: Annotated[Path, typer.Argument(help="File of `bathyscope model export`.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the model; absent: in the data directory.")
    ] = None,
    sha256: Annotated[str | None, typer.Option("--sha256", help="Digest that the file must have.")] = None,
    config: Config = None,
    data: Data = None,
) -> None:
    """Check an exported model and unpack it; a running service has it in its list at once."""
    from models.model_card import ModelCard
    from service.commands.console import note
    from service.files.model_archive import import_model, unpack_model
    from service.files.outputs import complete_output

    settings = _settings(config, data)
    library = _library(settings)
    if out is not None:
        with complete_output(out, ModelCard.is_folder) as aside:
            card = unpack_model(archive, aside, sha256)
        note(f"{out}: model {card.id}, depths {card.z_range_um[0]:g} to {card.z_range_um[1]:g} µm.")
        return
    model = import_model(archive, settings.data_dir, library, sha256)
    note(f"{library.models.folder(model)}: model {model}.")


def _settings(config: Path | None, data: str | None) -> Settings:
    from service.settings import load_settings

    return load_settings(config, {"data_dir": data})


def _library(settings: Settings) -> Library:
    from service.files.library import Library

    return Library(settings.data_dir, settings.model)

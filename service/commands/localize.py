"""`bathyscope localize`: compute a table of 3D positions from a movie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands.checks import table_suffix
from service.commands.movie_options import (
    CameraFile,
    CameraOffset,
    Device,
    ElectronsPerAdu,
    PixelSize,
    ReadNoise,
    StaticLight,
    localizer_of_movie,
)

__all__ = ["run"]


def run(
    movie: Annotated[
        Path,
        typer.Argument(
            help="Movie (T, Y, X): TIFF, OME-Zarr, NDTiff, ND2, CZI, LIF, or a folder of images; "
            "OME-Zarr also as s3://BUCKET/FOLDER."
        ),
    ],
    model: Annotated[Path, typer.Option("--model", help="Folder made by `bathyscope train`.")],
    out: Annotated[Path, typer.Option("--out", callback=table_suffix, help="Table: .csv or .parquet.")],
    refine: Annotated[bool, typer.Option("--refine", help="Refine with a joint maximum-likelihood fit.")] = False,
    least_probability: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.999, help="Write candidates from this probability on, for `track`; default: the threshold."
        ),
    ] = None,
    static_light: StaticLight = None,
    device: Device = "auto",
    pixel_size_um: PixelSize = None,
    camera: CameraFile = None,
    camera_offset_adu: CameraOffset = None,
    electrons_per_adu: ElectronsPerAdu = None,
    read_noise_e: ReadNoise = None,
) -> None:
    """Find the emitters of every frame of a movie."""
    if refine and least_probability is not None:
        raise typer.BadParameter("the fit of --refine decides itself; leave --least-probability out")
    from hardware.movies import open_movie
    from models.movie_localization import localize_movie
    from models.table_files import is_table, write_table
    from models.tables import Localizations
    from service.commands.console import note, progress
    from service.files.camera_choice import CameraOptions
    from service.files.outputs import complete_output

    with open_movie(movie) as source:
        options = CameraOptions(camera, camera_offset_adu, electrons_per_adu, read_noise_e)
        localizer = localizer_of_movie(source, model, device, pixel_size_um, options)
        refiner = localizer.refiner() if refine else None
        with (
            complete_output(out, lambda path: is_table(path, Localizations)) as aside,
            progress("Localizing", len(source), "frames") as advance,
        ):
            found = localize_movie(source, localizer, refiner, advance, least_probability, static_light or "auto")
            write_table(aside, found)
    note(f"{out}: {len(found)} localizations in {len(source)} frames.")

"""`bathyscope localize`: compute a table of 3D positions from a movie."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.commands.checks import plausible, table_suffix

__all__ = ["run"]


def run(
    movie: Annotated[Path, typer.Argument(help="Movie (T, Y, X): TIFF, OME-Zarr, NDTiff, or a folder of images.")],
    model: Annotated[Path, typer.Option("--model", help="Folder made by `bathyscope train`.")],
    out: Annotated[Path, typer.Option("--out", callback=table_suffix, help="Table: .csv or .parquet.")],
    refine: Annotated[bool, typer.Option("--refine", help="Refine with a joint maximum-likelihood fit.")] = False,
    least_probability: Annotated[
        float | None,
        typer.Option(
            min=0.001, max=0.999, help="Write candidates from this probability on, for `track`; default: the threshold."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    pixel_size_um: Annotated[
        float | None, typer.Option(callback=plausible("PIXEL_SIZE_UM"), help="Pixel at the sample, µm.")
    ] = None,
    camera: Annotated[Path | None, typer.Option(help="Camera description.")] = None,
    camera_offset_adu: Annotated[
        float | None, typer.Option(callback=plausible("CAMERA_OFFSET_ADU"), help="Count without light.")
    ] = None,
    electrons_per_adu: Annotated[
        float | None, typer.Option(callback=plausible("ELECTRONS_PER_ADU"), help="Photo-electrons per count.")
    ] = None,
    read_noise_e: Annotated[
        float | None, typer.Option(callback=plausible("READ_NOISE_E"), help="Read noise, photo-electrons.")
    ] = None,
) -> None:
    """Find the emitters of every frame of a movie."""
    if refine and least_probability is not None:
        raise typer.BadParameter("the fit of --refine decides itself; leave --least-probability out")
    from hardware.agreement import agreed_pixel_size
    from hardware.movies import open_movie
    from models.localization import Localizer
    from models.movie_localization import dark_level_note, localize_movie
    from models.table_files import is_table, write_table
    from models.tables import Localizations
    from service.commands.console import note, progress
    from service.files.camera_choice import CameraOptions, chosen_camera
    from service.files.outputs import complete_output

    with open_movie(movie) as source:
        for text in source.notes:
            note(f"Note: {text}")
        options = CameraOptions(camera, camera_offset_adu, electrons_per_adu, read_noise_e)
        given = chosen_camera(options, source.bit_depth)
        localizer = Localizer.load(model, device, camera=given)
        _, remark = agreed_pixel_size(source.pixel_size_um, pixel_size_um, localizer.card.pixel_size_um)
        localizer.check_bit_depth(source.bit_depth)
        if remark:
            note(remark)
        if given is None:
            used = localizer.camera
            note(
                f"Camera taken from the model: offset {used.offset_adu:.4g} ADU, {used.electrons_per_adu:.3g} e-/ADU, "
                f"read noise {used.read_noise_e:.3g} e-."
            )
            if source.bit_depth < used.bit_depth:
                note(
                    f"The movie states {source.bit_depth}-bit counts, the model's camera {used.bit_depth}: if the "
                    "camera ran in another mode than for the calibration, give its figures with --camera."
                )
        level = dark_level_note(source, localizer.camera)
        if level is not None:
            note(level)
        refiner = localizer.refiner() if refine else None
        with (
            complete_output(out, lambda path: is_table(path, Localizations)) as aside,
            progress("Localizing", len(source), "frames") as advance,
        ):
            found = localize_movie(source, localizer, refiner, advance, least_probability)
            write_table(aside, found)
    note(f"{out}: {len(found)} localizations in {len(source)} frames.")

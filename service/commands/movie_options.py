"""Options of the commands that read a movie or a sweep, each declared once; and the localizer of a movie."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from models.background.mode import StaticLightMode
from service.commands.checks import plausible

if TYPE_CHECKING:
    from hardware.movies import Movie
    from models.localization import Localizer
    from service.files.camera_choice import CameraOptions

__all__ = [
    "CameraFile",
    "CameraOffset",
    "Device",
    "ElectronsPerAdu",
    "PixelSize",
    "ReadNoise",
    "StaticLight",
    "localizer_of_movie",
]

Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
PixelSize = Annotated[float | None, typer.Option(callback=plausible("PIXEL_SIZE_UM"), help="Pixel at the sample, µm.")]
CameraFile = Annotated[
    Path | None, typer.Option(help="Camera description of `bathyscope camera`, or a name of `bathyscope cameras`.")
]
CameraOffset = Annotated[
    float | None, typer.Option(callback=plausible("CAMERA_OFFSET_ADU"), help="Count of a dark pixel, ADU.")
]
ElectronsPerAdu = Annotated[
    float | None, typer.Option(callback=plausible("ELECTRONS_PER_ADU"), help="Photo-electrons per count.")
]
ReadNoise = Annotated[
    float | None, typer.Option(callback=plausible("READ_NOISE_E"), help="Read noise, photo-electrons.")
]

StaticLight = Annotated[
    StaticLightMode | None,
    typer.Option(help="Remove light that stands still over time. Default: as in the settings, or auto."),
]


def localizer_of_movie(
    movie: Movie, model: Path, device: str, pixel_size_um: float | None, options: CameraOptions
) -> Localizer:
    """Load a model for a movie, and print every remark on how the two fit.

    Raises
    ------
    DataError
        When model or camera options are not usable, or the counts cannot come from the camera.
    MicroscopeError
        When the pixel sizes of movie and model differ by more than 1 %.
    """
    from hardware.agreement import agreed_pixel_size
    from models.localization import Localizer
    from models.movie_localization import dark_level_note
    from service.commands.console import note
    from service.files.camera_choice import chosen_camera

    for text in movie.notes:
        note(f"Note: {text}")
    given = chosen_camera(options, movie.bit_depth)
    localizer = Localizer.load(model, device, camera=given)
    _, remark = agreed_pixel_size(movie.pixel_size_um, pixel_size_um, localizer.card.pixel_size_um)
    localizer.check_bit_depth(movie.bit_depth)
    if remark:
        note(remark)
    if given is None:
        used = localizer.camera
        note(
            f"Camera taken from the model: offset {used.offset_adu:.4g} ADU, {used.electrons_per_adu:.3g} e-/ADU, "
            f"read noise {used.read_noise_e:.3g} e-."
        )
        if movie.bit_depth < used.bit_depth:
            note(
                f"The movie states {movie.bit_depth}-bit counts, the model's camera {used.bit_depth}: if the "
                "camera ran in another mode than for the calibration, give its figures with --camera."
            )
    level = dark_level_note(movie, localizer.camera)
    if level is not None:
        note(level)
    return localizer

"""``bathyscope camera``: measure a camera from dark frames and flat frames, and write its description."""

from __future__ import annotations

from pathlib import Path

import typer

__all__ = ["run"]


def run(
    darks: Path = typer.Argument(
        help="Movie without light: TIFF, OME-Zarr, NDTiff, ND2, CZI, LIF, or a folder of images."
    ),
    flats: Path | None = typer.Argument(None, help="Movie of an even, constant light, at one or several levels."),
    out: Path = typer.Option(..., help="Camera description to write (JSON; per-pixel maps go beside it as .npz)."),
) -> None:
    """Measure a camera: offset, photo-electrons per count, read noise, hot pixels."""
    import json

    import numpy as np

    from hardware.movies import open_movie
    from models.calibration.darks_and_flats import measure_camera
    from service.commands.console import note
    from service.files.outputs import complete_output, write_json

    with open_movie(darks) as movie:
        bit_depth = movie.bit_depth or 16
        dark_frames = movie.read_whole()
        notes = movie.notes
    flat_frames = None
    if flats is not None:
        with open_movie(flats) as movie:
            flat_frames = movie.read_whole()
            notes += movie.notes
    measured = measure_camera(dark_frames, flat_frames, bit_depth=bit_depth)

    def is_camera(path: Path) -> bool:
        try:
            return "camera" in json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False

    values = measured.as_dict()
    maps = out.with_suffix(".npz")
    if measured.offset_map_adu is not None and measured.read_noise_map_e is not None:
        values["maps"] = maps.name
        with complete_output(maps, lambda path: path.is_file() and is_camera(out)) as aside:
            np.savez_compressed(
                aside, offset_map_adu=measured.offset_map_adu, read_noise_map_e=measured.read_noise_map_e
            )
    with complete_output(out, is_camera) as aside:
        write_json(aside, values)
    for text in (*notes, *measured.notes):
        note(f"Note: {text}")
    camera = measured.camera
    note(
        f"{out}: offset {camera.offset_adu:.2f} ADU, {camera.electrons_per_adu:.3f} e-/ADU, "
        f"read noise {camera.read_noise_e:.2f} e-, {len(measured.hot_pixels)} hot pixels."
    )

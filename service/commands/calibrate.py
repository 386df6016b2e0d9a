"""``bathyscope calibrate``: a sweep of beads, from a file or taken live, becomes a calibration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.commands.checks import plausible

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["checkerboard", "run"]


_LIVE_ALONE = ("config", "data", "repeats", "settle_s")
_FILE_ALONE = ("z_start_um", "axial_scale", "flip_z")


def run(
    context: typer.Context,
    sweep: Path | None = typer.Argument(
        None, help="Sweep (Z, Y, X) or (Z, R, Y, X): TIFF, OME-Zarr, NDTiff, or a folder of images."
    ),
    live: bool = typer.Option(False, "--live", help="Take the sweep with the microscope of the settings."),
    config: Path | None = typer.Option(None, envvar="BATHYSCOPE_CONFIG", help="Settings (TOML), with --live."),
    data: Path | None = typer.Option(None, help="Data directory, with --live: refused while a service holds it."),
    pixel_size_um: float | None = typer.Option(
        None, callback=plausible("PIXEL_SIZE_UM"), help="Camera pixel at the sample, µm."
    ),
    z_step_um: float | None = typer.Option(None, callback=plausible("Z_STEP_UM"), help="Step of the sweep, µm."),
    z_start_um: float | None = typer.Option(
        None, callback=plausible("STAGE_UM"), help="Sweep coordinate of the first plane, µm."
    ),
    z_range_um: tuple[float, float] | None = typer.Option(
        None, callback=plausible("DEPTH_UM"), help="Depths to tell apart, µm from focus."
    ),
    focus_um: float | None = typer.Option(
        None, callback=plausible("STAGE_UM"), help="Focus in sweep coordinates, µm; found when not given."
    ),
    axial_scale: float = typer.Option(1.0, min=0.1, max=10.0, help="Depth per step of the sweep (not with --live)."),
    flip_z: bool = typer.Option(False, "--flip-z", help="The sweep runs toward the objective (not with --live)."),
    camera: Path | None = typer.Option(None, help="Camera description of `bathyscope camera`."),
    camera_offset_adu: float | None = typer.Option(
        None, callback=plausible("CAMERA_OFFSET_ADU"), help="Count of a dark pixel, ADU."
    ),
    electrons_per_adu: float | None = typer.Option(
        None, callback=plausible("ELECTRONS_PER_ADU"), help="Photo-electrons per count."
    ),
    read_noise_e: float | None = typer.Option(
        None, callback=plausible("READ_NOISE_E"), help="Read noise, photo-electrons."
    ),
    repeats: int = typer.Option(2, min=1, max=100, help="Exposures at each plane, with --live."),
    settle_s: float = typer.Option(0.05, min=0.0, max=10.0, help="Wait after each move, s, with --live."),
    checkerboard_color: str | None = typer.Option(
        None, "--checkerboard", help="Use only beads on the black or the white squares, to judge on the others."
    ),
    square_px: int = typer.Option(64, min=4, max=4096, help="Side of a square of --checkerboard, pixels."),
    out: Path = typer.Option(..., help="Folder of the calibration."),
) -> None:
    """Learn the optics from one z-sweep of beads."""
    if live == (sweep is not None):
        raise typer.BadParameter("name a sweep, or use --live, not both.")
    if checkerboard_color not in (None, "black", "white"):
        raise typer.BadParameter("--checkerboard is black or white.")
    for name in _FILE_ALONE if live else _LIVE_ALONE:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"{flag} means nothing {'with' if live else 'without'} --live.", param_hint=flag)

    from models.calibration.calibrating import calibrate
    from models.calibration.calibration import Calibration
    from models.calibration.report import with_report
    from service.commands.console import note, progress
    from service.files.camera_choice import chosen_camera
    from service.files.outputs import complete_output
    from service.files.recorded_sweep import open_recorded_sweep

    _check_lengths(pixel_size_um, z_step_um, z_start_um, z_range_um, focus_um)
    with complete_output(out, Calibration.is_folder) as aside:
        sign = -1 if flip_z else 1
        if sweep is not None:
            planes = open_recorded_sweep(
                sweep, lambda text: note(f"Note: {text}"), pixel_size_um, z_step_um, z_start_um
            )
        else:
            if z_range_um is None or z_step_um is None:
                raise typer.BadParameter("--live needs --z-range-um and --z-step-um.")
            from service.commands.live_sweep import take_sweep
            from service.engine.sweep_request import SweepRequest

            request = SweepRequest(z_range_um, z_step_um, repeats, settle_s, pixel_size_um)
            planes, axis = take_sweep(config, data, request)
            sign, axial_scale = axis.sign, axis.axial_scale
        known = chosen_camera(camera, camera_offset_adu, electrons_per_adu, read_noise_e, planes.bit_depth)
        mask = None if checkerboard_color is None else checkerboard(planes.shape, square_px, checkerboard_color)
        with progress("Calibrating", 1.0) as advance:
            found = calibrate(
                planes,
                z_range_um=z_range_um,
                focus_um=focus_um,
                camera=known,
                sign=sign,
                axial_scale=axial_scale,
                mask=mask,
                progress=advance,
            )
        with_report(found).save(aside)
    for text in found.report["notes"]:
        note(f"Note: {text}")
    note(
        f"{out}: {found.report['beads_used']} of {found.report['beads_found']} beads, "
        f"focus at {found.focus_um:.2f} µm, "
        f"depths {found.z_range_um[0]:g} to {found.z_range_um[1]:g} µm. Read {out / 'report.html'}."
    )


def checkerboard(shape: tuple[int, int], square_px: int, color: str) -> NDArray[np.bool_]:
    """Mask of the black (the top-left one is black) or the white squares, shape (H, W)."""
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    white = (rows // square_px + columns // square_px) % 2 == 1
    return np.asarray(white if color == "white" else ~white)


def _check_lengths(
    pixel_size_um: float | None,
    z_step_um: float | None,
    z_start_um: float | None,
    z_range_um: tuple[float, float] | None,
    focus_um: float | None,
) -> None:
    """Refuse lengths that no microscope has, before a file is read or anything moves."""
    from models.quantities import DEPTH_UM, PIXEL_SIZE_UM, STAGE_UM, Z_STEP_UM

    if pixel_size_um is not None:
        PIXEL_SIZE_UM.check(pixel_size_um, "--pixel-size-um")
    # Steps that are not positive are explained by the sweep.
    if z_step_um is not None and z_step_um > 0:
        Z_STEP_UM.check(z_step_um, "--z-step-um")
    for depth in z_range_um or ():
        DEPTH_UM.check(depth, "--z-range-um")
    for position, flag in ((z_start_um, "--z-start-um"), (focus_um, "--focus-um")):
        if position is not None:
            STAGE_UM.check(position, flag)

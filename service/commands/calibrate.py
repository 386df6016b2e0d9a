"""``bathyscope calibrate``: compute a calibration from a z-sweep of beads, which a file holds or the microscope takes.

typer needs one parameter of `run` for each option. `run` groups them into
values at once; the rest of this file takes the values.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from service.commands.checks import plausible
from service.commands.movie_options import CameraFile, CameraOffset, ElectronsPerAdu, ReadNoise

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from models.calibration.sweep import Sweep
    from models.object_size import ObjectSize
    from service.files.camera_choice import CameraOptions

__all__ = ["checkerboard", "run"]


_LIVE_ONLY = ("config", "data", "sequence", "repeats", "settle_s")
_FILE_ONLY = ("z_start_um", "axial_scale", "flip_z")


@dataclass(frozen=True, slots=True)
class _Lengths:
    """Lengths that the options give, µm; None where an option is absent.

    Attributes
    ----------
    pixel_size_um : camera pixel at the sample
    z_step_um, z_start_um : step of the sweep, and the sweep coordinate of the first plane
    z_range_um : range of depths from focus
    focus_um : focus in sweep coordinates
    """

    pixel_size_um: float | None
    z_step_um: float | None
    z_start_um: float | None
    z_range_um: tuple[float, float] | None
    focus_um: float | None

    def check(self) -> None:
        """Refuse lengths that no microscope has, before a file is read or the stage moves."""
        from models.quantities import DEPTH_UM, PIXEL_SIZE_UM, STAGE_UM, Z_STEP_UM

        if self.pixel_size_um is not None:
            PIXEL_SIZE_UM.check(self.pixel_size_um, "--pixel-size-um")
        # The sweep itself refuses steps that are not positive, with a better message.
        if self.z_step_um is not None and self.z_step_um > 0:
            Z_STEP_UM.check(self.z_step_um, "--z-step-um")
        for depth in self.z_range_um or ():
            DEPTH_UM.check(depth, "--z-range-um")
        for position, flag in ((self.z_start_um, "--z-start-um"), (self.focus_um, "--focus-um")):
            if position is not None:
                STAGE_UM.check(position, flag)


@dataclass(frozen=True, slots=True)
class _Live:
    """Options of a sweep that the microscope takes: settings file, data directory, exposures per plane, times in s."""

    config: Path | None
    data: Path | None
    repeats: int
    settle_s: float
    exposure_s: float | None


@dataclass(frozen=True, slots=True)
class _Checkerboard:
    """The squares whose beads are used: ``"black"`` or ``"white"``, and the side of a square in pixels."""

    color: str
    square_px: int


@dataclass(frozen=True, slots=True)
class _SweepOnAxis:
    """A sweep, and how its coordinates become depth: direction (1 or -1) and depth per step of the sweep."""

    sweep: Sweep
    sign: int
    axial_scale: float


def run(
    context: typer.Context,
    sweep: Path | None = typer.Argument(
        None, help="Sweep (Z, Y, X) or (Z, R, Y, X): TIFF, OME-Zarr, NDTiff, ND2, CZI, LIF, or a folder of images."
    ),
    live: bool = typer.Option(False, "--live", help="Take the sweep with the microscope of the settings."),
    config: Path | None = typer.Option(None, envvar="BATHYSCOPE_CONFIG", help="Settings (TOML), with --live."),
    data: Path | None = typer.Option(None, help="Data directory, with --live; no running service may use it."),
    pixel_size_um: float | None = typer.Option(
        None, callback=plausible("PIXEL_SIZE_UM"), help="Camera pixel at the sample, µm."
    ),
    z_step_um: float | None = typer.Option(None, callback=plausible("Z_STEP_UM"), help="Step of the sweep, µm."),
    z_start_um: float | None = typer.Option(
        None, callback=plausible("STAGE_UM"), help="Sweep coordinate of the first plane, µm."
    ),
    sequence: Path | None = typer.Option(
        None, help="Focal stack in useq-schema (MDASequence, JSON or YAML): range, step, exposure; with --live."
    ),
    z_range_um: tuple[float, float] | None = typer.Option(
        None, callback=plausible("DEPTH_UM"), help="Range of depths, µm from focus."
    ),
    focus_um: float | None = typer.Option(
        None, callback=plausible("STAGE_UM"), help="Focus in sweep coordinates, µm; measured when not given."
    ),
    object_diameter_um: float | None = typer.Option(
        None,
        callback=plausible("OBJECT_DIAMETER_UM"),
        help="Diameter of the objects that will be tracked, µm: the pattern of a sphere is computed from the beads'.",
    ),
    bead_diameter_um: float | None = typer.Option(
        None, callback=plausible("OBJECT_DIAMETER_UM"), help="Diameter of the beads, with --object-diameter-um."
    ),
    axial_scale: float = typer.Option(1.0, min=0.1, max=10.0, help="Depth per step of the sweep (not with --live)."),
    flip_z: bool = typer.Option(False, "--flip-z", help="The sweep runs toward the objective (not with --live)."),
    camera: CameraFile = None,
    camera_offset_adu: CameraOffset = None,
    electrons_per_adu: ElectronsPerAdu = None,
    read_noise_e: ReadNoise = None,
    repeats: int = typer.Option(2, min=1, max=100, help="Exposures at each plane, with --live."),
    settle_s: float = typer.Option(0.05, min=0.0, max=10.0, help="Wait after each move, s, with --live."),
    checkerboard_color: str | None = typer.Option(
        None, "--checkerboard", help="Use only beads on the black or the white squares; test on the others."
    ),
    square_px: int = typer.Option(64, min=4, max=4096, help="Side of a square of --checkerboard, pixels."),
    out: Path = typer.Option(..., help="Folder of the calibration."),
) -> None:
    """Learn the optics from one z-sweep of beads."""
    if live == (sweep is not None):
        raise typer.BadParameter("name a sweep, or use --live, not both.")
    if checkerboard_color not in (None, "black", "white"):
        raise typer.BadParameter("--checkerboard is black or white.")
    _refuse_options(context, _FILE_ONLY if live else _LIVE_ONLY, live=live)

    from service.files.camera_choice import CameraOptions

    exposure_s = None
    if sequence is not None:
        if z_range_um is not None or z_step_um is not None:
            raise typer.BadParameter(
                "states range and step; leave --z-range-um and --z-step-um out", param_hint="--sequence"
            )
        z_range_um, z_step_um, exposure_s = _of_sequence(sequence)
    lengths = _Lengths(pixel_size_um, z_step_um, z_start_um, z_range_um, focus_um)
    lengths.check()
    objects = _objects(object_diameter_um, bead_diameter_um)
    camera_options = CameraOptions(camera, camera_offset_adu, electrons_per_adu, read_noise_e)
    squares = None if checkerboard_color is None else _Checkerboard(checkerboard_color, square_px)
    if sweep is None:
        live_options = _Live(config, data, repeats, settle_s, exposure_s)

        def source() -> _SweepOnAxis:
            return _take(live_options, lengths)
    else:
        path, sign = sweep, -1 if flip_z else 1

        def source() -> _SweepOnAxis:
            return _SweepOnAxis(_from_file(path, lengths), sign, axial_scale)

    _calibrate(source, lengths, camera_options, squares, objects, out)


def _objects(object_um: float | None, bead_um: float | None) -> ObjectSize | None:
    """Size of the objects that will be tracked; None when they are like the beads."""
    from models.object_size import ObjectSize

    if object_um is None:
        if bead_um is not None:
            raise typer.BadParameter("needs --object-diameter-um", param_hint="--bead-diameter-um")
        return None
    return ObjectSize(object_um, bead_um or 0.0)


def _refuse_options(context: typer.Context, names: tuple[str, ...], *, live: bool) -> None:
    """Refuse options that have no effect with, or without, --live."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            flag = "--" + name.replace("_", "-")
            raise typer.BadParameter(f"{flag} means nothing {'with' if live else 'without'} --live.", param_hint=flag)


def _calibrate(
    source: Callable[[], _SweepOnAxis],
    lengths: _Lengths,
    camera_options: CameraOptions,
    squares: _Checkerboard | None,
    objects: ObjectSize | None,
    out: Path,
) -> None:
    """Compute the calibration of the sweep that `source` returns, and write it to `out`."""
    from models.calibration.calibrating import calibrate
    from models.calibration.calibration import Calibration
    from models.calibration.report import with_report
    from service.commands.console import note, progress
    from service.files.camera_choice import chosen_camera
    from service.files.outputs import complete_output

    with complete_output(out, Calibration.is_folder) as aside:
        on_axis = source()
        planes = on_axis.sweep
        camera = chosen_camera(camera_options, planes.bit_depth)
        mask = None if squares is None else checkerboard(planes.shape, squares.square_px, squares.color)
        with progress("Calibrating", 1.0) as advance:
            found = calibrate(
                planes,
                z_range_um=lengths.z_range_um,
                focus_um=lengths.focus_um,
                camera=camera,
                sign=on_axis.sign,
                axial_scale=on_axis.axial_scale,
                mask=mask,
                objects=objects,
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
    """Mask of the black or the white squares, shape (H, W). The top-left square is black."""
    import numpy as np

    rows, columns = np.ogrid[: shape[0], : shape[1]]
    white = (rows // square_px + columns // square_px) % 2 == 1
    return np.asarray(white if color == "white" else ~white)


def _take(live: _Live, lengths: _Lengths) -> _SweepOnAxis:
    """Take a sweep with the microscope of the settings."""
    if lengths.z_range_um is None or lengths.z_step_um is None:
        raise typer.BadParameter("--live needs --z-range-um and --z-step-um, or --sequence.")
    from service.commands.live_sweep import take_sweep
    from service.engine.sweep.request import SweepRequest

    request = SweepRequest(
        lengths.z_range_um, lengths.z_step_um, live.repeats, live.settle_s, lengths.pixel_size_um, live.exposure_s
    )
    sweep, axis = take_sweep(live.config, live.data, request)
    return _SweepOnAxis(sweep, axis.sign, axis.axial_scale)


def _of_sequence(path: Path) -> tuple[tuple[float, float], float, float | None]:
    """Range of depths and step in µm, and exposure in s, of a focal stack in useq-schema."""
    from models.errors import DataError
    from service.sequences import FocalStack, read_sequence

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read ({error}).", "Name a sequence of useq-schema, JSON or YAML.") from error
    stack = read_sequence(text)
    if not isinstance(stack, FocalStack):
        raise DataError(
            f"The sequence in {path} is a time series; a calibration needs a focal stack.",
            "Send it to the running service (POST /api/v1/acquisitions, `Client.acquire`), where it becomes a run.",
        )
    if stack.channel is not None:
        raise DataError(
            f"The sequence in {path} names the channel {stack.channel!r}, which this command does not choose.",
            "Leave channels out and choose it at the microscope, or send the sequence to the running service.",
        )
    return stack.z_range_um, stack.z_step_um, stack.exposure_s


def _from_file(path: Path, lengths: _Lengths) -> Sweep:
    """Read a sweep from a file, with the lengths of the file where the options give none."""
    from service.commands.console import note
    from service.files.recorded_sweep import open_recorded_sweep

    return open_recorded_sweep(
        path, lambda text: note(f"Note: {text}"), lengths.pixel_size_um, lengths.z_step_um, lengths.z_start_um
    )

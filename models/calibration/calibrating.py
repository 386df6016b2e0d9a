"""From a sweep to a calibration.

The steps: check the sweep, estimate the camera, find focus and beads, measure
the radius of the patterns by depth, and fit one pattern to all beads
(`joint_pattern`, with the pupil of `pupil_pattern` and the field map of
`field_fit`). The result (`assembly`) has the PSF, the focus, the field map, the
rejected beads, the lateral drift, the light by plane, and the variation and the
depth error of single beads.

Two conventions. The pattern is that of the median bead: heights have median
zero, and all beads have the same weight. A single bead that is larger than the
median appears too deep, most of all near focus, because its size adds to the
defocus in quadrature. The pattern is centred at every depth (`plane_centres`;
without a pupil, by its bright part), so lateral drift of the drive or the beam,
and coma, do not appear in x and y.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from models.calibration.assembly import assemble_calibration
from models.calibration.bead_rejection import reject_before_fit, require_beads
from models.calibration.beads import Cone, find_beads, measure_cone
from models.calibration.calibration import Calibration
from models.calibration.depth_axis import DepthAxis
from models.calibration.joint_pattern import fit_joint_pattern
from models.calibration.pixel_repair import repaired
from models.calibration.sweep import Sweep
from models.calibration.sweep_camera import estimate_camera
from models.calibration.sweep_focus import KeptPlanes, SweepFocus, bead_focus, kept_planes, wanted_range
from models.calibration.sweep_light import trimmed_to_light
from models.calibration.sweep_steps import check_steps
from models.camera import CameraModel
from models.errors import DataError
from models.memory import require_memory
from models.object_size import ObjectSize
from models.quantities import AXIAL_SCALE, DEPTH_UM, STAGE_UM

__all__ = ["calibrate"]

Progress = Callable[[float, str], None]


def calibrate(
    sweep: Sweep,
    *,
    z_range_um: tuple[float, float] | None = None,
    focus_um: float | None = None,
    camera: CameraModel | None = None,
    sign: int = 1,
    axial_scale: float = 1.0,
    mask: NDArray[np.bool_] | None = None,
    objects: ObjectSize | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Measure PSF, focus, field map and variation of the beads from a sweep.

    Parameters
    ----------
    sweep : Sweep
        Beads at many focus positions.
    z_range_um : (low, high), optional
        Depths of later localizations, µm from focus; the larger side of the sweep when not given.
    focus_um : float, optional
        Focus in sweep coordinates; found when not given.
    camera : CameraModel, optional
        Estimated from the sweep when not given.
    sign, axial_scale : int, float
        ``z_um = sign * axial_scale * (sweep position - focus)``.
    mask : ndarray of bool, shape (H, W), optional
        True where beads may be used. Beads elsewhere still count as neighbours.
    objects : ObjectSize, optional
        What is tracked, when it is larger than the beads: the pattern becomes that of such objects.
    progress : callable, optional
        Called with the share done (0..1) and the name of the step.

    Returns
    -------
    Calibration
        With `evidence` for the report.

    Raises
    ------
    DataError
        When the sweep does not allow a calibration; the message states the reason.
    """
    report = progress or (lambda done, what: None)
    _check_request(z_range_um, focus_um, sign, axial_scale, mask, sweep)
    report(0.0, "checking the sweep")
    _check_memory(sweep)
    sweep.check_exposure()
    clean = repaired(sweep)
    lit = trimmed_to_light(clean.sweep)
    sweep, notes = lit.sweep, [*clean.notes, *lit.notes]
    # Before the checks of steps and camera, so that a sweep without visible beads gets this message.
    curve = sweep.focus_curve()
    notes += check_steps(sweep)
    if camera is None:
        measured = estimate_camera(sweep)
        camera = measured.camera
        notes += measured.notes
    report(0.1, "finding beads")
    planes = camera.to_electrons(sweep.mean_planes())
    variance = (camera.read_noise_e**2 + camera.electrons_per_adu**2 / 12) / sweep.planes.shape[1]
    near = np.nonzero(curve.sharpness > 0.5)[0]
    both_sides = z_range_um is not None and z_range_um[0] < 0 < z_range_um[1]
    # Of a cross of two line foci the arms are brightest; of the mean over the planes, the centre.
    positions = find_beads(planes[near].mean(axis=0, keepdims=True) if both_sides else planes[near])
    if len(positions) == 0:
        raise DataError(
            "No bead was found around focus: nothing stands 8 noise deviations above its surroundings.",
            "Check light, exposure and focus range, and that beads do not crowd; a calibration needs at least one "
            "bright isolated bead.",
        )
    focus = focus_um if focus_um is not None else bead_focus(planes, positions, sweep.z_um, curve, both_sides)
    axis = DepthAxis(sign, axial_scale)
    z_um = axis.depth(sweep.z_um, focus)
    try:
        wanted = wanted_range(z_um, z_range_um, focus, sweep, curve, given=focus_um is not None)
    except DataError as error:
        if not lit.notes:
            raise
        raise DataError(" ".join((error.problem, *lit.notes)), error.remedy) from error
    keep = kept_planes(z_um, wanted)
    order = np.argsort(z_um[keep])
    kept = KeptPlanes(planes[keep][order], z_um[keep][order], np.nonzero(keep)[0][order])
    planes, z_um = kept.planes, kept.z_um
    cone = measure_cone(planes, positions, z_um)
    notes += _aperture_notes(cone, sweep.pixel_size_um)
    beads = reject_before_fit(positions, kept, sweep, cone, mask)
    report(0.2, f"{sum(b.used for b in beads)} of {len(beads)} beads to be aligned")
    require_beads(beads)
    # One thread: the result does not depend on the number of threads.
    with threadpool_limits(limits=1, user_api="blas"):
        joint = fit_joint_pattern(planes, z_um, beads, cone, variance, sweep.pixel_size_um, wanted, report)
        report(0.9, "joining")
        found = assemble_calibration(
            sweep,
            kept,
            joint,
            cone,
            camera,
            SweepFocus(curve, focus, focus_um is not None),
            axis,
            wanted,
            tuple(notes),
        )
    return found if objects is None else found.of_objects(objects)


def _check_request(
    z_range_um: tuple[float, float] | None,
    focus_um: float | None,
    sign: int,
    axial_scale: float,
    mask: NDArray[np.bool_] | None,
    sweep: Sweep,
) -> None:
    if z_range_um is not None and not (np.isfinite(z_range_um).all() and z_range_um[0] < z_range_um[1]):
        raise DataError(
            f"The z-range is {z_range_um[0]} to {z_range_um[1]} µm; both must be finite, "
            "and its low end must be below its high end.",
            "Give --z-range-um LOW HIGH, for example 3 55.",
        )
    if focus_um is not None and not np.isfinite(focus_um):
        raise DataError(f"The focus is {focus_um} µm; it must be a number.", "Leave --focus-um out to have it found.")
    for depth in z_range_um or ():
        DEPTH_UM.check(depth)
    if focus_um is not None:
        STAGE_UM.check(focus_um)
    if sign not in (-1, 1) or not AXIAL_SCALE.holds(axial_scale):
        raise DataError(
            f"The direction is {sign} and the axial scale {axial_scale}; the first is 1 or -1, the second positive, "
            f"from {AXIAL_SCALE.low:g} to {AXIAL_SCALE.high:g}.",
            "The axial scale is sample index over immersion index: 1 in air, about 1.33 from air into water.",
        )
    if mask is not None and mask.shape != sweep.shape:
        raise DataError(
            f"The mask has shape {mask.shape}, the sweep's planes {sweep.shape}; both must be alike.",
            "Make the mask for the whole field.",
        )


# Copies of the sweep's mean planes in single precision that exist at once, while its steps are checked.
_PLANE_COPIES = 6
# Radius of a pattern per depth: numerical apertures from 0.01 to 1.49 in oil.
_PLAUSIBLE_SLOPES = (0.01, 6.0)
# Beyond them by this factor a unit is wrong.
_FAR_OFF = 4.0


def _check_memory(sweep: Sweep) -> None:
    count, _, height, width = sweep.planes.shape
    require_memory(
        4.0 * _PLANE_COPIES * count * height * width,
        f"The calibration from {count} planes of {width} x {height} pixels",
        "Crop the sweep to a part of the field, or leave out planes beyond the wanted range.",
    )


def _aperture_notes(cone: Cone, pixel_size_um: float) -> tuple[str, ...]:
    """Note or error on implausible units: the radius per depth is the tangent of the aperture angle."""
    slope = cone.slope_px * pixel_size_um
    low, high = _PLAUSIBLE_SLOPES
    if slope <= 0 or low <= slope <= high:
        return ()
    problem = (
        f"Patterns grow by {slope:.2g} µm in radius for each µm of depth, which no objective does ({low:g} to {high:g})"
    )
    if not low / _FAR_OFF <= slope <= high * _FAR_OFF:
        raise DataError(
            f"{problem}: the pixel size ({pixel_size_um:g} µm) or the step of the sweep is wrong.",
            "Give both in µm: --pixel-size-um is the camera's pixel divided by the magnification, --z-step-um the way "
            "between two planes.",
        )
    return (f"{problem}: check the pixel size ({pixel_size_um:g} µm) and the step of the sweep.",)

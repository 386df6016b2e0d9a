"""Calibration from a script: a z-sweep of beads becomes what the optics do to a point of light."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.calibration import calibrating
from models.calibration.calibration import Calibration
from models.calibration.report import with_report
from models.calibration.sweep import Sweep
from models.errors import DataError
from models.object_size import ObjectSize
from service.files.camera_choice import camera_model
from service.files.outputs import complete_output
from service.files.recorded_sweep import open_recorded_sweep

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from models.camera import CameraModel

__all__ = ["calibrate"]


def calibrate(
    sweep: str | Path | NDArray[Any],
    out: str | Path | None = None,
    *,
    pixel_size_um: float | None = None,
    z_step_um: float | None = None,
    z_start_um: float | None = None,
    z_range_um: tuple[float, float] | None = None,
    focus_um: float | None = None,
    flip_z: bool = False,
    axial_scale: float = 1.0,
    camera: CameraModel | str | Path | None = None,
    object_diameter_um: float | None = None,
    bead_diameter_um: float = 0.0,
    progress: Callable[[float, str], None] | None = None,
) -> Calibration:
    """Learn the optics from one z-sweep of beads.

    Parameters
    ----------
    sweep : str, Path or ndarray of uint16, shape (Z, H, W) or (Z, R, H, W)
        File or folder of the sweep, or its camera counts; R repeats of each plane.
    out : str or Path, optional
        Folder that receives the calibration and its report. A calibration that is there is replaced
        when the new one is complete.
    pixel_size_um, z_step_um : float, optional
        Camera pixel at the sample and step from plane to plane, µm. Both are needed for an array;
        for a file they are needed when the file does not state them.
    z_start_um : float, optional
        Sweep coordinate of the first plane, µm; 0 by default.
    z_range_um : (low, high), optional
        Depths to distinguish later, µm from focus; the larger side of the sweep by default.
    focus_um : float, optional
        Focus in sweep coordinates, µm; measured by default.
    flip_z : bool
        The sweep runs toward the objective.
    axial_scale : float
        Depth in the sample per step of the sweep.
    camera : CameraModel, str or Path, optional
        Camera, its name (`bathyscope cameras`), or the file that `bathyscope camera` wrote; estimated from the sweep
        by default.
    object_diameter_um : float, optional
        Diameter of the objects that will be tracked, when they are larger than the beads, µm: the pattern of a sphere
        is computed from that of the beads.
    bead_diameter_um : float
        Diameter of the beads, µm; 0: points.
    progress : callable, optional
        Called with the share done (0 to 1) and the name of the step.

    Returns
    -------
    Calibration
        Remarks are in ``report["notes"]``.

    Raises
    ------
    DataError
        When nothing can be learned from the sweep; the message states why and what to do.
    MicroscopeError
        When the file cannot be read, or contradicts `pixel_size_um` or `z_step_um`.

    Warns
    -----
    UserWarning
        For each remark on the file.

    Examples
    --------
    Two beads on a slide, simulated; depth grows by 2 µm from plane to plane:

    >>> import bathyscope, numpy as np
    >>> from models.scene import reference_camera, slide_scene
    >>> slide, camera = slide_scene((128, 128), emitters=2), reference_camera()
    >>> depths = range(-6, 18, 2)
    >>> planes = np.stack([camera.expose(slide.render(0, 0.003, -z), seed=i) for i, z in enumerate(depths)])
    >>> lengths = dict(pixel_size_um=0.65, z_step_um=2, z_start_um=-6, z_range_um=(0, 12))
    >>> calibration = bathyscope.calibrate(planes, "calibration", **lengths, camera=camera)
    >>> calibration.report["beads_used"], abs(calibration.focus_um) < 0.5
    (2, True)

    The folder holds ``report.html``, and is loaded again by:

    >>> from pathlib import Path
    >>> bathyscope.Calibration.load(Path("calibration")).z_range_um
    (0.0, 12.0)
    """
    objects = None if object_diameter_um is None else ObjectSize(object_diameter_um, bead_diameter_um)
    remarks: list[str] = []
    taken = _sweep(sweep, remarks.append, pixel_size_um, z_step_um, z_start_um)
    for remark in remarks:
        warnings.warn(remark, stacklevel=2)

    def learn() -> Calibration:
        return calibrating.calibrate(
            taken,
            z_range_um=z_range_um,
            focus_um=focus_um,
            camera=camera_model(camera),
            sign=-1 if flip_z else 1,
            axial_scale=axial_scale,
            objects=objects,
            progress=progress,
        )

    if out is None:
        return learn()
    with complete_output(Path(out), Calibration.is_folder) as aside:
        found = with_report(learn())
        found.save(aside)
    return found


def _sweep(
    sweep: str | Path | NDArray[Any],
    note: Callable[[str], None],
    pixel_size_um: float | None,
    z_step_um: float | None,
    z_start_um: float | None,
) -> Sweep:
    if isinstance(sweep, str | Path):
        return open_recorded_sweep(Path(sweep), note, pixel_size_um, z_step_um, z_start_um)
    if pixel_size_um is None or z_step_um is None:
        raise DataError(
            "The sweep is an array, which states neither pixel size nor step.", "Give pixel_size_um and z_step_um."
        )
    return Sweep.from_steps(sweep, pixel_size_um=pixel_size_um, z_step_um=z_step_um, z_start_um=z_start_um)

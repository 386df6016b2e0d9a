"""How near a calibrated pattern is to the true one, depth by depth.

The PSF model error causes errors of localization even without noise. A
shift in depth or sideways is an error of position, not of the pattern, so
intensity, position and depth are fitted first and the residual is reported
separately.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.psf import Psf

__all__ = ["PatternError", "pattern_error", "pattern_errors"]

F64 = NDArray[np.float64]

_TURNS = 5
_STEP_UM = 0.02
"""Of the derivatives: far below the detail of any pattern, far above single precision."""

_LONGEST_UM = 0.5


@dataclass(frozen=True, slots=True)
class PatternError:
    """A plane of a calibrated pattern beside the true pattern.

    Attributes
    ----------
    z_um : float
        Depth that the calibration states.
    relative : float
        Root mean square of the difference over that of the true pattern; light, place and depth fitted.
    light : float
        Calibrated over true light.
    shift_um : (float, float)
        How far the calibrated pattern lies beside the true one (x, y).
    depth_um : float
        True depth of the pattern less the stated one.
    negative : float
        Deepest negative value over the highest value.
    """

    z_um: float
    relative: float
    light: float
    shift_um: tuple[float, float]
    depth_um: float
    negative: float


def pattern_errors(calibrated: Psf, true: Psf, depths_um: Iterable[float], focus_um: float = 0.0) -> list[PatternError]:
    """One `pattern_error` for each depth."""
    return [pattern_error(calibrated, true, float(z), focus_um) for z in depths_um]


def pattern_error(calibrated: Psf, true: Psf, z_um: float, focus_um: float = 0.0) -> PatternError:
    """How wrong the calibrated pattern is at one depth.

    Parameters
    ----------
    calibrated, true : Psf
        Of the same pixel size; compared on the samples of the first.
    z_um : float
        Depth in the calibration's coordinates.
    focus_um : float
        What to add for the true pattern's coordinates: the calibration's focus.
    """
    half = calibrated.planes.shape[1] // 2
    grid = np.arange(-half, half + 1) * calibrated.pixel_size_um / calibrated.oversampling
    measured = calibrated.evaluate(grid[None], grid[:, None], np.array(z_um)).ravel()

    def image(figures: F64) -> F64:
        light, x, y, z = figures
        values = true.evaluate(grid[None] - x, grid[:, None] - y, np.array(z_um + focus_um + z))
        return np.asarray(light * values.ravel(), np.float64)

    figures = np.array([1.0, 0.0, 0.0, 0.0])
    for _ in range(_TURNS):
        steps = _STEP_UM * np.eye(4)[1:]
        slopes = [(image(figures + step) - image(figures - step)) / (2 * _STEP_UM) for step in steps]
        columns = np.stack([image(figures) / figures[0], *slopes], axis=1)
        change = np.linalg.lstsq(columns, measured - image(figures), rcond=None)[0]
        figures += np.clip(change, -_LONGEST_UM, _LONGEST_UM)
    fitted = image(figures)
    light, x, y, z = (float(v) for v in figures)
    return PatternError(
        z_um=z_um,
        relative=float(np.linalg.norm(measured - fitted) / np.linalg.norm(fitted)),
        light=light,
        shift_um=(x, y),
        depth_um=z,
        negative=float(max(-measured.min(), 0.0) / measured.max()),
    )

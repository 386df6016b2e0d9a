"""Reject beads of a sweep that cannot be used for the pattern, each with a reason."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.bead_cutouts import crop_radius
from models.calibration.bead_stack import BeadFit, BeadStack
from models.calibration.beads import Bead, Cone, crowding
from models.calibration.sweep import Sweep
from models.calibration.sweep_focus import KeptPlanes
from models.errors import DataError

__all__ = ["at_fitted_position", "reject_after_fit", "reject_before_fit", "require_beads"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

# Most pixels of all cut-outs together; beyond it the least isolated beads are rejected. 1e8 float32 are 0.4 GB, and
# there are three such arrays.
_MOST_SAMPLES = 75_000_000
# A bead whose pattern's signal-to-noise (matched filter, median plane) is lower is dim.
_DIM_SNR = 10.0
# A bead is unlike the others when its misfit exceeds their median by this many robust deviations (and by a half).
_MISFIT_SIGMAS = 6.0
# A bead has moved when it deviates from the common drift by more than this, pixels, and by 5 times the median.
_STRAY_PX = 0.75
# A bead came off or appeared when it has less than this share of its light, relative to the others, at so many planes.
_GONE_SHARE = 0.2
_GONE_PLANES = 0.15
# Height of a position over its surroundings, far from focus over near it: above this it does not change with focus,
_STEADY_SHARE = 0.7
# provided that the median over the positions is below this.
_CHANGING_SHARE = 0.4
# Half width of the position, pixels.
_PLACE_PX = 1
# A rejected bead gets its fitted position when that is no farther from its brightest pixel, pixels.
_ASTRAY_PX = 3.0


def reject_before_fit(
    positions: F64, kept: KeptPlanes, sweep: Sweep, cone: Cone, mask: NDArray[np.bool_] | None
) -> list[Bead]:
    """Candidates, with a reason for those that are rejected before the patterns are fitted.

    Parameters
    ----------
    positions : ndarray of float64, shape (N, 2)
        x, y of the candidates, pixels.
    kept : KeptPlanes
    sweep : Sweep
    cone : Cone
    mask : ndarray of bool, shape (H, W), optional
        True where beads may be used.
    """
    planes, z_um = kept.planes, kept.z_um
    height, width = sweep.shape
    distance = crowding(positions)
    reach = float(cone.at(z_um).max())
    top = sweep.saturation_adu
    centre_plane = int(np.abs(z_um).argmin())
    first, last = max(centre_plane - 2, 0), centre_plane + 3
    kept_light = _light_far_from_focus(positions, planes)
    dirt = (kept_light > _STEADY_SHARE) & (np.median(kept_light) < _CHANGING_SHARE)
    beads = []
    for (x, y), nearest, share, steady in zip(positions, distance, kept_light, dirt, strict=True):
        row, column = round(y), round(x)
        edge = min(x, y, width - 1 - x, height - 1 - y)
        size = int(np.ceil(cone.focus_px))
        rows, columns = slice(max(row - size, 0), row + size + 1), slice(max(column - size, 0), column + size + 1)
        block = planes[first:last, rows, columns]
        photons = float(np.median((block - np.median(planes[first:last], axis=(1, 2), keepdims=True)).sum(axis=(1, 2))))
        reason = ""
        if mask is not None and not mask[min(row, height - 1), min(column, width - 1)]:
            reason = "outside the places chosen for calibration"
        elif steady:
            reason = f"no bead: it keeps {share:.0%} of its height at every plane, so it does not change with focus"
        elif edge < 0.5 * reach:
            reason = f"at the edge: {edge:.0f} px from it, the pattern grows to a radius of {reach:.0f} px"
        elif nearest < 2 * cone.focus_px:
            reason = f"touching: the next bead is {nearest:.1f} px away, {2 * cone.focus_px:.1f} are needed in focus"
        elif int(sweep.planes[kept.numbers][:, :, rows, columns].max()) >= top:
            reason = f"saturated: pixels reach {top} counts"
        beads.append(Bead(float(x), float(y), photons, reason))
    return _limit_number(beads, distance, reach, len(z_um))


def _light_far_from_focus(positions: F64, planes: F32) -> F64:
    """Height of each position over its surroundings, lowest plane over highest plane, shape (N,)."""
    height, width = planes.shape[1:]
    out = np.empty(len(positions))
    for index, (x, y) in enumerate(positions):
        row, column = min(max(round(y), 0), height - 1), min(max(round(x), 0), width - 1)
        near, wide = _PLACE_PX, 5 * _PLACE_PX
        spot = planes[:, max(row - near, 0) : row + near + 1, max(column - near, 0) : column + near + 1]
        ring = planes[:, max(row - wide, 0) : row + wide + 1, max(column - wide, 0) : column + wide + 1]
        rise = spot.mean(axis=(1, 2)) - np.median(ring, axis=(1, 2))
        low, high = np.percentile(rise, [5, 95])
        out[index] = low / max(float(high), 1e-9)
    return out


def _limit_number(beads: list[Bead], distance: F64, reach: float, planes: int) -> list[Bead]:
    width = 2 * crop_radius(reach) + 1
    most = max(int(_MOST_SAMPLES / (planes * width**2)), 4)
    usable = [index for index, bead in enumerate(beads) if bead.used]
    if len(usable) <= most:
        return beads
    isolated = set(sorted(usable, key=lambda index: -distance[index])[:most])
    return [
        replace(bead, reason="not needed: enough beads that are more isolated")
        if bead.used and i not in isolated
        else bead
        for i, bead in enumerate(beads)
    ]


def require_beads(beads: list[Bead]) -> None:
    """Raise when all beads are rejected.

    Raises
    ------
    DataError
        With the number of beads for each reason.
    """
    if any(bead.used for bead in beads):
        return
    reasons: dict[str, int] = {}
    for bead in beads:
        name = bead.reason.split(":")[0]
        reasons[name] = reasons.get(name, 0) + 1
    listed = ", ".join(f"{count} {name}" for name, count in sorted(reasons.items(), key=lambda item: -item[1]))
    raise DataError(
        f"None of the {len(beads)} beads found can be used ({listed}); at least one is needed.",
        "Prepare a thinner sample with beads apart from each other and from the edge; expose less if beads saturate.",
    )


def reject_after_fit(beads: list[Bead], stack: BeadStack, fit: BeadFit, model: F32, variance: float) -> list[Bead]:
    """Reject beads that came off, are dim, moved, or differ from the others."""
    used = np.array([bead.used for bead in beads])
    energy = np.sqrt(np.einsum("bzij,bzij->bz", model, model, dtype=np.float64))
    snr = np.median(stack.light * energy / np.sqrt(variance + np.maximum(stack.background, 0) + 1e-12), axis=1)
    common = np.median(fit.shift[used, :, :2], axis=0)
    stray = np.sqrt(np.median(((fit.shift[:, :, :2] - common) ** 2).sum(axis=2), axis=1))
    usual_stray = float(np.median(stray[used]))
    misfit = np.median(fit.misfit, axis=1)
    centre = float(np.median(misfit[used]))
    spread = 1.4826 * float(np.median(np.abs(misfit[used] - centre)))
    limit = max(centre + _MISFIT_SIGMAS * spread, 1.5 * centre, 0.05)
    relative = fit.light / np.maximum(np.percentile(fit.light, 75, axis=1, keepdims=True), 1e-9)
    relative = relative / np.maximum(np.median(relative[used], axis=0), 1e-9)
    gone = (relative < _GONE_SHARE).mean(axis=1)
    out = []
    for index, bead in enumerate(beads):
        reason = bead.reason
        if not reason:
            if gone[index] > _GONE_PLANES:
                reason = f"came off: at {gone[index]:.0%} of the planes it has little of its light"
            elif snr[index] < _DIM_SNR:
                reason = f"dim: signal-to-noise {snr[index]:.1f}, at least {_DIM_SNR:.0f} is needed"
            elif stray[index] > max(_STRAY_PX, 5 * usual_stray):
                reason = f"moved: deviates {stray[index]:.2f} px from the common drift, others {usual_stray:.2f}"
            elif misfit[index] > limit:
                reason = f"unlike the others: differs by {misfit[index]:.0%} of its signal, others by {centre:.0%}"
        out.append(replace(bead, reason=reason))
    return out


def at_fitted_position(bead: Bead, x_px: float, y_px: float) -> Bead:
    """A rejected bead at its fitted position, unless the fit moved too far."""
    return replace(bead, x_px=x_px, y_px=y_px) if np.hypot(x_px - bead.x_px, y_px - bead.y_px) < _ASTRAY_PX else bead

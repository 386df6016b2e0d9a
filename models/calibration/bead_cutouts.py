"""Cut beads out of the planes of a sweep, and estimate their light, background and drift."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from models.calibration.bead_stack import BeadStack
from models.calibration.beads import Bead, Cone
from models.memory import require_memory

__all__ = ["crop_radius", "cut_beads", "first_light"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


# Of the arrays of cut-outs that exist at once: as recorded, without neighbours (twice), model, and two masks.
_BYTES_A_SAMPLE = 4 * 4 + 2


def crop_radius(reach: float) -> int:
    """Half width of the cut-outs for patterns of radius `reach`, pixels."""
    return int(np.ceil(1.2 * reach)) + 4


def cut_beads(planes: F32, z_um: F64, beads: list[Bead], cone: Cone) -> tuple[BeadStack, F32, NDArray[np.uint8]]:
    """Cut-outs, the data as recorded, and a mask without the pixels that contain light of neighbours."""
    radius = crop_radius(float(cone.at(z_um).max()))
    width = 2 * radius + 1
    count = len(beads)
    samples = float(count * len(planes) * width**2)
    require_memory(
        _BYTES_A_SAMPLE * samples,
        f"The calibration from {count} places of {width} x {width} pixels in {len(planes)} planes",
        "Crop the sweep to a part of the field, ask for a smaller --z-range-um, or check the pixel size and the step.",
    )
    padded = np.pad(planes, ((0, 0), (radius, radius), (radius, radius)))
    inside = np.pad(np.ones(planes.shape[1:], np.uint8), radius)
    data = np.empty((count, len(planes), width, width), np.float32)
    seen = np.empty(data.shape, np.uint8)
    corner = np.empty((count, 2), np.int64)
    x = np.array([bead.x_px for bead in beads])
    y = np.array([bead.y_px for bead in beads])
    for index in range(count):
        row, column = round(y[index]), round(x[index])
        corner[index] = row - radius, column - radius
        data[index] = padded[:, row : row + width, column : column + width]
        seen[index] = inside[row : row + width, column : column + width]
    apart = seen.copy()
    reach = cone.at(z_um) + 1
    for index in range(count):
        rows = np.arange(width)[:, None] + corner[index, 0]
        columns = np.arange(width)[None, :] + corner[index, 1]
        for other in range(count):
            gap = np.hypot(x[other] - x[index], y[other] - y[index])
            if other == index or gap > radius * np.sqrt(2) + reach.max():
                continue
            near = np.hypot(rows - y[other], columns - x[other])
            apart[index][near[None] < reach[:, None, None]] = 0
    light = np.ones((count, len(planes)))
    stack = BeadStack(
        data.copy(),
        seen,
        corner,
        x,
        y,
        np.zeros(count),
        z_um.copy(),
        np.zeros((len(planes), 2)),
        light,
        np.zeros_like(light),
        np.zeros((count, len(planes), 3)),
    )
    return stack, data, apart


def first_light(
    stack: BeadStack, beads: list[Bead], used: NDArray[np.bool_], apart: NDArray[np.uint8], cone: Cone
) -> BeadStack:
    """First estimates: background beside each pattern, light of isolated beads, and drift of their centres."""
    count, planes = stack.light.shape
    reach = cone.at(stack.z_um)
    rows, columns = np.indices((stack.width, stack.width))
    background = np.zeros((count, planes))
    share = np.zeros((count, planes))
    sums = np.zeros((count, planes))
    centre = np.zeros((count, planes, 2))
    for b in range(count):
        dx = columns + stack.corner[b, 1] - stack.x_px[b]
        dy = rows + stack.corner[b, 0] - stack.y_px[b]
        distance = np.hypot(dx, dy)
        for k in range(planes):
            pixels = stack.data[b, k]
            ring = (distance > reach[k] + 1) & (apart[b, k] > 0)
            valid = stack.seen[b, k] > 0
            background[b, k] = np.median(pixels[ring]) if ring.sum() >= 20 else np.percentile(pixels[valid], 20)
            own = distance <= reach[k]
            share[b, k] = (apart[b, k] > 0)[own].mean()
            light = (pixels - background[b, k]) * own
            sums[b, k] = light.sum()
            centre[b, k] = (light * dx).sum(), (light * dy).sum()
    # Without pixels beside the pattern, the background is the median of the plane.
    bare = share < 0.3
    background = np.where(bare, np.median(background, axis=0, keepdims=True), background)
    brightness = np.maximum(np.array([bead.photons for bead in beads]), 1e-6)
    relative = np.ones(planes)
    walk = np.zeros((planes, 2))
    for k in range(planes):
        isolated = used & (share[:, k] >= np.sort(share[used, k])[-max(int(used.sum()) // 3, min(int(used.sum()), 3))])
        relative[k] = max(float(np.median(sums[isolated, k] / brightness[isolated])), 1e-6)
        with np.errstate(divide="ignore", invalid="ignore"):
            walk[k] = np.nanmedian(
                centre[isolated, k] / np.where(sums[isolated, k] > 0, sums[isolated, k], np.nan)[:, None], axis=0
            )
    walk = np.nan_to_num(walk) - np.nan_to_num(walk[np.abs(stack.z_um).argmin()])
    smooth = np.stack([_smooth(stack.z_um, walk[:, axis]) for axis in range(2)], axis=1)
    return replace(stack, light=brightness[:, None] * relative[None, :], background=background, walk_px=smooth)


def _smooth(z_um: F64, values: F64, degree: int = 3) -> F64:
    """Robust low-order polynomial through `values`, zero in focus."""
    scale = float(np.abs(z_um).max())
    basis = np.stack([(z_um / scale) ** power for power in range(degree + 1)], axis=1)
    weight: F64 = np.ones(len(values))
    solution: F64 = np.zeros(degree + 1)
    for _ in range(8):
        solution = np.asarray(np.linalg.lstsq(basis * weight[:, None], values * weight, rcond=None)[0], np.float64)
        rest = np.abs(values - basis @ solution)
        weight = np.asarray(np.sqrt(1 / (1 + (rest / max(1.5 * float(np.median(rest)), 1e-6)) ** 2)), np.float64)
    return np.asarray(basis @ solution - solution[0], np.float64)

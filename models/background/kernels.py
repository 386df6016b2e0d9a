"""The compiled loops over the pixels of a frame; each takes well below 0.1 ms for 256 x 256 pixels, on one thread."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

__all__ = ["add_frame", "low_order_statistic", "mark_peaks", "remove_counts"]

_HIGHEST = np.float32(3e38)
"""Above any light; infinity is not allowed with fastmath."""


@numba.njit(cache=True, nogil=True)
def add_frame(counts: Any, total: Any, side: Any, squares: Any) -> None:
    """Add counts (H, W) to `total` of uint32, in place, and write the sums over squares of `side` pixels.

    The last squares of a row and of a column may be incomplete.
    """
    rows, columns = counts.shape
    squares[:] = 0
    for row in range(rows):
        of_row = squares[row // side]
        for square in range(of_row.shape[0]):
            light = np.uint32(0)
            for column in range(square * side, min((square + 1) * side, columns)):
                count = np.uint32(counts[row, column])
                total[row, column] += count
                light += count
            of_row[square] += light


@numba.njit(cache=True, nogil=True, fastmath=True)
def low_order_statistic(blocks: Any, rank: Any, found: Any) -> None:
    """The value of this rank (1: the lowest) over the blocks (N, H, W) at each pixel, written to `found` (H, W)."""
    count, rows, columns = blocks.shape
    lowest = np.empty((rank, columns), np.float32)
    moving = np.empty(columns, np.float32)
    for row in range(rows):
        lowest[:] = _HIGHEST
        for n in range(count):
            moving[:] = blocks[n, row]
            for place in range(rank):
                kept = lowest[place]
                # One compare-exchange for all pixels of the row, so that the loop becomes vector instructions.
                for column in range(columns):
                    here, there = moving[column], kept[column]
                    kept[column] = min(here, there)
                    moving[column] = max(here, there)
        found[row] = lowest[rank - 1]


@numba.njit(cache=True, nogil=True)
def remove_counts(counts: Any, light: Any, kept: Any, factor: Any, offset: Any, level: Any, top: Any, out: Any) -> None:
    """Replace the light of a frame by its level: ``offset + factor level + kept (counts - offset - factor light)``.

    All in counts (ADU); rounded, and clipped to 0 and `top`.
    """
    rows, columns = counts.shape
    base = np.float32(offset + factor * level + 0.5)
    for row in range(rows):
        for column in range(columns):
            above = np.float32(counts[row, column]) - offset - factor * light[row, column]
            value = base + kept[row, column] * above
            out[row, column] = np.uint16(min(max(value, np.float32(0.0)), top))


@numba.njit(cache=True, nogil=True)
def mark_peaks(light: Any, sigmas: Any, read_variance: Any, peaks: Any) -> None:
    """Mark pixels that exceed all neighbours by `sigmas` standard deviations of the noise, in `peaks` (H, W)."""
    rows, columns = light.shape
    for row in range(rows):
        for column in range(columns):
            highest = np.float32(0.0)
            for r in range(max(row - 1, 0), min(row + 2, rows)):
                for c in range(max(column - 1, 0), min(column + 2, columns)):
                    if (r != row or c != column) and light[r, c] > highest:
                        highest = light[r, c]
            above = light[row, column] - highest
            peaks[row, column] = above > 0 and above * above > sigmas * sigmas * (highest + read_variance)

"""The input of a network directly from a camera's counts, on a processor.

A camera has few different counts, so square root and inverse hyperbolic sine
of single pixels come from a table: the same values as
`models.networks.stabilize` in a tenth of the time.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from models.camera import CameraModel
from models.networks.levels import to_levels
from models.networks.stabilize import anscombe_transform, compress_above_median, median_step

__all__ = ["CountStabilizer"]

_BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.uint8: torch.uint8}
"""numba knows no bfloat16: the kernel only moves the bits."""

_TABLES = 64
"""Number of tables kept, one for each median; the medians of a movie differ by a few counts."""


class CountStabilizer:
    """Makes the stabilized maps of a network from counts.

    Parameters
    ----------
    cell_px : int
        Pixels, each way, that become channels of the first map.
    binnings : tuple of int
        1, then the binnings of the other maps, each a multiple of the one before.
    dtype : torch.dtype
        Of the maps.
    code : (float, int), optional
        Scale and zero with which the single pixels become 8-bit levels.
    """

    def __init__(
        self, cell_px: int, binnings: tuple[int, ...], dtype: torch.dtype, code: tuple[float, int] | None = None
    ) -> None:
        self._cell_px = cell_px
        self._binnings = binnings
        self._dtype = dtype
        self._code = code
        self._tables: OrderedDict[tuple[CameraModel, int], Tensor] = OrderedDict()

    def __call__(self, counts: NDArray[np.uint16], camera: CameraModel) -> list[Tensor]:
        """Maps of frames.

        Parameters
        ----------
        counts : ndarray of uint16, shape (B, H, W)
            H and W multiples of every binning.
        camera : CameraModel

        Returns
        -------
        list of Tensor
            Single pixels (B, cell_px**2, H / cell_px, W / cell_px), channels last, then the binned frames
            (B, 1, H / binning, W / binning).
        """
        frames, height, width = counts.shape
        step = median_step(height, width)
        samples = np.sort(counts[:, ::step, ::step].reshape(frames, -1), axis=1)
        medians = samples[:, (samples.shape[1] - 1) // 2]  # the lower of two, as torch.median
        tables = torch.stack([self._table(camera, int(median)) for median in medians])
        cells = torch.empty(
            (frames, height // self._cell_px, width // self._cell_px, self._cell_px**2), dtype=tables.dtype
        )
        finest = self._binnings[1]
        sums = np.empty((frames, height // finest, width // finest), np.int64)
        bits = _BITS[tables.dtype]
        _look_up(counts, tables.view(bits).numpy(), self._cell_px, cells.view(bits).numpy(), finest, sums)
        electrons = (sums - finest**2 * camera.offset_adu) * camera.electrons_per_adu
        summed = torch.from_numpy(electrons.astype(np.float32))[:, None]
        noise = torch.full((frames,), camera.read_noise_e)
        maps = [cells.permute(0, 3, 1, 2)]
        done = finest
        for binning in self._binnings[1:]:
            factor = binning // done
            if factor > 1:
                summed, done = torch.nn.functional.avg_pool2d(summed, factor) * factor**2, binning
            maps.append(compress_above_median(anscombe_transform(summed, noise, binning)).to(self._dtype))
        return maps

    def _table(self, camera: CameraModel, median: int) -> Tensor:
        """Stabilized value of every count for a frame with this median."""
        key = (camera, median)
        if key not in self._tables:
            levels = np.arange(1 << camera.bit_depth if camera.bit_depth > 8 else 1 << 16).astype(np.uint16)
            electrons = torch.from_numpy(camera.to_electrons(levels))[None, None, None]
            roots = anscombe_transform(electrons, torch.full((1,), camera.read_noise_e), 1)[0, 0, 0]
            values = torch.asinh(roots - roots[median])
            self._tables[key] = values.to(self._dtype) if self._code is None else to_levels(values, *self._code)
            if len(self._tables) > _TABLES:
                self._tables.popitem(last=False)
        self._tables.move_to_end(key)
        return self._tables[key]


@njit(cache=True, nogil=True)
def _look_up(counts, tables, cell, cells, finest, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    frames, height, width = counts.shape
    for b in range(frames):
        table = tables[b]
        for y in range(height):
            if y % finest == 0:
                for column in range(width // finest):
                    sums[b, y // finest, column] = 0
            row, within = y // cell, (y % cell) * cell
            for column in range(width // cell):
                for dx in range(cell):
                    cells[b, row, column, within + dx] = table[counts[b, y, column * cell + dx]]
            for column in range(width // finest):
                total = 0
                for dx in range(finest):
                    total += counts[b, y, column * finest + dx]
                sums[b, y // finest, column] += total

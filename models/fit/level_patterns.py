"""Rendered patterns of the emitters of an image, on cells of three sizes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.fit.image_levels import LevelImage
from models.fit.layout import Layout
from models.fit.piece_rendering import render_pieces

__all__ = ["LevelPatterns"]

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LevelPatterns:
    """Patterns of N emitters in three pieces each: two cores and the whole.

    Piece k N + e is that of emitter e on cells of side 1, 2 or 4 pixels (k = 0, 1, 2).

    Attributes
    ----------
    layout : Layout
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    offsets : ndarray of int64, shape (3 N + 1,)
        First index of each piece in the following.
    share : ndarray of float32
        Light, d/dx, d/dy, d/dz of a photon for each cell, piece by piece; zero where a finer piece has the light. x and
        y in camera pixels.
    detail : ndarray of float32
        Light of the cores beyond that of coarser cells, interpolated; piece by piece, at a quarter of the offsets.
    removed : ndarray of float32
        What was left out of `share` on coarser cells: of a core on cells of side s, light and derivatives on cells of
        2 s, at a quarter of the offsets.
    """

    layout: Layout
    emitters: Array
    offsets: NDArray[np.int64]
    share: NDArray[np.float32]
    detail: NDArray[np.float32]
    removed: NDArray[np.float32]

    @classmethod
    def of(
        cls, image: LevelImage, emitters: Array, layout: Layout, before: LevelPatterns | None = None
    ) -> LevelPatterns:
        """Render emitters; the first ones keep the patterns of `before` if they have not moved, with the same boxes."""
        boxes = layout.boxes.reshape(-1, 4)
        sizes = 4 * (boxes[:, 1] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 2])
        offsets = np.zeros(len(boxes) + 1, np.int64)
        np.cumsum(sizes, out=offsets[1:])
        share = np.empty(int(offsets[-1]), np.float32)
        of_cores = int(offsets[2 * len(emitters)]) // 4
        detail, removed = np.empty(of_cores, np.float32), np.empty(of_cores, np.float32)
        stays = np.zeros(len(emitters), bool)
        if before is not None:
            same = slice(len(before.emitters))
            stays[same] = (emitters[same, :3] == before.emitters[:, :3]).all(axis=1)
            stays[same] &= (layout.boxes[:, same] == before.layout.boxes).all(axis=(0, 2))
            if stays.all() and len(emitters) == len(before):
                return replace(before, layout=layout, emitters=emitters)
        splines = image.optics.splines
        kept = (offsets, share, detail, removed)
        if before is not None:
            kept = (before.offsets, before.share, before.detail, before.removed)
        render_pieces(
            splines[0].coefficients,
            splines[1].coefficients,
            splines[2].coefficients,
            np.array([spline.psf.oversampling for spline in splines]),
            splines[0].psf.z_step_um,
            emitters,
            splines[0].z_index(emitters[:, 2]),
            stays,
            np.array(image.blocks),
            boxes,
            offsets,
            *kept,
            share,
            detail,
            removed,
        )
        return cls(layout, emitters, offsets, share, detail, removed)

    def __len__(self) -> int:
        return len(self.emitters)

"""Static light beneath emitters that move: both from one least-squares problem.

A low quantile of each pixel contains light of emitters where their light never
leaves, as in a vessel. Here the light of frame t is modelled as

    b + Σ_k a_k P_k(t),

with the static light b of each pixel, the patterns P_k of emitters at the
places of their tracks, and one brightness a_k for each track. For given a_k
the best b is the mean over time of what the emitters leave. So the brightnesses
follow from what changes with time: from the patterns and the frames without
their means. No iteration between b and a_k is needed, which would converge
slowly where emitters are everywhere.

A track whose emitter stands still has no part that changes, and what a track
follows may be static light itself. So only tracks that move take part.

Sums are over squares of 4 x 4 pixels; the light of the emitters is interpolated
to pixels when it is taken off their mean.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from models.binning import binned
from models.pattern_spline import PatternSpline, render_light

__all__ = ["MovingLight"]

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

_RIDGE = 1e-3
"""Relative weight that keeps brightnesses of tracks finite that hardly change anything."""


class MovingLight:
    """Sums over frames of one part of a movie, from which its static light follows.

    Parameters
    ----------
    spline : PatternSpline
        PSF on squares of `side` pixels.
    side : int
        Pixels.
    light_e : ndarray of float32, shape (H, W)
        Light of an average frame, photo-electrons; its noise sets the weights.
    """

    def __init__(self, spline: PatternSpline, side: int, light_e: F32) -> None:
        self._spline, self._side = spline, side
        self._shape = (light_e.shape[0], light_e.shape[1])
        squares = binned(light_e.astype(np.float64), side)
        self._weight = 1 / np.maximum(squares, 1.0)
        self._total = np.zeros(self._shape, np.float64)
        self._squares = np.zeros_like(squares)
        self._frames = 0
        self._rows: dict[int, int] = {}
        self._means: list[F64] = []
        self._products: dict[tuple[int, int], float] = {}
        self._with_data: list[float] = []

    def add(self, electrons: F32, track_id: I64, places: F64) -> None:
        """Add a frame.

        Parameters
        ----------
        electrons : ndarray of float32, shape (H, W)
            Photo-electrons of each pixel, at the usual brightness of the lamp.
        track_id : ndarray of int64, shape (N,)
            Each track once.
        places : ndarray of float64, shape (N, 3)
            Their apparent places in the frame: x and y in pixels, z in µm.
        """
        data = binned(electrons.astype(np.float64), self._side)
        self._total += electrons
        self._squares += data
        self._frames += 1
        rows = [self._row(number) for number in track_id.tolist()]
        patterns = self._patterns(places)
        weighted = patterns * self._weight.ravel()
        products = (weighted @ patterns.T).tolist()
        with_data = (weighted @ data.ravel()).tolist()
        for i, row in enumerate(rows):
            self._means[row] += patterns[i]
            self._with_data[row] += with_data[i]
            for j, other in enumerate(rows):
                key = (row, other)
                self._products[key] = self._products.get(key, 0.0) + products[i][j]

    def light(self, moving: I64) -> tuple[F32, F64]:
        """Static light and the brightness of tracks.

        Parameters
        ----------
        moving : ndarray of int64, shape (K,)
            Tracks that take part; others are not emitters.

        Returns
        -------
        light_e : ndarray of float32, shape (H, W)
            Photo-electrons, not negative.
        photons : ndarray of float64, shape (K,)
            Of each track in `moving`; 0 for one that was never added.
        """
        total, known = self._total / self._frames, [number for number in moving.tolist() if number in self._rows]
        photons = np.zeros(len(moving))
        if not known:
            return np.maximum(total, 0).astype(np.float32), photons
        rows = [self._rows[number] for number in known]
        means = np.stack([self._means[row] for row in rows]) / self._frames
        weighted = means * self._weight.ravel()
        products = np.array([[self._products.get((row, other), 0.0) for other in rows] for row in rows])
        products -= self._frames * (weighted @ means.T)
        with_data = np.array([self._with_data[row] for row in rows])
        with_data -= weighted @ self._squares.ravel()
        products[np.diag_indices(len(rows))] *= 1 + _RIDGE
        products[np.diag_indices(len(rows))] += np.finfo(np.float32).tiny
        # Non-negative least squares of the normal equations, by their Cholesky factor.
        factor = np.linalg.cholesky(products)
        brightness, _ = optimize.nnls(factor.T, np.linalg.solve(factor, with_data))
        photons[np.isin(moving, known)] = brightness
        emitters = (brightness @ means).reshape(self._squares.shape) / self._side**2
        return np.maximum(total - _on_pixels(emitters, self._side, self._shape), 0).astype(np.float32), photons

    def _row(self, track_id: int) -> int:
        if track_id not in self._rows:
            self._rows[track_id] = len(self._means)
            self._means.append(np.zeros(self._squares.size))
            self._with_data.append(0.0)
        return self._rows[track_id]

    def _patterns(self, places: F64) -> F64:
        """Unit emitters on the squares, shape (N, squares)."""
        spline, side = self._spline, self._side
        shape = (self._squares.shape[0], self._squares.shape[1])
        shift = (side - 1) / 2
        x_px, y_px, z_um = np.ascontiguousarray(places.T)
        boxes = spline.boxes((x_px - shift) / side, (y_px - shift) / side, z_um, shape)
        depths = spline.z_index(z_um)
        patterns = np.zeros((len(places), *shape))
        for image, x, y, z, box in zip(patterns, x_px, y_px, depths, boxes, strict=True):
            part = np.zeros((4, box[1] - box[0], box[3] - box[2]), np.float32)
            if part.size == 0:
                continue
            step_um, oversampling = spline.psf.z_step_um, spline.psf.oversampling
            render_light(spline.coefficients, side, x, y, z, step_um, oversampling, box, part)
            image[box[0] : box[1], box[2] : box[3]] = part[0]
        return patterns.reshape(len(places), self._squares.size)


def _on_pixels(squares: F64, side: int, shape: tuple[int, int]) -> F64:
    """Light per pixel of squares, interpolated to the pixels of an image (H, W)."""
    rows, columns = ((np.arange(length) + 0.5) / side - 0.5 for length in shape)
    grid = np.meshgrid(rows, columns, indexing="ij")
    pixels: F64 = ndimage.map_coordinates(squares, grid, order=3, mode="nearest")
    return pixels

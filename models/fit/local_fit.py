"""Fit a few emitters in a window of a joint fit, all others fixed.

Steps of a joint fit cannot correct two errors: two emitters fitted by one, and
one at negative defocus fitted at positive defocus. Alternatives are fitted in
the window of one pattern, which costs as much as that pattern alone. Only
accepted ones enter the fit of the whole frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.joint_fit import Bounds, Convergence, FitFrame, JointFit, fit_jointly
from models.fit.scale import FitScale
from models.pattern_spline import render_pattern

__all__ = ["LocalView", "render_emitter"]

Array = NDArray[np.float64]

_SPARE_PX = 4
"""Pixels around the pattern, for emitters beside it."""

_CONVERGENCE = Convergence(iterations=15, least_gain=0.3)

_REACH_UM = 6.0
"""Largest lateral distance of the new emitters from the old one."""


@dataclass(frozen=True, slots=True)
class LocalView:
    """Window around one emitter of a joint fit, or around a few close ones.

    Attributes
    ----------
    scale : FitScale
    emitters : ndarray of float64, shape (N, 4)
        x, y (pixels of the window), z (µm), photons.
    origin : ndarray of float64, shape (4,)
        Added to emitters of the window, gives those of the frame.
    data : ndarray of float32, shape (h, w)
        The window, read variance included.
    expected : ndarray of float32, shape (h, w)
        Model of the joint fit in the window.
    backdrop : ndarray of float32, shape (h, w)
        Light of all other emitters.
    background : float
        Photo-electrons per pixel.
    """

    scale: FitScale
    emitters: Array
    origin: Array
    data: NDArray[np.float32]
    expected: NDArray[np.float32]
    backdrop: NDArray[np.float32]
    background: float

    @classmethod
    def of(cls, data: NDArray[np.float32], fit: JointFit, rows: Sequence[int], scale: FitScale) -> LocalView | None:
        """Window of emitters of a fit, as large as the pattern of the first; None when it is outside the frame."""
        shape = (data.shape[0], data.shape[1])
        x, y, z = fit.emitters[rows[:1], :3].T
        own = scale.spline.boxes(x, y, z, shape)[0]
        if own[1] <= own[0] or own[3] <= own[2]:
            return None
        top, left = max(own[0] - _SPARE_PX, 0), max(own[2] - _SPARE_PX, 0)
        window = (slice(top, own[1] + _SPARE_PX), slice(left, own[3] + _SPARE_PX))
        seen = np.ascontiguousarray(data[window])
        origin = np.array([left, top, 0.0, 0.0])
        emitters = fit.emitters[rows] - origin
        backdrop = fit.expected[window] - np.float32(fit.background + scale.read_variance)
        for emitter in emitters:
            light = render_emitter(scale, emitter, (seen.shape[0], seen.shape[1]))[0]
            backdrop -= np.float32(emitter[3]) * np.maximum(light, 0)
        return cls(scale, emitters, origin, seen, fit.expected[window], np.maximum(backdrop, 0), fit.background)

    def fit(self, starts: Array) -> JointFit:
        """Fit emitters (N, 4), in pixels of the window, instead of the present ones."""
        return fit_jointly(
            FitFrame(self.data, self.scale.spline, self.scale.read_variance, self.backdrop),
            starts,
            self.background,
            self._bounds(starts[:, 2]),
            _CONVERGENCE,
        )

    def to_frame_pixels(self, fit: JointFit) -> Array:
        """Emitters of a fit of the window, (N, 4), in pixels of the frame."""
        emitters: Array = fit.emitters + self.origin
        return emitters

    def misfit(self, expected: NDArray[np.float32]) -> float:
        """Log-likelihood that a model (h, w) falls short by, beyond the effect of noise; at least 0."""
        leftover = float(((self.data - expected) ** 2 / expected).sum(dtype=np.float64)) - self.data.size
        return max(leftover - float(np.sqrt(2 * self.data.size)), 0.0) / 2

    def _bounds(self, z_um: Array) -> Bounds:
        reach = _REACH_UM / self.scale.spline.psf.pixel_size_um
        x, y = self.emitters[0, :2]
        _, _, depths = self.scale.bounds(self.data.shape, z_um)
        return (x - reach, x + reach), (y - reach, y + reach), depths


def render_emitter(scale: FitScale, emitter: Array, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Pattern and derivatives of a unit emitter (4,) over a window, shape (4, h, w)."""
    spline, psf = scale.spline, scale.spline.psf
    image = np.zeros((4, *shape), np.float32)
    box = spline.boxes(emitter[:1], emitter[1:2], emitter[2:3], shape)[0]
    part = np.empty((4, box[1] - box[0], box[3] - box[2]), np.float32)
    index = float(spline.z_index(emitter[2:3])[0])
    render_pattern(spline.coefficients, emitter[0], emitter[1], index, psf.z_step_um, psf.oversampling, box, part)
    image[:, box[0] : box[1], box[2] : box[3]] = part
    return image

"""Joint maximum-likelihood polish of all emitters of a frame, and pursuit of those that were missed.

A network is fast and finds most emitters, but answers depth to a micrometre
or two where the light would tell a few hundredths. Here positions, photons
and background of all emitters of a frame are fitted together, because wide
defocused patterns overlap nearly always and a fit of one at a time takes its
neighbours' light for its own. Then a matched filter looks for patterns in
what the fit leaves over, everything is fitted again, and what is not
significant goes.

The likelihood is that of Poisson light with Gaussian read noise, in the form
that adds the read variance to data and model (Huang et al., Nature Methods
10, 653, 2013), so that variance = model + read². The Fisher matrix at the
optimum gives the sigmas: the Cramér-Rao bound of the joint fit. The
background is one constant of the frame.

Where the pattern is the same on both sides of focus nothing tells them apart,
and the slope of the likelihood in z vanishes at focus: fits stay on the side
that the settings allow, just off focus.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.camera import CameraModel
from models.errors import DataError
from models.joint_fit import JointFit, fit_jointly
from models.pattern_spline import ENERGY, PatternSpline
from models.psf import Psf
from models.pursuit import MatchedFilter, search_depths
from models.rescan import Rescan
from models.tables import Localizations

__all__ = ["RefinementSettings", "Refiner", "refine"]

Array = NDArray[np.float64]

# Less than the read noise of any camera; it keeps the variance of a dark pixel above zero.
_LEAST_READ_VARIANCE = 0.01

# How far outside the frame emitters are fitted, whose light falls in, camera pixels.
_MARGIN_PX = 16.0

# How near to the lower end of the depths a fit may come: at focus itself it could not leave again.
_OFF_FOCUS_UM = 0.05

# A fit is done when a step lowers the negative log-likelihood by less, where one standard deviation is 0.5: between
# moves, and at the end.
_ROUGH, _PRECISE = 1.0, 0.01
_ROUGH_ITERATIONS = 6


@dataclass(frozen=True, slots=True)
class RefinementSettings:
    """How far the refinement goes.

    Attributes
    ----------
    z_range_um : (low, high), optional
        Depths that are answered; those of the PSF unless given. The fit may go deeper, as far as the PSF, so that
        what lies beyond is recognized and left out, but not to the other side of `low`.
    iterations : int
        Most steps of each joint fit.
    rounds : int
        Most moves, of emitters to a better seat, away, or into the residual; 0 polishes only.
    add_significance : float
        A pattern in the residual is added when its amplitude exceeds so many of its standard deviations.
    keep_significance : float
        An emitter is kept when its photons exceed so many of their standard deviations in the joint fit.
    depth_step_um : float
        Spacing of the depths that the matched filter tries, near focus; it grows with depth as the patterns do.
    reseat_gain : float
        An emitter is moved to another valley when that gains so much squared signal-to-noise ratio.
    """

    z_range_um: tuple[float, float] | None = None
    iterations: int = 15
    rounds: int = 8
    add_significance: float = 6.0
    keep_significance: float = 5.0
    depth_step_um: float = 1.5
    reseat_gain: float = 16.0


@dataclass(frozen=True, slots=True)
class _Move:
    """Emitters to fit next, which each one was (-1: new), and what kind of change it is."""

    emitters: Array
    origin: NDArray[np.int64]
    adds: bool = False
    reseats: bool = False


class Refiner:
    """Refines frame after frame with one PSF and one camera; what they need is prepared once.

    Parameters
    ----------
    psf : Psf
        Pattern of one emitter.
    camera : CameraModel
        Its read noise enters the likelihood.
    settings : RefinementSettings

    Raises
    ------
    DataError
        When the depths asked for are not those of the PSF.
    """

    def __init__(self, psf: Psf, camera: CameraModel, settings: RefinementSettings | None = None) -> None:
        self.settings = settings or RefinementSettings()
        first, last = float(psf.z_um[0]), float(psf.z_um[-1])
        low, high = self.settings.z_range_um or (first, last)
        if not first <= low < high <= last:
            raise DataError(
                f"Depths from {low:g} to {high:g} µm were asked for; the PSF covers {first:g} to {last:g} µm.",
                "Ask for depths that the calibration covers.",
            )
        self._answered_um = (low, high)
        self._fitted_um = (low + _OFF_FOCUS_UM, last)
        self._spline = PatternSpline(psf)
        # A pattern that reaches less far would have no pixel left in the frame.
        self._margin_px = min(_MARGIN_PX, float(self._spline.radius_px.min()))
        self._read_variance = max(camera.read_noise_e**2, _LEAST_READ_VARIANCE)
        self._rescan = Rescan(self._spline, self._fitted_um)
        self._filters: dict[tuple[int, int], MatchedFilter] = {}

    def refine(self, frame_electrons: NDArray[np.float32], start: Localizations) -> Localizations:
        """Fit a frame, starting from what was found in it.

        Parameters
        ----------
        frame_electrons : ndarray of float32, shape (H, W)
            Photo-electrons, offset removed.
        start : Localizations
            Of this frame; may be empty.

        Returns
        -------
        Localizations
            Ordered as they were found, those of the pursuit last, with the probability 1. `chi2` is the mean of
            (data - model)² / variance over the pixels of the pattern, 1 when the model fits. Emitters outside the
            frame or the depths answered take part in the fit but are left out.

        Raises
        ------
        DataError
            When the frame is not an image of finite numbers, or `start` is of several frames.
        """
        frame = int(start.frame[0]) if len(start) else 0
        fit, probability = self.fit(frame_electrons, start)
        return self.localizations(frame, fit, probability)

    def fit(self, frame_electrons: NDArray[np.float32], start: Localizations) -> tuple[JointFit, Array]:
        """As `refine`, but all that was fitted, wherever it lies, and the probability of each emitter, shape (N,)."""
        _check(frame_electrons, start)
        data = np.ascontiguousarray(frame_electrons, np.float32) + np.float32(self._read_variance)
        pixel_um = self._spline.psf.pixel_size_um
        emitters = np.column_stack([start.x_um / pixel_um, start.y_um / pixel_um, start.z_um, start.photons])
        probability = start.probability
        fit = self._fit(data, emitters, _background(frame_electrons, start), precise=False)
        settled = False
        for _ in range(self.settings.rounds):
            move = self._next_move(data, fit, settled)
            if move is None:
                break
            after = self._fit(data, move.emitters, fit.background, precise=False)
            if move.reseats and after.cost >= fit.cost:
                settled = True
                continue
            settled = settled and not move.adds
            fit, probability = after, np.append(probability, 1.0)[move.origin]
        while True:
            fit = self._fit(data, fit.emitters, fit.background, precise=True)
            kept = self._significant(fit)
            if kept.all():
                break
            fit, probability = fit.select(kept), probability[kept]
        return fit, probability

    def localizations(self, frame: int, fit: JointFit, probability: Array) -> Localizations:
        """The emitters of a fit that lie in the frame and in the depths answered, as a table of the frame."""
        shape = fit.expected.shape
        pixel_um = self._spline.psf.pixel_size_um
        x_px, y_px, z_um, photons = fit.emitters.T
        sigma_x, sigma_y, sigma_z, _ = fit.sigma.T
        low, high = self._answered_um
        count = len(z_um)
        everything = Localizations(
            frame=np.full(count, frame, np.int64),
            x_um=x_px * pixel_um,
            y_um=y_px * pixel_um,
            z_um=z_um,
            photons=photons,
            background=np.full(count, fit.background),
            probability=probability,
            sigma_x_um=sigma_x * pixel_um,
            sigma_y_um=sigma_y * pixel_um,
            # At focus the bound diverges; the depths fitted are then all that is known.
            sigma_z_um=np.minimum(sigma_z, self._fitted_um[1] - self._fitted_um[0]),
            chi2=fit.chi2,
        )
        inside = (x_px >= -0.5) & (x_px < shape[1] - 0.5) & (y_px >= -0.5) & (y_px < shape[0] - 0.5)
        return everything.select(inside & (z_um >= low) & (z_um <= high))

    def _fit(self, data: NDArray[np.float32], emitters: Array, background: float, precise: bool) -> JointFit:
        height, width = data.shape
        margin = self._margin_px
        bounds = ((-margin, width - 1 + margin), (-margin, height - 1 + margin), self._fitted_um)
        iterations = self.settings.iterations if precise else _ROUGH_ITERATIONS
        enough = _PRECISE if precise else _ROUGH
        return fit_jointly(data, self._spline, emitters, background, bounds, self._read_variance, iterations, enough)

    def _next_move(self, data: NDArray[np.float32], fit: JointFit, settled: bool) -> _Move | None:
        """What promises most: drop what is not significant, else add what is missing or change seats.

        `settled` says that changing seats has just been tried in vain.
        """
        everybody = np.arange(len(fit.emitters))
        kept = np.flatnonzero(self._significant(fit))
        if len(kept) < len(everybody):
            return _Move(fit.emitters[kept], kept)
        missed = self._filter(data.shape).search(data - fit.expected, fit.expected, self.settings.add_significance)
        together = np.concatenate([fit.emitters, missed[:, :4]])
        missed = missed[~self._too_faint(together)[len(everybody) :]]
        seats, gain = fit.emitters, 0.0
        if not settled:
            seats, gain = self._rescan.better_seats(data, fit, self.settings.reseat_gain)
        if gain > (missed[:, 4] ** 2).max(initial=0.0):
            return _Move(seats, everybody, reseats=True)
        if len(missed):
            origin = np.append(everybody, np.full(len(missed), -1))
            return _Move(np.concatenate([fit.emitters, missed[:, :4]]), origin, adds=True)
        return None

    def _significant(self, fit: JointFit) -> NDArray[np.bool_]:
        """Which emitters stay. Of several that share their light only the weakest goes at a time."""
        significance = fit.emitters[:, 3] / fit.sigma[:, 3]
        weak = (significance < self.settings.keep_significance) | self._too_faint(fit.emitters)
        radius = self._spline.radius_at_px(fit.emitters[:, 2])
        gone: list[int] = []
        for row in np.argsort(significance):
            apart = np.hypot(*(fit.emitters[gone, :2] - fit.emitters[row, :2]).T)
            if weak[row] and (apart >= np.minimum(radius[gone], radius[row])).all():
                gone.append(int(row))
        kept = np.ones(len(significance), bool)
        kept[gone] = False
        return kept

    def _too_faint(self, emitters: Array) -> NDArray[np.bool_]:
        """Which emitters have less light than a neighbour, in reach of its pattern, has outside its crop."""
        radius = self._spline.radius_at_px(emitters[:, 2])
        apart = np.hypot(*(emitters[:, None, :2] - emitters[None, :, :2]).transpose(2, 0, 1))
        neighbours = np.where(apart < radius[:, None] + radius[None, :], emitters[None, :, 3], 0.0)
        faint: NDArray[np.bool_] = emitters[:, 3] < (1 - ENERGY) * neighbours.max(axis=1, initial=0.0)
        return faint

    def _filter(self, shape: tuple[int, ...]) -> MatchedFilter:
        size = (shape[0], shape[1])
        if size not in self._filters:
            depths = search_depths(*self._fitted_um, self.settings.depth_step_um)
            self._filters[size] = MatchedFilter(self._spline, size, depths, self._margin_px)
        return self._filters[size]


def refine(
    frame_electrons: NDArray[np.float32],
    start: Localizations,
    psf: Psf,
    camera: CameraModel,
    settings: RefinementSettings | None = None,
) -> Localizations:
    """Refine a single frame; for many frames keep a `Refiner`, which prepares the PSF once."""
    return Refiner(psf, camera, settings).refine(frame_electrons, start)


def _background(frame_electrons: NDArray[np.float32], start: Localizations) -> float:
    if len(start):
        return float(np.median(start.background))
    # Most pixels of a sparse frame are background; light only adds to it.
    return float(np.percentile(frame_electrons, 25))


def _check(frame_electrons: NDArray[np.float32], start: Localizations) -> None:
    if frame_electrons.ndim != 2 or frame_electrons.size == 0 or not np.isfinite(frame_electrons).all():
        raise DataError(
            f"A frame of shape {frame_electrons.shape} was given to refine; it must be (H, W) and finite.",
            "Convert counts to photo-electrons with the camera's description.",
        )
    if len(start) and (start.frame != start.frame[0]).any():
        raise DataError(
            f"Localizations of the frames {np.unique(start.frame)[:5].tolist()} were given to refine as one frame.",
            "Refine frame by frame.",
        )

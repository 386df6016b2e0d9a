"""Joint fit of all emitters of a frame, started from the detections of a network.

A network is fast and finds most emitters, but its depths are off by a
micrometre or two where the Cramér-Rao bound is a few hundredths. Here
positions, photons and background of all emitters of a frame are fitted
together, because wide defocused patterns overlap nearly always and kept fits
would take the light of neighbours for their own.

The network's positions enter as Gaussian priors with its sigmas (maximum a
posteriori). Its probability and the significance in the fit give one
probability per emitter (`emitter_probability`), by which emitters are kept or
removed. The start therefore includes detections below the decision threshold:
in the fit the true ones take the light and the false ones lose it. Peaks of the
residual that pass a score test (`score_test`) are added, and everything is
fitted again. Emitters are selected on coarse pixels (`binning`); the last fit
is on camera pixels.

The likelihood is that of Poisson light with Gaussian read noise, in the form
that adds the read variance to data and model (Huang et al., Nature Methods
10, 653, 2013), so that variance = model + read². The curvature at the
optimum gives the sigmas: the Cramér-Rao bound of the joint fit, multiplied by
the root of chi2 where that exceeds 1. The background is one constant of the
frame, on top of the static light where that is known (`models.background`), or
else after an uneven background of the frame has been subtracted (`background`).

Steps of a fit cannot correct two errors: two close emitters fitted by one
(`splitting`), and emitters at negative defocus fitted at positive defocus
(`side_of_focus`). Both are tested in a window around one pattern with all other
emitters fixed. A symmetric PSF cannot separate the two sides, and the slope of
the likelihood in z vanishes at focus; fits then stay on the reported side, just
off focus.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from threadpoolctl import ThreadpoolController

from models.binning import binned_psf, whole_bins
from models.camera import CameraModel
from models.errors import DataError
from models.fit.background import background_is_separable, uneven_background
from models.fit.emitter_probability import EmitterProbability, log_odds, probability
from models.fit.joint_fit import JointFit, distribute_light
from models.fit.prior import Prior
from models.fit.psf_model_error import common_psf_error, error_variance
from models.fit.residual_search import strongest
from models.fit.scale import LEAST_READ_VARIANCE, FitScale, fit_range_um, negative_defocus_um
from models.fit.score_test import score_candidates
from models.fit.side_of_focus import SIDE_ROUNDS, move_across_focus
from models.fit.splitting import find_splits
from models.fit.state import FitState
from models.fit.table import localizations_of
from models.psf import Psf
from models.tables import Localizations

__all__ = ["RefinementSettings", "Refiner", "refine"]

Array = NDArray[np.float64]

# Most steps of a fit before the next change of the set of emitters.
_ROUGH_ITERATIONS = 8
_LIGHT_ROUNDS = 30

# Factor on the network's sigmas: those of its improbable detections are about half of their error.
_PRIOR_WIDTH = 1.5
_LEAST_SIGMA_UM = (0.1, 0.1, 0.2)

# Fewest bins along a side of the frame, and smallest pattern radius in bins, for which a pixel size is used.
_FEWEST_BINS = 16
_LEAST_RADIUS_BINS = 3

# The search ends after a round that lowers the negative log-likelihood by less.
_LEAST_GAIN = 5.0

# Two emitters nearer than this in x, y and z are merged: a fraction of the optical resolution.
_COINCIDENT_UM = (0.4, 0.4, 1.2)

# Most removals between two fits: one emitter in so many, and at least a few.
_REMOVED_SHARE, _REMOVED_AT_ONCE = 6, 3

# Side of the square over which chi2 is averaged. It scales the variance that residual peaks are compared with.
_SURROUNDINGS_PX = 96

# Residual peaks from this significance on get the score test; most tests per round, or half as many as there are
# emitters where that is more.
_LEAST_PEAK_SIGNIFICANCE, _MOST_TESTED = 2.5, 80

# Emitters added in one round: least share of the best significance, and least distance as a share of the radius.
_OF_BEST, _APART = 0.25, 0.2

# Most rounds of splitting.
_SPLIT_ROUNDS = 2

_LOWEST_PROBABILITY = 0.05

# Rounds of fitting and subtracting the uneven background: it biases the first fit.
_BACKGROUND_ROUNDS = 2

# Share of the read variance that is added to a background below it; negligible beside noise.
_LEAST_BACKGROUND = 0.01


@dataclass(frozen=True, slots=True)
class RefinementSettings:
    """Settings of the refinement.

    Attributes
    ----------
    z_range_um : (low, high), optional
        Reported depths; those of the PSF unless given. The fit may go deeper, as far as the PSF, and to negative
        defocus where the PSF differs between the sides. Emitters outside the reported depths are left out.
    iterations : int
        Most steps of the last joint fit.
    rounds : int
        Most searches of the residual at each pixel size; with 0 only the given emitters are fitted.
    add_significance : float
        Least significance in the score test, in standard deviations, for adding an emitter.
    keep_probability : float
        Least probability for an emitter to stay in the fit.
    depth_step_um : float
        Spacing of the depths of the matched filter near focus; it grows with depth as the patterns do.
    relocation_gain : float
        An emitter is moved to another local optimum in depth when that gains so much squared signal-to-noise ratio.
    work : int
        Number of computed patterns after which the search ends. It is not a time, so that results do not depend on
        the machine; a pattern takes about 0.1 ms.
    binnings : tuple of int
        Pixel sizes at which the emitters are chosen, in camera pixels: 4 and 2, or one of them.
    """

    z_range_um: tuple[float, float] | None = None
    iterations: int = 15
    rounds: int = 3
    add_significance: float = 6.0
    keep_probability: float = 0.3
    depth_step_um: float = 1.5
    relocation_gain: float = 16.0
    work: int = 20_000
    binnings: tuple[int, ...] = (4, 2)


class Refiner:
    """Refines frame after frame with one PSF and one camera; splines and filters are prepared once.

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
        When the reported depths exceed those of the PSF.
    """

    def __init__(self, psf: Psf, camera: CameraModel, settings: RefinementSettings | None = None) -> None:
        self.settings = settings or RefinementSettings()
        self._reported_um = self.settings.z_range_um or (float(psf.z_um[0]), float(psf.z_um[-1]))
        self._fitted_um = fit_range_um(psf, self._reported_um)
        self._pixel_um = psf.pixel_size_um
        negative_um = negative_defocus_um(psf, self._reported_um)
        self._fine = FitScale(psf, 1, self._fitted_um, camera, negative_um)
        self._linear_algebra = ThreadpoolController().select(user_api="blas")
        self._coarse: list[FitScale] = []
        coarser, size = psf, 1
        smallest_px = float(self._fine.spline.radius_px.min())
        while self.settings.rounds and size < max(self.settings.binnings, default=1):
            coarser, size = binned_psf(coarser), 2 * size
            if size in self.settings.binnings and smallest_px >= _LEAST_RADIUS_BINS * size:
                self._coarse.insert(0, FitScale(coarser, size, self._fitted_um, camera, negative_um))

    def refine(
        self,
        frame_electrons: NDArray[np.float32],
        start: Localizations,
        backdrop: NDArray[np.float32] | None = None,
    ) -> Localizations:
        """Fit a frame, starting from possible emitters.

        Parameters
        ----------
        frame_electrons : ndarray of float32, shape (H, W)
            Photo-electrons, offset removed.
        start : Localizations
            Of this frame; may be empty. Include improbable detections, with probability and sigmas: the fit removes
            false ones. Without sigmas (NaN) a position has no prior.
        backdrop : ndarray of float32, shape (H, W), optional
            Static light, photo-electrons, not negative: a part of the model that is not fitted. The fitted background
            is added to it. With it, no uneven background is fitted.

        Returns
        -------
        Localizations
            In the order in which they were found, emitters from the residual last. `probability` combines the
            network's probability with the fit; emitters below 0.05 are left out. `chi2` is the mean of
            (data - model)² / variance where the pattern has its light, weighted by it: 1 when the model fits. Sigmas
            are multiplied by its root where it exceeds 1, and contain the PSF model error. Emitters outside the
            frame or the reported depths take part in the fit but are left out.

        Raises
        ------
        DataError
            When the frame is not an image of finite numbers, or `start` is of several frames.
        """
        frame = int(start.frame[0]) if len(start) else 0
        fit, probabilities = self.fit(frame_electrons, start, backdrop)
        return localizations_of(
            fit,
            frame,
            probabilities,
            spline=self._fine.spline,
            reported_um=self._reported_um,
            fitted_um=self._fitted_um,
        )

    def fit(
        self,
        frame_electrons: NDArray[np.float32],
        start: Localizations,
        backdrop: NDArray[np.float32] | None = None,
    ) -> tuple[JointFit, Array]:
        """All fitted emitters, also outside frame and reported depths, and their probabilities, shape (N,)."""
        _check(frame_electrons, start)
        # Several threads for matrices this small take more than twice the processor time, and longer too.
        with self._linear_algebra.limit(limits=1):
            return self._fit_coarse_to_fine(np.ascontiguousarray(frame_electrons, np.float32), start, backdrop)

    def _fit_coarse_to_fine(
        self, electrons: NDArray[np.float32], start: Localizations, backdrop: NDArray[np.float32] | None
    ) -> tuple[JointFit, Array]:
        """Select emitters on coarse pixels, then fit them on camera pixels."""
        if backdrop is None:
            electrons = self._subtract_uneven_background(electrons, start)
        state, size = self._initial_state(electrons if backdrop is None else electrons - backdrop, start), 0
        fine = self._fine.over(backdrop)
        coarse = [
            scale.over(backdrop) for scale in self._coarse if min(electrons.shape) >= _FEWEST_BINS * scale.binning
        ]
        choosing = (coarse or [fine]) if self.settings.rounds else []
        for scale in choosing:
            data = whole_bins(electrons, scale.binning) + np.float32(scale.read_variance)
            state = state.rescaled(size or 1, scale.binning)
            state = self._select_emitters(data, scale, state if size else self._distribute_light(data, scale, state))
            size = scale.binning
        data = electrons + np.float32(fine.read_variance)
        state = state.rescaled(size or 1, 1)
        if not size:
            state = self._distribute_light(data, fine, state)
        state, fit, odds = self._fit_and_prune(data, fine, state, precise=True)
        for _ in range(_SPLIT_ROUNDS if self.settings.rounds else 0):
            pairs = find_splits(data, fit, fine)
            if not pairs:
                break
            state, fit, odds = self._fit_and_prune(data, fine, state.with_pairs(pairs), precise=True)
        return fit, probability(odds)

    def _subtract_uneven_background(self, electrons: NDArray[np.float32], start: Localizations) -> NDArray[np.float32]:
        """Frame with a uniform, non-negative background; unchanged if patterns are too wide to separate it."""
        scale = self._fine
        if not background_is_separable(electrons.shape, float(scale.spline.radius_px.max())):
            return electrons
        for _ in range(_BACKGROUND_ROUNDS):
            data = electrons + np.float32(scale.read_variance)
            state = self._distribute_light(data, scale, self._initial_state(electrons, start))
            _, fit = self._fit_state(data, scale, state, precise=False)
            electrons = electrons - uneven_background(data - fit.expected)
            least = _LEAST_BACKGROUND * scale.read_variance
            if fit.background < least:
                electrons += np.float32(least)
        return electrons

    def _initial_state(self, electrons: NDArray[np.float32], start: Localizations) -> FitState:
        """Initial state in camera pixels, with priors from the network's sigmas."""
        pixel_um = self._pixel_um
        emitters = np.column_stack([start.x_um / pixel_um, start.y_um / pixel_um, start.z_um, start.photons])
        sigma = _PRIOR_WIDTH * np.maximum(start.sigma_um, _LEAST_SIGMA_UM)
        known = np.isfinite(sigma) & (start.sigma_um > 0)
        weight = np.where(known, 1 / np.where(known, sigma, 1.0) ** 2, 0.0) * [pixel_um**2, pixel_um**2, 1]
        # Emitters only add light, so a low percentile estimates the background.
        background = max(float(np.percentile(electrons, 10)), LEAST_READ_VARIANCE)
        return FitState(emitters, Prior(emitters[:, :3].copy(), weight), log_odds(start.probability), background)

    def _distribute_light(self, data: NDArray[np.float32], scale: FitScale, state: FitState) -> FitState:
        """Distribute the light of the frame among the initial positions."""
        low, high = np.array(scale.bounds(data.shape), np.float64).T
        places = np.clip(state.emitters[:, :3], low, high)
        photons, background = distribute_light(scale.frame(data), places, state.background, _LIGHT_ROUNDS)
        return replace(state, emitters=np.column_stack([places, photons]), background=background)

    def _select_emitters(self, data: NDArray[np.float32], scale: FitScale, state: FitState) -> FitState:
        """Remove, relocate and add emitters at one pixel size."""
        state, fit, _ = self._fit_and_prune(data, scale, state, precise=False)
        state, fit = self._move_across_focus(data, scale, state, fit)
        for _ in range(self.settings.rounds):
            if state.work >= self.settings.work:
                break
            before = fit.cost
            state, fit = self._relocate_in_depth(data, scale, state, fit)
            missed = self._find_missed_emitters(data, scale, state, fit)
            if len(missed):
                state, fit, _ = self._fit_and_prune(data, scale, state.with_new(missed), precise=False)
                # New emitters are in the last rows.
                state, fit = self._move_across_focus(
                    data, scale, state, fit, first=max(len(fit.emitters) - len(missed), 0)
                )
            # An emitter that is added and removed again would be found in every round.
            if fit.cost > before - _LEAST_GAIN:
                break
        return self._move_across_focus(data, scale, state, fit)[0]

    def _find_missed_emitters(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, fit: JointFit
    ) -> Array:
        """Missed emitters (K, 4): peaks of the matched filter of the residual that pass the score test."""
        share = common_psf_error(fit)
        variance = fit.expected * _misfit_around(data, fit, scale)
        variance += error_variance(fit, share, scale.read_variance)
        least = self.settings.add_significance
        # Residuals of a PSF model error resemble emitters, so a higher significance is required.
        least_peak = least if share else _LEAST_PEAK_SIGNIFICANCE
        places = scale.filter(data.shape, self.settings.depth_step_um).peaks(data - fit.expected, variance, least_peak)
        # Away from all fitted emitters the score test equals the matched filter.
        radius = scale.spline.radius_at_px(fit.emitters[:, 2])
        apart = np.hypot(*(places[:, None, :2] - fit.emitters[None, :, :2]).transpose(2, 0, 1))
        beside = (apart < places[:, 5:] + radius).any(axis=1)
        places = places[beside | (places[:, 4] >= least)]
        most = max(_MOST_TESTED, len(fit.emitters) // 2)
        found = score_candidates(places[:most], data, fit, state.prior, scale.spline, variance)
        return strongest(found[found[:, 4] >= least], _OF_BEST, _APART)[:, :4]

    def _move_across_focus(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, fit: JointFit, first: int = 0
    ) -> tuple[FitState, JointFit]:
        """Move emitters that fit better there to negative defocus: from row `first` on, then any.

        The test is repeated because each move changes the residual of the neighbours.
        """
        for _ in range(SIDE_ROUNDS):
            emitters = move_across_focus(data, fit, scale, first)
            if (emitters[:, 2] == fit.emitters[:, 2]).all():
                break
            state, fit, _ = self._fit_and_prune(data, scale, state.with_moved_across_focus(emitters), precise=False)
            if state.work >= self.settings.work:
                break
            first = 0
        return state, fit

    def _fit_and_prune(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, *, precise: bool
    ) -> tuple[FitState, JointFit, Array]:
        """Fit and remove improbable emitters in turn; the last fit, and the log odds of the remaining emitters."""
        least = float(log_odds(np.array([_LOWEST_PROBABILITY if precise else self.settings.keep_probability]))[0])
        while True:
            state, fit = self._fit_state(data, scale, state, precise=precise)
            kept, photons = _merge_coincident(fit.emitters, state.network, scale.spline.psf.pixel_size_um)
            if not kept.all():
                state = replace(state, emitters=np.column_stack([fit.emitters[:, :3], photons])).select(kept)
                continue
            estimator = EmitterProbability.of(fit, scale.spline, state.network)
            most = max(len(fit.emitters) // _REMOVED_SHARE, _REMOVED_AT_ONCE)
            alive, photons = estimator.prune(fit.emitters[:, 3], fit.photon_covariance, least, most)
            if alive.all():
                return state, fit, estimator.log_odds(fit.emitters[:, 3], np.diagonal(fit.photon_covariance))
            state = replace(state, emitters=np.column_stack([fit.emitters[:, :3], photons])).select(alive)

    def _fit_state(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, *, precise: bool
    ) -> tuple[FitState, JointFit]:
        iterations = self.settings.iterations if precise else _ROUGH_ITERATIONS
        fit = scale.fit(data, state.emitters, state.background, iterations, precise=precise, prior=state.prior)
        work = state.work + fit.evaluations * len(fit.emitters)
        return replace(state, emitters=fit.emitters, background=fit.background, work=work), fit

    def _relocate_in_depth(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, fit: JointFit
    ) -> tuple[FitState, JointFit]:
        """Relocate emitters whose fit converged to a local optimum in depth."""
        relocated, gain = scale.depth_relocation.relocate(data, fit, self.settings.relocation_gain)
        if gain == 0:
            return state, fit
        # Moved emitters lose their position prior.
        left = (relocated != fit.emitters).any(axis=1)
        weight = np.where(left[:, None], 0.0, state.prior.weight)
        tried = replace(state, emitters=relocated, prior=Prior(state.prior.place, weight))
        tried, other = self._fit_state(data, scale, tried, precise=False)
        if other.cost >= fit.cost:
            return replace(state, work=tried.work), fit
        return tried, other


def refine(
    frame_electrons: NDArray[np.float32],
    start: Localizations,
    psf: Psf,
    camera: CameraModel,
    settings: RefinementSettings | None = None,
) -> Localizations:
    """Refine a kept frame; for many frames keep a `Refiner`, which prepares the PSF once."""
    return Refiner(psf, camera, settings).refine(frame_electrons, start)


def _merge_coincident(emitters: Array, network: Array, pixel_um: float) -> tuple[NDArray[np.bool_], Array]:
    """Merge emitters at the same position: rows that stay, and photons with those of the merged ones added.

    The data cannot separate them. The one with the higher network probability stays.
    """
    photons = emitters[:, 3].copy()
    kept = np.ones(len(emitters), bool)
    order = np.argsort(-np.nan_to_num(network, nan=-np.inf), kind="stable")
    for rank, first in enumerate(order):
        if not kept[first]:
            continue
        others = order[rank + 1 :]
        apart = np.abs(emitters[others, :3] - emitters[first, :3]) * [pixel_um, pixel_um, 1]
        same = others[(apart < _COINCIDENT_UM).all(axis=1) & kept[others]]
        photons[first] += photons[same].sum()
        kept[same] = False
    return kept, photons


def _misfit_around(data: NDArray[np.float32], fit: JointFit, scale: FitScale) -> NDArray[np.float32]:
    """Mean of (data - model)² / variance around each pixel, at least 1, shape (H, W)."""
    misfit = (data - fit.expected) ** 2 / fit.expected
    around = ndimage.uniform_filter(misfit, max(_SURROUNDINGS_PX // scale.binning, 1), mode="nearest")
    misfit_there: NDArray[np.float32] = np.maximum(around, np.float32(1))
    return misfit_there


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

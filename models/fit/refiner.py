"""Joint fit of all emitters of a frame, started from what a network believes possible.

A network is fast and finds most emitters, but answers depth to a micrometre
or two where the light would tell a few hundredths. Here positions, photons
and background of all emitters of a frame are fitted together, because wide
defocused patterns overlap nearly always and a fit of one at a time takes its
neighbours' light for its own.

Both kinds of evidence are kept. The network's places enter the fit with its
own sigmas (maximum a posteriori), so where photons are few they hardly move;
its probability and the significance of the fit together tell which emitters
stay (`plausibility`). Therefore the start is everything that the network
holds possible, not only what it would answer: in the fit the right ones take
the light, and the others go. What then stands out of the residual, and would
help if all that is fitted gave way (`score_test`), is added, and everything is
fitted again. All this happens on coarse pixels (`binning`);
only what is left is fitted to the pixels of the camera.

The likelihood is that of Poisson light with Gaussian read noise, in the form
that adds the read variance to data and model (Huang et al., Nature Methods
10, 653, 2013), so that variance = model + read². The curvature at the
optimum gives the sigmas: the Cramér-Rao bound of the joint fit, widened where
chi2 says that the model does not explain the light. The background is one
constant of the frame, after what is uneven has been taken away (`background`).

Two things no step of a fit finds: emitters that lie on almost one place and
were fitted by one (`splitting`), and emitters on the other side of focus
(`sides`). Both are tried in the window of one pattern, all others held. Where
the pattern is the same on both sides nothing tells them apart, and the slope
of the likelihood in z vanishes at focus: fits stay on the side that the
settings allow, just off focus.
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

# Most steps of a fit between moves.
_ROUGH_ITERATIONS = 8
_SPLITS = 30

# Of the network's sigmas: those of answers that it doubts are about half of what they should be.
_PRIOR_WIDTH = 1.5
_LEAST_SIGMA_UM = (0.1, 0.1, 0.2)

# Fewer bins than this along a side of the frame are too few to seek anything in, and patterns whose radius is fewer
# bins are hardly seen.
_FEWEST_BINS = 16
_LEAST_RADIUS_BINS = 3

# A round that lowers the negative log-likelihood by less has come to its end.
_WORTHWHILE = 5.0

# Nearer than this in x, y and z two emitters are one: a fraction of what the optics resolve.
_COINCIDENT_UM = (0.4, 0.4, 1.2)

# Removals that one fit may foretell: a share of the emitters, and always a few.
_REMOVED_SHARE, _REMOVED_AT_ONCE = 6, 3

# Side of the square over which the misfit is averaged that lowers the significance of what the residual shows.
_SURROUNDINGS_PX = 96

# Standard deviations of the residual from which a place is tested, and most places that are: so many, or half as many
# as there are emitters.
_PROMISING, _MOST_TESTED = 2.5, 80

# Places that are added together: share of the best significance, and distance as a share of the radius.
_OF_BEST, _APART = 0.25, 0.2

# Most times that emitters are taken apart.
_SPLIT_ROUNDS = 2

_LOWEST_PROBABILITY = 0.05

# Fits after which an uneven background is taken away: it draws the first one aside.
_BACKGROUND_ROUNDS = 2

# Of the read variance: a background that is lower is lifted by this, too little to be taken for noise.
_LEAST_BACKGROUND = 0.01


@dataclass(frozen=True, slots=True)
class RefinementSettings:
    """How far the refinement goes.

    Attributes
    ----------
    z_range_um : (low, high), optional
        Depths that are answered; those of the PSF unless given. The fit may go deeper, as far as the PSF, and
        to the other side of focus where the PSF tells the sides apart: what lies there is recognized and left out.
    iterations : int
        Most steps of the last joint fit.
    rounds : int
        Most searches of the residual at each pixel size; 0 polishes only.
    add_significance : float
        A place in the residual gets an emitter when that would exceed so many of its standard deviations, if all that
        is fitted gave way.
    keep_probability : float
        An emitter stays in the fit while it is at least this probable.
    depth_step_um : float
        Spacing of the depths that the matched filter tries, near focus; it grows with depth as the patterns do.
    relocation_gain : float
        An emitter is moved to another valley when that gains so much squared signal-to-noise ratio.
    work : int
        Patterns computed, after which a frame is finished as it is. Not a time, so that results do not depend on the
        machine; a pattern takes about 0.1 ms.
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

    def refine(self, frame_electrons: NDArray[np.float32], start: Localizations) -> Localizations:
        """Fit a frame, starting from what may be in it.

        Parameters
        ----------
        frame_electrons : ndarray of float32, shape (H, W)
            Photo-electrons, offset removed.
        start : Localizations
            Of this frame; may be empty. Better too many, each with its probability and sigmas: an emitter that is not
            there loses its light. Sigmas that are not known (NaN) leave its place to the fit alone.

        Returns
        -------
        Localizations
            Ordered as they were found, those of the pursuit last. `probability` is that of an emitter, given what
            the start believed and what the fit found; less than 0.05 is no answer. `chi2` is the mean of
            (data - model)² / variance where the pattern has its light, weighted by it: 1 when the model fits. Sigmas
            are larger by its root where it is more, and by what an error of the pattern may move. Emitters
            outside the frame or the depths answered take part in the fit but are left out.

        Raises
        ------
        DataError
            When the frame is not an image of finite numbers, or `start` is of several frames.
        """
        frame = int(start.frame[0]) if len(start) else 0
        fit, probabilities = self.fit(frame_electrons, start)
        return localizations_of(
            fit,
            frame,
            probabilities,
            spline=self._fine.spline,
            reported_um=self._reported_um,
            fitted_um=self._fitted_um,
        )

    def fit(self, frame_electrons: NDArray[np.float32], start: Localizations) -> tuple[JointFit, Array]:
        """As `refine`, but all that was fitted, wherever it lies, and the probability of each emitter, shape (N,)."""
        _check(frame_electrons, start)
        # Several threads for matrices this small take more than twice the processor time, and longer too.
        with self._linear_algebra.limit(limits=1):
            return self._fit_coarse_to_fine(np.ascontiguousarray(frame_electrons, np.float32), start)

    def _fit_coarse_to_fine(self, electrons: NDArray[np.float32], start: Localizations) -> tuple[JointFit, Array]:
        """From coarse pixels to those of the camera."""
        electrons = self._subtract_uneven_background(electrons, start)
        state, size = self._initial_state(electrons, start), 0
        coarse = [scale for scale in self._coarse if min(electrons.shape) >= _FEWEST_BINS * scale.binning]
        choosing = (coarse or [self._fine]) if self.settings.rounds else []
        for scale in choosing:
            data = whole_bins(electrons, scale.binning) + np.float32(scale.read_variance)
            state = state.rescaled(size or 1, scale.binning)
            state = self._select_emitters(data, scale, state if size else self._distribute_light(data, scale, state))
            size = scale.binning
        data = electrons + np.float32(self._fine.read_variance)
        state = state.rescaled(size or 1, 1)
        if not size:
            state = self._distribute_light(data, self._fine, state)
        state, fit, odds = self._fit_and_prune(data, self._fine, state, precise=True)
        for _ in range(_SPLIT_ROUNDS if self.settings.rounds else 0):
            pairs = find_splits(data, fit, self._fine)
            if not pairs:
                break
            state, fit, odds = self._fit_and_prune(data, self._fine, state.with_pairs(pairs), precise=True)
        return fit, probability(odds)

    def _subtract_uneven_background(self, electrons: NDArray[np.float32], start: Localizations) -> NDArray[np.float32]:
        """The frame with the same background everywhere, not below zero, where it can be told from wide patterns."""
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
        """The start in camera pixels."""
        pixel_um = self._pixel_um
        emitters = np.column_stack([start.x_um / pixel_um, start.y_um / pixel_um, start.z_um, start.photons])
        sigma = _PRIOR_WIDTH * np.maximum(start.sigma_um, _LEAST_SIGMA_UM)
        known = np.isfinite(sigma) & (start.sigma_um > 0)
        weight = np.where(known, 1 / np.where(known, sigma, 1.0) ** 2, 0.0) * [pixel_um**2, pixel_um**2, 1]
        # Light only adds to the background.
        background = max(float(np.percentile(electrons, 10)), LEAST_READ_VARIANCE)
        return FitState(emitters, Prior(emitters[:, :3].copy(), weight), log_odds(start.probability), background)

    def _distribute_light(self, data: NDArray[np.float32], scale: FitScale, state: FitState) -> FitState:
        """With the light of the frame shared out among the places of the start."""
        low, high = np.array(scale.bounds(data.shape), np.float64).T
        places = np.clip(state.emitters[:, :3], low, high)
        photons, background = distribute_light(
            data, scale.spline, places, state.background, scale.read_variance, _SPLITS
        )
        return replace(state, emitters=np.column_stack([places, photons]), background=background)

    def _select_emitters(self, data: NDArray[np.float32], scale: FitScale, state: FitState) -> FitState:
        """Which emitters there are, as far as this pixel size tells."""
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
                # The new ones are the last.
                state, fit = self._move_across_focus(
                    data, scale, state, fit, first=max(len(fit.emitters) - len(missed), 0)
                )
            # What is found and thrown away again would be found for ever.
            if fit.cost > before - _WORTHWHILE:
                break
        return self._move_across_focus(data, scale, state, fit)[0]

    def _find_missed_emitters(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, fit: JointFit
    ) -> Array:
        """Emitters (K, 4) that a fit lacks: places that stand out of the residual and stand a better test too."""
        share = common_psf_error(fit)
        variance = fit.expected * _misfit_around(data, fit, scale)
        variance += error_variance(fit, share, scale.read_variance)
        enough = self.settings.add_significance
        # What patterns that are wrong leave over looks like anything, so more is asked of it.
        promising = enough if share else _PROMISING
        places = scale.filter(data.shape, self.settings.depth_step_um).peaks(data - fit.expected, variance, promising)
        # Where nothing is fitted that might give way, the test says what the filter says.
        radius = scale.spline.radius_at_px(fit.emitters[:, 2])
        apart = np.hypot(*(places[:, None, :2] - fit.emitters[None, :, :2]).transpose(2, 0, 1))
        beside = (apart < places[:, 5:] + radius).any(axis=1)
        places = places[beside | (places[:, 4] >= enough)]
        most = max(_MOST_TESTED, len(fit.emitters) // 2)
        found = score_candidates(places[:most], data, fit, state.prior, scale.spline, variance)
        return strongest(found[found[:, 4] >= enough], _OF_BEST, _APART)[:, :4]

    def _move_across_focus(
        self, data: NDArray[np.float32], scale: FitScale, state: FitState, fit: JointFit, first: int = 0
    ) -> tuple[FitState, JointFit]:
        """With emitters on the other side of focus that are explained better there: from row `first` on, then any.

        One that has gone lets its neighbours be seen.
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
        """Fitted, without what is not plausible; its fit, and the log odds of what is left."""
        least = float(log_odds(np.array([_LOWEST_PROBABILITY if precise else self.settings.keep_probability]))[0])
        while True:
            state, fit = self._fit_state(data, scale, state, precise=precise)
            single, photons = _merge_coincident(fit.emitters, state.network, scale.spline.psf.pixel_size_um)
            if not single.all():
                state = replace(state, emitters=np.column_stack([fit.emitters[:, :3], photons])).select(single)
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
        """With emitters in other valleys where these explain more."""
        seats, gain = scale.depth_relocation.relocate(data, fit, self.settings.relocation_gain)
        if gain == 0:
            return state, fit
        left = (seats != fit.emitters).any(axis=1)
        # What was known of the place that they leave has been refuted.
        weight = np.where(left[:, None], 0.0, state.prior.weight)
        tried = replace(state, emitters=seats, prior=Prior(state.prior.place, weight))
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
    """Refine a single frame; for many frames keep a `Refiner`, which prepares the PSF once."""
    return Refiner(psf, camera, settings).refine(frame_electrons, start)


def _merge_coincident(emitters: Array, network: Array, pixel_um: float) -> tuple[NDArray[np.bool_], Array]:
    """Which emitters stay of those that came to lie on one place, and the photons of all, theirs added to who stays.

    Light cannot tell two there from one, and any share of it between them is as good: the more believed one stays.
    """
    photons = emitters[:, 3].copy()
    single = np.ones(len(emitters), bool)
    order = np.argsort(-np.nan_to_num(network, nan=-np.inf), kind="stable")
    for rank, first in enumerate(order):
        if not single[first]:
            continue
        others = order[rank + 1 :]
        apart = np.abs(emitters[others, :3] - emitters[first, :3]) * [pixel_um, pixel_um, 1]
        same = others[(apart < _COINCIDENT_UM).all(axis=1) & single[others]]
        photons[first] += photons[same].sum()
        single[same] = False
    return single, photons


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

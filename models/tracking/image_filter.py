"""A tracker whose measurement is the camera image: tracks predict, and a joint fit with these priors is the update.

A localizer decides in each frame alone which light is an emitter and where it
is. Here earlier frames take part in that decision. Each frame:

1. The tracks predict position and photons (`motion_models`).
2. Candidates of the localizer that no track explains are possible new
   emitters. So is what the residual of the fit shows (`models.fit.missed`).
3. Positions, photons and background are fitted to the image together, with the
   predictions as priors (`models.fit.prior_fit`): the maximum a posteriori,
   which is the update of an iterated extended Kalman filter for all emitters
   together.
4. The position without the prior is the localization of the emitter in this
   frame (`image_evidence`). It updates the motion models as that of a localizer
   would, and is stored: errors of localizations in different frames are
   independent, so smoothing needs no image again.
5. The log odds of existence grow by a weighted mean of two log-likelihood
   ratios, of the image and of the candidates, with and without the emitter. It
   is a mean and no sum, because the network has seen the same photons.

Tracks keep their identity because each is fitted from its own prediction: no
localization has to be assigned to it, and none is lost to a threshold. A frame
without image, because time was short, is taken as by `Tracker`, with the
candidates as measurement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from models.fit.fitted_image import FitOptics
from models.fit.missed import NO_PLACES, MissedEmitters
from models.fit.prior_fit import EmitterPrior, PriorFit, fit_with_prior
from models.fit.scale import fit_range_um
from models.tables import Localizations
from models.tracking.image_evidence import ImageEvidence
from models.tracking.motion_models import combined, log_likelihood, posterior, update
from models.tracking.pool import Pool
from models.tracking.state import TrackState
from models.tracking.tracker import SURE, Births, Pairs, Scan, Tracker

__all__ = ["FULL", "Effort", "ImageFilter"]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Bools = NDArray[np.bool_]

_WIDER, _WIDER_IMPROBABLE = 1.1, 1.9
"""Factor on the sigmas of a candidate with the probability 1, and how much more with the probability 0. Measured on
candidates of the shipped networks at 0 to 10 dB: errors of improbable ones are three times the stated sigma."""

_LIGHT_CHANGE = 0.05
"""Relative standard deviation of the change of an emitter's light between frames, beside that of the lamp."""

_CANDIDATE_SHARE = 0.3
"""Share of the candidates in the evidence of existence; the rest is that of the image."""
_MOST_EVIDENCE = 6.0
"""Evidence of the candidates in one frame is limited to this, in log odds."""

_BLURRED = 2 / 3
"""Mean square of the spatial frequencies that locate an emitter, in units of the square of the highest one that pixels
resolve: those of a pattern with a flat spectrum, weighted by their information."""
_MOST_BLURRED = 4.0
"""Largest factor on the variance of a position for the blur of the exposure."""

_SEEN = 2.0
"""Significance of the light from which a track counts as seen."""
_SEEN_SIGMA_UM = 10.0
"""Largest sigma of a localization along any axis; with a larger one the track counts as unseen."""

_COINCIDENT_UM = np.array([0.6, 0.6, 1.8])
"""Of two tracks nearer than this in x, y and z one is a duplicate: a fraction of the optical resolution."""

_RESOLVED_UM = np.array([3.0, 3.0, 6.0])
_UNRESOLVED = 1.0
"""Two tracks on one emitter share its light, so the image is no evidence against either. A track nearer than this to a
longer one loses so much of its log odds in each frame."""

_UNSEEN = 0.3
"""Log odds that a track loses in a frame in which it is not seen, where the backdrop has errors. Images neither confirm
nor refute an emitter without light, so a track that followed an error would stay when the backdrop is better."""

_OUTSIDE_PX = 8.0
"""Emitters are followed so far outside the image, while their light falls into it."""

_LIGHT_MISSED = 0.5
"""Relative standard deviation of the photons of an emitter that the residual shows."""
_LEAST_LIGHT = 1.0


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of the fit is made for a frame.

    Attributes
    ----------
    steps, rough_steps : most steps of the fit, see `fit_with_prior`
    search_every : the residual is searched for missed emitters in one of so many frames; 0: in none
    fine : whether the image is compared on fine cells, which bright emitters need; takes a third more time
    """

    steps: int = 3
    rough_steps: int = 3
    search_every: int = 1
    fine: bool = True


FULL = Effort()


class ImageFilter(Tracker):
    """Tracks emitters in camera images. The optics are given by `swap`, before the first image.

    Parameters
    ----------
    settings : TrackerSettings, optional
    links : Links, optional
        See `Tracker`.
    """

    def swap(self, optics: FitOptics, depths_um: tuple[float, float], missed: MissedEmitters | None = None) -> None:
        """Continue with other optics.

        Parameters
        ----------
        optics : FitOptics
        depths_um : (low, high)
            Depths that the localizer reports.
        missed : MissedEmitters, optional
            Of these optics, to share its filters.
        """
        self._optics = optics
        self._depths_um = fit_range_um(optics.psf, depths_um)
        self._missed = missed or MissedEmitters(optics, self._depths_um)
        self._background: float | None = None
        self._unsearched = 0
        pixel_um = optics.psf.pixel_size_um
        self._unit_um = np.array([pixel_um, pixel_um, 1.0])

    def step_image(
        self,
        t_s: float,
        frame: int,
        found: Localizations,
        electrons: NDArray[np.float32],
        backdrop: NDArray[np.float32] | None = None,
        effort: Effort = FULL,
        doubt_e2: float = 0.0,
    ) -> tuple[TrackState, Localizations]:
        """Take the image of one frame.

        Parameters
        ----------
        t_s, frame, found
            As those of `step`; `found` are all candidates of the localizer.
        electrons : ndarray of float32, shape (H, W)
            Photo-electrons, offset removed.
        backdrop : ndarray of float32, shape (H, W), optional
            Known light that stands still.
        effort : Effort
        doubt_e2 : float
            Variance of a pixel for the error of the backdrop, photo-electrons squared; 0 when it is exact.

        Returns
        -------
        state : TrackState
            Its `localization` are rows of the following table.
        localizations : Localizations
            Measured in this image, without the priors.

        Raises
        ------
        DataError
            As `step`.
        """
        scan = self._begin(t_s, frame, found)
        pool, count = scan.pool, len(scan.pool)
        wide = scan.variance * (_WIDER + _WIDER_IMPROBABLE / (1 + scan.odds)) ** 2
        pairs = self._associate(scan, wide)
        new = np.setdiff1d(np.arange(len(scan.used)), pairs.hits)
        if self._background is None:
            above = electrons if backdrop is None else electrons - backdrop
            self._background = max(float(np.percentile(above, 10)), self._optics.read_variance)
        if doubt_e2 and backdrop is not None:
            # Like the read noise, added to the image and to its model as a Poisson variable of that variance.
            electrons, backdrop = electrons + np.float32(doubt_e2), backdrop + np.float32(doubt_e2)
        image = self._optics.image(electrons, backdrop)
        fit = fit_with_prior(
            image.fine() if effort.fine else image,
            self._prior(scan, wide, pairs, new),
            self._background,
            self._bounds(electrons.shape),
            effort.steps,
            effort.rough_steps,
        )
        self._background = fit.background
        network = np.append(np.full(count, np.nan), np.log(scan.odds[new]))
        network[pairs.tracks] = np.log(scan.odds[pairs.hits])
        evidence = ImageEvidence.of(fit, self._optics.splines[0], network)
        unit = self._unit_um[:, None]
        measured, variance = evidence.measured.T * unit, evidence.variance.T * unit**2
        variance[:2, :count] *= self._blurred(pool)

        seen = (evidence.significance[:count] >= _SEEN) & (variance[:, :count].max(axis=0) < _SEEN_SIGMA_UM**2)
        self._take_images(scan, measured[:, :count], variance[:, :count], seen)
        of_candidates = np.clip(pairs.evidence, -_MOST_EVIDENCE, _MOST_EVIDENCE)
        pool.log_odds[:] += _CANDIDATE_SHARE * of_candidates + (1 - _CANDIDATE_SHARE) * evidence.log_ratio[:count]
        pool.log_odds[:] -= _UNRESOLVED * self._beside(pool, _RESOLVED_UM)
        if doubt_e2:
            pool.log_odds[~seen] -= _UNSEEN
        pool.light[:] = fit.emitters[:count, 3], fit.blocks[:count, 3, 3]
        pool.ambiguity[pairs.tracks] = pairs.ambiguity

        self._unsearched += 1
        missed = NO_PLACES
        if 0 < effort.search_every <= self._unsearched:
            missed, self._unsearched = self._missed.find(fit), 0
        births = self._births_of(scan, fit, evidence, count, missed, int(np.count_nonzero(seen)))
        rows = np.where(seen, np.cumsum(seen) - 1, -1)
        table = self._table(scan, fit, measured, variance, np.flatnonzero(seen), births)
        state = self._conclude(scan, seen, rows, births, self._beside(pool, _COINCIDENT_UM))
        return state, table

    def _bounds(self, shape: tuple[int, ...]) -> tuple[F64, F64]:
        low, high = self._depths_um
        return (
            np.array([-_OUTSIDE_PX, -_OUTSIDE_PX, low]),
            np.array([shape[1] - 1 + _OUTSIDE_PX, shape[0] - 1 + _OUTSIDE_PX, high]),
        )

    def _prior(self, scan: Scan, wide: F64, pairs: Pairs, new: I64) -> EmitterPrior:
        """Predictions of the tracks, and the new candidates; tracks that are not confirmed know theirs."""
        pool = scan.pool
        place, _, spread = combined(pool.gaussians, pool.weights)[:3]
        fresh = pool.track_id[pairs.tracks] == 0
        tracks, hits = pairs.tracks[fresh], pairs.hits[fresh]
        gain = spread[:, tracks] / (spread[:, tracks] + wide[:, hits])
        place[:, tracks] += gain * (scan.measured[:, hits] - place[:, tracks])
        spread[:, tracks] *= 1 - gain
        photons, variance = pool.light
        light = np.stack([photons, variance + (_LIGHT_CHANGE * photons) ** 2])
        unit = self._unit_um[:, None]
        mean = np.concatenate([place, scan.measured[:, new]], axis=1) / unit
        variances = np.concatenate([spread, wide[:, new]], axis=1) / unit**2
        photons, variance = np.maximum(np.concatenate([light, scan.light[:, new]], axis=1), _LEAST_LIGHT)
        return EmitterPrior(
            np.column_stack([mean.T, photons]), 1 / np.column_stack([variances.T, variance]), known=len(pool)
        )

    def _take_images(self, scan: Scan, measured: F64, variance: F64, seen: Bools) -> None:
        """Update the motion of the tracks by their measured positions."""
        pool = scan.pool
        position, _, spread = pool.gaussians[:3]
        after = posterior(pool.weights, log_likelihood(position, spread, measured, variance))
        sure = np.flatnonzero((scan.exists > SURE) & seen)
        self.noise.learn(pool.gaussians[..., sure], after[:, sure], measured[:, sure], variance[:, sure])
        pool.gaussians[:] = update(pool.gaussians, measured, variance)
        pool.weights[:] = after

    def _blurred(self, pool: Pool) -> F64:
        """Factor on the lateral variances of the positions of tracks, because they move in the exposure; shape (2, N).

        The fitted pattern is sharp. Motion with the variance b² in the exposure lowers the contrast at the spatial
        frequency f by exp(-2 π² f² b²), and the information by the square of that. Pixels of the width p resolve
        frequencies up to 1 / (2 p). The exposure is taken to last from frame to frame: b² is (v t)² / 12 along a line,
        and D t / 3 of a random walk.
        """
        bank, frame_s = self.noise.bank(), self.noise.frame_s
        velocity = np.where(bank.directed[:, None, None], pool.gaussians[1, :, :2], 0.0)
        of_models = (velocity * frame_s) ** 2 / 12 + (bank.diffusion_um2_s * frame_s / 3)[:, None, None]
        spread = (pool.weights[:, None] * of_models).sum(axis=0)
        factor: F64 = np.exp(np.minimum(_BLURRED * spread * (np.pi / self._unit_um[0]) ** 2, np.log(_MOST_BLURRED)))
        return factor

    @staticmethod
    def _beside(pool: Pool, reach_um: F64) -> Bools:
        """Tracks inside the ellipsoid with half axes `reach_um` around one with more localizations."""
        place = combined(pool.gaussians, pool.weights)[0]
        away = (place[:, :, None] - place[:, None]) / reach_um[:, None, None]
        rank = np.empty(len(pool), np.int64)
        rank[np.lexsort((pool.log_odds, pool.hits))] = np.arange(len(pool))
        result: Bools = (((away * away).sum(axis=0) < 1) & (rank[None, :] > rank[:, None])).any(axis=1)
        return result

    def _births_of(
        self, scan: Scan, fit: PriorFit, evidence: ImageEvidence, count: int, missed: F64, first_row: int
    ) -> Births:
        """Tracks that begin: new candidates after the fit, and emitters that the residual shows."""
        new = slice(count, None)
        unit = self._unit_um
        variance = np.stack([fit.blocks[new, axis, axis] for axis in range(3)], axis=1) * evidence.chi2[new, None]
        share = 0.5 * np.log(scan.densities.new / scan.densities.real)
        odds = np.concatenate([evidence.first_log_odds[new] + share, missed[:, 4]])
        light = np.stack([fit.emitters[new, 3], fit.blocks[new, 3, 3]])
        light_missed = np.stack([missed[:, 3], (_LIGHT_MISSED * missed[:, 3]) ** 2])
        sigma = np.maximum(np.stack([np.full(len(missed), 1.5)] * 2 + [0.05 * missed[:, 2]]), 1.5)
        keep = odds > np.log(self.settings.end_probability)
        measured = np.concatenate([fit.emitters[new, :3] * unit, missed[:, :3] * unit]).T
        variances = np.concatenate([(variance * unit**2).T, sigma**2], axis=1)
        return Births(
            measured[:, keep],
            variances[:, keep],
            odds[keep],
            np.concatenate([light, light_missed], axis=1)[:, keep],
            first_row + np.arange(np.count_nonzero(keep)),
        )

    def _table(
        self, scan: Scan, fit: PriorFit, measured: F64, variance: F64, seen: I64, births: Births
    ) -> Localizations:
        """Localizations of the seen tracks, then of the tracks that begin."""
        pool = scan.pool
        count = len(seen) + len(births.log_odds)
        place = np.concatenate([measured[:, seen], births.measured], axis=1)
        sigma = np.sqrt(np.concatenate([variance[:, seen], births.variance], axis=1))
        chi2, _ = fit.evaluation.misfit
        return Localizations(
            frame=np.full(count, scan.frame, np.int64),
            x_um=place[0],
            y_um=place[1],
            z_um=place[2],
            photons=np.append(fit.emitters[seen, 3], births.light[0]),
            background=np.full(count, fit.background),
            probability=expit(np.append(pool.log_odds[seen], births.log_odds)),
            sigma_x_um=sigma[0],
            sigma_y_um=sigma[1],
            sigma_z_um=sigma[2],
            chi2=np.append(chi2[seen], np.full(len(births.log_odds), np.nan)),
        )

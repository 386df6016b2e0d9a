"""Simulated localizations of true tracks, with stated qualities of detection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from evaluation.tracks.patterns import BOX_UM
from models.tables import Localizations, Truth

__all__ = ["QUALITIES", "Quality", "detections"]

_MIDDLE_UM = 53.0
_UNINFORMATIVE = 0.9


@dataclass(frozen=True)
class Quality:
    """How well objects are found.

    Attributes
    ----------
    name : str
    recall : share of the objects that is found in a frame
    burst_frames : mean number of frames for which an object stays unfound
    false : false localizations per true object and frame
    sigma_um : standard deviations along x, y, z, µm
    growth : relative growth of the sigmas from the middle depth to the deepest
    separation : standard deviations between the scores of true and of false localizations, from which their
        probabilities follow; 0: all have the same probability, without information
    """

    name: str
    recall: float
    burst_frames: float
    false: float
    sigma_um: tuple[float, float, float]
    growth: float = 0.0
    separation: float = 0.0


QUALITIES = (
    Quality("standard", 0.9, 1.0, 0.05, (0.5, 0.5, 1.5)),
    Quality("hard", 0.75, 5.0, 0.15, (0.5, 0.5, 1.5), growth=1.0),
    Quality("fine", 0.95, 1.0, 0.03, (0.15, 0.15, 0.3)),
)


def detections(truth: Truth, quality: Quality, seed: int) -> Localizations:
    """Localizations of a truth table, with true sigmas."""
    rng = np.random.default_rng(seed)
    seen = _seen(truth, quality, rng)
    xyz = np.column_stack([truth.x_um, truth.y_um, truth.z_um])[seen]
    frames = truth.frame[seen]
    low, high = np.array(BOX_UM).T
    count = rng.poisson(quality.false * np.bincount(truth.frame))
    xyz = np.concatenate([xyz, rng.uniform(low, high, (int(count.sum()), 3))])
    frames = np.concatenate([frames, np.repeat(np.arange(len(count)), count)])
    depth = np.clip((xyz[:, 2] - _MIDDLE_UM) / (high[2] - _MIDDLE_UM), 0, None)
    sigma = np.array(quality.sigma_um) * (1 + quality.growth * depth)[:, None]
    true = np.arange(len(xyz)) < int(seen.sum())
    xyz = xyz + np.where(true[:, None], rng.normal(0.0, sigma), 0.0)
    order = rng.permutation(len(xyz))
    order = order[np.argsort(frames[order], kind="stable")]
    ones = np.ones(len(xyz))
    columns = dict(zip(("x_um", "y_um", "z_um"), xyz.T, strict=True))
    columns |= dict(zip(("sigma_x_um", "sigma_y_um", "sigma_z_um"), sigma.T, strict=True))
    columns |= {"frame": frames, "photons": 1000 * ones, "background": ones, "chi2": np.nan * ones}
    found = Localizations.from_columns(columns | {"probability": _probabilities(true, quality, seed)})
    return found.select(order)


def _probabilities(true: NDArray[np.bool_], quality: Quality, seed: int) -> NDArray[np.float64]:
    """Probabilities that are right on average: of the localizations with the probability p, the share p is true.

    The scores of true and of false localizations are normal with equal spread, so the log odds are linear in the
    score, and the share of true ones gives the constant.
    """
    if not quality.separation:
        return np.full(len(true), _UNINFORMATIVE)
    scores = np.random.default_rng([seed, 1]).standard_normal(len(true)) + quality.separation * true
    constant = np.log(quality.recall / quality.false)
    result: NDArray[np.float64] = expit(quality.separation * (scores - quality.separation / 2) + constant)
    return result


def _seen(truth: Truth, quality: Quality, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A Markov chain for each object: it is lost at a rate that gives the recall, for `burst_frames` on average."""
    back = 1.0 / quality.burst_frames
    lose = back * (1 - quality.recall) / quality.recall
    if quality.burst_frames == 1.0:
        return rng.random(len(truth)) < quality.recall
    seen = np.zeros(len(truth), bool)
    for number in np.unique(truth.track_id):
        rows = np.flatnonzero(truth.track_id == number)
        now = rng.random() < quality.recall
        for row in rows[np.argsort(truth.frame[rows])]:
            now = rng.random() >= lose if now else rng.random() < back
            seen[row] = now
    return seen

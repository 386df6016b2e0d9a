"""Fit all emitters of an image that are known from earlier images: the update of a filter that measures the image.

Position and photons of each emitter have a prior, Gaussian except for longer tails of the positions. Steps are those of
Fisher scoring, as in `joint_fit`, first on rough cells and then on cells as fine as the patterns need (`evaluation`).
Because each fit begins at its prior, few steps suffice.

Photons of emitters that are known change together when the lamp flickers: their prior allows for one common factor. A
factor far from 1 is found first, with all positions fixed; so is that of the emitters that are not known yet.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.fit.fitted_image import FittedImage, ImageEvaluation
from models.fit.step import FEWEST_PHOTONS, apply_step

__all__ = ["EmitterPrior", "PriorFit", "fit_with_prior"]

Array = NDArray[np.float64]

_LEAST_BACKGROUND_E = 1e-3

_FLICKER = 0.2
"""Standard deviation of the common factor of the light, against the image before."""
_NO_FLICKER = 0.1
"""A smaller change of the light is left to the fit itself. The light of new emitters is scaled too: localizers state it
up to three times too high where it is low."""
_MOST_FLICKER = 10.0
"""The light is scaled at most by this factor."""

_FREEDOM = 4.0
"""Degrees of freedom of the tails of the position prior: beyond a squared Mahalanobis distance of 3, the number of
axes, it falls as a t distribution, so that an emitter that turns is not held back. Nearer it is Gaussian."""

_FREE = 0.03
"""Factor on the weight of the photons' prior when the existence of an emitter is tested. With 1 two tracks could share
the light of one emitter for ever: the prior would keep each of them from taking all of it."""

_RIDGE = 1e-9
"""Added to the normal matrix scaled to a unit diagonal, for emitters without light in the image."""

_DAMPING, _LEAST_DAMPING, _LARGEST_DAMPING = 1e-3, 1e-6, 1e3
_UP, _DOWN = 10.0, 4.0
_LEAST_GAIN = 0.05
"""The fit ends when a step lowers the cost by less: a third of one standard deviation of one parameter."""


_LONGEST_LAST = 9.0
"""Squared length, in standard deviations, of the longest step that is taken without an evaluation after it."""


@dataclass(frozen=True, slots=True)
class EmitterPrior:
    """Prior of each emitter; all arrays of shape (N, 4): x, y (pixels), z (µm), photons.

    That of the photons is Gaussian; that of the position is Gaussian in the middle, with the tails of a t distribution.

    Attributes
    ----------
    mean : ndarray of float64
    weight : ndarray of float64
        One over the variance of each.
    known : int
        The first so many emitters are known from the image before: their light may change by a common factor.
    """

    mean: Array
    weight: Array
    known: int

    def __len__(self) -> int:
        return len(self.mean)

    def matrix(self) -> Array:
        """Inverse covariance of all parameters and the background, shape (4 N + 1, 4 N + 1)."""
        matrix = np.diag(np.append(self.weight.ravel(), 0.0))
        matrix[3:-1:4, 3:-1:4] = self.light_matrix()
        return matrix

    def slope(self, emitters: Array) -> Array:
        """Gradient of the cost of a Gaussian prior at emitters (N, 4) by all parameters and the background."""
        slope = np.append((self.weight * (emitters - self.mean)).ravel(), 0.0)
        together, spread = self._lamp()
        away = emitters[: self.known, 3] - self.mean[: self.known, 3]
        slope[3 : 4 * self.known : 4] -= together * (float(together @ away) / spread)
        return slope

    def cost(self, emitters: Array) -> float:
        """Negative logarithm of the prior at emitters (N, 4), up to a constant."""
        away = emitters - self.mean
        own = self.weight[:, 3] * away[:, 3]
        together, spread = self._lamp()
        light = 0.5 * (float(own @ away[:, 3]) - float(together @ away[: self.known, 3]) ** 2 / spread)
        distance, whole = self._distance(emitters), _FREEDOM + 3
        tails = 3.0 + whole * np.log((_FREEDOM + np.maximum(distance, 3.0)) / whole)
        return light + 0.5 * float(np.where(distance < 3.0, distance, tails).sum())

    def relaxed(self, emitters: Array) -> EmitterPrior:
        """Gaussian prior with the same slope at emitters (N, 4): wider where they are far from the mean."""
        weight = self.weight.copy()
        weight[:, :3] *= np.minimum((_FREEDOM + 3) / (_FREEDOM + self._distance(emitters)), 1.0)[:, None]
        return EmitterPrior(self.mean, weight, self.known)

    def light_matrix(self) -> Array:
        """Inverse covariance of the photons, shape (N, N)."""
        matrix = np.diag(self.weight[:, 3])
        together, spread = self._lamp()
        matrix[: self.known, : self.known] -= np.outer(together, together) / spread
        return matrix

    def _lamp(self) -> tuple[Array, float]:
        """What the common factor takes from the inverse covariance of the photons: the vector u and s of u uᵀ / s.

        The covariance is diagonal plus the square of the flicker times mean meanᵀ (Woodbury).
        """
        mean = self.mean[: self.known, 3]
        together = self.weight[: self.known, 3] * mean
        return together, 1 / _FLICKER**2 + float(together @ mean)

    def _distance(self, emitters: Array) -> Array:
        distance: Array = (self.weight[:, :3] * (emitters[:, :3] - self.mean[:, :3]) ** 2).sum(axis=1)
        return distance

    def scaled(self, known: float, others: float) -> EmitterPrior:
        """The same with the light of the known emitters and of the others times a factor each."""
        factor = np.where(np.arange(len(self)) < self.known, known, others)
        mean, weight = self.mean.copy(), self.weight.copy()
        mean[:, 3] *= factor
        weight[:, 3] /= factor**2
        return EmitterPrior(mean, weight, self.known)


@dataclass(frozen=True, slots=True)
class PriorFit:
    """Result of a fit with priors.

    Attributes
    ----------
    prior : EmitterPrior
        With the light scaled to the image, and relaxed at the fitted positions.
    emitters : ndarray of float64, shape (N, 4)
        x (pixels), y (pixels), z (µm), photons.
    background : float
        Photo-electrons per pixel.
    blocks : ndarray of float64, shape (N, 4, 4)
        Posterior covariance of the parameters of each emitter, with all other parameters fitted too.
    light_information : ndarray of float64, shape (N,)
        Information of the image on the photons of each emitter at a fixed position, with nearly no prior of the light
        of all others. It is small where neighbours can explain the light.
    evaluation : ImageEvaluation
        At the emitters before the last step.
    bounds : ndarray of float64, shape (N, 3), twice
        Lowest and highest x, y (pixels) and z (µm).
    """

    prior: EmitterPrior
    emitters: Array
    background: float
    blocks: Array
    light_information: Array
    evaluation: ImageEvaluation
    bounds: tuple[Array, Array]


def fit_with_prior(
    image: FittedImage,
    prior: EmitterPrior,
    background: float,
    bounds: tuple[Array, Array],
    steps: int,
    rough_steps: int = 0,
) -> PriorFit:
    """Fit the emitters of an image, starting from their prior.

    Parameters
    ----------
    image : FittedImage
    prior : EmitterPrior
    background : float
        Start, photo-electrons per pixel.
    bounds : (low, high)
        Of x, y (pixels) and z (µm), shape (3,) or (N, 3) each.
    steps : int
        Most steps on fine cells.
    rough_steps : int
        Most steps on rough cells before these: they have fewer local optima, because rings are blurred there.
    """
    count = len(prior)
    low, high = (np.ascontiguousarray(np.broadcast_to(end, (count, 3)), np.float64) for end in bounds)
    start = prior.mean.copy()
    start[:, :3] = np.clip(start[:, :3], low, high)
    start[:, 3] = np.maximum(start[:, 3], FEWEST_PHOTONS)
    background = max(background, _LEAST_BACKGROUND_E)
    now = (image.rough() if rough_steps else image).evaluate(start, background)
    if prior.known:
        now, prior = _scale_light(now, prior)
    if rough_steps:
        now = _descend(now, prior, (low, high), rough_steps)
        now = image.evaluate(now.emitters, now.background)
    now = _descend(now, prior, (low, high), steps)
    prior = prior.relaxed(now.emitters)
    matrix, gradient = now.equations
    covariance = _inverse(matrix + prior.matrix())
    blocks = _blocks(covariance)
    emitters, background = _last_step(now, covariance @ (gradient - prior.slope(now.emitters)), blocks, (low, high))
    light = _light_information(covariance, blocks, prior)
    return PriorFit(prior, emitters, background, blocks, light, now, (low, high))


def _descend(now: ImageEvaluation, prior: EmitterPrior, bounds: tuple[Array, Array], steps: int) -> ImageEvaluation:
    """Take up to so many damped steps of Fisher scoring, each of which lowers the cost."""
    damping = _DAMPING
    for _ in range(steps):
        matrix, gradient = now.equations
        relaxed = prior.relaxed(now.emitters)
        total = matrix + relaxed.matrix()
        pull = gradient - relaxed.slope(now.emitters)
        scale = np.sqrt(np.maximum(np.diagonal(total), 1e-12))
        scaled = total / np.outer(scale, scale)
        gain = -np.inf
        while gain < 0 and damping <= _LARGEST_DAMPING:
            damped = scaled.copy()
            damped[np.diag_indices_from(damped)] += damping + _RIDGE
            step = np.linalg.solve(damped, pull / scale) / scale
            emitters = apply_step(now.emitters, step, scale, *bounds)
            background = max(now.background + float(step[-1]), _LEAST_BACKGROUND_E)
            trial = now.image.evaluate(emitters, background, now)
            gain = _gain(now, trial, prior)
            damping = damping * _UP if gain < 0 else max(damping / _DOWN, _LEAST_DAMPING)
        if gain < 0:
            break
        now = trial
        if gain < _LEAST_GAIN:
            break
    return now


def _gain(now: ImageEvaluation, trial: ImageEvaluation, prior: EmitterPrior) -> float:
    """How much a step lowers the cost, on equal cells."""
    before = now.on_cells_of(trial)
    return before.cost_on_cells - trial.cost_on_cells + prior.cost(now.emitters) - prior.cost(trial.emitters)


def _scale_light(now: ImageEvaluation, prior: EmitterPrior) -> tuple[ImageEvaluation, EmitterPrior]:
    """Scale the light of the known emitters, of the others and the background to the image, positions fixed."""
    count = len(prior)
    groups = np.zeros((4 * count + 1, 3))
    groups[3:-1:4, 0] = np.where(np.arange(count) < prior.known, now.emitters[:, 3], 0.0)
    groups[3:-1:4, 1] = now.emitters[:, 3] - groups[3:-1:4, 0]
    groups[-1, 2] = 1.0
    matrix, gradient = now.equations
    information = groups.T @ matrix @ groups
    # Both factors have a prior of 1 with a standard deviation of 1, which holds groups without light in the image.
    information[[0, 1, 2], [0, 1, 2]] += [1.0, 1.0, 1e-9]
    change = np.linalg.solve(information, groups.T @ gradient)
    known, others = np.clip(1 + change[:2], 1 / _MOST_FLICKER, _MOST_FLICKER)
    if abs(known - 1) < _NO_FLICKER and (abs(others - 1) < _NO_FLICKER or prior.known == count):
        return now, prior
    prior = prior.scaled(float(known), float(others))
    emitters = now.emitters.copy()
    emitters[:, 3] = np.maximum(prior.mean[:, 3], FEWEST_PHOTONS)
    background = max(now.background + float(change[2]), now.background / _MOST_FLICKER, _LEAST_BACKGROUND_E)
    return now.image.evaluate(emitters, background, now), prior


def _last_step(now: ImageEvaluation, step: Array, blocks: Array, bounds: tuple[Array, Array]) -> tuple[Array, float]:
    """Emitters and background after a step that is not evaluated; emitters for which it is long stay."""
    count = len(now.emitters)
    own = step[:-1].reshape(count, 4)
    distance = (own * np.linalg.solve(blocks, own[:, :, None])[:, :, 0]).sum(axis=1)
    taken = np.append(np.where((distance < _LONGEST_LAST)[:, None], own, 0.0).ravel(), step[-1])
    scale = np.append(1 / np.sqrt(np.maximum(np.diagonal(blocks, axis1=1, axis2=2), 1e-12)).ravel(), 1.0)
    emitters = apply_step(now.emitters, taken, scale, *bounds)
    return emitters, max(now.background + float(step[-1]), _LEAST_BACKGROUND_E)


def _light_information(covariance: Array, blocks: Array, prior: EmitterPrior) -> Array:
    """See `PriorFit.light_information`: most of the prior of the photons is taken from the covariance (Woodbury)."""
    free = _FREE * prior.weight[:, 3]
    less = prior.light_matrix() - np.diag(free)
    with_light = covariance[:-1, 3:-1:4]
    wider = less @ np.linalg.inv(np.eye(len(less)) - with_light[3::4] @ less)
    own = with_light.reshape(len(less), 4, len(less))
    added = own @ wider @ own.transpose(0, 2, 1)
    information: Array = np.linalg.inv(blocks + added)[:, 3, 3] - free
    return information


def _inverse(matrix: Array) -> Array:
    scale = np.sqrt(np.maximum(np.diagonal(matrix), 1e-12))
    scaled = matrix / np.outer(scale, scale)
    scaled[np.diag_indices_from(scaled)] += _RIDGE
    inverse: Array = np.linalg.inv(scaled) / np.outer(scale, scale)
    return inverse


def _blocks(matrix: Array) -> Array:
    """The blocks of 4 x 4 on the diagonal, shape (N, 4, 4)."""
    rows = 4 * np.arange((len(matrix) - 1) // 4)[:, None] + np.arange(4)
    blocks: Array = matrix[rows[:, :, None], rows[:, None, :]]
    return blocks

"""Input of every experiment: benchmark optics, methods with tuned thresholds, seed and size.

Decision thresholds of all methods are tuned on one validation set, whose seeds
differ from those of the test frames: the threshold with the best mean Jaccard
index over dim and bright, sparse and crowded frames of both forms of light.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.registry import Method, make_method
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import (
    FRAME_SHAPE,
    Box,
    Frames,
    Light,
    Photons,
    Snr,
    expose,
    middle_box,
    uniform_emitters,
)
from evaluation.runs.kept_results import KeptResults
from evaluation.scores.scoring import score_at
from models.calibration.calibration import Calibration
from models.camera import CameraModel
from models.tables import Localizations

__all__ = ["VALIDATION_SEED", "Benchmark", "MethodRun", "best_threshold", "tune", "validation_frames"]

VALIDATION_SEED = 4_502_003
"""Apart from the hidden optics, the sweep and, by being the first word of a pair, from every seed of test frames."""

_BATCH = 8
_VALIDATION: tuple[tuple[int, Light], ...] = (
    (20, Snr(0.0)),
    (20, Snr(10.0)),
    (20, Snr(30.0)),
    (64, Snr(30.0)),
    (20, Photons(3e3, 2.0)),
    (20, Photons(3e4, 10.0)),
)
_VALIDATION_FRAMES = 12
_QUICK_VALIDATION: tuple[tuple[int, Light], ...] = ((20, Snr(10.0)),)
_QUICK_VALIDATION_FRAMES = 3
_THRESHOLDS = 60
_AS_GOOD = 0.005
"""Tolerance of the mean Jaccard index of the validation frames, whose standard error is about 0.01."""

_FEWEST_FRAMES, _MOST_OF_FEWEST = 4, 10
_ENOUGH_EMITTERS = 100
"""A slow method gets frames with at least so many emitters in all, which determines J to about 0.05."""


@dataclass
class MethodRun:
    """A method in the comparison, with its tuned threshold and the time that it has used.

    Attributes
    ----------
    label : str
        In tables and figures.
    name : str
        In the registry.
    calibration : Calibration
        From which the method is made; for a network, that of the benchmark optics.
    optics_source : str
        Source of its PSF: ``"exact"``, ``"computed"``, ``"measured"`` or ``"cells"``.
    model_folder : Path or None
    threshold : float
        Lowest score of an accepted localization; set by `tune`.
    seconds : float
        Processor time used so far.
    frames : int
        Number of frames localized so far.
    kept : KeptResults or None
        Where localizations are kept for a run that is interrupted.
    """

    label: str
    name: str
    calibration: Calibration
    optics_source: str
    model_folder: Path | None = None
    threshold: float = 0.0
    seconds: float = 0.0
    frames: int = 0
    kept: KeptResults | None = field(default=None, repr=False)
    _made: dict[CameraModel, Method] = field(default_factory=dict, repr=False)

    def candidates(self, frames: Frames) -> Localizations:
        """All localizations with their scores, without the threshold; adds processor time to `seconds`."""
        return self.candidates_of(frames.counts, frames.camera)

    def candidates_of(self, counts: NDArray[np.uint16], camera: CameraModel) -> Localizations:
        """The same for frames (F, H, W) of any camera."""
        parts = []
        for start in range(0, len(counts), _BATCH):
            numbers = np.arange(start, min(start + _BATCH, len(counts)), dtype=np.int64)
            found, seconds = self._localize_batch(counts[numbers], numbers, camera)
            parts.append(found)
            self.seconds += seconds
        self.frames += len(counts)
        return Localizations.concatenate(parts)

    def _localize_batch(
        self, counts: NDArray[np.uint16], numbers: NDArray[np.int64], camera: CameraModel
    ) -> tuple[Localizations, float]:
        """Localizations in one batch, and the processor time that they took when they were computed."""
        known = self.kept and self.kept.find(self.label, camera, counts, int(numbers[0]))
        if known:
            return known
        method = self.prepare(camera)
        begun = time.process_time()
        found = method(counts, numbers)
        seconds = time.process_time() - begun
        if self.kept is not None:
            self.kept.keep(self.label, camera, counts, int(numbers[0]), found, seconds)
        return found, seconds

    def candidates_within(
        self, frames: Frames, seconds: float, fewest: int | None = None
    ) -> tuple[Frames, Localizations]:
        """Candidates of as many of the first frames as there is processor time for, and these frames.

        Parameters
        ----------
        frames : Frames
        seconds : float
            Processor time; a frame is skipped when the pace so far predicts that it would exceed the limit.
        fewest : int, optional
            Least number of frames, whatever their time; by default those that hold 100 emitters, 4 to 10.
        """
        if fewest is None:
            emitters = max(sum(len(each) for each in frames.emitters) / len(frames), 1.0)
            fewest = int(np.clip(np.ceil(_ENOUGH_EMITTERS / emitters), _FEWEST_FRAMES, _MOST_OF_FEWEST))
        begun, done = self.seconds, 0
        parts: list[Localizations] = []
        while done < len(frames):
            spent = self.seconds - begun
            room = int((seconds - spent) * done / max(spent, 1e-9)) if done else fewest
            if done >= fewest and room < 1:
                break
            step = min(_BATCH, max(room, fewest - done), len(frames) - done)
            found = self.candidates(frames.part(done, done + step))
            parts.append(replace(found, frame=found.frame + done))
            done += step
        return frames.first(done), Localizations.concatenate(parts)

    def localizations(self, frames: Frames) -> Localizations:
        """Localizations at the tuned threshold."""
        return self.above_threshold(self.candidates(frames))

    def above_threshold(self, candidates: Localizations) -> Localizations:
        """Candidates at or above the tuned threshold."""
        return candidates.select(candidates.probability >= self.threshold)

    def prepare(self, camera: CameraModel) -> Method:
        """The method for a camera; only that of the last camera is kept, because it may be large.

        Raises
        ------
        MethodMissing
            When it cannot run here.
        """
        if camera not in self._made:
            self._made.clear()
            self._made[camera] = make_method(self.name, self.calibration, camera, self.model_folder)
        return self._made[camera]

    def release(self) -> None:
        """Free the prepared method; `prepare` makes it again when needed."""
        self._made.clear()


@dataclass
class Benchmark:
    """Methods, optics and size of an experiment.

    Attributes
    ----------
    optics : BenchmarkOptics
    method_runs : sequence of MethodRun
    quick : bool
        The short form, for continuous integration.
    seed : int
        Of the test frames.
    seconds : float
        Processor time that a method may take for the frames of one condition; slow methods get the first of them.
    advance : callable
        Called with the share of the experiment that is done and what was done.
    minutes : float
        From a sweep to a model, wall time, for an experiment that trains.
    workshop : Path or None
        Folder for what an experiment makes for itself, models for instance; it is still there when an interrupted run
        goes on. None where nothing is kept.
    cache : Path or None
        Folder for results that later runs may use too. None where nothing is kept.
    """

    optics: BenchmarkOptics
    method_runs: Sequence[MethodRun]
    quick: bool
    seed: int
    seconds: float = 30.0
    advance: Callable[[float, str], None] = lambda _done, _what: None
    minutes: float = 10.0
    workshop: Path | None = None
    cache: Path | None = None

    @property
    def kept(self) -> KeptResults | None:
        """Where localizations are kept, for methods that an experiment makes for itself."""
        return None if self.workshop is None else KeptResults(self.workshop / "answers")

    def box(self, shape: tuple[int, int], side_um: float | None = None) -> Box:
        """Volume of emitters in the middle of frames of `shape`; as wide as is usual for the optics when not given."""
        return middle_box(shape, self.optics.pixel_size_um, self.optics.depths_um, side_um or self.optics.side_um)

    def candidates(
        self, method_run: MethodRun, frames: Frames, fewest: int | None = None
    ) -> tuple[Frames, Localizations]:
        """The first of the frames that a method has time for, and its candidates; see `MethodRun.candidates_within`."""
        return method_run.candidates_within(frames, self.seconds, fewest)

    def localizations(
        self, method_run: MethodRun, frames: Frames, fewest: int | None = None
    ) -> tuple[Frames, Localizations]:
        """The first of the frames that a method has time for, and its localizations at the tuned threshold."""
        used_frames, found = self.candidates(method_run, frames, fewest)
        return used_frames, method_run.above_threshold(found)

    def rng(self, *words: int) -> np.random.Generator:
        """Generator of a condition; the seed first, so that conditions do not depend on each other."""
        return np.random.default_rng([self.seed, *words])


def validation_frames(optics: BenchmarkOptics, *, quick: bool) -> list[Frames]:
    """The validation set, the same for all methods."""
    box = middle_box(FRAME_SHAPE, optics.pixel_size_um, optics.depths_um, optics.side_um)
    conditions = _QUICK_VALIDATION if quick else _VALIDATION
    each = _QUICK_VALIDATION_FRAMES if quick else _VALIDATION_FRAMES
    frames = []
    for index, (points, light) in enumerate(conditions):
        rng = np.random.default_rng([VALIDATION_SEED, index])
        emitters = [uniform_emitters(rng, points, box) for _ in range(each)]
        frames.append(expose(optics, emitters, light, FRAME_SHAPE, rng))
    return frames


def tune(
    method_run: MethodRun, validation: Sequence[Frames], tolerance_um: float = 10.0, seconds: float = float("inf")
) -> float:
    """Set a threshold with the best mean Jaccard index over the validation conditions, and give that index.

    Over wide ranges the index hardly changes, so the best threshold depends on the noise of few frames. Of the
    thresholds within `_AS_GOOD` of the best index, the middle one is taken. A method may take `seconds` of processor
    time for each condition; a slow one is tuned with the first frames.
    """
    used_frames = [method_run.candidates_within(frames, seconds) for frames in validation]
    method_run.threshold, best = best_threshold(
        np.concatenate([each.probability for _, each in used_frames]),
        lambda threshold: [
            score_at(each.select(each.probability >= threshold), frames, tolerance_um).jaccard
            for frames, each in used_frames
        ],
    )
    return best


def best_threshold(
    scores: NDArray[np.float64], jaccard: Callable[[float], Sequence[float | None]]
) -> tuple[float, float]:
    """Threshold with the best mean Jaccard index, and that index; the middle one of those that are as good.

    Parameters
    ----------
    scores : ndarray of float64, shape (N,)
        Of all candidates.
    jaccard : callable
        Jaccard index of each validation condition at a threshold.
    """
    if len(scores) == 0:
        return 0.0, 0.0
    thresholds = np.unique(np.quantile(scores, np.linspace(0, 1, _THRESHOLDS)))
    means = np.array([np.mean([value or 0.0 for value in jaccard(float(each))]) for each in thresholds])
    best = float(means.max())
    good = thresholds[means >= best - _AS_GOOD]
    return float(good[len(good) // 2]), best

"""Limits of a movie: ideal detectors with the light of one frame and of several, and bounds of the positions."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.moving_points import FPS
from evaluation.experiments.moving_scenes import FIRST_SCORED, SPEED_UM_S, Movie
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, Frames, middle_box
from evaluation.scores.posterior_bound import (
    MotionModel,
    PosteriorBound,
    brownian_model,
    directed_model,
    posterior_bound,
)
from evaluation.scores.scoring import KNOWN_UM, Row, limit_columns

__all__ = ["FRAMES_JOINED", "MovieLimits", "movie_limits"]

F64 = NDArray[np.float64]

FRAMES_JOINED = (3, 10)
"""Numbers of frames whose light an ideal detector adds up: n frames of a known motion are worth 10 log10(n) dB."""

_LIMIT_FRAMES = 4
"""Frames of a movie, evenly spaced, for the ideal detectors: emitters move little between neighbours."""

_MOST_POINTS = 20
"""Bounds of more emitters take too long; the figures of density have none."""

_ACCELERATION_UM2_S3 = 10.0
"""The velocity of directed motion changes by 1 µm/s in 0.1 s, which is next to nothing."""

_MODELS: dict[str, MotionModel] = {
    "directed": directed_model(SPEED_UM_S, _ACCELERATION_UM2_S3, 1 / FPS),
    "brownian 10": brownian_model(10.0, 1 / FPS),
    "brownian 1": brownian_model(1.0, 1 / FPS),
}
"""Motions that are linear; pulsatile flow is not."""


@dataclass(frozen=True, slots=True)
class MovieLimits:
    """What the light of a movie allows.

    Attributes
    ----------
    columns : Row
        Limits as columns of a table.
    posterior : PosteriorBound or None
        Of all emitters and frames.
    """

    columns: Row
    posterior: PosteriorBound | None


def movie_limits(optics: BenchmarkOptics, movie: Movie) -> MovieLimits:
    """Limits of a movie."""
    frames = movie.frames
    box = middle_box(FRAME_SHAPE, optics.pixel_size_um, optics.depths_um, optics.side_um)
    detector = optics.ideal_detector(box)
    some = np.unique(np.linspace(FIRST_SCORED, len(frames) - 1, _LIMIT_FRAMES).round().astype(int))
    chosen = replace(
        frames,
        counts=frames.counts[some],
        emitters=tuple(frames.emitters[number] for number in some),
        background_e=frames.background_e[some],
    )
    one = limit_columns(optics.bounds(chosen), detector)
    columns: Row = {key: one[key] for key in ("limit_jaccard", "limit_rms_lateral_um", "limit_rms_axial_um")}
    for count in FRAMES_JOINED:
        columns[f"limit_jaccard_{count}"] = limit_columns(optics.bounds(_brighter(chosen, count)), detector)[
            "limit_jaccard"
        ]
    posterior = _posterior(optics, movie)
    if posterior is not None:
        columns |= _rms_columns("bound", posterior.filtered_um) | _rms_columns("bound_all", posterior.smoothed_um)
    return MovieLimits(columns, posterior)


def _brighter(frames: Frames, factor: float) -> Frames:
    """The truth of frames with more light, for limits; the counts stay."""
    lit = tuple(np.column_stack([each[:, :3], factor * each[:, 3]]) for each in frames.emitters)
    return replace(frames, emitters=lit, background_e=factor * frames.background_e)


def _posterior(optics: BenchmarkOptics, movie: Movie) -> PosteriorBound | None:
    if movie.scene.motion not in _MODELS or movie.scene.points > _MOST_POINTS:
        return None
    frames = movie.frames
    information = [
        optics.limits.information(optics.apparent(each), float(background), frames.read_noise_e, frames.shape)
        for each, background in zip(frames.emitters, frames.background_e, strict=True)
    ]
    return posterior_bound(information, _MODELS[movie.scene.motion])


def _rms_columns(name: str, sigma_um: F64) -> Row:
    """Root mean squares over the emitters that can be localized, in the frames that are scored."""
    scored = sigma_um[FIRST_SCORED:].reshape(-1, 3)
    known = scored[np.linalg.norm(scored, axis=1) < KNOWN_UM]
    if len(known) == 0:
        return {}
    lateral, axial = (float(np.sqrt(np.mean(each))) for each in ((known[:, :2] ** 2).sum(axis=1), known[:, 2] ** 2))
    return {f"{name}_rms_lateral_um": lateral, f"{name}_rms_axial_um": axial}

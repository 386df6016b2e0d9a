"""Bias and coverage of diffusion coefficients and exponents of tracks, on simulated localizations.

    python -m evaluation.scores.diffusion_scores

Particles with a known coefficient are found with the qualities `standard` and
`fine`; they are joined by the truth, or by the tracker. Bias is that of the
figures of all tracks of a scene, coverage the share of 95 % intervals that
hold the true coefficient, of scenes and of single tracks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from evaluation.tracks.detections import QUALITIES, Quality, detections
from models.measures import Measures, measure
from models.motion import Brownian
from models.tables import Localizations, Tracks, Truth
from models.tracking import smoothed_tracks

__all__ = ["DiffusionScore", "scene", "score"]

FPS = 100.0
SHORTEST, LONGEST = 20, 300
AXES = ("x", "y", "z", "all")

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class DiffusionScore:
    """Scores along x, y, z and of all axes together; all of shape (4,).

    Attributes
    ----------
    bias : relative bias of the coefficient of all tracks of a scene
    bias_error : its standard error
    coverage : share of scenes whose interval holds the true coefficient
    track_coverage : share of tracks whose interval holds it
    exponent_coverage : share of tracks whose interval of the exponent holds 1
    """

    bias: F64
    bias_error: F64
    coverage: F64
    track_coverage: F64
    exponent_coverage: float


def scene(
    diffusion_um2_s: float, quality: Quality, particles: int, seed: int, tracked: bool
) -> tuple[Tracks, Localizations]:
    """Tracks of particles that are seen for 20 to 300 frames each, and their localizations.

    The box is so large that no particle meets its walls, and none another one.
    """
    rng = np.random.default_rng(seed)
    start = np.column_stack([rng.uniform(40, 160, (particles, 2)), rng.uniform(30, 80, particles)])
    motion = Brownian(start, diffusion_um2_s, int(rng.integers(2**31)))
    frames = rng.integers(SHORTEST, LONGEST + 1, particles)
    paths = np.array([motion.positions(frame / FPS) for frame in range(LONGEST)])
    frame, column = np.nonzero(np.arange(LONGEST)[:, None] < frames)
    x, y, z = paths[frame, column].T
    truth = Truth(frame.astype(np.int64), x, y, z, (column + 1).astype(np.int64))
    found = detections(truth, quality, seed + 1_000_000)
    if tracked:
        return smoothed_tracks(found, FPS), found
    count, zero = len(truth), np.zeros(len(truth))
    sigma = zero + 0.1
    place = (truth.x_um, truth.y_um, truth.z_um)
    joined = Tracks(
        truth.track_id,
        frame,
        frame / FPS,
        *place,
        zero,
        zero,
        zero,
        sigma,
        sigma,
        sigma,
        np.ones(count, np.int64),
        sigma,
    )
    return joined, found


def score(
    diffusion_um2_s: float, quality: Quality, scenes: int, particles: int = 40, *, tracked: bool = False
) -> DiffusionScore:
    """Scores over simulated scenes."""
    measured = list(_measured(diffusion_um2_s, quality, scenes, particles, tracked))
    ensembles = [[each.ensemble.diffusion_um2_s[axis] for axis in AXES] for each in measured]
    value, low, high = (
        np.array([[_number(getattr(each, end)) for each in row] for row in ensembles])
        for end in ("value", "low", "high")
    )
    hits, tracks = np.zeros(4), np.zeros(4)
    for each in measured:
        for column, axis in enumerate(("x_", "y_", "z_", "")):
            bottom = getattr(each.tracks, f"diffusion_{axis}um2_s_low")
            top = getattr(each.tracks, f"diffusion_{axis}um2_s_high")
            hits[column] += np.count_nonzero((bottom <= diffusion_um2_s) & (top >= diffusion_um2_s))
            tracks[column] += np.count_nonzero(np.isfinite(bottom))
    exponents = np.concatenate(
        [np.stack([each.tracks.exponent_low, each.tracks.exponent_high]) for each in measured], 1
    )
    exponents = exponents[:, np.isfinite(exponents[0])]
    return DiffusionScore(
        bias=value.mean(axis=0) / diffusion_um2_s - 1,
        bias_error=value.std(axis=0, ddof=1) / diffusion_um2_s / np.sqrt(scenes),
        coverage=((low <= diffusion_um2_s) & (high >= diffusion_um2_s)).mean(axis=0),
        track_coverage=hits / tracks,
        exponent_coverage=float(np.mean((exponents[0] <= 1) & (exponents[1] >= 1))),
    )


def _measured(
    diffusion_um2_s: float, quality: Quality, scenes: int, particles: int, tracked: bool
) -> Iterator[Measures]:
    for seed in range(scenes):
        yield measure(*scene(diffusion_um2_s, quality, particles, 17 * seed, tracked))


def _number(value: float | None) -> float:
    return np.inf if value is None else value


def _main() -> None:
    head = "bias +- error | coverage of scenes | of tracks, %"
    print(f"quality, joined by, D: x, y, z, all: {head}; exponent: of tracks, %")
    for quality in (each for each in QUALITIES if each.name in ("standard", "fine")):
        for tracked in (False, True):
            for diffusion in (0.1, 1.0, 10.0):
                found = score(diffusion, quality, 12 if tracked else 40, tracked=tracked)
                cells = [
                    f"{100 * found.bias[k]:+.1f} +- {100 * found.bias_error[k]:.1f} | {100 * found.coverage[k]:.0f} | "
                    f"{100 * found.track_coverage[k]:.1f}"
                    for k in range(4)
                ]
                name = f"{quality.name}, {'tracker' if tracked else 'truth'}, {diffusion:g}"
                print(f"{name}: {'; '.join(cells)}; {100 * found.exponent_coverage:.1f}", flush=True)


if __name__ == "__main__":
    _main()

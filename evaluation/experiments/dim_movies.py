"""Dim moving points: whether tracks find what a threshold on single frames misses.

Part of the experiment `tracking`. Points move in straight lines or diffuse,
their brightness differs by a factor of 10, and the movies have 0, 5 and 10 dB.
Scored is the Jaccard index of all points, each frame for itself, in four forms:
localizations at the tuned threshold, tracks of these, tracks of all candidates
with a probability of 0.05 or more, and the latter smoothed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.moving_points import FPS, movie_truth, render_movie
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import FRAME_SHAPE, Frames, Snr
from evaluation.scores.scoring import Row
from models.metrics import Score, score_table
from models.motion import Brownian, Directed
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table

__all__ = ["dim_rows"]

_SNRS_DB, _QUICK_SNRS_DB = (0.0, 5.0, 10.0), (10.0,)
_MOVIES, _QUICK_MOVIES = 6, 2
_FRAMES, _QUICK_FRAMES = 60, 14
_POINTS = 20
_SETTLED_FRAMES = 10
"""Frames in which tracks begin; they are not scored, in any form."""

_SPEED_UM_S = 75.0
_DIFFUSION_UM2_S = 10.0
_TOLERANCE_UM = 10.0
_MOTIONS = ("directed", "brownian")


def dim_rows(benchmark: Benchmark, report: Callable[[float, str], None]) -> list[Row]:
    """One row for each network, motion, SNR and form: means over movies, with their standard errors.

    Parameters
    ----------
    benchmark : Benchmark
    report : callable
        Receives the share of the work that is done, and what was done.
    """
    networks = [each for each in benchmark.method_runs if needs_model(each.name)]
    snrs = _QUICK_SNRS_DB if benchmark.quick else _SNRS_DB
    conditions = [(network, motion, snr) for network in networks for motion in _MOTIONS for snr in snrs]
    rows: list[Row] = []
    for done, (network, motion, snr_db) in enumerate(conditions):
        report(done / len(conditions), f"dim points, {motion}, {snr_db:g} dB, {network.label}")
        scored = [
            scores
            for number in range(_QUICK_MOVIES if benchmark.quick else _MOVIES)
            if (scores := _scores(benchmark, network, _frames(benchmark, motion, snr_db, number)))
        ]
        for form in scored[0] if scored else ():
            each = [scores[form] for scores in scored]
            condition = {"method": network.label, "form": form, "motion": motion, "points": _POINTS, "snr_db": snr_db}
            rows.append(condition | {"movies": len(each), "tolerance_um": _TOLERANCE_UM} | _means(each))
    return rows


def _frames(benchmark: Benchmark, name: str, snr_db: float, number: int) -> Frames:
    words = _MOTIONS.index(name), int(snr_db), number
    rng = benchmark.rng(10, *words)
    box = benchmark.box(FRAME_SHAPE)
    low, high = np.array(box).T
    start = rng.uniform(low + 2, high - 2, (_POINTS, 3))
    way = rng.standard_normal((_POINTS, 3))
    way *= _SPEED_UM_S / np.linalg.norm(way, axis=1, keepdims=True)
    straight = name == "directed"
    motion = Directed(start, way, box) if straight else Brownian(start, _DIFFUSION_UM2_S, number, box_um=box)
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    images = render_movie(benchmark.optics, motion, rng.uniform(0.1, 1.0, _POINTS), count)
    return images.expose(Snr(snr_db), rng)


def _scores(benchmark: Benchmark, network: MethodRun, frames: Frames) -> dict[str, Score]:
    """Score of each form; empty when there was no time for enough frames."""
    used_frames, candidates = benchmark.candidates(network, frames, _SETTLED_FRAMES + 1)
    if len(used_frames) <= _SETTLED_FRAMES:
        return {}
    truth = movie_truth(used_frames)
    truth = truth.select(truth.frame >= _SETTLED_FRAMES)
    return {
        form: score_table(found.select(found.frame >= _SETTLED_FRAMES), truth, _TOLERANCE_UM)
        for form, found in _forms(candidates, network.above_threshold(candidates))
    }


def _forms(candidates: Localizations, found: Localizations) -> Iterator[tuple[str, Localizations | Tracks]]:
    yield "localizations", found
    yield "tracks of localizations", track_table(found, FPS)
    yield "tracks of candidates", track_table(candidates, FPS)
    yield "smoothed tracks of candidates", smoothed_tracks(candidates, FPS)


def _means(scores: list[Score]) -> Row:
    """Mean of each score over movies; that of J with its standard error, None for a single movie."""
    columns = {name: [getattr(score, name) for score in scores] for name in ("jaccard", "recall", "precision")}
    row: Row = {name: float(np.mean(values)) for name, values in columns.items()}
    spread = float(np.std(columns["jaccard"], ddof=1)) / np.sqrt(len(scores)) if len(scores) > 1 else None
    return row | {"jaccard_standard_error": spread}

"""Experiment `moving`: emitters that move through 100 x 100 x 100 µm³, found frame by frame and with their past.

What one frame does not hold, several do. The same movies are analysed frame by
frame (network, joint fit), by tracking what was found, and by filters whose
measurement is the image (`moving_methods`). Limits drawn in: the ideal detector
of one frame, the same with the light of three and of ten frames, and for
positions the posterior Cramér-Rao bound of the motion.

Tables: `moving` (means over movies), `moving-single` (each movie), and with
hidden optics `moving-ghosts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.moving_figures import draw
from evaluation.experiments.moving_ghosts import ghost_rows
from evaluation.experiments.moving_limits import MovieLimits, movie_limits
from evaluation.experiments.moving_methods import METHODS, Found, MovieSources, find_thresholds
from evaluation.experiments.moving_scenes import FIRST_SCORED, Movie, Scene, movies, scenes, validation_movies
from evaluation.experiments.moving_scores import mean_rows, movie_row
from evaluation.runs.identity import localizer_digest
from evaluation.runs.kept_results import KeptResults
from evaluation.scores.scoring import Row

__all__ = ["draw", "run"]

_NETWORK, _FIT = "cascade", "cascade --refine"
_TUNED, _MEASURED = 0.1, 0.9
"""Share of the work that is done after thresholds are set, and after all movies were analysed."""


@dataclass
class _Model:
    """A network with its joint fit, and the threshold of each method with it."""

    suffix: str
    network: MethodRun
    fit: MethodRun
    thresholds: dict[str, float]

    def find(self, movie: Movie) -> Iterator[tuple[str, Found, float]]:
        """Name, all points and processor time in s of each method."""
        sources = MovieSources(movie.frames, self.network, self.fit)
        for method in METHODS:
            yield method.name, *method.find(sources)

    def points(self, movie: Movie) -> dict[str, Found]:
        """Points at the threshold of each method, by its label."""
        return {name + self.suffix: self._above(name, found) for name, found, _ in self.find(movie)}

    def rows(self, movie: Movie, limits: MovieLimits) -> list[Row]:
        """Scores of each method in a movie."""
        smoothed = {method.name for method in METHODS if method.form == "smoothed"}
        rows: list[Row] = [
            {"method": name + self.suffix, "movie": movie.number}
            | movie_row(self._above(name, found), movie, limits.posterior, smoothed=name in smoothed)
            | {"seconds_per_frame": seconds / len(movie.frames)}
            for name, found, seconds in self.find(movie)
        ]
        fit = next(row for row in rows if row["method"] == _FIT + self.suffix)
        return [row | {"over_fit": row["jaccard_10"] - fit["jaccard_10"]} | limits.columns for row in rows]

    def _above(self, name: str, found: Found) -> Found:
        return found.select(found.probability >= self.thresholds[name])


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Tables `moving`, `moving-single` and `moving-ghosts`; empty where no cascade takes part."""
    optics = benchmark.optics
    models = list(_models(benchmark))
    means: list[Row] = []
    single: list[Row] = []
    if not models:
        return {"moving": means, "moving-single": single, "moving-ghosts": []}
    validation = list(validation_movies(optics, quick=benchmark.quick))
    for model in models:
        found = [(movie, {name: points for name, points, _ in model.find(movie)}) for movie in validation]
        model.thresholds = find_thresholds(found)
    benchmark.advance(_TUNED, "thresholds")
    chosen = scenes(quick=benchmark.quick)
    labels = {method.name + model.suffix: (model, method) for model in models for method in METHODS}
    methods: dict[str, Row] = {
        label: {"form": method.form, "threshold": model.thresholds[method.name]}
        for label, (model, method) in labels.items()
    }
    for done, scene in enumerate(chosen):
        rows: dict[float, list[Row]] = {db: [] for db in scene.decibels}
        for movie in movies(optics, scene, benchmark.seed):
            limits = movie_limits(optics, movie)
            for model in models:
                rows[movie.snr_db] += model.rows(movie, limits)
            part = (movie.number + (scene.decibels.index(movie.snr_db) + 1) / len(scene.decibels)) / scene.movies
            share = _TUNED + (_MEASURED - _TUNED) * (done + part) / len(chosen)
            benchmark.advance(share, f"{scene.motion}, {scene.points} points, {movie.snr_db:g} dB")
        for db, mine in rows.items():
            condition = _condition(scene, db)
            means += mean_rows(mine, condition, methods)
            single += [{"method": row["method"]} | condition | row for row in mine]
    ghosts = []
    if optics.hidden is not None:
        ghosts = ghost_rows(
            optics,
            benchmark.seed,
            lambda movie: {name: points for model in models for name, points in model.points(movie).items()},
            quick=benchmark.quick,
        )
    benchmark.advance(1.0, "ghosts")
    return {"moving": means, "moving-single": single, "moving-ghosts": ghosts}


def _condition(scene: Scene, db: float) -> Row:
    return {
        "motion": scene.motion,
        "points": scene.points,
        "snr_db": db,
        "form_of_light": "published",
        "frames": scene.frames - FIRST_SCORED,
    }


def _models(benchmark: Benchmark) -> Iterator[_Model]:
    """Every cascade of the benchmark, each with its joint fit, whether that is among the methods or not."""
    known = set()
    for method_run in benchmark.method_runs:
        if method_run.name not in (_NETWORK, _FIT) or method_run.model_folder in known:
            continue
        known.add(method_run.model_folder)
        suffix = method_run.label.removeprefix(method_run.name)
        kept = _kept(benchmark, method_run)
        network, fit = (
            replace(method_run, label=name + suffix, name=name, kept=kept, _made={}) for name in (_NETWORK, _FIT)
        )
        yield _Model(suffix, network, fit, {})


def _kept(benchmark: Benchmark, method_run: MethodRun) -> KeptResults | None:
    """Where localizations are kept from one run to the next: they take longest, and change least."""
    if benchmark.cache is None:
        return benchmark.kept
    return KeptResults(benchmark.cache / "localizations" / localizer_digest(method_run.model_folder))

"""The experiment `moving`: scenes, scores of known errors, thresholds, limits, and a small run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.experiments import moving, moving_ghosts
from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.moving_limits import movie_limits
from evaluation.experiments.moving_methods import METHODS, find_thresholds
from evaluation.experiments.moving_points import MovieImages, movie_truth
from evaluation.experiments.moving_scenes import FIRST_SCORED, MOTIONS, Movie, Scene, movies
from evaluation.experiments.moving_scores import mean_rows, movie_row
from evaluation.optics.benchmark_optics import BenchmarkOptics, exact_optics
from evaluation.optics.frames import PUBLISHED_CAMERA, Frames, Photons, Snr
from evaluation.scores.posterior_bound import PosteriorBound
from evaluation.scores.targets import targets
from models.tables import Localizations, Tracks, Truth

F64 = NDArray[np.float64]

FRAMES = 14


@pytest.fixture(scope="module")
def optics() -> BenchmarkOptics:
    return exact_optics()


def movie(points: int = 3, step_um: float = 0.5, frames: int = FRAMES) -> Movie:
    """A movie without images: emitters 30 µm apart at 40 µm depth that move along x."""
    places = [
        np.column_stack(
            [20.0 + 30.0 * np.arange(points) + step_um * frame, *np.full((2, points), 40.0), np.full(points, 1e4)]
        )
        for frame in range(frames)
    ]
    blank = np.zeros((frames, 8, 8), np.uint16)
    exposed = Frames(blank, tuple(places), np.ones(frames), np.zeros((8, 8), np.float32), PUBLISHED_CAMERA)
    return Movie(Scene("directed", points, (10.0,), 1, frames), 10.0, 0, exposed, movie_truth(exposed))


def tracks(truth: Truth, error_um: F64, sigma_um: float, probability: float = 0.9) -> Tracks:
    """The truth with errors (N, 3)."""
    count = len(truth)
    x, y, z = (np.column_stack([truth.x_um, truth.y_um, truth.z_um]) + error_um).T
    still, sigma = np.zeros(count), np.full(count, sigma_um)
    return Tracks(
        truth.track_id,
        truth.frame,
        truth.frame / 100.0,
        x,
        y,
        z,
        still,
        still,
        still,
        sigma,
        sigma,
        sigma,
        np.ones(count, np.int64),
        np.full(count, probability),
    )


def test_light_of_a_movie_is_steady_and_its_mean_in_decibels_is_that_asked_for() -> None:
    rng = np.random.default_rng(1)
    rendered = rng.random((5, 40, 40), np.float32) * np.arange(1, 6, dtype=np.float32)[:, None, None]
    emitters = tuple(np.array([[1.0, 2.0, 3.0, 0.5]]) for _ in range(5))
    frames = MovieImages(rendered, emitters).expose(Snr(12.0), rng)
    photons = np.array([each[0, 3] for each in frames.emitters])
    assert photons == pytest.approx(np.full(5, photons[0]))
    images = rendered.astype(np.float64) * photons[0] / 0.5
    decibels = 10 * np.log10(np.square(images).sum(axis=(1, 2)) / images.sum(axis=(1, 2)))
    assert decibels.mean() == pytest.approx(12.0, abs=1e-6)
    assert decibels.std() > 1
    assert frames.background_e == pytest.approx(np.full(5, 0.05 * images.mean()), rel=1e-6)
    physical = MovieImages(rendered, emitters).expose(Photons(700.0, 3.0), rng)
    assert [each[0, 3] for each in physical.emitters] == pytest.approx([700.0] * 5)


def test_an_emitter_that_enters_at_the_other_end_of_the_vessel_is_another_one(optics: BenchmarkOptics) -> None:
    box = ((30.0, 130.0), (30.0, 130.0), (0.0, 100.0))
    motion = MOTIONS["pulsatile"](box, 20, np.random.default_rng(5))
    places = [np.column_stack([motion.positions(0.01 * frame), np.ones(20)]) for frame in range(60)]
    blank = np.zeros((60, 4, 4), np.uint16)
    truth = movie_truth(
        Frames(blank, tuple(places), np.ones(60), np.zeros((4, 4), np.float32), PUBLISHED_CAMERA),
    )
    assert len(np.unique(truth.track_id)) > 20
    for number in np.unique(truth.track_id):
        way = truth.select(truth.track_id == number)
        assert np.all(np.diff(way.frame) == 1)
        assert np.all(np.abs(np.diff(way.x_um)) < 5.0)


def test_conditions_of_a_scene_have_the_same_paths(optics: BenchmarkOptics) -> None:
    dim, bright = movies(optics, Scene("brownian 10", 2, (0.0, 10.0), 1, 3), 7)
    assert np.array_equal(dim.truth.z_um, bright.truth.z_um)
    assert bright.frames.emitters[0][0, 3] == pytest.approx(10 * dim.frames.emitters[0][0, 3])
    assert bright.frames.counts.mean() == pytest.approx(10 * dim.frames.counts.mean(), rel=0.05)
    other = next(movies(optics, Scene("brownian 10", 2, (0.0,), 1, 3), 8))
    assert not np.allclose(other.truth.z_um, dim.truth.z_um)


def test_scores_of_tracks_with_known_errors() -> None:
    known = movie()
    rng = np.random.default_rng(2)
    error = rng.normal(0.0, [0.2, 0.2, 0.8], (len(known.truth), 3))
    # The first frames are not scored, however wrong they are.
    error[known.truth.frame < FIRST_SCORED] = 100.0
    found = tracks(known.truth, error, 0.4)
    limits = np.tile([0.1, 0.1, 0.4], (FRAMES, 3, 1))
    bound = PosteriorBound(limits, limits / 2)
    row = movie_row(found, known, bound, smoothed=False)
    late = error[known.truth.frame >= FIRST_SCORED]
    assert (row["jaccard_10"], row["precision"], row["recall"], row["idf1"]) == (1.0, 1.0, 1.0, 1.0)
    assert row["rmse_axial_um"] == pytest.approx(np.sqrt(np.mean(late[:, 2] ** 2)))
    assert row["over_sigma_z"] == pytest.approx(np.median(np.abs(late[:, 2])) / 0.4 / 0.6745, rel=1e-3)
    assert row["axial_over_bound"] == pytest.approx(row["rmse_axial_um"] / 0.4)
    assert movie_row(found, known, bound, smoothed=True)["axial_over_bound"] == pytest.approx(
        2 * row["axial_over_bound"]
    )
    assert "axial_over_bound" not in movie_row(found, known, None, smoothed=False)


def test_only_found_emitters_are_compared_with_their_bounds() -> None:
    known = movie()
    found = tracks(known.truth, np.full((len(known.truth), 3), 0.3), 0.3)
    limits = np.tile(np.array([0.3, 0.6, 50.0])[:, None], (FRAMES, 1, 3))
    half = found.select(found.track_id < 2)
    row = movie_row(half, known, PosteriorBound(limits, limits), smoothed=False)
    assert row["axial_over_bound"] == pytest.approx(0.3 / np.sqrt((0.3**2 + 0.6**2) / 2))
    assert row["recall"] == pytest.approx(2 / 3)


def test_means_over_movies_with_their_standard_errors() -> None:
    rows = [
        {"method": "a", "movie": number, "jaccard_10": value, "rmse_axial_um": error, "hota": None}
        for number, (value, error) in enumerate([(0.5, 3.0), (0.7, 4.0), (0.9, None)])
    ]
    (mean,) = mean_rows(rows, {"snr_db": 5.0}, {"a": {"form": "tracks"}})
    assert (mean["movies"], mean["form"], mean["hota"]) == (3, "tracks", None)
    assert mean["jaccard_10"] == pytest.approx(0.7)
    assert mean["jaccard_10_error"] == pytest.approx(0.2 / np.sqrt(3))
    assert mean["rmse_axial_um"] == pytest.approx(np.sqrt(12.5))


def test_threshold_is_between_true_and_false_points() -> None:
    known = movie()
    true = tracks(known.truth, np.zeros((len(known.truth), 3)), 0.4, 0.7)
    far = np.full((len(known.truth), 3), 60.0)
    false = replace(tracks(known.truth, far, 0.4, 0.3), track_id=known.truth.track_id + 10)
    thresholds = find_thresholds([(known, {"a": Tracks.concatenate([true, false])})])
    assert 0.3 < thresholds["a"] <= 0.7


def test_ideals_grow_with_the_frames_and_bounds_shrink(optics: BenchmarkOptics) -> None:
    known = next(movies(optics, Scene("directed", 6, (0.0,), 1, FRAMES), 3))
    columns = movie_limits(optics, known).columns
    assert columns["limit_jaccard"] < columns["limit_jaccard_3"] < columns["limit_jaccard_10"] <= 1.0
    assert columns["bound_all_rms_axial_um"] < columns["bound_rms_axial_um"] < columns["limit_rms_axial_um"]
    crowd = replace(known, scene=replace(known.scene, points=64))
    assert movie_limits(optics, crowd).posterior is None


@dataclass
class Oracle(MethodRun):
    """Returns the truth of the frames with small errors; the joint fit misses one emitter of each frame."""

    def candidates(self, frames: Frames) -> Localizations:
        missed = 1 if self.name.endswith("refine") else 0
        rng = np.random.default_rng(3)
        parts = []
        for number, each in enumerate(frames.emitters):
            rows = each[missed:]
            count = len(rows)
            x, y, z = (rows[:, :3] + rng.normal(0.0, 0.2, (count, 3))).T
            blank, sigma = np.zeros(count), np.full(count, 0.2)
            parts.append(
                Localizations(
                    np.full(count, number), x, y, z, rows[:, 3], blank, sigma + 0.7, sigma, sigma, sigma, blank
                )
            )
        self.seconds += 0.1
        return Localizations.concatenate(parts)


def test_a_small_run_gives_tables_and_figures(optics: BenchmarkOptics, tmp_path: Path) -> None:
    said: list[float] = []
    oracle = Oracle("cascade", "cascade", optics.calibration, "exact")
    benchmark = Benchmark(optics, [oracle], True, 5, advance=lambda done, _what: said.append(done))
    tables = moving.run(benchmark)
    assert said == sorted(said)
    assert said[-1] == 1.0
    assert tables["moving-ghosts"] == []
    rows = {(row["method"], row["motion"]): row for row in tables["moving"]}
    assert len(rows) == 2 * len(METHODS)
    network, fit = rows["cascade", "directed"], rows["cascade --refine", "directed"]
    assert network["jaccard_10"] == 1.0
    assert fit["jaccard_10"] == pytest.approx(3 / 4)
    assert network["over_fit"] == pytest.approx(1 / 4)
    assert fit["seconds_per_frame"] == pytest.approx(0.1 / 14)
    assert rows["cascade, tracks", "directed"]["idf1"] > 0.9
    assert 0 < network["chance_jaccard"] < 0.3
    moving.draw(tables, tmp_path, "Simulated.")
    assert {path.name for path in tmp_path.iterdir()} == {"moving.png", "moving-errors.png", "moving-density.png"}


def test_without_a_cascade_there_are_no_tables(optics: BenchmarkOptics, tmp_path: Path) -> None:
    tables = moving.run(Benchmark(optics, [MethodRun("mle", "mle", optics.calibration, "exact")], True, 5))
    assert not any(tables.values())
    moving.draw(tables, tmp_path, "Simulated.")
    assert not list(tmp_path.iterdir())


def test_points_beside_emitters_at_negative_defocus_are_ghosts(
    optics: BenchmarkOptics, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_MOVIES", 1), ("_QUICK_FRAMES", 11), ("_COUNTED", 2), ("_WRONG", 2)):
        monkeypatch.setattr(moving_ghosts, name, value)

    def find(known: Movie) -> Mapping[str, Tracks]:
        right = tracks(known.truth, np.zeros((len(known.truth), 3)), 0.4)
        line = np.arange(0.0, 170.0, 8.0)
        x, y = (each.ravel() for each in np.meshgrid(line, line))
        number = np.arange(len(x))
        last = np.full(len(x), FIRST_SCORED)
        grid = Truth(last, x, y, np.full(len(x), 50.0), number + 10)
        everywhere = Tracks.concatenate([right, tracks(grid, np.zeros((len(x), 3)), 0.4)])
        return {"right": right, "everywhere": everywhere}

    rows = moving_ghosts.ghost_rows(optics, 5, find, quick=True)
    ghosts = {row["method"]: row["ghosts"] for row in rows}
    assert ghosts["right"] == 0.0
    # A circle of 10 µm holds five points of a grid of 8 µm.
    assert 2.5 <= ghosts["everywhere"] <= 6.5


def test_targets_of_the_image_filter() -> None:
    def row(method: str, value: float, **other: float | str) -> dict[str, object]:
        figures = {"jaccard_10": value, "jaccard_10_error": 0.01, "rmse_axial_um": 0.5, "over_fit": 0.1}
        sigmas = {f"over_sigma_{axis}": 1.0 for axis in "xyz"}
        place = {"motion": "directed", "points": 20, "snr_db": 5.0}
        return {"method": method} | place | figures | sigmas | other

    rows = [
        row("cascade --refine", 0.8, rmse_axial_um=1.0),
        row("image filter", 0.91, over_sigma_z=1.4),
        row("image filter, forward-backward", 0.95),
    ]
    ghosts = [{"method": "image filter", "motion": "directed", "snr_db": 10.0, "ghosts": 0.06}]
    found = {each.name: each for each in targets({"moving": rows, "moving-ghosts": ghosts}, {"moving": "hidden"})}
    by_word = {word: [each.met for name, each in found.items() if word in name] for word in ("J of directed", "axial")}
    assert by_word == {"J of directed": [True], "axial": [True]}
    assert not found["moving, image filter, error over sigma along z at most 1.25"].met
    assert found["J of forward-backward above forward"].measured == pytest.approx(0.04)
    assert not found["moving ghosts at negative defocus, image filter, at most 0.05 per emitter"].met
    exact = targets({"moving": rows}, {"moving": "exact"})
    assert not next(each for each in exact if each.name.startswith("J of directed")).met
    assert targets({"moving": rows[:1]}, {}) == []

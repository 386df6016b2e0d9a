"""Pieces of the experiments, on small cases with known results."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.experiments import brownian, cell_scenes, depth, resolution, stacked, training_size
from evaluation.experiments.benchmark import Benchmark, MethodRun, tune, validation_frames
from evaluation.experiments.cell_scenes import CellImages, autofluorescence
from evaluation.experiments.cells import remove_minimum
from evaluation.experiments.conditions import Condition, run_conditions
from evaluation.experiments.focal_stack import retrieved_truth
from evaluation.experiments.moving_points import tracked_localizations
from evaluation.experiments.registry import EXPERIMENTS, NOT_OF_ALL, experiment_named
from evaluation.methods.registry import METHODS, MethodMissing, make_method, needs_model
from evaluation.optics.benchmark_optics import BenchmarkOptics, exact_optics
from evaluation.optics.frames import (
    FRAME_SHAPE,
    SCMOS_CAMERA,
    Frames,
    Photons,
    Snr,
    expose,
    middle_box,
    uniform_emitters,
)
from evaluation.report.tables import write_table
from evaluation.scores.scoring import jaccard_error, limit_columns, precision_recall, score_at
from models.camera import CameraModel
from models.errors import DataError
from models.metrics import Score
from models.model_card import ModelCard
from models.tables import Localizations
from models.tracking import track_table
from models.weights import reference_model
from tests.conftest import need


@pytest.fixture(scope="module")
def optics() -> BenchmarkOptics:
    return exact_optics()


def localizations(numbers: list[int], xyz: NDArray[np.float64], scores: NDArray[np.float64]) -> Localizations:
    blank = np.zeros(len(numbers))
    x, y, z = np.asarray(xyz, np.float64).reshape(-1, 3).T
    return Localizations(
        np.array(numbers, np.int64), x, y, z, blank, blank, scores, blank + 0.2, blank + 0.2, blank + 0.2, blank
    )


@dataclass
class Oracle(MethodRun):
    """Returns the truth of the frames with small errors, and a false localization of low score in each."""

    error_um: float = 0.5

    def candidates(self, frames: Frames) -> Localizations:
        numbers, places, scores = [], [], []
        for number, each in enumerate(frames.emitters):
            numbers += [number] * (len(each) + 1)
            places += [*(each[:, :3] + np.array([0.0, 0.0, self.error_um])), np.array([1.0, 1.0, 50.0])]
            scores += [0.9] * len(each) + [0.1]
        self.seconds += 1e-3
        self.frames += len(frames)
        return localizations(numbers, np.array(places), np.array(scores))


def oracle(optics: BenchmarkOptics, threshold: float = 0.5) -> Oracle:
    return Oracle("oracle", "cascade", optics.calibration, "exact", threshold=threshold)


class Blind(MethodRun):
    """Another method_run that does not see the second emitter of a frame."""

    def __init__(self, of: MethodRun) -> None:
        super().__init__("blind", of.name, of.calibration, of.optics_source, threshold=of.threshold)
        self._of = of

    def candidates(self, frames: Frames) -> Localizations:
        found = self._of.candidates(replace(frames, emitters=tuple(each[:1] for each in frames.emitters)))
        self.seconds += 1e-3
        return found


def test_published_frames_have_the_asked_signal_to_noise_ratio(optics: BenchmarkOptics) -> None:
    rng = np.random.default_rng(3)
    emitters = uniform_emitters(rng, 20, middle_box(FRAME_SHAPE, 0.65, (0.0, 100.0)))
    frames = expose(optics, [emitters], Snr(10.0), FRAME_SHAPE, rng)
    image = np.zeros(FRAME_SHAPE, np.float32)
    optics.render(frames.emitters[0], image)
    assert 10 * np.log10(np.square(image).sum() / image.sum()) == pytest.approx(10.0, abs=0.01)
    assert frames.background_e[0] == pytest.approx(0.05 * image.mean(), rel=1e-3)
    assert frames.counts[0].mean() == pytest.approx(image.mean() * 1.05, rel=0.02)


def test_physical_frames_have_light_in_photo_electrons_and_pixels_of_unequal_noise(optics: BenchmarkOptics) -> None:
    rng = np.random.default_rng(4)
    emitters = [uniform_emitters(rng, 5, middle_box((200, 200), 0.65, (0.0, 20.0))) for _ in range(2)]
    frames = expose(optics, emitters, Photons(2e4, 3.0), (200, 200), rng)
    assert np.mean([each[:, 3].mean() for each in frames.emitters]) == pytest.approx(2e4)
    assert np.sqrt(np.mean(frames.read_noise_e**2)) == pytest.approx(SCMOS_CAMERA.read_noise_e, rel=1e-5)
    assert np.percentile(frames.read_noise_e, 99) > 2 * np.median(frames.read_noise_e)
    electrons = SCMOS_CAMERA.to_electrons(frames.counts)
    assert np.median(electrons[:, :20, :20]) == pytest.approx(3.0, abs=0.6)
    assert electrons.sum() == pytest.approx(2 * (5 * 2e4 + 200 * 200 * 3.0), rel=0.04)
    assert len(frames.first(1)) == 1
    assert len(frames.truth()) == 10


def test_thresholds_are_tuned_on_frames_of_their_own(optics: BenchmarkOptics) -> None:
    method_run = oracle(optics, threshold=0.0)
    assert tune(method_run, validation_frames(optics, quick=True)) == 1.0
    assert 0.1 < method_run.threshold <= 0.9


def test_of_thresholds_that_are_as_good_the_middle_one_is_taken(
    optics: BenchmarkOptics, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Doubtful(Oracle):
        """Its false localizations have the scores 0.6, 0.7 and 0.8."""

        def candidates(self, frames: Frames) -> Localizations:
            found = super().candidates(frames)
            false = np.flatnonzero(found.probability < 0.5)
            scores = found.probability.copy()
            scores[false] = 0.6 + 0.1 * np.arange(len(false))
            return replace(found, probability=scores)

    method_run = Doubtful("doubtful", "cascade", optics.calibration, "exact", threshold=0.0)
    assert tune(method_run, validation_frames(optics, quick=True)) == 1.0
    assert method_run.threshold == pytest.approx(0.9)
    monkeypatch.setattr("evaluation.experiments.benchmark._AS_GOOD", 0.06)
    tune(method_run, validation_frames(optics, quick=True))
    assert 0.62 < method_run.threshold < 0.88


def test_conditions_give_scores_limits_and_curves(optics: BenchmarkOptics) -> None:
    benchmark = Benchmark(optics, [oracle(optics)], True, 5)
    rows, curves = run_conditions(benchmark, [Condition({"snr_db": 10.0}, 20, Snr(10.0), curve=True)])
    assert [row["tolerance_um"] for row in rows] == [10.0, 5.0, 3.0]
    assert all(row["jaccard"] == 1.0 for row in rows)
    assert rows[0]["rmse_axial_um"] == pytest.approx(0.5)
    assert 0.8 < rows[0]["limit_jaccard"] < 1.0
    assert 0 < rows[0]["chance_jaccard"] < 0.2
    assert [row["recall"] for row in curves] == [1.0, 1.0]
    assert curves[0]["precision"] < curves[1]["precision"] == 1.0
    assert [row["tuned"] for row in curves] == [True, False] or [row["tuned"] for row in curves] == [False, True]


def test_without_localizations_there_is_no_curve_and_no_jaccard(optics: BenchmarkOptics) -> None:
    rng = np.random.default_rng(1)
    frames = expose(optics, [np.array([[50.0, 50.0, 10.0, 1.0]])], Photons(1e4, 2.0), (128, 128), rng)
    assert precision_recall(Localizations.empty(), frames, {}) == []
    assert score_at(Localizations.empty(), frames, 10.0).jaccard == 0.0
    limits = limit_columns(
        optics.bounds(frames), optics.ideal_detector(middle_box((128, 128), 0.65, (0.0, 100.0), 60.0))
    )
    assert limits["limit_detectable_5"] == 1.0


@dataclass
class Slow(Oracle):
    """Needs a second and more for each frame."""

    pace: float = 1.0

    def candidates(self, frames: Frames) -> Localizations:
        self.seconds += self.pace * len(frames)
        return super().candidates(frames)


@pytest.mark.parametrize(
    ("points", "pace", "fewest", "seen"),
    [
        (1, 0.1, None, 40),
        (1, 1.0, None, 24),
        (1, 99.0, None, 10),
        (16, 99.0, None, 7),
        (90, 99.0, None, 4),
        (1, 99.0, 17, 17),
    ],
)
def test_slow_methods_see_the_first_frames(
    optics: BenchmarkOptics, points: int, pace: float, fewest: int | None, seen: int
) -> None:
    rng = np.random.default_rng(1)
    box = middle_box((32, 32), 0.65, (0.0, 20.0), 20.0)
    frames = expose(optics, [uniform_emitters(rng, points, box) for _ in range(40)], Photons(1e4, 2.0), (32, 32), rng)
    slow = Slow("slow", "cascade", optics.calibration, "exact", threshold=0.5, pace=pace)
    used_frames, found = Benchmark(optics, [slow], False, 1, seconds=24.5).localizations(slow, frames, fewest)
    assert len(used_frames) == seen
    assert score_at(found, used_frames, 10.0).jaccard == 1.0


def test_the_standard_error_of_the_jaccard_index_is_that_of_its_spread() -> None:
    rng = np.random.default_rng(2)

    def scores(frames: int) -> list[Score]:
        hits = rng.binomial(20, 0.7, frames)
        return [Score(int(tp), int(fp), 20 - int(tp)) for tp, fp in zip(hits, rng.poisson(2, frames), strict=True)]

    spread = np.std([sum(scores(10), Score()).jaccard or 0.0 for _ in range(400)])
    estimated = np.mean([jaccard_error(scores(10)) or 0.0 for _ in range(400)])
    # The spread of 400 is known to 3.5 %, and an error from 10 frames is biased by less than a tenth.
    assert estimated == pytest.approx(spread, rel=0.15)
    assert jaccard_error(scores(1)) is None
    assert jaccard_error([Score(1, 0, 0), Score()]) is None


def test_two_points_are_resolved_by_exactly_two_near_localizations() -> None:
    points = np.array([[0.0, 0.0, 10.0], [4.0, 0.0, 10.0]])
    assert resolution.is_resolved(points + np.array([0.5, 0, 1.0]), points, 4.0)
    assert not resolution.is_resolved(points + np.array([0.0, 0, 2.1]), points, 4.0)
    assert not resolution.is_resolved(points[:1], points, 4.0)
    assert not resolution.is_resolved(np.concatenate([points, points[:1] + 30]), points, 4.0)
    # Both near the same point.
    assert not resolution.is_resolved(np.zeros((2, 3)) + points[0], points, 4.0)


def test_resolution_of_an_oracle_is_twice_its_error(optics: BenchmarkOptics) -> None:
    method_run = oracle(optics)
    method_run.error_um = 1.0
    rows = resolution.run(Benchmark(optics, [method_run], True, 5))["resolution"]
    at = resolution.DISTANCES_UM
    assert {row["resolved_um"] for row in rows} == {at[at >= 2.0][0]}
    assert all(row["limit_um"] < row["resolved_um"] for row in rows)
    assert all(row["false_splits"] == row["missed"] == 0 for row in rows)


def test_the_good_range_is_the_longest_run_of_slices() -> None:
    recalls = (0.95, 0.5, 0.9, 0.99, None)
    slices = [{"recall": r, "from_um": 10.0 * i, "to_um": 10.0 * i + 10} for i, r in enumerate(recalls)]
    assert depth._good_range(slices) == {"range_from_um": 20.0, "range_to_um": 40.0, "range_um": 20.0}
    assert depth._good_range(slices[1:2])["range_um"] == 0.0


def test_a_deconvolved_stack_shows_the_beads(optics: BenchmarkOptics) -> None:
    need("skimage")
    rng = np.random.default_rng(6)
    low, high = 20.0, 60.0
    places = np.array([[25.0, 30.0, low, 1.0], [55.0, 28.0, high, 0.6], [40.0, 55.0, 40.0, 0.8]])
    frames = expose(optics, [places], Photons(5e4, 2.0), (128, 128), rng)
    (found,) = retrieved_truth(optics, frames, rng, quick=True) or []
    scored = localizations([0] * len(found), found[:, :3], np.ones(len(found)))
    score = score_at(scored, frames, 10.0)
    assert score.recall == 1.0
    assert score.rmse_lateral_um is not None
    # Bins of 2.6 µm and planes of 2 µm.
    assert score.rmse_lateral_um < 1.0
    assert score.rmse_axial_um is not None
    assert score.rmse_axial_um < 3.0


def test_cells_are_bodies_and_autofluorescence_stands_still(optics: BenchmarkOptics) -> None:
    images = CellImages(optics, 3)
    image = np.zeros((64, 64), np.float32)
    images.render(np.array([[20.0, 21.0, 2.0, 1e4]]), image)
    point = np.zeros((64, 64), np.float32)
    optics.render(np.array([[20.0, 21.0, 2.0, 1e4]]), point)
    assert image.sum() == pytest.approx(1e4, rel=0.03)
    assert image.max() < 0.5 * point.max()
    light = autofluorescence((96, 96), np.random.default_rng(1))
    assert light.mean() == pytest.approx(25.0, rel=1e-3)
    assert light.min() >= 0
    assert light.std() > 5
    shape = cell_scenes._cell(np.random.default_rng(2))
    np.testing.assert_allclose(shape.mean(axis=0), 0, atol=1e-9)
    assert 1.5 < np.abs(shape).max() < 4.0


def test_the_temporal_minimum_is_removed() -> None:
    counts = np.array([[[105, 120]], [[103, 130]]], np.uint16)
    frames = Frames(counts, (np.zeros((0, 4)),) * 2, np.zeros(2), np.zeros((1, 2), np.float32), CameraModel(100.0))
    np.testing.assert_array_equal(remove_minimum(frames).counts, [[[102, 100]], [[100, 110]]])


def test_diffusion_is_measured_along_tracks_with_the_blur_of_the_frames_removed() -> None:
    """Positions are means of the places that are drawn in a frame, as those of localizations are."""
    rng = np.random.default_rng(4)
    start = np.array([[20.0, 20.0, 30.0], [60.0, 60.0, 50.0], [90.0, 20.0, 70.0], [30.0, 70.0, 40.0]])
    kicks = rng.normal(0, np.sqrt(2 * 10.0 * 0.01 / 3), (4, 600, 3))
    places = (start[:, None] + np.cumsum(kicks, axis=1)).reshape(4, 200, 3, 3)
    seen = rng.random((4, 200)) < 0.9
    bead, frame = np.nonzero(seen)
    columns = localizations(frame.tolist(), places.mean(axis=2)[bead, frame], np.full(len(frame), 0.9)).columns()
    sigmas = {f"sigma_{axis}_um": np.full(len(frame), 0.05) for axis in "xyz"}
    middle = [np.column_stack([each, np.ones(4)]) for each in np.moveaxis(places[:, :, 1], 0, 1)]
    frames = Frames(np.zeros((200, 1, 1), np.uint16), tuple(middle), np.zeros(200), np.zeros((1, 1)), CameraModel(0.0))
    rows = brownian._rows("it", Localizations.from_columns(columns | sigmas), frames, 10.0)
    assert [row["axis"] for row in rows] == ["x", "y", "z", "all"]
    for row in rows:
        # Without the correction of the blur it would be 0.7 of the truth. 800 steps: 5 % for an axis.
        assert row["ratio"] == pytest.approx(row["of_the_true_paths_um2_s"] / 10.0, abs=0.15)
        assert row["covered"]
        assert row["low_um2_s"] < row["recovered_um2_s"] < row["high_um2_s"]
        assert (row["tracks"], row["tracks_measured"], row["beads"]) == (4, 4, 4)
        assert row["tracks_covered"] >= 0.75
        assert row["found"] == pytest.approx(seen.mean(), abs=0.01)
    none = brownian._rows("it", Localizations.empty(), frames, 10.0)
    assert [row["recovered_um2_s"] for row in none] == [None] * 4
    assert none[0]["covered"] is None


def test_a_method_that_states_no_sigmas_is_tracked_all_the_same() -> None:
    unknown = np.array([np.nan, 0.3])
    found = localizations([0, 0], np.array([[5.0, 5.0, 20.0], [50.0, 50.0, 30.0]]), np.ones(2))
    found = replace(found, sigma_x_um=unknown, sigma_y_um=unknown, sigma_z_um=unknown)
    with pytest.raises(DataError, match="sigma"):
        track_table(found, 100.0)
    stated = tracked_localizations(found, found, probabilities=False)
    assert stated.sigma_z_um.tolist() == [2.0, 0.3]
    assert stated.probability.tolist() == [0.9, 0.9]
    track_table(stated, 100.0)
    candidates = replace(found, probability=np.array([0.1, 0.8]))
    given = tracked_localizations(candidates, candidates.select(slice(1, 2)), probabilities=True)
    assert given.probability.tolist() == [0.1, 0.8]


def test_methods_that_cannot_run_are_reported(optics: BenchmarkOptics, tmp_path: Path) -> None:
    with pytest.raises(MethodMissing, match="none is shipped"):
        make_method("vgg", optics.calibration, SCMOS_CAMERA)
    with pytest.raises(DataError, match="Choose among"):
        make_method("oracle", optics.calibration, SCMOS_CAMERA)
    assert [name for name in METHODS if needs_model(name)] == ["cascade", "cascade --refine", "vgg", "fcn"]
    write_table(tmp_path / "t.csv", [{"method": "a", "jaccard": 0.5}], {"b": "not installed"})
    assert (tmp_path / "t.csv").read_text() == "method,jaccard,left_out\na,0.5,\nb,,not installed\n"


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if name not in (*NOT_OF_ALL, "psf")])
def test_every_experiment_runs_and_is_drawn(name: str, optics: BenchmarkOptics, tmp_path: Path) -> None:
    progress: list[float] = []
    benchmark = Benchmark(optics, [oracle(optics)], True, 5, advance=lambda done, _what: progress.append(done))
    experiment = experiment_named(name)
    tables = experiment.run(benchmark)
    assert set(tables) >= {name}
    assert progress[-1] == 1.0
    experiment.draw(tables, tmp_path, "Simulated.")
    assert (tmp_path / f"{name}.png").stat().st_size > 20_000
    assert name in EXPERIMENTS


def test_refined_localizations_have_a_probability_that_a_threshold_can_cut(optics: BenchmarkOptics) -> None:
    rng = np.random.default_rng(8)
    emitters = np.array([[30.0, 30.0, 20.0, 1.0], [80.0, 70.0, 40.0, 0.5], [50.0, 90.0, 30.0, 0.2]])
    frames = expose(optics, [emitters], Photons(6e3, 5.0), (192, 192), rng)
    found = make_method("cascade --refine", optics.calibration, SCMOS_CAMERA)(frames.counts, np.zeros(1, np.int64))
    brightest = np.argsort(-found.photons)[:3]
    np.testing.assert_allclose(found.xyz_um[brightest], emitters[:, :3], atol=1.5)
    assert (found.probability[brightest] > 0.5).all()
    order = np.argsort(-found.probability)
    few = make_method("cascade --refine", optics.calibration, SCMOS_CAMERA, threshold=found.probability[order][1])
    assert len(few(frames.counts, np.zeros(1, np.int64))) == 2


def test_both_of_a_stacked_pair_must_be_found(optics: BenchmarkOptics) -> None:
    rows = stacked.run(Benchmark(optics, [oracle(optics), Blind(oracle(optics))], True, 5))["stacked"]
    assert {row["both_found"] for row in rows if row["method"] == "oracle"} == {1.0}
    assert all(row["extra_answers"] == 0 for row in rows)
    assert {row["both_found"] for row in rows if row["method"] == "blind"} == {0.0}
    assert {(row["apart_um"], row["tolerance_um"]) for row in rows} == {(5, 5), (5, 10), (10, 5), (10, 10)}


def test_scores_over_training_size_use_the_models_records(
    optics: BenchmarkOptics, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="with a record of its training"):
        training_size.run(Benchmark(optics, [Oracle("mle", "mle", optics.calibration, "exact")], True, 5))
    reference = ModelCard.load(reference_model())
    method_runs = []
    for samples, error_um in ((1000, 2.0), (5000, 0.5)):
        folder = Path(shutil.copytree(reference_model(), tmp_path / f"model-{samples}"))
        training = {"samples": samples, "frames": samples, "minutes": samples / 100, "settings": {"size": "narrow"}}
        replace(reference, id=folder.name, architecture="vgg", training=training).save(folder)
        method_runs.append(
            Oracle(f"vgg ({folder.name})", "vgg", optics.calibration, "exact", folder, threshold=0.5, error_um=error_um)
        )
    benchmark = Benchmark(optics, [*method_runs, oracle(optics)], True, 5)
    tables = training_size.run(benchmark)
    rows = [row for row in tables["training-size"] if row["tolerance_um"] == 10.0]
    assert [(row["samples"], row["minutes"], row["network"], row["size"]) for row in rows] == [
        (1000, 10.0, "vgg", "narrow"),
        (5000, 50.0, "vgg", "narrow"),
    ]
    assert rows[0]["rmse_axial_um"] == pytest.approx(2.0)
    training_size.draw(tables, tmp_path, "Simulated.")
    assert (tmp_path / "training-size.png").stat().st_size > 15_000

"""Ghosts by their rule, in hand-made frames, and of methods that are right, mirror, or see nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from evaluation.experiments import ghosts
from evaluation.experiments.benchmark import Benchmark, MethodRun
from evaluation.experiments.ghosts import count_ghosts
from evaluation.optics.benchmark_optics import BenchmarkOptics, exact_optics
from evaluation.optics.frames import Frames, expose
from evaluation.scores.scoring import Row
from models.tables import Localizations

F64 = NDArray[np.float64]
NONE = np.zeros((0, 3))


@pytest.fixture(scope="module")
def optics() -> BenchmarkOptics:
    return exact_optics()


def places(*xyz: tuple[float, float, float]) -> F64:
    return np.array(xyz, np.float64).reshape(-1, 3)


def test_a_left_over_localization_is_a_ghost_of_the_nearest() -> None:
    wrong = places((20, 20, -5), (32, 20, -12))
    localizations = places((28, 21, 14), (60, 60, 40), (90, 90, 50))
    count = count_ghosts(localizations, places((61, 60, 42)), NONE, wrong)
    assert count.ghosts.tolist() == [0, 1]
    assert count.others.tolist() == [[90, 90, 50]]


def test_a_localization_paired_with_an_emitter_is_no_ghost() -> None:
    count = count_ghosts(places((21, 20, 6)), places((24, 20, 8)), NONE, places((20, 20, -5)))
    assert count.ghosts.tolist() == [0]
    # One localization is enough for one emitter; the second is a ghost.
    twice = count_ghosts(places((21, 20, 6), (24, 20, 8)), places((24, 20, 8)), NONE, places((20, 20, -5)))
    assert twice.ghosts.tolist() == [1]


def test_the_true_place_beyond_the_range_is_no_ghost_but_a_mirrored_one_is() -> None:
    beyond, wrong = places((20, 20, 103)), places((60, 20, -3))
    count = count_ghosts(places((20, 20, 98), (60, 20, 3)), NONE, beyond, wrong)
    assert (count.placed.tolist(), count.ghosts.tolist()) == ([True, False], [0, 1])
    shallow = count_ghosts(places((20, 20, 70)), NONE, beyond, wrong)
    assert (shallow.placed.tolist(), shallow.ghosts.tolist()) == ([False, False], [1, 0])


class TruthMethod(MethodRun):
    """Returns all drawn emitters, changed by a rule."""

    scene: Sequence[F64] = ()
    rule: Any = None

    def candidates(self, frames: Frames) -> Localizations:
        self.seconds += 1e-3
        parts = [self.rule(each) for each in self.scene[: len(frames)]]
        numbers = np.repeat(np.arange(len(parts)), [len(each) for each in parts])
        xyz = np.concatenate(parts)
        blank = np.zeros(len(xyz))
        x, y, z = xyz[:, :3].T
        return Localizations(numbers, x, y, z, blank, blank, blank + 0.9, blank, blank, blank, blank)


def _mirrored(scene: F64) -> F64:
    return np.column_stack([scene[:, :2], np.abs(scene[:, 2])])


def _right_side(scene: F64) -> F64:
    return scene[(scene[:, 2] >= 3) & (scene[:, 2] <= 100)]


@pytest.mark.parametrize(("rule", "wrong_side", "placed"), [(_mirrored, 1.0, 1.0), (_right_side, 0.0, 0.0)])
def test_mirrored_localizations_are_ghosts(
    rule: Any, wrong_side: float, placed: float, optics: BenchmarkOptics, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth_method = TruthMethod("truth", "cascade", optics.calibration, "exact", threshold=0.5)
    truth_method.rule = rule

    def seen(*arguments: Any, **options: Any) -> Frames:
        truth_method.scene = options["drawn"]
        return expose(*arguments, **options)

    monkeypatch.setattr(ghosts, "expose", seen)
    tables = ghosts.run(Benchmark(optics, [truth_method], True, 5))
    by_kind: dict[str, Row] = {row["kind"]: row for row in tables["ghosts"] if row["whole"]}
    assert [by_kind[kind]["emitters"] for kind in ("wrong side", "beyond", "beside")] == [24, 12, 12]
    # A mirrored localization may be nearest to another emitter, or be paired with an emitter that must be found.
    assert by_kind["wrong side"]["ghosts"] == pytest.approx(wrong_side, abs=0.15)
    assert by_kind["beyond"]["placed"] == placed
    assert by_kind["beyond"]["ghosts"] <= 0.1
    assert sum(row["emitters"] for row in tables["ghosts"] if not row["whole"]) == 48
    jaccard = tables["ghosts-scores"][0]["jaccard"]
    # Eight emitters and four ghosts in a frame.
    assert jaccard == pytest.approx(8 / 12 if wrong_side else 1.0, abs=0.05)


def test_a_microscope_that_reaches_farther_draws_the_same_within_its_range(optics: BenchmarkOptics) -> None:
    wide = optics.reaching(20.0)
    images = []
    for each, z_um in ((optics, 12.0), (wide, 12.0), (wide, -12.0)):
        image = np.zeros((96, 96), np.float32)
        each.render(np.array([[30.2, 31.3, z_um, 1e4]]), image)
        images.append(image)
    # Another reach of the faint rim changes what all the light is a share of. Without aberrations the sides are alike.
    assert np.abs(images[1] - images[0]).max() < 2e-3 * images[0].max()
    assert np.abs(images[2] - images[0]).max() < 2e-3 * images[0].max()

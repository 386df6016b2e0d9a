"""Localization of whole movies over tissue: the shipped live model, small frames."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluation.experiments.cell_scenes import autofluorescence
from hardware.microscope import Frame
from models.background.static_light import FIRST_FRAMES
from models.localization import Localizer
from models.metrics import Scorer
from models.movie_localization import ArrayMovie, localize_movie
from models.scene import reference_camera, reference_scene
from models.tables import Localizations
from models.weights import reference_model
from service.analysis.frame_localizer import FrameLocalizer

SHAPE = (128, 128)
FRAMES = 160


@pytest.fixture(scope="module")
def localizer() -> Localizer:
    return Localizer.load(reference_model("live"), "cpu", camera=reference_camera())


@pytest.fixture(scope="module")
def over_tissue() -> Any:
    """Wandering beads over autofluorescence, counts (N, H, W), and their places in each frame."""
    camera, scene = reference_camera(), reference_scene(SHAPE, 5, seed=2)
    tissue = autofluorescence(SHAPE, np.random.default_rng(5))
    # Ten times the speed of the scene, so that 160 frames show as much motion as a longer movie.
    times = np.arange(FRAMES) / 10
    counts = np.stack([camera.expose(scene.render(t, 0.001, 0.0) * 10 + tissue, n) for n, t in enumerate(times)])
    return counts, [scene.truth(float(t), 0.0)[:, 1:] for t in times]


def jaccard(found: Localizations, places: list[Any], first: int = 0) -> float:
    scorer = Scorer()
    for number in range(first, FRAMES):
        scorer.add(found.select(found.frame == number).xyz_um, places[number])
    return scorer.score.jaccard or 0.0


def test_static_light_is_removed_from_the_first_frame_on(localizer: Localizer, over_tissue: Any) -> None:
    counts, places = over_tissue
    scores = {
        mode: jaccard(localize_movie(ArrayMovie(counts), localizer, None, lambda _: None, static_light=mode), places)
        for mode in ("off", "auto")
    }
    assert scores["off"] < 0.4
    assert scores["auto"] > scores["off"] + 0.25


def test_live_and_offline_agree_over_tissue(localizer: Localizer, over_tissue: Any) -> None:
    """The same tables from the first map on; live there is none for the first frames."""
    counts, _ = over_tissue
    offline = localize_movie(ArrayMovie(counts), localizer, None, lambda _: None)
    frame_localizer = FrameLocalizer(localizer, static_light="auto")
    frames = [Frame(its, n, n / 100, "simulation", 0.0) for n, its in enumerate(counts)]
    live = []
    for first in range(0, FRAMES, 16):
        live += frame_localizer.localize(frames[first : first + 16])
    begun = FIRST_FRAMES
    assert frame_localizer.removes_static_light
    assert all(its.light for its in live[begun:])
    expected = offline.select(offline.frame >= begun)
    found = Localizations.concatenate(its.found for its in live[begun:])
    assert len(found) > 20
    for name, column in expected.columns().items():
        np.testing.assert_array_equal(getattr(found, name), column, err_msg=name)


@pytest.mark.parametrize("moving", [False, True])
def test_without_static_light_no_localization_changes(localizer: Localizer, moving: bool) -> None:
    """Immobile beads are kept too."""
    camera, scene = reference_camera(), reference_scene(SHAPE, 6, seed=7)
    light = [scene.render(n / 10 if moving else 0.0, 0.01, 0.0) for n in range(FRAMES if moving else 1)]
    counts = np.stack([camera.expose(light[n % len(light)], n) for n in range(FRAMES)])
    plain, auto = (
        localize_movie(ArrayMovie(counts), localizer, None, lambda _: None, static_light=mode)
        for mode in ("off", "auto")
    )
    assert len(plain) > 2 * FRAMES
    for name, column in plain.columns().items():
        np.testing.assert_array_equal(getattr(auto, name), column, err_msg=name)


def test_the_joint_fit_gets_the_static_light_too(localizer: Localizer, over_tissue: Any) -> None:
    counts, places = over_tissue
    light = localizer.static_light("auto")
    assert light is not None
    light.begin_with(counts, FRAMES)
    numbers = np.array([150, 155, 159])
    lights = light.follow(counts)
    refiner = localizer.refiner(rounds=0)
    with_light, without = (
        localizer.localize_finely(counts[numbers], numbers, refiner, its)
        for its in ([lights[n] for n in numbers], None)
    )
    scores = []
    for found in (with_light, without):
        scorer = Scorer()
        for number in numbers.tolist():
            scorer.add(found.select(found.frame == number).xyz_um, places[number])
        scores.append(scorer.score.jaccard or 0.0)
    assert scores[0] > scores[1] + 0.15
    # The stated background contains the median of the static light.
    assert abs(float(np.median(with_light.background)) - 30) < 6

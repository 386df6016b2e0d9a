"""Training frames: position and amount of light, SNR, and labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from models.optics import Objective, computed_psf
from models.psf import Psf
from models.synthesis import PatternTable, SceneSettings, draw_frame


@pytest.fixture(scope="module")
def psf() -> Psf:
    return computed_psf(Objective(0.45, 0.52, 0.65), np.arange(-4.0, 25.0))


@pytest.fixture(scope="module")
def table(psf: Psf) -> PatternTable:
    return PatternTable(psf)


SCENE = SceneSettings(shape=(96, 96), count=(1, 20), z_range_um=(0.0, 20.0), beyond_um=3.0)


@pytest.mark.parametrize("z", [2.0, 9.3, 19.6])
def test_a_rendered_pattern_is_that_of_the_psf(psf: Psf, table: PatternTable, z: float) -> None:
    image = np.zeros((80, 90), np.float32)
    table.render(np.array([[29.17, 24.93, z, 500.0]]), image)
    expected = psf.image(29.17, 24.93, z, image.shape) * 500
    assert image.sum() == pytest.approx(expected.sum(), rel=0.02)
    # Linear between 1-µm planes: the spot on the axis flickers with a period of 4.9 µm in depth, where a straight
    # line between planes misses up to a fifth of the swing.
    assert np.abs(image - expected).max() < 0.15 * expected.max()


def test_patterns_are_cut_at_the_frame_and_nothing_is_written_outside(table: PatternTable) -> None:
    guarded = np.zeros((60, 60), np.float32)
    frame = guarded[10:50, 10:50]
    table.render(np.array([[-3.0, 5.0, 10.0, 100.0], [27.0, 30.0, 18.0, 100.0], [500.0, 5.0, 10.0, 1.0]]), frame)
    assert frame.sum() > 0
    guarded[10:50, 10:50] = 0
    assert not guarded.any()


def test_equal_generators_give_equal_frames(table: PatternTable) -> None:
    first, second = (draw_frame(table, SCENE, np.random.default_rng(8)) for _ in range(2))
    np.testing.assert_array_equal(first.electrons, second.electrons)
    np.testing.assert_array_equal(first.emitters, second.emitters)


def test_labels_lie_in_the_frame_and_in_the_range(table: PatternTable) -> None:
    rng = np.random.default_rng(1)
    scene = SceneSettings(
        shape=(96, 96), count=(10, 30), z_range_um=(0.0, 20.0), beyond_um=4.0, beyond_share=0.3, wrong_side_share=0.3
    )
    frames = [draw_frame(table, scene, rng) for _ in range(30)]
    labels = np.concatenate([frame.emitters for frame in frames])
    assert labels[:, 2].min() >= 0
    assert labels[:, 2].max() <= 20
    side_um = 96 * 0.65
    assert labels[:, :2].min() >= -0.33
    assert labels[:, :2].max() <= side_um
    # Emitters beyond the range, at negative defocus and outside the frame were drawn, but carry no label.
    assert len(labels) < 0.75 * 30 * 10 + 30 * 20


def test_frames_have_none_or_many_emitters_at_negative_defocus(table: PatternTable) -> None:
    rng = np.random.default_rng(4)
    # A range that begins above the first plane, and only negative defocus outside it.
    scene = replace(SCENE, count=(40, 40), z_range_um=(0.0, 20.0), beyond_share=0.0, wrong_side_share=0.2)
    right = replace(scene, wrong_side_share=0.0)
    labelled = [len(draw_frame(table, scene, rng).emitters) for _ in range(80)]
    all_right = [len(draw_frame(table, right, rng).emitters) for _ in range(80)]
    assert 0.7 < np.mean(labelled) / np.mean(all_right) < 0.9
    assert max(labelled) == 40


def test_frames_reach_the_snr_that_was_drawn(table: PatternTable) -> None:
    rng = np.random.default_rng(2)
    scene = SceneSettings(
        shape=(96, 96), count=(8, 8), z_range_um=(0.0, 20.0), snr_db=(20.0, 20.0), read_noise_e=(0.0, 0.0)
    )
    decibels = []
    for _ in range(25):
        frame = draw_frame(table, scene, rng)
        image = np.zeros(scene.shape, np.float32)
        table.render(frame.emitters, image)
        decibels.append(10 * np.log10(np.square(image).sum() / (image.sum() + image.size * frame.background_e)))
    # Unlabelled emitters, uneven background and the clipping of the scale move single frames.
    assert np.median(decibels) == pytest.approx(20.0, abs=1.0)


def test_stacked_emitters_lie_above_or_below_others(table: PatternTable) -> None:
    rng = np.random.default_rng(4)
    scene = SceneSettings(shape=(96, 96), count=(20, 20), z_range_um=(0.0, 20.0), stacked_share=0.5)
    alone = stacked = 0
    for _ in range(10):
        places = np.unique(draw_frame(table, scene, rng).emitters[:, :2], axis=0, return_counts=True)[1]
        alone += int((places == 1).sum())
        stacked += int(places[places > 1].sum())
    assert stacked > 0.3 * (alone + stacked)

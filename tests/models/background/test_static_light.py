from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.background.frame_light import LightMap
from models.background.static_light import FIRST_FRAMES, StaticLight
from tests.models.background.static_scenes import CAMERA, SHAPE, exposed, structure


class Share:
    """States a share that emitters explain, and counts how often it is asked."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.asked = 0

    def __call__(self, light_e: Any) -> float:
        self.asked += 1
        return self.share


def level_error(light: Any, truth: Any) -> float:
    return float(np.abs((light.light.light_e - light.light.level_e) - (truth - np.median(truth))).mean())


def test_structure_is_removed_from_the_first_decision_on() -> None:
    truth, light = structure(), StaticLight(CAMERA, Share(0.5))
    lights = light.follow(exposed(truth, FIRST_FRAMES + 3))
    assert [its is None for its in lights] == [True] * (FIRST_FRAMES - 1) + [False] * 4
    assert light.in_use
    assert level_error(lights[-1], truth) < 1.2


@pytest.mark.parametrize(("share", "used"), [(0.5, True), (0.92, True), (0.94, False), (0.99, False)])
def test_what_emitters_explain_is_kept(share: float, used: bool) -> None:
    light = StaticLight(CAMERA, Share(share))
    light.follow(exposed(structure(), FIRST_FRAMES))
    assert light.in_use is used


def test_a_map_in_use_stays_a_little_longer() -> None:
    share = Share(0.5)
    light, frames = StaticLight(CAMERA, share), exposed(structure(), 2 * FIRST_FRAMES)
    light.follow(frames[:FIRST_FRAMES])
    share.share = 0.94
    light.follow(frames[FIRST_FRAMES:])
    assert (share.asked, light.in_use) == (2, True)
    light.follow(np.concatenate([frames, frames[: 2 * FIRST_FRAMES]]))
    assert light.in_use
    share.share = 0.96
    light.follow(np.concatenate([frames, frames]))
    assert not light.in_use


def test_even_light_and_moving_light_are_no_structure() -> None:
    share = Share(0.0)
    even = StaticLight(CAMERA, share)
    assert even.follow(exposed(np.full(SHAPE, 20.0, np.float32), 300))[-1] is None
    # A sheet of light that is in one half of the frame and then in the other.
    half = np.full(SHAPE, 20.0, np.float32)
    half[:, :40] += 30
    moves = StaticLight(CAMERA, share)
    moves.follow(np.concatenate([exposed(half, 64), exposed(half[:, ::-1], 64)]))
    assert not moves.in_use
    assert share.asked == 0
    always = StaticLight(CAMERA, share, "on")
    assert always.follow(exposed(np.full(SHAPE, 20.0, np.float32), FIRST_FRAMES))[-1] is not None


def test_the_first_frames_of_a_movie_have_its_first_map() -> None:
    truth = structure()
    frames = exposed(truth, FIRST_FRAMES + 40)
    live, offline = StaticLight(CAMERA, Share(0.5)), StaticLight(CAMERA, Share(0.5))
    offline.begin_with(frames, len(frames))
    ours, theirs = offline.follow(frames), live.follow(frames)
    assert all(level_error(its, truth) < 1.2 for its in ours[:FIRST_FRAMES])
    for its, other in zip(ours[FIRST_FRAMES:], theirs[FIRST_FRAMES:], strict=True):
        np.testing.assert_array_equal(its.light.light_e, other.light.light_e)
        assert its.factor == other.factor


def test_live_and_offline_restart_together() -> None:
    """Also after a move of the stage within the first frames."""
    frames = np.concatenate([exposed(structure() * 3, 60), exposed(structure(seed=9) * 3, 240, first=60)])
    live, offline = StaticLight(CAMERA, Share(0.5)), StaticLight(CAMERA, Share(0.5))
    offline.begin_with(frames, len(frames))
    ours, theirs = (light.follow(frames)[FIRST_FRAMES:] for light in (offline, live))
    for its, other in zip(ours, theirs, strict=True):
        assert (its is None) == (other is None)
        if its is not None and other is not None:
            np.testing.assert_array_equal(its.light.light_e, other.light.light_e)


@pytest.mark.parametrize(("count", "there"), [(31, False), (32, True), (100, True)])
def test_a_short_movie(count: int, there: bool) -> None:
    frames = exposed(structure(), count)
    light = StaticLight(CAMERA, Share(0.5))
    light.begin_with(frames, count)
    lights = light.follow(frames)
    assert [its is not None for its in lights] == [there] * count


def test_batches_do_not_matter() -> None:
    frames = exposed(structure(), 300, moving=True)
    one, many = StaticLight(CAMERA, Share(0.5)), StaticLight(CAMERA, Share(0.5))
    single = [one.follow(counts[None])[0] for counts in frames]
    batches = [light for first in range(0, 300, 7) for light in many.follow(frames[first : first + 7])]
    for counts, its, other in zip(frames, single, batches, strict=True):
        assert (its is None) == (other is None)
        if its is not None and other is not None:
            np.testing.assert_array_equal(its.removed_from(counts), other.removed_from(counts))


@pytest.mark.parametrize("first", [0, 5, FIRST_FRAMES, 3 * FIRST_FRAMES + 7])
def test_a_state_is_all_that_the_next_frames_depend_on(first: int) -> None:
    frames = np.concatenate([exposed(structure(), FIRST_FRAMES), *[exposed(structure(), FIRST_FRAMES + 8)] * 4])
    light = StaticLight(CAMERA, Share(0.5))
    light.begin_with(frames, 64)
    expected = light.follow(frames[:first]), light.follow(frames[first:])
    before, after = StaticLight(CAMERA, Share(0.5)), StaticLight(CAMERA, Share(0.5))
    before.begin_with(frames, 64)
    before.follow(frames[:first])
    after.resume(before.state())
    found = after.follow(frames[first:])
    assert after.in_use is light.in_use
    for one, other in zip(expected[1], found, strict=True):
        assert one is not None
        assert other is not None
        assert one.factor == other.factor
        assert one.light.doubt_e2 == other.light.doubt_e2 > 0
        np.testing.assert_array_equal(one.light.light_e, other.light.light_e)


def test_another_map_is_removed_from_its_frame_on_until_the_stage_moves() -> None:
    truth = structure() * 3
    light = StaticLight(CAMERA, Share(0.5))
    light.follow(exposed(truth, 200))
    better = LightMap(truth, CAMERA, 7.0)
    light.use(better, 210)
    lights = light.follow(exposed(truth, 20, first=200))
    assert [its.light is better for its in lights] == [False] * 10 + [True] * 10
    assert [its.number for its in lights] == list(range(200, 220))
    moved = light.follow(exposed(structure(seed=9) * 3, 200, first=220))
    assert any(its is None for its in moved)
    assert moved[-1].light is not better


def test_hot_pixels_alone_have_no_error() -> None:
    hot = np.full(SHAPE, 20.0, np.float32)
    hot[30, 50] += 300
    lights = StaticLight(CAMERA, Share(1.0)).follow(exposed(hot, 300))
    assert lights[-1].light.doubt_e2 == 0


def test_flicker_is_one_factor_of_each_frame() -> None:
    factors = np.where(np.arange(300) % 7 == 3, 1.4, 1.0)
    light = StaticLight(CAMERA, Share(0.5))
    lights = light.follow(exposed(structure(), 300, lamp=lambda n: factors[n]))
    found = np.array([its.factor for its in lights[200:] if its is not None])
    ratio = found[factors[200:] > 1].mean() / found[factors[200:] == 1].mean()
    assert abs(ratio - 1.4) < 0.03


def test_a_hot_pixel_that_appears_is_removed() -> None:
    """Whatever the rule says on the rest."""
    before = np.full(SHAPE, 20.0, np.float32)
    after = before.copy()
    after[30, 50] += 300
    light = StaticLight(CAMERA, Share(1.0))
    light.follow(exposed(before, 256))
    frames = exposed(after, 520, first=256)
    lights = light.follow(frames)
    assert lights[0] is None
    assert not light.in_use
    left = lights[-1].removed_from(frames[-1])
    changed = np.argwhere(left != frames[-1])
    assert changed.tolist() == [[30, 50]]
    assert abs(CAMERA.to_electrons(left)[30, 50] - 20) < 5 * 3 * np.sqrt(22.6)


def test_the_map_is_dropped_after_a_move_of_the_stage() -> None:
    truth, other = structure(), structure(seed=9)
    light = StaticLight(CAMERA, Share(0.5))
    light.follow(exposed(truth * 3, 200))
    assert light.in_use
    lights = light.follow(exposed(other * 3, 200, first=200))
    gone = [its is None for its in lights]
    assert any(gone[:40])
    assert light.in_use
    assert level_error(lights[-1], 3 * other) < 2.5

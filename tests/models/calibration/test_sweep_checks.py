"""Sweeps whose drive, light, planes or pixels failed are refused by name, or mended with a note; good ones pass."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from models.calibration.beads import find_beads
from models.calibration.calibrating import calibrate
from models.calibration.pixel_repair import repaired
from models.calibration.sweep import Sweep
from models.calibration.sweep_light import trimmed_to_light
from models.calibration.sweep_steps import check_steps
from models.errors import DataError
from tests.models.bead_sweeps import CAMERA, PIXEL_UM, astigmatic_pattern, simulate


@cache
def _exposures() -> Sweep:
    """Three exposures of each of 27 planes; focus at plane 8.3."""
    return simulate(beads=9, seed=31, repeats=3)[0]


def _sweep(planes: np.ndarray) -> Sweep:
    return Sweep(np.ascontiguousarray(planes), np.arange(-6.0, len(planes) - 6.0), PIXEL_UM)


def _checked(sweep: Sweep) -> tuple[str, ...]:
    """Notes of all checks, in the order of a calibration."""
    sweep.check_exposure()
    clean = repaired(sweep)
    lit = trimmed_to_light(clean.sweep)
    lit.sweep.focus_curve()
    return (*clean.notes, *lit.notes, *check_steps(lit.sweep))


def _dark(count: int) -> np.ndarray:
    random = np.random.default_rng(4)
    return random.normal(100, 1.5, (count, 1, *_exposures().shape)).clip(0).astype(np.uint16)


def _with_fault(fault: str) -> np.ndarray:
    random = np.random.default_rng(5)
    good = _exposures().planes[:, :1].copy()
    again, more = _exposures().planes[:, 1:2], _exposures().planes[:, 2:]
    if fault == "one step lost":
        return np.concatenate([good[:16], again[15:16], good[16:]])
    if fault == "stuck in the middle":
        return np.concatenate([good[:16], again[15:16], more[15:16], good[16:]])
    if fault == "stuck at a limit":
        return np.concatenate([good[:18], again[17:18], more[17:18]])
    if fault == "moves after two exposures":
        return np.concatenate([again[2:3], more[2:3], good[2:]])
    if fault == "a copy":
        return np.concatenate([good[:16], good[15:16], good[16:]])
    if fault == "a copy far away":
        good[22] = good[13]
    elif fault == "shuffled":
        return good[random.permutation(len(good))]
    elif fault == "two exchanged":
        good[[14, 15]] = good[[15, 14]]
    elif fault == "of another field":
        good[17] = simulate(beads=9, seed=77)[0].planes[17]
    elif fault == "up and down":
        return np.concatenate([good[:20], again[18:4:-1]])
    elif fault == "planes missing":
        return np.delete(good, [17, 18, 19], axis=0)
    elif fault == "every other plane first":
        return np.concatenate([good[::2], good[1::2]])
    elif fault == "last plane at the first position":
        good[-1] = again[0]
    elif fault == "first plane from before":
        good[0] = again[-1]
    elif fault == "sample moved":
        good[15:] = np.roll(good[15:], 3, axis=-2)
    elif fault == "dark in the middle":
        good[14:17] = _dark(3)
    elif fault == "dark early":
        good[5:] = _dark(len(good) - 5)
    return good


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("one step lost", "Planes 15 to 16 show the same image"),
        ("stuck in the middle", "Planes 15 to 17 show the same image"),
        ("stuck at a limit", "Planes 17 to 19 show the same image"),
        ("moves after two exposures", "Planes 0 to 2 show the same image"),
        ("a copy", "Planes 15 and 16 are equal in every pixel"),
        ("a copy far away", "Planes 13 and 22 are equal in every pixel"),
        ("shuffled", "not in the order"),
        ("two exchanged", "beside planes 14 to 15"),
        ("of another field", "beside plane 17"),
        ("up and down", "beside plane 19"),
        ("planes missing", "Between planes 16 and 17 the image changes"),
        ("every other plane first", "Between planes 13 and 14 the image changes"),
        ("last plane at the first position", "Between planes 25 and 26 the image changes"),
        ("first plane from before", "Between planes 0 and 1 the image changes"),
        ("sample moved", "between planes 14 and 15 it jumped by 0.0 µm in x and 3.0 µm in y"),
        ("dark in the middle", "Planes 14 to 16 are dark"),
        ("dark early", "Planes 5 to 26 are dark"),
    ],
)
def test_each_trouble_has_its_own_message(fault: str, says: str) -> None:
    planes = _with_fault(fault)
    with pytest.raises(DataError, match=re.escape(says)) as refused:
        _checked(_sweep(planes))
    assert refused.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"noise": False},
        {"noise": False, "focus_um": 2.0},
        {"beads": 1},
        {"beads": 25, "photons": 5_000.0},
        {"photons": 1_000_000.0},
        {"z_um": np.arange(-6.0, 21.0, 0.4)},
        {"z_um": np.arange(-6.0, 21.0, 2.0), "focus_um": 2.0},
        {"z_um": np.arange(-6.0, 21.0, 3.0)},
        {"bleaching": 0.6},
        {"walk_px_per_um": (0.2, 0.1)},
        {"tilt_um": (3.0, -2.0)},
        {"sign": -1, "z_um": np.arange(-16.0, 7.0)},
        {"looks": astigmatic_pattern, "focus_um": 0.0, "z_um": np.arange(-10.0, 11.0)},
    ],
    ids=lambda changes: ", ".join(changes) or "unchanged",
)
def test_good_sweeps_pass_without_a_word(changes: dict[str, Any]) -> None:
    assert _checked(simulate(**({"beads": 9, "seed": 61} | changes))[0]) == ()


def test_steps_that_shrink_toward_focus_are_no_jump() -> None:
    # Two planes before focus, 4 µm apart: the first step changes the picture far more than the second.
    z_um = 2.3 + np.arange(-8.0, 25.0, 4.0)
    sweep = simulate(beads=9, seed=67, z_um=z_um)[0]
    for start in (0, 1):
        assert check_steps(Sweep(sweep.planes[start:], z_um[start:], PIXEL_UM)) == ()


def test_a_camera_without_noise_sees_the_same_on_both_sides_of_focus() -> None:
    z_um = np.arange(-9.0, 10.0)
    sweep = simulate(beads=9, noise=False, seed=68, focus_um=0.0, z_um=z_um)[0]
    half = sweep.planes[9:]
    assert check_steps(Sweep(np.concatenate([half[:0:-1], half]), z_um, PIXEL_UM)) == ()


def test_dark_planes_at_the_ends_are_left_out() -> None:
    planes = _with_fault("none")
    planes[:2], planes[-3:] = _dark(2), _dark(3)
    found = trimmed_to_light(_sweep(planes))
    assert found.sweep.z_um.tolist() == np.arange(-4.0, 18.0).tolist()
    assert "Planes 0 to 1, 24 to 26 are dark" in found.notes[0]
    with pytest.raises(DataError, match=r"not covered.*Planes 0 to 1, 24 to 26 are dark"):
        calibrate(_sweep(planes), z_range_um=(2, 17), camera=CAMERA)


def test_a_flickering_lamp_is_told() -> None:
    flicker = np.random.default_rng(8).uniform(0.5, 1, 27)[:, None, None, None]
    planes = 100 + (_with_fault("none") - 100.0) * flicker
    (note,) = _checked(_sweep(planes.clip(0).astype(np.uint16)))
    assert "The light is not steady" in note


def test_light_that_alternates_is_told() -> None:
    planes = _with_fault("none").astype(float)
    planes[1::2] = 100 + (planes[1::2] - 100) * 0.7
    assert any("The light is not steady" in note for note in _checked(_sweep(planes.astype(np.uint16))))


def test_one_bead_that_comes_off_is_left_out_alone() -> None:
    planes = _with_fault("none")
    planes[15:, 0, :50, :50] = CAMERA.expose(np.full((50, 50), 20, np.float32), 3)
    calibration = calibrate(_sweep(planes), z_range_um=(2, 16), camera=CAMERA)
    assert calibration.evidence is not None
    bad = [bead for bead in calibration.evidence.beads if not bead.used]
    assert [bead.x_px < 50 and bead.y_px < 50 for bead in bad] == [True]


def test_cosmic_rays_are_no_beads() -> None:
    random = np.random.default_rng(14)
    planes = _with_fault("none")
    rays = random.integers(0, 27, 120), np.zeros(120, int), *random.integers(2, 170, (2, 120))
    planes[rays] = 20_000
    found = repaired(_sweep(planes))
    assert "cosmic rays" in found.notes[0]
    left = found.sweep.planes[rays].astype(float) - _with_fault("none")[rays]
    assert np.median(np.abs(left)) < 10
    assert len(find_beads(found.sweep.planes[6:12, 0].astype(np.float32))) == 9


def test_a_bead_of_one_pixel_in_focus_is_no_cosmic_ray() -> None:
    def point(dx: np.ndarray, dy: np.ndarray, z_um: float) -> np.ndarray:
        values = np.exp(-(dx**2 + dy**2) / (2 * np.hypot(0.35, 0.4 * z_um) ** 2))
        return np.asarray(values / values.sum())

    for seed in (51, 52, 53):
        sharp = simulate(beads=9, seed=seed, looks=point, z_um=np.arange(-13.7, 20.0, 4.0), photons=200_000.0)[0]
        assert repaired(sharp).sweep is sharp


def _with_hot_pixels(count: int) -> tuple[Sweep, np.ndarray, np.ndarray]:
    random = np.random.default_rng(12)
    planes = _with_fault("none").astype(float)
    rows, columns = random.integers(3, 170, count), random.integers(3, 170, count)
    planes[:, 0, rows, columns] += random.exponential(900, count) + 150
    return _sweep(planes.clip(0, 65535).astype(np.uint16)), rows, columns


def test_hot_pixels_are_no_beads() -> None:
    sweep, rows, columns = _with_hot_pixels(60)
    found = repaired(sweep)
    assert "hot pixels" in found.notes[0]
    left = found.sweep.planes[:, 0, rows, columns].astype(float) - _with_fault("none")[:, 0, rows, columns]
    assert np.median(np.abs(left)) < 10
    assert len(find_beads(found.sweep.planes[8:9, 0].astype(np.float32))) == 9
    calibration = calibrate(sweep, z_range_um=(2, 16), camera=CAMERA)
    assert calibration.focus_um == pytest.approx(2.3, abs=0.5)
    assert calibration.report["beads_used"] >= 8
    assert any("hot pixels" in note for note in calibration.report["notes"])


def test_too_many_hot_pixels_are_refused() -> None:
    with pytest.raises(DataError, match="hot pixels; at most 1%"):
        repaired(_with_hot_pixels(600)[0])


def test_in_good_sweeps_no_pixel_is_hot() -> None:
    sharp = simulate(beads=9, seed=21, looks=lambda dx, dy, z: astigmatic_pattern(1.6 * dx, 1.6 * dy, z))[0]
    for sweep in (_sweep(_with_fault("none")), sharp, simulate(beads=9, noise=False)[0]):
        assert repaired(sweep).sweep is sweep


def test_what_does_not_change_with_focus_is_no_bead() -> None:
    # Dust on the camera's window: wider than a pixel, and the same at every plane.
    sweep, truth = simulate(beads=9, seed=41)
    rows, columns = np.indices(sweep.shape)
    x, y = truth.positions_px[4] + 26
    dust = 400 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 2.0**2))
    dirty = replace(sweep, planes=(sweep.planes + dust).astype(np.uint16))
    calibration = calibrate(dirty, z_range_um=(2, 16), camera=CAMERA)
    assert calibration.evidence is not None
    (dust_place,) = [bead for bead in calibration.evidence.beads if "does not change with focus" in bead.reason]
    assert np.hypot(dust_place.x_px - x, dust_place.y_px - y) < 2


def test_memory_is_asked_for_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.memory.spare_bytes", lambda: 1_000_000)
    with pytest.raises(DataError, match=r"needs about 0\.0201 GB of memory"):
        calibrate(_sweep(_with_fault("none")), z_range_um=(2, 16), camera=CAMERA)


def test_units_that_no_objective_has_are_told() -> None:
    sweep = _sweep(_with_fault("none"))
    notes = calibrate(Sweep(sweep.planes, sweep.z_um / 20, 1.0), camera=CAMERA).report["notes"]
    assert any("no objective does" in note for note in notes)
    with pytest.raises(DataError, match="or the step of the sweep is wrong"):
        calibrate(Sweep(sweep.planes, sweep.z_um / 200, 1.0), camera=CAMERA)

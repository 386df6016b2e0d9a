"""The map of the field: its inverse, its edges, its files, and its fit to beads."""

from __future__ import annotations

import json

import numpy as np
import pytest

from models.calibration.field_fit import BeadDepths, fit_field
from models.field import FieldMap, apparent_range_um

EXTENT = (400.0, 400.0)
FIELD = FieldMap(
    centre_um=(200.0, 200.0),
    half_width_um=200.0,
    tilt_um=(1.0, 0.0),
    z_um=(5.0, 25.0, 45.0),
    depth_um=((-0.5, 0.4, 0.0, 1.0, 0.0, 0.5), (-0.5, 0.0, 0.0, 1.0, 0.0, 0.5), (-0.5, 0.0, 0.0, 1.4, 0.0, 0.9)),
    lateral_um=((0.1, 0.0, 0.0, 0.1), (0.0, 0.0, 0.0, 0.0), (-0.6, 0.0, 0.0, -0.6)),
    covered_um=(0.0, 400.0, 0.0, 400.0),
)


def _beads(count: int, field: FieldMap = FIELD, seed: int = 1, noise_um: float = 0.02) -> BeadDepths:
    random = np.random.default_rng(seed)
    x, y = random.uniform(10, 390, (2, count))
    z = np.arange(0.0, 46.0)
    at = x[:, None], y[:, None], z[None, :]
    apparent = field.depth_error_at(*at) + field.tilt_at(x, y)[:, None] + random.normal(0, noise_um, (count, len(z)))
    fade = np.clip(z / 5, 0, 1)
    shift = np.stack(field.shift_at(*at), axis=2) * fade[None, :, None]
    return BeadDepths(x, y, z, apparent - np.median(apparent), shift)


def test_true_is_the_inverse_of_apparent() -> None:
    random = np.random.default_rng(0)
    places = random.uniform(0, 400, 50), random.uniform(0, 400, 50), random.uniform(0, 50, 50)
    back = FIELD.true_places(*FIELD.apparent_places(*places))
    assert np.abs(np.array(back) - np.array(places)).max() < 1e-3


def test_nothing_is_extrapolated() -> None:
    inside = FIELD.depth_error_at(np.array([400.0]), np.array([0.0]), np.array([45.0]))
    outside = FIELD.depth_error_at(np.array([900.0]), np.array([-300.0]), np.array([95.0]))
    assert outside == pytest.approx(inside)


def test_a_slide_reaches_beyond_its_depths() -> None:
    low, high = FIELD.reach_um(10.0, 40.0)
    # Left: tilt -1, optics 0.5 less 0.3 near focus. Right corners: tilt 1, optics 1.65.
    assert low == pytest.approx(9.2, abs=0.05)
    assert high == pytest.approx(42.65, abs=0.05)


def test_the_apparent_range_stays_on_the_planes_and_on_its_side_of_focus() -> None:
    assert apparent_range_um(FIELD, (10.0, 40.0), (-50.0, 80.0)) == FIELD.reach_um(10.0, 40.0)
    low, high = apparent_range_um(FIELD, (0.5, 40.0), (-50.0, 41.0))
    assert (low, high) == (0.0, 41.0)
    assert apparent_range_um(None, (3.0, 55.0), (-50.0, 54.0)) == (3.0, 54.0)


def test_the_map_survives_json() -> None:
    assert FieldMap.from_dict(json.loads(json.dumps(FIELD.as_dict()))) == FIELD


def test_the_fit_finds_tilt_curvature_growth_and_shift() -> None:
    fit = fit_field(_beads(40), EXTENT, (3.0, 45.0), 2.0)
    assert fit.report["depth"]["kind"] == "quadratic"
    found = fit.field
    assert found is not None
    assert found.tilt_um == pytest.approx((1.0, 0.0), abs=0.05)
    x, y, z = np.meshgrid([50.0, 200.0, 350.0], [50.0, 200.0, 350.0], [6.0, 25.0, 44.0])
    difference = found.depth_error_at(x, y, z) - FIELD.depth_error_at(x, y, z)
    # An error common to all beads belongs to the PSF, so a constant per depth is undetermined.
    assert np.abs(difference - difference.mean(axis=(0, 1))).max() < 0.1
    for axis in (0, 1):
        assert found.shift_at(x, y, z)[axis] == pytest.approx(FIELD.shift_at(x, y, z)[axis], abs=0.05)


def test_an_outlier_does_not_bend_the_map() -> None:
    beads = _beads(40)
    beads.apparent_um[3] += 4.0
    found = fit_field(beads, EXTENT, (3.0, 45.0), 2.0).field
    assert found is not None
    assert found.tilt_um == pytest.approx((1.0, 0.0), abs=0.1)


@pytest.mark.parametrize(("count", "kind"), [(1, "none"), (4, "none"), (12, "tilt")])
def test_few_beads_give_a_simple_map_or_none(count: int, kind: str) -> None:
    fit = fit_field(_beads(count), EXTENT, (3.0, 45.0), 2.0)
    assert fit.report["depth"]["kind"] == kind
    assert (fit.field is None) == (kind == "none")


def test_beads_that_differ_by_chance_give_no_map() -> None:
    flat = FieldMap((200.0, 200.0), 200.0, (0.0, 0.0), (0.0,), ((0.0,) * 6,), ((0.0,) * 4,))
    beads = _beads(30, flat)
    beads.apparent_um[:] += np.random.default_rng(5).normal(0, 0.5, (30, 1))
    fit = fit_field(beads, EXTENT, (3.0, 45.0), 2.0)
    assert fit.report["depth"]["kind"] == "none"
    assert np.std(fit.own_um[:, 0]) == pytest.approx(0.5, abs=0.15)


def test_places_that_differ_by_chance_seldom_give_a_map() -> None:
    flat = FieldMap((200.0, 200.0), 200.0, (0.0, 0.0), (0.0,), ((0.0,) * 6,), ((0.0,) * 4,))
    kinds = []
    for seed in range(30):
        beads = _beads(19, flat, seed)
        # An error of a bead's position in focus is in all its shifts, so errors at different depths are correlated.
        beads.shift_um[:, 5:] += np.random.default_rng(seed).normal(0, 0.01, (19, 1, 2))
        kinds += [fit_field(beads, EXTENT, (3.0, 45.0), 2.0).report["lateral"][axis]["kind"] for axis in "xy"]
    assert kinds.count("tilt") <= 6  # of 60


def test_unknown_depths_count_nothing() -> None:
    beads = _beads(40)
    beads.apparent_um[:, ::3] = np.nan
    beads.apparent_um[7] = np.nan
    found = fit_field(beads, EXTENT, (3.0, 45.0), 2.0).field
    assert found is not None
    assert found.tilt_um == pytest.approx((1.0, 0.0), abs=0.05)


def test_both_sides_of_focus_and_single_planes_are_mapped() -> None:
    beads = _beads(30)
    both = BeadDepths(beads.x_um, beads.y_um, beads.z_um - 22.0, beads.apparent_um, beads.shift_um)
    assert fit_field(both, EXTENT, (-20.0, 20.0), 2.0).field is not None
    below = BeadDepths(beads.x_um, beads.y_um, beads.z_um - 50.0, beads.apparent_um, beads.shift_um)
    found = fit_field(below, EXTENT, (-48.0, -6.0), 2.0).field
    assert found is not None
    assert np.all(np.diff(found.z_um) > 0)
    single = fit_field(beads, EXTENT, (20.0, 22.0), 2.0).field
    assert single is not None
    assert len(single.z_um) == 1

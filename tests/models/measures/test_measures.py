"""Figures of tracks: known answers, properties, and the coverage of intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.errors import DataError
from models.measures import Measures, Sightings, measure
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table

FRAME_S = 0.01
SIGMA_UM = np.array([0.15, 0.15, 0.3])


def tables(
    paths_um: NDArray[np.float64], sigma_um: NDArray[np.float64] = SIGMA_UM, seed: int = 0, recall: float = 1.0
) -> tuple[Tracks, Localizations]:
    """Tracks at the true paths, shape (N, T, 3), and localizations of them with errors and gaps."""
    rng = np.random.default_rng(seed)
    tracks, frames = paths_um.shape[:2]
    ids, frame = np.repeat(np.arange(1, tracks + 1), frames), np.tile(np.arange(frames), tracks)
    true = paths_um.reshape(-1, 3)
    seen = rng.random(len(true)) < recall
    seen[frame == 0] = True
    one, sigma = np.ones(len(true)), np.ones((len(true), 3)) * sigma_um
    table = Tracks(
        ids, frame, frame * FRAME_S, *true.T, 0 * one, 0 * one, 0 * one, *sigma.T, seen.astype(np.int64), one
    )
    measured = (true + rng.normal(0, sigma))[seen]
    columns = {name: np.ones(len(measured)) for name in Localizations.names()}
    columns |= dict(zip(("x_um", "y_um", "z_um"), measured.T, strict=True))
    columns |= dict(zip(("sigma_x_um", "sigma_y_um", "sigma_z_um"), sigma[seen].T, strict=True))
    return table, Localizations.from_columns(columns | {"frame": frame[seen]})


def walks(tracks: int, frames: int, diffusion_um2_s: float, seed: int) -> NDArray[np.float64]:
    """Brownian paths, 100 µm apart; shape (N, T, 3)."""
    steps = np.random.default_rng(seed).normal(0, np.sqrt(2 * diffusion_um2_s * FRAME_S), (tracks, frames, 3))
    paths: NDArray[np.float64] = steps.cumsum(axis=1) + 100 * np.arange(tracks)[:, None, None]
    return paths


def straight(velocity_um_s: NDArray[np.float64], frames: int = 100) -> NDArray[np.float64]:
    """One straight path, shape (1, T, 3)."""
    path: NDArray[np.float64] = np.arange(frames)[None, :, None] * FRAME_S * velocity_um_s
    return path


def fractional(tracks: int, frames: int, exponent: float, step_um: float) -> NDArray[np.float64]:
    """Fractional Brownian paths, 100 µm apart; shape (N, T, 3)."""
    times = np.arange(1, frames)
    power = times**exponent
    covariance = 0.5 * step_um**2 * (power[:, None] + power - np.abs(times[:, None] - times) ** exponent)
    root = np.linalg.cholesky(covariance)
    paths = np.random.default_rng(12).standard_normal((tracks, 3, frames - 1)) @ root.T
    whole: NDArray[np.float64] = np.concatenate([np.zeros((tracks, 3, 1)), paths], axis=2).transpose(0, 2, 1)
    return whole + 100 * np.arange(tracks)[:, None, None]


def holds(found: Measures, diffusion_um2_s: float) -> NDArray[np.bool_]:
    """Which intervals of tracks hold the coefficient, shape (N, 4)."""
    low, high = (
        np.stack([getattr(found.tracks, f"diffusion_{axis}um2_s_{end}") for axis in ("x_", "y_", "z_", "")], axis=1)
        for end in ("low", "high")
    )
    return np.asarray((low <= diffusion_um2_s) & (high >= diffusion_um2_s))


@pytest.mark.parametrize("diffusion", [0.1, 1.0, 10.0])
def test_diffusion_of_all_tracks_is_unbiased(diffusion: float) -> None:
    """20 tracks of 150 frames, a tenth of them missing: three standard errors, from the interval, and at most 30 %."""
    found = measure(*tables(walks(20, 150, diffusion, 1), recall=0.9)).ensemble
    for axis, each in found.diffusion_um2_s.items():
        assert each.value is not None
        assert each.low is not None
        assert each.high is not None
        error = (each.high - each.low) / 3.92
        assert abs(each.value - diffusion) < 3 * error, axis
        assert error < (0.15 if diffusion > 0.1 else 0.3) * diffusion
    assert found.exponent.low is not None
    assert found.exponent.high is not None
    assert found.exponent.low <= 1.0 <= found.exponent.high


@pytest.mark.parametrize(("diffusion", "frames"), [(0.1, 60), (1.0, 25), (10.0, 60)])
def test_intervals_of_tracks_cover(diffusion: float, frames: int) -> None:
    """300 tracks: a true coverage of 95 % gives 90 to 98.7 % (4 standard errors)."""
    found = measure(*tables(walks(300, frames, diffusion, 2), seed=3, recall=0.9))
    covered = holds(found, diffusion).mean(axis=0)
    assert (covered > 0.90).all()
    # Where nothing but an upper bound is known, only that can fail: 97.5 %, and two errors of that.
    assert (covered <= 0.995).all()
    exponents = (found.tracks.exponent_low <= 1) & (found.tracks.exponent_high >= 1)
    assert exponents[np.isfinite(found.tracks.exponent_low)].mean() > 0.90


def test_immobile_particles_do_not_diffuse() -> None:
    found = measure(*tables(np.zeros((20, 100, 3)) + 100 * np.arange(20)[:, None, None]))
    assert holds(found, 0.0).mean() > 0.9
    together = found.ensemble.diffusion_um2_s["all"]
    assert together.low == 0.0
    # The error is 0.15 µm; 100 frames bound the diffusion of a track to some 0.02 µm²/s, and of 20 to a part of that.
    assert together.high is not None
    assert together.high < 0.01


def test_a_straight_line() -> None:
    velocity = np.array([60.0, 0.0, -45.0])
    found = measure(*tables(straight(velocity)))
    row = found.tracks
    assert (row.points[0], row.observed[0]) == (100, 100)
    assert row.duration_s[0] == pytest.approx(0.99)
    assert row.displacement_um[0] == pytest.approx(75 * 0.99)
    assert row.path_um[0] == pytest.approx(75 * 0.99)
    assert row.speed_um_s[0] == pytest.approx(75)
    assert row.straightness[0] == pytest.approx(1)
    assert [row.direction_x[0], row.direction_y[0], row.direction_z[0]] == pytest.approx([0.8, 0, -0.6])
    # Of the two ends, along the direction.
    assert row.displacement_sigma_um[0] == pytest.approx(np.sqrt(2 * ((0.8 * 0.15) ** 2 + (0.6 * 0.3) ** 2)))
    assert row.exponent[0] == pytest.approx(2, abs=0.03)
    # The drift is no diffusion: 75 µm/s in steps of 10 ms would be 28 µm²/s.
    assert row.diffusion_um2_s_high[0] < 0.05
    assert found.displacements.msd_um2[0, 0, 0] == pytest.approx(0.36, abs=4 * found.standard_error_um2[0, 0, 0] + 0.02)


def test_confined_motion_has_an_exponent_below_1() -> None:
    rng = np.random.default_rng(4)
    paths = np.zeros((20, 200, 3))
    for frame in range(1, 200):  # a spring: forgets in 3 frames
        paths[:, frame] = 0.7 * paths[:, frame - 1] + rng.normal(0, 0.4, (20, 3))
    found = measure(*tables(paths + 100 * np.arange(20)[:, None, None])).ensemble
    assert found.exponent.high is not None
    assert found.exponent.high < 0.9


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5])
def test_exponent_of_fractional_motion(exponent: float) -> None:
    found = measure(*tables(fractional(40, 100, exponent, 0.3))).ensemble.exponent
    assert found.low is not None
    assert found.high is not None
    assert found.low - 0.025 <= exponent <= found.high + 0.025  # the exponents are a grid of 0.025
    assert found.high - found.low < 0.25


def test_mean_squared_displacement_within_its_errors() -> None:
    found = measure(*tables(walks(40, 200, 1.0, 5), recall=0.8))
    expected = 2 * 1.0 * found.displacements.lag_s
    away = (found.displacements.msd_um2 - expected) / found.standard_error_um2
    away = away[:, :, :5]  # up to 16 frames, where the distribution is nearly normal
    assert np.abs(away.mean()) < 0.3
    assert away.std() == pytest.approx(1, abs=0.2)
    pooled = (np.array(found.ensemble.msd_um2["x"]) - expected) / np.array(found.ensemble.msd_standard_error_um2["x"])
    assert np.abs(pooled).max() < 4


def test_wrong_sigmas_are_corrected() -> None:
    """Sigmas that are stated 30 % too small: the variance is twice the stated one."""
    tracks, found = tables(walks(30, 200, 0.5, 6))
    stated = replace(
        found, **{name: getattr(found, name) / np.sqrt(2) for name in ("sigma_x_um", "sigma_y_um", "sigma_z_um")}
    )
    ensemble = measure(tracks, stated).ensemble
    assert list(ensemble.noise_scale.values()) == pytest.approx([2, 2, 2], rel=0.25)
    for each in ensemble.diffusion_um2_s.values():
        assert each.value == pytest.approx(0.5, rel=0.15)


def test_the_blur_of_the_exposure_is_removed() -> None:
    """Positions are means over an exposure of the whole frame time."""
    fine = np.random.default_rng(7).normal(0, np.sqrt(2 * 2.0 * FRAME_S / 20), (20, 200 * 20, 3)).cumsum(axis=1)
    blurred = fine.reshape(20, 200, 20, 3).mean(axis=2) + 100 * np.arange(20)[:, None, None]
    tracks, found = tables(blurred, np.full(3, 0.02))
    corrected = measure(tracks, found, exposure_s=FRAME_S).ensemble.diffusion_um2_s["all"]
    assert corrected.low is not None
    assert corrected.high is not None
    assert corrected.low < 2.0 < corrected.high
    assert corrected.value == pytest.approx(2.0, rel=0.06)


@pytest.mark.parametrize("exposure_s", [-0.001, 0.02, np.nan])
def test_impossible_exposures_are_refused(exposure_s: float) -> None:
    with pytest.raises(DataError, match="exposure"):
        measure(*tables(walks(1, 30, 1.0, 8)), exposure_s=exposure_s)


def test_localizations_of_other_particles_are_not_taken() -> None:
    tracks, found = tables(walks(5, 50, 1.0, 9))
    _, others = tables(walks(5, 50, 1.0, 10) + 30.0)
    both = Localizations.concatenate([others, found])
    assert measure(tracks, both).tracks.diffusion_um2_s == pytest.approx(measure(tracks, found).tracks.diffusion_um2_s)
    assert (Sightings.of(tracks, others).counts == 0).all()


def test_tracks_that_are_too_short() -> None:
    tracks, found = tables(walks(2, 60, 1.0, 11))
    short = tracks.select((tracks.track_id == 2) | (tracks.frame < 1))
    row = measure(short, found).tracks
    assert (row.points.tolist(), row.observed.tolist()) == ([1, 60], [1, 60])
    assert np.isnan([row.speed_um_s[0], row.straightness[0], row.diffusion_um2_s[0], row.exponent_low[0]]).all()
    assert (row.displacement_um[0], row.duration_s[0]) == (0, 0)
    assert np.isfinite(row.diffusion_um2_s[1])


def test_no_tracks() -> None:
    found = measure(Tracks.empty(), Localizations.empty())
    assert len(found.tracks) == 0
    assert found.ensemble.diffusion_um2_s["x"].value is None
    assert found.ensemble.lag_s == []


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    frames=st.integers(2, 40),
    factor=st.floats(0.01, 100),
    order=st.permutations(range(3)),
    gaps=st.floats(0.3, 1.0),
)
def test_units_axes_and_order(seed: int, frames: int, factor: float, order: list[int], gaps: float) -> None:
    """Lengths in other units scale the figures; exchanged axes exchange them; the order of rows is of no account."""
    paths = walks(3, frames, 1.0, seed)
    tracks, found = tables(paths, seed=seed, recall=gaps)
    axes = [f"{'xyz'[axis]}_um" for axis in order]

    def changed(table: Tracks | Localizations) -> dict[str, NDArray[np.float64]]:
        columns = table.columns()
        new = dict(columns)
        for axis, name in zip("xyz", axes, strict=True):
            new[f"{axis}_um"] = factor * columns[name]
            new[f"sigma_{axis}_um"] = factor * columns[f"sigma_{name}"]
        return new

    rows = np.random.default_rng(seed).permutation(len(tracks))
    before = measure(tracks, found).tracks
    after = measure(Tracks(**changed(tracks)).select(rows), Localizations(**changed(found))).tracks  # type: ignore[arg-type]
    assert after.path_um == pytest.approx(factor * before.path_um)
    assert after.straightness == pytest.approx(before.straightness, nan_ok=True)
    assert (after.observed == before.observed).all()
    if factor >= 0.04:  # sigmas have a floor of 5 nm
        for axis, name in zip("xyz", axes, strict=True):
            one = getattr(before, f"diffusion_{name[0]}_um2_s_high") * factor**2
            # The grid of coefficients has 20 points per decade.
            assert getattr(after, f"diffusion_{axis}_um2_s_high") == pytest.approx(one, rel=0.05, nan_ok=True)
    known = np.isfinite(before.diffusion_um2_s)
    assert (before.diffusion_um2_s_low[known] <= before.diffusion_um2_s[known]).all()
    assert (before.diffusion_um2_s[known] <= before.diffusion_um2_s_high[known]).all()
    assert (np.nan_to_num(before.straightness) <= 1).all()


@pytest.mark.parametrize("smoothed", [False, True])
def test_a_table_of_tracks_alone(smoothed: bool) -> None:
    """Positions are filtered: within 25 %, where their steps without correction would be up to half too short."""
    _, found = tables(walks(10, 200, 5.0, 13), recall=0.9)
    table = smoothed_tracks(found, 1 / FRAME_S) if smoothed else track_table(found, 1 / FRAME_S)
    ensemble = measure(table).ensemble.diffusion_um2_s
    for each in ensemble.values():
        assert each.value == pytest.approx(5.0, rel=0.25)


def test_the_tracker_does_not_cut_off_steps() -> None:
    """Joined by the tracker as by the truth: within 2 % of each other."""
    tracks, found = tables(walks(10, 150, 10.0, 14), recall=0.9)
    true = measure(tracks, found).ensemble.diffusion_um2_s["all"]
    tracked = measure(smoothed_tracks(found, 1 / FRAME_S), found).ensemble.diffusion_um2_s["all"]
    assert tracked.value == pytest.approx(true.value, rel=0.02)

"""Experiment `brownian`: the diffusion coefficient of beads, recovered in x, y and z from tracks.

Localizations are joined by tracks, as a user has them, so that what the tracker
cuts off or joins wrongly counts too. The estimator is unbiased by localization noise of any size: with steps
Δ in the time t, D = <Δ²>/2t + <Δ Δ'>/t, Δ' the next step (Vestergaard, Blainey
and Flyvbjerg, Physical Review E 89, 022726, 2014, equation 14). Blur within
the exposure, which cancels in the sum, is drawn into the frames too.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from evaluation.experiments.benchmark import Benchmark
from evaluation.experiments.moving_points import FPS, render_movie, tracked_localizations
from evaluation.methods.registry import needs_model
from evaluation.optics.frames import FRAME_SHAPE, Photons
from evaluation.report.figures import BOUND, log_axis, new_figure, panel, save, series, styles
from evaluation.scores.scoring import Row
from models.motion import Brownian
from models.tables import Localizations
from models.tracking import Tracker

__all__ = ["diffusion", "draw", "joined_by_tracks", "run"]

F64 = NDArray[np.float64]

_BEADS, _QUICK_BEADS = 8, 4
_FRAMES, _QUICK_FRAMES = 300, 16
_FEWEST_FRAMES = 20
"""Steps need frames in a row."""

_LIGHT = Photons(3e4, 5.0)
_DIFFUSION_UM2_S = (0.43, 2.0, 10.0)
"""From a 1-µm bead in water at 20 °C to small ones."""

_QUICK_DIFFUSION_UM2_S = (10.0,)


def run(benchmark: Benchmark) -> dict[str, list[Row]]:
    """Table `brownian`: the recovered coefficient for each true one, method and axis, with its standard error."""
    rows: list[Row] = []
    coefficients = _QUICK_DIFFUSION_UM2_S if benchmark.quick else _DIFFUSION_UM2_S
    count = _QUICK_FRAMES if benchmark.quick else _FRAMES
    total = len(coefficients) * len(benchmark.method_runs)
    for index, coefficient in enumerate(coefficients):
        rng = benchmark.rng(9, index)
        points = _QUICK_BEADS if benchmark.quick else _BEADS
        low, high = np.array(benchmark.box(FRAME_SHAPE)).T
        start = rng.uniform(low + 5, high - 5, (points, 3))
        motion = Brownian(start, coefficient, benchmark.seed + index)
        frames = render_movie(benchmark.optics, motion, np.ones(points), count).expose(_LIGHT, benchmark.rng(6, index))
        for done, method_run in enumerate(benchmark.method_runs):
            used_frames, candidates = benchmark.candidates(method_run, frames, _FEWEST_FRAMES)
            found = method_run.above_threshold(candidates)
            given = tracked_localizations(candidates, found, probabilities=needs_model(method_run.name))
            paths = joined_by_tracks(given, len(used_frames))
            real = np.stack([each[:, :3] for each in used_frames.emitters], axis=1)
            for axis, name in enumerate("xyz"):
                estimate, error = diffusion(paths[:, :, axis], 1 / FPS)
                of_truth, _ = diffusion(real[:, :, axis], 1 / FPS)
                rows.append(
                    {
                        "method": method_run.label,
                        "axis": name,
                        "beads": points,
                        "frames": len(used_frames),
                        "photons": _LIGHT.mean,
                        "background_e": _LIGHT.background_e,
                        "diffusion_um2_s": coefficient,
                        "of_the_true_paths_um2_s": of_truth,
                        "recovered_um2_s": estimate,
                        "standard_error_um2_s": error,
                        "ratio": None if estimate is None else estimate / coefficient,
                        "tracks": len(paths),
                        "found": float(np.isfinite(paths[:, :, 0]).sum() / (points * len(used_frames))),
                    }
                )
            done_now = index * len(benchmark.method_runs) + done + 1
            benchmark.advance(done_now / total, f"{coefficient:g} µm²/s, {method_run.label}")
    return {"brownian": rows}


def diffusion(paths_um: F64, step_s: float) -> tuple[float | None, float | None]:
    """Diffusion coefficient from positions along one axis, and its standard error.

    Parameters
    ----------
    paths_um : ndarray of float64, shape (N, T)
        NaN where a bead was not found.
    step_s : float
        Time between positions.

    Returns
    -------
    estimate, standard error : float or None
        Over beads; None with fewer than two steps in a row (estimate) or two beads (error).
    """
    step = np.diff(paths_um, axis=1)
    square, product = step**2, step[:, :-1] * step[:, 1:]
    if not np.isfinite(product).any():
        return None, None
    each = []
    for bead in range(len(paths_um)):
        if np.isfinite(product[bead]).any():
            each.append(np.nanmean(square[bead]) / (2 * step_s) + np.nanmean(product[bead]) / step_s)
    error = float(np.std(each, ddof=1) / np.sqrt(len(each))) if len(each) > 1 else None
    return float(np.nanmean(square) / (2 * step_s) + np.nanmean(product) / step_s), error


def joined_by_tracks(found: Localizations, frames: int) -> F64:
    """Localization of each track in each frame, NaN where it was not seen, shape (N, T, 3).

    Tracks are those of the live tracker; their points are the localizations themselves, because filtered positions
    are too smooth to diffuse by.
    """
    tracker = Tracker()
    paths: dict[int, F64] = {}
    for number in range(frames):
        here = found.select(found.frame == number)
        state = tracker.step(number / FPS, number, here)
        for track, row in zip(state.track_id.tolist(), state.localization.tolist(), strict=True):
            if row >= 0:
                path = paths.setdefault(track, np.full((frames, 3), np.nan))
                path[number] = here.xyz_um[row]
    return np.array(list(paths.values())).reshape(-1, frames, 3)


def draw(tables: dict[str, list[Row]], folder: Path, caption: str) -> None:
    """Figure `brownian.png`: recovered over true coefficient, a panel for each axis."""
    rows = tables["brownian"]
    looks = styles(row["method"] for row in rows)
    figure, axes = new_figure(3, sharey=True)
    for axis, name in zip(axes[0], "xyz", strict=True):
        for method, look in looks.items():
            axis.plot(*series(rows, "diffusion_um2_s", "ratio", method=method, axis=name), **look)
            for row in rows:
                if row["method"] == method and row["axis"] == name and row["standard_error_um2_s"] and row["ratio"]:
                    height = row["standard_error_um2_s"] / row["diffusion_um2_s"]
                    axis.errorbar(row["diffusion_um2_s"], row["ratio"], height, color=look["color"], capsize=2)
        axis.axhline(1.0, label="truth", **BOUND)
        log_axis(axis, [row["diffusion_um2_s"] for row in rows])
        panel(axis, title=f"along {name}", x="true diffusion coefficient (µm²/s)")
    axes[0, 0].set_ylabel("recovered over true")
    save(figure, axes, folder / "brownian.png", title="Diffusion recovered from localizations", caption=caption)

"""Cells tracked by the image filter: with the pattern of beads, of spheres of the cells' size, and of cells."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from evaluation.experiments.cell_scenes import DIAMETER_UM, CellMovie
from evaluation.experiments.moving_points import FPS
from evaluation.optics.benchmark_optics import BenchmarkOptics
from evaluation.optics.frames import FRAME_SHAPE, SIDE_UM, middle_box
from evaluation.scores.bounds import JointBounds
from evaluation.scores.flow import Flow, flow_of, flow_of_tracks
from evaluation.scores.scoring import Row, limit_columns
from models.localization import Localizer
from models.metrics import score_table
from models.movie_localization import ArrayMovie
from models.movie_tracking import track_movie
from models.object_size import psf_of_sphere
from models.psf import Psf
from models.tables import Localizations, Tracks, Truth

__all__ = ["TrackedCells", "limit_row", "patterns", "track_cells"]

_TOLERANCE_UM = 10.0
_LIMIT_FRAMES = 6
_FRAMES_JOINED = 10


@dataclass(frozen=True, slots=True)
class TrackedCells:
    """Tracks and localizations of a movie, and their scores as rows."""

    tracks: Tracks
    found: Localizations
    rows: list[Row]


def patterns(localizer: Localizer, cells: Psf | None) -> Iterator[tuple[str, Psf]]:
    """What a calibration of beads, of beads and the size of the cells, and of cells gives."""
    yield "beads", localizer.psf
    yield "beads and size", psf_of_sphere(localizer.psf, DIAMETER_UM)
    if cells is not None:
        yield "cells", cells


def track_cells(movie: CellMovie, localizer: Localizer, psf: Psf, calibrated_with: str) -> TrackedCells:
    """Track a movie with the image filter, static light found in turns, and score localizations and smoothed tracks."""
    frames = movie.frames
    begun = time.process_time()
    tracks, found = track_movie(
        ArrayMovie(frames.counts), localizer, localizer.image_model_of(psf), FPS, static_light="auto", smooth=True
    )
    seconds = (time.process_time() - begun) / len(frames)
    found = found.select(found.probability >= localizer.threshold)
    columns = {
        "scene": movie.scene.name,
        "method": "image filter",
        "calibrated_with": calibrated_with,
        "frames_are": "static light found in turns",
        "tolerance_um": _TOLERANCE_UM,
        "frames": len(frames),
    }
    rows = [
        columns | {"form": form} | score_table(table, movie.truth, _TOLERANCE_UM).as_dict()
        for form, table in (("localizations", found), ("tracks", tracks))
    ]
    rows[1] |= {
        "seconds_per_frame": seconds,
        "passage_share": passage_share(tracks, movie.truth),
        **_flow_columns("", flow_of_tracks(tracks)),
        **_flow_columns("true_", _true_flow(movie.truth)),
    }
    return TrackedCells(tracks, found, rows)


def limit_row(optics: BenchmarkOptics, movie: CellMovie) -> Row:
    """Jaccard index of ideal detectors that know the pattern of a sphere and the tissue: of one frame, and of ten."""
    frames = movie.frames
    limits = JointBounds(psf_of_sphere(optics.psf, DIAMETER_UM))
    (left, right), (top, bottom), depths = middle_box(FRAME_SHAPE, optics.pixel_size_um, optics.depths_um, SIDE_UM)
    shape = (round((bottom - top) / optics.pixel_size_um), round((right - left) / optics.pixel_size_um))
    detector = limits.ideal_detector(depths, shape)
    row: Row = {"scene": movie.scene.name, "method": "ideal detector", "form": "limit", "tolerance_um": _TOLERANCE_UM}
    some = np.unique(np.linspace(0, len(frames) - 1, _LIMIT_FRAMES).round().astype(int)).tolist()
    for joined, key in ((1, "jaccard"), (_FRAMES_JOINED, f"jaccard_{_FRAMES_JOINED}")):
        # Tissue that is known adds its noise only. Ten frames of a known motion are as one with ten times the light.
        noise = np.sqrt((movie.structure_e * joined + frames.read_noise_e**2 * joined).astype(np.float64))
        bounds = [
            limits.of_frame(
                _brighter(optics.apparent(frames.emitters[number]), joined),
                joined * float(frames.background_e[number]),
                noise,
                frames.shape,
            )
            for number in some
        ]
        columns = limit_columns(bounds, detector)
        row[key] = columns["limit_jaccard"]
        if joined == 1:
            row |= {"rmse_lateral_um": columns["limit_rms_lateral_um"], "rmse_axial_um": columns["limit_rms_axial_um"]}
    return row


def passage_share(tracks: Tracks, truth: Truth) -> float:
    """Share of a cell's passage that its longest track follows, within 10 µm; mean over passages, by their length."""
    lengths: dict[int, int] = {}
    followed: dict[tuple[int, int], int] = {}
    for frame in np.unique(truth.frame).tolist():
        its, ours = truth.frame == frame, tracks.frame == frame
        numbers = truth.track_id[its]
        for number in numbers.tolist():
            lengths[number] = lengths.get(number, 0) + 1
        places = np.column_stack([truth.x_um[its], truth.y_um[its], truth.z_um[its]])
        found = np.column_stack([tracks.x_um[ours], tracks.y_um[ours], tracks.z_um[ours]])
        if not len(found):
            continue
        apart = np.linalg.norm(places[:, None] - found[None], axis=2)
        for row, column in zip(*linear_sum_assignment(np.minimum(apart, 2 * _TOLERANCE_UM)), strict=True):
            if apart[row, column] < _TOLERANCE_UM:
                key = (int(numbers[row]), int(tracks.track_id[ours][column]))
                followed[key] = followed.get(key, 0) + 1
    longest = dict.fromkeys(lengths, 0)
    for (number, _), count in followed.items():
        longest[number] = max(longest[number], count)
    return sum(longest.values()) / max(sum(lengths.values()), 1)


def _true_flow(truth: Truth) -> Flow | None:
    """The same estimate from the true places."""
    order = np.lexsort((truth.frame, truth.track_id))
    places = np.column_stack([truth.x_um, truth.y_um, truth.z_um])[order]
    numbers, frames = truth.track_id[order], truth.frame[order]
    same = numbers[1:] == numbers[:-1]
    speed = np.linalg.norm(np.diff(places, axis=0), axis=1) * FPS
    return flow_of(numbers[1:][same], (frames[1:][same] - 0.5) / FPS, speed[same])


def _flow_columns(prefix: str, flow: Flow | None) -> Row:
    if flow is None:
        return {}
    return {
        f"{prefix}mean_um_s": flow.mean_um_s,
        f"{prefix}peak_um_s": flow.peak_um_s,
        f"{prefix}beat_hz": flow.beat_hz,
    }


def _brighter(emitters: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    lit = emitters.copy()
    lit[:, 3] *= factor
    return lit

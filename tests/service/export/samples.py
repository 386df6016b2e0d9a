"""Tracks as they are exported: gaps, coasting rows, figures that are not known, ids that do not begin at 1."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from models.tables import Localizations, Tracks
from service.export.origin import Origin
from service.store.result_batch import ResultBatch
from service.store.runs import LEDGER_KEYS
from service.store.store import Store

ORIGIN = Origin("20261122T011500-ab12", "beads & <water>", 2, "reference", 0.65, "2026-11-22T01:15:00.000+00:00")

FPS = 100.0


def sample_tracks() -> Tracks:
    """Three tracks of 5, 4 and 1 points, by track and frame; the second one has no point in frame 12."""
    track_id = np.array([3] * 5 + [8] * 4 + [2**40])
    frame = np.array([0, 1, 2, 3, 4, 10, 11, 13, 14, 7])
    n = len(frame)
    step = np.arange(n, dtype=float)
    probability = np.full(n, 0.875)
    probability[[1, 9]] = np.nan
    sigma_z_um = np.where(np.arange(n) == 6, np.nan, 1.5)
    return Tracks(
        track_id=track_id,
        frame=frame,
        t_s=frame / FPS,
        x_um=10 + 0.1 * step,
        y_um=20 - 0.2 * step,
        z_um=-5 + 1 / 3 * step,
        vx_um_s=10 * np.ones(n),
        vy_um_s=-20 * np.ones(n),
        vz_um_s=step,
        sigma_x_um=0.25 * np.ones(n),
        sigma_y_um=0.5 * np.ones(n),
        sigma_z_um=sigma_z_um,
        observed=np.array([1, 1, 0, 1, 1, 1, 1, 1, 0, 1]),
        probability=probability,
    )


def readable_tracks() -> Tracks:
    """The same with all standard deviations, which tables of tracks must state to be read."""
    tracks = sample_tracks()
    return replace(tracks, sigma_z_um=np.full(len(tracks), 1.5))


EDGES = [(0, 1), (1, 2), (2, 3), (3, 4), (5, 6), (6, 7), (7, 8)]
"""Rows of points that follow each other in a track."""


def long_tracks(tracks: int, length: int) -> Tracks:
    """Many rows, for writers that work in blocks."""
    track_id = np.repeat(np.arange(tracks, dtype=np.int64), length)
    frame = np.tile(np.arange(length, dtype=np.int64), tracks)
    columns = dict.fromkeys(Tracks.names(), track_id + 0.001 * frame)
    columns |= {"track_id": track_id, "frame": frame, "t_s": frame / FPS, "observed": np.ones(len(frame))}
    columns["probability"] = np.full(len(frame), np.nan)
    return Tracks.from_columns(columns)


def stored_run(store: Store) -> str:
    """A finished run: revision 1 has `readable_tracks`, and revision 2 the same shifted by 1,000 µm along x."""
    found = readable_tracks()
    run = store.runs.create(model_id="reference-10x-0.45-live", record=False, name="beads")
    results = ResultBatch(Localizations.empty(), found, (0.0, 1.0), frames=(0, 100))
    store.append(run.id, results, dict.fromkeys(LEDGER_KEYS, 0))
    store.catch_ups.add_tracks(run.id, replace(found, x_um=found.x_um + 1000))
    store.catch_ups.complete(run.id)
    store.runs.finish(run.id)
    return run.id

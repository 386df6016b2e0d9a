"""Results of an imagined long run: tracks that live for a minute each, always the same number of them in view."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.tables import Localizations, Tracks
from service.store.result_batch import ResultBatch
from service.store.runs import LEDGER_KEYS

__all__ = ["FRAMES_PER_BATCH", "HistoryRows"]

FRAMES_PER_BATCH = 10
"""The engine writes a batch of 100 ms; at 100 frames a second it has so many frames."""

_LIFE_S = 60.0

_FIELD_UM = 330.0


@dataclass(frozen=True, slots=True)
class HistoryRows:
    """The rows of a run.

    Attributes
    ----------
    fps : frames a second
    in_view : tracks in each frame
    """

    fps: float
    in_view: int

    def batch(self, number: int) -> ResultBatch:
        """Batch `number`, from 0: each frame has a point of every track in view, and as many localizations."""
        frames = np.arange(number * FRAMES_PER_BATCH, (number + 1) * FRAMES_PER_BATCH)
        frame, place = np.repeat(frames, self.in_view), np.tile(np.arange(self.in_view), len(frames))
        # Lives begin one after another, so that at any time some tracks are young and some old.
        life_frames = max(round(_LIFE_S * self.fps), 1)
        age = frame + place * life_frames // self.in_view
        track_id = (age // life_frames) * self.in_view + place + 1
        t_s = frame / self.fps
        angle = 0.3 * t_s + track_id
        x_um, y_um = _FIELD_UM * (0.5 + 0.4 * np.cos(angle)), _FIELD_UM * (0.5 + 0.4 * np.sin(1.1 * angle))
        z_um = 40 + 20 * np.sin(0.7 * angle)
        one = np.ones(len(frame))
        place_um = {"x_um": x_um, "y_um": y_um, "z_um": z_um}
        errors_um = {"sigma_x_um": 0.05 * one, "sigma_y_um": 0.05 * one, "sigma_z_um": 0.2 * one}
        tracks = Tracks.from_columns(
            {
                "track_id": track_id, "frame": frame, "t_s": t_s, **place_um, "vx_um_s": -np.sin(angle),
                "vy_um_s": np.cos(angle), "vz_um_s": 0.1 * np.cos(angle), **errors_um, "observed": one,
                "probability": 0.99 * one,
            }
        )  # fmt: skip
        found = Localizations.from_columns(
            {
                "frame": frame, **place_um, "photons": 1e4 * one, "background": 2 * one, "probability": 0.9 * one,
                **errors_um, "chi2": one,
            }
        )  # fmt: skip
        return ResultBatch(found, tracks, (float(t_s[0]), float(t_s[-1])))

    def ledger(self, batches: int) -> dict[str, int]:
        """The account after so many batches: nothing is lost."""
        frames = batches * FRAMES_PER_BATCH
        return {name: frames if name in ("exposed", "grabbed", "analysed") else 0 for name in LEDGER_KEYS}

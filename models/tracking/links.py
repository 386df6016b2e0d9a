"""Which localization each track had in each frame, from its first one on.

A track gets its number when it is confirmed, some frames after its first
localization. Smoothing wants these first localizations too, so a tracker
writes down every link, by the number of the track's birth, and later which
births became tracks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Links", "TrackLinks"]

I64 = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TrackLinks:
    """The localizations of one track.

    Attributes
    ----------
    track_id : int
    frame : int64, shape (K,), increasing
        Frames in which it was seen.
    localization : int64, shape (K,)
        Row of its localization among those of the frame.
    """

    track_id: int
    frame: I64
    localization: I64

    def join(self, later: TrackLinks) -> TrackLinks:
        """Continue the track by another one."""
        return TrackLinks(
            self.track_id,
            np.concatenate([self.frame, later.frame]),
            np.concatenate([self.localization, later.localization]),
        )


class Links:
    """The links of a run, and the times of its frames."""

    def __init__(self) -> None:
        self._frames: list[I64] = []
        self._births: list[I64] = []
        self._rows: list[I64] = []
        self._numbers: dict[int, int] = {}
        self.times_s: dict[int, float] = {}

    def add(self, frame: int, t_s: float, births: I64, rows: I64) -> None:
        """Take the links of one frame: row of the localization of each track, by the number of its birth."""
        self.times_s[frame] = t_s
        if len(births):
            self._frames.append(np.full(len(births), frame, np.int64))
            self._births.append(births)
            self._rows.append(rows)

    def name(self, births: I64, track_ids: I64) -> None:
        """Take the numbers of tracks that are confirmed."""
        self._numbers.update(zip(births.tolist(), track_ids.tolist(), strict=True))

    def forget(self, before: int | None) -> None:
        """Drop the links and times of the frames before a number; None: all. The numbers of tracks are kept."""
        count = sum(before is None or int(frames[0]) < before for frames in self._frames)
        del self._frames[:count], self._births[:count], self._rows[:count]
        for frame in [frame for frame in self.times_s if before is None or frame < before]:
            del self.times_s[frame]

    def tracks(self) -> list[TrackLinks]:
        """All confirmed tracks, by their numbers."""
        if not self._frames:
            return []
        frames, births, rows = (np.concatenate(part) for part in (self._frames, self._births, self._rows))
        confirmed = np.isin(births, np.fromiter(self._numbers, np.int64, len(self._numbers)))
        if not confirmed.any():
            return []
        frames, births, rows = frames[confirmed], births[confirmed], rows[confirmed]
        order = np.lexsort((frames, births))
        frames, births, rows = frames[order], births[order], rows[order]
        starts = np.flatnonzero(np.diff(births, prepend=-1))
        parts = zip(births[starts].tolist(), np.split(frames, starts[1:]), np.split(rows, starts[1:]), strict=True)
        found = [TrackLinks(self._numbers[birth], frame, row) for birth, frame, row in parts]
        return sorted(found, key=lambda track: track.track_id)

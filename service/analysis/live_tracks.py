"""The live tracks of a run, whose numbers its smoothed tracks keep."""

from __future__ import annotations

from typing import Protocol

from models.tables import Tracks
from service.store.schema import LIVE_REVISION
from service.store.store import Store
from service.store.tracks import TrackQuery

__all__ = ["LiveTracks", "StoredLiveTracks"]


class LiveTracks(Protocol):
    """The live tracks of one run."""

    @property
    def last(self) -> int:
        """Highest number of a track; 0 when there is none."""

    def within(self, from_s: float, to_s: float) -> Tracks:
        """Points in a window of time, both ends included; s from the start of the run."""


class StoredLiveTracks:
    """The live tracks in the database.

    Parameters
    ----------
    store : Store
    run_id : str
    """

    def __init__(self, store: Store, run_id: str) -> None:
        self._store = store
        self._run_id = run_id
        newest = store.tracks.query(run_id, TrackQuery(revision=LIVE_REVISION), limit=1).items
        self.last = newest[0].track_id if newest else 0

    def within(self, from_s: float, to_s: float) -> Tracks:
        """See `LiveTracks`."""
        query = TrackQuery(from_s, to_s, revision=LIVE_REVISION)
        return Tracks.concatenate(self._store.tracks.stream(self._store.tracks.select(self._run_id, query)))

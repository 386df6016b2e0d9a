"""Tracking from a script: localizations become tracks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from models.tracking import track_table

if TYPE_CHECKING:
    from models.tables import Localizations, Tracks
    from models.tracking import TrackerSettings

__all__ = ["track"]


def track(localizations: Localizations, fps: float, settings: TrackerSettings | None = None) -> Tracks:
    """Join localizations to tracks, with the same result as live.

    Parameters
    ----------
    localizations : Localizations
        In any order.
    fps : float
        Frames per second; frame n is at n / fps seconds.
    settings : TrackerSettings, optional
        Assumptions on motion, detection and noise (`models.tracking`).

    Returns
    -------
    Tracks
        Confirmed tracks, frame by frame; positions in µm, velocities in µm/s.

    Raises
    ------
    DataError
        When the frame rate is not positive and finite, or a position or standard deviation is not a finite number.

    Examples
    --------
    One emitter that moves by 0.4 µm from frame to frame:

    >>> import bathyscope, numpy as np
    >>> columns = {name: np.full(30, 0.5) for name in bathyscope.Localizations.names()}
    >>> columns |= {"frame": np.arange(30), "x_um": 10 + 0.4 * np.arange(30), "z_um": np.full(30, 50.0)}
    >>> tracks = bathyscope.track(bathyscope.Localizations.from_columns(columns), fps=100)
    >>> np.unique(tracks.track_id).tolist(), round(float(tracks.vx_um_s[-1]), -1)
    ([1], 40.0)
    """
    return track_table(localizations, fps, settings)

"""From localizations to tracks, online and offline.

The trackers are imported at their first use, because their libraries take a
second to import. Their settings are available without them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.tracking.offline import MOST_IN_A_FRAME, make_tracker, smoothed_tracks, track_table
    from models.tracking.settings import PRESETS, Preset, TrackerSettings
    from models.tracking.state import NEAR_FOCUS_UM, TracksLocalizations, TrackState
    from models.tracking.tracker import Tracker

__all__ = [
    "MOST_IN_A_FRAME",
    "NEAR_FOCUS_UM",
    "PRESETS",
    "Preset",
    "TrackState",
    "Tracker",
    "TrackerSettings",
    "TracksLocalizations",
    "make_tracker",
    "smoothed_tracks",
    "track_table",
]

_MODULES = {
    **dict.fromkeys(("MOST_IN_A_FRAME", "make_tracker", "smoothed_tracks", "track_table"), "offline"),
    **dict.fromkeys(("PRESETS", "Preset", "TrackerSettings"), "settings"),
    **dict.fromkeys(("NEAR_FOCUS_UM", "TrackState", "TracksLocalizations"), "state"),
    "Tracker": "tracker",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)

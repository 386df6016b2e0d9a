"""From localizations to tracks, online and offline."""

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

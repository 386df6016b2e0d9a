"""The trackers that are compared, by name: localizations in, tracks out.

Ours has one setting for every motion. A peer has one or two settings whose
values are listed here; the best one for each motion and quality is found on
other seeds. That is an advantage over ours. Four forms are compared
separately, because smoothing alone makes a better score:

- *live*: each point from the localizations until then, as it was known in its
  frame,
- *filtered*: the same points, but the table is made at the end: beginnings
  before a track was confirmed are filled in, and points after the last
  localization are removed,
- *smoothed*: each point from all localizations of its track,
- *offline*: links are chosen with the whole table known, and points are the
  localizations themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from typing import Literal

from evaluation.methods.registry import MethodMissing
from evaluation.tracks import peers
from models.tables import Localizations, Tracks
from models.tracking import smoothed_tracks, track_table

__all__ = ["METHODS", "Form", "Setting", "TrackMethod", "check_installed"]

Form = Literal["live", "filtered", "smoothed", "offline"]
Setting = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class TrackMethod:
    """A tracker in the comparison.

    Attributes
    ----------
    name : str
        In tables and figures.
    form : str
        ``"live"``, ``"filtered"``, ``"smoothed"`` or ``"offline"``.
    track : callable
        (localizations of a whole movie, frames per second, setting) to tracks.
    package : str
        That it needs; empty for ours.
    settings : tuple of mapping
        To choose from; one empty mapping where there is nothing to choose.
    as_for : str
        Name of another form of the tracker, whose choice is taken.
    """

    name: str
    form: Form
    track: Callable[[Localizations, float, Setting], Tracks]
    package: str = ""
    settings: tuple[Setting, ...] = ({},)
    as_for: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is one of this project's own forms."""
        return self.name.startswith("Bathyscope")


def check_installed(method: TrackMethod) -> None:
    """Refuse a method whose package is not there.

    Raises
    ------
    MethodMissing
    """
    if method.package and find_spec(method.package) is None:
        raise MethodMissing(f"{method.package} is not installed", "Install the extra `evaluation`.")


def _grid(**values: tuple[float, ...]) -> tuple[Setting, ...]:
    return tuple(dict(zip(values, each, strict=True)) for each in product(*values.values()))


def _live(found: Localizations, fps: float, _setting: Setting) -> Tracks:
    return track_table(found, fps)


def _smoothed(found: Localizations, fps: float, _setting: Setting) -> Tracks:
    return smoothed_tracks(found, fps)


def _published(found: Localizations, fps: float, _setting: Setting) -> Tracks:
    return track_table(found, fps, preset="published")


_BYOTRACK = (
    *_grid(order=(0,), process_um=(0.15, 0.4, 1.5), reach_sigmas=(4.5, 6.0)),
    *_grid(order=(1,), process_um=(0.02, 0.1, 0.2, 0.4, 0.8), reach_sigmas=(4.5,)),
    *_grid(order=(1,), process_um=(0.1, 0.4), reach_sigmas=(6.0,)),
)

_TRACKPY = (*_grid(reach_um=(1.5, 3, 5, 8), flow=(0,)), *_grid(reach_um=(5, 8), flow=(1,)))

METHODS = (
    TrackMethod("Bathyscope", "live", _live),
    TrackMethod("ByoTrack", "live", peers.byotrack_live, "byotrack", _BYOTRACK, "ByoTrack filtered"),
    TrackMethod("norfair", "live", peers.norfair, "norfair", _grid(reach_um=(4, 8), process=(0.01, 0.1))),
    TrackMethod("trackpy", "live", peers.trackpy, "trackpy", _TRACKPY),
    TrackMethod("published", "live", _published, "filterpy"),
    TrackMethod("ByoTrack filtered", "filtered", peers.byotrack_filtered, "byotrack", _BYOTRACK, "ByoTrack filtered"),
    TrackMethod("Bathyscope smoothed", "smoothed", _smoothed),
    TrackMethod("ByoTrack smoothed", "smoothed", peers.byotrack_smoothed, "byotrack", _BYOTRACK, "ByoTrack filtered"),
    TrackMethod("laptrack", "offline", peers.laptrack, "laptrack", _grid(reach_um=(3, 5, 8))),
    TrackMethod("btrack", "offline", peers.btrack, "btrack", _grid(process_um=(0.03, 0.3), window=(3, 6, 12))),
)

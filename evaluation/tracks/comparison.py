"""All trackers on the same simulated localizations, cell by cell: motion, number of objects, quality of detection.

The setting of a peer is chosen for each motion, quality and number of objects,
on a movie of another seed, by the best HOTA (without TrackEval by the best
beta). Above 50 objects it is the setting for 50.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from evaluation.methods.registry import MethodMissing
from evaluation.scores.scoring import Row
from evaluation.tracks.detections import Quality, detections
from evaluation.tracks.methods import Setting, TrackMethod, check_installed
from evaluation.tracks.patterns import Pattern, true_tracks
from evaluation.tracks.scores import jaccard_columns, track_columns
from models.tables import Localizations, Tracks, Truth

__all__ = ["FPS", "Cell", "Comparison"]

FPS = 100.0
_TUNING_SEED = 7_301_900
_MOST_TUNING_OBJECTS = 50


@dataclass(frozen=True, slots=True)
class Cell:
    """One condition of the comparison.

    Attributes
    ----------
    pattern : Pattern
    quality : Quality
    objects : int
        In 200 x 200 x 100 µm³.
    frames : int
    """

    pattern: Pattern
    quality: Quality
    objects: int
    frames: int

    def movie(self, seed: int) -> tuple[Truth, Localizations]:
        """True tracks and localizations."""
        truth = true_tracks(self.pattern, self.objects, self.frames, FPS, seed)
        return truth, detections(truth, self.quality, seed + 1000)


@dataclass
class Comparison:
    """Trackers, the seed of the test movies, and the settings that were chosen so far.

    Attributes
    ----------
    methods : sequence of TrackMethod
    seed : int
    tuning_frames : int
        Length of the movies on which settings are chosen.
    """

    methods: Sequence[TrackMethod]
    seed: int
    tuning_frames: int = 100
    _chosen: dict[tuple[str, str, str, int], Setting] = field(default_factory=dict, repr=False)

    def rows(self, cell: Cell, report: Callable[[str], None] = lambda _what: None) -> list[Row]:
        """One row for each tracker; a row with the reason for one that cannot run here."""
        truth, found = cell.movie(self.seed)
        rows: list[Row] = []
        for method in self.methods:
            report(f"{cell.pattern.name}, {cell.quality.name}, {cell.objects} objects, {method.name}")
            try:
                check_installed(method)
                setting = self._setting(method, cell)
                begun = time.process_time()
                tracks = method.track(found, FPS, setting)
            except MethodMissing as error:
                rows.append({"method": method.name, "left_out": error.problem})
                continue
            seconds = time.process_time() - begun
            rows.append(
                {
                    "method": method.name,
                    "form": method.form,
                    "motion": cell.pattern.name,
                    "quality": cell.quality.name,
                    "objects": cell.objects,
                    "frames": cell.frames,
                    "setting": ", ".join(f"{name} {value:g}" for name, value in setting.items()) or None,
                    "ms_per_frame": 1000 * seconds / cell.frames,
                }
                | track_columns(tracks, truth)
                | jaccard_columns(tracks, found, truth)
            )
        return rows

    def tracks(self, method: TrackMethod, cell: Cell) -> tuple[Truth, Localizations, Tracks]:
        """Truth, localizations and the tracks of a method in the test movie of a cell, to draw them."""
        truth, found = cell.movie(self.seed)
        return truth, found, method.track(found, FPS, self._setting(method, cell))

    def _setting(self, method: TrackMethod, cell: Cell) -> Setting:
        if len(method.settings) == 1:
            return method.settings[0]
        objects = min(cell.objects, _MOST_TUNING_OBJECTS)
        key = (method.as_for or method.name, cell.pattern.name, cell.quality.name, objects)
        if key not in self._chosen:
            truth, found = Cell(cell.pattern, cell.quality, objects, self.tuning_frames).movie(_TUNING_SEED)
            scores = [_merit(method.track(found, FPS, setting), truth) for setting in method.settings]
            self._chosen[key] = method.settings[scores.index(max(scores))]
        return self._chosen[key]


def _merit(tracks: Tracks, truth: Truth) -> float:
    scores = track_columns(tracks, truth)
    return float(scores["beta"] if scores["hota"] is None else scores["hota"])

"""Merges and splits of tracks on simulated scenes: how many are found, and how many are false.

Two objects that are nearer than the optical resolution give one localization
between them. Four scenes: pairs that meet and stay together, objects that
divide, pairs that cross (they are one localization for a while, and go on as
two: no event), and objects that appear and vanish anywhere (no event).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from evaluation.tracks.detections import QUALITIES, Quality, detections
from evaluation.tracks.patterns import BOX_UM
from models.assignment import assign
from models.tables import Localizations, TrackEvents, Truth
from models.tracking.events import EventObserver, TableObserver
from models.tracking.offline import smoothed_tracks, track_table

__all__ = ["SCENES", "EventScore", "Scene", "found_events", "score", "table"]

F64 = NDArray[np.float64]

FPS = 100.0
_FRAMES = 300
_PAIRS, _OTHERS = 12, 20
_RESOLUTION_UM = np.array([2.0, 2.0, 6.0])
_LOW, _HIGH = (np.array(side) for side in zip(*BOX_UM, strict=True))
_DIFFUSION_UM2_S = 1.0
_LIFE_FRAMES = 80.0
_NEAR_FRAMES, _NEAR_UM = 15, 6.0
"""An event is found when one of its kind is reported this near to it."""


@dataclass(frozen=True)
class Scene:
    """Objects over time.

    Attributes
    ----------
    name : str
    kind : kind of its events; empty: it has none
    distance_um : callable
        Distance along its direction of the two objects of each pair, (frames from the middle of the pair's event (T,),
        relative speed in µm per frame) to (T,); NaN: they are one object.
    """

    name: str
    kind: str
    distance_um: Callable[[F64, float], F64] | None


SCENES = (
    Scene("meeting", "merge", lambda frames, speed: np.where(frames < 0, -frames * speed, 0.0)),
    Scene("dividing", "split", lambda frames, speed: np.where(frames < 0, 0.0, frames * speed)),
    Scene("crossing", "", lambda frames, speed: frames * speed),
    Scene("appearing", "", None),
)


@dataclass(frozen=True)
class EventScore:
    """Numbers of true events, of those found, and of reported events that are none."""

    true: int
    found: int
    false: int


def scene_truth(scene: Scene, speed_um_s: float, seed: int) -> tuple[Truth, TrackEvents]:
    """Positions of what can be told apart in each frame, and the true events.

    Parameters
    ----------
    scene : Scene
    speed_um_s : float
        Relative speed of the two objects of a pair, µm/s.
    seed : int
    """
    rng = np.random.default_rng(seed)
    steps = rng.normal(0, np.sqrt(2 * _DIFFUSION_UM2_S / FPS), (_FRAMES, _PAIRS + _OTHERS, 3))
    middle = rng.uniform(_LOW + 15, _HIGH - 15, (_PAIRS + _OTHERS, 3)) + np.cumsum(steps, axis=0)
    paths = [middle[:, _PAIRS:]]
    events: list[tuple[int, F64]] = []
    if scene.distance_um is None:
        paths.append(_appearing(rng))
    else:
        when = rng.integers(_FRAMES // 3, 2 * _FRAMES // 3, _PAIRS)
        ways = rng.standard_normal((_PAIRS, 3))
        ways /= np.linalg.norm(ways, axis=1, keepdims=True)
        frames = np.arange(_FRAMES, dtype=float)
        # Two objects in one place of the same history are one localization.
        apart = np.stack([scene.distance_um(frames - at, speed_um_s / FPS) for at in when], axis=1)
        paths += [middle[:, :_PAIRS] + sign * 0.5 * apart[..., None] * ways for sign in (-1.0, 1.0)]
        alone = ((apart[..., None] * ways / _RESOLUTION_UM) ** 2).sum(axis=2) < 1
        for pair in range(_PAIRS if scene.kind else 0):
            frame = np.argmax(alone[:, pair]) if scene.kind == "merge" else np.count_nonzero(alone[:, pair])
            events.append((int(frame), middle[frame, pair]))
    truth = _told_apart(np.concatenate(paths, axis=1))
    return truth, _table(scene.kind, events if scene.kind else [])


def _appearing(rng: np.random.Generator) -> F64:
    """Objects with an exponential life, each followed by another one elsewhere; NaN where there is none."""
    count = 2 * _PAIRS
    paths = np.empty((_FRAMES, count, 3))
    for column in range(count):
        place = rng.uniform(_LOW, _HIGH)
        for frame in range(_FRAMES):
            if rng.random() < 1 / _LIFE_FRAMES:
                place = rng.uniform(_LOW, _HIGH)
            place = place + rng.normal(0, np.sqrt(2 * _DIFFUSION_UM2_S / FPS), 3)
            paths[frame, column] = place
    return paths


def _told_apart(paths: F64) -> Truth:
    """The objects of each frame; those nearer than the resolution are one in their middle, with the first number."""
    rows = []
    for frame, places in enumerate(paths):
        numbers = np.arange(len(places))
        for one, other in sorted(cKDTree(places / _RESOLUTION_UM).query_pairs(1.0)):
            numbers[other] = numbers[one]
        kept = np.unique(numbers)
        rows += [(frame, *places[numbers == number].mean(axis=0), number) for number in kept]
    frame_column, x, y, z, number = (np.array(column) for column in zip(*rows, strict=True))
    return Truth(frame_column.astype(np.int64), x, y, z, number.astype(np.int64))


def _table(kind: str, events: list[tuple[int, F64]]) -> TrackEvents:
    columns = {name: np.zeros(len(events)) for name in TrackEvents.names()}
    columns |= {"kind": np.full(len(events), kind), "frame": np.array([frame for frame, _ in events])}
    places = np.array([place for _, place in events]).reshape(-1, 3)
    columns |= dict(zip(("x_um", "y_um", "z_um"), places.T, strict=True))
    return TrackEvents.from_columns(columns)


def found_events(found: Localizations, *, smoothed: bool = False) -> TrackEvents:
    """Events of the tracks of a table of localizations, as live or from smoothed tracks."""
    observer = EventObserver()
    if not smoothed:
        events: list[TrackEvents] = []
        track_table(found, FPS, observe=lambda state: events.append(observer.step(state)))
        return TrackEvents.concatenate(events)
    table = TableObserver(observer)
    return TrackEvents.concatenate([table.add(smoothed_tracks(found, FPS)), table.finish()])


def score(events: TrackEvents, true: TrackEvents) -> EventScore:
    """Compare reported events with the true ones."""
    away = np.abs(events.frame[:, None] - true.frame)
    places = [np.column_stack([each.x_um, each.y_um, each.z_um]) for each in (events, true)]
    distance = np.linalg.norm(places[0][:, None] - places[1], axis=2)
    same = (events.kind[:, None] == true.kind) & (away <= _NEAR_FRAMES) & (distance <= _NEAR_UM)
    rows, columns = np.nonzero(same)
    matched, _ = assign(rows, columns, distance[rows, columns], same.shape)
    return EventScore(len(true), len(matched), len(events) - len(matched))


def table(seeds: range, speed_um_s: float = 40.0) -> str:
    """Markdown table of all scenes and qualities, as live and smoothed."""
    head = ("scene", "quality", "form", "true", "found", "false", "recall", "precision")
    lines = [head, ("---",) * len(head)]
    for scene in SCENES:
        for quality in QUALITIES:
            for smoothed in (False, True):
                scores = [_scored(scene, quality, speed_um_s, seed, smoothed=smoothed) for seed in seeds]
                true, right, false = (sum(column) for column in zip(*map(astuple, scores), strict=True))
                recall = f"{right / true:.2f}" if true else ""
                precision = f"{right / (right + false):.2f}" if true and right + false else ""
                form = "smoothed" if smoothed else "live"
                lines.append((scene.name, quality.name, form, str(true), str(right), str(false), recall, precision))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _scored(scene: Scene, quality: Quality, speed_um_s: float, seed: int, *, smoothed: bool) -> EventScore:
    truth, true = scene_truth(scene, speed_um_s, seed)
    return score(found_events(detections(truth, quality, seed), smoothed=smoothed), true)


if __name__ == "__main__":
    print(table(range(5)))

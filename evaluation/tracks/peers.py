"""Trackers of other projects on a table of localizations.

All of them take points without sigmas. Depth is known less well than the
lateral position, so depths are divided by the ratio of the median sigmas where
a library has one scale for all axes. Settings that are not tuned are the same
for all motions, and stand here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from evaluation.methods.registry import MethodMissing
from models.tables import Localizations, Tracks

__all__ = [
    "ByoTrackLinker",
    "NorfairTracker",
    "TrackpyLinker",
    "btrack",
    "byotrack_filtered",
    "byotrack_live",
    "byotrack_smoothed",
    "laptrack",
    "norfair",
    "trackpy",
]

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]
Setting = Mapping[str, float]

_GAP_FRAMES = 10
"""Frames without a localization after which a track ends."""

_SHOWN_FRAMES = 3
"""Frames for which ByoTrack's predictions are shown live; it has no probability that would decide."""

_SHORT_GAP_FRAMES = 5
"""The same for libraries that do not predict: a longer one joins strangers."""

_FIRST_VELOCITY = 20.0
"""Standard deviation of the first velocity in units of the process noise; with ByoTrack's own 5 fast flow is lost."""

_SEARCH_UM = 12.0
"""More than any object here moves between two frames."""

_FEWEST_POINTS = 3
"""Tracks with fewer points are false ones."""


class ByoTrackLinker:
    """ByoTrack's Kalman linker (simple Kalman tracking), with the true sigmas of the localizations.

    Parameters
    ----------
    setting : mapping
        ``order`` (0: diffusion, 1: constant velocity), ``process_um``, noise per frame, and ``reach_sigmas``, largest
        distance in standard deviations.
    sigma_um : ndarray, shape (3,)
    smoothed : bool
    """

    def __init__(self, setting: Setting, sigma_um: F64, *, smoothed: bool) -> None:
        import torch
        from byotrack.implementation.linker.frame_by_frame.kalman_linker import KalmanLinker, KalmanLinkerParameters

        specs = KalmanLinkerParameters(
            1.0,
            detection_std=torch.tensor(sigma_um, dtype=torch.float32),
            process_std=torch.full((3,), float(setting["process_um"])),
            kalman_order=int(setting["order"]),
            n_gap=_GAP_FRAMES,
            track_building="SMOOTHED" if smoothed else "FILTERED",
            initial_std_factor=_FIRST_VELOCITY,
        )
        specs.estimate_association_threshold(3, float(setting["reach_sigmas"]))
        self._linker = KalmanLinker(specs)
        self._linker.reset(3)
        self._shown: list[tuple[int, int, F64]] = []

    def step(self, xyz_um: F64) -> None:
        """Take the positions (N, 3) of the next frame."""
        import torch
        from byotrack.api.detections.point_detections import PointDetections

        linker = self._linker
        linker.update(None, PointDetections(torch.tensor(xyz_um), shape=(1, 1, 1)))
        places = linker.active_states.mean[:, :3, 0].numpy()
        for track, place in zip(linker.active_tracks, places, strict=True):
            if track.track_state == track.TrackState.VALID and track.last_association <= _SHOWN_FRAMES:
                self._shown.append((track.identifier, linker.frame_id, place.copy()))

    def shown(self) -> tuple[I64, I64, F64]:
        """Number, frame and position of all points as they were known in their frames."""
        numbers, frames = ([each[column] for each in self._shown] for column in (0, 1))
        places = np.array([place for _, _, place in self._shown], np.float64).reshape(-1, 3)
        return np.array(numbers, np.int64), np.array(frames, np.int64), places

    def points(self) -> tuple[I64, I64, F64]:
        """Number, frame and position of all points of tracks."""
        parts = [(track.identifier, track.start, track.points.numpy()) for track in self._linker.collect()]
        numbers = [np.full(len(places), number) for number, _, places in parts]
        frames = [start + np.arange(len(places)) for _, start, places in parts]
        return _joined(numbers), _joined(frames), _stacked([places for _, _, places in parts])


class NorfairTracker:
    """norfair's tracker with its own Kalman filter.

    Parameters
    ----------
    setting : mapping
        ``reach_um``, the largest distance, and ``process``, the filter's process noise.
    sigma_um : ndarray, shape (3,)
    """

    def __init__(self, setting: Setting, sigma_um: F64) -> None:
        import norfair
        from norfair.filter import OptimizedKalmanFilterFactory

        self._detection = norfair.Detection
        self._scale = sigma_um / sigma_um[0]
        self._tracker = norfair.Tracker(
            lambda detection, track: float(np.sqrt(np.square(detection.points - track.estimate).sum())),
            float(setting["reach_um"]),
            hit_counter_max=_GAP_FRAMES,
            initialization_delay=_FEWEST_POINTS - 1,
            filter_factory=OptimizedKalmanFilterFactory(R=float(sigma_um[0] ** 2), Q=float(setting["process"])),
        )

    def step(self, xyz_um: F64) -> tuple[I64, F64]:
        """Take the positions (N, 3) of the next frame; number and position of the tracks that are shown."""
        places = np.asarray(xyz_um) / self._scale
        active = self._tracker.update([self._detection(place[None]) for place in places])
        numbers = np.array([each.id for each in active], np.int64)
        return numbers, np.array([each.estimate[0] for each in active]).reshape(-1, 3) * self._scale


class TrackpyLinker:
    """trackpy's linker, frame by frame and without prediction.

    Parameters
    ----------
    setting : mapping
        ``reach_um``, the largest step between frames.
    sigma_um : ndarray, shape (3,)
    """

    def __init__(self, setting: Setting, sigma_um: F64) -> None:
        import trackpy as library
        from trackpy.linking import link_iter

        library.quiet()
        self._scale = sigma_um / sigma_um[0]
        self._next: F64 = np.zeros((0, 3))
        self._links = link_iter(self._frames(), float(setting["reach_um"]), **_TRACKPY)

    def _frames(self) -> Iterator[F64]:
        while True:
            yield self._next

    def step(self, xyz_um: F64) -> I64:
        """Take the positions (N, 3) of the next frame; the numbers of their tracks."""
        self._next = np.asarray(xyz_um) / self._scale
        return np.array(next(self._links)[1], np.int64)


_TRACKPY: dict[str, Any] = {"memory": _SHORT_GAP_FRAMES, "adaptive_stop": 0.5, "adaptive_step": 0.8}
"""Crowded places are linked with a shorter reach, as trackpy's guide advises: it refuses them otherwise."""


def byotrack_live(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """ByoTrack's confirmed tracks as they are known in each frame."""
    linker = ByoTrackLinker(setting, _sigma(found), smoothed=False)
    for places in _frames(found):
        linker.step(places)
    return _table(*linker.shown(), fps)


def byotrack_filtered(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """ByoTrack's own table with filtered positions: whole tracks, from their first localization to their last."""
    return _byotrack(found, fps, setting, smoothed=False)


def byotrack_smoothed(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """ByoTrack with positions smoothed backward."""
    return _byotrack(found, fps, setting, smoothed=True)


def _byotrack(found: Localizations, fps: float, setting: Setting, *, smoothed: bool) -> Tracks:
    linker = ByoTrackLinker(setting, _sigma(found), smoothed=smoothed)
    for places in _frames(found):
        linker.step(places)
    return _table(*linker.points(), fps)


def norfair(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """Tracks by norfair."""
    tracker = NorfairTracker(setting, _sigma(found))
    steps = [tracker.step(places) for places in _frames(found)]
    frames = [np.full(len(numbers), frame) for frame, (numbers, _) in enumerate(steps)]
    return _table(_joined([n for n, _ in steps]), _joined(frames), _stacked([places for _, places in steps]), fps)


def trackpy(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """Tracks by trackpy; with ``flow`` each point is predicted by the velocity of its neighbours."""
    import pandas as pd
    import trackpy as library

    library.quiet()
    scale = _sigma(found) / _sigma(found)[0]
    columns = ["x", "y", "z"]
    table = pd.DataFrame(found.xyz_um / scale, columns=columns)
    table["frame"] = found.frame
    with warnings.catch_warnings():
        # The velocity predictor warns of frames without a track, and pandas of trackpy's own code.
        warnings.simplefilter("ignore")
        link = library.predict.NearestVelocityPredict().link_df if setting["flow"] else library.link
        linked = link(table, float(setting["reach_um"]), pos_columns=columns, t_column="frame", **_TRACKPY)
    long = linked[linked.groupby("particle")["frame"].transform("count") >= _FEWEST_POINTS]
    return _table(long["particle"].to_numpy(), long["frame"].to_numpy(), long[columns].to_numpy() * scale, fps)


def laptrack(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """Tracks by laptrack, with gap closing."""
    from laptrack import LapTrack

    scale = _sigma(found) / _sigma(found)[0]
    reach = float(setting["reach_um"]) ** 2
    tracker = LapTrack(cutoff=reach, gap_closing_cutoff=reach, gap_closing_max_frame_count=_SHORT_GAP_FRAMES)
    frames = _frames(found)
    import networkx as nx

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = tracker.predict([places / scale for places in frames])
    numbers, times, places = [], [], []
    for number, nodes in enumerate(nx.weakly_connected_components(graph)):
        if len(nodes) >= _FEWEST_POINTS:
            for frame, row in nodes:
                numbers.append(number)
                times.append(frame)
                places.append(frames[frame][row])
    return _table(np.array(numbers, np.int64), np.array(times, np.int64), np.array(places).reshape(-1, 3), fps)


def btrack(found: Localizations, fps: float, setting: Setting) -> Tracks:
    """Tracks by btrack's motion model, constant velocity; without its optimizer, which joins tracks of cells."""
    from btrack import BayesianTracker
    from btrack.btypes import PyTrackObject
    from btrack.models import MotionModel

    logging.getLogger("btrack").setLevel(logging.CRITICAL)
    axes, sigma = np.eye(3), _sigma(found)
    process = float(setting["process_um"])
    model = MotionModel(
        measurements=3,
        states=6,
        A=np.kron([[1.0, 1.0], [0.0, 1.0]], axes),
        H=np.hstack([axes, np.zeros((3, 3))]),
        P=np.diag([*(2 * sigma**2), 1.0, 1.0, 1.0]),
        R=np.diag(sigma**2),
        Q=np.kron([[0.25, 0.5], [0.5, 1.0]], axes) * process**2,
        max_lost=_SHORT_GAP_FRAMES,
        accuracy=float(setting["window"] * sigma[2]),
        prob_not_assign=1e-4,
    )
    objects = [
        PyTrackObject.from_dict({"ID": row, "t": frame, "x": x, "y": y, "z": z, "label": 5})
        for row, (frame, x, y, z) in enumerate(zip(found.frame, *found.xyz_um.T, strict=True))
    ]
    try:
        engine = BayesianTracker(verbose=False)
    except Exception as error:
        # It raises a bare Exception when the system's C++ library is older than its own.
        raise MethodMissing(
            f"the library of btrack cannot be loaded ({error.__cause__})", "Use a newer system."
        ) from error
    with engine as tracker:
        tracker.configuration.motion_model = model
        tracker.configure(tracker.configuration)
        tracker.max_search_radius = _SEARCH_UM
        low, high = found.xyz_um.min(axis=0) - 10, found.xyz_um.max(axis=0) + 10
        tracker.volume = tuple(zip(low.tolist(), high.tolist(), strict=True))
        tracker.append(objects)
        tracker.track(step_size=1000)
        kept = [track for track in tracker.tracks if len(track) >= _FEWEST_POINTS]
        parts = [(track.ID, np.array(track.t), np.column_stack([track.x, track.y, track.z])) for track in kept]
    numbers = [np.full(len(times), number) for number, times, _ in parts]
    return _table(_joined(numbers), _joined([t for _, t, _ in parts]), _stacked([p for _, _, p in parts]), fps)


def _sigma(found: Localizations) -> F64:
    """Median sigmas along x, y, z."""
    median: F64 = np.median(found.sigma_um, axis=0)
    return median


def _frames(found: Localizations) -> list[F64]:
    """Positions in each frame from 0 to the last; the table is in order of frames."""
    ends = np.searchsorted(found.frame, np.arange(int(found.frame.max()) + 1), side="right")
    return np.split(found.xyz_um, ends[:-1])


def _joined(parts: list[NDArray[Any]]) -> I64:
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.int64)


def _stacked(parts: list[NDArray[Any]]) -> F64:
    return np.concatenate([np.zeros((0, 3)), *parts]).astype(np.float64)


def _table(numbers: I64, frames: I64, places: F64, fps: float) -> Tracks:
    unknown = np.full(len(numbers), np.nan)
    order = np.lexsort((numbers, frames))
    x, y, z = places.T
    table = Tracks(
        np.asarray(numbers, np.int64),
        np.asarray(frames, np.int64),
        np.asarray(frames) / fps,
        x,
        y,
        z,
        unknown,
        unknown,
        unknown,
        unknown,
        unknown,
        unknown,
        np.ones(len(numbers), np.int64),
        unknown,
    )
    return table.select(order)

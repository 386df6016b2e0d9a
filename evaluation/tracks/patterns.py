"""Patterns of motion whose true tracks are known: what the trackers of the experiment `tracking` are compared on.

All patterns fill the same volume, 200 x 200 x 100 µm³, so a number of objects
is a density. Two patterns carry objects out of the volume and others into it;
an object that returns is a new one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.motion import Brownian, Directed, PulsatileFlow, reflect
from models.tables import Truth

__all__ = ["BOX_UM", "PATTERNS", "Pattern", "true_tracks"]

F64 = NDArray[np.float64]

BOX_UM = ((0.0, 200.0), (0.0, 200.0), (3.0, 103.0))
"""Depths begin at 3 µm, so that no track is flagged as near focus."""

_LOW, _HIGH = (np.array(side) for side in zip(*BOX_UM, strict=True))
_SPEED_UM_S = 75.0


@dataclass(frozen=True)
class Pattern:
    """A pattern of motion.

    Attributes
    ----------
    name : str
    paths : callable
        (objects, times (T,) in s, generator) to positions, shape (T, N, 3), µm. Positions outside the box are
        not seen; a way through the box is one object.
    modelled : bool
        Whether the motion is one of the tracker's motion models, so that its sigmas can be right.
    """

    name: str
    paths: Callable[[int, F64, np.random.Generator], F64]
    modelled: bool = False


def true_tracks(pattern: Pattern, objects: int, frames: int, fps: float, seed: int) -> Truth:
    """Positions of all objects inside the box in all frames, with one number for each way through it."""
    rng = np.random.default_rng(seed)
    paths = pattern.paths(objects, np.arange(frames) / fps, rng)
    inside = np.all((paths >= _LOW) & (paths <= _HIGH), axis=2)
    # A jump by more than half of the box is the entry of a new object at the other end of a vessel.
    jumped = np.zeros_like(inside)
    jumped[1:] = np.linalg.norm(np.diff(paths, axis=0), axis=2) > 60.0
    entered = inside & (np.vstack([np.ones((1, objects), bool), ~inside[:-1]]) | jumped)
    numbers = np.cumsum(entered.T.ravel()).reshape(objects, frames).T
    frame, column = np.nonzero(inside)
    x, y, z = paths[frame, column].T
    return Truth(frame.astype(np.int64), x, y, z, numbers[frame, column].astype(np.int64))


def _positions(motion: Brownian | Directed | PulsatileFlow, times_s: F64) -> F64:
    return np.array([motion.positions(float(time)) for time in times_s])


def _start(objects: int, rng: np.random.Generator) -> F64:
    return rng.uniform(_LOW + 2, _HIGH - 2, (objects, 3))


def _directions(objects: int, rng: np.random.Generator) -> F64:
    way = rng.standard_normal((objects, 3))
    unit: F64 = way / np.linalg.norm(way, axis=1, keepdims=True)
    return unit


def _brownian(diffusion_um2_s: float) -> Callable[[int, F64, np.random.Generator], F64]:
    def paths(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
        seed = int(rng.integers(2**31))
        return _positions(Brownian(_start(objects, rng), diffusion_um2_s, seed, box_um=BOX_UM), times_s)

    return paths


def _confined(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
    """Diffusion with 10 µm²/s in a cage of 3 µm."""
    cage = ((-1.5, 1.5),) * 3
    motion = Brownian(rng.uniform(-1.5, 1.5, (objects, 3)), 10.0, int(rng.integers(2**31)), box_um=cage)
    moved: F64 = _positions(motion, times_s) + _start(objects, rng)
    return moved


def _directed(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
    return _positions(Directed(_start(objects, rng), _directions(objects, rng) * _SPEED_UM_S, BOX_UM), times_s)


def _switching(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
    """Diffusion with 2 µm²/s and straight ways at 75 µm/s in turn, each for 0.5 s on average."""
    step_s = float(times_s[1] - times_s[0])
    place = _start(objects, rng)
    straight = rng.random(objects) < 0.5
    way = _directions(objects, rng)
    paths = [place]
    for _ in times_s[1:]:
        turn = rng.random(objects) < step_s / 0.5
        straight ^= turn
        way[turn] = _directions(int(turn.sum()), rng)
        kick = rng.normal(0.0, np.sqrt(2 * 2.0 * step_s), (objects, 3))
        place = place + np.where(straight[:, None], way * _SPEED_UM_S * step_s, kick)
        paths.append(place)
    return reflect(np.array(paths).reshape(-1, 3), BOX_UM).reshape(len(times_s), objects, 3)


def _vessel(peak_um_s: float) -> Callable[[int, F64, np.random.Generator], F64]:
    def paths(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
        line = np.array([[0.0, 70.0, 33.0], [100.0, 100.0, 53.0], [200.0, 130.0, 73.0]])
        flow = PulsatileFlow(line, 25.0, objects, int(rng.integers(2**31)), peak_um_s, beat_hz=2.5, pulsation=0.8)
        return _positions(flow, times_s)

    return paths


def _crossing(objects: int, times_s: F64, rng: np.random.Generator) -> F64:
    """Two streams that cross at a right angle in the middle of the box, at 75 µm/s."""
    first = np.arange(objects) % 2 == 0
    velocity = np.where(first[:, None], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]) * _SPEED_UM_S
    start = rng.uniform([0, 0, 45.0], [200.0, 200.0, 61.0], (objects, 3))
    start[first, 1] = rng.uniform(70.0, 130.0, int(first.sum()))
    start[~first, 0] = rng.uniform(70.0, 130.0, int((~first).sum()))
    return _positions(Directed(start, velocity, BOX_UM), times_s)


PATTERNS = (
    Pattern("brownian 1", _brownian(1.0), modelled=True),
    Pattern("brownian 10", _brownian(10.0), modelled=True),
    Pattern("confined", _confined),
    Pattern("directed", _directed, modelled=True),
    Pattern("switching", _switching, modelled=True),
    Pattern("pulsatile", _vessel(225.0)),
    Pattern("fast", _vessel(1000.0)),
    Pattern("crossing", _crossing, modelled=True),
)

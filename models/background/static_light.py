"""The static light of a run or a movie, frame after frame: the same for live and offline use.

The map of a frame depends on the frames up to it and on nothing else, so the
size of the batches does not matter. The flicker of the lamp is one factor of
each frame: its mean light in that of the frames just before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.background.estimator import BLOCK_FRAMES, LightEstimator
from models.background.frame_light import FrameLight, LightMap
from models.background.hot_pixels import hot_pixels
from models.background.map_error import FROM_FRAMES, error_variance_e2
from models.background.mode import StaticLightMode
from models.background.rule import EmitterShare, has_changed, is_static_light
from models.camera import CameraModel

__all__ = ["FIRST_FRAMES", "StaticLight"]

F32 = NDArray[np.float32]
U16 = NDArray[np.uint16]

_FIRST_BLOCKS = 8
FIRST_FRAMES = _FIRST_BLOCKS * BLOCK_FRAMES
"""Frames of the first map: about a second."""

_FEWEST_FIRST_FRAMES = 32
"""A shorter movie has no map."""

_LONGEST_PAUSE = 1024
"""Most frames between two decisions of the rule; at the start the number of frames doubles from one to the next."""

_LEVEL_FRAMES = 16
"""Time constant of the usual brightness, frames: flicker is faster, and moving emitters are slower."""

_FACTORS = (0.25, 4.0)
_LEAST_LEVEL_E = 0.5
"""Below this mean light its ratio is noise, photo-electrons per pixel."""


_OF_ESTIMATOR = "estimator_"
"""How the names of the estimator's values begin in a state."""


class StaticLight:
    """Follows the frames of a camera and gives the light to remove from each.

    Parameters
    ----------
    camera : CameraModel
    explained : EmitterShare
        Share of the variance of a map that emitters explain.
    mode : {"auto", "on"}
    block_frames : int, optional
        Frames of a block of the estimate, for a movie that is shorter than 8 of the usual ones.
    """

    def __init__(
        self, camera: CameraModel, explained: EmitterShare, mode: StaticLightMode = "auto", *, block_frames: int = 0
    ) -> None:
        self._camera = camera
        self._explained = explained
        self._mode = mode
        self._block_frames = block_frames or BLOCK_FRAMES
        self._estimator: LightEstimator | None = None
        self._map: LightMap | None = None
        self._is_structure = False
        self._level_e = 0.0
        self._next_decision = 0
        self._number = 0
        self._better: LightMap | None = None
        self._offered: tuple[LightMap, int] | None = None

    @property
    def in_use(self) -> bool:
        """Whether the whole map is removed from the present frames; hot pixels alone do not count."""
        return self._map is not None and self._is_structure

    def use(self, light: LightMap, number: int) -> None:
        """Remove another map, from the frame of a number on, until the structure is another one.

        Parameters
        ----------
        light : LightMap
            Such as the one beneath tracks; see `models.tracking.light_beneath_tracks`.
        number : int
            As in `FrameLight`.
        """
        self._offered = light, number

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the next frames depend on, as arrays, but maps that tracks gave; see `resume` and `use`."""
        estimator = self._estimator
        own: dict[str, Any] = {
            "is_structure": self._is_structure,
            "level_e": self._level_e,
            "next_decision": self._next_decision,
        }
        if self._map is not None:
            own |= {"light_e": self._map.light_e, "doubt_e2": self._map.doubt_e2}
        if estimator is not None:
            own |= {f"{_OF_ESTIMATOR}{name}": value for name, value in estimator.state().items()}
        return {name: np.asarray(value) for name, value in own.items()}

    def resume(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Continue after the frames after which `state` was taken, of an object with the same parameters."""
        self._is_structure = bool(state["is_structure"])
        self._level_e = float(state["level_e"])
        self._next_decision = int(state["next_decision"])
        self._map = None
        if "light_e" in state:
            self._map = LightMap(np.asarray(state["light_e"]), self._camera, float(state["doubt_e2"]))
        of_estimator = {
            name.removeprefix(_OF_ESTIMATOR): value for name, value in state.items() if name.startswith(_OF_ESTIMATOR)
        }
        self._estimator = None
        if of_estimator:
            rows, columns = of_estimator["total"].shape
            self._estimator = LightEstimator((rows, columns), self._camera, self._block_frames)
            self._estimator.resume(of_estimator)

    def begin_with(self, frames: Iterable[U16], count: int) -> None:
        """Use the map of the first frames of a movie until there is one from the frames that are followed.

        Parameters
        ----------
        frames : iterable of ndarray of uint16, shape (H, W)
            Frames beyond the first 128 are not taken.
        count : int
            Number of frames; fewer than 32 give no map.
        """
        count = min(count, FIRST_FRAMES)
        if count < _FEWEST_FIRST_FRAMES:
            return
        block_frames = count * BLOCK_FRAMES // FIRST_FRAMES
        first = StaticLight(self._camera, self._explained, self._mode, block_frames=block_frames)
        for counts in islice(frames, count):
            first._follow(counts)
        self._map, self._is_structure = first._map, first._is_structure

    def follow(self, frames: U16) -> list[FrameLight | None]:
        """Light to remove from each of the next frames (B, H, W); None where nothing is removed."""
        return [self._follow(counts) for counts in frames]

    def _follow(self, counts: U16) -> FrameLight | None:
        estimator = self._estimator or self._new_estimator((counts.shape[0], counts.shape[1]))
        factor = self._factor(estimator.add(counts))
        if estimator.weigh(factor):
            self._update(estimator)
        return self._light_of_frame(factor)

    def _light_of_frame(self, factor: float) -> FrameLight | None:
        number, self._number = self._number, self._number + 1
        offered = self._offered
        if offered is not None and number >= offered[1]:
            self._better, self._offered = offered[0], None
        if not self.in_use:
            self._better = None
        chosen = self._better or self._map
        return None if chosen is None else FrameLight(chosen, factor, number)

    def _new_estimator(self, shape: tuple[int, int]) -> LightEstimator:
        self._estimator = LightEstimator(shape, self._camera, self._block_frames)
        self._next_decision = 0
        return self._estimator

    def _factor(self, mean_e: float) -> float:
        """Brightness of the lamp in a frame of this mean light, relative to that of the frames just before."""
        if self._level_e < _LEAST_LEVEL_E or mean_e < _LEAST_LEVEL_E:
            self._level_e = mean_e
            return 1.0
        factor = float(np.clip(mean_e / self._level_e, *_FACTORS))
        self._level_e += (mean_e - self._level_e) / _LEVEL_FRAMES
        return factor

    def _update(self, estimator: LightEstimator) -> None:
        """Take over what a completed block tells."""
        # A map of `begin_with` knows what comes. Live there is none, and both must restart at the same frames.
        is_own = self._next_decision > 0
        if self._map and self._is_structure and is_own and has_changed(estimator, self._map.light_e, self._camera):
            self._map = self._estimator = self._better = self._offered = None
            return
        if estimator.blocks < _FIRST_BLOCKS:
            return
        light_e = estimator.light()
        if estimator.frames >= self._next_decision:
            self._is_structure = self._mode == "on" or is_static_light(
                estimator, light_e, self._camera, self._explained, in_use=self.in_use and is_own
            )
            self._next_decision = estimator.frames + min(estimator.frames, _LONGEST_PAUSE)
        if self._is_structure:
            self._map = LightMap(light_e, self._camera, error_variance_e2(light_e, FROM_FRAMES))
            return
        hot = hot_pixels(light_e, self._camera.read_noise_e)
        flat = np.where(hot, light_e, np.median(light_e)).astype(np.float32)
        self._map = LightMap(flat, self._camera) if hot.any() else None

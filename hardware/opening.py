"""Opening a microscope by the name of its driver.

The one place where drivers are known by name, and the one way in which they
are handed out: behind their soft limits. A new microscope is one new file and
one line in `DRIVERS`. Drivers are imported when they are used, because the
Micro-Manager core is heavy and a simulation does not need it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hardware.limits import LimitedMicroscope, check_limits
from hardware.microscope import Microscope, MicroscopeError, StageLimits

if TYPE_CHECKING:
    from hardware.simulated import Detector, Scene

__all__ = ["DRIVERS", "open_microscope"]

_LIMIT_KEYS = ("stage_low_um", "stage_high_um", "stage_max_step_um")

_DEPTH_KEYS = ("moves", "immersion_index", "sample_index")
"""How stage positions become depth: of the same settings, but nothing that a driver needs."""

_SCENE_KEYS = ("height", "width", "sample", "emitters", "seed")
"""What the scene is made from, by the caller; the seed is also that of the camera's noise."""

_DEFAULT_LIMITS_UM = (-150.0, 150.0, 300.0)
"""Limits of a stage that cannot break anything."""

_CAMERA_OF_SIMULATION = ("exposure_s", "frame_period_s", "ring_frames", "backlog_frames", "seed")
_REPLAY_KEYS = ("movie", "fps", "paced", "loop", "back_and_forth", "in_memory", "ring_frames", "stage_um", "truth")


def open_microscope(
    config: Mapping[str, Any], *, scene: Scene | None = None, detector: Detector | None = None
) -> LimitedMicroscope:
    """Open a microscope behind its soft limits.

    Parameters
    ----------
    config : mapping
        ``driver`` ("simulated", "micromanager" or "replay"); ``stage_low_um``, ``stage_high_um``,
        ``stage_max_step_um`` (required with a real stage); and under the driver's name its own
        parameters: those of `SimulatedMicroscope`, `MicroManagerSettings`, or `ReplayMicroscope`
        with ``movie`` as a path and ``truth`` as arrays. None stands for "not given".
    scene, detector : optional
        What the simulated microscope looks at and counts with.

    Raises
    ------
    MicroscopeError
        For an unknown driver or parameter, missing limits, and whatever the driver refuses.
    """
    name = str(config.get("driver"))
    if name not in DRIVERS:
        raise MicroscopeError(
            "settings", f"The driver is {name}; there are {', '.join(DRIVERS)}.", "Set driver to one of these."
        )
    known = ("driver", *_LIMIT_KEYS, *_DEPTH_KEYS, *DRIVERS)
    _only(config, known, "microscope")
    limits = check_limits(_limits(config, name))
    parameters = {key: value for key, value in dict(config.get(name) or {}).items() if value is not None}
    return LimitedMicroscope(DRIVERS[name](parameters, scene, detector), limits)


def _open_simulated(parameters: Mapping[str, Any], scene: Scene | None, detector: Detector | None) -> Microscope:
    from hardware.simulated import SimulatedMicroscope

    if scene is None or detector is None:
        raise MicroscopeError(
            "settings",
            "The simulated microscope was opened without a scene or a detector; it shows and counts nothing by itself.",
            "Pass scene and detector.",
        )
    _only(parameters, (*_SCENE_KEYS, *_CAMERA_OF_SIMULATION), "simulated")
    own = {key: value for key, value in parameters.items() if key in _CAMERA_OF_SIMULATION}
    return SimulatedMicroscope(scene, detector, **own)


def _open_micromanager(parameters: Mapping[str, Any], _: Scene | None, __: Detector | None) -> Microscope:
    from hardware.micromanager import MicroManagerMicroscope
    from hardware.micromanager_settings import MicroManagerSettings

    _only(parameters, [entry.name for entry in dataclasses.fields(MicroManagerSettings)], "micromanager")
    paths = {key: Path(parameters[key]) for key in ("app_path", "config_file") if key in parameters}
    return MicroManagerMicroscope(MicroManagerSettings(**{**parameters, **paths}))


def _open_replay(parameters: Mapping[str, Any], _: Scene | None, __: Detector | None) -> Microscope:
    from hardware.movies import open_movie
    from hardware.replay import ReplayMicroscope

    _only(parameters, _REPLAY_KEYS, "replay")
    if "movie" not in parameters:
        raise MicroscopeError("settings", "No movie was given to replay.", "Set movie to the file to play.")
    movie = open_movie(parameters["movie"])
    try:
        return ReplayMicroscope(movie, **{key: value for key, value in parameters.items() if key != "movie"})
    except MicroscopeError:
        movie.close()
        raise


def _limits(config: Mapping[str, Any], driver: str) -> StageLimits:
    given = [config.get(key) for key in _LIMIT_KEYS]
    missing = [key for key, value in zip(_LIMIT_KEYS, given, strict=True) if value is None]
    if not missing:
        return StageLimits(*(float(value) for value in given if value is not None))
    if driver == "micromanager":
        raise MicroscopeError(
            "settings",
            f"The stage limits are incomplete ({', '.join(missing)} not set); a real focus drive is not moved without.",
            "Set the lowest and highest position that are safe for objective and sample, and the greatest step.",
        )
    low_um, high_um, max_step_um = (
        default if value is None else float(value) for value, default in zip(given, _DEFAULT_LIMITS_UM, strict=True)
    )
    return StageLimits(low_um, high_um, max_step_um)


def _only(parameters: Mapping[str, Any], known: Any, where: str) -> None:
    for key in parameters:
        if key not in known:
            raise MicroscopeError(
                "settings", f"{key} is no setting of {where}; there are {', '.join(known)}.", "Use one of these."
            )


DRIVERS: Mapping[str, Callable[[Mapping[str, Any], Scene | None, Detector | None], Microscope]] = {
    "simulated": _open_simulated,
    "micromanager": _open_micromanager,
    "replay": _open_replay,
}
"""Every driver by its name."""

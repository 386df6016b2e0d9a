"""Acquisitions described in useq-schema, as the runs and sweeps of this instrument.

A sequence (MDASequence, in JSON or YAML) is run when it is a time series of one
field of view, which becomes a run, or one focal stack around focus, which
becomes the sweep of a calibration. Everything else is refused with the reason:
a sequence that is run in part would give other data than its author expects.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.errors import DataError

__all__ = ["FocalStack", "TimeSeries", "check_channel", "read_sequence"]

_SAME_PERIOD = 0.02
"""Periods of camera and sequence that differ by less are the same."""

_SAME_EXPOSURE = 0.01
_EVEN_STEPS = 0.001

_SHORTEST_S, _LONGEST_S = 0.01, 30 * 86_400.0
"""Of a run, as for runs that are started without a sequence."""

_REFUSED = {
    "stage_positions": ("names positions of the stage", "Move the stage first (POST /microscope/stage)"),
    "grid_plan": ("has a grid of positions", "Send one sequence for each position"),
    "autofocus_plan": ("has an autofocus at its events", "Focus first (POST /microscope/focus)"),
    "setup": ("has a setup event", "Set the microscope first (PATCH /microscope)"),
}
"""Parts of a sequence that are not run: what they ask for, and what to do."""


@dataclass(frozen=True, slots=True)
class TimeSeries:
    """Frames in time.

    Attributes
    ----------
    frames : int
    interval_s : float
        From frame to frame; 0: as fast as the camera is set.
    exposure_s : float or None
    channel : str or None
        Of the light.
    """

    frames: int
    interval_s: float
    exposure_s: float | None
    channel: str | None

    def duration_s(self, period_s: float, exposure_s: float) -> float:
        """Length of the run.

        Parameters
        ----------
        period_s, exposure_s : float
            Of the camera, as it is set.

        Raises
        ------
        DataError
            When the camera is set to another rate or exposure.
        """
        if self.exposure_s is not None and not math.isclose(self.exposure_s, exposure_s, rel_tol=_SAME_EXPOSURE):
            raise _not_run(
                f"exposes {self.exposure_s:g} s, and the camera is set to {exposure_s:g} s",
                "Set the exposure first (PATCH /microscope), or leave it out of the channel",
            )
        if self.interval_s and not math.isclose(self.interval_s, period_s, rel_tol=_SAME_PERIOD):
            raise _not_run(
                f"has a frame every {self.interval_s:g} s, and the camera is set to one every {period_s:g} s",
                f"Set the exposure so that the camera has this rate (PATCH /microscope), or give the interval "
                f"{period_s:g}; 0 means the rate of the camera",
            )
        length_s = self.frames * period_s
        if not _SHORTEST_S <= length_s <= _LONGEST_S:
            raise _not_run(
                f"has {self.frames} frames, which take {length_s:g} s; a run takes {_SHORTEST_S:g} s to 30 days",
                "Give another number of loops",
            )
        return length_s


@dataclass(frozen=True, slots=True)
class FocalStack:
    """Planes around focus.

    Attributes
    ----------
    z_range_um : (low, high)
        Depths from focus, µm.
    z_step_um : float
    exposure_s : float or None
    channel : str or None
        Of the light.
    """

    z_range_um: tuple[float, float]
    z_step_um: float
    exposure_s: float | None
    channel: str | None


def read_sequence(text: str) -> TimeSeries | FocalStack:
    """Read a sequence in JSON or YAML.

    Raises
    ------
    DataError
        When the text is no sequence, or asks for something that this instrument does not do.
    """
    given = _parsed(text)
    sequence = _validated(given)
    for name, (what, remedy) in _REFUSED.items():
        if getattr(sequence, name):
            raise _not_run(what, remedy)
    exposure_s, channel = _channel(sequence, given.get("channels") or ())
    times, planes = sequence.time_plan, sequence.z_plan
    if times is not None and planes is not None:
        raise _not_run(
            "is a time series of focal stacks", "Send the time series and the stack as two sequences, without the other"
        )
    if times is not None:
        _known_only(given["time_plan"], times, "time_plan")
        return TimeSeries(*_times(times), exposure_s, channel)
    if planes is not None:
        _known_only(given["z_plan"], planes, "z_plan")
        return FocalStack(*_planes(planes), exposure_s, channel)
    raise _not_run("has neither a time_plan nor a z_plan", "Add the one that is meant")


def check_channel(channel: str | None, light: Mapping[str, Any]) -> None:
    """Refuse a channel that is not the one that is on.

    Parameters
    ----------
    channel : str or None
        Of the sequence.
    light : mapping
        Of the microscope: ``channel`` and ``channels``.

    Raises
    ------
    DataError
        With what to set.
    """
    present = light.get("channel")
    if channel is None or channel == present:
        return
    if not light.get("channels"):
        raise _not_run(f"names the channel {channel!r}, and the microscope has none", "Leave channels out")
    raise _not_run(
        f"names the channel {channel!r}, and {'none' if present is None else repr(present)} is on",
        "Set the channel first (PATCH /microscope), or leave channels out",
    )


def _not_run(what: str, remedy: str) -> DataError:
    return DataError(f"The sequence of useq-schema {what}; it is not run.", f"{remedy}.")


def _no_sequence(reason: str) -> DataError:
    return DataError(
        f"This is no sequence of useq-schema: {reason}.",
        "Send an MDASequence in JSON or YAML, as useq-schema writes it.",
    )


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = _parsed_yaml(text)
    if not isinstance(found, dict):
        raise _no_sequence(f"it is {type(found).__name__}, not a mapping")
    return found


def _parsed_yaml(text: str) -> Any:
    yaml = _imported("yaml", "PyYAML")
    try:
        # An alias repeats what it names; aliases of aliases make a short text very large.
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader)):
            raise _no_sequence("it has aliases of YAML (*)")
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise _no_sequence(f"it is neither JSON nor YAML ({' '.join(str(error).split())[:200]})") from error


def _imported(module: str, package: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise DataError(
            f"A sequence of useq-schema needs the package {package}, which is not installed.",
            "Run: pip install 'bathyscope[useq]'; or start a run or a calibration with its own request.",
        ) from error


def _validated(given: Mapping[str, Any]) -> Any:
    useq = _imported("useq", "useq-schema")
    try:
        sequence = useq.MDASequence.model_validate(given)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise _no_sequence(" ".join(str(error).split())[:300]) from error
    _known_only(given, sequence, "the sequence")
    return sequence


def _known_only(given: Any, found: Any, where: str) -> None:
    """Refuse fields that useq-schema ignores: they say something that would not be done."""
    unknown = sorted(set(given) - set(type(found).model_fields)) if isinstance(given, Mapping) else []
    if unknown:
        raise _no_sequence(f"{where} has the field {str(unknown[0])[:80]!r}, which does not belong to it")


def _channel(sequence: Any, given: Any) -> tuple[float | None, str | None]:
    """Exposure in s and name of the one channel."""
    if not sequence.channels:
        return None, None
    if len(sequence.channels) > 1:
        names = ", ".join(channel.config for channel in sequence.channels[:5])
        raise _not_run(f"has {len(sequence.channels)} channels ({names})", "Send one sequence for each channel")
    (channel,) = sequence.channels
    _known_only(given[0], channel, "channels")
    if channel.z_offset or channel.acquire_every != 1 or not channel.do_stack or channel.camera:
        raise _not_run(
            f"has options of the channel {channel.config!r} (z_offset, acquire_every, do_stack or camera)",
            "Leave them out",
        )
    if channel.exposure is not None and not (math.isfinite(channel.exposure) and channel.exposure > 0):
        raise _no_sequence(f"the exposure is {channel.exposure} ms")
    return None if channel.exposure is None else channel.exposure / 1e3, channel.config


def _times(plan: Any) -> tuple[int, float]:
    """Number of frames, and the time from one to the next, s."""
    kind = type(plan).__name__
    if kind == "TIntervalLoops":
        frames, interval_s = plan.loops, plan.interval.total_seconds()
    elif kind == "TDurationLoops":
        frames, interval_s = plan.loops, plan.duration.total_seconds() / max(plan.loops - 1, 1)
    elif kind == "TIntervalDuration" and plan.interval.total_seconds() > 0:
        interval_s = plan.interval.total_seconds()
        frames = math.floor(plan.duration.total_seconds() / interval_s + 1e-9) + 1
    elif kind == "TIntervalDuration":
        raise _not_run(
            "has a duration without an interval", "Give the interval, or the number of loops with interval 0"
        )
    else:
        raise _not_run("has a time plan of several phases", "Send one sequence for each phase")
    if interval_s < 0 or frames < 1:
        raise _no_sequence(f"the time plan has {frames} frames every {interval_s:g} s")
    return frames, interval_s


def _planes(plan: Any) -> tuple[tuple[float, float], float]:
    """Depths of the first and the last plane, and the step, µm."""
    kind = type(plan).__name__
    if not plan.go_up:
        raise _not_run("goes down from plane to plane", "Leave go_up out: the sweep goes one way, against backlash")
    if kind == "ZRangeAround":
        return (-plan.range / 2, plan.range / 2), plan.step
    if kind == "ZAboveBelow":
        return (-plan.below, plan.above), plan.step
    if kind == "ZRelativePositions":
        depths = np.array(plan.relative, float)
        steps = np.diff(depths)
        if len(steps) < 1 or steps[0] <= 0 or not np.allclose(steps, steps[0], rtol=_EVEN_STEPS, atol=0):
            raise _not_run("has planes that do not rise in even steps", "Give range and step")
        return (float(depths[0]), float(depths[-1])), float(steps.mean())
    raise _not_run(
        "has absolute positions of the focus drive", "Give positions around focus (range, or above and below)"
    )
